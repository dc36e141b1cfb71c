package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/trace"
)

// maxTraced is how many events that wait in the store are known by their place in a trace.
const maxTraced = 10_000

// traces are where events stand that wait in the store, of the traces that are kept, in memory alone: of what a restart forgets, or
// is beyond the bound, no more is told.
type traces struct {
	tracer trace.Tracer

	mu sync.Mutex
	of map[ident.Uplink]trace.Place
}

// Traced has spans told of events whose durable step is the store. It is called before anything is accepted; nil is nobody.
func (g *Ingest) Traced(t trace.Tracer) {
	g.traces.tracer, g.traces.of = t, map[ident.Uplink]trace.Place{}
}

// begin is where the work of making an event durable stands; zero if nobody is told of it.
func (t *traces) begin(ctx context.Context, id ident.Uplink) trace.Place {
	from := trace.Of(ctx)
	if t.tracer == nil || !from.Kept {
		return trace.Place{}
	}
	at := t.tracer.Below(from)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.of) < maxTraced {
		t.of[id] = at
	}
	return at
}

func (t *traces) at(id ident.Uplink) trace.Place {
	if t.tracer == nil {
		return trace.Place{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of[id]
}

// end forgets an event of which nothing more is to be told.
func (t *traces) end(id ident.Uplink) {
	if t.tracer == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, id)
}

// step tells what an event that stands in the store took of whoever works on it.
func (t *traces) step(on string, kind trace.Kind, of ident.Tenant, id ident.Uplink, began, ended time.Time, result string) {
	if at := t.at(id); at.Kept {
		t.tracer.Tell(trace.Span{Name: on, Kind: kind, Place: t.tracer.Below(at), Parent: at, Began: began, Ended: ended, Tenant: of, Event: id, Result: result})
	}
}
