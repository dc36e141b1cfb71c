package enter

import (
	"context"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
)

// kin are a tenant's id and every id that differs from it in one byte: 4,081.
func kin(base ident.Tenant) []ident.Tenant {
	ids := []ident.Tenant{base}
	for at := range base {
		for v := range 256 {
			if id := base; byte(v) != base[at] {
				id[at] = byte(v)
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// remembering is a cache that loads each tenant as itself, and counts.
func remembering(limit int) (*policies, map[ident.Tenant]int) {
	var mu sync.Mutex
	loads := map[ident.Tenant]int{}
	p := newPolicies(limit)
	p.load = func(_ context.Context, t ident.Tenant) (*standing, error) {
		mu.Lock()
		defer mu.Unlock()
		loads[t]++
		return &standing{tenant: tenant.Tenant{ID: t}}, nil
	}
	return p, loads
}

func TestTenantsWhoseIDsDifferInOneByteShareNothing(t *testing.T) {
	for _, limit := range []int{5000, 50} { // with room for all, and with places that are given to others all the time
		ids := kin(ident.Tenant{1, 0x90, ' ', '/', ':', 0, 0xff, 'a', 'b', '\n', ',', '|', '"', '\\', '%', 0})
		p, loads := remembering(limit)
		for range 2 {
			for _, id := range ids {
				if s, err := p.get(t.Context(), id); err != nil || s.tenant.ID != id {
					t.Fatalf("%v was given %v, %v", id, s, err)
				}
			}
		}
		for _, id := range ids {
			if limit > len(ids) && loads[id] != 1 {
				t.Fatalf("%v was read %d times", id, loads[id])
			}
		}
	}
}

func TestNewsOfOneTenantRenewsNoOther(t *testing.T) {
	ids := kin(ident.Tenant{7, 7})
	p, loads := remembering(5000)
	all := func() {
		for _, id := range ids {
			if _, err := p.get(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	all()
	for _, told := range []ident.Tenant{ids[0], ids[1], ids[len(ids)-1]} {
		before := loads[told]
		p.revised(told, 2)
		all()
		if loads[told] != before+1 {
			t.Errorf("%v was told of and read %d times more", told, loads[told]-before)
		}
	}
	read := func() (sum int) {
		for _, n := range loads {
			sum += n
		}
		return sum
	}
	if got := read(); got != len(ids)+3 {
		t.Errorf("%d reads of %d tenants after news of three", got, len(ids))
	}
	p.revised(ident.Tenant{}, 0) // any tenant's
	all()
	if got := read(); got != 2*len(ids)+3 {
		t.Errorf("%d reads of %d tenants after news of all", got, len(ids))
	}
}
