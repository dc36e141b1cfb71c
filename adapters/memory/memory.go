// Package memory fills ports/store and ports/bus within a process: for tests, for examples, and for a gateway that may
// forget. It is the adapter to read first when writing another: what the ports ask for is here in its shortest form. It keeps
// nothing on a disk, so "durable" means as long as the process lives.
package memory

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Options of a store.
type Options struct {
	Now     func() time.Time
	Revised store.Revised
	Version string // of our program, for audit entries
	Node    string // which of our processes
}

// Store is the adapter.
type Store struct {
	o     Options
	now   atomic.Pointer[world] // everything there is, replaced as a whole by a commit
	turn  chan struct{}         // holds one token: whoever writes has taken it
	ended atomic.Bool

	relayed [store.OutboxShards]atomic.Bool // shards that somebody is at
}

var _ store.Store = (*Store)(nil)

// world is one state of everything. It is never changed, so a snapshot is a pointer to it.
type world struct {
	books   tree[*book]                        // by tenant
	places  tree[store.Location]               // the directory, by accessor
	waiting tree[struct{}]                     // tenants whose queue is not empty
	sending [store.OutboxShards]tree[struct{}] // tenants whose outbox is not
}

// New returns an empty store.
func New(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Revised == nil {
		o.Revised = func(ident.Tenant, uint64) {}
	}
	s := &Store{o: o, turn: make(chan struct{}, 1)}
	s.now.Store(&world{})
	s.turn <- struct{}{}
	return s
}

// Close waits for whoever writes.
func (s *Store) Close() error {
	if !s.ended.Swap(true) {
		<-s.turn
		s.turn <- struct{}{}
	}
	return nil
}

// enter is the first check of every method.
func (s *Store) enter(ctx context.Context, scopes ...access.Scope) error {
	if store.Inside(ctx) {
		return store.ErrNested
	}
	for _, scope := range scopes {
		if scope.IsZero() {
			return store.ErrScope
		}
	}
	if s.ended.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// View runs fn on the state of this moment.
func (s *Store) View(ctx context.Context, scope access.Scope, fn func(context.Context, store.Reader) error) error {
	if err := s.enter(ctx, scope); err != nil {
		return err
	}
	h := open(s.now.Load(), scope.Tenant())
	defer h.kill()
	if h.stale(scope) {
		s.o.Revised(scope.Tenant(), 0)
		return store.ErrStale
	}
	return protect(func() error { return fn(store.Enter(ctx), reader{h}) })
}

// Change runs fn and appends its events.
func (s *Store) Change(ctx context.Context, scope access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	if err := s.enter(ctx, scope); err != nil {
		return err
	}
	var rev uint64
	err := s.write(ctx, func(w *world) error {
		c, err := begin(w, scope)
		if err != nil {
			return err
		}
		defer c.h.kill()
		events, err := fn(store.Enter(ctx), c)
		if err == nil {
			rev, err = c.finish(w, s, scope, events)
		}
		return err
	})
	if err == nil || errors.Is(err, store.ErrStale) {
		s.o.Revised(scope.Tenant(), rev)
	}
	return err
}

// Across is one commit of two books.
func (s *Store) Across(ctx context.Context, platform, tenant access.Scope, fn func(ctx context.Context, p, t store.Writer) (pe, te []audit.Event, err error)) error {
	if err := s.enter(ctx, platform, tenant); err != nil {
		return err
	}
	if platform.Tenant() != ident.Platform || tenant.Tenant() == ident.Platform {
		return store.ErrScope
	}
	var pr, tr uint64
	err := s.write(ctx, func(w *world) error {
		p, err := begin(w, platform)
		if err != nil {
			return err
		}
		defer p.h.kill()
		t, err := begin(w, tenant)
		if err != nil {
			return err
		}
		defer t.h.kill()
		pe, te, err := fn(store.Enter(ctx), p, t)
		if err != nil {
			return err
		}
		if pr, err = p.finish(w, s, platform, pe); err != nil {
			return err
		}
		tr, err = t.finish(w, s, tenant, te)
		return err
	})
	if err == nil || errors.Is(err, store.ErrStale) {
		s.o.Revised(ident.Platform, pr)
		s.o.Revised(tenant.Tenant(), tr)
	}
	return err
}

// Ingest runs fn on what needs no audit entry.
func (s *Store) Ingest(ctx context.Context, scope access.Scope, fn func(context.Context, store.Flow) error) error {
	if err := s.enter(ctx, scope); err != nil {
		return err
	}
	if !scope.Allowed() {
		return store.ErrDenied
	}
	return s.write(ctx, func(w *world) error {
		h := open(w, scope.Tenant())
		defer h.kill()
		err := fn(store.Enter(ctx), flow{h})
		if err == nil {
			h.keep(w)
		}
		return err
	})
}

// write waits for its turn and runs do on a copy of everything, which becomes everything if do succeeds and its caller is
// still there.
func (s *Store) write(ctx context.Context, do func(*world) error) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	next := *s.now.Load()
	if err := protect(func() error { return do(&next) }); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.now.Store(&next)
	return nil
}

// protect turns a panic of fn into an error.
func protect(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Panicked(p), fault.Internal, "panic", "Something went wrong on our side. The log has the details under this request's id.")
		}
	}()
	return fn()
}

// change is a Change under way.
type change struct {
	writing
	rev uint64 // before it
}

func begin(w *world, scope access.Scope) (*change, error) {
	h := open(w, scope.Tenant())
	if h.stale(scope) {
		return nil, store.ErrStale
	}
	return &change{writing: writing{h}, rev: h.book.revision}, nil
}

// stale reports that what a scope was decided from may have been narrowed since.
func (h *handle) stale(s access.Scope) bool {
	return s.Revision() != 0 && s.Revision() < h.book.narrowed
}

// Revision is the one that this change will have.
func (c *change) Revision() uint64 {
	if c.h.policyWritten {
		return c.rev + 1
	}
	return c.rev
}

// finish appends the events and puts the book into the next state.
func (c *change) finish(w *world, s *Store, scope access.Scope, events []audit.Event) (uint64, error) {
	if len(events) == 0 {
		return 0, store.ErrUnaudited
	}
	if !scope.Allowed() && c.h.written {
		return 0, store.ErrDenied
	}
	a, o := scope.Actor(), scope.Origin()
	out, err := audit.Append(c.h.book.log.head, audit.Context{
		Tenant: scope.Tenant(), ActorKind: string(a.Kind), Actor: a.Name(), Accessor: a.Accessor, AMR: a.AMR,
		RequestID: o.Request.String(), TraceID: o.Trace, AuthzRev: scope.Revision(), Version: s.o.Version, Node: s.o.Node,
	}, events, s.o.Now())
	if err != nil {
		return 0, err
	}
	c.h.book.log = c.h.book.log.with(out)
	if c.h.book.revision = c.Revision(); c.h.narrowed {
		c.h.book.narrowed = c.h.book.revision
	}
	c.h.keep(w)
	return c.h.book.revision, nil
}
