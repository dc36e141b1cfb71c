package accesstest

import (
	"math/rand/v2"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

// deepest is how many nodes may stand above another: one more than a tenant's tree has.
const deepest = org.MaxDepth

// world throws random records. It uses its slices again and again, since a million worlds are thrown.
type world struct {
	access.Records
	*rand.Rand
	salt     byte // tells one tenant's ids from another's
	now      time.Time
	builtIns []access.Role
	tenants  []access.Permission // permissions of tenants, and of the platform
	platform []access.Permission
	people   []ident.Principal
	given    map[ident.Role][]access.Permission // what the built-in roles hold
}

func newWorld(dice *rand.Rand, salt byte) *world {
	w := &world{Rand: dice, salt: salt, now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), builtIns: access.BuiltIns()}
	w.Active, w.given = map[ident.Principal]bool{}, map[ident.Role][]access.Permission{}
	for _, r := range w.builtIns {
		w.given[r.ID] = r.Permissions.List()
	}
	for _, p := range access.Permissions() {
		if p.OfPlatform() {
			w.platform = append(w.platform, p)
		} else {
			w.tenants = append(w.tenants, p)
		}
	}
	for i := range 4 { // people are the platform's: the same in every tenant
		w.people = append(w.people, ident.Principal{7, byte(i)})
	}
	return w
}

func (w *world) oneIn(n int) bool { return w.IntN(n) == 0 }

func pick[V any](w *world, of []V) V { return of[w.IntN(len(of))] }

func (w *world) nodeID(i int) ident.Node { return ident.Node{w.salt, byte(i + 1)} }

// throw makes other records of the world.
func (w *world) throw() *world {
	w.Revision = 1 + w.Uint64N(1000)
	w.Platform = w.oneIn(6)
	w.Nodes, w.Roles, w.Groups, w.Memberships = w.Nodes[:0], w.Roles[:0], w.Groups[:0], w.Memberships[:0]
	w.throwTree()
	for _, p := range w.people {
		w.Active[p] = !w.oneIn(10)
	}
	for i := range w.IntN(4) {
		w.Roles = append(w.Roles, access.Role{ID: ident.Role{w.salt, byte(i + 1)}, Permissions: w.throwSet()})
	}
	if w.oneIn(3) { // a record that claims to be a built-in role
		w.Roles = append(w.Roles, access.Role{ID: pick(w, w.builtIns[2:6]).ID, Permissions: w.throwSet()})
	}
	w.throwGroups()
	for i := range 1 + w.IntN(6) {
		w.Memberships = append(w.Memberships, w.throwMembership(i))
	}
	return w
}

// throwTree is a chain of any depth, or a bush.
func (w *world) throwTree() {
	n, chain := 1+w.IntN(7), w.oneIn(5)
	if chain {
		n = 1 + max(w.IntN(deepest+1), w.IntN(deepest+1))
	}
	for i := range n {
		node := org.Node{ID: w.nodeID(i), Kind: org.Site, Barrier: w.oneIn(8)}
		switch {
		case i == 0:
		case chain:
			node.Parent = w.nodeID(i - 1)
			node.Barrier = w.oneIn(16)
		case w.oneIn(24):
			node.Parent = w.nodeID(200) // an orphan
		default:
			node.Parent = w.nodeID(w.IntN(i))
		}
		w.Nodes = append(w.Nodes, node)
	}
}

func (w *world) throwSet() access.Set {
	var s access.Set
	for range 1 + w.IntN(12) {
		s = s.With(w.throwPermission())
	}
	return s
}

func (w *world) throwPermission() access.Permission {
	if w.Platform != w.oneIn(10) {
		return pick(w, w.platform)
	}
	return pick(w, w.tenants)
}

// throwGroups is a few groups with circles among them, or a chain that is longer than groups may be nested.
func (w *world) throwGroups() {
	n, chain := w.IntN(4), w.oneIn(12)
	if chain {
		n = 7 + w.IntN(4)
	}
	for i := range n {
		g := access.Group{ID: ident.Group{w.salt, byte(i + 1)}}
		if !chain || i == n-1 || w.oneIn(8) {
			for _, p := range w.people {
				if w.oneIn(3) {
					g.Members = append(g.Members, p)
				}
			}
		}
		if chain {
			g.Groups = append(g.Groups, ident.Group{w.salt, byte(i + 2)})
		}
		if !chain || w.oneIn(16) {
			for j := range n {
				if w.oneIn(3) {
					g.Groups = append(g.Groups, ident.Group{w.salt, byte(j + 1)})
				}
			}
		}
		w.Groups = append(w.Groups, g)
	}
}

func (w *world) throwMembership(i int) access.Membership {
	m := access.Membership{ID: ident.Membership{w.salt, byte(w.IntN(200)), byte(i + 1)}, Recursive: !w.oneIn(3)}
	if len(w.Groups) > 0 && w.oneIn(2) {
		m.Group = w.Groups[w.IntN(1+w.IntN(len(w.Groups)))].ID
	} else {
		m.Principal = pick(w, w.people)
	}
	switch {
	case w.oneIn(24):
		m.Role = ident.Role{w.salt, 200} // a role that is gone
	case len(w.Roles) > 0 && w.oneIn(3):
		m.Role = pick(w, w.Roles).ID
	case w.Platform:
		m.Role = access.PlatformAdmin
	default:
		m.Role = w.builtIns[min(w.IntN(9), w.IntN(9))%len(w.builtIns)].ID // rather those who may much
	}
	m.Node = w.Nodes[min(w.IntN(len(w.Nodes)), w.IntN(len(w.Nodes)))].ID // rather high up
	if w.oneIn(24) {
		m.Node = w.nodeID(201)
	}
	switch w.IntN(10) {
	case 0:
		m.ExpiresAt = w.now
	case 1:
		m.ExpiresAt = w.now.Add(time.Microsecond)
	case 2:
		m.ExpiresAt = w.now.Add(time.Duration(w.IntN(4000)-2000) * time.Millisecond)
	}
	return m
}

// request is one question.
type request struct {
	access.Subject
	p    access.Permission
	node ident.Node
}

// ask throws a question that has to do with the records, mostly.
func (w *world) ask() request {
	m := pick(w, w.Memberships)
	q := request{Subject: access.Subject{Principal: m.Principal}, p: w.throwPermission()}
	if m.Principal.IsZero() || w.oneIn(5) {
		q.Principal = pick(w, w.people)
		for _, g := range w.Groups {
			if g.ID == m.Group && len(g.Members) > 0 && !w.oneIn(4) {
				q.Principal = pick(w, g.Members)
			}
		}
	}
	if w.oneIn(40) {
		q.Principal = ident.Principal{8}
	}
	if given := w.given[m.Role]; len(given) > 0 && w.oneIn(3) {
		q.p = pick(w, given)
	} else if len(w.Roles) > 0 && w.oneIn(2) {
		if set := pick(w, w.Roles).Permissions.List(); len(set) > 0 {
			q.p = pick(w, set)
		}
	}
	if w.oneIn(50) {
		q.p = access.Permission(w.IntN(int(anything)))
	}
	switch w.IntN(20) {
	case 0:
		q.node = w.nodeID(200 + w.IntN(2)) // no node of this tenant
	case 1, 2: // the root by its other name
	case 3, 4, 5, 6, 7, 8:
		q.node = w.Nodes[len(w.Nodes)-1].ID
	case 9, 10, 11, 12, 13, 14:
		q.node = m.Node
	default:
		q.node = pick(w, w.Nodes).ID
	}
	if w.oneIn(8) {
		q.Narrowed, q.Limit = true, w.throwSet()
		switch w.IntN(6) {
		case 0:
			q.Limit = access.Set{}
		case 1, 2, 3:
			q.Limit = q.Limit.With(q.p)
		}
	}
	return q
}

// reference is the naive evaluator of the world's records.
func (w *world) reference() *reference {
	return &reference{Records: w.Records, roles: append(w.builtIns[:len(w.builtIns):len(w.builtIns)], w.Roles...)}
}
