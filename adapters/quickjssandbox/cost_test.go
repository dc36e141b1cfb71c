//go:build linux || darwin

package quickjssandbox

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

// ratio is the median of five repetitions' a ÷ b in time of the processor; in each they take turns, so that the machine's
// noise falls on both.
func ratio(t *testing.T, a, b func()) float64 {
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	timed := func(f func()) time.Duration {
		began := spent()
		for range 100 {
			f()
		}
		return spent() - began
	}
	timed(a)
	timed(b)
	rs := make([]float64, 5)
	for i := range rs {
		var as, bs []time.Duration
		for range 10 {
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
		with, without := engineFor(t, Options{Instances: 5}), engineFor(t, Options{Instances: 3, unmetered: true})
		for _, c := range []struct {
			name, source        string
			metering, restoring float64
		}{{"a small codec", small, 1.1, 2}, {"a typical codec", typical, 1.2, 1.6}} {
			job := benched(t, 1, 1, c.source)
			metered := whole(with, job)
			for _, p := range []struct {
				what string
				a, b func()
				most float64
			}{
				{"metered against unmetered", metered, whole(without, job), c.metering},
				{"metered against unmetered, nothing restored", bare(t, with, job), bare(t, without, job), c.metering},
				{"restored against not", metered, bare(t, with, job), c.restoring},
				// The test of the test: twice the work must not pass.
				{"twice against once", func() { metered(); metered() }, metered, 3},
			} {
				got := ratio(t, p.a, p.b)
				for tries := 1; got > p.most && tries < 3; tries++ {
					got = ratio(t, p.a, p.b)
				}
				if t.Logf("%s: %s %.3f of %.1f", c.name, p.what, got, p.most); got > p.most {
					t.Errorf("%s: %s costs %.2f times as much, more than %.1f", c.name, p.what, got, p.most)
				}
				if p.most == 3 && got < 1.6 {
					t.Errorf("%s: twice the work counts for %.2f", c.name, got)
				}
			}
		}
	})
}
