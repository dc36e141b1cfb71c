package enter

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// standing is what the gate knows of one tenant: its compiled policy and its state, read in one snapshot.
type standing struct {
	policy  *access.Policy
	tenant  tenant.Tenant
	limits  tenant.Limits // what the platform granted beyond the server's settings
	sources map[ident.Source]source.Source
	keys    map[ident.Key]credential.IngestionKey
	after   uint64 // how many changes had been announced when it was read
}

// policies keeps the compiled policies of the tenants that were asked for lately. An entry is used only while no newer
// revision was announced, so that no decision outlives the rights it was made from. It is bounded: beyond max entries the
// ones not asked for since the hand last passed are dropped (a clock), which costs a reader one atomic store and no lock
// that writers hold for long.
type policies struct {
	max  int
	load func(context.Context, ident.Tenant) (*standing, error)

	mu      sync.RWMutex
	entries map[ident.Tenant]*entry
	ring    []ident.Tenant
	hand    int
}

type entry struct {
	mu      sync.Mutex // held while loading, so that one caller loads and the others wait
	current atomic.Pointer[standing]
	changes atomic.Uint64 // grows with every announced change
	asked   atomic.Bool
}

func newPolicies(limit int) *policies {
	return &policies{max: limit, entries: make(map[ident.Tenant]*entry)}
}

// fresh answers the entry's standing if nothing was announced since it was loaded. A standing says itself what it was read
// after: kept beside it, that could be a newer one's, and what was revoked before the question would be allowed.
func (e *entry) fresh() *standing {
	if s := e.current.Load(); s != nil && s.after == e.changes.Load() {
		return s
	}
	return nil
}

func (p *policies) get(ctx context.Context, t ident.Tenant) (*standing, error) {
	p.mu.RLock()
	e := p.entries[t]
	p.mu.RUnlock()
	if e == nil {
		e = p.add(t)
	}
	if !e.asked.Load() {
		e.asked.Store(true)
	}
	if s := e.fresh(); s != nil {
		return s, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.fresh(); s != nil {
		return s, nil
	}
	// The count is read before the snapshot: a change announced while loading leaves the entry stale, never wrongly fresh.
	before := e.changes.Load()
	s, err := p.load(ctx, t)
	if err != nil {
		p.drop(t, e) // tenants that are not there must not fill the cache
		return nil, err
	}
	s.after = before
	e.current.Store(s)
	return s, nil
}

func (p *policies) add(t ident.Tenant) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[t]; e != nil {
		return e
	}
	e := &entry{}
	if len(p.ring) < p.max {
		p.ring = append(p.ring, t)
	} else {
		for {
			p.hand = (p.hand + 1) % len(p.ring)
			old := p.entries[p.ring[p.hand]]
			if old == nil || !old.asked.CompareAndSwap(true, false) {
				break
			}
		}
		delete(p.entries, p.ring[p.hand])
		p.ring[p.hand] = t
	}
	p.entries[t] = e
	return e
}

func (p *policies) drop(t ident.Tenant, e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries[t] == e {
		delete(p.entries, t) // its place in the ring is found empty when the hand passes
	}
}

// revised is store.Revised.
func (p *policies) revised(t ident.Tenant, _ uint64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !t.IsZero() {
		if e := p.entries[t]; e != nil {
			e.changes.Add(1)
		}
		return
	}
	for _, e := range p.entries {
		e.changes.Add(1)
	}
}

// read loads a tenant's standing from a store.
func read(ctx context.Context, st store.Store, s access.Scope) (*standing, error) {
	var out standing
	err := st.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		t, err := r.Tenants().Get(ctx, s.Tenant())
		if err != nil {
			return err
		}
		records, err := r.Policy(ctx)
		if err != nil {
			return err
		}
		records.Platform = s.Tenant() == ident.Platform
		out = standing{policy: access.Compile(records), tenant: t, sources: map[ident.Source]source.Source{}, keys: map[ident.Key]credential.IngestionKey{}}
		err = each(ctx, r.Sources(), func(v source.Source) { out.sources[v.ID] = v })
		if err == nil {
			err = each(ctx, r.Keys(), func(v credential.IngestionKey) { out.keys[v.ID] = v })
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// granted reads what the platform granted a tenant, which is the platform's record: mostly nothing.
func granted(ctx context.Context, st store.Store, s access.Scope, t ident.Tenant) (tenant.Limits, error) {
	var l store.Limits
	err := st.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		l, err = r.Limits().Get(ctx, t)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return l.Limits, err
}

// Limits answers what the platform granted a tenant; a zero field is the server's setting. It costs no query while nothing
// changes.
func (e *Enter) Limits(ctx context.Context, t ident.Tenant) (tenant.Limits, error) {
	st, err := e.cache.policies.get(ctx, t)
	if err != nil {
		return tenant.Limits{}, err
	}
	return st.limits, nil
}

// Renew makes what is remembered of a tenant be read again: its limits are the platform's records, of whose changes the
// tenant is not told.
func (e *Enter) Renew(t ident.Tenant) { e.cache.policies.revised(t, 0) }

// each hands out every record of a noun whose number is bounded.
func each[K comparable, V any](ctx context.Context, shelf store.Shelf[K, V], do func(V)) error {
	q := store.Query{Reach: access.Everywhere}
	for {
		page, err := shelf.List(ctx, q)
		if err != nil {
			return err
		}
		for _, v := range page.Items {
			do(v)
		}
		if page.Next == "" {
			return nil
		}
		q.After = page.Next
	}
}
