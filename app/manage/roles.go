package manage

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/ports/store"
)

func roleShelf(r store.Reader) store.Shelf[ident.Role, access.Role] { return r.Roles() }

// Role answers a role, built in or the tenant's own.
func (m *Manage) Role(ctx context.Context, s access.Scope, id ident.Role) (access.Role, error) {
	if r, ok := access.BuiltIn(id); ok && id != access.PlatformAdmin {
		return r, nil
	}
	return get(ctx, m, s, roleShelf, id)
}

// Roles lists the built-in roles, and behind them the tenant's own. A page that ends among the built-in ones goes on behind the
// role whose id is its cursor: the store's cursors are no ids.
func (m *Manage) Roles(ctx context.Context, s access.Scope, q store.Query, title string) (store.Page[access.Role], error) {
	first := slices.DeleteFunc(access.BuiltIns(), func(r access.Role) bool {
		return r.ID == access.PlatformAdmin || r.ID == access.SourceAccount || title != "" && r.Name != title
	})
	if at := slices.IndexFunc(first, func(r access.Role) bool { return r.ID.String() == q.After }); at >= 0 {
		first, q.After = first[at+1:], ""
	} else if q.After != "" {
		first = nil
	}
	limit := q.Limit
	if limit <= 0 || limit > store.MaxPage {
		limit = store.MaxPage
	}
	q.Limit = max(limit-len(first), 1) // one more tells whether there is a next page
	page, err := named(ctx, m, s, access.RoleRead, q, title, func(r store.Reader) store.Named[ident.Role, access.Role] { return r.Roles() })
	if err != nil {
		return page, err
	}
	page.Items = slices.Concat(first, page.Items)
	if len(page.Items) > limit {
		page.Items = page.Items[:limit]
		page.Next = page.Items[limit-1].ID.String()
	}
	return page, nil
}

// mayDefine is the rule for custom roles: nobody puts into a role what they do not hold at the root, and what belongs to the
// platform or to sources is in none.
func (m *Manage) mayDefine(c *Call, set access.Set) error {
	for _, p := range set.List() {
		if p.OfPlatform() || p == access.UplinkSubmit {
			return fault.New(fault.Invalid, "not_for_roles", "The permission %s stands in no role of a tenant's.", p).WithField("/permissions", "not for roles")
		}
	}
	if set.IsEmpty() {
		return fault.New(fault.Invalid, "empty_role", "A role holds at least one permission.").WithField("/permissions", "empty")
	}
	policy := c.Scope.Policy()
	held := policy.Held(c.Scope.Subject(), policy.Root(), true, c.Scope.At())
	if missing := set.Less(held); !missing.IsEmpty() {
		return access.Refuse(missing.List()[0])
	}
	return nil
}

func permissionNames(set access.Set) string {
	var names []string
	for _, p := range set.List() {
		names = append(names, p.String())
	}
	return strings.Join(names, " ")
}

// CreateRole adds a role of the tenant's own.
func (m *Manage) CreateRole(ctx context.Context, c *Call, title string, set access.Set) (access.Role, error) {
	if err := name(title); err != nil {
		return access.Role{}, err
	}
	if err := m.mayDefine(c, set); err != nil {
		return access.Role{}, err
	}
	now := m.now()
	fresh := access.Role{Name: title, Permissions: set, CreatedAt: now, UpdatedAt: now}
	ident.Fresh(m.enter.Mint, &fresh.ID)
	ev, err := m.event(ctx, c, audit.RoleCreated, enter.Target("role", fresh.ID), audit.Set("name", "", title), audit.Set("permissions", "", permissionNames(set)))
	if err != nil {
		return access.Role{}, err
	}
	var made access.Role
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		if err := room(ctx, "roles", c.limits.Roles, w.Read().Roles()); err != nil {
			return "", nil, err
		}
		var err error
		made, err = w.Roles().Put(ctx, fresh)
		return fresh.ID.String(), []audit.Event{ev}, err
	})
	return made, err
}

// UpdateRole changes a role's name or permissions. Whoever does holds both the old and the new ones, or could raise others
// through a role, or take from them what they could not grant.
func (m *Manage) UpdateRole(ctx context.Context, c *Call, id ident.Role, rev uint64, title *string, set *access.Set) (access.Role, error) {
	if _, ok := access.BuiltIn(id); ok {
		return access.Role{}, fault.New(fault.Conflict, "built_in_role", "Built-in roles are not changed. Create a role of your own.")
	}
	var out access.Role
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		r, err := w.Roles().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if r.Rev != rev {
			return nil, store.ErrRevision
		}
		was := r
		if title != nil {
			if err := name(*title); err != nil {
				return nil, err
			}
			r.Name = *title
		}
		if set != nil {
			if err := m.mayDefine(c, was.Permissions.Union(*set)); err != nil {
				return nil, err
			}
			if set.IsEmpty() {
				return nil, fault.New(fault.Invalid, "empty_role", "A role holds at least one permission.").WithField("/permissions", "empty")
			}
			if err := m.mayRaise(ctx, w, c, id, was.Permissions.Union(*set)); err != nil {
				return nil, err
			}
			r.Permissions = *set
		}
		if r == was {
			out = was
			return nil, errUnchanged
		}
		r.UpdatedAt = m.now()
		if out, err = w.Roles().Put(ctx, r); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.RoleUpdated, enter.Target("role", id), audit.Set("name", was.Name, r.Name),
			audit.Set("permissions", permissionNames(was.Permissions), permissionNames(r.Permissions))))
	})
	return out, err
}

// mayRaise checks the caller wherever a role is given or promised: changing it gives and takes there, behind barriers too.
func (m *Manage) mayRaise(ctx context.Context, w store.Writer, c *Call, id ident.Role, set access.Set) error {
	ms, err := w.Read().Memberships().OfRole(ctx, id)
	if err != nil {
		return err
	}
	for _, one := range ms {
		if one.ExpiresAt.IsZero() || one.ExpiresAt.After(c.Scope.At()) {
			if err := m.holds(c, set, one.Node, one.Recursive, one.ExpiresAt); err != nil {
				return err
			}
		}
	}
	promised, err := m.promised(ctx, w, id)
	if err != nil {
		return err
	}
	for _, inv := range promised {
		if err := m.holds(c, set, inv.Node, inv.Recursive, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// promised are the open invitations that name a role.
func (m *Manage) promised(ctx context.Context, w store.Writer, id ident.Role) (open []principal.Invitation, err error) {
	for q := (store.Query{Reach: access.Everywhere}); ; {
		page, err := w.Read().Invitations().List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, inv := range page.Items {
			if inv.Role == id && inv.ExpiresAt.After(m.now()) {
				open = append(open, inv)
			}
		}
		if page.Next == "" {
			return open, nil
		}
		q.After = page.Next
	}
}

// DeleteRole removes a role that no membership and no open invitation names.
func (m *Manage) DeleteRole(ctx context.Context, c *Call, id ident.Role, rev uint64) error {
	if _, ok := access.BuiltIn(id); ok {
		return fault.New(fault.Conflict, "built_in_role", "Built-in roles are not deleted.")
	}
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		was, err := w.Roles().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		ms, err := w.Read().Memberships().OfRole(ctx, id)
		if err != nil {
			return nil, err
		}
		promised, err := m.promised(ctx, w, id)
		if err != nil {
			return nil, err
		}
		if len(ms) > 0 || len(promised) > 0 {
			return nil, fault.New(fault.Conflict, "role_in_use", "Memberships or open invitations give this role. Revoke them first.")
		}
		if err := w.Roles().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.RoleDeleted, enter.Target("role", id), audit.Set("name", was.Name, ""), audit.Set("permissions", permissionNames(was.Permissions), "")))
	})
}

func groupShelf(r store.Reader) store.Shelf[ident.Group, access.Group] { return r.Groups() }

// Group answers one group.
func (m *Manage) Group(ctx context.Context, s access.Scope, id ident.Group) (access.Group, error) {
	return get(ctx, m, s, groupShelf, id)
}

// Groups lists the groups: all, or those that are named title.
func (m *Manage) Groups(ctx context.Context, s access.Scope, q store.Query, title string) (store.Page[access.Group], error) {
	return named(ctx, m, s, access.GroupRead, q, title, func(r store.Reader) store.Named[ident.Group, access.Group] { return r.Groups() })
}

// GroupPatch is what may be set of a group; nil leaves a part as it is.
type GroupPatch struct {
	Name    *string
	Members *[]ident.Principal
	Groups  *[]ident.Group
}

// maxGroupSize bounds a group's own lists.
const maxGroupSize = 5_000

// PutGroup creates a group (zero id) or changes one. Putting somebody into a group, or a group into another, grants what the
// group was given, so it takes the right to grant that; so does taking them out.
func (m *Manage) PutGroup(ctx context.Context, c *Call, id ident.Group, rev uint64, p GroupPatch) (access.Group, error) {
	var out access.Group
	now := m.now()
	fresh := id
	action := audit.GroupUpdated
	if id.IsZero() {
		ident.Fresh(m.enter.Mint, &fresh)
		action = audit.GroupCreated
	}
	write := func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		g := access.Group{ID: fresh, CreatedAt: now}
		if !id.IsZero() {
			var err error
			if g, err = w.Groups().Get(ctx, id); err != nil {
				return "", nil, err
			}
			if g.Rev != rev {
				return "", nil, store.ErrRevision
			}
		}
		was := g
		if p.Name != nil {
			g.Name = *p.Name
		}
		if p.Members != nil {
			g.Members = *p.Members
		}
		if p.Groups != nil {
			g.Groups = *p.Groups
		}
		if err := m.checkGroup(ctx, w, c, was, g); err != nil {
			return "", nil, err
		}
		if !id.IsZero() && g.Name == was.Name && slices.Equal(g.Members, was.Members) && slices.Equal(g.Groups, was.Groups) {
			out = was
			return "", nil, errUnchanged
		}
		g.UpdatedAt = now
		var err error
		if out, err = w.Groups().Put(ctx, g); err != nil {
			return "", nil, err
		}
		ev, err := one(m.event(ctx, c, action, enter.Target("group", fresh), audit.Set("name", was.Name, g.Name),
			audit.Set("members", ids(was.Members), ids(g.Members)), audit.Set("groups", ids(was.Groups), ids(g.Groups))))
		return fresh.String(), ev, err
	}
	if id.IsZero() {
		return out, m.create(ctx, c, write)
	}
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		_, ev, err := write(ctx, w)
		return ev, err
	})
	return out, err
}

func ids[K ident.Kind](list []ident.ID[K]) string {
	words := make([]string, len(list))
	for i, id := range list {
		words[i] = id.String()
	}
	return strings.Join(words, " ")
}

func (m *Manage) checkGroup(ctx context.Context, w store.Writer, c *Call, was, g access.Group) error {
	if err := name(g.Name); err != nil {
		return err
	}
	if len(g.Members) > maxGroupSize || len(g.Groups) > access.MaxGroups {
		return fault.New(fault.Invalid, "big_group", "A group has at most %d members and %d groups.", maxGroupSize, access.MaxGroups)
	}
	for _, p := range g.Members {
		if _, err := w.Members().Get(ctx, p); err != nil {
			return refer(err, "/member_ids", "member")
		}
	}
	all, err := everyGroup(ctx, w.Read())
	if err != nil {
		return err
	}
	if was.ID.IsZero() || was.Rev == 0 {
		if err := full("groups", c.limits.Groups, len(all)); err != nil {
			return err
		}
	}
	for _, child := range g.Groups {
		if _, ok := all[child]; !ok {
			return fault.New(fault.Invalid, "unknown_reference", "The group that the request refers to does not exist in this tenant.").WithField("/group_ids", "no such group")
		}
	}
	all[g.ID] = g
	around := surrounding(all, g.ID)
	if deepest(all, around) > access.MaxNesting {
		return fault.New(fault.Conflict, "group_nesting", "Groups may be nested %d deep and never within themselves.", access.MaxNesting).WithField("/group_ids", "nested too deep, or in a circle")
	}
	if slices.Equal(was.Members, g.Members) && slices.Equal(was.Groups, g.Groups) {
		return nil
	}
	return m.mayGrantGroups(ctx, w, c, around, false)
}

func everyGroup(ctx context.Context, r store.Reader) (map[ident.Group]access.Group, error) {
	all, q := map[ident.Group]access.Group{}, store.Query{Reach: access.Everywhere}
	for {
		page, err := r.Groups().List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, g := range page.Items {
			all[g.ID] = g
		}
		if page.Next == "" {
			return all, nil
		}
		q.After = page.Next
	}
}

// surrounding are groups and all that they stand in, over however many.
func surrounding(all map[ident.Group]access.Group, of ...ident.Group) map[ident.Group]bool {
	parents := make(map[ident.Group][]ident.Group, len(all))
	for id, g := range all {
		for _, child := range g.Groups {
			parents[child] = append(parents[child], id)
		}
	}
	around := map[ident.Group]bool{}
	for len(of) > 0 {
		id := of[len(of)-1]
		if of = of[:len(of)-1]; !around[id] {
			around[id] = true
			of = append(of, parents[id]...)
		}
	}
	return around
}

// deepest is how deep the groups of some groups go; a circle is deeper than anything allowed. Each group is looked at once,
// however many ways lead to it.
func deepest(all map[ident.Group]access.Group, of map[ident.Group]bool) (most int) {
	depths := make(map[ident.Group]int, len(all))
	var depth func(ident.Group) int
	depth = func(id ident.Group) int {
		if d, ok := depths[id]; ok {
			return d
		}
		depths[id] = access.MaxNesting + 1 // whoever comes back here while it stands has gone in a circle
		below := 0
		for _, child := range all[id].Groups {
			below = max(below, depth(child))
		}
		depths[id] = min(below+1, access.MaxNesting+1)
		return depths[id]
	}
	for id := range of {
		most = max(most, depth(id))
	}
	return most
}

// mayGrantGroups checks the caller against everything that groups give. What is only taken away takes a right of this moment.
func (m *Manage) mayGrantGroups(ctx context.Context, w store.Writer, c *Call, groups map[ident.Group]bool, taking bool) error {
	type given struct {
		role      ident.Role
		node      ident.Node
		recursive bool
		until     time.Time
	}
	seen := map[given]bool{}
	for g := range groups {
		ms, err := w.Read().Memberships().OfGroup(ctx, g)
		if err != nil {
			return err
		}
		for _, one := range ms {
			until := one.ExpiresAt
			if taking {
				until = c.Scope.At()
			}
			if same := (given{one.Role, one.Node, one.Recursive, until}); !seen[same] {
				seen[same] = true
				if err := m.mayGrant(ctx, w, c, one, until); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// DeleteGroup removes a group that has no memberships and stands in no other group.
func (m *Manage) DeleteGroup(ctx context.Context, c *Call, id ident.Group, rev uint64) error {
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		was, err := w.Groups().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		ms, err := w.Read().Memberships().OfGroup(ctx, id)
		if err != nil {
			return nil, err
		}
		all, err := everyGroup(ctx, w.Read())
		if err != nil {
			return nil, err
		}
		inside := false
		for _, g := range all {
			inside = inside || slices.Contains(g.Groups, id)
		}
		if len(ms) > 0 || inside {
			return nil, fault.New(fault.Conflict, "group_in_use", "The group has memberships, or stands in another group. Remove those first.")
		}
		if err := w.Groups().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.GroupDeleted, enter.Target("group", id), audit.Set("name", was.Name, ""), audit.Set("members", ids(was.Members), ""), audit.Set("groups", ids(was.Groups), "")))
	})
}
