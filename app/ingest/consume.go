package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// Consuming says how Consume works.
type Consuming struct {
	Group    string
	Later    string        // group in which what was put off is read
	Decoders int           // at the same time: as many as the engine has guests
	Writers  int           // transactions at the same time
	Grace    time.Duration // how long what is under way may take when the context ends
}

const (
	fetchWait  = 250 * time.Millisecond
	commitWait = time.Second
	lagWait    = 3 * time.Second // for how far a group is behind
	stuckAfter = time.Minute
	nearlyIdle = 1_000 // events behind: what was put off is read again
	retryLeast = 20 * time.Millisecond
	retryMost  = 3 * time.Second
)

// consumer finishes events that it reads from the bus.
type consumer struct {
	g       *Ingest
	o       Consuming
	w       *window
	rooms   rooms
	main    *committer
	later   *committer
	behind  atomic.Int64
	decided chan decided
	asides  *asides
	slow    *slow
}

// consuming is what readiness asks.
type consuming struct {
	mu       sync.Mutex
	since    time.Time // of the last time that something was finished, or that nothing was to do
	running  bool
	unjoined error            // why it does not read yet
	lost     map[string]error // why it stopped reading a topic, until that is accepted and it is read again
	away     error            // why nobody can tell now what there is to read
	unstored error            // why nothing can be written now
}

// Consuming answers nil if events are finished, or why not.
func (g *Ingest) Consuming() error {
	c := &g.consuming
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running && c.unjoined != nil {
		return c.unjoined
	}
	for _, err := range c.lost {
		return err
	}
	switch {
	case !c.running:
		return fault.New(fault.Unavailable, "not_reading", "The bus is not read yet.")
	case c.away != nil:
		return c.away
	case c.unstored != nil:
		return c.unstored
	case g.enter.Now().Sub(c.since) > stuckAfter:
		return fault.New(fault.Unavailable, "stuck", "Events were read and none was finished for %s. Look at the log; restart the worker.", stuckAfter)
	}
	return nil
}

func (c *consuming) set(do func(*consuming)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do(c)
}

func (c *consuming) lose(topic string, err error) {
	if c.lost == nil {
		c.lost = map[string]error{}
	}
	c.lost[topic] = err
}

// Consume finishes accepted events in the group's name until the context ends; then it reads no more, finishes what is under
// way within the grace, commits and leaves. It returns an error only where going on would pass events over.
func (g *Ingest) Consume(ctx context.Context, o Consuming) (err error) {
	c := &consumer{g: g, o: o, w: newWindow(windowRecords, windowBytes, g.enter.Now), rooms: rooms{known: map[kind]*quarters{}}, decided: make(chan decided), asides: newAsides(max(o.Writers, 1)), slow: newSlow(o.Decoders)}
	topics := g.durable.Topics
	if err := c.join(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		return err
	}
	members := []*committer{c.main, c.later}
	g.consuming.set(func(s *consuming) { s.running, s.since = true, g.enter.Now() })
	working, stop := context.WithCancel(context.WithoutCancel(ctx)) // what is under way outlives the context for a while
	defer stop()
	var readers, decoders, writers, committers sync.WaitGroup
	committing, enough := context.WithCancel(working)
	defer enough()
	for _, m := range members {
		committers.Go(func() { m.run(committing) })
	}
	var fatal atomic.Pointer[error]
	reading, quit := context.WithCancel(ctx)
	defer quit()
	defer context.AfterFunc(reading, func() { // from then on, not from when all have noticed: who buries something would notice it never
		timer := time.NewTimer(o.Grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			stop()
		case <-working.Done():
		}
	})()
	read := func(m *committer, topic string, may func() bool) {
		readers.Go(func() {
			if err := c.read(reading, working, m, topic, may); err != nil {
				fatal.CompareAndSwap(nil, &err)
				quit()
			}
		})
	}
	read(c.main, topics.Uplinks, func() bool { return true })
	read(c.later, topics.Later, func() bool { return c.behind.Load() < nearlyIdle && c.w.load() < .25 })
	readers.Go(func() { c.lag(reading) })
	drained, drain := context.WithCancel(working)
	defer drain()
	for range max(o.Decoders, 1) {
		decoders.Go(func() { c.decode(drained, working) })
	}
	for range max(o.Writers, 1) {
		writers.Go(func() { c.write(working) })
	}
	readers.Wait()
	drain() // what is queued and not begun is somebody else's
	decoders.Wait()
	c.slow.lanes.Wait()
	close(c.decided)
	writers.Wait()
	c.asides.lanes.Wait()
	enough()
	committers.Wait()
	g.consuming.set(func(s *consuming) { s.running = false })
	for _, m := range members {
		m.commit(context.WithoutCancel(ctx)) // the last of it, within a second
		if e := m.m.Close(); e != nil {
			g.log.WarnContext(ctx, "a group could not be left", slog.String("cause", fault.Cause(e)))
		}
	}
	if p := fatal.Load(); p != nil {
		return *p
	}
	return nil
}

// join waits for the bus as long as it takes. Who cannot join the second group leaves the first: else it kept partitions there that
// nobody reads.
func (c *consumer) join(ctx context.Context) error {
	d := c.g.durable
	return c.insist(ctx, "the bus cannot be joined", func(ctx context.Context) error {
		later, err := d.Bus.Join(ctx, c.o.Later, d.Topics.Later)
		if err == nil {
			var main bus.Member
			if main, err = d.Bus.Join(ctx, c.o.Group, d.Topics.Uplinks); err == nil {
				c.main, c.later = newCommitter(c.g, main), newCommitter(c.g, later)
			} else {
				err = errors.Join(err, later.Close())
			}
		}
		c.g.consuming.set(func(s *consuming) { s.unjoined = err })
		return err
	})
}

// insist does something until it is done or refused for another reason than that something is away.
func (c *consumer) insist(ctx context.Context, what string, do func(context.Context) error) error {
	for pause := retryLeast; ; pause = min(2*pause, retryMost) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil || !fault.Is(err, fault.Unavailable) || lost(err) {
			return err
		}
		c.g.log.WarnContext(ctx, what, slog.String("cause", fault.Cause(err)), slog.Duration("again", pause))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// lost reports whether going on would pass events over.
func lost(err error) bool {
	f := fault.As(err)
	return f != nil && f.Code == fault.As(bus.ErrLost).Code
}

// lag keeps how far the group is behind.
func (c *consumer) lag(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	topics := c.g.durable.Topics
	defer c.g.unseen()
	look := func(group, topic string) (int64, error) {
		soon, end := context.WithTimeout(ctx, lagWait)
		defer end()
		return c.g.seen(soon, group, topic)
	}
	for n := 0; ; n++ {
		behind, err := look(c.o.Group, topics.Uplinks)
		if err == nil {
			c.behind.Store(behind)
		}
		if ctx.Err() == nil {
			c.g.consuming.set(func(s *consuming) { s.away = err })
		}
		if n%laterEvery == 0 {
			_, _ = look(c.o.Later, topics.Later)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if c.w.load() == 0 { // nothing to do is progress
				c.g.consuming.set(func(s *consuming) { s.since = c.g.enter.Now() })
			}
		}
	}
}

// read fills the window, while it may.
func (c *consumer) read(ctx, working context.Context, m *committer, topic string, may func() bool) error {
	tick := time.NewTicker(fetchWait)
	defer tick.Stop()
	for ctx.Err() == nil {
		if !may() {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
			continue
		}
		var rs []bus.Record
		err := c.insist(ctx, "the bus cannot be read", func(ctx context.Context) (err error) {
			rs, err = m.m.Fetch(ctx, fullBatch, fetchWait)
			return err
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.g.consuming.set(func(s *consuming) { s.lose(topic, err) })
			c.g.log.ErrorContext(ctx, "reading stopped: look at what the bus lost, then accept it by `ringfence kafka topics --accept`", slog.String("topic", topic), slog.String("cause", fault.Cause(err)))
			return err
		}
		c.g.consuming.set(func(s *consuming) { delete(s.lost, topic) })
		for _, r := range rs {
			at := place{r.Topic, r.Partition, r.Offset}
			c.w.begin(at)
			e, reason := readEvent(r, c.g.durable.Topics)
			if reason != "" {
				if err := c.bury(working, []bus.Record{r}, ident.Tenant{}, reason); err != nil {
					return nil //nolint:nilerr // told to stop: it is read again
				}
				m.add(c.w.done(at))
				continue
			}
			p := &pending{place: at, event: e, size: len(r.Value) + 512, at: trace.Parse(header(r, bus.TraceHeader))}
			if c.w.put(ctx, p) != nil {
				return nil // told to stop
			}
		}
	}
	return nil
}

func header(r bus.Record, name string) string {
	for _, h := range r.Headers {
		if h.Name == name {
			return string(h.Value)
		}
	}
	return ""
}

// says reports whether a header says something, and nothing else beside it.
func says(r bus.Record, name, value string) bool {
	n := 0
	for _, h := range r.Headers {
		if h.Name == name {
			if n++; string(h.Value) != value {
				return false
			}
		}
	}
	return n > 0
}

// readEvent reads a record, which is ours only if headers, key and value agree; else a reason.
func readEvent(r bus.Record, topics bus.Topics) (uplink.Event, string) {
	if len(r.Headers) == 0 {
		return uplink.Event{}, "no_headers"
	}
	e, err := uplink.ParseEvent(r.Value)
	if err != nil {
		return e, fault.As(err).Code
	}
	key := e.Key()
	if r.Topic == topics.Later {
		key = e.Tenant.String()
	}
	if r.Key != key || !says(r, bus.EventHeader, e.ID.String()) || !says(r, bus.TenantHeader, e.Tenant.String()) {
		return e, headersDisagree
	}
	return e, ""
}

// headersDisagree is the reason of a record that no process of ours wrote.
const headersDisagree = "headers_disagree"

// said is what a record says of itself beside its value: nothing, where that is more than one thing or longer than ours are.
func said(r bus.Record) uplink.Said {
	short := func(s string) string {
		if len(s) > uplink.MaxTopic {
			return ""
		}
		return s
	}
	one := func(name string) string {
		if v := header(r, name); says(r, name, v) {
			return short(v)
		}
		return ""
	}
	return uplink.Said{Key: short(r.Key), Event: one(bus.EventHeader), Tenant: one(bus.TenantHeader)}
}

// bury publishes records that cannot be used to the dead letters, together, however long that takes.
func (c *consumer) bury(ctx context.Context, rs []bus.Record, of ident.Tenant, reason string) error {
	letters := make([]bus.Record, len(rs))
	for i, r := range rs {
		letters[i] = c.g.durable.letter(uplink.Letter{Reason: reason, Tenant: of, Via: r.Topic, Origin: fmt.Sprintf("%d/%d", r.Partition, r.Offset), At: c.g.enter.Now(), Said: said(r)}, r.Value, trace.Parse(header(r, bus.TraceHeader)))
	}
	err := c.insist(ctx, "dead letters cannot be published", func(ctx context.Context) error {
		var left []bus.Record
		var failed error
		for i, err := range c.g.durable.Bus.Publish(ctx, letters) {
			if err != nil {
				left, failed = append(left, letters[i]), away(err)
			}
		}
		letters = left
		return failed
	})
	if err == nil {
		c.g.counts.add(`ringfence_dead_letters_total{from="bus"}`, int64(len(rs)))
		for _, r := range rs {
			c.g.log.WarnContext(ctx, "a record went to the dead letters", slog.String("reason", reason), slog.String("topic", r.Topic), slog.Int("partition", r.Partition), slog.Int64("offset", r.Offset))
		}
	}
	return err
}

// decided is a batch that is to be written, and its span.
type decided struct {
	parts []*part
	span  trace.Span
}

// batch is the span of a batch, linked to the events in it whose traces are kept; without any it is none.
func (c *consumer) batch(ps []*pending) (s trace.Span) {
	tracer := c.g.durable.Tracer
	if tracer == nil {
		return s
	}
	for _, p := range ps {
		if p.at.Kept {
			s.Links = append(s.Links, p.at)
		}
	}
	if len(s.Links) > 0 {
		s.Name, s.Kind, s.Place, s.Began, s.Count = "consume", trace.Consumer, tracer.Below(trace.Place{Kept: true}), c.g.enter.Now(), len(ps)
	}
	return s
}

// decode turns batches into parts, until there is nothing more to begin.
func (c *consumer) decode(ctx, working context.Context) {
	for {
		batch, err := c.w.take(ctx)
		if err != nil {
			return
		}
		span := c.batch(batch)
		c.hand(working, c.decide(ctx, working, batch), span)
	}
}

// hand gives parts to a writer.
func (c *consumer) hand(ctx context.Context, parts []*part, span trace.Span) {
	if len(parts) == 0 {
		return
	}
	select {
	case c.decided <- decided{parts, span}:
	case <-ctx.Done():
	}
}

// write writes parts and commits what is finished.
func (c *consumer) write(ctx context.Context) {
	for d := range c.decided {
		left := c.settle(ctx, d.parts, false)
		if d.span.Place.Kept {
			d.span.Ended, d.span.Failed = c.g.enter.Now(), len(left) > 0
			c.g.durable.Tracer.Tell(d.span)
		}
	}
}

// settle writes parts, again and again until none is left or the context ends. Only who has nobody else's waits for changes.
func (c *consumer) settle(ctx context.Context, parts []*part, wait bool) []*part {
	for pause := retryLeast; len(parts) > 0; {
		left := c.stored(ctx, parts, wait)
		if len(left) < len(parts) {
			pause = retryLeast
		}
		parts = left
		if len(parts) == 0 || ctx.Err() != nil {
			break
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, retryMost)
	}
	return parts
}

// stored writes parts once, and answers those that are to be tried again.
func (c *consumer) stored(ctx context.Context, parts []*part, wait bool) (left []*part) {
	rows := make([]store.Part, len(parts))
	for i, p := range parts {
		rows[i] = p.Part
		rows[i].Wait = wait
	}
	began := c.g.enter.Now()
	for i, err := range c.g.store.IngestBatch(ctx, rows) {
		p := parts[i]
		f := fault.As(err)
		switch {
		case err == nil:
			for k, of := range p.of {
				c.g.spent("write", trace.Client, of, began, string(p.Rows[k].Uplink.State))
			}
			c.finish(p.of)
			c.g.told(ctx, p)
		case ctx.Err() != nil:
			return nil // told to stop
		case f != nil && f.Code == fault.As(store.ErrStale).Code: // something changed since it was decided: decide again
			c.rooms.forget(p.Scope.Tenant())
			c.g.counts.add("ringfence_events_decided_again_total", 1)
			c.w.again(p.of)
		case errors.Is(err, store.ErrBusy): // neither the others nor the writer wait for it
			c.aside(ctx, p)
		case fault.Is(err, fault.Unavailable):
			c.g.consuming.set(func(s *consuming) { s.unstored = err })
			if f != nil && f.Code == "no_partition" {
				p = c.timely(ctx, p)
			}
			if len(p.of) > 0 {
				left = append(left, p)
			}
		case len(p.Rows) > 1: // one of them is to blame: each for itself
			left = append(left, p.apart()...)
		default:
			if p.tries++; p.tries < maxAttempts {
				left = append(left, p)
				continue
			}
			c.g.lost(ctx, p.Scope.Tenant(), "an event cannot be stored", err)
			c.refuse(ctx, p.of, "cannot_be_stored")
		}
	}
	return left
}

// finish lets go of events that are stored or buried.
func (c *consumer) finish(ps []*pending) {
	if len(ps) == 0 {
		return
	}
	now := c.g.enter.Now()
	c.g.consuming.set(func(s *consuming) { s.since, s.unstored = now, nil })
	var later, main []bus.Mark
	for _, m := range c.w.finish(ps) {
		if m.Topic == c.g.durable.Topics.Later {
			later = append(later, m)
		} else {
			main = append(main, m)
		}
	}
	c.main.add(main)
	c.later.add(later)
}

// refuse buries events of one tenant and lets them go.
func (c *consumer) refuse(ctx context.Context, ps []*pending, reason string) {
	if len(ps) == 0 {
		return
	}
	rs := make([]bus.Record, len(ps))
	for i, p := range ps {
		rs[i], _ = c.g.durable.record(p.topic, p.event, p.at) // its form was read, so that it can be written
		rs[i].Topic, rs[i].Partition, rs[i].Offset = p.topic, p.partition, p.offset
	}
	if c.bury(ctx, rs, ps[0].event.Tenant, reason) == nil {
		c.finish(ps)
	}
}
