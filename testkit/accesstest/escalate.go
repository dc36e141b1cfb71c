package accesstest

import (
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

// escalation searches for a way up: two people who act together make up to four grants, each allowed by the rule that
// app/manage asks (held at the place, with the reach of the grant and as long as it), and others place nodes meanwhile. What stands beside is
// the world without the grants.
type escalation struct {
	*world
	compile func(access.Records) Policy
	actors  []access.Subject // by a session, or by a token that gives less
	was     access.Records   // without their grants, but with what others did
	made    int
}

func escalates(t testing.TB, o Options) {
	w, tried, made := newWorld(o.dice(11), 1), 0, 0
	for n := range max(1, o.Sets/5) {
		w.throw()
		e := &escalation{world: w, compile: o.Compile}
		for _, p := range w.people[:2] {
			s := access.Subject{Principal: p}
			if w.oneIn(4) {
				s.Narrowed, s.Limit = true, w.throwSet().With(access.MembershipGrant).With(access.RoleWrite).With(access.GroupWrite)
			}
			e.actors = append(e.actors, s)
		}
		e.Platform = false
		// One of the two administers something, or there would be nothing to find; what, is thrown.
		m := w.throwMembership(100)
		m.Group, m.Principal, m.Role, m.Node = ident.Group{}, w.people[0], []ident.Role{access.Owner, access.Admin, access.Admin}[w.IntN(3)], pick(w, w.Nodes).ID
		w.Active[m.Principal] = true
		w.Memberships = append(w.Memberships, m)
		e.was = copied(w.Records)
		for range 8 {
			if e.made == 4 {
				break
			}
			tried++
			e.step()
		}
		made += e.made
		if e.made == 0 {
			continue
		}
		was, is := o.Compile(e.was), o.Compile(w.Records)
		for _, later := range []time.Duration{0, time.Microsecond, time.Hour} {
			if who, p, at, more := more(was, is, e.actors, w.people, w.Records, w.now.Add(later)); more {
				t.Fatalf("seed %d, set %d: %v has %v at %v after %v, which no actor had\nbefore %+v\nafter  %+v", o.Seed, n, who, p, at, later, e.was, w.Records)
			}
		}
	}
	t.Logf("%d grants tried, %d made", tried, made)
	if least := o.Sets / 20; made < least {
		t.Errorf("only %d grants of %d were made, want %d: too few to show much", made, tried, least)
	}
}

func copied(r access.Records) access.Records {
	r.Nodes, r.Roles, r.Groups, r.Memberships = slices.Clone(r.Nodes), slices.Clone(r.Roles), slices.Clone(r.Groups), slices.Clone(r.Memberships)
	return r
}

// step tries one thing. The rules are those of app/manage, in the shortest form.
func (e *escalation) step() {
	who := pick(e.world, e.actors)
	policy, root := e.compile(e.Records), e.Nodes[0].ID
	may := func(set access.Set, m access.Membership) bool {
		return !set.IsEmpty() && !set.Has(access.UplinkSubmit) &&
			set.With(access.MembershipGrant).Within(policy.HeldUntil(who, m.Node, m.Recursive, e.now, m.ExpiresAt))
	}
	can := func(p access.Permission) bool { return policy.Decide(who, p, root, e.now).Allowed }
	set := policy.Held(who, root, true, e.now)
	if !e.oneIn(4) {
		set = set.Intersect(e.throwSet())
	}
	switch e.IntN(6) {
	case 0: // a role of one's own
		if can(access.RoleWrite) && !set.IsEmpty() && set.Within(policy.Held(who, root, true, e.now)) && !set.Has(access.UplinkSubmit) {
			e.Roles = append(e.Roles, access.Role{ID: ident.Role{e.salt, byte(100 + e.made)}, Permissions: set})
			e.made++
		}
	case 1: // a role made wider, wherever it was given
		if len(e.Roles) == 0 || !can(access.RoleWrite) {
			return
		}
		i := e.IntN(len(e.Roles))
		r := e.Roles[i]
		next := set.Union(r.Permissions)
		if _, builtIn := access.BuiltIn(r.ID); builtIn || !next.Within(policy.Held(who, root, true, e.now)) || next.Has(access.UplinkSubmit) {
			return
		}
		for _, m := range e.Memberships {
			if m.Role == r.ID && m.Live(e.now) && !may(next, m) {
				return
			}
		}
		e.Roles = slices.Clone(e.Roles)
		e.Roles[i].Permissions = next
		e.made++
	case 2: // into a group, which gives what it and the groups around it were given
		if len(e.Groups) == 0 || !can(access.GroupWrite) {
			return
		}
		i := e.IntN(len(e.Groups))
		around := map[ident.Group]bool{e.Groups[i].ID: true}
		for range e.Groups {
			for _, g := range e.Groups {
				if slices.ContainsFunc(g.Groups, func(child ident.Group) bool { return around[child] }) {
					around[g.ID] = true
				}
			}
		}
		for _, m := range e.Memberships {
			if around[m.Group] && m.Principal.IsZero() && m.Live(e.now) && !may(access.PermissionsOf(e.Records, m.Role), m) {
				return
			}
		}
		e.Groups = slices.Clone(e.Groups)
		if g := &e.Groups[i]; e.oneIn(3) {
			g.Groups = append(slices.Clone(g.Groups), pick(e.world, e.Groups).ID)
		} else {
			g.Members = append(slices.Clone(g.Members), pick(e.world, e.people))
		}
		e.made++
	case 3: // somebody else places a node
		n := org.Node{ID: e.nodeID(60 + len(e.Nodes)), Parent: pick(e.world, e.Nodes).ID}
		e.Nodes, e.was.Nodes = append(e.Nodes, n), append(e.was.Nodes, n)
	default:
		m := e.throwMembership(110 + e.made)
		if e.oneIn(2) {
			m.Node = e.Memberships[len(e.Memberships)-1].Node
		}
		if e.oneIn(3) {
			m.Group, m.Principal = ident.Group{}, pick(e.world, e.people[:2])
		}
		if may(access.PermissionsOf(e.Records, m.Role), m) {
			e.Memberships = append(slices.Clone(e.Memberships), m)
			e.made++
		}
	}
}

// more looks for somebody who may do somewhere what neither they nor any of those who acted could.
func more(was, is Policy, actors []access.Subject, people []ident.Principal, r access.Records, now time.Time) (ident.Principal, access.Permission, ident.Node, bool) {
	for _, p := range access.Permissions() {
		for _, n := range r.Nodes {
			could := func(policy Policy) func(access.Subject) bool {
				return func(s access.Subject) bool { return policy.Decide(s, p, n.ID, now).Allowed }
			}
			for _, who := range people {
				s := access.Subject{Principal: who}
				if could(is)(s) && !could(was)(s) && !slices.ContainsFunc(actors, could(was)) {
					return who, p, n.ID, true
				}
			}
		}
	}
	return ident.Principal{}, access.None, ident.Node{}, false
}
