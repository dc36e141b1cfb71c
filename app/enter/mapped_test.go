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
}

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

// Whoever can make applications at a network server can have any number of them asked for.
func TestAFloodOfUnknownApplicationsFloodsNeitherStoreNorMemory(t *testing.T) {
	m, p := mapping(8)
	here := claimed{"eu", "mapped"}
	p.put(here, ident.Tenant{1})
	p.put(claimed{"us", "mapped"}, ident.Tenant{2})
	known := func(c claimed) {
		t.Helper()
		if _, _, err := m.get(t.Context(), c); err != nil {
			t.Fatalf("%v: %v", c, err)
		}
	}
	known(here)
	const seconds, each = 20, 5_000
	limited := 0
	for s := range seconds {
		for n := range each {
			_, _, err := m.get(t.Context(), claimed{"eu", fmt.Sprint(s, " ", n)})
			if f := fault.As(err); f != nil && f.Code == "limited_mappings" {
				if limited++; f.Kind != fault.Exhausted || f.RetryAfter <= 0 || f.RetryAfter > time.Second {
					t.Fatalf("%v, in %v", f.Kind, f.RetryAfter)
				}
			} else if !fault.Is(err, fault.NotFound) {
				t.Fatal(err)
			}
		}
		p.put(claimed{"eu", "another"}, ident.Tenant{3})
		m.revised(ident.Platform)
		known(here) // read again, though the connection's questions are used up
		p.now = p.now.Add(time.Second)
	}
	known(claimed{"us", "mapped"}) // never asked for before
	perSecond := int(time.Second / unknownEvery)
	if asked := p.loaded() - p.loads[here]; asked > unknownAtOnce+seconds*perSecond+1 || asked < unknownAtOnce || limited+asked < seconds*each {
		t.Errorf("%d of %d were asked for, %d put off", asked, seconds*each, limited)
	}
	for n := range 3 * maxConnections {
		_, _, _ = m.get(t.Context(), claimed{fmt.Sprint("c", n), "1"}) // the answer does not matter
	}
	for n := range 100 {
		c := claimed{"eu", fmt.Sprint("mapped ", n)}
		p.put(c, ident.Tenant{1})
		p.now = p.now.Add(unknownEvery)
		known(c)
	}
	if len(m.known) > 8 || len(m.unknown) > maxUnknown || len(m.paid) > maxConnections || len(m.loading) > 0 {
		t.Errorf("remembered are %d, and %d that are nobody's, of %d connections; %d are being read", len(m.known), len(m.unknown), len(m.paid), len(m.loading))
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
