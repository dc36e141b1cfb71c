// Package manage is what administrators ask: tenants, the org tree, people, groups, roles, memberships, devices, decoders,
// sources, tokens and quarantine. Every use case takes a Scope that the gate granted, decides again at the node it touches,
// and writes record and audit entry in one transaction.
package manage

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/label"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

// Manage is the use cases.
type Manage struct {
	enter  *enter.Enter
	store  store.Store
	engine sandbox.Engine
	limits tenant.Limits // the server's own
	again  Again
}

// Again tells the processor that a tenant's uplinks may go on: one was put back to work, or this version is not the active
// one any more (zero: none).
type Again func(t ident.Tenant, replaced ident.Version)

// New returns the use cases. The engine is the one for what people try, which has its limits within it.
func New(e *enter.Enter, st store.Store, engine sandbox.Engine, limits tenant.Limits, again Again) *Manage {
	return &Manage{enter: e, store: st, engine: engine, limits: limits, again: again}
}

// Call is one request to a use case: what it may do, and what the answer has to say beside the result.
type Call struct {
	Scope    access.Scope
	Once     enter.Once
	Revision uint64 // out: the tenant's policy revision after the change

	limits tenant.Limits // of the scope's tenant, as they are when the change begins
}

// change runs a use case's writing, and claims the request's key for what the path names.
func (m *Manage) change(ctx context.Context, c *Call, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	return m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		events, err := fn(ctx, w)
		return "", events, err
	})
}

// create runs a use case's writing, and claims the request's key for the object that fn makes.
func (m *Manage) create(ctx context.Context, c *Call, fn func(context.Context, store.Writer) (string, []audit.Event, error)) error {
	granted, err := m.enter.Limits(ctx, c.Scope.Tenant())
	if err != nil {
		return err
	}
	c.limits = granted.Over(m.limits)
	err = m.store.Change(ctx, c.Scope, func(ctx context.Context, w store.Writer) (events []audit.Event, err error) {
		err = m.enter.Once(ctx, c.Scope, w, c.Once, func() (object string, err error) {
			object, events, err = fn(ctx, w)
			return object, err
		})
		c.Revision = w.Revision()
		return events, err
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return err
}

// errUnchanged is what a use case answers, before it writes, when everything is already as it was asked to be: that succeeds
// without a new revision and without an entry, since there was no change to record.
var errUnchanged = errors.New("everything is so already")

func (m *Manage) now() time.Time { return m.enter.Now() }

// event is a success on something; changes that change nothing are left out.
func (m *Manage) event(ctx context.Context, c *Call, a audit.Action, t audit.Target, changes ...audit.Change) (audit.Event, error) {
	return m.enter.Event(ctx, c.Scope, a, t, real(changes)...)
}

// real leaves out the changes that change nothing.
func real(changes []audit.Change) []audit.Change {
	return slices.DeleteFunc(changes, func(ch audit.Change) bool { return ch.Old.Value == ch.New.Value })
}

// one wraps a single event.
func one(e audit.Event, err error) ([]audit.Event, error) { return []audit.Event{e}, err }

// get reads one record that stands on no node.
func get[K comparable, V any](ctx context.Context, m *Manage, s access.Scope, shelf func(store.Reader) store.Shelf[K, V], id K) (V, error) {
	var v V
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		v, err = shelf(r).Get(ctx, id)
		return err
	})
	return v, err
}

// list reads one page within the reach of a permission.
func list[K comparable, V any](ctx context.Context, m *Manage, s access.Scope, p access.Permission, q store.Query, shelf func(store.Reader) store.Shelf[K, V]) (store.Page[V], error) {
	var page store.Page[V]
	q.Reach = s.Reach(p)
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		page, err = shelf(r).List(ctx, q)
		return err
	})
	return page, err
}

// named is list, of one name alone if one is asked for.
func named[K comparable, V any](ctx context.Context, m *Manage, s access.Scope, p access.Permission, q store.Query, title string, shelf func(store.Reader) store.Named[K, V]) (page store.Page[V], err error) {
	q.Reach = s.Reach(p)
	err = m.store.View(ctx, s, func(ctx context.Context, r store.Reader) (err error) {
		if title == "" {
			page, err = shelf(r).List(ctx, q)
		} else {
			page, err = shelf(r).Named(ctx, title, q)
		}
		return err
	})
	return page, err
}

func name(s string) error { return label.Check(s) }

// full is the answer of a tenant that has as many of a thing as it may.
func full(what string, limit, use int) error {
	if use < limit {
		return nil
	}
	return fault.New(fault.Conflict, "quota_exceeded", "The tenant has all the %s it may have. Remove some, or ask the platform's operator for more.", what).WithUse(int64(limit), int64(use))
}

// room is full of what is counted inside a change.
func room[K comparable, V any](ctx context.Context, what string, limit int, shelf store.Counted[K, V]) error {
	n, err := shelf.Count(ctx)
	if err != nil {
		return err
	}
	return full(what, limit, n)
}

// living refuses a node that is not there, or not any more, where something is to be put on it.
func living(ctx context.Context, r store.Reader, id ident.Node) error {
	n, err := r.Nodes().Get(ctx, id)
	if fault.Is(err, fault.NotFound) || (err == nil && n.Deleted()) {
		return fault.New(fault.Invalid, "unknown_node", "The node does not exist. Name a living node of this tenant.").WithField("/node_id", "no such node")
	}
	return err
}

// refer turns a missing record that an input refers to into the input's fault.
func refer(err error, field, what string) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Invalid, "unknown_reference", "The %s that the request refers to does not exist in this tenant.", what).WithField(field, "no such "+what)
	}
	return err
}

func num(n int) string { return strconv.Itoa(n) }
