package ingest

import (
	"context"
	"slices"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// failing counts a version's failures by fuel or memory in a row.
type failing struct {
	tenant  ident.Tenant
	decoder ident.Decoder
	of      []ident.Uplink // each counts once, however often it is decided again
	until   time.Time
	known   enter.Known // of the tenant when it was last asked whether this is still the version that runs
}

// budget is a tenant's fuel in one minute.
type budget struct {
	minute time.Time
	used   int64
}

// Halts is how often a quota of execution took effect since the start.
type Halts struct {
	Quarantines        int64 // of versions
	Quarantined, Spent int64 // uplinks that were put off: for their version's quarantine, for their tenant's fuel
}

// Halts counts them.
func (g *Ingest) Halts() Halts {
	g.failMu.Lock()
	defer g.failMu.Unlock()
	return g.halts
}

// pausedUntil is when an uplink may be decoded: not while its version is quarantined, nor when the tenant's fuel of this
// minute is used up. Zero is now.
func (g *Ingest) pausedUntil(t ident.Tenant, v ident.Version, fuel int64, now time.Time) time.Time {
	g.failMu.Lock()
	defer g.failMu.Unlock()
	if f := g.fails[v]; now.Before(f.until) {
		g.halts.Quarantined++
		return f.until
	}
	until := g.spentUntil(t, fuel, now)
	if !until.IsZero() {
		g.halts.Spent++
	}
	return until
}

// spentUntil is when a tenant that has used up this minute's fuel has some again; zero: it has some. Under failMu.
func (g *Ingest) spentUntil(t ident.Tenant, fuel int64, now time.Time) time.Time {
	if b, minute := g.budgets[t], now.Truncate(time.Minute); b.minute.Equal(minute) && b.used >= fuel {
		return minute.Add(time.Minute)
	}
	return time.Time{}
}

// charge takes what a run used from its tenant's fuel, loading included, unless others made it necessary again. A run that began in
// an earlier minute is charged to the present one, of which nothing is forgotten. Under failMu.
func (g *Ingest) charge(t ident.Tenant, res decoder.Result, now time.Time) {
	b, minute := g.budgets[t], now.Truncate(time.Minute)
	if minute.After(b.minute) {
		b = budget{minute: minute}
	}
	b.used += res.Fuel + res.LoadFuel
	g.budgets[t] = b
}

// judged counts fuel, and failures in a row of a version. A pass or a failure of another kind begins the count anew; what began
// before a quarantine says nothing about it.
func (g *Ingest) judged(t ident.Tenant, u ident.Uplink, v decoder.Version, res decoder.Result, now time.Time) {
	g.failMu.Lock()
	defer g.failMu.Unlock()
	g.charge(t, res, now)
	f := g.fails[v.ID]
	switch {
	case now.Before(f.until) || res.Category == decoder.Internal: // ours: no verdict, be it good or bad
		return
	case res.Category != decoder.Fuel && res.Category != decoder.Memory:
		delete(g.fails, v.ID)
		return
	}
	if slices.Contains(f.of, u) {
		return
	}
	f = failing{tenant: t, decoder: v.Decoder, of: append(f.of, u)}
	if len(f.of) >= strikes {
		f.of, f.until = nil, now.Add(versionPause)
		g.halts.Quarantines++
	}
	g.fails[v.ID] = f
}

// Paused is when a version's quarantine ends; zero if it is not in quarantine. It is what the tenant sees.
func (g *Ingest) Paused(v ident.Version) time.Time {
	g.failMu.Lock()
	defer g.failMu.Unlock()
	if f := g.fails[v]; g.enter.Now().Before(f.until) {
		return f.until
	}
	return time.Time{}
}

// Again is told that a tenant's uplinks may go on: one was put back to work, or a version is not the active one any more
// (zero: none), so that nothing waits for the end of its quarantine.
func (g *Ingest) Again(t ident.Tenant, replaced ident.Version) {
	if replaced.IsZero() {
		g.mu.Lock()
		if n := g.backlog[t]; n != nil { // else it is counted when it is first asked for
			n.Add(1)
		}
		g.mu.Unlock()
	} else if until := g.Paused(replaced); !until.IsZero() {
		g.failMu.Lock()
		if !slices.Contains(g.ended[t], until) {
			g.ended[t] = append(g.ended[t], until)
		}
		g.failMu.Unlock()
	}
	g.Wake()
}

// replaced looks whether versions in quarantine are still the ones that run: another process may have changed that, which tells
// this one that there was a change and not which. It asks nothing while a tenant's records stay as they are.
func (g *Ingest) replaced(ctx context.Context) {
	g.failMu.Lock()
	paused := map[ident.Version]failing{}
	for v, f := range g.fails {
		if g.enter.Now().Before(f.until) {
			paused[v] = f
		} else if f.known != (enter.Known{}) {
			f.known = enter.Known{} // remembered no longer than needed
			g.fails[v] = f
		}
	}
	g.failMu.Unlock()
	for v, f := range paused {
		known, err := g.enter.Known(ctx, f.tenant)
		if err != nil || known == f.known {
			continue
		}
		var d decoder.Decoder
		err = g.store.View(ctx, g.enter.System(f.tenant, "process", access.Origin{}), func(ctx context.Context, r store.Reader) (err error) {
			d, err = r.Decoders().Get(ctx, f.decoder)
			return err
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			continue // it is asked again with the next turn
		}
		g.failMu.Lock()
		if now := g.fails[v]; now.until.Equal(f.until) {
			now.known = known
			g.fails[v] = now
		}
		g.failMu.Unlock()
		if d.Active != v {
			g.Again(f.tenant, v)
		}
	}
}

// resumed are the tenants with uplinks that wait for what has ended.
func (g *Ingest) resumed() (ts []ident.Tenant) {
	g.failMu.Lock()
	defer g.failMu.Unlock()
	for t := range g.ended {
		ts = append(ts, t)
	}
	return ts
}

// hasten lets uplinks go on that wait for a quarantine which ended early, so many at a time that nobody's writes wait long.
func (g *Ingest) hasten(ctx context.Context, s access.Scope) error {
	const some = 8 * batch
	g.failMu.Lock()
	moments := slices.Clone(g.ended[s.Tenant()])
	g.failMu.Unlock()
	for _, until := range moments {
		n := 0
		if err := g.store.Ingest(ctx, s, func(ctx context.Context, f store.Flow) (err error) {
			n, err = f.Hasten(ctx, until, some)
			return err
		}); err != nil {
			return err
		}
		if n == some {
			continue // there may be more
		}
		g.failMu.Lock()
		left := slices.DeleteFunc(g.ended[s.Tenant()], until.Equal)
		if g.ended[s.Tenant()] = left; len(left) == 0 {
			delete(g.ended, s.Tenant())
		}
		g.failMu.Unlock()
	}
	return nil
}
