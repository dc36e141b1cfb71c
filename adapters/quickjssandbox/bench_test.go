package quickjssandbox

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// typical is a codec of the size that vendors ship.
const typical = `function decodeUplink(input) {
  var out = {}, b = input.bytes;
  for (var i = 0; i < b.length;) {
    var ch = b[i++], type = b[i++];
    if (type === 0x67) { var v = (b[i] << 8) | b[i + 1]; if (v > 32767) v -= 65536; out["temperature_" + ch] = v / 10; i += 2 }
    else if (type === 0x68) { out["humidity_" + ch] = b[i] / 2; i += 1 }
    else if (type === 0x75) { out["battery_" + ch] = b[i]; i += 1 }
    else break;
  }
  return { data: out, warnings: out.battery_1 < 10 ? ["battery low"] : [] };
}`

// small is a codec of a device with two values.
const small = `function decodeUplink(input) { return { data: { temperature: (input.bytes[0] << 8 | input.bytes[1]) / 100, battery: input.bytes[2] } } }`

func benched(b testing.TB, tenant, n byte, source string) sandbox.Job {
	b.Helper()
	return sandbox.Job{Script: sandbox.Script{Tenant: ident.Tenant{tenant}, Decoder: ident.Decoder{n}, Version: ident.Version{n, tenant}, Hash: sha256.Sum256([]byte(source)), Source: source, Limits: decoder.DefaultLimits},
		Input: decoder.Input{Bytes: []byte{1, 0x75, 99, 3, 0x67, 1, 16, 4, 0x68, 101, 5, 0x67, 255, 215}, FPort: 85, RecvTime: time.Unix(1_790_000_000, 0)}}
}

func engineFor(b testing.TB, o Options) *Engine {
	b.Helper()
	o.Instances = max(o.Instances, 1)
	e, err := New(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close(context.WithoutCancel(b.Context())) })
	return e
}

// bare answers a decode that restores nothing before each call.
func bare(b testing.TB, e *Engine, job sandbox.Job) func() {
	b.Helper()
	in := <-e.guests
	b.Cleanup(func() { e.guests <- in })
	im, _, err := e.load(in, job.Script, epoch)
	if err != nil {
		b.Fatal(err)
	}
	in.restore(im, job.Script.Tenant)
	n := 0
	return func() {
		if n++; n%512 == 0 { // the guest frees nothing by itself: begin anew before it is full
			in.restore(im, job.Script.Tenant)
		}
		text, err := inputText(job.Input)
		if err != nil {
			b.Fatal(err)
		}
		in.arm(decoder.DefaultLimits.RunFuel, e.o.Guard.Run, job.Input.RecvTime)
		out, err := in.decode(&im.frame, text)
		if err != nil {
			b.Fatal(err)
		}
		if r := output(out, nil); r.Category != decoder.Success {
			b.Fatal(r)
		}
	}
}

func decodes(b *testing.B, e *Engine, job func(int) sandbox.Job) {
	b.Helper()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if r, err := e.Run(b.Context(), job(n)); err != nil || r.Category != decoder.Success {
			b.Fatalf("%+v, %v", r, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	job := benched(b, 1, 1, typical)
	b.Run("isolated", func(b *testing.B) { decodes(b, engineFor(b, Options{}), func(int) sandbox.Job { return job }) })
	b.Run("unmetered", func(b *testing.B) {
		decodes(b, engineFor(b, Options{unmetered: true}), func(int) sandbox.Job { return job })
	})
	b.Run("without isolation", func(b *testing.B) {
		call := bare(b, engineFor(b, Options{}), job)
		b.ReportAllocs()
		for b.Loop() {
			call()
		}
	})
	b.Run("small isolated", func(b *testing.B) {
		job := benched(b, 1, 2, small)
		decodes(b, engineFor(b, Options{}), func(int) sandbox.Job { return job })
	})
	b.Run("small unmetered", func(b *testing.B) {
		job := benched(b, 1, 2, small)
		decodes(b, engineFor(b, Options{unmetered: true}), func(int) sandbox.Job { return job })
	})
	b.Run("first load", func(b *testing.B) {
		e := engineFor(b, Options{CacheBytes: 1})
		decodes(b, e, func(n int) sandbox.Job {
			return benched(b, 1, byte(n), fmt.Sprintf("%s // %d", typical, n))
		})
	})
	b.Run("a thousand decoders of a hundred tenants", func(b *testing.B) {
		jobs := make([]sandbox.Job, 1000)
		for i := range jobs {
			jobs[i] = benched(b, byte(i%100), byte(i/100), fmt.Sprintf("%s // %d", typical, i))
			jobs[i].Script.Version = ident.Version{byte(i), byte(i >> 8)}
		}
		e := engineFor(b, Options{CacheBytes: 1 << 30})
		for _, j := range jobs {
			if _, err := e.Run(b.Context(), j); err != nil {
				b.Fatal(err)
			}
		}
		decodes(b, e, func(n int) sandbox.Job { return jobs[n*7919%1000] })
	})
}
