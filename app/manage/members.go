package manage

import (
	"context"
	"maps"
	"slices"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Held is one membership of the caller's, with what it takes to show it.
type Held struct {
	access.Membership
	Tenant   ident.Tenant
	RoleName string
}

// MyMemberships answers what the caller holds in the scope's tenant, by itself and by groups, as it is now. It takes no
// permission: it says nothing of others.
func (m *Manage) MyMemberships(ctx context.Context, s access.Scope) ([]Held, error) {
	var out []Held
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		out = nil
		held, err := r.Memberships().Of(ctx, s.Actor().ID)
		if err != nil {
			return err
		}
		groups, err := groupsOf(ctx, r, s.Actor().ID)
		if err != nil {
			return err
		}
		for _, g := range groups {
			of, err := r.Memberships().OfGroup(ctx, g)
			if err != nil {
				return err
			}
			held = append(held, of...)
		}
		for _, h := range held {
			if !h.Live(m.now()) {
				continue
			}
			role, ok := access.BuiltIn(h.Role)
			if !ok {
				if role, err = r.Roles().Get(ctx, h.Role); err != nil && !fault.Is(err, fault.NotFound) {
					return err
				}
			}
			out = append(out, Held{Membership: h, Tenant: s.Tenant(), RoleName: role.Name})
		}
		return nil
	})
	return out, err
}

// groupsOf are the groups that a principal is in, and those that these are in.
func groupsOf(ctx context.Context, r store.Reader, who ident.Principal) ([]ident.Group, error) {
	all, err := everyGroup(ctx, r)
	if err != nil {
		return nil, err
	}
	var own []ident.Group
	for id, g := range all {
		if slices.Contains(g.Members, who) {
			own = append(own, id)
		}
	}
	in := slices.SortedFunc(maps.Keys(surrounding(all, own...)), func(a, b ident.Group) int { return b.Compare(a) }) // newest first
	return in, nil
}
