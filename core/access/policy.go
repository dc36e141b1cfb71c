package access

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

// Reasons of decisions: stable words, written to the audit log and into answers.
const (
	ReasonGranted      = "granted"
	ReasonNoMembership = "no_membership" // the subject has no membership here
	ReasonNoPermission = "no_permission" // memberships, but none gives this permission
	ReasonNoReach      = "no_reach"      // the permission is held, but not at this node
	ReasonToken        = "token_scope"   // the token was not given this permission
	ReasonNoPolicy     = "no_policy"     // no policy was asked: system scopes decide nothing
	ReasonUnknownNode  = "unknown_node"  // the node is not in this tenant
	ReasonSuspended    = "tenant_suspended"
	ReasonDeleted      = "tenant_deleted"
)

// Subject is who a policy is asked about: a principal, narrowed by what its token may do.
type Subject struct {
	Principal ident.Principal
	Narrowed  bool // true for tokens: only Limit counts
	Limit     Set
}

// Policy is one tenant's memberships, roles, groups and org tree, compiled at one revision. It is immutable and safe for
// concurrent use; the cost of a decision depends neither on the number of tenants nor on that of the tenant's people.
type Policy struct {
	revision uint64
	root     int32
	grants   []grant // by principal, then membership; one of nothing for a member without rights
	tree     []place
	nodes    map[ident.Node]int32
}

type place struct {
	id      ident.Node
	parent  int32 // -1 at the root
	barrier bool
}

type grant struct {
	principal   ident.Principal
	permissions Set
	place       int32
	recursive   bool
	expires     int64 // unix microseconds, 0 = never
	membership  ident.Membership
	role        ident.Role
	node        ident.Node // the place's
}

// Records are what a policy is compiled from.
type Records struct {
	Revision    uint64
	Platform    bool       // the platform's own policy: alone it may hold permissions of the platform
	Nodes       []org.Node // tombstones included: their readings keep their rulers
	Roles       []Role     // the tenant's own; the built-in ones are added
	Groups      []Group
	Memberships []Membership
	Active      map[ident.Principal]bool // members and service accounts that may act; others have no rights
}

// Compile builds the policy. Records that point at nothing (a role or node that is gone) grant nothing.
func Compile(r Records) *Policy {
	p := &Policy{revision: r.Revision, root: -1, nodes: make(map[ident.Node]int32, len(r.Nodes)), tree: make([]place, len(r.Nodes))}
	for i, n := range r.Nodes {
		p.nodes[n.ID] = int32(i) //nolint:gosec // at most 2,000 nodes a tenant
	}
	for i, n := range r.Nodes {
		parent, ok := p.nodes[n.Parent]
		switch {
		case n.Parent.IsZero():
			parent, p.root = -1, int32(i) //nolint:gosec // as above
		case !ok:
			parent = -1 // an orphan is nobody's child: only grants at itself reach it
		}
		p.tree[i] = place{id: n.ID, parent: parent, barrier: n.Barrier}
	}
	roles := make(map[ident.Role]Set, len(r.Roles)+8)
	for _, role := range r.Roles {
		roles[role.ID] = role.Permissions
	}
	for _, role := range BuiltIns() {
		roles[role.ID] = role.Permissions // last, so that no record shadows a built-in role
	}
	for id, set := range roles {
		roles[id] = set.within(r.Platform)
	}
	members, without := newExpansion(r.Groups), maps.Clone(r.Active)
	give := func(to ident.Principal, g grant) {
		if r.Active[to] {
			g.principal = to
			p.grants = append(p.grants, g)
			delete(without, to)
		}
	}
	for _, m := range r.Memberships {
		at, ok := p.nodes[m.Node]
		set := roles[m.Role]
		if !ok || set.IsEmpty() {
			continue
		}
		g := grant{permissions: set, place: at, recursive: m.Recursive, membership: m.ID, role: m.Role, node: m.Node}
		if !m.ExpiresAt.IsZero() {
			g.expires = max(1, m.ExpiresAt.UnixMicro()) // microseconds reach beyond year 9999, nanoseconds to 2262; 0 is never
		}
		if !m.Principal.IsZero() {
			give(m.Principal, g)
			continue
		}
		for principal := range members.of(m.Group) {
			give(principal, g)
		}
	}
	for member, active := range without {
		if active {
			p.grants = append(p.grants, grant{principal: member})
		}
	}
	// One order for the decisive membership, whatever the order of the records. The list is kept as long as it is used: not
	// what appending left over.
	slices.SortFunc(p.grants, func(a, b grant) int {
		return cmp.Or(a.principal.Compare(b.principal), a.membership.Compare(b.membership))
	})
	p.grants = slices.Clone(p.grants)
	return p
}

// of is what a principal was given. It reads one list and no table: for a tenant that was not asked for lately, it is waiting
// for memory that takes a decision's time.
func (p *Policy) of(principal ident.Principal) (grants []grant, member bool) {
	from := sort.Search(len(p.grants), func(i int) bool { return p.grants[i].principal.Compare(principal) >= 0 })
	to := from
	for to < len(p.grants) && p.grants[to].principal == principal {
		to++
	}
	if from < to && p.grants[from].permissions.IsEmpty() {
		return nil, true
	}
	return p.grants[from:to], from < to
}

// Revision is the tenant's policy revision that this snapshot was compiled from.
func (p *Policy) Revision() uint64 { return p.revision }

// Member reports whether the principal is a member of the tenant, with or without rights.
func (p *Policy) Member(principal ident.Principal) bool {
	_, member := p.of(principal)
	return member
}

// Anywhere answers whether a subject holds a permission at any node: the gate's question for what lists or will name its
// node later.
func (p *Policy) Anywhere(s Subject, perm Permission, now time.Time) Decision {
	d := Decision{Permission: perm, Revision: p.revision, Reason: ReasonNoMembership}
	if s.Narrowed && !s.Limit.Has(perm) {
		d.Reason = ReasonToken
		return d
	}
	moment := now.UnixMicro()
	grants, _ := p.of(s.Principal)
	for i := range grants {
		g := &grants[i]
		if g.expires != 0 && moment >= g.expires {
			continue
		}
		if !g.permissions.Has(perm) {
			d.Reason = ReasonNoPermission
			continue
		}
		d.Allowed, d.Reason = true, ReasonGranted
		d.Membership, d.Role, d.Node = g.membership, g.role, g.node
		return d
	}
	return d
}

// Path is the way from the root to a node, both included; nil for a node of another tenant.
func (p *Policy) Path(node ident.Node) []ident.Node {
	at, ok := p.nodes[node]
	if !ok {
		return nil
	}
	var path []ident.Node
	for steps := 0; at >= 0 && steps <= len(p.tree); steps++ {
		path = append(path, p.tree[at].id)
		at = p.tree[at].parent
	}
	slices.Reverse(path)
	return path
}

// Below is a node and everything under it, whatever its barriers; nil for a node of another tenant.
func (p *Policy) Below(node ident.Node) []ident.Node {
	top, ok := p.nodes[node]
	if !ok {
		return nil
	}
	var below []ident.Node
	for i := range p.tree {
		at := int32(i) //nolint:gosec // at most 2,000 nodes a tenant
		for steps := 0; at >= 0 && at != top && steps <= len(p.tree); steps++ {
			at = p.tree[at].parent
		}
		if at == top {
			below = append(below, p.tree[i].id)
		}
	}
	return below
}

// Root is the tenant's root node.
func (p *Policy) Root() ident.Node {
	if p.root < 0 {
		return ident.Node{}
	}
	return p.tree[p.root].id
}

// Decide answers whether a subject holds a permission at a node; the zero node is the root. It denies by default.
func (p *Policy) Decide(s Subject, perm Permission, node ident.Node, now time.Time) Decision {
	d := Decision{Permission: perm, Revision: p.revision, Reason: ReasonNoMembership}
	if s.Narrowed && !s.Limit.Has(perm) {
		d.Reason = ReasonToken
		return d
	}
	target := p.root
	if !node.IsZero() {
		at, ok := p.nodes[node]
		if !ok {
			d.Reason = ReasonUnknownNode
			return d
		}
		target = at
	}
	if target < 0 {
		d.Reason = ReasonUnknownNode
		return d
	}
	grants, _ := p.of(s.Principal)
	moment := now.UnixMicro()
	for i := range grants {
		g := &grants[i]
		if g.expires != 0 && moment >= g.expires {
			continue
		}
		if !g.permissions.Has(perm) {
			if d.Reason == ReasonNoMembership {
				d.Reason = ReasonNoPermission
			}
			continue
		}
		if p.reaches(g, target) {
			d.Allowed, d.Reason = true, ReasonGranted
			d.Membership, d.Role, d.Node = g.membership, g.role, g.node
			return d
		}
		d.Reason = ReasonNoReach
	}
	return d
}

// reaches walks from the target up to the grant's place. A barrier on the way stops what is inherited from above it.
func (p *Policy) reaches(g *grant, target int32) bool {
	if g.place == target {
		return true
	}
	if !g.recursive {
		return false
	}
	at := target
	for range len(p.tree) { // no way is longer, unless records that no rule let in go round in a circle
		if at < 0 || p.tree[at].barrier {
			return false
		}
		if at = p.tree[at].parent; at == g.place {
			return true
		}
	}
	return false
}

// Reach is where a subject holds a permission.
func (p *Policy) Reach(s Subject, perm Permission, now time.Time) Reach {
	if s.Narrowed && !s.Limit.Has(perm) {
		return Reach{}
	}
	var live []*grant
	grants, _ := p.of(s.Principal)
	moment := now.UnixMicro()
	for i := range grants {
		if g := &grants[i]; g.permissions.Has(perm) && (g.expires == 0 || moment < g.expires) {
			live = append(live, g)
		}
	}
	if len(live) == 0 {
		return Reach{}
	}
	var r Reach
	for i := range p.tree {
		for _, g := range live {
			if p.reaches(g, int32(i)) { //nolint:gosec // at most 2,000 nodes a tenant
				r.Nodes = append(r.Nodes, p.tree[i].id)
				break
			}
		}
	}
	if len(r.Nodes) == len(p.tree) {
		return Everywhere
	}
	slices.SortFunc(r.Nodes, func(a, b ident.Node) int { return a.Compare(b) })
	return r
}

// Held is what a subject holds now at a node with at least the reach that a grant there would have: a grant that goes down
// also gives what is placed below the node later, so it takes a right that goes down as well, and not one at every node that
// is there today.
func (p *Policy) Held(s Subject, node ident.Node, recursive bool, now time.Time) Set {
	return p.HeldUntil(s, node, recursive, now, now)
}

// HeldUntil is what is held now and will be for as long as a grant lasts; the zero time is forever. Who grants needs every
// permission of the role in it: a right that ends must not make itself permanent.
func (p *Policy) HeldUntil(s Subject, node ident.Node, recursive bool, now, until time.Time) Set {
	var held Set
	at, ok := p.nodes[node]
	if !ok {
		return held
	}
	grants, _ := p.of(s.Principal)
	moment := now.UnixMicro()
	for i := range grants {
		g := &grants[i]
		lasts := g.expires == 0 || moment < g.expires && !until.IsZero() && until.UnixMicro() <= g.expires
		if lasts && (g.recursive || !recursive) && p.reaches(g, at) {
			held = held.Union(g.permissions)
		}
	}
	if s.Narrowed {
		held = held.Intersect(s.Limit)
	}
	return held
}

// PermissionsOf is what a role of these records holds, built in or the tenant's own; nothing if there is no such role.
func PermissionsOf(r Records, id ident.Role) Set {
	if role, ok := BuiltIn(id); ok {
		return role.Permissions.within(r.Platform)
	}
	for _, role := range r.Roles {
		if role.ID == id {
			return role.Permissions.within(r.Platform)
		}
	}
	return Set{}
}

// Owners counts the principals that hold the owner role as a direct, recursive membership at the root without expiry.
func Owners(r Records) int {
	root := ident.Node{}
	for _, n := range r.Nodes {
		if n.Parent.IsZero() {
			root = n.ID
		}
	}
	owners := map[ident.Principal]bool{}
	for _, m := range r.Memberships {
		if m.Role == Owner && m.Node == root && m.Recursive && m.ExpiresAt.IsZero() && r.Active[m.Principal] {
			owners[m.Principal] = true
		}
	}
	return len(owners)
}

// Unkept is a barrier that nobody could lift any more. Nothing inherited passes it, an owner's rights included, so each needs
// an owner or admin of its own: a direct, recursive membership at the barrier without expiry.
func Unkept(r Records) (ident.Node, bool) {
	kept := map[ident.Node]bool{}
	for _, m := range r.Memberships {
		if (m.Role == Owner || m.Role == Admin) && m.Recursive && m.ExpiresAt.IsZero() && r.Active[m.Principal] {
			kept[m.Node] = true
		}
	}
	for _, n := range r.Nodes {
		if n.Barrier && !n.Deleted() && !kept[n.ID] {
			return n.ID, true
		}
	}
	return ident.Node{}, false
}

// expansion finds all principals of a group, nested groups included. Cycles end, and nesting beyond MaxNesting gives nothing.
type expansion struct{ groups map[ident.Group]Group }

func newExpansion(groups []Group) expansion {
	e := expansion{groups: make(map[ident.Group]Group, len(groups))}
	for _, g := range groups {
		e.groups[g.ID] = g
	}
	return e
}

func (e expansion) of(id ident.Group) map[ident.Principal]bool {
	members, seen := map[ident.Principal]bool{}, map[ident.Group]bool{id: true}
	level := []ident.Group{id}
	for depth := 0; depth < MaxNesting && len(level) > 0; depth++ {
		var next []ident.Group
		for _, g := range level {
			for _, m := range e.groups[g].Members {
				members[m] = true
			}
			for _, child := range e.groups[g].Groups {
				if !seen[child] {
					seen[child] = true
					next = append(next, child)
				}
			}
		}
		level = next
	}
	return members
}
