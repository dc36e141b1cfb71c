package ingest

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

const (
	relayBatch = 500
	relayIdle  = 200 * time.Millisecond
	sendWait   = 5 * time.Second // how long topics that take nothing hold up what is sent beside them; shorter than the store lets a relay be at a shard
	tryWait    = time.Second     // how long they hold up a shard when they are tried again; longer, up to sendWait, only for who is tried seldom
	tryShare   = 12              // of the time until then
	stuckLeast = time.Second     // how long nothing is sent to a topic that took nothing, at first
	stuckMost  = time.Minute
	stuckKept  = time.Minute      // after which who was not tried again has nothing left
	outThere   = time.Minute      // how long a topic that was there is taken to be
	outMissing = 10 * time.Second // how long one that was not is taken not to be
	maxOuts    = 20_000
)

// outs is which tenants' topics are there. That is asked beside the way of the events, by one asker, of one tenant after the other.
type outs struct {
	mu     sync.Mutex
	known  map[ident.Tenant]outTopic
	line   []ident.Tenant // of whom is to be asked
	asking bool           // somebody is at it
	away   time.Time      // until when nobody is asked: there was no answer
}

type outTopic struct {
	missing bool
	lined   bool // it stands in the line
	until   time.Time
}

// get answers whether a tenant's topic is there, as far as is known, and whether its caller is to have the line asked.
func (o *outs) get(t ident.Tenant, now time.Time) (there, ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	topic := o.known[t]
	if !topic.lined && !now.Before(topic.until) && len(o.line) < maxOuts {
		topic.lined, o.line = true, append(o.line, t)
		o.keep(t, topic)
	}
	ask = len(o.line) > 0 && !o.asking && !now.Before(o.away)
	o.asking = o.asking || ask
	return !topic.missing, ask
}

// next is the one of whom is to be asked.
func (o *outs) next() ident.Tenant {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.line[0]
}

// answered is what came of asking for the next one's topic, and whether there is another; who is told to end asks for no more.
func (o *outs) answered(err error, now time.Time, end bool) (more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.line[0]
	topic := o.known[t]
	topic.lined, o.line = false, o.line[1:]
	if err == nil || isTopic(err) {
		topic = outTopic{missing: err != nil, until: now.Add(outLife(err == nil))}
	} else {
		o.away, end = now.Add(outMissing), true
	}
	o.keep(t, topic)
	o.asking = !end && len(o.line) > 0
	return o.asking
}

func (o *outs) missing(t ident.Tenant, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keep(t, outTopic{missing: true, lined: o.known[t].lined, until: now.Add(outLife(false))})
}

// keep remembers a topic. Under mu.
func (o *outs) keep(t ident.Tenant, topic outTopic) {
	if o.known == nil || len(o.known) >= maxOuts {
		o.known = map[ident.Tenant]outTopic{}
	}
	o.known[t] = topic
}

func outLife(there bool) time.Duration {
	if there {
		return outThere
	}
	return outMissing
}

// stuck are tenants whose topics took nothing lately.
type stuck struct {
	mu sync.Mutex
	of map[ident.Tenant]halted
}

type halted struct {
	until time.Time // nobody tries before
	pause time.Duration
	open  [store.OutboxShards]bool // of which all went out since
}

// failed has nothing sent of a tenant's for a while, a longer one each time.
func (s *stuck) failed(t ident.Tenant, shard int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil || len(s.of) >= maxOuts {
		s.of = map[ident.Tenant]halted{}
	}
	h := s.of[t]
	h.open[shard] = false
	if !now.Before(h.until) { // else it failed in another shard at the same time
		h.pause = min(max(2*h.pause, stuckLeast), stuckMost)
		h.until = now.Add(h.pause)
	}
	s.of[t] = h
}

// went has what a shard has of a tenant sent as that of others.
func (s *stuck) went(t ident.Tenant, shard int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.of[t]; ok {
		h.open[shard] = true
		s.of[t] = h
	}
}

// except are those of whom a shard's records wait.
func (s *stuck) except(shard int) (ts []ident.Tenant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, h := range s.of {
		if !h.open[shard] {
			ts = append(ts, t)
		}
	}
	return ts
}

// due are those of them who are to be tried again, and how long they may take for it.
func (s *stuck) due(shard int, now time.Time) (ts []ident.Tenant, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = tryWait
	for t, h := range s.of {
		if !h.open[shard] && !now.Before(h.until) {
			ts, wait = append(ts, t), min(max(wait, h.pause/tryShare), sendWait)
		}
	}
	return ts, wait
}

// any reports whether somebody is to be tried again, and forgets who was not, with nothing left.
func (s *stuck) any(now time.Time) (due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, h := range s.of {
		if now.Sub(h.until) > stuckKept {
			delete(s.of, t)
		} else if !now.Before(h.until) {
			due = true
		}
	}
	return due
}

// OverBus reports whether tenants can have their decoded events on a bus.
func (g *Ingest) OverBus() bool { return g.durable != nil }

// goesOut reports whether a tenant's decoded events go out: it wants them, and an operator has made its topic. What is written for a topic
// that is not there would wait for ever, but no event waits for the answer: until there is another it is as it was, and one that was
// never seen is taken to be there, since else what is decoded until then would be missing in a topic that is.
func (g *Ingest) goesOut(ctx context.Context, t ident.Tenant, wanted bool) bool {
	if !wanted || g.durable == nil {
		return false
	}
	there, ask := g.outs.get(t, g.enter.Now())
	if ask {
		go g.askOut(ctx)
	}
	return there
}

// askOut asks for the topics of those who stand in line, until there was no answer. Who is told to stop takes the answer that is under way.
func (g *Ingest) askOut(ctx context.Context) {
	for more := true; more; {
		err := g.isThere(context.WithoutCancel(ctx), g.durable.Topics.Out(g.outs.next()))
		more = g.outs.answered(err, g.enter.Now(), ctx.Err() != nil)
	}
}

// isThere asks for a topic. A panic over it is no answer.
func (g *Ingest) isThere(ctx context.Context, topic string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Panicked(p)
		}
	}()
	ctx, end := context.WithTimeout(ctx, lookWait)
	defer end()
	return g.durable.There(ctx, topic)
}

func isTopic(err error) bool {
	f := fault.As(err)
	return f != nil && f.Code == fault.As(bus.ErrTopic).Code
}

// goingOut is what goes out of a reading.
func goingOut(t ident.Tenant, r uplink.Reading) (*store.Outgoing, error) {
	value, err := r.MarshalOut(t)
	return &store.Outgoing{Event: r.Uplink, Key: r.OutKey(t), Value: value}, err
}

// Relay sends what is written for tenants' own topics, until the context ends, in as many hands as are asked for, and in one more
// that tries those again which took nothing, and nobody else: so one shard at most waits for such, and not for long. What was sent
// and could not be let go of is sent again: each record says which event it is of.
func (g *Ingest) Relay(ctx context.Context, o store.Outbox, hands int) {
	var all sync.WaitGroup
	for n := range hands {
		all.Go(func() { (&relay{g: g, outbox: o, first: n * store.OutboxShards / hands}).run(ctx) })
	}
	all.Go(func() { (&relay{g: g, outbox: o, again: true}).run(ctx) })
	all.Wait()
}

type relay struct {
	g      *Ingest
	outbox store.Outbox
	first  int  // of the shards that have something, where it begins
	again  bool // it is there for who is stuck alone, while somebody is to be tried again
	after  [store.OutboxShards]ident.Tenant
}

func (r *relay) run(ctx context.Context) {
	for pause := relayIdle; ; {
		sent, err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = min(2*pause, retryMost)
			r.g.counts.add("ringfence_outbox_failures_total", 1)
			r.g.log.WarnContext(ctx, "what goes out cannot be read or let go of", slog.String("cause", fault.Cause(err)), slog.Duration("again", pause))
		default:
			if pause = relayIdle; sent > 0 {
				continue
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look sends a part of what each shard has, and answers how many records were sent.
func (r *relay) look(ctx context.Context) (sent int, err error) {
	if r.again && !r.g.stuck.any(r.g.enter.Now()) {
		return 0, nil
	}
	shards, err := r.outbox.Waiting(ctx)
	for n := 0; n < len(shards) && err == nil && ctx.Err() == nil; n++ {
		shard := shards[(r.first+n)%len(shards)]
		var some int
		if !r.again {
			some, err = r.round(ctx, store.Round{Shard: shard, After: r.after[shard], Except: r.g.stuck.except(shard), Limit: relayBatch}, sendWait)
		} else if due, wait := r.g.stuck.due(shard, r.g.enter.Now()); len(due) > 0 {
			some, err = r.round(ctx, store.Round{Shard: shard, Only: due, Limit: relayBatch}, wait)
		}
		sent += some
	}
	if r.again {
		r.first++ // what is stuck in one shard keeps another's from nothing
	}
	return sent, err
}

// round sends what a shard has, and answers how many records were sent.
func (r *relay) round(ctx context.Context, at store.Round, wait time.Duration) (sent int, err error) {
	shard := at.Shard
	r.after[shard] = ident.Tenant{} // unless there is more
	_, err = r.outbox.Relay(ctx, at, func(ctx context.Context, rs []store.Sent) []error {
		r.after[shard] = rs[len(rs)-1].Tenant
		errs := r.publish(ctx, shard, rs, wait)
		for _, err := range errs {
			if err == nil {
				sent++
			}
		}
		return errs
	})
	if at.After != (ident.Tenant{}) && r.after[shard] == (ident.Tenant{}) && err == nil {
		sent++ // the last tenant was reached: the first are looked at before there is a pause
	}
	return sent, err
}

// publish sends each tenant's records beside the others', so that none waits behind a topic that takes nothing.
func (r *relay) publish(ctx context.Context, shard int, sent []store.Sent, wait time.Duration) []error {
	errs := make([]error, len(sent))
	of := map[ident.Tenant][]int{}
	for i, s := range sent {
		of[s.Tenant] = append(of[s.Tenant], i)
	}
	sending, end := context.WithTimeout(ctx, wait)
	defer end()
	var all sync.WaitGroup
	for t, places := range of {
		all.Go(func() {
			own := make([]store.Sent, len(places))
			for n, i := range places {
				own[n] = sent[i]
			}
			whole := true
			for n, err := range r.publishOf(sending, t, own) {
				errs[places[n]] = err
				whole = whole && err == nil
			}
			switch {
			case whole:
				r.g.stuck.went(t, shard)
			case ctx.Err() == nil: // else it was told to stop
				r.g.stuck.failed(t, shard, r.g.enter.Now())
			}
		})
	}
	all.Wait()
	return errs
}

// publishOf sends one tenant's. A panic is that tenant's alone.
func (r *relay) publishOf(ctx context.Context, t ident.Tenant, sent []store.Sent) (errs []error) {
	defer func() {
		if p := recover(); p != nil {
			err := fault.Panicked(p)
			r.g.lost(ctx, t, "decoded events cannot be sent", err)
			errs = slices.Repeat([]error{err}, len(sent))
		}
	}()
	d := r.g.durable
	records := make([]bus.Record, len(sent))
	for i, s := range sent {
		records[i] = bus.Record{Topic: d.Topics.Out(t), Key: s.Key, Value: s.Value, Headers: []bus.Header{
			{Name: bus.EventHeader, Value: []byte(s.Event.String())}, {Name: bus.VersionHeader, Value: strconv.AppendInt(nil, uplink.DecodedVersion, 10)}, {Name: bus.TenantHeader, Value: []byte(t.String())},
		}}
	}
	errs = d.Bus.Publish(ctx, records)
	var why error
	n := int64(0)
	for i, err := range errs {
		switch {
		case err == nil:
			n++
		case fault.Is(err, fault.Invalid): // for ever: it must not keep what comes after it
			errs[i] = r.bury(ctx, sent[i], records[i])
		default:
			why = err
		}
	}
	if isTopic(why) {
		r.g.outs.missing(t, r.g.enter.Now())
		r.g.log.WarnContext(ctx, "a tenant's topic is missing: its decoded events wait until `ringfence kafka topics --apply` has made it", slog.String("tenant_id", t.String()))
	} else if why != nil {
		r.g.log.WarnContext(ctx, "a tenant's topic takes nothing at the moment: its decoded events wait", slog.String("tenant_id", t.String()), slog.String("cause", fault.Cause(why)))
	}
	r.g.counts.add("ringfence_outbox_sent_total", n)
	if failed := int64(len(errs)) - n; failed > 0 {
		r.g.counts.add("ringfence_outbox_send_failures_total", failed)
	}
	return errs
}

// bury keeps what no bus takes as a dead letter.
func (r *relay) bury(ctx context.Context, s store.Sent, record bus.Record) error {
	d := r.g.durable
	l := d.letter(uplink.Letter{Reason: "cannot_go_out", Tenant: s.Tenant, Via: record.Topic, Origin: s.Event.String(), At: r.g.enter.Now()}, record.Value, trace.Place{})
	if err := d.Bus.Publish(ctx, []bus.Record{l})[0]; err != nil {
		return err
	}
	r.g.counts.add(`ringfence_dead_letters_total{from="outbox"}`, 1)
	r.g.log.ErrorContext(ctx, "a decoded event cannot go out: it went to the dead letters", slog.String("event_id", s.Event.String()), slog.String("tenant_id", s.Tenant.String()))
	return nil
}
