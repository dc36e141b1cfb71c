package quickjssandbox

import (
	"testing"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

// What vendors' codecs do that a plain function does not, seen in the two public catalogues and written anew.
func TestVendorsMannersAreUnderstood(t *testing.T) {
	sandboxtest.InChild(t, func(t *testing.T) {
		e := engineFor(t, Options{})
		for _, c := range []struct{ manner, script, data string }{
			{"helpers called on this, which is the global object", `function sum(b) { return b[0] + b[1] } function decodeUplink(input) { return { data: { sum: this.sum(input.bytes) } } }`, `{"sum":118}`},
			{"globals that are not declared", `function decodeUplink(input) { count = input.bytes.length; return { data: { n: this.count } } }`, `{"n":14}`},
			{"a bundle of modules around self", `!function (t, n) { if ("object" == typeof exports && "object" == typeof module) module.exports = n(); else t.lib = n() }(self, () => (() => { "use strict"; var e = {}; Object.defineProperty(e, "decodeUplink", { enumerable: true, get: () => i => ({ data: { port: i.fPort } }) }); return e })())`, `{"port":85}`},
			{"methods of an exported object", `module.exports = { scale: 10, decodeUplink(input) { return { data: { v: this.scale * input.bytes[0] } } } }`, `{"v":10}`},
			{"an export that is empty yet", `var codec; if (typeof module !== "undefined") module.exports = codec; if (typeof process !== "undefined" && process.env.NODE_ENV === "test") global.codec = codec; function decodeUplink() { return { data: { ok: true } } }`, `{"ok":true}`},
			{"prototypes that everything inherits from", `"use strict"; Object.prototype.readUInt8 = function (at) { return this[at] }; Array.prototype.last = function () { return this[this.length - 1] }; function decodeUplink(input) { return { data: { a: input.bytes.readUInt8(1), b: input.bytes.last() }, warnings: [] } }`, `{"a":117,"b":215}`},
			{"helpers put over built-ins", `Object.assign = function (t, s) { for (var k in s) t[k] = s[k]; return t }; JSON.stringify = function () { return "?" }; function decodeUplink() { return { data: Object.assign({}, { a: 1 }) } }`, `{"a":1}`},
			{"functions in blocks, dates of local time", `function decodeUplink(input) { var d = {}; if (input.fPort == 85) { function set(k) { d[k] = new Date(2000, 0, 1).toISOString() } set("at") } return { data: d } }`, `{"at":"2000-01-01T00:00:00.000Z"}`},
			{"all of console", `function decodeUplink(input) { console.group("x"); console.table([input]); console.dir({}); console.assert(false); console.time("t"); console.timeEnd("t"); console.groupEnd(); return { data: { ok: 1 } } }`, `{"ok":1}`},
			{"an input that is taken apart", `function decodeUplink(input) { var b = input.bytes; b.shift(); input.fPort = 0; delete input.variables; return { data: { n: b.splice(0, 2).length, left: b.length } } }`, `{"n":2,"left":11}`},
			{"64 bits by Buffer and BigInt", `function decodeUplink(input) { const raw = Buffer.from(input.bytes); return { data: { len: raw.byteLength, n: Number(BigInt.asIntN(53, raw.readBigInt64BE(0))), hex: raw.slice(0, 2).toString("hex").toUpperCase() } } }`, `{"len":14,"n":-2987358479642620,"hex":"0175"}`},
			{"hexadecimal text taken apart", `function decodeUplink(input) { var s = input.bytes.map(function (b) { return ("0" + b.toString(16)).slice(-2) }).join("").toLocaleUpperCase(); return { data: { id: s.substr(0, 4), f: parseInt(s.substring(4, 6), 16), p: s.padStart(30, "0").length } } }`, `{"id":"0175","f":99,"p":30}`},
			{"floats over typed arrays", `function decodeUplink() { var u = ((0x3f << 24) | (0x80 << 16)) >>> 0; return { data: { f: new Float32Array(new Uint32Array([u]).buffer)[0], d: new DataView(new Uint8Array([1, 2]).buffer).getUint16(0) } } }`, `{"f":1,"d":258}`},
			{"a byte order mark and a page's comment", "\ufeff<!-- codec\nfunction decodeUplink() { return { data: { ok: 1 }, errors: undefined, warnings: null } }", `{"ok":1}`},
		} {
			r, err := e.Run(t.Context(), benched(t, 1, 1, c.script))
			if err != nil || r.Category != decoder.Success || string(r.Data) != c.data {
				t.Errorf("%s: %s %s %s, %v; want %s", c.manner, r.Category, r.Data, r.Message, err, c.data)
			}
		}
		// What is refused is told: the older interfaces are not TS013's.
		for _, script := range []string{`function Decode(fPort, bytes, variables) { return {} }`, `function Decoder(bytes, port) { return {} }`, `export function decodeUplink() {}`, `var b = require("buffer")`} {
			if r, err := e.Run(t.Context(), benched(t, 1, 1, script)); err != nil || r.Category != decoder.Load || r.Message == "" {
				t.Errorf("%s: %s %s, %v", script, r.Category, r.Message, err)
			}
		}
	})
}
