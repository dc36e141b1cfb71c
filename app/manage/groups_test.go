package manage

import (
	"testing"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
)

// layers are groups of which each has all of the layer below it.
func layers(wide, deep int) map[ident.Group]access.Group {
	all := map[ident.Group]access.Group{}
	var below []ident.Group
	for layer := range deep {
		var these []ident.Group
		for n := range wide {
			id := ident.Group{byte(layer + 1), byte(n + 1)}
			all[id] = access.Group{ID: id, Groups: below}
			these = append(these, id)
		}
		below = these
	}
	return all
}

// The ways through sixty groups in each of eight layers are more than could ever be walked.
func TestNestingIsMeasuredWithoutWalkingEveryWay(t *testing.T) {
	all := layers(60, access.MaxNesting)
	top, bottom := ident.Group{access.MaxNesting, 1}, ident.Group{1, 1}
	if got := deepest(all, map[ident.Group]bool{top: true}); got != access.MaxNesting {
		t.Errorf("%d deep, want %d", got, access.MaxNesting)
	}
	around := surrounding(all, bottom)
	if want := 60*(access.MaxNesting-1) + 1; len(around) != want {
		t.Errorf("%d groups surround one at the bottom, want %d", len(around), want)
	}
	// One more below the lowest makes the highest too deep, which is seen from below as well.
	under := ident.Group{99}
	all[under] = access.Group{ID: under}
	g := all[bottom]
	g.Groups = []ident.Group{under}
	all[bottom] = g
	if got := deepest(all, surrounding(all, bottom)); got <= access.MaxNesting {
		t.Errorf("%d deep, want more than %d", got, access.MaxNesting)
	}
}

func TestACircleOfGroupsIsTooDeep(t *testing.T) {
	all := layers(1, 3)
	lowest := all[ident.Group{1, 1}]
	lowest.Groups = []ident.Group{{3, 1}}
	all[lowest.ID] = lowest
	for id := range all {
		if got := deepest(all, surrounding(all, id)); got <= access.MaxNesting {
			t.Errorf("%s: %d deep", id, got)
		}
	}
}
