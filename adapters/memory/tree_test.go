package memory

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// A tree is held to a map, and every older version to what it was.
func TestATreeIsASortedMapWhoseOldVersionsStay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in every run
	type version struct {
		tree tree[int]
		is   map[string]int
	}
	var kept []version
	now, is := tree[int]{}, map[string]int{}
	for i := range 4000 {
		key := strconv.Itoa(r.IntN(300))
		if r.IntN(3) == 0 {
			now = now.drop(key)
			delete(is, key)
		} else {
			now = now.put(key, i)
			is[key] = i
		}
		if i%100 == 0 {
			kept = append(kept, version{now, maps.Clone(is)})
		}
	}
	for i, v := range append(kept, version{now, is}) {
		keys := slices.Sorted(maps.Keys(v.is))
		var up, down []string
		for k, got := range v.tree.up("") {
			up = append(up, k)
			if got != v.is[k] {
				t.Fatalf("version %d: %s is %d, want %d", i, k, got, v.is[k])
			}
		}
		for k := range v.tree.down("") {
			down = append(down, k)
		}
		slices.Reverse(down)
		if !slices.Equal(up, keys) || !slices.Equal(down, keys) || v.tree.n != len(keys) {
			t.Fatalf("version %d: %d keys up, %d down, %d counted, want %d", i, len(up), len(down), v.tree.n, len(keys))
		}
		if len(keys) == 0 {
			continue
		}
		middle := keys[len(keys)/2]
		for k := range v.tree.up(middle) {
			if k != middle {
				t.Errorf("version %d: up from %s begins at %s", i, middle, k)
			}
			break
		}
		for k := range v.tree.down(middle) {
			if want := keys[len(keys)/2-1]; k != want {
				t.Errorf("version %d: down from below %s begins at %s, want %s", i, middle, k, want)
			}
			break
		}
	}
}
