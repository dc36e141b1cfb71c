package measure_test

import (
	"testing"
	"time"

	"github.com/ringfence/ringfence/testkit/measure"
)

// work is something that takes as long as it is told to, and allocates.
func work(rounds int) func(n int) {
	sum := make([]byte, 0)
	return func(n int) {
		for range n {
			for range rounds {
				sum = append(sum[:0:0], byte(len(sum)))
			}
		}
	}
}

func TestWhatCostsTenTimesAsMuchIsSeenTo(t *testing.T) {
	var costs []measure.Cost
	for n := 0; n == 0 || n < 5 && (costs[1].Against(costs[0]) < 3 || costs[1].Against(costs[0]) > 30); n++ { // a busy machine spoils one
		costs = measure.InTurn(t, 5, 5*time.Millisecond, measure.Way{Name: "once", Do: work(100)}, measure.Way{Name: "ten times", Do: work(1000)})
	}
	if len(costs) != 2 || costs[0].Name != "once" || len(costs[1].Rounds) != 5 {
		t.Fatalf("%+v", costs)
	}
	if x := costs[1].Against(costs[0]); x < 3 || x > 30 {
		t.Errorf("%.1f times, want about 10", x)
	}
	if n := costs[0].Allocs; n < 90 || n > 110 {
		t.Errorf("%.1f allocations, want about 100", n)
	}
	if costs[0].Median() <= 0 || costs[0].Median() >= costs[1].Median() {
		t.Errorf("medians %v and %v", costs[0].Median(), costs[1].Median())
	}
}
