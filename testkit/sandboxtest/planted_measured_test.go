package sandboxtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

// spin keeps a core busy, as an engine that is slow would.
func spin(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
		continue
	}
}

// touched is memory that really is used.
func touched(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return b
}

func TestEachPlantedBugOfMemoryAndTimeIsCaught(t *testing.T) {
	sandboxtest.InChild(t, func(t *testing.T) {
		good, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = good.Close(context.Background()) })
		var kept [][]byte
		dirty, calls := false, 0
		hostile := func(j sandbox.Job) bool { return j.Script.Tenant == ident.Tenant{1} }
		for _, m := range []struct {
			bug, check string
			engine     faulty
		}{
			{"each hostile call leaks a megabyte", "MemoryOfTheProcessIsBounded", faulty{after: func(j sandbox.Job, _ *decoder.Result) {
				if hostile(j) {
					kept = append(kept, touched(1<<20))
				}
			}}},
			{"one script makes the host allocate for a moment", "MemoryOfTheProcessIsBounded", faulty{after: func(j sandbox.Job, r *decoder.Result) {
				if strings.Contains(j.Script.Source, "padEnd") {
					r.Message += string(touched(80 << 20)[:1])
				}
			}}},
			{"one script is stopped late", "ScriptsAreStoppedInTime", faulty{after: func(j sandbox.Job, _ *decoder.Result) {
				if strings.Contains(j.Script.Source, "copyWithin") {
					spin(2100 * time.Millisecond)
				}
			}}},
			{"one script gets two quanta too many", "ScriptsAreStoppedInTime", faulty{before: func(j *sandbox.Job) {
				if strings.Contains(j.Script.Source, "lookahead") || strings.Contains(j.Script.Source, "bigint") || strings.Contains(j.Script.Source, "while (true)") {
					j.Script.Limits.RunFuel += 16384
				}
			}}},
			{"what a hostile script left is cleared at the neighbour's cost", "TheNextTenantIsNotSlowed", faulty{after: func(j sandbox.Job, _ *decoder.Result) {
				if dirty && !hostile(j) {
					spin(300 * time.Millisecond) // of which a busy machine gives it a fifth
				}
				dirty = strings.Contains(j.Script.Source, "bomb") || strings.Contains(j.Script.Source, "fill(1)") // only after some
			}}},
			{"the neighbour gets what was meant for another", "TheNextTenantIsNotSlowed", faulty{after: func(_ sandbox.Job, r *decoder.Result) {
				if calls++; calls == 100 {
					r.Data = []byte(`{"n":2}`)
				}
			}}},
		} {
			kept, dirty, calls = nil, false, 0
			m.engine.Engine = good
			r := &recorder{TB: t, ctx: t.Context()}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for _, c := range sandboxtest.Measured() {
					if c.Name == m.check {
						c.Run(r, m.engine)
					}
				}
			}()
			<-done
			if !r.failed {
				t.Errorf("%s did not catch: %s", m.check, m.bug)
			}
		}
	})
}
