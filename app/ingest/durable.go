package ingest

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// Durable says that events are made durable on a bus instead of in the store, and finished by who reads it (Consume).
type Durable struct {
	Bus      bus.Bus
	Topics   bus.Topics
	Version  int           // of the form that is written, from uplink.OldestVersion to uplink.Version
	Wait     time.Duration // how long a request waits for the bus
	Replicas int           // of this process: rates and fuel are for all of them together
	Group    string        // in which events are finished
	Tracer   trace.Tracer  // nil: nobody is told of traces

	There func(ctx context.Context, topics ...string) error // asks for topics alone, not for what is in them; nil: by Bus.Lags
	Span  func(context.Context) (Span, error)               // nil: the store keeps events of any time
}

// Span is for which times the store can keep events, prepared for all of them or not yet.
type Span struct{ Uplinks, Readings, End time.Time }

// holds reports whether an event's time is one of them.
func (s Span) holds(id ident.Uplink, received time.Time) bool {
	return !id.Time().Before(s.Uplinks) && id.Time().Before(s.End) && !received.Before(s.Readings)
}

// Over makes a bus the durable step. It is called before anything is accepted.
func (g *Ingest) Over(d Durable) {
	d.Replicas = max(d.Replicas, 1)
	if d.There == nil {
		d.There = func(ctx context.Context, topics ...string) error {
			_, err := d.Bus.Lags(ctx, d.Group, topics...)
			return err
		}
	}
	if d.Span != nil {
		d.Span = kept(d.Span, g.enter.Now)
	}
	g.durable = &d
}

// spanFor is how long the answer for which times the store keeps events is taken to hold: it changes once a day.
const spanFor = time.Minute

// kept asks again only once an answer is old.
func kept(ask func(context.Context) (Span, error), now func() time.Time) func(context.Context) (Span, error) {
	var mu sync.Mutex
	var last Span
	var until time.Time
	return func(ctx context.Context) (Span, error) {
		mu.Lock()
		s, fresh := last, now().Before(until)
		mu.Unlock()
		if fresh {
			return s, nil
		}
		s, err := ask(ctx)
		if err == nil {
			mu.Lock()
			last, until = s, now().Add(spanFor)
			mu.Unlock()
		}
		return s, err
	}
}

// counters are counted here and told as metrics.
type counters struct {
	mu sync.Mutex
	n  map[string]*atomic.Int64
}

func (c *counters) add(series string, n int64) {
	c.mu.Lock()
	if c.n == nil {
		c.n = map[string]*atomic.Int64{}
	}
	at := c.n[series]
	if at == nil {
		at = &atomic.Int64{}
		c.n[series] = at
	}
	c.mu.Unlock()
	at.Add(n)
}

// Counts are the series that ingestion counts itself. Their labels are constants of ours and names of connections.
func (g *Ingest) Counts() map[string]int64 {
	h := g.Halts()
	out := map[string]int64{
		"ringfence_decoder_quarantines_total":                   h.Quarantines,
		`ringfence_uplinks_deferred_total{reason="fuel"}`:       h.Spent,
		`ringfence_uplinks_deferred_total{reason="quarantine"}`: h.Quarantined,
	}
	g.lagged(out)
	g.counts.mu.Lock()
	defer g.counts.mu.Unlock()
	for series, n := range g.counts.n {
		out[series] = n.Load()
	}
	return out
}

// event is a message that is let in now.
func (g *Ingest) event(t ident.Tenant, via string, src source.Source, m uplink.Message, now time.Time) uplink.Event {
	if m.NetworkTime = m.NetworkTime.UTC().Truncate(time.Microsecond); m.NetworkTime.IsZero() {
		m.NetworkTime = time.Time{} // without a zone, so that it is written as none
	}
	e := uplink.Event{Tenant: t, Source: src.ID, Via: via, Message: m, ArrivedAt: now, ReceivedAt: m.ReceivedAt(now)}
	ident.Fresh(g.enter.Mint, &e.ID)
	return e
}

// begins is where an event stands: in the trace that begins with it, if nobody named another. Its id is as random as a trace's.
func begins(at trace.Place, e uplink.Event) trace.Place {
	if at.IsZero() {
		return trace.Place{Trace: e.ID, Span: [8]byte(e.ID[8:])}
	}
	return at
}

// record is an event for the bus, which says where it stands in its trace.
func (d *Durable) record(topic string, e uplink.Event, at trace.Place) (bus.Record, error) {
	value, err := e.MarshalVersion(d.Version)
	if err != nil {
		return bus.Record{}, err
	}
	r := bus.Record{Topic: topic, Key: e.Key(), Value: value, Headers: []bus.Header{
		{Name: bus.EventHeader, Value: []byte(e.ID.String())}, {Name: bus.VersionHeader, Value: strconv.AppendInt(nil, int64(d.Version), 10)}, {Name: bus.TenantHeader, Value: []byte(e.Tenant.String())},
	}}
	if topic == d.Topics.Later {
		r.Key = e.Tenant.String() // by tenant alone: its order is the store's
	}
	r.Headers = append(r.Headers, bus.Header{Name: bus.TraceHeader, Value: []byte(begins(at, e).String())})
	return r, nil
}

// publish makes one event durable on the bus. Whether it is a duplicate is known when it is finished.
func (g *Ingest) publish(ctx context.Context, e uplink.Event) (store.Verdict, error) {
	from := trace.Of(ctx)
	at := g.durable.below(from)
	r, err := g.durable.record(g.durable.Topics.Uplinks, e, at)
	if err != nil {
		return store.Verdict{}, err
	}
	began := g.enter.Now()
	ctx, end := context.WithTimeout(ctx, g.durable.Wait)
	defer end()
	err = g.durable.Bus.Publish(ctx, []bus.Record{r})[0]
	if at.Kept && g.durable.Tracer != nil {
		g.durable.Tracer.Tell(trace.Span{Name: "publish", Kind: trace.Producer, Place: at, Parent: from, Began: began, Ended: g.enter.Now(), Tenant: e.Tenant, Event: e.ID, Topic: r.Topic, Failed: err != nil})
	}
	if err != nil {
		g.counts.add("ringfence_bus_publish_failures_total", 1)
		g.log.WarnContext(ctx, "an event could not be published", slog.String("event_id", e.ID.String()), slog.String("cause", fault.Cause(err)))
		return store.Verdict{}, fault.Wrap(err, fault.Unavailable, "bus_away", "The event could not be made durable, or it is not known whether it is. Send it again, with the same id.").WithRetry(time.Second)
	}
	return store.Verdict{ID: e.ID}, nil
}

// letter is a record for the dead letters: what could not be used, and why, and where it stands in its trace. Its size and hash are
// those of the value, unless whoever cut that has said them.
func (d *Durable) letter(l uplink.Letter, value []byte, at trace.Place) bus.Record {
	if l.Size == 0 {
		l.Size, l.Hash = len(value), sha256.Sum256(value)
	}
	if l.Size > uplink.MaxLetter {
		value = value[:min(len(value), uplink.CutLetter)]
	}
	r := bus.Record{Topic: d.Topics.Dead, Key: l.Via, Value: value}
	for _, f := range l.Fields() {
		r.Headers = append(r.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
	}
	if !at.IsZero() {
		r.Headers = append(r.Headers, bus.Header{Name: bus.TraceHeader, Value: []byte(at.String())})
	}
	return r
}

// enter is the place by which something comes in. What its sender says of keeping it counts for nothing.
func (d *Durable) enter(sender trace.Place) trace.Place {
	if sender.Kept = false; d.Tracer == nil {
		return sender
	}
	return d.Tracer.Enter(sender)
}

// below is the place of a span below another, if anybody is told of it.
func (d *Durable) below(parent trace.Place) trace.Place {
	if d.Tracer == nil || !parent.Kept {
		return parent
	}
	return d.Tracer.Below(parent)
}
