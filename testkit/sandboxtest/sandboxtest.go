// Package sandboxtest proves that an engine fills ports/sandbox: it runs a corpus of hostile scripts and holds every must of
// the port. Engines outside this repository run it the same way as ours.
package sandboxtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/strictjson"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// Check is one promise of the port.
type Check struct {
	Name string
	Run  func(t testing.TB, e sandbox.Engine)
}

// Run runs every check on one engine, which has one guest at least and the default limits.
func Run(t *testing.T, e sandbox.Engine) {
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, e) })
	}
}

// Checks are all promises.
func Checks() []Check {
	return []Check{
		{"HostileScriptsAreStoppedAndHarmNobody", hostile},
		{"NothingSurvivesACall", survives},
		{"TenantsNeverShareAnImage", images},
		{"TenantsAtOnceGetTheirOwn", atOnce},
		{"SameInputGivesTheSameBytesAndFuel", deterministic},
		{"FuelIsExact", exact},
		{"TheClockIsTheUplinks", clock},
		{"AnInputOutOfItsBoundsIsRefused", bounded},
		{"ThereIsNothingOutside", nothing},
		{"SecretsAreMaskedInWhateverComesOut", masked},
		{"StagesRunInTheirOrder", stages},
		{"OutcomesAreNamedAsTheyAre", outcomes},
		{"WhatComesOutIsReadByAStrictReader", readable},
		{"AScriptThatDoesNotLoadIsToldSo", check},
		{"WhoMeasuresIsToldOnceThatARunBegins", begins},
	}
}

// at is when every uplink of the suite was received.
var at = time.Date(2026, 11, 24, 10, 30, 0, 0, time.UTC)

// Script makes a script of a tenant's.
func Script(tenant byte, source string) sandbox.Script {
	return sandbox.Script{Tenant: ident.Tenant{tenant}, Decoder: ident.Decoder{tenant}, Version: ident.Version{tenant}, Hash: sha256.Sum256([]byte(source)), Source: source, Limits: decoder.DefaultLimits}
}

// Job runs it on three bytes.
func Job(tenant byte, source string) sandbox.Job {
	return sandbox.Job{Script: Script(tenant, source), Input: decoder.Input{Bytes: []byte{1, 2, 3}, FPort: 7, RecvTime: at}}
}

func run(t testing.TB, e sandbox.Engine, j sandbox.Job) decoder.Result {
	t.Helper()
	r, err := e.Run(t.Context(), j)
	if err != nil {
		t.Fatalf("the engine failed: %v", err)
	}
	return r
}

// quiet is a neighbour's script, with its answer.
const (
	quiet       = `var n = 0; function decodeUplink(input) { n++; return { data: { n: n, sum: input.bytes.reduce(function (a, b) { return a + b }, 0), port: input.fPort, keys: Object.keys(globalThis).length } } }`
	quietPrefix = `{"n":1,"sum":6,"port":7`
)

func hostile(t testing.TB, e sandbox.Engine) {
	const guard = time.Second // the default outer one
	want := run(t, e, Job(2, quiet))
	for _, h := range Corpus() {
		began := time.Now()
		r := run(t, e, Job(1, h.Script))
		limit, outer := decoder.DefaultLimits.RunFuel, guard
		if h.AtLoad {
			limit, outer = decoder.DefaultLimits.LoadFuel, 5*guard
		}
		if took := time.Since(began); took > 2*outer+5*guard { // a load comes before a run
			t.Errorf("%s: stopped after %v", h.Name, took)
		}
		if r.Fuel > limit+8192 {
			t.Errorf("%s: used %d fuel of %d", h.Name, r.Fuel, limit)
		}
		if r.Category == decoder.Internal {
			t.Errorf("%s: stopped by the clock and not by its fuel", h.Name)
		}
		if len(r.Message) > decoder.MaxMessage || len(r.Data) > decoder.MaxOutput {
			t.Errorf("%s: %d bytes of message, %d of data", h.Name, len(r.Message), len(r.Data))
		}
		if got := run(t, e, Job(2, quiet)); got.Category != decoder.Success || !bytes.Equal(got.Data, want.Data) || got.Fuel != want.Fuel {
			t.Errorf("%s: the neighbour's next decode is %s %s, %d fuel; before %s, %d fuel", h.Name, got.Category, got.Data, got.Fuel, want.Data, want.Fuel)
		}
	}
}

// keeper remembers whatever a script can hide anywhere.
const keeper = `globalThis.seen = globalThis.seen || [];
function decodeUplink(input) {
  var was = [typeof leak, Object.prototype.leak, Array.leak, decodeUplink.leak, Math.leak, JSON.leak, seen.length];
  globalThis.leak = 1; Object.prototype.leak = 1; Array.leak = 1; decodeUplink.leak = 1; Math.leak = 1; JSON.leak = 1; seen.push(input);
  return { data: { was: was.map(String) } };
}`

func survives(t testing.TB, e sandbox.Engine) {
	want := run(t, e, Job(1, keeper))
	if want.Category != decoder.Success || !strings.Contains(string(want.Data), "undefined") {
		t.Fatalf("%+v", want)
	}
	for n := range 10_000 {
		tenant := byte(1 + n%3)
		if got := run(t, e, Job(tenant, keeper)); !bytes.Equal(got.Data, want.Data) || got.Fuel != want.Fuel {
			t.Fatalf("call %d, tenant %d: %s, want %s", n, tenant, got.Data, want.Data)
		}
	}
}

func images(t testing.TB, e sandbox.Engine) {
	text := func(who string) string { return `function decodeUplink() { return { data: { who: "` + who + `" } } }` }
	// The same decoder and version ids in two tenants, and a new text under the same ids.
	for _, c := range []struct {
		tenant byte
		who    string
	}{{1, "one"}, {2, "two"}, {1, "one"}, {1, "new"}, {2, "two"}} {
		j := Job(c.tenant, text(c.who))
		j.Script.Decoder, j.Script.Version = ident.Decoder{9}, ident.Version{9}
		if r := run(t, e, j); !strings.Contains(string(r.Data), c.who) {
			t.Errorf("tenant %d got %s, want %s", c.tenant, r.Data, c.who)
		}
	}
}

// atOnce runs it for several tenants from many goroutines, with more of them than any engine has guests.
func atOnce(t testing.TB, e sandbox.Engine) {
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			tenant := byte(1 + n%5)
			want := fmt.Sprintf(`{"mine":%d,"n":1}`, tenant)
			j := Job(tenant, fmt.Sprintf(`var n = 0, mine = %d; function decodeUplink(input) { n++; for (var i = 0; i < 200; i++) input.bytes.push(i); return { data: { mine: mine, n: n } } }`, tenant))
			for range 50 {
				if r, err := e.Run(t.Context(), j); err != nil || string(r.Data) != want {
					t.Errorf("tenant %d got %s %s, %v; want %s", tenant, r.Category, r.Data, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func deterministic(t testing.TB, e sandbox.Engine) {
	const script = `function decodeUplink(input) {
	  var m = new Map(); for (var i = 0; i < 50; i++) m.set("k" + Math.random(), i);
	  return { data: { r: Math.random(), now: Date.now(), keys: Array.from(m.keys()).slice(0, 3), zone: new Date(0).getTimezoneOffset(), at: String(input.recvTime) } } }`
	want := run(t, e, Job(1, script))
	if want.Category != decoder.Success {
		t.Fatalf("%+v", want)
	}
	for n := range 1000 {
		if got := run(t, e, Job(byte(1+n%2), script)); !bytes.Equal(got.Data, want.Data) || got.Fuel != want.Fuel {
			t.Fatalf("run %d: %s, %d fuel; first %s, %d fuel", n, got.Data, got.Fuel, want.Data, want.Fuel)
		}
	}
}

func exact(t testing.TB, e sandbox.Engine) {
	const script = `function decodeUplink() { var x = 0; for (var i = 0; i < 100000; i++) x += i; return { data: { x: x } } }`
	used := run(t, e, Job(1, script)).Fuel
	if used < 8192 { // one quantum, so that the poll is crossed
		t.Fatalf("the script used %d fuel: too little to tell", used)
	}
	j := Job(1, script)
	j.Script.Limits.RunFuel = used + 1
	if r := run(t, e, j); r.Category != decoder.Success {
		t.Errorf("a run that uses %d was stopped with %d: %s", used, used+1, r.Category)
	}
	j.Script.Limits.RunFuel = used
	if r := run(t, e, j); r.Category != decoder.Fuel || r.Fuel != used {
		t.Errorf("a run that uses %d passed with %d: %s, %d used", used, used, r.Category, r.Fuel)
	}
}

func clock(t testing.TB, e sandbox.Engine) {
	r := run(t, e, Job(1, `var loaded = Date.now(); function decodeUplink(input) { return { data: { loaded: loaded, now: Date.now(), recv: input.recvTime.getTime(), iso: input.recvTime.toISOString(), again: new Date().getTime() } } }`))
	want := fmt.Sprintf(`{"loaded":0,"now":%d,"recv":%d,"iso":"2026-11-24T10:30:00.000Z","again":%d}`, at.UnixMilli(), at.UnixMilli(), at.UnixMilli())
	if string(r.Data) != want {
		t.Errorf("%s, want %s", r.Data, want)
	}
}

func bounded(t testing.TB, e sandbox.Engine) {
	first, last := time.Unix(0, 0), time.Date(decoder.MaxYear+1, 1, 1, 0, 0, 0, -1, time.UTC)
	for _, now := range []time.Time{first, first.In(time.FixedZone("west", -3600)), last, last.In(time.FixedZone("east", 3600))} {
		j := Job(1, `function decodeUplink(input) { return { data: { now: Date.now(), recv: input.recvTime.getTime() } } }`)
		j.Input.RecvTime = now
		if r := run(t, e, j); string(r.Data) != fmt.Sprintf(`{"now":%d,"recv":%d}`, now.UnixMilli(), now.UnixMilli()) {
			t.Errorf("at %v a script is told %s %s", now, r.Data, r.Message)
		}
	}
	large := Job(1, quiet).Input
	large.Bytes = make([]byte, decoder.MaxPayload+1)
	wrong := []decoder.Input{large, {}}
	for _, now := range []time.Time{first.Add(-1), time.Unix(0, 0).In(time.FixedZone("east", 3600)).Add(-1), last.Add(1), time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		wrong = append(wrong, decoder.Input{Bytes: []byte{1}, RecvTime: now})
	}
	for _, in := range wrong {
		j := Job(1, quiet)
		j.Input = in
		if r, err := e.Run(t.Context(), j); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d bytes at %v: %s %s, %v; want a fault of kind invalid", len(in.Bytes), in.RecvTime, r.Category, r.Data, err)
		}
	}
}

func nothing(t testing.TB, e sandbox.Engine) {
	r := run(t, e, Job(1, `function decodeUplink() {
	  var there = ["fetch", "XMLHttpRequest", "WebSocket", "process", "require", "importScripts", "setTimeout", "setInterval", "std", "os", "bjson", "print", "scriptArgs", "SharedArrayBuffer", "Atomics", "Worker", "navigator", "performance", "gc"]
	    .filter(function (n) { return typeof globalThis[n] !== "undefined" });
	  return { data: { there: there } } }`))
	if string(r.Data) != `{"there":[]}` {
		t.Errorf("a script finds %s", r.Data)
	}
	for _, s := range []string{`import("os")`, `require("fs")`} {
		if r := run(t, e, Job(1, `function decodeUplink() { var m = `+s+`; return { data: { got: typeof m.open } } }`)); r.Category == decoder.Success && !strings.Contains(string(r.Data), "undefined") {
			t.Errorf("%s gave %s", s, r.Data)
		}
	}
}

const canary = `s3cret"canary\value`

func masked(t testing.TB, e sandbox.Engine) {
	for _, body := range []string{
		`console.log(v); console.error(new Error(v)); return { data: { x: 1 } }`, `throw new Error("x" + v)`, `throw v`, `return { data: { x: "a" + v + "b" } }`, `return { data: { [v]: 1 } }`, `return { data: { x: 1 }, warnings: [v] }`, `return { data: {}, errors: ["no: " + v] }`,
	} {
		j := Job(1, `function decodeUplink(input) { var v = input.variables.key; `+body+` }`)
		j.Input.Variables = []decoder.Variable{{Name: "key", Value: secret.New(canary), Secret: true}, {Name: "open", Value: secret.New("visible")}}
		r := run(t, e, j)
		all := r.Message + string(r.Data) + strings.Join(r.Warnings, "") + strings.Join(r.Errors, "")
		if strings.Contains(all, canary) || strings.Contains(all, `s3cret\"canary`) || strings.Contains(all, "s3cret") {
			t.Errorf("%s: %s", body, all)
		}
	}
	// Wherever a message is cut, it is not in the middle of a secret.
	bodies := []string{`throw new Error(v.repeat(20000))`, `throw new Error("x".repeat(262140) + v)`, `throw new Error(v.repeat(7000) + "x".repeat(262140 - 7000 * v.length) + v)`}
	for n := decoder.MaxMessage - 40; n <= decoder.MaxMessage+8; n++ {
		bodies = append(bodies, fmt.Sprintf(`throw new Error("x".repeat(%d) + v)`, n))
	}
	for _, body := range bodies {
		j := Job(1, `function decodeUplink(input) { var v = input.variables.key; `+body+` }`)
		j.Input.Variables = []decoder.Variable{{Name: "key", Value: secret.New(canary), Secret: true}}
		if r := run(t, e, j); strings.Contains(r.Message, canary[:3]) {
			t.Errorf("%s: %s", body, r.Message)
		}
	}
	// An engine's own messages show a secret in part: as far as they have room, up to a NUL, or its first word.
	for _, whole := range []string{strings.Repeat("0123456789abcdef", 20), strings.Repeat("k3y", 33) + "z", "q" + strings.Repeat("é", 60), strings.Repeat("😀", 40), "hunter\x00trappers", "hunter2-and-more", "-hunter2 more"} {
		for _, body := range []string{`null[v]`, `undefined[v]()`, `Object.freeze({ [v]: 1 })[v] = 2`, `eval(v)`, `new Function(v)()`, `JSON.parse(v)`, `JSON.parse('{"a":"' + v)`, `new RegExp("[" + v)`, `new (class { get [v]() { throw new Error(v) } })()[v]`, `throw v.slice(2, 9)`, `throw "x".repeat(500) + v.slice(1) + v`} {
			j := Job(1, `"use strict"; function decodeUplink(input) { var v = input.variables.key; `+body+` }`)
			j.Input.Variables = []decoder.Variable{{Name: "key", Value: secret.New(whole), Secret: true}}
			if r := run(t, e, j); shares(r.Message, whole) {
				t.Errorf("%s: %s", body, r.Message)
			}
		}
	}
	// Two secrets that overlap leave nothing of either.
	for _, body := range []string{`throw x`, `return { data: { x: x } }`, `return { data: {}, warnings: [x] }`, `return { errors: [x] }`} {
		j := Job(1, `function decodeUplink(input) { var x = "key=abcdefghijkl."; `+body+` }`)
		j.Input.Variables = []decoder.Variable{{Name: "one", Value: secret.New("abcdefgh"), Secret: true}, {Name: "two", Value: secret.New("efghijkl"), Secret: true}}
		r := run(t, e, j)
		if all := r.Message + string(r.Data) + strings.Join(r.Warnings, "") + strings.Join(r.Errors, ""); strings.Contains(all, "abc") || strings.Contains(all, "jkl") || !strings.Contains(all, "key=") {
			t.Errorf("%s: %s", body, all)
		}
	}
	// What is no part of a secret stays.
	j := Job(1, `function decodeUplink(input) { null.probe }`)
	j.Input.Variables = []decoder.Variable{{Name: "key", Value: secret.New(canary), Secret: true}}
	if r := run(t, e, j); !strings.Contains(r.Message, "probe") || strings.Contains(r.Message, "***") {
		t.Errorf("a message without a secret: %s", r.Message)
	}
	j = Job(1, `function decodeUplink(input) { return { data: { ok: input.variables.key.length, open: input.variables.open } } }`)
	j.Input.Variables = []decoder.Variable{{Name: "key", Value: secret.New(canary), Secret: true}, {Name: "open", Value: secret.New("visible")}}
	if r := run(t, e, j); string(r.Data) != fmt.Sprintf(`{"ok":%d,"open":"visible"}`, len(canary)) {
		t.Errorf("the script itself sees %s", r.Data)
	}
}

// shares answers whether a text has five characters in a row of a secret.
func shares(text, secret string) bool {
	runes := []rune(secret)
	for i := range len(runes) - 4 {
		if strings.Contains(text, string(runes[i:i+5])) {
			return true
		}
	}
	return false
}

func stages(t testing.TB, e sandbox.Engine) {
	for _, c := range []struct {
		script, data string
		category     decoder.Category
	}{
		{`function decode(i) { return { a: i.bytes[0] } }`, `{"a":1}`, decoder.Success},
		{`function decode(i) { return { a: i.bytes[0] } } function validate(o, i) { return [] } function transform(o, i) { return { b: o.a + i.fPort } }`, `{"b":8}`, decoder.Success},
		{`function decode(i) { return {} } function validate(o) { return ["too cold"] } function transform() { return { never: 1 } }`, "", decoder.Exception},
		{`function decode() { return {} } function decodeUplink() { return { data: { first: true } } }`, `{"first":true}`, decoder.Success},
		{`module.exports = { decodeUplink: function () { return { data: { m: 1 } } } }`, `{"m":1}`, decoder.Success},
		{`const decodeUplink = () => ({ data: { arrow: 1 } })`, `{"arrow":1}`, decoder.Success},
	} {
		if r := run(t, e, Job(1, c.script)); r.Category != c.category || string(r.Data) != c.data {
			t.Errorf("%s: %s %s %s", c.script, r.Category, r.Data, r.Message)
		}
	}
}

// full takes all memory, down to the last byte.
const full = `var a = []; for (var n = 1 << 20; n > 0; n >>= 1) try { for (;;) a.push(new Uint8Array(n)) } catch (e) {} `

func outcomes(t testing.TB, e sandbox.Engine) {
	for _, c := range []struct {
		name, body string
		want       decoder.Category
	}{
		{"success", `return { data: { a: 1 }, warnings: ["w"] }`, decoder.Success},
		{"fuel", `for (;;) {}`, decoder.Fuel},
		{"memory", `var a = []; try { for (;;) a.push(new Uint8Array(1 << 20)) } catch (e) { a = null; throw e }`, decoder.Memory},
		{"memory, and none left for an error", full + `for (;;) a.push({})`, decoder.Memory},
		{"memory while an error is told", `throw { toString: function () { ` + full + `for (;;) a.push({}) } }`, decoder.Memory},
		{"memory that is given back", full + `a = null; return { data: { a: 1 } }`, decoder.Success},
		{"null of its own", `throw null`, decoder.Exception},
		{"undefined", `throw undefined`, decoder.Exception},
		{"a number", `throw 0`, decoder.Exception},
		{"an empty text", `throw ""`, decoder.Exception},
		{"a symbol", `throw Symbol()`, decoder.Exception},
		{"an error like the engine's", `throw new InternalError("out of memory")`, decoder.Exception},
		{"an object that throws when it is asked", `throw { toString: function () { throw this } }`, decoder.Exception},
		{"an error that throws when it is asked", `throw Object.defineProperty(new Error(), "message", { get: function () { throw null } })`, decoder.Exception},
		{"stack", `(function f() { f() })()`, decoder.Stack},
		{"exception", `throw new TypeError("no such probe")`, decoder.Exception},
		{"its own errors", `return { errors: ["bad frame"] }`, decoder.Exception},
		{"an error of its own that is empty", `return { errors: [""] }`, decoder.Exception},
		{"no object", `return 1`, decoder.BadOutput},
		{"no data", `return {}`, decoder.BadOutput},
		{"data that is a list", `return { data: [1] }`, decoder.BadOutput},
		{"warnings of another kind", `return { data: {}, warnings: [1] }`, decoder.BadOutput},
		{"warnings that are none", `return { data: {}, warnings: [null, undefined] }`, decoder.BadOutput},
		{"errors that are none", `return { errors: ["a", null] }`, decoder.BadOutput},
		{"too large", `return { data: { x: "x".repeat(300000) } }`, decoder.BadOutput},
		{"too deep", `var o = {}; for (var i = 0; i < 33; i++) o = { o: o }; return { data: o }`, decoder.BadOutput},
		{"deep enough", `var o = {}; for (var i = 0; i < 31; i++) o = { o: o }; return { data: o }`, decoder.Success},
	} {
		r := run(t, e, Job(1, "function decodeUplink(input) { "+c.body+" }"))
		if r.Category != c.want || (r.Category == decoder.Success) != (r.Data != nil) || (r.Category != decoder.Success) != (r.Message != "") {
			t.Errorf("%s: %s, want %s: %s %q", c.name, r.Category, c.want, r.Data, r.Message)
		}
	}
}

// readable looks at what a script can write into JSON that not every reader takes, or not every reader takes alike.
func readable(t testing.TB, e sandbox.Engine) {
	for _, c := range []struct {
		body, says string // what the message names; "": it is good
	}{
		{`return { data: { x: "\u20ac \ud83d\ude00" } }`, ""},
		{`return { data: { x: "\ud800" } }`, "surrogate"},
		{`return { data: { x: ["\udc00\ud800"] } }`, "surrogate"},
		{`return { data: { "\ud800": 1 } }`, "surrogate"},
		{`return { data: { x: "a\0b" } }`, "NUL"},
		{`return { data: { "\0": 1 } }`, "NUL"},
		{`return { data: { [v.one]: 1, two: v.two } }`, ""},
		{`return { data: { [v.one]: 1, [v.two]: 2 } }`, "same"},
		{`return { data: { x: [{ [v.one + "x"]: 1, "***x": 2 }] } }`, "same"},
		{`return { data: { x: v.one + "\0" } }`, "NUL"},
		{`var o = {}; for (var i = 0; i < 4096; i++) o["k" + i] = i; return { data: o }`, ""},
		{`var o = {}; for (var i = 0; i < 4097; i++) o["k" + i] = i; return { data: o }`, "4096"},
	} {
		j := Job(1, `function decodeUplink(input) { var v = input.variables; `+c.body+` }`)
		j.Input.Variables = []decoder.Variable{{Name: "one", Value: secret.New("s3cret-one"), Secret: true}, {Name: "two", Value: secret.New("s3cret-two"), Secret: true}}
		r := run(t, e, j)
		if c.says == "" && (r.Category != decoder.Success || strictjson.Check(r.Data) != nil) {
			t.Errorf("%s: %s %s, %.80s", c.body, r.Category, r.Message, r.Data)
		}
		if c.says != "" && (r.Category != decoder.BadOutput || r.Data != nil || !strings.Contains(r.Message, c.says) || strings.Contains(r.Message, "s3cret")) {
			t.Errorf("%s: %s %q %.80s, want %s and a message that says %s", c.body, r.Category, r.Message, r.Data, decoder.BadOutput, c.says)
		}
	}
	// Texts beside the data are mended instead.
	for _, body := range []string{`return { data: {}, warnings: [x] }`, `return { errors: [x] }`, `throw x`} {
		r := run(t, e, Job(1, `function decodeUplink() { var x = "a\0\ud800b"; `+body+` }`))
		if all := r.Message + strings.Join(r.Warnings, "") + strings.Join(r.Errors, ""); !utf8.ValidString(all) || strings.Contains(all, "\x00") || !strings.HasPrefix(all, "a") {
			t.Errorf("%s: %q", body, all)
		}
	}
}

func check(t testing.TB, e sandbox.Engine) {
	for _, c := range []struct {
		script string
		want   decoder.Category
	}{
		{quiet, decoder.Success}, {"function (", decoder.Load}, {"var x = 1", decoder.Load}, {"throw new Error('x')", decoder.Load}, {"for (;;) {}", decoder.Fuel},
		{strings.Repeat("/", decoder.MaxScript+1), decoder.Load},
	} {
		r, err := e.Check(t.Context(), Script(1, c.script))
		if err != nil || r.Category != c.want {
			t.Errorf("%.40s: %s %s, %v; want %s", c.script, r.Category, r.Message, err, c.want)
		}
	}
}

func begins(t testing.TB, e sandbox.Engine) {
	for _, script := range []string{quiet, "function (", "function decodeUplink() { for (;;) {} }"} {
		j, began := Job(1, script), 0
		j.Began = func() { began++ }
		if run(t, e, j); began != 1 {
			t.Errorf("%.40s began %d times", script, began)
		}
	}
}
