package quickjssandbox

import (
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

// ratio is the median of five repetitions' a ÷ b; in each they take turns, so that the machine's noise falls on both.
func ratio(a, b func()) float64 {
	timed := func(f func()) time.Duration {
		began := time.Now()
		for range 100 {
			f()
		}
		return time.Since(began)
	}
	timed(a)
	timed(b)
	rs := make([]float64, 5)
	for i := range rs {
		var as, bs []time.Duration
		for range 15 {
			as, bs = append(as, timed(a)), append(bs, timed(b))
		}
		slices.Sort(as)
		slices.Sort(bs)
		rs[i] = float64(as[len(as)/2]) / float64(bs[len(bs)/2])
	}
	slices.Sort(rs)
	return rs[len(rs)/2]
}

func TestMeteringAndRestoringCostWhatTheyMay(t *testing.T) {
	sandboxtest.InChild(t, func(t *testing.T) {
		whole := func(e *Engine, j sandbox.Job) func() {
			return func() {
				if r, err := e.Run(t.Context(), j); err != nil || r.Category != decoder.Success {
					t.Fatalf("%+v, %v", r, err)
				}
			}
		}
		for _, c := range []struct {
			name, source string
			metering     float64
		}{{"a small codec", small, 1.1}, {"a typical codec", typical, 1.2}} {
			job := benched(t, 1, 1, c.source)
			metered := whole(engineFor(t, Options{}), job)
			for _, p := range []struct {
				what string
				a, b func()
				most float64
			}{
				{"metered against unmetered", metered, whole(engineFor(t, Options{unmetered: true}), job), c.metering},
				{"metered against unmetered, nothing restored", bare(t, engineFor(t, Options{}), job), bare(t, engineFor(t, Options{unmetered: true}), job), c.metering},
				{"restored against not", metered, bare(t, engineFor(t, Options{}), job), 1.6},
			} {
				got := ratio(p.a, p.b)
				if t.Logf("%s: %s %.3f of %.1f", c.name, p.what, got, p.most); got > p.most {
					t.Errorf("%s: %s costs %.2f times as much, more than %.1f", c.name, p.what, got, p.most)
				}
			}
		}
	})
}
