package ingest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/trace"
)

// How long a decoder stays with a tenant: for each event as long as a quick one takes on a machine that has much to do, and for what
// takes longer, of all tenants of a batch together, a turn. When that is used up each has the least.
const (
	decodeEach  = time.Millisecond
	decodeTurn  = 100 * time.Millisecond
	decodeLeast = 5 * time.Millisecond
)

// patience is what whoever decodes, and who waits for it, tell each other.
type patience struct {
	enough  atomic.Bool // what is not begun is left
	reading atomic.Bool // it waits for what all tenants' events need, which says nothing of this one
}

// slow are tenants whose events take long to decode. Each one's are decoded apart from all others', beside the decoders, by nobody
// else meanwhile, and a turn at a time. They stay in the window, which holds them to their share of it.
type slow struct {
	places chan struct{} // where one is decoded: so many at the same time, since they need the engine's guests as the quick ones do
	lanes  sync.WaitGroup
}

func newSlow(decoders int) *slow { return &slow{places: make(chan struct{}, max(decoders/2, 1))} }

// turn is what became of events of a tenant, and what was not begun in time.
type turn struct {
	parts []*part
	rest  []*pending
}

// decide makes parts of events, and waits for none that takes long: that is handed on when it is decided, and what its tenant has
// beyond it is decided apart.
func (c *consumer) decide(ctx, working context.Context, batch []*pending) (parts []*part) {
	type kind struct {
		tenant ident.Tenant
		put    bool // which needs no script, and must not grow stale beside what does
	}
	of := map[kind][]*pending{}
	var order []kind
	for _, p := range batch {
		k := kind{p.event.Tenant, p.put}
		if of[k] == nil {
			order = append(order, k)
		}
		of[k] = append(of[k], p)
	}
	parts = make([]*part, 0, len(order))
	slack, timer := decodeTurn, time.NewTimer(decodeTurn)
	defer timer.Stop()
	for _, k := range order {
		t, ps, p, done, began := k.tenant, of[k], new(patience), make(chan turn, 1), time.Now()
		go func() { done <- c.decideTurn(working, t, ps, p) }()
		each := time.Duration(len(ps)) * decodeEach
		timer.Reset(each + max(slack, decodeLeast))
		if made, ok := inTime(p, done, timer); ok {
			parts = append(parts, made.parts...)
		} else {
			first := c.w.apart(t)
			c.slow.lanes.Go(func() {
				made := <-done
				c.w.back(made.rest)
				c.hand(working, made.parts, trace.Span{})
				if first {
					c.slowLane(ctx, working, t)
				}
			})
		}
		slack -= max(0, time.Since(began)-each)
	}
	return parts
}

// inTime answers a turn, or false if it takes so long that it was told to come to an end.
func inTime(p *patience, done <-chan turn, timer *time.Timer) (turn, bool) {
	for {
		select {
		case made := <-done:
			return made, true // nobody has had enough: it is all
		case <-timer.C:
			if !p.reading.Load() {
				p.enough.Store(true)
				return turn{}, false
			}
			timer.Reset(decodeLeast)
		}
	}
}

// slowLane decodes a tenant's events until none is left, or there is nothing more to begin.
func (c *consumer) slowLane(ctx, working context.Context, t ident.Tenant) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case c.slow.places <- struct{}{}:
		}
		ps := c.w.takeApart(t)
		if len(ps) > 0 {
			span, p := c.batch(ps), new(patience)
			timer := time.AfterFunc(decodeTurn, func() { p.enough.Store(true) })
			made := c.decideTurn(working, t, ps, p)
			timer.Stop()
			c.w.back(made.rest)
			c.hand(working, made.parts, span)
		}
		<-c.slow.places
		if len(ps) == 0 {
			return
		}
	}
}

// apart keeps what is queued of a tenant, and what comes, for who takes it apart from all others', and answers whether nobody did.
func (w *window) apart(t ident.Tenant) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[t]
	if q == nil || q.apart {
		return false
	}
	q.apart = true
	w.unring(q)
	return true
}

func (w *window) unring(q *queue) {
	if !q.ringed {
		return
	}
	for i := range w.ring {
		if w.ring[i] == q {
			w.ring = append(w.ring[:i:i], w.ring[i+1:]...)
			break
		}
	}
	q.ringed = false
	w.queued -= len(q.events)
}

// takeApart hands out what a tenant has that is kept apart; if it has nothing, it is as all others from then on.
func (w *window) takeApart(t ident.Tenant) []*pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[t]
	if q == nil || !q.apart {
		return nil
	}
	if len(q.events) == 0 {
		if q.apart = false; q.held == 0 {
			delete(w.queues, t)
		}
		return nil
	}
	n := min(len(q.events), fullBatch)
	out := q.events[:n:n]
	q.events = q.events[n:]
	return out
}

// back takes back events of one tenant that were handed out, before all that it has queued.
func (w *window) back(ps []*pending) {
	var own, puts []*pending
	for _, p := range ps {
		if p.put {
			puts = append(puts, p)
		} else {
			own = append(own, p)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.toStore(puts)
	if len(own) == 0 {
		return
	}
	q := w.queues[own[0].event.Tenant]
	q.events = append(own, q.events...)
	w.waits(q, len(own))
}

// again takes back events of one tenant that were stale, after a pause that grows: a script that takes as long as its tenant's records
// stay as they are would else run for ever, for nothing. What was stale too often waits in the store.
func (w *window) again(ps []*pending) {
	pause := retryLeast
	for _, p := range ps {
		pause = max(pause, min(retryLeast<<min(p.stale, 8), retryMost))
		if p.stale++; p.stale >= maxAttempts {
			p.put = true
		}
	}
	time.AfterFunc(pause, func() { w.back(ps) })
}
