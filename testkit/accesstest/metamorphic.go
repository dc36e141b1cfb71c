package accesstest

import (
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

// The checks here compare an evaluator with itself: none of them needs to know what is right.

// answers are what a policy says to some questions.
func answers(p Policy, qs []request, now time.Time) []access.Decision {
	ds := make([]access.Decision, len(qs))
	for i, q := range qs {
		ds[i] = p.Decide(q.Subject, q.p, q.node, now)
	}
	return ds
}

func (w *world) askAll() []request {
	qs := make([]request, asked)
	for i := range qs {
		qs[i] = w.ask()
	}
	return qs
}

// each throws worlds and hands out every one with its questions and what is said to them.
func each(t testing.TB, o Options, check uint64, do func(w *world, qs []request, said []access.Decision) string) {
	w := newWorld(o.dice(check), 1)
	for n := range max(1, o.Sets/5) {
		w.throw()
		qs := w.askAll()
		if wrong := do(w, qs, answers(o.Compile(w.Records), qs, w.now)); wrong != "" {
			t.Fatalf("seed %d, set %d: %s\nquestions %+v\nrecords %+v", o.Seed, n, wrong, qs, w.Records)
		}
	}
}

func shuffle[V any](w *world, of []V) {
	w.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
}

func ordered(t testing.TB, o Options) {
	each(t, o, 4, func(w *world, qs []request, said []access.Decision) string {
		q := qs[0]
		policy := o.Compile(w.Records)
		reach, held := policy.Reach(q.Subject, q.p, w.now), policy.Held(q.Subject, q.node, true, w.now)
		shuffle(w, w.Nodes)
		shuffle(w, w.Roles)
		shuffle(w, w.Groups)
		shuffle(w, w.Memberships)
		for _, g := range w.Groups {
			shuffle(w, g.Members)
			shuffle(w, g.Groups)
		}
		policy = o.Compile(w.Records)
		if !slices.Equal(answers(policy, qs, w.now), said) {
			return "the same records in another order decide otherwise"
		}
		if r := policy.Reach(q.Subject, q.p, w.now); r.All != reach.All || !slices.Equal(r.Nodes, reach.Nodes) || policy.Held(q.Subject, q.node, true, w.now) != held {
			return "the same records in another order reach elsewhere"
		}
		return ""
	})
}

func grows(t testing.TB, o Options) {
	each(t, o, 5, func(w *world, qs []request, said []access.Decision) string {
		q := qs[0]
		held := o.Compile(w.Records).Held(q.Subject, q.node, true, w.now)
		w.Memberships = append(w.Memberships, w.throwMembership(200))
		policy := o.Compile(w.Records)
		for i, d := range answers(policy, qs, w.now) {
			if said[i].Allowed && !d.Allowed {
				return "one more membership took something away"
			}
		}
		if !held.Within(policy.Held(q.Subject, q.node, true, w.now)) {
			return "one more membership took away what may be granted"
		}
		return ""
	})
}

func shrinks(t testing.TB, o Options) {
	each(t, o, 6, func(w *world, qs []request, said []access.Decision) string {
		i := w.IntN(len(w.Memberships))
		w.Memberships = slices.Delete(w.Memberships, i, i+1)
		for i, d := range answers(o.Compile(w.Records), qs, w.now) {
			if d.Allowed && !said[i].Allowed {
				return "one membership less gave something"
			}
		}
		return ""
	})
}

func apart(t testing.TB, o Options) {
	other := newWorld(o.dice(8), 2)
	each(t, o, 7, func(w *world, qs []request, said []access.Decision) string {
		ours := o.Compile(w.Records)
		for range 2 {
			theirs := o.Compile(other.throw().Records)
			want := other.reference()
			for _, q := range qs { // the same people, permissions, and the root by its other name
				if theirs.Decide(q.Subject, q.p, q.node, w.now) != want.Decide(q.Subject, q.p, q.node, w.now) {
					return "a tenant's decision came from another's records"
				}
			}
		}
		if !slices.Equal(answers(ours, qs, w.now), said) || !slices.Equal(answers(o.Compile(w.Records), qs, w.now), said) {
			return "another tenant's records changed a decision"
		}
		return ""
	})
}

// circles are what the rules of administration do not let come into being. If they are there all the same, decisions end.
func circles(t testing.TB, o Options) {
	ended := make(chan string, 1)
	go func() {
		defer close(ended)
		w := newWorld(o.dice(9), 1)
		for range max(1, o.Sets/50) {
			if wrong := circle(w.throw(), o); wrong != "" {
				ended <- wrong
				return
			}
		}
	}()
	select {
	case wrong := <-ended:
		if wrong != "" {
			t.Fatalf("seed %d: %s", o.Seed, wrong)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("a decision over a circle did not end")
	}
}

func circle(w *world, o Options) string {
	for i := range w.Groups {
		w.Groups[i].Groups = append(w.Groups[i].Groups, w.Groups[(i+1)%len(w.Groups)].ID)
	}
	qs, want := w.askAll(), w.reference()
	policy := o.Compile(w.Records)
	for _, q := range qs {
		if policy.Decide(q.Subject, q.p, q.node, w.now) != want.Decide(q.Subject, q.p, q.node, w.now) {
			return "groups in a circle decide otherwise than the reference"
		}
	}
	loop := []org.Node{{ID: w.nodeID(100), Parent: w.nodeID(101)}, {ID: w.nodeID(101), Parent: w.nodeID(100)}, {ID: w.nodeID(102), Parent: w.nodeID(102)}}
	w.Nodes = append(w.Nodes, loop...)
	w.Platform = false
	w.Active[w.people[0]] = true
	w.Memberships = append(w.Memberships, access.Membership{ID: ident.Membership{1}, Principal: w.people[0], Role: access.Owner, Node: w.Nodes[0].ID, Recursive: true})
	policy, who := o.Compile(w.Records), access.Subject{Principal: w.people[0]}
	reach := policy.Reach(who, access.DeviceRead, w.now)
	policy.Held(who, loop[0].ID, true, w.now)
	for _, n := range loop {
		if policy.Decide(who, access.DeviceRead, n.ID, w.now).Allowed || slices.Contains(reach.Nodes, n.ID) {
			return "the root reaches a circle of nodes that does not hang below it"
		}
	}
	return ""
}

func expires(t testing.TB, o Options) {
	each(t, o, 10, func(w *world, qs []request, said []access.Decision) string {
		w.Memberships = slices.DeleteFunc(w.Memberships, func(m access.Membership) bool { return !m.Live(w.now) })
		if !slices.Equal(answers(o.Compile(w.Records), qs, w.now), said) {
			return "an expired membership decided something"
		}
		return ""
	})
}
