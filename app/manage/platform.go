package manage

import (
	"context"
	"errors"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// Granted is what a tenant may use: what the platform granted it, and what holds.
type Granted struct {
	store.Limits               // zero fields are the server's settings
	Effective    tenant.Limits // none is zero
}

// Limits answers what a tenant of the register may use.
func (m *Manage) Limits(ctx context.Context, s access.Scope, id ident.Tenant) (Granted, error) {
	var g Granted
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		g, err = m.granted(ctx, r.Tenants(), r.Limits(), id)
		return err
	})
	return g, err
}

func (m *Manage) granted(ctx context.Context, register store.Shelf[ident.Tenant, tenant.Tenant], limits store.Shelf[ident.Tenant, store.Limits], id ident.Tenant) (Granted, error) {
	t, err := register.Get(ctx, id)
	if err != nil || id == ident.Platform {
		return Granted{}, fault.Missing()
	}
	l, err := limits.Get(ctx, id)
	if fault.Is(err, fault.NotFound) { // nothing was ever granted
		l, err = store.Limits{ID: id, CreatedAt: t.CreatedAt, UpdatedAt: t.CreatedAt}, nil
	}
	return Granted{Limits: l, Effective: l.Over(m.limits)}, err
}

// SetLimits changes what a tenant may use: set is given what was granted before. It is the platform's record, and stands in the
// tenant's log too: by that, every process learns that what it remembers of the tenant is out of date, this one before the answer
// and the others as soon as of any change of the tenant's.
func (m *Manage) SetLimits(ctx context.Context, c *Call, id ident.Tenant, rev uint64, set func(*tenant.Limits)) (Granted, error) {
	if _, err := m.Limits(ctx, c.Scope, id); err != nil {
		return Granted{}, err // before a tenant that is none is asked
	}
	ts := m.enter.As(id, c.Scope.Actor(), "set limits", c.Scope.Origin().Abroad())
	var out Granted
	err := m.store.Across(ctx, c.Scope, ts, func(ctx context.Context, p, _ store.Writer) (pe, te []audit.Event, err error) {
		was, err := m.granted(ctx, p.Tenants(), p.Limits(), id)
		if err == nil && was.Rev != rev {
			err = store.ErrRevision
		}
		if err != nil {
			return nil, nil, err
		}
		next := was.Limits
		set(&next.Limits)
		if err := next.Check(); err != nil {
			return nil, nil, err
		}
		if next.Limits == was.Limits.Limits {
			out = was
			return nil, nil, errUnchanged
		}
		next.UpdatedAt = m.now()
		if next, err = p.Limits().Put(ctx, next); err != nil {
			return nil, nil, err
		}
		out, c.Revision = Granted{Limits: next, Effective: next.Over(m.limits)}, p.Revision()
		target, changes := enter.Target("tenant", id), limitChanges(was.Limits.Limits, next.Limits)
		if pe, err = one(m.event(ctx, c, audit.LimitsChanged, target, changes...)); err != nil {
			return nil, nil, err
		}
		te, err = one(m.enter.Event(ctx, ts, audit.LimitsChanged, target, changes...))
		return pe, te, err
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return out, err
}

// limitChanges names each limit that changed.
func limitChanges(was, is tenant.Limits) []audit.Change {
	before, after := was.Diff(is)
	changes := make([]audit.Change, len(before))
	for i := range changes {
		changes[i] = audit.Set("limit", before[i], after[i])
	}
	return changes
}

// PlatformMembership answers one membership of the platform's.
func (m *Manage) PlatformMembership(ctx context.Context, s access.Scope, id ident.Membership) (access.Membership, error) {
	return get(ctx, m, s, membershipShelf, id)
}

// PlatformMemberships lists who administers the platform.
func (m *Manage) PlatformMemberships(ctx context.Context, s access.Scope, q store.Query) (store.Page[access.Membership], error) {
	return list(ctx, m, s, access.PlatformRoleRead, q, membershipShelf)
}

// GrantPlatform makes a person of the platform one of its administrators, until a moment or for good.
func (m *Manage) GrantPlatform(ctx context.Context, c *Call, to ident.Principal, expires time.Time) (access.Membership, error) {
	in := access.Membership{Principal: to, Role: access.PlatformAdmin, Node: c.Scope.Policy().Root(), Recursive: true, ExpiresAt: expires.UTC().Truncate(time.Microsecond)}
	if !expires.IsZero() && !expires.After(m.now()) {
		return in, fault.New(fault.Invalid, "bad_expiry", "A membership expires in the future, or never.").WithField("/expires_at", "in the past")
	}
	err := m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		if err := m.mayGrant(ctx, w, c, in, in.ExpiresAt); err != nil {
			return "", nil, err
		}
		p, err := w.Persons().Get(ctx, to)
		if err == nil && p.Disabled() {
			err = fault.Missing()
		}
		if err != nil {
			return "", nil, refer(err, "/principal_id", "person")
		}
		held, err := w.Read().Memberships().Of(ctx, to)
		if err != nil {
			return "", nil, err
		}
		if len(held) > 0 {
			return "", nil, fault.New(fault.Conflict, "taken", "The person administers the platform already. Revoke that membership first.").WithField("/principal_id", "has one")
		}
		if in, err = m.enter.Join(ctx, w, p, p.Email, in); err != nil {
			return "", nil, err
		}
		links, err := w.Read().Links().Of(ctx, to)
		if err != nil {
			return "", nil, err
		}
		for _, l := range links { // a tenant's reset link must not open the platform
			if !l.Only.IsZero() {
				if err := w.Links().Delete(ctx, l.ID, l.Rev); err != nil {
					return "", nil, err
				}
			}
		}
		ev, err := one(m.event(ctx, c, audit.MembershipGranted, enter.Target("membership", in.ID), membershipChanges(in, true)...))
		return in.ID.String(), ev, err
	})
	return in, err
}

// RevokePlatform takes a platform role away, with the place that came with it. The last administrator's that does not expire
// stays.
func (m *Manage) RevokePlatform(ctx context.Context, c *Call, id ident.Membership, rev uint64) error {
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		was, err := w.Memberships().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := w.Memberships().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		if err := stillRun(ctx, w); err != nil {
			return nil, err
		}
		member, err := w.Members().Get(ctx, was.Principal)
		if err == nil {
			err = w.Members().Delete(ctx, member.ID, member.Rev)
		}
		if err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.MembershipRevoked, enter.Target("membership", id), membershipChanges(was, false)...))
	})
}

// stillRun refuses what would leave the platform without an administrator who can sign in and stays one.
func stillRun(ctx context.Context, w store.Writer) error {
	left, err := w.Read().Memberships().OfRole(ctx, access.PlatformAdmin)
	if err != nil {
		return err
	}
	for _, one := range left {
		p, err := w.Persons().Get(ctx, one.Principal)
		if err != nil {
			return err
		}
		if one.ExpiresAt.IsZero() && !p.Disabled() {
			return nil
		}
	}
	return fault.New(fault.Conflict, "last_owner", "This would leave the platform without an administrator. Make somebody else one first.")
}

// stillRunWithout is the same for a person who was disabled: of those who are no administrators nothing depends.
func stillRunWithout(ctx context.Context, w store.Writer, id ident.Principal) error {
	held, err := w.Read().Memberships().Of(ctx, id)
	if err != nil || len(held) == 0 {
		return err
	}
	return stillRun(ctx, w)
}

// InviteOwner makes a new invitation for a tenant's first owner and voids the ones before, while nobody owns the tenant: the
// platform has no other way into it. A repeated request answers the invitation without its token.
func (m *Manage) InviteOwner(ctx context.Context, c *Call, id ident.Tenant, owner string) (principal.Invitation, secret.Text, error) {
	address, err := principal.NormalizeEmail(owner)
	if err != nil {
		return principal.Invitation{}, secret.Text{}, err
	}
	if _, err := m.PlatformTenant(ctx, c.Scope, id); err != nil {
		return principal.Invitation{}, secret.Text{}, err
	}
	in := Call{Scope: m.enter.As(id, c.Scope.Actor(), "invite owner", c.Scope.Origin().Abroad()), Once: c.Once}
	whole, inv := m.firstOwner(address)
	ev, err := m.enter.Event(ctx, in.Scope, audit.MemberInvited, enter.Target("invitation", inv.ID), audit.Set("email", "", address), audit.Set("role", "", inv.Role.String()))
	if err != nil {
		return inv, secret.Text{}, err
	}
	made := inv
	err = m.create(ctx, &in, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		t, err := w.Tenants().Get(ctx, id)
		if err != nil {
			return "", nil, err
		}
		if t.State != tenant.Active {
			return "", nil, fault.New(fault.Conflict, "tenant_state", "The tenant is %s; this change does not apply to it.", t.State)
		}
		records, err := w.Read().Policy(ctx)
		if err != nil {
			return "", nil, err
		}
		if access.Owners(records) > 0 {
			return "", nil, fault.New(fault.Conflict, "has_owner", "The tenant has an owner, who alone decides who comes in. Ask them for an invitation.")
		}
		open, err := w.Invitations().List(ctx, store.Query{Reach: access.Everywhere}) // without an owner nobody invites but the platform
		if err != nil {
			return "", nil, err
		}
		for _, old := range open.Items {
			if err := w.Invitations().Delete(ctx, old.ID, old.Rev); err != nil {
				return "", nil, err
			}
		}
		fresh := inv
		fresh.Node = t.Root
		made, err = w.Invitations().Put(ctx, fresh)
		return inv.ID.String(), []audit.Event{ev}, err
	})
	c.Revision = in.Revision
	var replay *enter.Replay
	if errors.As(err, &replay) {
		whole = secret.Text{}
		var link ident.Link
		if err = link.UnmarshalText([]byte(replay.Object)); err == nil {
			made, err = get(ctx, m, in.Scope, invitationShelf, link)
		}
	}
	return made, whole, err
}
