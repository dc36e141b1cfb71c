// Package measure compares what several ways of doing something cost: in turn, in one run, so that all of them see the same
// noise of the machine.
package measure

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// Way is one of the ways. Do does it n times.
type Way struct {
	Name string
	Do   func(n int)
}

// Cost is what a way took, in nanoseconds an operation, once for each round.
type Cost struct {
	Name   string
	Rounds []float64
	Allocs float64 // an operation, of the last round
}

// InTurn lets every way work for a slice of time, and that as often as there are rounds. Each round begins with the next way, so that
// what grows or falls meanwhile counts for no one of them.
func InTurn(b testing.TB, rounds int, slice time.Duration, ways ...Way) []Cost {
	b.Helper()
	costs, times := make([]Cost, len(ways)), make([]int, len(ways))
	for i, w := range ways {
		times[i] = fitting(w.Do, slice)
		costs[i].Name = w.Name
	}
	for round := range rounds {
		for n := range ways {
			i := (round + n) % len(ways)
			w := ways[i]
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			took := spent(w.Do, times[i])
			runtime.ReadMemStats(&after)
			costs[i].Rounds = append(costs[i].Rounds, float64(took)/float64(times[i]))
			costs[i].Allocs = float64(after.Mallocs-before.Mallocs) / float64(times[i])
		}
	}
	return costs
}

// fitting is how often something can be done in a slice of time. What is done to find out warms it up.
func fitting(do func(int), slice time.Duration) int {
	for n := 1; ; {
		took := spent(do, n)
		fits := int(float64(n) * float64(slice) / float64(max(took, 1)))
		if took >= slice/4 || n > 1<<40 { // what takes no time at all has failed
			return max(fits, 1)
		}
		n = min(max(fits, n+1), 50*n)
	}
}

func spent(do func(int), n int) time.Duration {
	began := time.Now()
	do(n)
	return time.Since(began)
}

// Median is what an operation took in the middle one of the rounds.
func (c Cost) Median() float64 { return median(c.Rounds) }

// Against is how many times another cost this one is: the middle one of the rounds' own ratios.
func (c Cost) Against(other Cost) float64 {
	ratios := make([]float64, len(c.Rounds))
	for i := range ratios {
		ratios[i] = c.Rounds[i] / other.Rounds[i]
	}
	return median(ratios)
}

// Report writes nanoseconds and allocations of each way into a benchmark's line.
func Report(b *testing.B, costs []Cost) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for _, c := range costs {
		b.ReportMetric(c.Median(), c.Name+"-ns")
		b.ReportMetric(c.Allocs, c.Name+"-allocs")
	}
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}
