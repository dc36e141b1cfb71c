package accesstest_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/testkit/accesstest"
)

// sloppy is an evaluator with one bug at most, planted by its name.
type sloppy struct {
	access.Records
	bug  string
	own  []access.Role
	kept map[kept]bool // of the bug that mixes tenants up
}

type kept struct {
	who  ident.Principal
	p    access.Permission
	node ident.Node
}

func (e *sloppy) has(bug string) bool { return e.bug == bug }

func (e *sloppy) node(id ident.Node) (org.Node, bool) {
	i := slices.IndexFunc(e.Nodes, func(n org.Node) bool { return n.ID == id })
	if i < 0 {
		return org.Node{}, false
	}
	return e.Nodes[i], true
}

func (e *sloppy) root() ident.Node {
	for _, n := range e.Nodes {
		if n.Parent.IsZero() {
			return n.ID
		}
	}
	return ident.Node{}
}

func (e *sloppy) builtIn(id ident.Role) (access.Role, bool) {
	i := slices.IndexFunc(e.own, func(r access.Role) bool { return r.ID == id })
	if i < 0 {
		return access.Role{}, false
	}
	return e.own[i], true
}

func (e *sloppy) permissions(id ident.Role) access.Set {
	var set access.Set
	for _, r := range e.Roles {
		if r.ID == id && !e.has("the tenant's own roles are forgotten") {
			set = r.Permissions
		}
	}
	builtIn, ok := e.builtIn(id)
	switch {
	case ok && e.has("a record shadows a built-in role"):
		if set.IsEmpty() {
			set = builtIn.Permissions
		}
	case ok && e.has("a record adds to a built-in role"):
		set = set.Union(builtIn.Permissions)
	case ok:
		set = builtIn.Permissions
	case set.IsEmpty() && e.has("a role that is gone is a viewer"):
		builtIn, _ = e.builtIn(access.Viewer)
		set = builtIn.Permissions
	}
	if e.has("permissions of the platform in tenants") && !e.Platform || e.has("permissions of tenants on the platform") && e.Platform {
		return set
	}
	platform, _ := e.builtIn(access.PlatformAdmin)
	if e.Platform {
		return set.Intersect(platform.Permissions)
	}
	return set.Less(platform.Permissions)
}

func (e *sloppy) gives(role ident.Role, p access.Permission) bool {
	set := e.permissions(role)
	switch {
	case e.has("another permission of the noun is enough"):
		return slices.ContainsFunc(set.List(), func(q access.Permission) bool { return q.Noun() == p.Noun() })
	case e.has("whoever may do something may read it"):
		return set.Has(p) || p != access.None && slices.ContainsFunc(set.List(), func(q access.Permission) bool { return q.Read() == p })
	case e.has("whoever may read may do"):
		return set.Has(p) || set.Has(p.Read())
	case e.has("the last permission of the catalogue is forgotten"):
		return set.Has(p) && p != access.PlatformSettingWrite
	}
	return set.Has(p)
}

func (e *sloppy) live(m access.Membership, now time.Time) bool {
	switch {
	case e.has("an expiry is ignored"):
		return true
	case e.has("no expiry is long ago"):
		return now.Before(m.ExpiresAt)
	case m.ExpiresAt.IsZero():
		return true
	case e.has("an expiry is compared the wrong way"):
		return now.After(m.ExpiresAt)
	case e.has("a membership lives at its last moment"):
		return !now.After(m.ExpiresAt)
	case e.has("an expiry is cut to seconds"):
		return now.Before(m.ExpiresAt.Truncate(time.Second))
	case e.has("an expiry is late by an hour"):
		return now.Before(m.ExpiresAt.Add(time.Hour))
	}
	return now.Before(m.ExpiresAt)
}

func (e *sloppy) contains(id ident.Group, who ident.Principal, level int) bool {
	most := access.MaxNesting
	switch {
	case e.has("groups within groups are forgotten"):
		most = 1
	case e.has("groups nest one level only"):
		most = 2
	case e.has("groups nest a level less"):
		most--
	case e.has("groups nest a level more"):
		most++
	}
	if level >= most || e.has("groups give nothing") {
		return false
	}
	return slices.ContainsFunc(e.Groups, func(g access.Group) bool {
		if g.ID != id || e.has("a group in a circle gives nothing") && slices.Contains(g.Groups, id) {
			return false
		}
		if e.has("a group's first member alone counts") && len(g.Members) > 0 {
			return g.Members[0] == who
		}
		return slices.Contains(g.Members, who) || slices.ContainsFunc(g.Groups, func(c ident.Group) bool { return e.contains(c, who, level+1) })
	})
}

func (e *sloppy) whose(m access.Membership, who ident.Principal) bool {
	active := e.Active[who] || e.has("who is inactive decides all the same") || e.has("who is inactive keeps their groups' rights") && m.Principal.IsZero()
	if !active {
		return false
	}
	if e.has("a membership of a group is everybody's") && m.Principal.IsZero() {
		return true
	}
	return m.Principal == who || m.Principal.IsZero() && e.contains(m.Group, who, 0)
}

func (e *sloppy) reaches(m access.Membership, at ident.Node) bool {
	target, _ := e.node(at)
	place, _ := e.node(m.Node)
	recursive := m.Recursive
	switch {
	case at == m.Node:
		return !(e.has("a barrier stops its own memberships") && place.Barrier)
	case e.has("local is taken for recursive"):
		recursive = true
	case e.has("recursive is taken for local"):
		recursive = false
	case e.has("a membership reaches its siblings") && target.Parent == place.Parent && recursive:
		return true
	case e.has("a membership reaches its parent") && place.Parent == at && recursive:
		return true
	case e.has("a membership reaches its children though local") && target.Parent == m.Node:
		return true
	}
	if !recursive {
		return false
	}
	for steps := 0; steps <= len(e.Nodes); steps++ {
		if target.Barrier && !e.has("a barrier is ignored") &&
			!(e.has("a barrier at the target is ignored") && target.ID == at) &&
			!(e.has("a barrier on the way is ignored") && target.ID != at) {
			return false
		}
		parent, ok := e.node(target.Parent)
		if !ok && e.has("an orphan hangs below the root") && !target.Parent.IsZero() {
			parent, ok = e.node(e.root())
		}
		if !ok {
			return false
		}
		if e.has("a barrier where the membership stands stops it") && parent.Barrier {
			return false
		}
		if target = parent; target.ID == m.Node {
			return true
		}
		if e.has("recursive goes one level down") || e.has("recursive goes fifteen levels down") && steps == 14 {
			return false
		}
	}
	return false
}

func (e *sloppy) Decide(s access.Subject, p access.Permission, at ident.Node, now time.Time) access.Decision {
	d := access.Decision{Permission: p, Revision: e.Revision, Reason: access.ReasonNoMembership}
	if e.has("a revision is forgotten") {
		d.Revision = 0
	}
	if s.Narrowed && !s.Limit.Has(p) && !e.has("a narrowed token is not narrowed") && !(e.has("an empty token is not narrowed") && s.Limit.IsEmpty()) {
		d.Reason = access.ReasonToken
		return d
	}
	if at.IsZero() && !e.has("the root has one name only") {
		at = e.root()
	}
	if _, ok := e.node(at); !ok {
		if !e.has("a node of nobody is the root") {
			d.Reason = access.ReasonUnknownNode
			return d
		}
		at = e.root()
	}
	if e.has("a narrowed token gives what it names") && s.Narrowed {
		d.Allowed = true
		return d
	}
	for _, m := range e.Memberships {
		place, there := e.node(m.Node)
		if !there && e.has("a membership at a node that is gone stands at the root") {
			m.Node = e.root()
			place, there = e.node(m.Node)
		}
		if !there || !e.whose(m, s.Principal) {
			continue
		}
		if !e.live(m, now) {
			if e.has("an expired membership forbids the rest") {
				return access.Decision{Permission: p, Revision: e.Revision, Reason: access.ReasonNoMembership}
			}
			continue
		}
		if e.permissions(m.Role).IsEmpty() {
			continue
		}
		if !e.gives(m.Role, p) {
			if e.has("a membership that lacks it forbids it") {
				return access.Decision{Permission: p, Revision: e.Revision, Reason: access.ReasonNoPermission}
			}
			if d.Reason == access.ReasonNoMembership {
				d.Reason = access.ReasonNoPermission
			}
		} else if !e.reaches(m, at) {
			if !d.Allowed && !e.has("the reason is forgotten") {
				d.Reason = access.ReasonNoReach
			}
		} else if !d.Allowed || m.ID.Compare(d.Membership) < 0 && !e.has("the first record is named") {
			d.Allowed, d.Reason, d.Membership, d.Role, d.Node = true, access.ReasonGranted, m.ID, m.Role, place.ID
		}
		if e.has("the first membership alone counts") || e.has("the first that gives it alone counts") && d.Reason == access.ReasonNoReach {
			break
		}
	}
	if e.has("two memberships cancel out") && len(e.Memberships) > 5 {
		d = access.Decision{Permission: p, Revision: e.Revision, Reason: access.ReasonNoReach}
	}
	if e.has("decisions are kept without their tenant") {
		k := kept{s.Principal, p, at}
		if at == e.root() {
			k.node = ident.Node{}
		}
		if e.kept[k] {
			d.Allowed = true
		}
		e.kept[k] = d.Allowed
	}
	return d
}

func (e *sloppy) Anywhere(s access.Subject, p access.Permission, now time.Time) access.Decision {
	if e.has("anywhere is the root") {
		return e.Decide(s, p, ident.Node{}, now)
	}
	for _, n := range e.Nodes {
		if d := e.Decide(s, p, n.ID, now); d.Allowed {
			return d
		}
	}
	return access.Decision{Permission: p, Revision: e.Revision}
}

func (e *sloppy) Reach(s access.Subject, p access.Permission, now time.Time) access.Reach {
	var r access.Reach
	if e.has("reach forgets the token") {
		s.Narrowed = false
	}
	if e.has("reach forgets expiry") {
		now = now.AddDate(-1, 0, 0)
	}
	for _, n := range e.Nodes {
		is := e.Decide(s, p, n.ID, now).Allowed
		if !is && e.has("reach includes siblings") {
			is = slices.ContainsFunc(e.Nodes, func(o org.Node) bool { return o.Parent == n.Parent && e.Decide(s, p, o.ID, now).Allowed })
		}
		if !is && e.has("reach includes parents") {
			is = slices.ContainsFunc(e.Nodes, func(o org.Node) bool { return o.Parent == n.ID && e.Decide(s, p, o.ID, now).Allowed })
		}
		if is && !(e.has("reach forgets the root") && n.Parent.IsZero()) {
			r.Nodes = append(r.Nodes, n.ID)
		}
	}
	if len(r.Nodes) == len(e.Nodes) || e.has("reach is everywhere but for one node") && len(r.Nodes) > 1 && len(r.Nodes) == len(e.Nodes)-1 {
		return access.Everywhere
	}
	if !e.has("reach is not sorted") {
		slices.SortFunc(r.Nodes, func(a, b ident.Node) int { return a.Compare(b) })
	}
	return r
}

func (e *sloppy) Held(s access.Subject, node ident.Node, recursive bool, now time.Time) access.Set {
	var held access.Set
	if _, ok := e.node(node); !ok && !e.has("at a node of nobody one holds what one holds at the root") {
		return held
	}
	if e.has("held forgets the token") {
		s.Narrowed = false
	}
	below := *e
	if recursive && !e.has("held forgets that the grant goes down") {
		if e.has("held looks at what is there today") {
			below.Nodes = nil
			for _, n := range e.Nodes {
				if e.reaches(access.Membership{Node: node, Recursive: true}, n.ID) {
					below.Nodes = append(below.Nodes, n)
				}
			}
			for _, p := range access.Permissions() {
				if !slices.ContainsFunc(below.Nodes, func(n org.Node) bool { return !e.Decide(s, p, n.ID, now).Allowed }) {
					held = held.With(p)
				}
			}
			return held
		}
		below.Nodes = append(slices.Clone(e.Nodes), org.Node{ID: ident.Node{0xee}, Parent: node})
		node = ident.Node{0xee}
	}
	for _, p := range access.Permissions() {
		d := below.Decide(s, p, node, now)
		if e.has("held is held anywhere") {
			d = e.Anywhere(s, p, now)
		}
		if d.Allowed {
			held = held.With(p)
		}
	}
	return held
}

func (e *sloppy) HeldUntil(s access.Subject, node ident.Node, recursive bool, now, until time.Time) access.Set {
	switch {
	case e.has("held forgets when the grant ends"):
		return e.Held(s, node, recursive, now)
	case until.IsZero() && e.has("held forgets that a grant has no end"):
		return e.Held(s, node, recursive, now)
	case until.IsZero():
		return e.Held(s, node, recursive, now.AddDate(1000, 0, 0))
	}
	return e.Held(s, node, recursive, until.Add(-time.Microsecond))
}

// mutants are bugs with the check that must notice them. A bug's other checks may notice it as well.
func mutants() map[string][]string {
	return map[string][]string{
		"ItDecidesAsTheReferenceDoes": {
			"a barrier is ignored", "a barrier at the target is ignored", "a barrier on the way is ignored", "a barrier stops its own memberships",
			"a barrier where the membership stands stops it", "local is taken for recursive", "recursive is taken for local",
			"recursive goes one level down", "recursive goes fifteen levels down", "a membership reaches its siblings",
			"a membership reaches its parent", "a membership reaches its children though local", "an orphan hangs below the root",
			"an expiry is ignored", "no expiry is long ago", "an expiry is compared the wrong way", "a membership lives at its last moment",
			"an expiry is cut to seconds", "an expiry is late by an hour", "groups within groups are forgotten", "groups nest one level only",
			"groups nest a level less", "groups nest a level more", "groups give nothing", "a group's first member alone counts",
			"a membership of a group is everybody's", "who is inactive decides all the same", "who is inactive keeps their groups' rights",
			"a narrowed token is not narrowed", "an empty token is not narrowed", "a narrowed token gives what it names",
			"a record shadows a built-in role", "a record adds to a built-in role", "the tenant's own roles are forgotten",
			"a role that is gone is a viewer", "permissions of the platform in tenants", "permissions of tenants on the platform",
			"another permission of the noun is enough", "whoever may do something may read it", "whoever may read may do",
			"the last permission of the catalogue is forgotten", "a node of nobody is the root", "the root has one name only",
			"a membership at a node that is gone stands at the root", "a revision is forgotten", "the reason is forgotten",
		},
		"ReachIsWhereItAllows": {
			"reach forgets the token", "reach forgets expiry", "reach includes siblings", "reach includes parents", "reach forgets the root",
			"reach is everywhere but for one node", "anywhere is the root",
		},
		"HeldIsWhatAGrantWouldGiveNothingMoreThan": {
			"held forgets the token", "held forgets that the grant goes down", "held looks at what is there today", "held is held anywhere",
			"at a node of nobody one holds what one holds at the root", "held forgets when the grant ends", "held forgets that a grant has no end", "a barrier is ignored", "local is taken for recursive",
		},
		"TheOrderOfRecordsDoesNotMatter": {
			"the first record is named", "the first membership alone counts", "a group's first member alone counts", "reach is not sorted",
		},
		"OneMoreMembershipTakesNothingAway":  {"a membership that lacks it forbids it", "two memberships cancel out", "an expired membership forbids the rest"},
		"OneLessMembershipGivesNothing":      {"a membership that lacks it forbids it", "the first membership alone counts", "two memberships cancel out"},
		"AnotherTenantsRecordsChangeNothing": {"decisions are kept without their tenant"},
		"CirclesOfGroupsAndNodesEnd":         {"a group in a circle gives nothing", "an orphan hangs below the root"},
		"WhatHasExpiredIsAsIfItWereNotThere": {"an expiry is ignored", "an expiry is compared the wrong way", "an expired membership forbids the rest", "a membership lives at its last moment"},
		"NobodyGrantsWhatTheyLack":           {"held forgets the token", "held forgets that the grant goes down", "held looks at what is there today", "held is held anywhere", "held forgets when the grant ends", "held forgets that a grant has no end"},
	}
}

func planted(bug string) func(access.Records) accesstest.Policy {
	all, own := map[kept]bool{}, access.BuiltIns()
	return func(r access.Records) accesstest.Policy {
		r.Nodes, r.Roles, r.Groups, r.Memberships = slices.Clone(r.Nodes), slices.Clone(r.Roles), slices.Clone(r.Groups), slices.Clone(r.Memberships)
		return &sloppy{Records: r, bug: bug, own: own, kept: all}
	}
}

// fewer are enough for every bug, and small enough that a bug is looked for in seconds.
const fewer = 20_000

func TestEveryPlantedBugIsCaughtByTheCheckNamedForIt(t *testing.T) {
	if unraced(t) {
		return
	}
	bugs := map[string]bool{}
	for name, list := range mutants() {
		i := slices.IndexFunc(accesstest.Checks(), func(c accesstest.Check) bool { return c.Name == name })
		if i < 0 {
			t.Fatalf("there is no check %s", name)
		}
		for _, bug := range list {
			bugs[bug] = true
			t.Run(name+"/"+strings.ReplaceAll(bug, " ", "_"), func(t *testing.T) {
				if said := run(t, accesstest.Checks()[i], accesstest.Options{Compile: planted(bug), Sets: fewer, Seed: 2}); !strings.Contains(said, "set ") && !strings.Contains(said, "seed ") {
					t.Errorf("not caught: %q", said)
				}
			})
		}
	}
	if len(bugs) < 30 {
		t.Errorf("%d bugs, at least 30 are wanted", len(bugs))
	}
	t.Logf("%d bugs", len(bugs))
}

// Without a bug the same evaluator is a third one that passes: what the checks notice are the bugs.
func TestTheEvaluatorWithoutABugPasses(t *testing.T) {
	if unraced(t) {
		return
	}
	for _, c := range accesstest.Checks() {
		if said := run(t, c, accesstest.Options{Compile: planted(""), Sets: fewer / 20, Seed: 2}); said != "" {
			t.Errorf("%s: %s", c.Name, said)
		}
	}
}

// recorder is a test that a check may fail without failing ours.
type recorder struct {
	testing.TB
	mu   sync.Mutex
	said strings.Builder
}

func (r *recorder) Helper()             {}
func (r *recorder) Logf(string, ...any) {}

func (r *recorder) say(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said.WriteString(s + "\n")
}

func (r *recorder) Error(args ...any)                 { r.say(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.say(fmt.Sprintf(format, args...)) }
func (r *recorder) Fatal(args ...any)                 { r.say(fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) {
	r.say(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// ran answers what a check said, or nothing if it was content.
func ran(t *testing.T, check func(*recorder)) string {
	r, done := &recorder{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		check(r)
	}()
	<-done
	return r.said.String()
}

func run(t *testing.T, c accesstest.Check, o accesstest.Options) string {
	return ran(t, func(r *recorder) { c.Run(r, o) })
}
