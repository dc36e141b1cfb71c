// Package store says what Ringfence wants of whatever keeps its records. It is where tenancy is enforced by shape: a
// tenant's data is reachable only through Reader, Writer and Flow, none of their methods takes a tenant, and they are had
// only with a Scope. An adapter that fills this port is proved by testkit/storetest.
package store

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// Store keeps everything, each tenant's records apart.
//
// Every method must:
//   - refuse the zero Scope with ErrScope, before anything is read;
//   - refuse to be called from within an fn (Inside(ctx)) with ErrNested;
//   - hand fn a context made by Enter, and a handle that is dead once fn has returned (ErrDead);
//   - read and write records of the Scope's tenant alone, whatever ids it is asked for: another tenant's thing is
//     fault.Missing(), byte for byte like a missing one;
//   - run fn once or more: fn has no effect but through its handle, and only the last run counts;
//   - leave nothing behind if fn returns an error or panics, or if the context ends before fn has returned; the error comes
//     back as it is, a panic as a fault of kind Internal;
//   - answer a fault of kind Unavailable if the store cannot be reached or is out of space, and leave nothing behind;
//   - return nil only when what was written is durable.
type Store interface {
	// View runs fn on one snapshot: nothing that is committed meanwhile is seen. It must refuse with ErrStale, before fn runs, a
	// Scope whose revision is not zero and older than the last one in the snapshot that may have narrowed a decision, whichever
	// process made it, and tell Revised the tenant, with revision 0, before it returns: a right that was taken is gone at the next
	// request everywhere.
	View(ctx context.Context, s access.Scope, fn func(context.Context, Reader) error) error

	// Change runs fn and appends the events it returns to the tenant's audit tree, in one transaction.
	//
	// It must:
	//   - lock the tenant's audit head first: changes of one tenant are serial;
	//   - refuse with ErrStale, before fn runs, a Scope whose revision is not zero and older than the last one that may have
	//     narrowed a decision, and tell Revised the tenant, with revision 0, before it returns;
	//   - refuse with ErrUnaudited a change that returns no event, whether or not it wrote anything;
	//   - refuse with ErrDenied a Scope that is not Allowed, unless fn writes nothing but its events;
	//   - bump the tenant's policy revision once if fn wrote a node, role, group, membership, member, tenant or mapping; unless all
	//     that it wrote of these but memberships are new ones, or tenants but its own, the new revision may have narrowed decisions;
	//   - after COMMIT, and before it returns, tell Revised the tenant and its revision, bumped or not;
	//   - call audit.Append with the head, the events, the Scope's context and the clock, and keep what comes back.
	Change(ctx context.Context, s access.Scope, fn func(context.Context, Writer) ([]audit.Event, error)) error

	// Ingest runs fn on what is written without an audit entry: uplinks and what becomes of them, last-used times,
	// counters, checkpoints, expiry. The list is closed: it is Flow.
	Ingest(ctx context.Context, s access.Scope, fn func(context.Context, Flow) error) error

	// IngestBatch writes what became of events of several tenants that were accepted on a bus: data instead of an fn, so that
	// many tenants' can share a round trip. It answers one error a part, in their order.
	//
	// It must:
	//   - keep of each part all or nothing: one that fails harms no other, and fails alone. One that would fail for ever, since an
	//     id in it is taken or a text is none, is a fault of kind Invalid;
	//   - write parts of one tenant in their order, each row after the rows before it, as Part says;
	//   - refuse with ErrStale a part of which anything in Seen is otherwise by now, and tell Revised the tenant, with revision 0.
	//     Once a Change of what was seen has returned, nothing is written any more that was decided from how it was before: a
	//     part waits for Changes of its tenant that are under way, and their fn run after the parts that are;
	//   - where other tenants' parts can be written meanwhile, keep nobody waiting who did not ask for it: refuse with ErrBusy each
	//     part that would have to wait, and those of its tenant behind it, unless all parts of the batch say Wait;
	//   - refuse a part of more than MaxRows, or each part if there are more than MaxParts (fault Invalid).
	IngestBatch(ctx context.Context, parts []Part) []error

	// Across is one transaction over the platform and one tenant, the platform's head locked first. Events are required in
	// both trees. It is for setup, a tenant's lifecycle, members who come and go, a tenant's reset links, and what
	// a connection of the operator's brings it, alone (held by archtest).
	// The tenant may be new: its tree begins with these events.
	Across(ctx context.Context, platform, tenant access.Scope, fn func(ctx context.Context, p, t Writer) (pe, te []audit.Event, err error)) error

	// Directory answers what must be asked before a tenant is known.
	Directory() Directory

	// Close waits for what is under way and releases the store. Calls after it answer ErrClosed.
	Close() error
}

// Errors of every adapter.
var (
	ErrScope     = fault.New(fault.Internal, "no_scope", "A store was used without a scope.")
	ErrNested    = fault.New(fault.Internal, "nested_store_call", "A store was used inside a store's own function.")
	ErrDead      = fault.New(fault.Internal, "dead_handle", "A store's handle was used after its function had returned.")
	ErrUnaudited = fault.New(fault.Internal, "unaudited_change", "A change declared no audit event.")
	ErrDenied    = fault.New(fault.Internal, "denied_scope", "A change was tried with the scope of a refusal.")
	ErrStale     = fault.New(fault.Conflict, "stale_policy", "Rights in this tenant changed while the request was decided. Repeat the request.").WithRetry(time.Second)
	ErrBusy      = fault.New(fault.Unavailable, "tenant_busy", "This tenant's records are being changed. Try again.").WithRetry(time.Second)
	ErrClosed    = fault.New(fault.Unavailable, "store_closed", "The store is closed. Try again when the server is back.")
	ErrRevision  = fault.Stale()
	ErrCursor    = fault.New(fault.Invalid, "bad_cursor", "The cursor is not one that this list gave out. Start the list again without it.")
)

// Revised is told after every committed Change and Across, and after every one, every View and every part of a batch that was refused as
// stale, that a tenant's records changed and that its policy revision is now at least the one given: caches of policies and
// credentials live by it. The zero tenant means that any tenant's may have changed, by another process on the same data, noticed
// within a second. It must return quickly and not call the store. An adapter's constructor takes it; nil is nobody.
type Revised func(tenant ident.Tenant, revision uint64)

type insideKey struct{}

// Enter marks a context as being inside a store's function.
func Enter(ctx context.Context) context.Context { return context.WithValue(ctx, insideKey{}, true) }

// Inside reports whether a context is marked by Enter.
func Inside(ctx context.Context) bool { return ctx.Value(insideKey{}) != nil }
