package enter

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
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

func TestWhatCouldNotBeReadIsNotKept(t *testing.T) {
	p, loads := remembering(8)
	whole, broken := p.load, errors.New("away")
	p.load = func(ctx context.Context, id ident.Tenant) (*standing, error) {
		s, _ := whole(ctx, id)
		return s, broken
	}
	id := ident.Tenant{1}
	for range 2 {
		if s, err := p.get(t.Context(), id); s != nil || !errors.Is(err, broken) {
			t.Fatalf("%v, %v, want the error", s, err)
		}
	}
	p.load = whole
	if _, err := p.get(t.Context(), id); err != nil || loads[id] != 3 {
		t.Errorf("%d reads, %v; what failed twice must be read again", loads[id], err)
	}
}

// Who asks while a tenant is read waits for that: unless a change was announced meanwhile, which what is read may lack.
func TestWhoAsksMeanwhileIsAnsweredWithWhatIsRead(t *testing.T) {
	id := ident.Tenant{1}
	for _, announced := range []bool{false, true} {
		p, loads := remembering(8)
		whole, begun, end := p.load, make(chan struct{}, 8), make(chan struct{})
		p.load = func(ctx context.Context, id ident.Tenant) (*standing, error) {
			begun <- struct{}{}
			<-end
			return whole(ctx, id)
		}
		var wg sync.WaitGroup
		ask := func() {
			wg.Go(func() {
				if s, err := p.get(t.Context(), id); err != nil || s.tenant.ID != id {
					t.Errorf("%v, %v", s, err)
				}
			})
		}
		ask()
		<-begun
		if announced {
			p.revised(id, 2)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.get(gone, id); !errors.Is(err, context.Canceled) {
			t.Errorf("who went away while waiting: %v", err)
		}
		ask()
		close(end)
		wg.Wait()
		if want := map[bool]int{false: 1, true: 2}[announced]; loads[id] != want {
			t.Errorf("announced meanwhile: %v; %d reads, want %d", announced, loads[id], want)
		}
	}
}

// often is how many times a random thing is tried: as often as the security page's B5 asks for in make long.
func often(short, long int) int {
	if os.Getenv("RINGFENCE_LONG") != "" {
		return long
	}
	return short
}

// Ids that are made of what a careless key would put between its parts are no more alike than others.
func TestIDsOfDelimitersShareNothing(t *testing.T) {
	const delimiters = "\x00 /:|,\n%\"\\\xff-"
	dice := rand.New(rand.NewPCG(1, 2))
	p := newPolicies(1000)
	p.load = func(_ context.Context, t ident.Tenant) (*standing, error) {
		return &standing{tenant: tenant.Tenant{ID: t}}, nil
	}
	var lately [500]ident.Tenant
	for n := range often(200_000, 10_000_000) {
		id := &lately[n%len(lately)]
		for i := range id {
			id[i] = delimiters[dice.IntN(len(delimiters))]
		}
		for _, one := range []ident.Tenant{*id, lately[dice.IntN(len(lately))]} { // the second is mostly remembered
			if s, err := p.get(t.Context(), one); err != nil || s.tenant.ID != one {
				t.Fatalf("%v was given %v, %v", one, s, err)
			}
		}
	}
}

// However standings come and go, and whatever changes meanwhile: a decision by what is remembered is the one by what is read.
func TestWhatIsRememberedDecidesAsWhatIsRead(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	permissions, roles := access.Permissions(), access.BuiltIns()
	kept := map[ident.Tenant]access.Records{}
	change := func(id ident.Tenant) {
		r := access.Records{Revision: kept[id].Revision + 1, Active: map[ident.Principal]bool{}}
		for n := range byte(6) {
			node := org.Node{ID: ident.Node{1, n}, Kind: org.Site, Barrier: n > 0 && dice.IntN(5) == 0}
			if n > 0 {
				node.Parent = ident.Node{1, byte(dice.IntN(int(n)))}
			}
			r.Nodes = append(r.Nodes, node)
			r.Active[ident.Principal{2, n}] = dice.IntN(5) > 0
		}
		for n := range byte(24) {
			r.Memberships = append(r.Memberships, access.Membership{ID: ident.Membership{3, n}, Principal: ident.Principal{2, byte(dice.IntN(6))}, Role: roles[dice.IntN(len(roles))].ID,
				Node: ident.Node{1, byte(dice.IntN(6))}, Recursive: dice.IntN(2) == 0, ExpiresAt: now.Add(time.Duration(dice.IntN(4)-1) * time.Hour)})
		}
		kept[id] = r
	}
	p := newPolicies(8) // of twenty tenants
	p.load = func(_ context.Context, id ident.Tenant) (*standing, error) {
		return &standing{policy: *access.Compile(kept[id]), tenant: tenant.Tenant{ID: id}}, nil
	}
	allowed, tried := 0, often(50_000, 1_000_000)
	for range tried {
		id := ident.Tenant{byte(dice.IntN(20))}
		if kept[id].Revision == 0 || dice.IntN(40) == 0 {
			change(id)
			p.revised(id, kept[id].Revision)
		}
		s, err := p.get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		who, permission, node := access.Subject{Principal: ident.Principal{2, byte(dice.IntN(6))}}, permissions[dice.IntN(len(permissions))], ident.Node{1, byte(dice.IntN(6))}
		got, want := s.policy.Decide(who, permission, node, now), access.Compile(kept[id]).Decide(who, permission, node, now)
		if got != want {
			t.Fatalf("%v of %v at %v: remembered %+v, read %+v", permission, who, node, got, want)
		}
		if got.Allowed {
			allowed++
		}
	}
	if allowed < tried/20 || allowed > tried*19/20 {
		t.Errorf("%d of %d decisions allow: they tell too little", allowed, tried)
	}
}

// A store that does not answer keeps nobody longer than who asks waits, and what it tells later is there for who asks again.
func TestWhoWaitsNoLongerFindsWhatWasReadAfterwards(t *testing.T) {
	p, loads := remembering(8)
	whole, begun, answer := p.load, make(chan time.Duration, 1), make(chan struct{})
	p.load = func(ctx context.Context, id ident.Tenant) (*standing, error) {
		until, _ := ctx.Deadline()
		begun <- time.Until(until)
		<-answer
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return whole(ctx, id)
	}
	id := ident.Tenant{1}
	impatient, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := p.get(impatient, id)
		left <- err
	}()
	if bound := <-begun; bound <= 0 || bound > loadWithin {
		t.Errorf("it is read within %v", bound)
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left was told %v", err)
	}
	if _, err := p.get(impatient, ident.Tenant{2}); !errors.Is(err, context.Canceled) || len(begun) > 0 {
		t.Errorf("who has no time has another one read: %v", err)
	}
	close(answer)
	if s, err := p.get(t.Context(), id); err != nil || s.tenant.ID != id || loads[id] != 1 {
		t.Errorf("%v, %v, after %d reads", s, err, loads[id])
	}
}

func TestAStandingThatCannotBeReadForADefectEndsNoProcess(t *testing.T) {
	p, _ := remembering(8)
	whole := p.load
	p.load = func(context.Context, ident.Tenant) (*standing, error) { panic("a defect") }
	if _, err := p.get(t.Context(), ident.Tenant{1}); err == nil {
		t.Error("no error")
	}
	p.load = whole
	if _, err := p.get(t.Context(), ident.Tenant{1}); err != nil {
		t.Error(err)
	}
}
