package quickjssandbox

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	quickjswasi "github.com/aperturerobotics/go-quickjs-wasi-reactor"
	"github.com/tetratelabs/wazero"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/strictjson"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// tiny is a module with what the rewriter asks for: an import, a memory, a stack pointer, a thrower, and in it a loop that fills
// memory.
func tiny() []byte {
	section := func(id byte, body ...byte) []byte { return append([]byte{id, byte(len(body))}, body...) }
	b := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	b = append(b, section(1, 2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 0)...)
	b = append(b, section(2, append([]byte{1, 1, 'w', 8}, append([]byte("fd_close"), 0, 0)...)...)...)
	b = append(b, section(3, 1, 1)...)
	b = append(b, section(5, 1, 0, 1)...)
	b = append(b, section(6, 1, 0x7f, 1, 0x41, 0, 0x0b)...)
	b = append(b, section(7, append(append([]byte{1, byte(len(thrower))}, thrower...), 0, 1)...)...)
	code := []byte{0, 0x03, 0x40, 0x41, 0, 0x41, 0, 0x41, 8, 0xfc, 0x0b, 0, 0x41, 0, 0x24, 0, 0x0c, 0, 0x0b, 0x0b}
	return append(b, section(10, append([]byte{1, byte(len(code))}, code...)...)...)
}

// A module that was valid stays valid, and one that is none is refused; nothing panics.
func FuzzRewrite(f *testing.F) {
	f.Add(tiny())
	f.Add(tiny()[:40])
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	f.Add(quickjswasi.QuickJSWASM[:4096])
	r := wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(memPages))
	f.Cleanup(func() { _ = r.Close(context.Background()) })
	if out, err := rewrite(tiny(), true); err != nil {
		f.Fatal(err)
	} else if _, err := r.CompileModule(context.Background(), out); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		for _, metered := range []bool{true, false} {
			out, err := rewrite(module, metered)
			if err != nil {
				continue
			}
			was, err := r.CompileModule(t.Context(), module)
			if err != nil {
				continue // the engine's own module is known by its hash: only that it stays valid is promised
			}
			_ = was.Close(t.Context())
			is, err := r.CompileModule(t.Context(), out)
			if err != nil {
				t.Fatalf("%x became %x, which is none: %v", module, out, err)
			}
			_ = is.Close(t.Context())
		}
	})
}

// What a guest calls its output is judged without trust.
func FuzzOutput(f *testing.F) {
	for _, s := range []string{`{"data":{"a":1}}`, `{"data":{"a":"s3cret"},"warnings":["s3cret"]}`, `{"data":{},"errors":["\u0073\u0033cret"]}`, `{"data":[`, `{"data":{"s3cret":"\\s3cret\""}}`, "{\"data\":{\"a\":\"\xff\"}}", `{"data":{"a":"x"},"data":{"b":"s3cret"}}`, `null`, `{"data":{"a":"\ud800s3cret"}}`, `{"data":{"s3cret":1,"***":2},"warnings":["\u0000"]}`} {
		f.Add(s, "s3cret")
	}
	f.Fuzz(func(t *testing.T, text, hidden string) {
		r := output(text, nil)
		if r.Category == decoder.Success && (strictjson.Check(r.Data) != nil || r.Message != "") {
			t.Fatalf("%q became %+v", text, r)
		}
		for _, w := range append(r.Warnings, r.Errors...) {
			if len(w) > decoder.MaxMessage || !utf8.ValidString(w) || strings.Contains(w, "\x00") {
				t.Fatalf("a message of %d bytes: %q", len(w), w)
			}
		}
		// The mask's own letters in a secret, or a secret's halves around a mask, may look like it again: not in these.
		if len(hidden) < 4 || strings.Contains(hidden, "*") || !utf8.ValidString(hidden) || strings.ContainsRune(hidden, utf8.RuneError) {
			return
		}
		r = output(text, []string{hidden})
		if r.Category == decoder.Success {
			var v any
			if err := strictjson.Check(r.Data); err != nil {
				t.Fatalf("%q became %q: %v", text, r.Data, err)
			}
			if err := json.Unmarshal(r.Data, &v); err != nil {
				t.Fatalf("%q became %q: %v", text, r.Data, err)
			}
			if shows(reflect.ValueOf(v), hidden) {
				t.Fatalf("%q shows %q", r.Data, hidden)
			}
		}
		for _, w := range append(append(r.Warnings, r.Errors...), r.Message) {
			if strings.Contains(w, hidden) {
				t.Fatalf("%q shows %q", w, hidden)
			}
		}
	})
}

// shows looks for a text in the strings and names of a JSON value.
func shows(v reflect.Value, hidden string) bool {
	switch v.Kind() {
	case reflect.Interface:
		return shows(v.Elem(), hidden)
	case reflect.String:
		return strings.Contains(v.String(), hidden)
	case reflect.Slice:
		for i := range v.Len() {
			if shows(v.Index(i), hidden) {
				return true
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if shows(k, hidden) || shows(v.MapIndex(k), hidden) {
				return true
			}
		}
	default:
	}
	return false
}

// What a guest is given is JSON that says what the uplink says, whatever a device or its variables hold.
func FuzzInput(f *testing.F) {
	f.Add([]byte{1, 2}, 7, int64(1_790_000_000_000), "key", "value")
	f.Add([]byte{}, -1, int64(0), "\"}]", "\u2028\x00\xff")
	f.Add([]byte{}, 0, int64(-1), "", "")
	f.Fuzz(func(t *testing.T, payload []byte, port int, at int64, name, value string) {
		text, err := inputText(decoder.Input{Bytes: payload, FPort: port, RecvTime: time.UnixMilli(at), Variables: []decoder.Variable{{Name: name, Value: secret.New(value)}}})
		if err != nil {
			if y := time.UnixMilli(at).UTC().Year(); len(payload) <= decoder.MaxPayload && y >= 1970 && y <= 2261 {
				t.Fatal(err)
			}
			return
		}
		var got struct {
			Bytes     []uint16          `json:"bytes"`
			FPort     int               `json:"fPort"`
			RecvTime  int64             `json:"recvTime"`
			Variables map[string]string `json:"variables"`
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Bytes) != len(payload) || got.FPort != port || got.RecvTime != time.UnixMilli(at).UnixMilli() || len(got.Variables) != 1 {
			t.Fatalf("%q: %+v, %v", text, got, err)
		}
		if v, ok := got.Variables[name]; utf8.ValidString(name) && utf8.ValidString(value) && (!ok || v != value) {
			t.Fatalf("%q: %+v", text, got)
		}
	})
}

// Any text may be saved as a script. The engine survives it, says the same twice, and the neighbour is right afterwards.
func FuzzScript(f *testing.F) {
	for _, s := range []string{typical, small, "", "function (", "for (;;) {}", `function decodeUplink() { throw null }`, "\x00", "\xff\xfe", "//# sourceMappingURL=x", "#!/bin/sh\nfunction decode() { return {} }", "import x from 'y'", "export function decodeUplink() {}", "module.exports = 7", "'use strict'; decodeUplink = 1", `function decodeUplink(i) { return { data: { b: Buffer.from(i.bytes).toString("hex") } } }`} {
		f.Add(s)
	}
	e, err := New(context.Background(), Options{Instances: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = e.Close(context.Background()) })
	job := func(tenant byte, source string) sandbox.Job {
		limits := decoder.Limits{RunFuel: 20_000, LoadFuel: 100_000} // quick, since there are many
		return sandbox.Job{Script: sandbox.Script{Tenant: ident.Tenant{tenant}, Hash: sha256.Sum256([]byte(source)), Source: source, Limits: limits}, Input: decoder.Input{Bytes: []byte{1, 2, 3}, FPort: 1, RecvTime: time.Unix(1_790_000_000, 0)}}
	}
	want, err := e.Run(context.Background(), job(2, small))
	if err != nil || want.Category != decoder.Success {
		f.Fatal(want, err)
	}
	f.Fuzz(func(t *testing.T, source string) {
		first, err := e.Run(t.Context(), job(1, source))
		if err != nil {
			t.Fatal(err)
		}
		second, err := e.Run(t.Context(), job(1, source))
		if err != nil || first.Category != second.Category || string(first.Data) != string(second.Data) || first.Message != second.Message {
			t.Fatalf("%q: %+v, then %+v, %v", source, first, second, err)
		}
		if first.Category == decoder.Internal || first.Fuel > 100_000+quantum || len(first.Message) > decoder.MaxMessage || !utf8.ValidString(first.Message) {
			t.Fatalf("%q: %+v", source, first)
		}
		if got, err := e.Run(t.Context(), job(2, small)); err != nil || got.Category != decoder.Success || string(got.Data) != string(want.Data) || got.Fuel != want.Fuel {
			t.Fatalf("after %q the neighbour gets %+v, %v", source, got, err)
		}
	})
}

// A test vector may be any expression, or program.
func FuzzEval(f *testing.F) {
	for _, s := range []string{`[{a: 1}]`, `1)`, `(function () { for (;;) {} })()`, `"\u2028"`, ``, `undefined`, `// x`, `globalThis`, `JSON.stringify = 1`, `1n`, `module.exports = [1]; // x`, `Buffer.from([1])`, `module = null; exports = 1; [`} {
		f.Add(s)
	}
	e, err := New(context.Background(), Options{Instances: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = e.Close(context.Background()) })
	f.Fuzz(func(t *testing.T, literal string) {
		if out, err := e.Eval(t.Context(), literal); err == nil && (!json.Valid(out) || len(out) > evalOutput) {
			t.Fatalf("%q became %q", literal, out)
		}
		if out, err := e.Eval(t.Context(), `{ a: [1] }`); err != nil || string(out) != `{"a":[1]}` {
			t.Fatalf("after %q: %q, %v", literal, out, err)
		}
	})
}
