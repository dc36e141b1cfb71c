package quickjssandbox

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

var update = flag.Bool("update", false, "write the golden files")

// verdicts is what each of our decoders, a few scripts that look for chance, and the hostile ones come to: category, fuel and
// hash of the output.
func verdicts(t *testing.T, e *Engine, hostile bool) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintln(&out, e.Version())
	judge := func(name, source string) {
		j := benched(t, 1, 1, source)
		r, err := e.Run(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s: %s %d %x\n", name, r.Category, r.Fuel, sha256.Sum256(fmt.Appendf(nil, "%s%q%q%s", r.Data, r.Warnings, r.Errors, r.Message)))
	}
	files, err := filepath.Glob("../../testdata/decoders/*/*/*/*.js")
	more, err2 := filepath.Glob("../../testdata/decoders/*/*/*/*/*.js")
	if files = append(files, more...); err != nil || err2 != nil || len(files) != 12 {
		t.Fatalf("%d decoders, %v, %v; want 12", len(files), err, err2)
	}
	slices.Sort(files)
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		judge(filepath.Base(f), string(source))
	}
	judge("small", small)
	judge("typical", typical)
	judge("chance", `function decodeUplink() { var m = {}; for (var i = 0; i < 3000; i++) m["k" + Math.random()] = i; return { data: { keys: Object.keys(m).sort().slice(0, 50), r: Math.random(), now: Date.now(), date: String(new Date()), sort: [3, 1, 2].sort() } } }`)
	judge("numbers", `function decodeUplink() { var x = 1; for (var i = 1; i < 5000; i++) x = Math.sin(x) * Math.exp(1 / i) + Math.pow(i, 0.3) % 1; return { data: { x: x, f: 0.1 + 0.2, p: (1e21).toString(), l: (123.456).toFixed(2), b: String(7n ** 300n) } } }`)
	judge("load", `var t = Date.now(), r = Math.random(); function decodeUplink() { return { data: { t: t, r: r } } }`)
	if hostile {
		for _, h := range sandboxtest.Corpus() {
			judge(h.Name, h.Script)
		}
	}
	return out.String()
}

// golden compares with what was seen when the file was written: on another day, and perhaps another machine.
func golden(t *testing.T, got string) {
	t.Helper()
	file := filepath.Join("testdata", "verdicts.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got, "\n") {
		if line != "" && (i >= len(w) || line != w[i]) {
			t.Errorf("%s\nis not what %s says", line, file)
		}
	}
}

func TestVerdictsAreTheSameOnEveryHostHoweverBusy(t *testing.T) {
	if *update {
		golden(t, verdicts(t, engineFor(t, Options{}), true))
		return
	}
	sandboxtest.InChild(t, func(t *testing.T) {
		// A host that is too busy even for the guard gives no verdict at all: here it is wider, so that there is one.
		e := engineFor(t, Options{Guard: sandbox.Guard{Run: time.Minute, Load: time.Minute}})
		golden(t, verdicts(t, e, true))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 * runtime.NumCPU() {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
						_ = sha256.Sum256([]byte{byte(n)})
					}
				}
			})
		}
		golden(t, verdicts(t, e, true))
		close(stop)
		wg.Wait()
	})
}

// The interpreter shares no machine code with the compiler: what it answers does not depend on the processor. Hostile scripts
// are left out: it is thirty times slower, and the guard, which decides nothing, is wider for it.
func TestVerdictsAreTheSameInterpreted(t *testing.T) {
	sandboxtest.InChild(t, func(t *testing.T) {
		golden(t, verdicts(t, engineFor(t, Options{interpret: true, Guard: sandbox.Guard{Run: time.Minute, Load: time.Minute}}), false))
	})
}

// A stop depends on fuel alone: with twice the guard a script costs the same, and is stopped at the same place.
func TestTheClockDecidesNothing(t *testing.T) {
	sandboxtest.InChild(t, func(t *testing.T) {
		job := benched(t, 1, 1, `var n = 0; function decodeUplink() { for (;;) n++ }`)
		var first decoder.Result
		for i, o := range []Options{{}, {Guard: sandbox.Guard{Run: 1 << 40, Load: 1 << 40}}} {
			r, err := engineFor(t, o).Run(t.Context(), job)
			if err != nil || r.Category != decoder.Fuel {
				t.Fatalf("%+v, %v", r, err)
			}
			if i == 0 {
				first = r
			} else if r.Fuel != first.Fuel || r.Message != first.Message {
				t.Errorf("%+v; with the usual guard %+v", r, first)
			}
		}
	})
}
