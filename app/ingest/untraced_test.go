package ingest

import (
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/trace"
)

// What nobody asked for costs nothing on the way of an event: neither at the door, nor where it is finished.
func TestEventsThatNobodyTracesCostNoAllocation(t *testing.T) {
	g := &Ingest{durable: &Durable{}}
	c := &consumer{g: g}
	batch := make([]*pending, 1_000)
	for i := range batch {
		batch[i] = &pending{}
	}
	const sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for what, sender := range map[string]string{"none": "", "a sender's": sent} {
		if n := testing.AllocsPerRun(100, func() {
			at := g.durable.below(g.durable.enter(trace.Parse(sender)))
			if at.Kept {
				t.Fatal("it is kept")
			}
			batch[0].at = at
			if c.batch(batch).Place.Kept {
				t.Fatal("a batch is told of")
			}
			g.spent("decode", trace.Internal, batch[0], time.Time{}, "processed")
		}); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}
