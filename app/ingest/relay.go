package ingest

import (
	"context"
	"log/slog"
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
	sendWait   = 20 * time.Second // shorter than the store lets a relay be at a shard
	outThere   = time.Minute      // how long a topic that was there is taken to be
	outMissing = 10 * time.Second // how long one that was not is taken not to be
	maxOuts    = 20_000
)

// outs is which tenants' topics are there.
type outs struct {
	mu    sync.Mutex
	known map[ident.Tenant]outTopic
	away  time.Time // until when nobody is asked: there was no answer
}

type outTopic struct {
	there bool
	until time.Time
}

// get answers whether a tenant's topic is there, as far as is known, and whether that is to be asked now.
func (o *outs) get(t ident.Tenant, now time.Time) (there, ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	topic, known := o.known[t]
	return topic.there || !known, !now.Before(topic.until) && !now.Before(o.away)
}

func (o *outs) unanswered(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = now.Add(outMissing)
}

func (o *outs) set(t ident.Tenant, there bool, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil || len(o.known) >= maxOuts {
		o.known = map[ident.Tenant]outTopic{}
	}
	life := outMissing
	if there {
		life = outThere
	}
	o.known[t] = outTopic{there, now.Add(life)}
}

// missing are the tenants whose topics are not there now.
func (o *outs) missing(now time.Time) (ts []ident.Tenant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for t, topic := range o.known {
		if !topic.there && now.Before(topic.until) {
			ts = append(ts, t)
		}
	}
	return ts
}

// OverBus reports whether tenants can have their decoded events on a bus.
func (g *Ingest) OverBus() bool { return g.durable != nil }

// goesOut reports whether a tenant's decoded events go out: it wants them, and an operator has made its topic. What is written for a topic
// that is not there would wait for ever. While nobody answers it is as it was, and one that was never seen is taken to be there: its
// records wait for it, as others' events must not.
func (g *Ingest) goesOut(ctx context.Context, t ident.Tenant, wanted bool) bool {
	if !wanted || g.durable == nil {
		return false
	}
	now := g.enter.Now()
	there, ask := g.outs.get(t, now)
	if !ask {
		return there
	}
	asking, end := context.WithTimeout(ctx, lookWait)
	defer end()
	if err := g.durable.There(asking, g.durable.Topics.Out(t)); err == nil || isTopic(err) {
		there = err == nil
		g.outs.set(t, there, now)
	} else {
		g.outs.unanswered(now)
	}
	return there
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

// Relay sends what is written for tenants' own topics, until the context ends, in as many hands as are asked for. What was sent and
// could not be let go of is sent again: each record says which event it is of.
func (g *Ingest) Relay(ctx context.Context, o store.Outbox, hands int) {
	var all sync.WaitGroup
	for n := range hands {
		all.Go(func() { (&relay{g: g, outbox: o}).run(ctx, n*store.OutboxShards/hands) })
	}
	all.Wait()
}

type relay struct {
	g      *Ingest
	outbox store.Outbox
	after  [store.OutboxShards]ident.Tenant
}

func (r *relay) run(ctx context.Context, first int) {
	for pause := relayIdle; ; {
		sent, err := r.look(ctx, first)
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
func (r *relay) look(ctx context.Context, first int) (sent int, err error) {
	shards, err := r.outbox.Waiting(ctx)
	for n := 0; n < len(shards) && err == nil && ctx.Err() == nil; n++ {
		var some int
		some, err = r.round(ctx, shards[(first+n)%len(shards)])
		sent += some
	}
	return sent, err
}

// round sends what a shard has, and answers how many records were sent.
func (r *relay) round(ctx context.Context, shard int) (sent int, err error) {
	at := store.Round{Shard: shard, After: r.after[shard], Except: r.g.outs.missing(r.g.enter.Now()), Limit: relayBatch}
	r.after[shard] = ident.Tenant{} // unless there is more
	_, err = r.outbox.Relay(ctx, at, func(ctx context.Context, rs []store.Sent) []error {
		r.after[shard] = rs[len(rs)-1].Tenant
		errs := r.publish(ctx, rs)
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

func (r *relay) publish(ctx context.Context, sent []store.Sent) []error {
	ctx, end := context.WithTimeout(ctx, sendWait)
	defer end()
	d, now := r.g.durable, r.g.enter.Now()
	records := make([]bus.Record, len(sent))
	for i, s := range sent {
		records[i] = bus.Record{Topic: d.Topics.Out(s.Tenant), Key: s.Key, Value: s.Value, Headers: []bus.Header{
			{Name: bus.EventHeader, Value: []byte(s.Event.String())}, {Name: bus.VersionHeader, Value: strconv.AppendInt(nil, uplink.DecodedVersion, 10)}, {Name: bus.TenantHeader, Value: []byte(s.Tenant.String())},
		}}
	}
	errs := d.Bus.Publish(ctx, records)
	told := map[ident.Tenant]bool{}
	n := int64(0)
	for i, err := range errs {
		switch {
		case err == nil:
			n++
		case isTopic(err) && !told[sent[i].Tenant]:
			told[sent[i].Tenant] = true
			r.g.outs.set(sent[i].Tenant, false, now)
			r.g.log.WarnContext(ctx, "a tenant's topic is missing: its decoded events wait until `ringfence kafka topics --apply` has made it", slog.String("tenant_id", sent[i].Tenant.String()))
		case fault.Is(err, fault.Invalid): // for ever: it must not keep what comes after it
			errs[i] = r.bury(ctx, sent[i], records[i])
		}
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
