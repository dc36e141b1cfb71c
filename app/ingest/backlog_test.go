package ingest

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// Others' events go on being put off, so that the topic is never read to its end: what was put off before is forgotten all the
// same.
func TestWhatWasPutOffIsForgottenOnceItIsRead(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	g := New(&enter.Enter{Recorder: enter.Recorder{Mint: ident.Mint{Now: func() time.Time { return now }}}}, nil, nil, nil, tenant.DefaultLimits, nil)
	acme := ident.Tenant{1}
	see := func(committed0, end0, committed1, end1 int64) int {
		g.caughtUp([]bus.Lag{{Partition: 0, Committed: committed0, End: end0}, {Partition: 1, Committed: committed1, End: end1}})
		return g.backlogs.known[acme].all(1)
	}
	g.putOff(acme, 3)
	now = now.Add(time.Second)
	for _, c := range []struct {
		what                 string
		c0, e0, c1, e1, want int64
	}{
		{"nothing is read", -1, 3, 0, 0, 3},
		{"a part is read, and others put more off", 2, 5, 0, 9, 3},
		{"all that stood there is read, and more has come", 3, 8, 1, 20, 0},
	} {
		if got := see(c.c0, c.e0, c.c1, c.e1); int64(got) != c.want {
			t.Errorf("%s: %d wait, want %d", c.what, got, c.want)
		}
		now = now.Add(time.Second)
	}
	g.putOff(acme, 2)
	if got := see(5, 8, 9, 20); got != 2 {
		t.Errorf("what was put off after it: %d wait", got)
	}
}

// Nothing that is put off stays counted for a topic that is gone: the new one's offsets would not come to where that one ended for
// long, and a tenant at its limit would lose all that it sends until then.
func TestWhatWasPutOffIsForgottenWhenItsTopicIsMadeAnew(t *testing.T) {
	for name, anew := range map[string][]bus.Lag{
		"all of it is shorter":         {{Partition: 0, Committed: -1, End: 2}, {Partition: 1, Committed: -1, End: 1}},
		"one partition is":             {{Partition: 0, Committed: -1, End: 2}, {Partition: 1, Committed: -1, End: 400}},
		"it has fewer partitions":      {{Partition: 0, Committed: -1, End: 100}},
		"with the old topic's mark":    {{Partition: 0, Committed: 90, End: 2}, {Partition: 1, Committed: 300, End: 1}},
		"and nobody has written to it": {{Partition: 0, Committed: -1}, {Partition: 1, Committed: -1}},
	} {
		now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
		g := New(&enter.Enter{Recorder: enter.Recorder{Mint: ident.Mint{Now: func() time.Time { return now }}}}, nil, nil, nil, tenant.DefaultLimits, nil)
		acme := ident.Tenant{1}
		see := func(lags []bus.Lag) int {
			g.caughtUp(lags)
			now = now.Add(time.Second)
			return g.backlogs.known[acme].all(1)
		}
		g.putOff(acme, 3)
		if n := see([]bus.Lag{{Partition: 0, Committed: 90, End: 100}, {Partition: 1, Committed: 300, End: 300}}); n != 3 {
			t.Fatalf("%s: %d wait before", name, n)
		}
		if n := see(anew); n != 0 {
			t.Errorf("%s: %d are still counted", name, n)
		}
		g.putOff(acme, 2)
		now = now.Add(time.Second)
		for range 2 {
			if n := see(anew); len(anew) > 1 && anew[0].End > 0 && n != 2 {
				t.Errorf("%s: %d are counted of two in the new one, which nobody has read", name, n)
			}
		}
		for i := range anew {
			anew[i].End += 2
			anew[i].Committed = anew[i].End
		}
		if n := see(anew); n != 0 {
			t.Errorf("%s: %d are counted of what was read of the new one", name, n)
		}
	}
}

// counted is a store that knows how many events of a tenant wait and is asked nothing else.
type counted struct {
	store.Store

	mu      sync.Mutex
	views   map[ident.Tenant]int
	waiting map[ident.Tenant]int
	hangs   bool
	now     int // questions under way
	most    int
}

func (c *counted) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	c.mu.Lock()
	c.views[s.Tenant()]++
	c.now++
	c.most = max(c.most, c.now)
	n, hangs := c.waiting[s.Tenant()], c.hangs
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.now--
		c.mu.Unlock()
	}()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return fn(ctx, counting{n: n})
}

// asked is how often it was asked, and of how many tenants, since the last time.
func (c *counted) asked() (views, tenants int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.views {
		views += n
	}
	tenants = len(c.views)
	clear(c.views)
	return views, tenants
}

type counting struct {
	store.Reader

	n int
}

func (c counting) Uplinks() store.Uplinks { return countingUplinks{n: c.n} }

type countingUplinks struct {
	store.Uplinks

	n int
}

func (c countingUplinks) Backlog(context.Context) (int, error) { return c.n, nil }

// followed is a process that follows backlogs until its test ends, in a bubble of time.
func followed(t *testing.T, c *counted) (*Ingest, *enter.Cache) {
	t.Helper()
	c.views, c.waiting = map[ident.Tenant]int{}, map[ident.Tenant]int{}
	cache := enter.NewCache(10)
	g := New(enter.New(c, cache, enter.Recorder{Mint: ident.Mint{Now: time.Now}}, nil), c, nil, nil, tenant.DefaultLimits, nil)
	g.Over(Durable{})
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		g.FollowBacklogs(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		end()
		<-ended
	})
	return g, cache
}

// passes lets time go by, in which something comes of so many tenants again and again, and answers how many of them have to wait.
func passes(t *testing.T, g *Ingest, tenants, seconds int) (wait int) {
	t.Helper()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for range 4 * seconds {
		wait = 0
		for n := range tenants {
			if behind, err := g.behind(t.Context(), ident.Tenant{byte(n >> 8), byte(n)}); err != nil {
				t.Fatal(err)
			} else if behind > 0 {
				wait++
			}
		}
		<-tick.C
		synctest.Wait()
	}
	return wait
}

// However many tenants send, the store is asked as much as it is for a few, of one at a time and of each in turn.
func TestBacklogsCostTheStoreNoMoreHoweverManyTenantsSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counted
		g, _ := followed(t, &c)
		for i, tenants := range []int{10, 1_000} {
			passes(t, g, tenants, 10)
			views, of := c.asked()
			if want := []int{100, 10 * lookMost}[i]; views > want || views < want/2 || of != tenants || c.most != 1 {
				t.Errorf("in ten seconds the store was asked %d times of %d tenants, %d at once; want %d of %d", views, of, c.most, want, tenants)
			}
		}
		passes(t, g, 0, 10)
		c.asked()
		for n := range 7 {
			c.waiting[ident.Tenant{0, byte(n)}] = 1
		}
		passes(t, g, 10, 2)
		if n := passes(t, g, 10, 1); n != 7 {
			t.Errorf("%d tenants wait, of seven", n)
		}
		passes(t, g, 0, 5)
		c.asked()
		passes(t, g, 0, 10)
		if views, of := c.asked(); views < 65 || views > 70 || of != 7 { // who was at the limit when it last sent is not held to that
			t.Errorf("while nobody sends the store is asked %d times of %d tenants", views, of)
		}
	})
}

// A store that hangs is asked of one tenant at a time, and of none once the gate knows that it is away: what is known counts on.
func TestAStoreThatHangsIsNotAskedForBacklogsOnceTheGateIsNotToldOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counted
		g, cache := followed(t, &c)
		cache.Followed()
		for n := range 10 {
			c.waiting[ident.Tenant{0, byte(n)}] = 1
		}
		if n := passes(t, g, 10, 3); n != 10 {
			t.Fatalf("%d of ten tenants wait", n)
		}
		cache.Followed()
		c.mu.Lock()
		c.hangs = true
		c.mu.Unlock()
		c.asked()
		passes(t, g, 10, 5)
		if views, _ := c.asked(); views == 0 || views > 5 || c.most != 1 {
			t.Errorf("it was asked %d times in five seconds, %d at once", views, c.most)
		}
		passes(t, g, 10, 3)
		c.asked()
		if n := passes(t, g, 10, 60); n != 10 {
			t.Errorf("%d of ten tenants wait, as far as it is known", n)
		}
		if views, _ := c.asked(); views != 0 {
			t.Errorf("it was asked %d times while it was known to be away", views)
		}
		c.mu.Lock()
		c.hangs = false
		clear(c.waiting)
		c.mu.Unlock()
		cache.Followed()
		passes(t, g, 0, 2)
		if n := passes(t, g, 10, 1); n != 0 {
			t.Errorf("%d tenants wait once it is back and nothing does", n)
		}
	})
}
