package quickjssandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
)

// What an evaluation may use: a literal is larger than a script, and is read for nobody who waits.
const (
	evalFuel   = 100_000_000
	evalOutput = 4 << 20
	evalGuard  = 30 * time.Second
)

// evaluation gives the JSON of a text that is an expression or, if it is none, a program: what that exports or comes to last.
// Of a Buffer or another view of bytes it gives the list of its numbers.
const evaluation = `(function (text) {
  var stringify = JSON.stringify, from = Array.from, isView = ArrayBuffer.isView, run = eval, m = module, first = m.exports, v;
  try { v = run("(" + text + "\n)"); } catch (e) {
    if (!(e instanceof SyntaxError)) throw e;
    v = run(text);
    if (m.exports !== first) v = m.exports;
  }
  return stringify(v, function (k, v) { return isView(this[k]) ? from(this[k]) : v; });
})`

// Eval answers the JSON of an expression or a small program, in a guest of its own memory image: for test vectors that are
// JavaScript.
func (e *Engine) Eval(ctx context.Context, text string) ([]byte, error) {
	in, err := e.guest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { e.guests <- in }()
	base := e.plain
	if strings.Contains(text, "Buffer") {
		base = e.buffer
	}
	in.last = nil
	in.restore(base, "eval")
	in.arm(evalFuel, evalGuard, epoch)
	f := base.frame
	v, err := in.eval(&f, evaluation+"("+string(quoted(nil, text))+")", "vectors.js")
	if err != nil {
		return nil, evalError(err)
	}
	out, err := in.result(&f, v, evalOutput)
	if err == nil && !json.Valid([]byte(out)) {
		err = &errGuest{category: decoder.BadOutput}
	}
	return []byte(out), evalError(err)
}

// evalError speaks of what was evaluated, where a guest's failure speaks of a script's run.
func evalError(err error) error {
	var g *errGuest
	if !errors.As(err, &g) {
		return err
	}
	switch g.category {
	case decoder.Fuel, decoder.Memory, decoder.Stack, decoder.Internal:
		return &errGuest{category: g.category, message: "It is too much to evaluate (" + string(g.category) + "): write it as JSON, or as several files."}
	case decoder.BadOutput:
		return &errGuest{category: g.category, message: fmt.Sprintf("It has no JSON value, or one of more than %d bytes.", evalOutput)}
	}
	return g
}
