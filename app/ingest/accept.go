// Package ingest takes events in and makes readings of them: Accept makes an event durable, Process decodes what waits. It
// trusts neither the message nor the script.
package ingest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// Ingest is the use cases. Use New.
type Ingest struct {
	enter     *enter.Enter
	store     store.Store
	engine    sandbox.Engine
	limiter   limit.Limiter
	limits    tenant.Limits // the server's own
	log       *slog.Logger
	wake      chan struct{}
	durable   *Durable // nil: the store is the durable step
	counts    counters
	consuming consuming
	outs      outs
	stuck     stuck
	lags      lagging
	traces    traces
	backlogs  backlogs // over a bus

	mu      sync.Mutex
	backlog map[ident.Tenant]*atomic.Int64 // accepted uplinks that wait

	failMu  sync.Mutex // of the rest
	fails   map[ident.Version]failing
	budgets map[ident.Tenant]budget      // fuel left in this minute
	ended   map[ident.Tenant][]time.Time // ends of quarantines that nothing has to wait for any more
	halts   Halts
}

// New returns the use cases.
func New(e *enter.Enter, st store.Store, engine sandbox.Engine, l limit.Limiter, limits tenant.Limits, log *slog.Logger) *Ingest {
	return &Ingest{
		enter: e, store: st, engine: engine, limiter: l, limits: limits, log: log, wake: make(chan struct{}, 1),
		backlog: map[ident.Tenant]*atomic.Int64{}, fails: map[ident.Version]failing{}, budgets: map[ident.Tenant]budget{}, ended: map[ident.Tenant][]time.Time{},
	}
}

// Wake tells Process that there is work.
func (g *Ingest) Wake() {
	select {
	case g.wake <- struct{}{}:
	default: // it is told already
	}
}

// waiting is the counter of a tenant's backlog, read from the store when it is first asked for.
func (g *Ingest) waiting(ctx context.Context, t ident.Tenant) (*atomic.Int64, error) {
	g.mu.Lock()
	n := g.backlog[t]
	g.mu.Unlock()
	if n != nil {
		return n, nil
	}
	count, err := g.count(ctx, t)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.backlog[t] == nil {
		g.backlog[t] = &atomic.Int64{}
		g.backlog[t].Store(int64(count))
	}
	return g.backlog[t], nil
}

func pick(granted, server int) int {
	if granted > 0 {
		return granted
	}
	return server
}

// Admit counts a request of a source before its body is read: the source's rate, then the tenant's, then the backlog. Begin is
// the other half of it: a neighbour is protected by all of them together, the backlog alone would not do it. The verdict is
// the source's, or that of the rate that refused; none if it was no rate.
func (g *Ingest) Admit(ctx context.Context, s access.Scope, src source.Source, granted tenant.Limits) (limit.Verdict, error) {
	perTenant := limit.PerSecond(g.share(pick(granted.IngestRate, g.limits.IngestRate)), g.share(pick(granted.IngestBurst, g.limits.IngestBurst)))
	perSource := limit.PerSecond(g.share(pick(granted.SourceRate, g.limits.SourceRate)), g.share(pick(granted.SourceBurst, g.limits.SourceBurst)))
	v := g.limiter.Take("source "+src.ID.String(), 1, perSource)
	if !v.OK {
		return v, busy("source_rate", "The source sends faster than it may. Slow down.", v.RetryAfter)
	}
	if all := g.limiter.Take("tenant "+s.Tenant().String(), 1, perTenant); !all.OK {
		return all, busy("tenant_rate", "The tenant sends faster than it may. Slow down.", all.RetryAfter)
	}
	n, err := g.behind(ctx, s.Tenant())
	if err != nil {
		return v, err
	}
	if n >= pick(granted.Backlog, g.limits.Backlog) {
		return limit.Verdict{}, busy("backlog", "Too many of the tenant's uplinks wait to be decoded. Wait until they are.", 5*time.Second)
	}
	return v, nil
}

// Begin takes one of the tenant's places for requests under way, once the body is there: who sends slowly keeps no place from
// the tenant's other sources. leave gives it back.
func (g *Ingest) Begin(s access.Scope, granted tenant.Limits) (leave func(), err error) {
	leave, ok := g.limiter.Enter("ingest "+s.Tenant().String(), pick(granted.InFlight, g.limits.InFlight))
	if !ok {
		return nil, busy("in_flight", "The tenant has too many requests under way. Wait for an answer before the next ones.", time.Second)
	}
	return leave, nil
}

func busy(code, message string, after time.Duration) error {
	return fault.New(fault.Exhausted, "limited_"+code, "%s", message).WithRetry(after)
}

// Accept makes one message durable and answers its event id: its own, or the first one's if it is a duplicate. When it
// returns nil the event outlives a power cut. Over a bus it asks no store about duplicates: the id is always a new one, and
// names nothing until the event is finished.
func (g *Ingest) Accept(ctx context.Context, s access.Scope, src source.Source, m uplink.Message) (store.Verdict, error) {
	e := g.event(s.Tenant(), s.Actor().Accessor, src, m, g.enter.Now())
	if g.durable != nil {
		return g.publish(ctx, e)
	}
	u := e.Uplink(src.Node)
	u.Payload = slices.Clone(u.Payload)
	n, err := g.waiting(ctx, s.Tenant())
	if err != nil {
		return store.Verdict{}, err
	}
	var v store.Verdict
	at := g.traces.begin(ctx, u.ID) // before anybody else can see the event
	err = g.store.Ingest(ctx, s, func(ctx context.Context, f store.Flow) error {
		vs, err := f.Accept(ctx, []uplink.Uplink{u})
		if err != nil {
			return err
		}
		v = vs[0]
		if v.Conflict {
			return f.Fold(ctx, store.QuarantineFold(u, uplink.DedupeConflict), 1)
		}
		return nil
	})
	result := "accepted"
	switch {
	case err != nil:
		result = "not_durable"
	case v.Duplicate:
		result = "duplicate"
	case v.Conflict:
		result = string(uplink.Quarantined)
	default:
		n.Add(1)
		g.Wake()
	}
	if at.Kept {
		if result != "accepted" {
			g.traces.end(u.ID)
		}
		g.traces.tracer.Tell(trace.Span{Name: "accept", Kind: trace.Producer, Place: at, Parent: trace.Of(ctx), Began: e.ArrivedAt, Ended: g.enter.Now(), Tenant: e.Tenant, Event: e.ID, Result: result, Failed: err != nil})
	}
	return v, err
}

// lost explains an error of ours in the log, with the event's id and nothing of its content.
func (g *Ingest) lost(ctx context.Context, t ident.Tenant, what string, err error) {
	g.log.ErrorContext(ctx, what, slog.String("tenant_id", t.String()), slog.String("cause", fault.Cause(err)))
}
