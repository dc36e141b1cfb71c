package quickjssandbox

import (
	"strings"
	"testing"

	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

func TestAnExpressionOrASmallProgramIsEvaluated(t *testing.T) {
	sandboxtest.InChild(t, func(t *testing.T) {
		e := engineFor(t, Options{})
		for _, c := range []struct{ text, want string }{
			{`[{a: 0x10}] // end`, `[{"a":16}]`},
			{`[1]; // end`, `[1]`},
			{`[1]; /* end */`, `[1]`},
			{`{a: [1]}`, `{"a":[1]}`},
			{`const tests = [{a: 1}]; module.exports = tests;`, `[{"a":1}]`},
			{`const tests = [1]; module.exports = tests; tests.length`, `[1]`},
			{`[Buffer.from("0aff", "hex"), {bytes: Buffer.from([1])}, Uint8Array.of(2)]`, `[[10,255],{"bytes":[1]},[2]]`},
		} {
			if got, err := e.Eval(t.Context(), c.text); err != nil || string(got) != c.want {
				t.Errorf("%s: %s, %v; want %s", c.text, got, err, c.want)
			}
		}
		const item = `{name: "n", input: {bytes: [0x01, 0x02, 3], fPort: 1}, expected: {data: {a: 1}}},`
		if got, err := e.Eval(t.Context(), "["+strings.Repeat(item, 1<<20/len(item))+"]; // end"); err != nil || len(got) < 900_000 {
			t.Errorf("a mebibyte: %d, %v", len(got), err)
		}
		for text, want := range map[string]string{"for (;;) {}": "too much to evaluate (fuel)", "[" + strings.Repeat("{},", 1<<18) + "]": "too much to evaluate (memory)", "const a = [1]": "no JSON value", "[": "SyntaxError", "throw 1": "1"} {
			if got, err := e.Eval(t.Context(), text); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%.20s: %.20s, %v; want %s", text, got, err, want)
			}
		}
	})
}
