package audittest

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Bug is a store in whose log something else arrives than the use case said, and what Check must find of it.
type Bug struct {
	Name    string
	Finding string // stands in a finding
	Plant   func(store.Store) store.Store
}

// Bugs are planted in a server to see that Check finds them.
func Bugs() []Bug {
	return []Bug{
		{"another action", "deleteDevice recorded device_updated", events(on(audit.DeviceDeleted, as(audit.DeviceUpdated)))},
		{"nothing that was declared", "updateNode declares node_barrier_changed", events(on(audit.NodeBarrier, as(audit.NodeUpdated)))},
		{"one event too many", "deleteRole recorded role_updated", events(func(es []audit.Event) []audit.Event {
			for _, e := range es {
				if e.Action == audit.RoleDeleted {
					e.Action = audit.RoleUpdated
					return append(es, e)
				}
			}
			return es
		})},
		{"the target is not told", "of which neither request nor answer speaks", events(on(audit.GroupUpdated, func(e *audit.Event) { e.Target.ID = "grp_06ethoo0000000000000000010" }))},
		{"as if it had failed", "as failure", events(on(audit.KeyRevoked, func(e *audit.Event) { e.Outcome = audit.Fail }))},
		{"a refusal as a success", "a refused", events(on(audit.AuthzFail, func(e *audit.Event) { e.Outcome = audit.OK }))},
		{"a failed sign-in as another", "a wrong password recorded", events(on(audit.LoginFail, as(audit.LoginLock)))},
		{"reuse goes unnoticed", "a refresh token used twice", events(on(audit.TokenReuse, as(audit.TokenRefresh)))},
		{"somebody else did it", "of the actor", scope(func(a *access.Actor, _ *access.Origin) { a.Kind, a.ID = access.Human, ident.Principal{1} })},
		{"nobody knows by what", "without the accessor", scope(func(a *access.Actor, _ *access.Origin) { a.Accessor = "" })},
		{"a repeat is not known", "inviteOwner repeated under its Idempotency-Key", func(s store.Store) store.Store { return forgetful{s} }},
		{"nobody knows in which request", "with the request id", scope(func(_ *access.Actor, o *access.Origin) { o.Request = ident.Request{} })},
	}
}

// Hourly is a store in which an hour is over with each change: a job then records what was counted meanwhile. None of it is a finding.
func Hourly(s store.Store) store.Store { return hourly{s} }

type hourly struct{ store.Store }

func (h hourly) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	var folded []audit.Event
	err := h.Store.Change(ctx, s, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		events, err := fn(ctx, w)
		folded = append(folded[:0], events...)
		return events, err
	})
	if err != nil || s.Actor().Kind == access.System || len(folded) == 0 {
		return err
	}
	e := audit.Event{ID: folded[0].ID, Action: audit.QuarantineFolded, Target: audit.Target{Kind: "quarantine", ID: "counted"}, Outcome: audit.OK, Reason: "folded", Count: 1}
	e.ID[len(e.ID)-1]++
	job := access.Grant(s.Tenant(), access.Actor{Kind: access.System, System: "jobs"}, access.Origin{}, access.Decision{Allowed: true}, nil, access.Subject{}, time.Time{})
	return h.Store.Change(ctx, job, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{e}, nil })
}

type liar struct {
	store.Store
	events func([]audit.Event) []audit.Event
	scope  func(access.Scope) access.Scope
}

func (l liar) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	return l.Store.Change(ctx, l.scope(s), func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		events, err := fn(ctx, w)
		return l.events(events), err
	})
}

func events(change func([]audit.Event) []audit.Event) func(store.Store) store.Store {
	return func(s store.Store) store.Store {
		return liar{s, change, func(s access.Scope) access.Scope { return s }}
	}
}

func scope(change func(*access.Actor, *access.Origin)) func(store.Store) store.Store {
	return func(s store.Store) store.Store {
		return liar{s, func(es []audit.Event) []audit.Event { return es }, func(s access.Scope) access.Scope {
			actor, origin := s.Actor(), s.Origin()
			change(&actor, &origin)
			return access.Grant(s.Tenant(), actor, origin, access.Decision{Allowed: true}, nil, access.Subject{}, time.Time{})
		}}
	}
}

func on(a audit.Action, change func(*audit.Event)) func([]audit.Event) []audit.Event {
	return func(es []audit.Event) []audit.Event {
		for i := range es {
			if es[i].Action == a {
				change(&es[i])
			}
		}
		return es
	}
}

func as(a audit.Action) func(*audit.Event) { return func(e *audit.Event) { e.Action = a } }

// forgetful keeps no Idempotency-Key.
type forgetful struct{ store.Store }

func (f forgetful) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	return f.Store.Change(ctx, s, func(ctx context.Context, w store.Writer) ([]audit.Event, error) { return fn(ctx, claimless{w}) })
}

type claimless struct{ store.Writer }

func (c claimless) Claims() store.Records[[32]byte, store.Claim] { return lost{c.Writer.Claims()} }

type lost struct {
	store.Records[[32]byte, store.Claim]
}

func (lost) Put(_ context.Context, c store.Claim) (store.Claim, error) { return c, nil }
