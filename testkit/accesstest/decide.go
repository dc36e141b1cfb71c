package accesstest

import (
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

// asked is how many questions each set of records is asked.
const asked = 10

// feature is a part of the model. It is counted where it decided: where the answer would be another one without it.
type feature struct {
	name    string
	without func(*reference, *request) // takes the feature away
	allows  bool                       // whether the answer was yes because of it
}

// features are the parts of the model that must have decided, each a thousand times. The order of deletion matters nowhere.
func features(builtIns []access.Role) []feature {
	memberships := func(do func(*access.Membership)) func(*reference, *request) {
		return func(r *reference, _ *request) {
			r.Memberships = slices.Clone(r.Memberships)
			for i := range r.Memberships {
				do(&r.Memberships[i])
			}
		}
	}
	return []feature{
		{"inheritance", memberships(func(m *access.Membership) { m.Recursive = false }), true},
		{"local only", memberships(func(m *access.Membership) { m.Recursive = true }), false},
		{"expired membership", memberships(func(m *access.Membership) { m.ExpiresAt = m.ExpiresAt.AddDate(1, 0, 0) }), false},
		{"barrier in the way", func(r *reference, _ *request) {
			r.Nodes = slices.Clone(r.Nodes)
			for i := range r.Nodes {
				r.Nodes[i].Barrier = false
			}
		}, false},
		{"group", func(r *reference, _ *request) { r.Groups = nil }, true},
		{"group nesting", func(r *reference, _ *request) {
			r.Groups = slices.Clone(r.Groups)
			for i := range r.Groups {
				r.Groups[i].Groups = nil
			}
		}, true},
		{"inactive principal", func(r *reference, q *request) { r.Active = map[ident.Principal]bool{q.Principal: true} }, false},
		{"custom role", func(r *reference, _ *request) { r.roles = builtIns }, true},
		{"built-in role", func(r *reference, _ *request) { r.roles = r.Roles }, true},
		{"built-in role shadowed in vain", func(r *reference, _ *request) { r.roles = append(slices.Clone(r.Roles), builtIns...) }, false},
		{"role that is gone", memberships(func(m *access.Membership) {
			if m.Role[1] == 200 {
				m.Role = access.Owner
			}
		}), false},
		{"node of nobody", func(_ *reference, q *request) { q.node = ident.Node{} }, false},
		{"membership at a node that is gone", func(r *reference, q *request) {
			memberships(func(m *access.Membership) {
				if m.Node[1] > 200 {
					m.Node = r.Nodes[0].ID
				}
			})(r, q)
		}, false},
		{"narrowed token", func(_ *reference, q *request) { q.Narrowed = false }, false},
		{"permission of the other kind", func(r *reference, _ *request) { r.Platform = !r.Platform }, false},
		{"permission of the platform", func(r *reference, _ *request) { r.Platform = false }, true},
	}
}

// decides compares the decisions whole: answer, reason, and what decided.
func decides(t testing.TB, o Options) {
	w := newWorld(o.dice(1), 1)
	parts := features(w.builtIns)
	counts, depths, allowed, looked := make([]int, len(parts)), [deepest + 1]int{}, 0, 0
	// Looking where features decide costs as much as twenty decisions, and those of some sets are enough for a thousand.
	every := max(1, o.Sets/20_000)
	for n := range o.Sets {
		w.throw()
		policy, want := o.Compile(w.Records), w.reference()
		for range asked {
			q := w.ask()
			a, b := policy.Decide(q.Subject, q.p, q.node, w.now), want.Decide(q.Subject, q.p, q.node, w.now)
			if a != b {
				t.Fatalf("seed %d, set %d: %+v\ndecided %+v\nwant    %+v\nrecords %+v", o.Seed, n, q, a, b, w.Records)
			}
			if b.Allowed {
				allowed++
			}
			if n%every == 0 {
				looked++
				depths[depth(w.Nodes, q.node)]++
				for i, f := range parts {
					r, other := *want, q
					f.without(&r, &other)
					if b.Allowed == f.allows && r.Decide(other.Subject, other.p, other.node, w.now).Allowed != f.allows {
						counts[i]++
					}
				}
			}
		}
	}
	if o.Sets < 50_000 {
		return // too few to say how often anything happens
	}
	if share := float64(allowed) / float64(asked*o.Sets); share < 0.25 {
		t.Errorf("only %.1f %% are allowed: too few to show much", 100*share)
	} else {
		t.Logf("%d decisions, %.1f %% allowed", asked*o.Sets, 100*share)
	}
	const least = 1000
	for i, f := range parts {
		if counts[i] < least {
			t.Errorf("%s decided only %d times of %d, want %d", f.name, counts[i], looked, least)
		}
	}
	for d, n := range depths {
		if n < least {
			t.Errorf("depth %d was asked for only %d times of %d, want %d", d, n, looked, least)
		}
	}
	t.Logf("decided by: %v, depths: %v", counts, depths)
}

// depth is how many nodes stand above one; 0 for the root and for what is not there.
func depth(nodes []org.Node, id ident.Node) int {
	at := slices.IndexFunc(nodes, func(n org.Node) bool { return n.ID == id })
	if at < 0 || nodes[at].Parent.IsZero() {
		return 0
	}
	return 1 + depth(nodes[:at], nodes[at].Parent) // parents are thrown before their children
}

// reaches compares where a permission is held, and whether it is anywhere.
func reaches(t testing.TB, o Options) {
	w := newWorld(o.dice(2), 1)
	for n := range o.Sets {
		w.throw()
		policy, want, q := o.Compile(w.Records), w.reference(), w.ask()
		var nodes []ident.Node
		for _, node := range w.Nodes {
			if want.Decide(q.Subject, q.p, node.ID, w.now).Allowed {
				nodes = append(nodes, node.ID) // ids are thrown in their order
			}
		}
		reach, anywhere := policy.Reach(q.Subject, q.p, w.now), policy.Anywhere(q.Subject, q.p, w.now)
		if reach.All != (len(nodes) == len(w.Nodes)) || !reach.All && !slices.Equal(reach.Nodes, nodes) {
			t.Fatalf("seed %d, set %d: %+v\nreaches %v\nwant    %v\nrecords %+v", o.Seed, n, q, reach, nodes, w.Records)
		}
		if anywhere.Allowed != (len(nodes) > 0) || anywhere.Revision != w.Revision ||
			anywhere.Allowed && policy.Decide(q.Subject, q.p, anywhere.Node, w.now).Reason != access.ReasonGranted {
			t.Fatalf("seed %d, set %d: %+v\nanywhere %+v\nwant     %v\nrecords %+v", o.Seed, n, q, anywhere, nodes, w.Records)
		}
	}
}

// holds compares what may be granted. A grant that goes down also gives what is placed below it later, so whoever makes it
// must have all of it at a node that is not there yet, and at the grant's last moment.
func holds(t testing.TB, o Options) {
	w, later := newWorld(o.dice(3), 1), ident.Node{0xff}
	for n := range max(1, o.Sets/5) {
		w.throw()
		policy, want, q := o.Compile(w.Records), w.reference(), w.ask()
		recursive, at := w.oneIn(2), q.node
		there := slices.ContainsFunc(w.Nodes, func(n org.Node) bool { return n.ID == q.node })
		if recursive && there {
			want.Nodes = append(slices.Clone(w.Nodes), org.Node{ID: later, Parent: at})
			at = later
		}
		all := func(now time.Time) (all access.Set) {
			for _, p := range access.Permissions() {
				if there && want.Decide(q.Subject, p, at, now).Allowed {
					all = all.With(p)
				}
			}
			return all
		}
		if got, want := policy.Held(q.Subject, q.node, recursive, w.now), all(w.now); got != want {
			t.Fatalf("seed %d, set %d: %+v, recursive %v\nholds %v\nwant  %v\nrecords %+v", o.Seed, n, q, recursive, got.List(), want.List(), w.Records)
		}
		until := w.now.Add(time.Duration(1+w.IntN(3)) * time.Microsecond)
		last := until.Add(-time.Microsecond)
		if w.oneIn(2) {
			until, last = time.Time{}, w.now.AddDate(7000, 0, 0)
		}
		if got, want := policy.HeldUntil(q.Subject, q.node, recursive, w.now, until), all(last); got != want {
			t.Fatalf("seed %d, set %d: %+v, recursive %v\nholds until %v %v\nwant %v\nrecords %+v", o.Seed, n, q, recursive, until, got.List(), want.List(), w.Records)
		}
	}
}
