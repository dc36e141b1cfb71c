// Package archtest holds the walls of this module as a test: which room may import what, and the habits that no compiler
// checks (no init, no state that is assigned again, scopes granted in one place, …). Each rule has a name and a reason, and
// its own planted violations under testdata. It is for this module and for modules laid out like it; it judges source
// text, and knows nothing of what the code does when it runs.
package archtest

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// Violation is one place where a rule is broken.
type Violation struct {
	Rule  string // the rule's name, such as "core-wall"
	Where string // file:line, or the package if no line is to blame
	What  string // what stands there
}

// String is the violation in one line, with the reason of its rule.
func (v Violation) String() string {
	return fmt.Sprintf("%s: %s: %s (%s)", v.Where, v.Rule, v.What, Reasons[v.Rule])
}

// Exemption lets one place break one rule, for a reason. One that is no longer needed is itself a violation.
type Exemption struct {
	Rule string
	File string // path in the module, or a folder with a final slash
	Why  string
}

// Options say what is special about the module under test. The zero Options fit a module that needs no exemption.
type Options struct {
	Exempt []Exemption
}

// Test fails for every violation in the module that stands in dir.
func Test(t *testing.T, dir string, o Options) {
	t.Helper()
	found, err := Check(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// Check answers every violation in the module that stands in dir, in the order of their places.
func Check(ctx context.Context, dir string, o Options) ([]Violation, error) {
	m, err := load(ctx, dir)
	if err != nil {
		return nil, err
	}
	var found []Violation
	report := func(rule, where, what string) {
		found = append(found, Violation{Rule: rule, Where: where, What: what})
	}
	for _, p := range m.packages {
		m.walls(p, report)
		p.habits(report)
		p.state(m, report)
	}
	found = exempt(found, o.Exempt)
	slices.SortFunc(found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Where, b.Where), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(found), nil
}

func exempt(found []Violation, list []Exemption) []Violation {
	used := make([]bool, len(list))
	found = slices.DeleteFunc(found, func(v Violation) bool {
		for i, e := range list {
			file, _, _ := strings.Cut(v.Where, ":")
			if e.Rule == v.Rule && (e.File == file || strings.HasSuffix(e.File, "/") && strings.HasPrefix(file, e.File)) {
				used[i] = true
				return true
			}
		}
		return false
	})
	for i, e := range list {
		if !used[i] {
			found = append(found, Violation{Rule: "stale-exemption", Where: e.File, What: "nothing there breaks " + e.Rule})
		}
	}
	return found
}

// inRoom reports whether a folder of the module lies in one of the rooms given, such as "core/access".
func inRoom(folder string, rooms ...string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool { return folder == r || strings.HasPrefix(folder, r+"/") })
}

// parentOf reports whether a is a folder above b.
func parentOf(a, b string) bool { return strings.HasPrefix(b, a+"/") }

// room is the first part of a folder, such as "core" of "core/access".
func room(folder string) string {
	first, _, _ := strings.Cut(path.Clean(folder), "/")
	return first
}
