package manage

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/store"
)

func memberShelf(r store.Reader) store.Shelf[ident.Principal, principal.Member] { return r.Members() }

// Member answers one member of the tenant.
func (m *Manage) Member(ctx context.Context, s access.Scope, id ident.Principal) (principal.Member, error) {
	return get(ctx, m, s, memberShelf, id)
}

// Members lists the tenant's members, service accounts among them: all, or those that are named title.
func (m *Manage) Members(ctx context.Context, s access.Scope, q store.Query, title string) (store.Page[principal.Member], error) {
	return named(ctx, m, s, access.MemberRead, q, title, func(r store.Reader) store.Named[ident.Principal, principal.Member] { return r.Members() })
}

// RemoveMember takes a person out of the tenant: memberships, places in groups and tokens go with them. The person's own
// record forgets the tenant in the same transaction: by it others know whether they alone may reset the password.
func (m *Manage) RemoveMember(ctx context.Context, c *Call, id ident.Principal, rev uint64) error {
	of := c.Scope.Tenant()
	ps := m.enter.As(ident.Platform, c.Scope.Actor(), "remove member", c.Scope.Origin())
	left, err := m.enter.Event(ctx, ps, audit.MemberRemoved, enter.Target("user", id), audit.Set("from", of.String(), ""))
	if err != nil {
		return err
	}
	return m.store.Across(ctx, ps, c.Scope, func(ctx context.Context, p, w store.Writer) ([]audit.Event, []audit.Event, error) {
		was, err := w.Members().Get(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if was.Kind != principal.Human {
			return nil, nil, fault.New(fault.Conflict, "service_account", "This is a source's account. Delete the source instead.")
		}
		if err := w.Members().Delete(ctx, id, rev); err != nil {
			return nil, nil, err
		}
		if err := m.leave(ctx, w, c, id); err != nil {
			return nil, nil, err
		}
		person, err := p.Persons().Get(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		person.Tenants = slices.DeleteFunc(slices.Clone(person.Tenants), func(t ident.Tenant) bool { return t == of })
		person.UpdatedAt = m.now()
		if _, err := p.Persons().Put(ctx, person); err != nil {
			return nil, nil, err
		}
		c.Revision = w.Revision()
		removed, err := m.event(ctx, c, audit.MemberRemoved, enter.Target("member", id), audit.Set("name", was.Name, ""), audit.Set("email", was.Email, ""))
		return []audit.Event{left}, []audit.Event{removed}, err
	})
}

// leave takes away all that a member has in the tenant.
func (m *Manage) leave(ctx context.Context, w store.Writer, c *Call, id ident.Principal) error {
	ms, err := w.Read().Memberships().Of(ctx, id)
	if err != nil {
		return err
	}
	for _, one := range ms {
		if err := m.mayGrant(ctx, w, c, one, c.Scope.At()); err != nil {
			return err
		}
		if err := w.Memberships().Delete(ctx, one.ID, one.Rev); err != nil {
			return err
		}
	}
	if err := m.leaveGroups(ctx, w, c, id); err != nil {
		return err
	}
	tokens, err := w.Read().Tokens().Of(ctx, id)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if err := w.Tokens().Delete(ctx, t.ID, t.Rev); err != nil {
			return err
		}
	}
	return stillOwned(ctx, w)
}

// leaveGroups takes somebody out of every group, by the rule that holds for one.
func (m *Manage) leaveGroups(ctx context.Context, w store.Writer, c *Call, id ident.Principal) error {
	groups, err := everyGroup(ctx, w.Read())
	if err != nil {
		return err
	}
	var in []ident.Group
	for at, g := range groups {
		if slices.Contains(g.Members, id) {
			in = append(in, at)
		}
	}
	if err := m.mayGrantGroups(ctx, w, c, surrounding(groups, in...), true); err != nil {
		return err
	}
	for _, g := range groups {
		kept := make([]ident.Principal, 0, len(g.Members))
		for _, one := range g.Members {
			if one != id {
				kept = append(kept, one)
			}
		}
		if len(kept) == len(g.Members) {
			continue
		}
		g.Members, g.UpdatedAt = kept, m.now()
		if _, err := w.Groups().Put(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// Invite makes an invitation and answers the link's token, for its inviter to pass on. It says nothing about whether the
// address has an account.
func (m *Manage) Invite(ctx context.Context, c *Call, email string, role ident.Role, at ident.Node, recursive bool) (principal.Invitation, secret.Text, error) {
	address, err := principal.NormalizeEmail(email)
	if err != nil {
		return principal.Invitation{}, secret.Text{}, err
	}
	if err := c.Scope.Require(access.MemberInvite, at); err != nil {
		return principal.Invitation{}, secret.Text{}, refer(err, "/node_id", "node")
	}
	return m.invite(ctx, c, address, role, at, recursive, c.Scope.Actor().ID)
}

func (m *Manage) invite(ctx context.Context, c *Call, address string, role ident.Role, at ident.Node, recursive bool, inviter ident.Principal) (principal.Invitation, secret.Text, error) {
	whole, stored := m.enter.Issue(credential.KindInvite, credential.InviteLife)
	inv := principal.Invitation{
		Accessor: stored.Accessor, Verifier: stored.Verifier, KID: stored.KID, Email: address, Role: role, Node: at, Recursive: recursive,
		Inviter: inviter, ExpiresAt: stored.ExpiresAt, CreatedAt: stored.CreatedAt, UpdatedAt: stored.UpdatedAt,
	}
	ident.Fresh(m.enter.Mint, &inv.ID)
	ev, err := m.event(ctx, c, audit.MemberInvited, enter.Target("invitation", inv.ID, c.Scope.Path(at)...), audit.Set("email", "", address),
		audit.Set("role", "", role.String()), audit.Set("node", "", at.String()), audit.Set("recursive", "", strconv.FormatBool(recursive)))
	if err != nil {
		return inv, secret.Text{}, err
	}
	var made principal.Invitation
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		if !inviter.IsZero() {
			if err := m.mayGrant(ctx, w, c, access.Membership{Role: role, Node: at, Recursive: recursive}, time.Time{}); err != nil {
				return "", nil, err
			}
		}
		if err := living(ctx, w.Read(), at); err != nil {
			return "", nil, err
		}
		open, err := w.Read().Invitations().Count(ctx)
		if err != nil {
			return "", nil, err
		}
		if err := full("open invitations", c.limits.Invitations, open); err != nil {
			return "", nil, err
		}
		members, err := w.Read().Members().Count(ctx)
		if err != nil {
			return "", nil, err
		}
		if err := full("members", c.limits.Members, members+open); err != nil { // who is invited may come at any time
			return "", nil, err
		}
		made, err = w.Invitations().Put(ctx, inv)
		return inv.ID.String(), []audit.Event{ev}, err
	})
	return made, whole, err
}

func invitationShelf(r store.Reader) store.Shelf[ident.Link, principal.Invitation] {
	return r.Invitations()
}

// Invitation answers one open invitation.
func (m *Manage) Invitation(ctx context.Context, s access.Scope, id ident.Link) (principal.Invitation, error) {
	inv, err := get(ctx, m, s, invitationShelf, id)
	if err == nil {
		err = s.Require(access.MemberRead, inv.Node)
	}
	return inv, err
}

// Invitations lists the open invitations.
func (m *Manage) Invitations(ctx context.Context, s access.Scope, q store.Query) (store.Page[principal.Invitation], error) {
	return list(ctx, m, s, access.MemberRead, q, invitationShelf)
}

// RevokeInvitation takes an open invitation back.
func (m *Manage) RevokeInvitation(ctx context.Context, c *Call, id ident.Link, rev uint64) error {
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		inv, err := w.Invitations().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := c.Scope.Require(access.MemberInvite, inv.Node); err != nil {
			return nil, err
		}
		if err := w.Invitations().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.InvitationRevoked, enter.Target("invitation", id, c.Scope.Path(inv.Node)...), audit.Set("email", inv.Email, "")))
	})
}

// mayGrant is the rule that nobody grants what they lack: whoever grants, or takes away, a role at a node holds
// membership:grant (or ownership:grant for a role that holds it) and every permission of the role there, with the same
// reach and until the same moment; the zero time is forever.
func (m *Manage) mayGrant(ctx context.Context, w store.Writer, c *Call, given access.Membership, until time.Time) error {
	records := access.Records{Platform: c.Scope.Tenant() == ident.Platform}
	if _, ok := access.BuiltIn(given.Role); !ok {
		own, err := w.Roles().Get(ctx, given.Role)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		records.Roles = []access.Role{own}
	}
	set := access.PermissionsOf(records, given.Role)
	if set.IsEmpty() || set.Has(access.UplinkSubmit) {
		return fault.New(fault.Invalid, "unknown_role", "There is no such role to grant. List the roles of this tenant.").WithField("/role_id", "no such role")
	}
	return m.holds(c, set, given.Node, given.Recursive, until)
}

// holds checks a set of permissions against what the caller holds at a node, by the snapshot that let them in (a change of
// rights meanwhile makes the whole change stale).
func (m *Manage) holds(c *Call, set access.Set, at ident.Node, recursive bool, until time.Time) error {
	p := c.Scope.Policy()
	if p == nil {
		return fault.Missing()
	}
	need := access.MembershipGrant
	if c.Scope.Tenant() == ident.Platform {
		need = access.PlatformRoleGrant
	}
	lacks := func(held access.Set) (access.Permission, bool) {
		missing := set.Less(held)
		switch {
		case !held.Has(need):
			return need, true
		case missing.Has(access.OwnershipGrant):
			return access.OwnershipGrant, true
		case !missing.IsEmpty():
			return missing.List()[0], true
		}
		return 0, false
	}
	if lacked, ok := lacks(p.Held(c.Scope.Subject(), at, recursive, c.Scope.At())); ok {
		return access.Refuse(lacked)
	}
	if lacked, ok := lacks(p.HeldUntil(c.Scope.Subject(), at, recursive, c.Scope.At(), until)); ok {
		return fault.New(fault.Denied, "grant_outlives", "You hold the permission %s here for a time, and cannot give it for longer. Let the grant end when yours does, or sooner.", lacked).WithPermission(lacked.String())
	}
	return nil
}

func membershipShelf(r store.Reader) store.Shelf[ident.Membership, access.Membership] {
	return r.Memberships()
}

// Membership answers one membership.
func (m *Manage) Membership(ctx context.Context, s access.Scope, id ident.Membership) (access.Membership, error) {
	one, err := get(ctx, m, s, membershipShelf, id)
	if err == nil {
		err = s.Require(access.MembershipRead, one.Node)
	}
	return one, err
}

// Memberships lists the memberships within reach.
func (m *Manage) Memberships(ctx context.Context, s access.Scope, q store.Query) (store.Page[access.Membership], error) {
	return list(ctx, m, s, access.MembershipRead, q, membershipShelf)
}

// Grant gives a member or a group a role at a node.
func (m *Manage) Grant(ctx context.Context, c *Call, in access.Membership) (access.Membership, error) {
	if in.Principal.IsZero() == in.Group.IsZero() {
		return access.Membership{}, fault.New(fault.Invalid, "bad_membership", "A membership is for a member or for a group, and not for both.").WithField("/principal_id", "either this or group_id")
	}
	if !in.ExpiresAt.IsZero() && !in.ExpiresAt.After(m.now()) {
		return access.Membership{}, fault.New(fault.Invalid, "bad_expiry", "A membership expires in the future, or never.").WithField("/expires_at", "in the past")
	}
	if err := c.Scope.Require(access.MembershipGrant, in.Node); err != nil {
		return access.Membership{}, refer(err, "/node_id", "node")
	}
	now := m.now()
	in.CreatedAt, in.UpdatedAt, in.ExpiresAt = now, now, in.ExpiresAt.UTC().Truncate(time.Microsecond)
	ident.Fresh(m.enter.Mint, &in.ID)
	ev, err := m.event(ctx, c, audit.MembershipGranted, enter.Target("membership", in.ID, c.Scope.Path(in.Node)...), membershipChanges(in, true)...)
	if err != nil {
		return access.Membership{}, err
	}
	var made access.Membership
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		if err := m.mayGrant(ctx, w, c, in, in.ExpiresAt); err != nil {
			return "", nil, err
		}
		if err := living(ctx, w.Read(), in.Node); err != nil {
			return "", nil, err
		}
		if in.Group.IsZero() {
			who, err := w.Members().Get(ctx, in.Principal)
			if err == nil && who.Kind != principal.Human {
				err = fault.Missing()
			}
			if err != nil {
				return "", nil, refer(err, "/principal_id", "member")
			}
		} else if _, err := w.Groups().Get(ctx, in.Group); err != nil {
			return "", nil, refer(err, "/group_id", "group")
		}
		if err := room(ctx, "memberships", c.limits.Memberships, w.Read().Memberships()); err != nil {
			return "", nil, err
		}
		var err error
		made, err = w.Memberships().Put(ctx, in)
		return in.ID.String(), []audit.Event{ev}, err
	})
	return made, err
}

func membershipChanges(in access.Membership, granted bool) []audit.Change {
	set := func(field, value string) audit.Change {
		if granted {
			return audit.Set(field, "", value)
		}
		return audit.Set(field, value, "")
	}
	expires := ""
	if !in.ExpiresAt.IsZero() {
		expires = in.ExpiresAt.Format(time.RFC3339)
	}
	return []audit.Change{
		set("principal", in.Principal.String()), set("group", in.Group.String()), set("role", in.Role.String()), set("node", in.Node.String()),
		set("recursive", strconv.FormatBool(in.Recursive)), set("expires_at", expires),
	}
}

// Revoke takes a membership away. The last owner's stays.
func (m *Manage) Revoke(ctx context.Context, c *Call, id ident.Membership, rev uint64) error {
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		was, err := w.Memberships().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := c.Scope.Require(access.MembershipRevoke, was.Node); err != nil {
			return nil, err
		}
		if was.Role == access.SourceAccount {
			return nil, fault.New(fault.Conflict, "service_account", "This is a source's own membership. Delete the source instead.")
		}
		records, err := w.Read().Policy(ctx)
		if err != nil {
			return nil, err
		}
		if access.PermissionsOf(records, was.Role).Has(access.OwnershipGrant) {
			if err := c.Scope.Require(access.OwnershipGrant, was.Node); err != nil {
				return nil, access.Refuse(access.OwnershipGrant)
			}
		}
		if err := w.Memberships().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		if err := stillOwned(ctx, w); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.MembershipRevoked, enter.Target("membership", id, c.Scope.Path(was.Node)...), membershipChanges(was, false)...))
	})
}
