package enter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
)

// platform is what the cache of mappings reads: mappings at a revision, and how often it was asked.
type platform struct {
	mu        sync.Mutex
	now       time.Time
	rev       uint64
	of        map[claimed]ident.Tenant
	loads     map[claimed]int
	wholes    int
	revisions int
	away      error
}

func (p *platform) put(c claimed, t ident.Tenant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rev++
	p.of[c] = t
}

// loaded is how often the mappings were asked for one in all.
func (p *platform) loaded() (n int) {
	for _, one := range p.loads {
		n += one
	}
	return n
}

func mapping(most int) (*mapped, *platform) {
	p := &platform{now: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), of: map[claimed]ident.Tenant{}, loads: map[claimed]int{}}
	now := func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now }
	m := newMapped(most, newFollowed(now))
	m.now = now
	m.revision = func(context.Context) (uint64, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.revisions++
		return p.rev, p.away
	}
	m.load = func(_ context.Context, c claimed) (owner, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.loads[c]++
		return owner{tenant: p.of[c], source: ident.Source(p.of[c]), rev: p.rev}, p.away
	}
	m.loadAll = func(_ context.Context, connection string) (uint64, map[claimed]owner, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.wholes++
		all := map[claimed]owner{}
		for c, t := range p.of {
			if c.connection == connection && !t.IsZero() {
				all[c] = owner{tenant: t, source: ident.Source(t)}
			}
		}
		return p.rev, all, p.away
	}
	return m, p
}

func TestAnApplicationIsReadAgainWhenMappingsChangedAndNotBefore(t *testing.T) {
	m, p := mapping(8)
	c, other := claimed{"eu", "1"}, claimed{"us", "1"}
	is := func(c claimed, want ident.Tenant, loads, revisions int) {
		t.Helper()
		got, src, err := m.get(t.Context(), c)
		if got != want || src != ident.Source(want) || fault.Is(err, fault.NotFound) != want.IsZero() || (err != nil) != want.IsZero() || p.loaded() != loads || p.revisions != revisions {
			t.Errorf("%v: %v, %v, after %d loads and %d looks at the revision, want %v, %d, %d", c, got, err, p.loaded(), p.revisions, want, loads, revisions)
		}
	}
	p.put(c, ident.Tenant{1})
	is(c, ident.Tenant{1}, 1, 1)
	is(c, ident.Tenant{1}, 1, 1)
	is(other, ident.Tenant{}, 2, 1) // the same application of another connection
	m.revised(ident.Tenant{9})      // of another tenant's records
	is(c, ident.Tenant{1}, 2, 1)
	m.revised(ident.Platform) // somebody signed in
	is(c, ident.Tenant{1}, 2, 2)
	is(other, ident.Tenant{}, 2, 2)
	m.revised(ident.Tenant{1}) // of the tenant's own records
	is(other, ident.Tenant{}, 2, 2)
	is(c, ident.Tenant{1}, 2, 3)
	is(c, ident.Tenant{1}, 2, 3)
	p.put(c, ident.Tenant{2}) // not announced yet
	is(c, ident.Tenant{1}, 2, 3)
	m.revised(ident.Tenant{}) // another process may have changed anything
	is(c, ident.Tenant{2}, 3, 4)
	p.put(other, ident.Tenant{3})
	m.revised(ident.Platform)
	is(other, ident.Tenant{3}, 4, 5)
	p.put(other, ident.Tenant{})
	m.revised(ident.Platform)
	is(other, ident.Tenant{}, 5, 6)
	is(c, ident.Tenant{2}, 6, 6)
	is(c, ident.Tenant{2}, 6, 6)
}

var away = fault.New(fault.Unavailable, "store_unavailable", "Away.")

// What the last announcements before the store went away leave of what is remembered: a mapping is good only if none can have
// been of its change.
func TestWhileTheStoreIsAwayAMappingHoldsUnlessItsTenantChanged(t *testing.T) {
	c, mine := claimed{"eu", "1"}, ident.Tenant{1}
	for _, one := range []struct {
		name   string
		before func(m *mapped, p *platform, ask func())
		holds  bool
	}{
		{"nothing", func(*mapped, *platform, func()) {}, true},
		{"a sign-in", func(m *mapped, _ *platform, _ func()) { m.revised(ident.Platform) }, true},
		{"another's application mapped", func(m *mapped, p *platform, _ func()) {
			p.put(claimed{"eu", "2"}, ident.Tenant{2})
			m.revised(ident.Platform)
			m.revised(ident.Tenant{2})
		}, true},
		{"another's application mapped, and the revision asked for", func(m *mapped, p *platform, _ func()) {
			p.put(claimed{"eu", "2"}, ident.Tenant{2})
			m.revised(ident.Platform)
			m.revised(ident.Tenant{2})
			_, _, _ = m.get(t.Context(), claimed{"eu", "2"})
		}, true},
		{"the mapping removed", func(m *mapped, p *platform, _ func()) {
			p.put(c, ident.Tenant{})
			m.revised(ident.Platform)
			m.revised(mine)
		}, false},
		{"the mapping removed, and the revision asked for", func(m *mapped, p *platform, _ func()) {
			p.put(c, ident.Tenant{})
			m.revised(ident.Platform)
			m.revised(mine)
			_, _, _ = m.get(t.Context(), claimed{"eu", "2"})
		}, false},
		{"the mapping removed, and read again", func(m *mapped, p *platform, ask func()) {
			p.put(c, ident.Tenant{})
			m.revised(ident.Platform)
			m.revised(mine)
			ask()
			p.now = p.now.Add(unknownFor)
		}, false},
		{"the mapping given to another", func(m *mapped, p *platform, _ func()) {
			p.put(c, ident.Tenant{2})
			m.revised(ident.Platform)
			m.revised(mine)
			m.revised(ident.Tenant{2})
		}, false},
		{"the mapping removed while it was read", func(m *mapped, p *platform, ask func()) {
			m.revised(ident.Tenant{})
			p.put(claimed{"eu", "2"}, ident.Tenant{2}) // so that it is read again
			whole := m.load
			m.load = func(ctx context.Context, c claimed) (owner, error) {
				o, err := whole(ctx, c)
				p.put(c, ident.Tenant{})
				m.revised(ident.Platform)
				m.revised(mine)
				return o, err
			}
			ask()
		}, false},
		{"a record of the tenant's", func(m *mapped, _ *platform, _ func()) { m.revised(mine) }, false},
		{"a record of the tenant's, and a message", func(m *mapped, _ *platform, ask func()) { m.revised(mine); ask() }, true},
		{"a record of the tenant's and a message, and then another's mapping", func(m *mapped, p *platform, ask func()) {
			m.revised(mine)
			ask()
			p.put(claimed{"eu", "2"}, ident.Tenant{2})
			m.revised(ident.Platform)
			m.revised(ident.Tenant{2})
			_, _, _ = m.get(t.Context(), claimed{"eu", "2"})
		}, true},
		{"anything", func(m *mapped, _ *platform, _ func()) { m.revised(ident.Tenant{}) }, false},
		{"more tenants' than are kept apart", func(m *mapped, _ *platform, _ func()) {
			for n := range 10 {
				m.revised(ident.Tenant{9, byte(n)})
			}
		}, false},
	} {
		m, p := mapping(8)
		p.put(c, mine)
		ask := func() { _, _, _ = m.get(t.Context(), c) }
		ask()
		one.before(m, p, ask)
		p.away = away
		for range 2 {
			got, src, err := m.get(t.Context(), c)
			if one.holds && (got != mine || src != ident.Source(mine) || err != nil) || !one.holds && (!errors.Is(err, away) || !got.IsZero()) {
				t.Errorf("%s: %v, %v", one.name, got, err)
			}
		}
	}
}

func TestAMappingIsRememberedForAsLongAsEventsAreLetInWhileTheStoreIsAway(t *testing.T) {
	m, p := mapping(8)
	c := claimed{"eu", "1"}
	p.put(c, ident.Tenant{1})
	p.now = p.now.Add(time.Hour)
	f := &Cache{followed: m.followed}
	f.Followed()
	if _, _, err := m.get(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	m.revised(ident.Platform) // somebody signs in, and the store goes away
	p.away = away
	began, asked := p.now, p.revisions
	for _, at := range []struct {
		since time.Duration
		in    bool
		asks  int
	}{{0, true, 1}, {5 * time.Second, true, 1}, {5*time.Second + 1, true, 0}, {15 * time.Minute, true, 0}, {15*time.Minute + 1, false, 1}} {
		p.now = began.Add(at.since)
		_, _, err := m.get(t.Context(), c)
		if (err == nil) != at.in || p.revisions-asked != at.asks {
			t.Errorf("%v without an answer: %v, after %d questions", at.since, err, p.revisions-asked)
		}
		asked = p.revisions
	}
	p.away = nil
	if _, _, err := m.get(t.Context(), c); err != nil || p.revisions != asked+1 {
		t.Errorf("the store answers, and does not tell of changes yet: %v, after %d questions", err, p.revisions-asked)
	}
	p.put(c, ident.Tenant{}) // of which nobody is told
	if _, _, err := m.get(t.Context(), c); !fault.Is(err, fault.NotFound) {
		t.Errorf("after a quarter of an hour in which nobody told of changes: %v", err)
	}
	p.put(c, ident.Tenant{1})
	f.Followed()
	m.revised(ident.Platform)
	if got, _, err := m.get(t.Context(), c); got != (ident.Tenant{1}) || err != nil {
		t.Errorf("all is well again: %v", err)
	}
}

func TestWhenTheStoreIsAwayNobodyIsSaidToBeUnmapped(t *testing.T) {
	m, p := mapping(8)
	c := claimed{"eu", "1"}
	p.put(c, ident.Tenant{1})
	p.away = away
	for range 2 {
		if _, _, err := m.get(t.Context(), c); !errors.Is(err, p.away) {
			t.Errorf("%v", err)
		}
	}
	p.away = nil
	if got, _, err := m.get(t.Context(), c); got != (ident.Tenant{1}) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for n := range unknownAtOnce + 1 { // until all are read
		_, _, _ = m.get(t.Context(), claimed{"eu", fmt.Sprint("nobody's ", n)})
	}
	p.now = p.now.Add(time.Hour)
	(&Cache{followed: m.followed}).Followed()
	other := claimed{"eu", "2"}
	if _, _, err := m.get(t.Context(), other); !fault.Is(err, fault.NotFound) || p.wholes != 1 {
		t.Errorf("all were read %d times, and one that is not among them: %v", p.wholes, err)
	}
	p.away = away
	for range 3 {
		if p.now = p.now.Add(blind); fault.Is(errOf(m.get(t.Context(), other)), fault.NotFound) != m.followed.within(blind) {
			t.Errorf("%v after the store told of changes: said to be nobody's, or not", p.now)
		}
	}
}

func errOf(_ ident.Tenant, _ ident.Source, err error) error { return err }

func TestUnknownApplicationsAreAskedForOnceASecondEach(t *testing.T) {
	m, p := mapping(8)
	for range 30 {
		for n := range 3 {
			if _, _, err := m.get(t.Context(), claimed{"eu", fmt.Sprint(n)}); !fault.Is(err, fault.NotFound) {
				t.Fatal(err)
			}
		}
		p.now = p.now.Add(100 * time.Millisecond)
	}
	for c, n := range p.loads { // over three seconds
		if n != 3 {
			t.Errorf("%v was asked for %d times", c, n)
		}
	}
	p.now = p.now.Add(-time.Hour)
	if _, _, err := m.get(t.Context(), claimed{"eu", "0"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("after the clock was set back: %v", err)
	}
}

// Whoever can make applications at a network server can have any number of them asked for: what is mapped is its tenant's all the
// same, be it remembered or not.
func TestAFloodOfUnknownApplicationsFloodsNeitherStoreNorMemoryNorKeepsAMappedOneOut(t *testing.T) {
	m, p := mapping(64)
	here := claimed{"eu", "mapped"}
	p.put(here, ident.Tenant{1})
	p.put(claimed{"us", "mapped"}, ident.Tenant{2})
	known := func(c claimed) {
		t.Helper()
		if got, _, err := m.get(t.Context(), c); got != p.of[c] || err != nil {
			t.Fatalf("%v: %v, %v", c, got, err)
		}
	}
	known(here)
	const seconds, each = 20, 5_000
	for s := range seconds {
		for n := range each {
			if _, _, err := m.get(t.Context(), claimed{"eu", fmt.Sprint(s, " ", n)}); !fault.Is(err, fault.NotFound) {
				t.Fatal(err)
			}
			if n == each/2 {
				p.put(claimed{"eu", fmt.Sprint("another ", s)}, ident.Tenant{3})
				m.revised(ident.Platform)
				known(here) // read again, though the connection's questions are used up
				if o, err := m.ask(t.Context(), claimed{"eu", fmt.Sprint("another ", s)}, true); o.tenant != (ident.Tenant{3}) || err != nil {
					t.Fatalf("who has to be sure is told %v, %v", o, err)
				}
			}
		}
		p.now = p.now.Add(time.Second)
		known(claimed{"eu", fmt.Sprint("another ", s)}) // never asked for before
	}
	known(claimed{"us", "mapped"})
	perSecond := int(time.Second / unknownEvery)
	if asked := p.loaded() - p.loads[here]; asked > unknownAtOnce+seconds*(perSecond+1)+1 || asked < unknownAtOnce {
		t.Errorf("%d of %d were asked for one by one", asked, seconds*each)
	}
	if p.wholes > seconds+1 || p.wholes < seconds/2 {
		t.Errorf("all of the connection's were read %d times in %d s", p.wholes, seconds)
	}
	for n := range 3 * maxConnections {
		_, _, _ = m.get(t.Context(), claimed{fmt.Sprint("c", n), "1"}) // the answer does not matter
	}
	for n := range 100 {
		c := claimed{"eu", fmt.Sprint("mapped ", n)}
		p.put(c, ident.Tenant{1})
		m.revised(ident.Platform)
		p.now = p.now.Add(unknownEvery)
		known(c)
	}
	if len(m.known) > 64 || len(m.unknown) > maxUnknown || len(m.paid) > maxConnections || len(m.loading) > 0 || len(m.reading) > 0 {
		t.Errorf("remembered are %d, and %d that are nobody's, of %d connections; %d are being read", len(m.known), len(m.unknown), len(m.paid), len(m.loading))
	}
}

// A process that has just been started knows nobody yet, and each application's first message asks.
func TestAllApplicationsOfAConnectionAreLetInFromTheFirstSecondOn(t *testing.T) {
	const mappings = 3 * unknownAtOnce
	m, p := mapping(mappings + 1)
	for n := range mappings {
		p.put(claimed{"eu", fmt.Sprint(n)}, ident.Tenant{1})
	}
	p.put(claimed{"us", "1"}, ident.Tenant{2})
	all := func() {
		t.Helper()
		for n := range mappings {
			if got, _, err := m.get(t.Context(), claimed{"eu", fmt.Sprint(n)}); got != (ident.Tenant{1}) || err != nil {
				t.Fatalf("application %d: %v, %v", n, got, err)
			}
		}
	}
	all()
	if p.wholes != 1 || p.loaded() != unknownAtOnce {
		t.Errorf("%d were asked for one by one, and all of them %d times", p.loaded(), p.wholes)
	}
	p.now = p.now.Add(time.Hour) // with no change
	all()
	if _, _, err := m.get(t.Context(), claimed{"eu", "nobody's"}); !fault.Is(err, fault.NotFound) || p.wholes != 1 || p.loaded() != unknownAtOnce {
		t.Errorf("an hour later: %v; %d were asked for one by one, and all of them %d times", err, p.loaded(), p.wholes)
	}
	if got, _, err := m.get(t.Context(), claimed{"us", "1"}); got != (ident.Tenant{2}) || err != nil {
		t.Errorf("of another connection: %v, %v", got, err)
	}
	p.put(claimed{"eu", "nobody's"}, ident.Tenant{3})
	p.put(claimed{"eu", "0"}, ident.Tenant{})
	p.put(claimed{"eu", "1"}, ident.Tenant{2})
	m.revised(ident.Platform)
	for name, want := range map[string]ident.Tenant{"nobody's": {3}, "0": {}, "1": {2}, "2": {1}} {
		if got, _, _ := m.get(t.Context(), claimed{"eu", name}); got != want {
			t.Errorf("after changes %s is %v's, want %v", name, got, want)
		}
	}
}

// What is let go to make room is not taken for nobody's.
func TestWhatIsForgottenIsAskedForAgain(t *testing.T) {
	const mappings = 2 * unknownAtOnce
	m, p := mapping(mappings)
	ask := func(connection string, n int, want ident.Tenant) {
		t.Helper()
		if got, _, err := m.get(t.Context(), claimed{connection, fmt.Sprint(n)}); got != want || err != nil {
			t.Fatalf("application %d of %s: %v, %v", n, connection, got, err)
		}
	}
	for n := range mappings {
		p.put(claimed{"eu", fmt.Sprint(n)}, ident.Tenant{1})
	}
	for n := range 3 {
		p.put(claimed{"us", fmt.Sprint(n)}, ident.Tenant{2})
	}
	for range 3 {
		for n := range mappings {
			ask("eu", n, ident.Tenant{1})
		}
		for n := range 3 {
			ask("us", n, ident.Tenant{2})
		}
	}
	if len(m.known) > mappings {
		t.Errorf("%d are remembered", len(m.known))
	}
}

func TestWhoAsksForOneApplicationAtATimeAsksOnce(t *testing.T) {
	m, p := mapping(8)
	c := claimed{"eu", "1"}
	p.put(c, ident.Tenant{1})
	whole, begun, end := m.load, make(chan struct{}, 64), make(chan struct{})
	m.load = func(ctx context.Context, c claimed) (owner, error) {
		begun <- struct{}{}
		<-end
		return whole(ctx, c)
	}
	var wg sync.WaitGroup
	ask := func() {
		wg.Go(func() {
			if got, _, err := m.get(t.Context(), c); got != (ident.Tenant{1}) || err != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	ask()
	<-begun
	for range 32 {
		ask()
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := m.get(gone, c); !errors.Is(err, context.Canceled) {
		t.Errorf("who went away while waiting: %v", err)
	}
	close(end)
	wg.Wait()
	if p.loads[c] != 1 || p.revisions != 1 {
		t.Errorf("%d loads, %d looks at the revision", p.loads[c], p.revisions)
	}
}

func TestWhatNoTopicCouldNameIsNobodysWithoutAQuestion(t *testing.T) {
	m, p := mapping(8)
	e := &Enter{cache: &Cache{mapped: m}}
	for _, c := range []claimed{{"", "1"}, {"EU", "1"}, {"eu", ""}, {"eu", "a/b"}, {"eu", "\x00"}, {"eu", string(make([]byte, source.MaxConnection*4))}} {
		if _, _, err := e.Mapped(t.Context(), c.connection, c.name); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", c, err)
		}
	}
	if p.loaded()+p.revisions > 0 {
		t.Errorf("%d questions", p.loaded()+p.revisions)
	}
}
