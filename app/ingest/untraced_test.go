package ingest

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/trace"
)

// drawn is a tracer that keeps everything and tells nobody.
type drawn struct{}

func (drawn) Enter(p trace.Place) trace.Place { p.Kept = true; return p }
func (drawn) Below(p trace.Place) trace.Place { return p }
func (drawn) Tell(trace.Span)                 {}

// Events that wait in the store for long do not fill the memory with where they stand.
func TestWhereEventsStandIsBounded(t *testing.T) {
	g := &Ingest{}
	g.Traced(drawn{})
	ctx := trace.With(t.Context(), trace.Place{Trace: [16]byte{1}, Kept: true})
	id := func(n int) (u ident.Uplink) { binary.BigEndian.PutUint32(u[:], uint32(n)); return u } //nolint:gosec // small
	for n := range 2 * maxTraced {
		g.traces.begin(ctx, id(n))
	}
	if len(g.traces.of) != maxTraced || !g.traces.at(id(0)).Kept || g.traces.at(id(maxTraced)).Kept {
		t.Errorf("%d are known", len(g.traces.of))
	}
	if g.traces.end(id(0)); g.traces.at(id(0)).Kept {
		t.Error("what has ended is still known")
	}
}

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
