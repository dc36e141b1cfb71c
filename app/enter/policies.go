package enter

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// standing is what the gate knows of one tenant: its compiled policy and its state, read in one snapshot. What every decision
// looks at stands first: for a tenant that was not asked for lately, waiting for memory takes most of a decision's time.
type standing struct {
	stale   atomic.Bool // a change was announced since it was read, or while: it is not used again
	asked   atomic.Bool // since the hand last passed
	active  bool        // the tenant's state: only if it is not, the tenant is asked
	policy  access.Policy
	tenant  tenant.Tenant
	limits  tenant.Limits // what the platform granted beyond the server's settings: its record, whose changes the tenant is told of
	sources map[ident.Source]source.Source
	keys    map[ident.Key]*key
}

// key is a source's, with when it was last noted to be used, in microseconds.
type key struct {
	credential.IngestionKey
	used atomic.Int64
}

// admit is tenant.Admit.
func (s *standing) admit(member bool) error {
	if s.active {
		return nil
	}
	return s.tenant.Admit(member)
}

// closed is the decision on whoever asks a tenant that is not active.
func (s *standing) closed(p access.Permission) access.Decision {
	d := access.Decision{Permission: p, Reason: access.ReasonSuspended, Revision: s.policy.Revision()}
	if s.tenant.State == tenant.Deleted {
		d.Reason = access.ReasonDeleted
	}
	return d
}

// policies keeps the standings of the tenants that were asked for lately. One is used only while no newer revision was
// announced, so that no decision outlives the rights it was made from: the mark is the standing's own, since beside it, it
// could be a newer one's. It is bounded: beyond max the ones not asked for since the hand last passed are dropped (a clock),
// which costs a reader one atomic store and no lock that writers hold for long.
type policies struct {
	max  int
	load func(context.Context, ident.Tenant) (*standing, error)

	mu      sync.RWMutex
	known   map[ident.Tenant]*standing
	loading map[ident.Tenant]*loading
	ring    []ident.Tenant
	hand    int
}

// loading is a standing that is being read, for all who ask for it meanwhile.
type loading struct {
	done    chan struct{}
	changed atomic.Bool // a change was announced meanwhile, which the snapshot may not have
	got     *standing   // once done; nil if it could not be read
	err     error       // then
}

// loadWithin is how long a store may take to tell a standing.
const loadWithin = 30 * time.Second

func newPolicies(limit int) *policies {
	return &policies{max: limit, known: map[ident.Tenant]*standing{}, loading: map[ident.Tenant]*loading{}}
}

func (p *policies) get(ctx context.Context, t ident.Tenant) (*standing, error) {
	for {
		p.mu.RLock()
		s := p.known[t]
		p.mu.RUnlock()
		if s == nil || s.stale.Load() {
			var err error
			if s, err = p.read(ctx, t); err != nil {
				return nil, err
			}
			if s == nil {
				continue // somebody else tried meanwhile, and what came of it is of no use
			}
		}
		if !s.asked.Load() {
			s.asked.Store(true)
		}
		return s, nil
	}
}

// read loads a tenant's standing, or waits while that is done for another caller. What the other one is answered is this caller's
// answer too, if no change was announced before this one came: such a change would be missing in it. The reading ends with nobody's
// patience, so that one that takes longer than anybody waits is there for who asks again.
func (p *policies) read(ctx context.Context, t ident.Tenant) (*standing, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if s := p.known[t]; s != nil && !s.stale.Load() {
		p.mu.Unlock()
		return s, nil
	}
	l := p.loading[t]
	late := l != nil && l.changed.Load()
	if l == nil {
		l = &loading{done: make(chan struct{})}
		p.loading[t] = l
		go p.fetch(context.WithoutCancel(ctx), t, l)
	}
	p.mu.Unlock()
	if err := until(ctx, l.done); err != nil {
		return nil, err
	}
	if late {
		return nil, nil
	}
	return l.got, l.err
}

func (p *policies) fetch(ctx context.Context, t ident.Tenant, l *loading) {
	ctx, end := context.WithTimeout(ctx, loadWithin)
	defer end()
	s, err := p.loaded(ctx, t)
	if err != nil && ctx.Err() != nil {
		err = fault.Wrap(err, fault.Unavailable, "store_unavailable", "The store does not answer at the moment. Try again.").WithRetry(time.Second)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.loading, t)
	defer close(l.done)
	if fault.Is(err, fault.NotFound) {
		delete(p.known, t) // tenants that are not there must not fill the cache; the place in the ring is found empty
	}
	if l.err = err; err == nil {
		l.got = s
		s.stale.Store(l.changed.Load())
		p.keep(t, s)
	}
}

// loaded calls load, whatever it does.
func (p *policies) loaded(ctx context.Context, t ident.Tenant) (s *standing, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fault.Panicked(v)
		}
	}()
	return p.load(ctx, t)
}

// keep puts a standing into the place of an older one, or gives it one.
func (p *policies) keep(t ident.Tenant, s *standing) {
	if p.known[t] == nil {
		if len(p.ring) < p.max {
			p.ring = append(p.ring, t)
		} else {
			for {
				p.hand = (p.hand + 1) % len(p.ring)
				old := p.known[p.ring[p.hand]]
				if old == nil || !old.asked.CompareAndSwap(true, false) {
					break
				}
			}
			delete(p.known, p.ring[p.hand])
			p.ring[p.hand] = t
		}
	}
	p.known[t] = s
}

// revised is store.Revised.
func (p *policies) revised(t ident.Tenant, _ uint64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !t.IsZero() {
		if s := p.known[t]; s != nil {
			s.stale.Store(true)
		}
		if l := p.loading[t]; l != nil {
			l.changed.Store(true)
		}
		return
	}
	for _, s := range p.known {
		s.stale.Store(true)
	}
	for _, l := range p.loading {
		l.changed.Store(true)
	}
}

// read loads a tenant's standing from a store.
func read(ctx context.Context, st store.Store, s access.Scope) (*standing, error) {
	out := &standing{sources: map[ident.Source]source.Source{}, keys: map[ident.Key]*key{}}
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
		out.policy, out.active, out.tenant = *access.Compile(records), t.State == tenant.Active, t
		err = each(ctx, r.Sources(), func(v source.Source) { out.sources[v.ID] = v })
		if err == nil {
			err = each(ctx, r.Keys(), func(v credential.IngestionKey) {
				k := &key{IngestionKey: v}
				k.used.Store(v.LastUsed.UnixMicro())
				out.keys[v.ID] = k
			})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
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
	st, err := e.door(ctx, t)
	if err != nil {
		return tenant.Limits{}, err
	}
	return st.limits, nil
}

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
