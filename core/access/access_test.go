package access

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	now  = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	root = ident.Node{1}
	site = ident.Node{2}
	wing = ident.Node{3} // a barrier stands here
	room = ident.Node{4}
	side = ident.Node{5}
	ana  = ident.Principal{9}
)

// world is root > site > wing (barrier) > room, and side beside site.
func world(ms ...Membership) Records {
	return Records{
		Revision: 7,
		Nodes: []org.Node{
			{ID: root, Kind: org.Customer}, {ID: site, Parent: root, Kind: org.Site}, {ID: wing, Parent: site, Kind: org.Building, Barrier: true},
			{ID: room, Parent: wing, Kind: org.Floor}, {ID: side, Parent: root, Kind: org.Site},
		},
		Memberships: ms,
		Active:      map[ident.Principal]bool{ana: true},
	}
}

func member(n byte, node ident.Node, recursive bool) Membership {
	return Membership{ID: ident.Membership{n}, Principal: ana, Role: Viewer, Node: node, Recursive: recursive}
}

func TestPropagationFollowsScopeAndBarriers(t *testing.T) {
	nodes := []ident.Node{root, site, wing, room, side}
	for _, c := range []struct {
		name string
		m    Membership
		want string // one letter a node of the list above: y or n
	}{
		{"local at the root", member(1, root, false), "ynnnn"},
		{"recursive at the root stops at the barrier", member(1, root, true), "yynny"},
		{"recursive at a site stops at the barrier", member(1, site, true), "nynnn"},
		{"recursive at the barrier itself reaches below", member(1, wing, true), "nnyyn"},
		{"local at the barrier", member(1, wing, false), "nnynn"},
		{"recursive below the barrier", member(1, room, true), "nnnyn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Compile(world(c.m))
			var got strings.Builder
			for _, n := range nodes {
				if p.Decide(Subject{Principal: ana}, DeviceRead, n, now).Allowed {
					got.WriteByte('y')
				} else {
					got.WriteByte('n')
				}
			}
			if got.String() != c.want {
				t.Fatalf("got %s, want %s", got.String(), c.want)
			}
			reach := p.Reach(Subject{Principal: ana}, DeviceRead, now)
			if len(reach.Nodes) != strings.Count(c.want, "y") {
				t.Fatalf("reach has %d nodes, decisions allow %d", len(reach.Nodes), strings.Count(c.want, "y"))
			}
		})
	}
}

func TestAnExpiryIsTakenAsItIsHoweverFarAway(t *testing.T) {
	for at, want := range map[time.Time]bool{time.Unix(0, 0): false, now: false, now.Add(time.Microsecond): true, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC): true, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): true} {
		m := member(1, site, true)
		m.ExpiresAt = at
		if got := Compile(world(m)).Decide(Subject{Principal: ana}, DeviceRead, site, now).Allowed; got != want {
			t.Errorf("expires at %v: allowed %v", at, got)
		}
	}
}

func TestDecisionNamesWhatDecidedIt(t *testing.T) {
	p := Compile(world(member(1, site, true)))
	d := p.Decide(Subject{Principal: ana}, DeviceRead, site, now)
	want := Decision{Allowed: true, Permission: DeviceRead, Membership: ident.Membership{1}, Role: Viewer, Node: site, Revision: 7, Reason: ReasonGranted}
	if d != want {
		t.Fatalf("got %+v, want %+v", d, want)
	}
	for _, c := range []struct {
		s      Subject
		p      Permission
		n      ident.Node
		reason string
	}{
		{Subject{Principal: ident.Principal{1}}, DeviceRead, site, ReasonNoMembership},
		{Subject{Principal: ana}, DeviceDelete, site, ReasonNoPermission},
		{Subject{Principal: ana}, DeviceRead, side, ReasonNoReach},
		{Subject{Principal: ana}, DeviceRead, ident.Node{99}, ReasonUnknownNode},
		{Subject{Principal: ana, Narrowed: true}, DeviceRead, site, ReasonToken},
		{Subject{Principal: ana}, None, site, ReasonNoPermission},
	} {
		if d := p.Decide(c.s, c.p, c.n, now); d.Allowed || d.Reason != c.reason {
			t.Errorf("%v at %v: %+v, want reason %s", c.p, c.n, d, c.reason)
		}
	}
}

func TestExpiredMembershipGivesNothing(t *testing.T) {
	m := member(1, root, true)
	m.ExpiresAt = now
	p := Compile(world(m))
	s := Subject{Principal: ana}
	if p.Decide(s, DeviceRead, root, now).Allowed || !p.Reach(s, DeviceRead, now).IsEmpty() || p.Anywhere(s, DeviceRead, now).Allowed {
		t.Fatal("an expired membership decided")
	}
	if before := now.Add(-1); !p.Decide(s, DeviceRead, root, before).Allowed {
		t.Fatal("the membership did not hold before its expiry")
	}
}

func TestGroupsNestAndCyclesEnd(t *testing.T) {
	a, b, c := ident.Group{1}, ident.Group{2}, ident.Group{3}
	r := world(Membership{ID: ident.Membership{1}, Group: a, Role: Viewer, Node: root, Recursive: true})
	r.Groups = []Group{{ID: a, Groups: []ident.Group{b}}, {ID: b, Groups: []ident.Group{c, a}}, {ID: c, Members: []ident.Principal{ana}}}
	if !Compile(r).Decide(Subject{Principal: ana}, DeviceRead, site, now).Allowed {
		t.Fatal("a nested group's member has no right")
	}
	r.Active = nil
	if Compile(r).Decide(Subject{Principal: ana}, DeviceRead, site, now).Allowed {
		t.Fatal("a principal that is no member has a right by its group")
	}
}

func TestPlatformPermissionsStandInNoTenantRole(t *testing.T) {
	r := world(Membership{ID: ident.Membership{1}, Principal: ana, Role: PlatformAdmin, Node: root, Recursive: true})
	r.Roles = []Role{{ID: ident.Role{5}, Permissions: SetOf(PlatformTenantCreate)}}
	if Compile(r).Anywhere(Subject{Principal: ana}, PlatformTenantCreate, now).Allowed {
		t.Fatal("a tenant's policy gave a permission of the platform")
	}
	r.Platform = true
	if !Compile(r).Anywhere(Subject{Principal: ana}, PlatformTenantCreate, now).Allowed {
		t.Fatal("the platform's policy does not give its own permission")
	}
}

func TestNoRecordShadowsABuiltInRole(t *testing.T) {
	r := world(member(1, root, true))
	r.Roles = []Role{{ID: Viewer, Permissions: SetOf(DeviceDelete)}}
	if Compile(r).Anywhere(Subject{Principal: ana}, DeviceDelete, now).Allowed {
		t.Fatal("a record changed what viewer means")
	}
}

func TestHeldNeedsTheSameReach(t *testing.T) {
	p := Compile(world(member(1, site, true), Membership{ID: ident.Membership{2}, Principal: ana, Role: Operator, Node: root}))
	s := Subject{Principal: ana}
	if h := p.Held(s, site, true, now); !h.Has(DeviceRead) || h.Has(DeviceCreate) {
		t.Fatalf("held at the site: %v", h.List())
	}
	if h := p.Held(s, root, true, now); h.Has(DeviceCreate) || h.Has(DeviceRead) {
		t.Fatalf("a local right was held recursively: %v", h.List())
	}
	if h := p.Held(s, root, false, now); !h.Has(DeviceCreate) {
		t.Fatalf("a local right was not held locally: %v", h.List())
	}
}

func TestRequireHidesWhatCannotBeRead(t *testing.T) {
	p := Compile(world(member(1, site, true)))
	s := Grant(ident.Tenant{1}, Actor{Kind: Human, ID: ana}, Origin{}, Decision{Allowed: true}, p, Subject{Principal: ana}, now)
	if err := s.Require(DeviceRead, site); err != nil {
		t.Fatal(err)
	}
	if err := s.Require(DeviceDelete, site); !fault.Is(err, fault.Denied) || fault.As(err).Permission != "device:delete" {
		t.Fatalf("readable but not deletable: %v", err)
	}
	if err := s.Require(DeviceDelete, side); !fault.Is(err, fault.NotFound) {
		t.Fatalf("not readable: %v", err)
	}
}

func TestOwnersAreDirectRecursiveAtTheRootWithoutExpiry(t *testing.T) {
	own := Membership{ID: ident.Membership{1}, Principal: ana, Role: Owner, Node: root, Recursive: true}
	for _, c := range []struct {
		name string
		with func(*Membership)
		want int
	}{
		{"an owner", func(*Membership) {}, 1},
		{"local", func(m *Membership) { m.Recursive = false }, 0},
		{"elsewhere", func(m *Membership) { m.Node = site }, 0},
		{"expiring", func(m *Membership) { m.ExpiresAt = now.Add(time.Hour) }, 0},
		{"another role", func(m *Membership) { m.Role = Admin }, 0},
		{"no member", func(m *Membership) { m.Principal = ident.Principal{1} }, 0},
	} {
		m := own
		c.with(&m)
		if got := Owners(world(m)); got != c.want {
			t.Errorf("%s: %d owners, want %d", c.name, got, c.want)
		}
	}
}

func TestABarrierHasAnOwnerOrAdminOfItsOwn(t *testing.T) {
	own := Membership{ID: ident.Membership{1}, Principal: ana, Role: Admin, Node: site, Recursive: true}
	for _, c := range []struct {
		name string
		with func(*Membership)
		lost bool
	}{
		{"an admin", func(*Membership) {}, false},
		{"an owner", func(m *Membership) { m.Role = Owner }, false},
		{"local", func(m *Membership) { m.Recursive = false }, true},
		{"above", func(m *Membership) { m.Node = root }, true},
		{"expiring", func(m *Membership) { m.ExpiresAt = now.Add(time.Hour) }, true},
		{"who may not lift it", func(m *Membership) { m.Role = Operator }, true},
		{"no member", func(m *Membership) { m.Principal = ident.Principal{1} }, true},
	} {
		m := own
		c.with(&m)
		r := world(m)
		for i := range r.Nodes {
			r.Nodes[i].Barrier = r.Nodes[i].ID == site
		}
		if _, got := Unkept(r); got != c.lost {
			t.Errorf("%s: nobody could lift it %v, want %v", c.name, got, c.lost)
		}
	}
}

func TestBuiltInRolesAreTheGoldenTable(t *testing.T) {
	var b strings.Builder
	roles := BuiltIns()
	fmt.Fprintf(&b, "%-26s", "")
	for _, r := range roles {
		fmt.Fprintf(&b, " %-14s", r.Name)
	}
	b.WriteByte('\n')
	for _, p := range Permissions() {
		fmt.Fprintf(&b, "%-26s", p)
		for _, r := range roles {
			mark := "."
			if r.Permissions.Has(p) {
				mark = "x"
			}
			fmt.Fprintf(&b, " %-14s", mark)
		}
		b.WriteByte('\n')
	}
	got := strings.ReplaceAll(b.String(), " \n", "\n")
	const file = "testdata/roles.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("the table of roles changed; if that is meant, run go test ./core/access -update\n%s", got)
	}
}

func TestPermissionNamesAreUniqueAndRoundTrip(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Permissions() {
		if seen[p.String()] || p.String() == "" {
			t.Errorf("permission %d has no name of its own: %q", p, p)
		}
		seen[p.String()] = true
		if got, err := ParsePermission(p.String()); err != nil || got != p {
			t.Errorf("%v does not round trip: %v, %v", p, got, err)
		}
		if p.Read() == None {
			t.Errorf("%v has no permission to read its noun", p)
		}
	}
	if _, err := ParsePermission(""); err == nil {
		t.Error("the empty name was read")
	}
}
