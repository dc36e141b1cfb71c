// Package sqlstore fills ports/store with a relational database, by bun. It knows no driver: a sub-package for each
// database opens it and brings the schema. Every statement on a tenant's table binds the tenant.
package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Options are what a database's own package gives.
type Options struct {
	Write   *bun.DB
	Read    *bun.DB // a pool that cannot write, or the same one
	Dialect Dialect
	Begin   string // statement that begins the transactions of a group, on the one connection that writes; "": each write has a transaction and a connection of its own
	Foreign string // query whose answer changes when another process wrote; "" if there is none
	Tidy    string // statement for a reading connection after something was written, beside the writer's way; "" if there is none
	Now     func() time.Time
	Revised store.Revised
	// Followed is told each time that Revised was told all that other processes had changed by then, four times a second, so
	// that who remembers knows how old that is. Nil: while it cannot be known, Revised is told that anything may have changed. It is
	// not told where each change is noticed by itself.
	Followed func()
	Version  string
	Node     string
}

// Store is the adapter.
type Store struct {
	o      Options
	writer transactor
	turns  chan struct{} // one a turn that may be had at once: what is done in it needs another connection
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// transactor is how writing transactions are had.
type transactor interface {
	// do runs run in a transaction and commits what it wrote, unless it fails. Run may run more than once.
	do(ctx context.Context, run func(context.Context, *session) error) error
	// each does several, which harm each other no more than others' do, one after another.
	each(ctx context.Context, runs []func(context.Context, *session) error) []error
	closed() bool
	// close lets what is under way end, and nothing begin.
	close()
}

var _ store.Store = (*Store)(nil)

// New is a store on an opened database whose schema is up to date.
func New(ctx context.Context, o Options) (*Store, error) {
	if o.Revised == nil {
		o.Revised = func(ident.Tenant, uint64) {}
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Store{o: o, turns: make(chan struct{}, max(1, o.Write.Stats().MaxOpenConnections/2)), stop: stop}
	if o.Begin == "" {
		s.writer = &pooled{db: o.Write, d: &s.o.Dialect}
	} else {
		w, err := newWriter(ctx, o.Write, o.Begin, &s.o.Dialect)
		if err != nil {
			stop()
			return nil, err
		}
		s.writer = w
		s.done.Add(1)
		go func() { defer s.done.Done(); w.loop() }()
	}
	if o.Dialect.Changed != "" {
		since, err := s.changed(ctx, o.Dialect.Now) // before anything can be remembered that a change makes wrong
		if err != nil {
			stop()
			return nil, err
		}
		s.followed()
		s.done.Add(1)
		go func() { defer s.done.Done(); s.follow(background, since) }()
	}
	if o.Foreign != "" {
		s.done.Add(1)
		go func() { defer s.done.Done(); s.watch(background) }()
	}
	return s, nil
}

func (s *Store) followed() {
	if s.o.Followed != nil {
		s.o.Followed()
	}
}

// watch tells Revised when another process has written: the query's answer on one connection changes then.
func (s *Store) watch(ctx context.Context) {
	conn, err := s.o.Read.Conn(ctx)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var last int64
	tidy := false
	for {
		var now int64
		// Our own commits change it too: one reload too many is cheap, one too few is a right that outlives its revocation.
		if err := conn.QueryRowContext(ctx, s.o.Foreign).Scan(&now); err != nil || now != last {
			s.o.Revised(ident.Tenant{}, 0)
			last = now
			if tidy = !tidy; tidy && s.o.Tidy != "" { // once a second: what is written twice meanwhile is moved once
				_, _ = conn.ExecContext(ctx, s.o.Tidy) // what is not done now is done by the writer, or the next time
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// follow tells Revised which tenants were changed, by other processes too, in a quarter of the second that is promised.
func (s *Store) follow(ctx context.Context, since string) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next, err := s.changed(ctx, since)
		if err != nil {
			if s.o.Followed == nil {
				s.o.Revised(ident.Tenant{}, 0) // nobody knows
			}
			continue // nothing is missed: it is asked from the same place again
		}
		since = next
		s.followed()
	}
}

// changed tells Revised which tenants were changed since, and answers from where to go on: the oldest transaction that is still
// under way, since what it writes will be seen only then.
func (s *Store) changed(ctx context.Context, since string) (next string, err error) {
	type change struct {
		next   string
		tenant sql.NullString
	}
	all, err := found(ctx, directory{s}.handle(), func(rows *sql.Rows) (c change, err error) { return c, rows.Scan(&c.next, &c.tenant) }, s.o.Dialect.Changed, since)
	if err == nil && len(all) == 0 {
		err = errors.New("the database does not say what was changed")
	}
	if err != nil {
		return "", err
	}
	for _, c := range all {
		if raw, err := hex.DecodeString(c.tenant.String); err == nil && len(raw) == ident.Size {
			s.o.Revised(ident.Tenant(raw), 0)
		}
	}
	return all[0].next, nil
}

// Close waits for what is under way.
func (s *Store) Close() error {
	s.stop()
	s.writer.close()
	s.done.Wait()
	if s.o.Read == s.o.Write {
		return s.o.Write.Close()
	}
	return errors.Join(s.o.Read.Close(), s.o.Write.Close())
}

// enter is the first check of every method.
func enter(ctx context.Context, scopes ...access.Scope) error {
	if store.Inside(ctx) {
		return store.ErrNested
	}
	for _, s := range scopes {
		if s.IsZero() {
			return store.ErrScope
		}
	}
	return nil
}

// View runs fn in one reading transaction, which is one snapshot.
func (s *Store) View(ctx context.Context, scope access.Scope, fn func(context.Context, store.Reader) error) error {
	if err := enter(ctx, scope); err != nil {
		return err
	}
	if s.writer.closed() {
		return store.ErrClosed
	}
	err := s.o.Dialect.again(func() error { return s.view(ctx, scope, fn) })
	if errors.Is(err, errOutdated) {
		s.o.Revised(scope.Tenant(), 0)
		return store.ErrStale
	}
	return err
}

// errOutdated is that a Scope is older than what its tenant's decisions may have been narrowed by; unlike what fn may say itself.
var errOutdated = errors.New("the scope is stale")

func (s *Store) view(ctx context.Context, scope access.Scope, fn func(context.Context, store.Reader) error) error {
	tx, err := s.o.Read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: s.o.Dialect.Snapshot})
	if err != nil {
		return away(err)
	}
	defer func() { _ = tx.Rollback() }()
	h := &handle{session: &session{d: &s.o.Dialect, db: tx, raw: s.o.Dialect.raw(tx)}, tenant: scope.Tenant()}
	defer h.kill()
	if scope.Revision() != 0 || s.o.Dialect.Enter != "" {
		if narrowed, err := h.opened(ctx); err != nil {
			return err
		} else if scope.Revision() != 0 && scope.Revision() < narrowed {
			return errOutdated
		}
	}
	return protect(func() error { return fn(store.Enter(ctx), reader{h}) })
}

// Change runs fn and appends its events, in one writing transaction.
func (s *Store) Change(ctx context.Context, scope access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	if err := enter(ctx, scope); err != nil {
		return err
	}
	var revision uint64
	err := s.writer.do(ctx, func(ctx context.Context, db *session) error {
		p, err := s.begin(ctx, db, scope)
		if err != nil {
			return err
		}
		defer p.h.kill()
		events, err := fn(store.Enter(ctx), p)
		if err != nil {
			return err
		}
		revision, err = p.finish(ctx, s, scope, events)
		return err
	})
	if err == nil || errors.Is(err, store.ErrStale) {
		s.o.Revised(scope.Tenant(), revision)
	}
	return err
}

// Across is one transaction over two trees, the platform's first.
func (s *Store) Across(ctx context.Context, platform, tenant access.Scope, fn func(ctx context.Context, p, t store.Writer) (pe, te []audit.Event, err error)) error {
	if err := enter(ctx, platform, tenant); err != nil {
		return err
	}
	if platform.Tenant() != ident.Platform || tenant.Tenant() == ident.Platform {
		return store.ErrScope
	}
	var pr, tr uint64
	err := s.writer.do(ctx, func(ctx context.Context, db *session) error {
		p, err := s.begin(ctx, db, platform)
		if err != nil {
			return err
		}
		defer p.h.kill()
		t, err := s.begin(ctx, db, tenant)
		if err != nil {
			return err
		}
		defer t.h.kill()
		pe, te, err := fn(store.Enter(ctx), p, t)
		if err != nil {
			return err
		}
		if pr, err = p.finish(ctx, s, platform, pe); err != nil {
			return err
		}
		tr, err = t.finish(ctx, s, tenant, te)
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
	if err := enter(ctx, scope); err != nil {
		return err
	}
	if !scope.Allowed() {
		return store.ErrDenied
	}
	return s.writer.do(ctx, func(ctx context.Context, db *session) error {
		h := &handle{session: db, tenant: scope.Tenant()}
		defer h.kill()
		return fn(store.Enter(ctx), flow{h})
	})
}

// Directory answers what is asked before a tenant is known.
func (s *Store) Directory() store.Directory { return directory{s} }

// change is a Change under way, with the tenant's head locked.
type change struct {
	writing
	head audit.Head
	rev  uint64
}

func (s *Store) begin(ctx context.Context, db *session, scope access.Scope) (*change, error) {
	h := &handle{session: db, tenant: scope.Tenant()}
	k, err := h.locked(ctx)
	if err != nil {
		return nil, err
	}
	if scope.Revision() != 0 && scope.Revision() < k.narrowed {
		return nil, store.ErrStale
	}
	return &change{writing: writing{h}, head: k.head, rev: k.revision}, nil
}

// Revision is the one that this change will have.
func (c *change) Revision() uint64 {
	if c.h.policyWritten {
		return c.rev + 1
	}
	return c.rev
}

func (c *change) finish(ctx context.Context, s *Store, scope access.Scope, events []audit.Event) (uint64, error) {
	if len(events) == 0 {
		return 0, store.ErrUnaudited
	}
	if !scope.Allowed() && c.h.written {
		return 0, store.ErrDenied
	}
	a, o := scope.Actor(), scope.Origin()
	out, err := audit.Append(c.head, audit.Context{
		Tenant: scope.Tenant(), ActorKind: string(a.Kind), Actor: a.Name(), Accessor: a.Accessor, AMR: a.AMR,
		RequestID: o.Request.String(), TraceID: o.Trace, AuthzRev: scope.Revision(), Version: s.o.Version, Node: s.o.Node,
	}, events, s.o.Now())
	if err != nil {
		return 0, err
	}
	return c.Revision(), c.h.keep(ctx, out, c.Revision())
}

// protect turns a panic of fn into an error: nothing of a tenant's may take the writer down.
func protect(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Panicked(p), fault.Internal, "panic", "Something went wrong on our side. The log has the details under this request's id.")
		}
	}()
	return fn()
}

// away is the error of a database that cannot be reached or written.
func away(err error) error {
	if err == nil {
		return nil
	}
	if fault.As(err) != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fault.Wrap(err, fault.Unavailable, "store_unavailable", "The store cannot be reached at the moment. Try again.").WithRetry(time.Second)
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode", "A record could not be written.")
	}
	return b, nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
