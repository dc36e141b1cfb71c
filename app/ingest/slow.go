package ingest

import (
	"context"
	"sync"
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

// patience is a clock of what decoding takes, with which whoever decodes, and who waits for it, see that it is enough: then what is
// not begun is left.
type patience struct {
	most time.Duration

	mu    sync.Mutex
	took  time.Duration
	since time.Time // zero: it waits for what all tenants' events need, which says nothing of this one
}

// decodes says whether it does from now on, or waits.
func (p *patience) decodes(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.since.IsZero() {
		p.took += now.Sub(p.since)
	}
	if p.since = (time.Time{}); yes {
		p.since = now
	}
}

// spent is how long it decoded, and whether it does.
func (p *patience) spent() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return p.took, false
	}
	return p.took + time.Since(p.since), true
}

func (p *patience) over() bool {
	took, _ := p.spent()
	return took >= p.most
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

// kind is whose events are decided together, and by one at a time.
type kind struct {
	tenant ident.Tenant
	put    bool // which needs no script, and must not wait for what does, or grow stale beside it
}

// decide makes parts of events, and waits for none that takes long: that is handed on when it is decided, and what its tenant has
// beyond it is decided apart.
func (c *consumer) decide(ctx, working context.Context, batch []*pending) (parts []*part) {
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
	slack := decodeTurn
	for _, k := range order {
		t, ps, done := k.tenant, of[k], make(chan turn, 1)
		each := time.Duration(len(ps)) * decodeEach
		p := &patience{most: each + max(slack, decodeLeast)}
		go func() { done <- c.decideTurn(working, t, ps, p) }()
		made, ended := inTime(p, done)
		if !ended { // as many as have places are not waited for
			select {
			case made = <-done:
				ended = true
			case c.slow.places <- struct{}{}:
			}
		}
		if parts = append(parts, made.parts...); !ended || len(made.rest) > 0 {
			first := c.w.apart(t)
			c.w.back(made.rest)
			c.slow.lanes.Go(func() {
				if !ended {
					made := <-done
					<-c.slow.places
					c.w.back(made.rest)
					c.hand(working, made.parts, trace.Span{})
				}
				if first {
					c.slowLane(ctx, working, t)
				}
			})
		}
		took, _ := p.spent()
		slack -= max(0, took-each)
	}
	return parts
}

// inTime answers a turn, or false if it takes too long.
func inTime(p *patience, done <-chan turn) (turn, bool) {
	timer := time.NewTimer(p.most)
	defer timer.Stop()
	for {
		select {
		case made := <-done:
			return made, true
		case <-timer.C:
			took, decodes := p.spent()
			if decodes && took >= p.most {
				return turn{}, false
			}
			timer.Reset(max(p.most-took, decodeLeast))
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
		if len(ps) == 0 {
			<-c.slow.places
			return
		}
		span := c.batch(ps)
		made := c.decideTurn(working, t, ps, &patience{most: decodeTurn})
		<-c.slow.places
		c.w.back(made.rest)
		c.hand(working, made.parts, span)
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
	n := min(len(q.events), fairBatch)
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
