package accesstest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/ports/store"
)

// climbs is escalates through the real use cases: random tenants, in which two people try everything that gives rights.
func climbs(t testing.TB, p Parts) {
	tried, made := 0, 0
	w := newWorld(rand.New(rand.NewPCG(5, 5)), 1) //nolint:gosec // a test's dice
	for n := range p.Worlds {
		c := newClimb(t, p, w)
		for range 16 {
			if c.made == 4 {
				break
			}
			tried++
			c.step()
		}
		made += c.made
		is := c.records()
		was, now := access.Compile(c.was), access.Compile(is)
		for _, later := range []time.Duration{0, 2 * time.Hour} {
			if who, perm, at, more := more(was, now, c.actors, w.people, is, c.Now().Add(later)); more {
				t.Fatalf("world %d: %v has %v at %v, %v later, which no actor had\nbefore %+v\nafter  %+v", n, who, perm, at, later, c.was, is)
			}
		}
	}
	if t.Logf("%d grants tried, %d made", tried, made); made < p.Worlds {
		t.Errorf("only %d grants of %d were made in %d worlds: too few to show much", made, tried, p.Worlds)
	}
}

// climb is one tenant in which two people try.
type climb struct {
	*gate
	w      *world
	actors []access.Subject
	ids    []enter.Identity
	was    access.Records
	made   int
}

func newClimb(t testing.TB, p Parts, w *world) *climb {
	c := &climb{w: w}
	c.gate = open(t, p, c.fill)
	c.was = c.records()
	for i, p := range w.people[:2] {
		id := as(p)
		if i == 1 && w.oneIn(2) { // one of the two by a token
			id.Tenant, id.Subject.Narrowed = c.tenant, true
			id.Subject.Limit = w.throwSet().Union(access.SetOf(access.MembershipGrant, access.RoleWrite, access.GroupWrite, access.DeviceRead))
		}
		c.ids, c.actors = append(c.ids, id), append(c.actors, id.Subject)
	}
	return c
}

// fill puts a thrown world into the store, without what no rule would have let in.
func (c *climb) fill(g *gate, w store.Writer) error {
	c.w.throw()
	c.w.Platform = false
	for i, p := range c.w.people {
		id, err := g.member(w)
		if err != nil {
			return err
		}
		c.w.people[i] = id
		c.rename(p, id)
	}
	for i, n := range c.w.Nodes {
		if i == 0 { // the tenant was born with its root
			c.w.Memberships = slices.DeleteFunc(c.w.Memberships, func(m access.Membership) bool { return m.Node[1] > 200 })
		}
		if n.Parent.IsZero() || n.Parent[1] > 200 || n.Parent == c.w.nodeID(0) {
			n.Parent = g.root
		}
		n.Kind, n.Name, n.CreatedAt, n.UpdatedAt = org.Site, n.ID.String(), g.Now(), g.Now()
		if i > 0 {
			if _, err := w.Nodes().Put(g.ctx, n); err != nil {
				return err
			}
		}
	}
	for _, r := range c.w.Roles {
		r.Permissions = r.Permissions.Less(access.SetOf(access.UplinkSubmit)).Less(access.SetOf(c.w.platform...)).With(access.DeviceRead)
		if _, builtIn := access.BuiltIn(r.ID); builtIn {
			continue
		}
		r.Name, r.CreatedAt, r.UpdatedAt = r.ID.String(), g.Now(), g.Now()
		if _, err := w.Roles().Put(g.ctx, r); err != nil {
			return err
		}
	}
	for i, group := range c.w.Groups {
		group.Name, group.CreatedAt, group.UpdatedAt = group.ID.String(), g.Now(), g.Now()
		group.Groups = slices.DeleteFunc(group.Groups, func(child ident.Group) bool { return int(child[1]) <= i+1 || int(child[1]) > len(c.w.Groups) }) // no circles, nobody who is not there
		if _, err := w.Groups().Put(g.ctx, group); err != nil {
			return err
		}
	}
	for i := range 3 {
		m := c.w.throwMembership(100 + i)
		m.Group, m.Principal, m.Role = ident.Group{}, c.w.people[i%2], []ident.Role{access.Admin, access.Admin, access.Owner}[i]
		c.w.Memberships = append(c.w.Memberships, m)
	}
	for _, m := range c.w.Memberships {
		if m.Role[1] == 200 || m.Node[1] > 200 || m.Role == access.SourceAccount || m.Role == access.PlatformAdmin {
			continue
		}
		if m.Node == c.w.nodeID(0) {
			m.Node = g.root
		}
		if !m.ExpiresAt.IsZero() {
			m.ExpiresAt = g.Now().Add(time.Hour)
		}
		if _, err := g.give(w, m); err != nil {
			return err
		}
	}
	c.w.Nodes[0].ID = g.root
	return nil
}

func (c *climb) rename(old, id ident.Principal) {
	for i := range c.w.Memberships {
		if c.w.Memberships[i].Principal == old {
			c.w.Memberships[i].Principal = id
		}
	}
	for _, g := range c.w.Groups {
		for i := range g.Members {
			if g.Members[i] == old {
				g.Members[i] = id
			}
		}
	}
	delete(c.w.Active, old)
}

// step tries one thing; what is refused is no fault.
func (c *climb) step() {
	id, now := pick(c.w, c.ids), c.records()
	call := func(p access.Permission, at enter.At) *manage.Call {
		s, err := c.Gate(c.ctx, id, c.tenant, p, at, here)
		if err != nil {
			c.tell(err)
			return nil
		}
		return &manage.Call{Scope: s}
	}
	switch c.w.IntN(8) {
	case 0:
		if k := call(access.RoleWrite, enter.Root); k != nil {
			_, err := c.manage.CreateRole(c.ctx, k, fmt.Sprintf("made %d", len(now.Roles)), c.set(k))
			c.tell(err)
		}
	case 1, 2:
		if k := call(access.RoleWrite, enter.Root); k != nil && len(now.Roles) > 0 {
			r := pick(c.w, now.Roles)
			set := c.set(k).Union(r.Permissions)
			_, err := c.manage.UpdateRole(c.ctx, k, r.ID, r.Rev, nil, &set)
			c.tell(err)
		}
	case 3, 4:
		if k := call(access.GroupWrite, enter.Root); k != nil && len(now.Groups) > 0 {
			g := pick(c.w, now.Groups)
			members, groups := append(slices.Clone(g.Members), pick(c.w, c.w.people)), append(slices.Clone(g.Groups), pick(c.w, now.Groups).ID)
			patch := manage.GroupPatch{Members: &members}
			if c.w.oneIn(3) {
				patch = manage.GroupPatch{Groups: &groups}
			}
			_, err := c.manage.PutGroup(c.ctx, k, g.ID, g.Rev, patch)
			c.tell(err)
		}
	case 5: // somebody else places a node, which is there without the grants too
		k := call(access.NodeCreate, enter.Anywhere)
		if id = as(c.owner); k == nil {
			k = call(access.NodeCreate, enter.Anywhere)
		}
		if k == nil {
			return
		}
		if n, err := c.manage.CreateNode(c.ctx, k, pick(c.w, now.Nodes).ID, org.Site, "placed"); err == nil {
			c.was.Nodes = append(c.was.Nodes, n)
		}
	default:
		if k := call(access.MembershipGrant, enter.Anywhere); k != nil {
			m := c.w.throwMembership(0)
			m = access.Membership{Principal: m.Principal, Group: m.Group, Role: m.Role, Node: pick(c.w, now.Nodes).ID, Recursive: m.Recursive}
			if c.w.oneIn(3) {
				m.Role = pick(c.w, now.Memberships).Role
			}
			if c.w.oneIn(3) {
				m.ExpiresAt = c.Now().Add(time.Duration(1+c.w.IntN(3)) * 30 * time.Minute)
			}
			_, err := c.manage.Grant(c.ctx, k, m)
			c.tell(err)
		}
	}
}

// set is something that the caller has, mostly.
func (c *climb) set(k *manage.Call) access.Set {
	set := k.Scope.Policy().Held(k.Scope.Subject(), c.root, true, k.Scope.At()).Less(access.SetOf(access.OwnershipGrant))
	if c.w.oneIn(3) {
		set = set.Union(c.w.throwSet())
	}
	return set
}

// tell counts what was done. Refusals are what the check is about; anything else is a fault of the test or the store.
func (c *climb) tell(err error) {
	c.Helper()
	switch {
	case err == nil:
		c.made++
	case fault.Is(err, fault.Denied), fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid), fault.Is(err, fault.Conflict):
	default:
		c.Errorf("neither done nor refused: %v", err)
	}
}
