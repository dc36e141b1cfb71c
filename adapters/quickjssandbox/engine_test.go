package quickjssandbox

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
)

func job(src string) sandbox.Job {
	return sandbox.Job{Script: sandbox.Script{Tenant: ident.Tenant{1}, Decoder: ident.Decoder{1}, Version: ident.Version{1}, Hash: sha256.Sum256([]byte(src)), Source: src, Limits: decoder.DefaultLimits},
		Input: decoder.Input{Bytes: []byte{1, 2, 3}, FPort: 2, RecvTime: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)}}
}

func TestSmoke(t *testing.T) {
	e, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	for _, src := range []string{
		`function decodeUplink(i) { return {data: {sum: i.bytes.reduce((a,b)=>a+b,0), t: i.recvTime, now: Date.now(), r: Math.random()}} }`,
		`function decodeUplink(i) { while(true); }`,
		`const decodeUplink = (i) => { function f(){return f()+1}; return f() }`,
		`function decodeUplink(i) { let a=[]; while(true) a.push(new Array(100000).fill(1)) }`,
		`function decodeUplink(i) { return {data: {b: Buffer.from("0a0b","hex").readUInt16BE(0)}} }`,
		`function decode(i) { return {x: i.fPort} } function validate(o) { return ["bad"] }`,
		`while(1);`, `syntax error`, `var x=1`,
		`function decodeUplink(i) { return 5 }`,
		`function decodeUplink(i) { throw new Error("boo") }`,
		`function decodeUplink(i) { Array.prototype.indexOf.call({length: 2**53}, 1) }`,
	} {
		for range 2 {
			r, err := e.Run(t.Context(), job(src))
			t.Log(r.Category, r.Fuel, r.Duration, string(r.Data), r.Message, err)
		}
	}
}
