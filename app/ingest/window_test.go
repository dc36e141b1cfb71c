package ingest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

func full(t *testing.T, w *window, of ident.Tenant, from, n, size int) {
	t.Helper()
	for i := range n {
		p := &pending{place: place{"t", 0, int64(from + i)}, event: uplink.Event{Tenant: of}, size: size}
		w.begin(p.place)
		if err := w.put(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAMarkNeverPassesWhatIsNotFinished(t *testing.T) {
	w := newWindow(10_000, 1<<20, time.Now)
	const n = 500
	open := map[int64]int{}
	var order []int64
	for i := range int64(n) {
		w.begin(place{"t", 3, i})
		open[i]++
		order = append(order, i)
		if i%7 == 0 { // read again after a rebalance
			w.begin(place{"t", 3, i})
			open[i]++
			order = append(order, i)
		}
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, at := range order {
		if open[at]--; open[at] == 0 {
			delete(open, at)
		}
		lowest := int64(n)
		for o := range open {
			lowest = min(lowest, o)
		}
		if got := w.done(place{"t", 3, at}); len(got) != 1 || got[0] != (bus.Mark{Topic: "t", Partition: 3, Next: lowest}) {
			t.Fatalf("%+v; the lowest that is not finished is %d", got, lowest)
		}
	}
}

func TestWhoSendsMuchTakesNoMoreThanItsTurns(t *testing.T) {
	w := newWindow(20_000, 1<<30, time.Now)
	flood := ident.Tenant{9}
	full(t, w, flood, 0, 5_000, 1)
	for quiet := range 9 {
		full(t, w, ident.Tenant{byte(quiet + 10)}, 10_000+quiet*100, 10, 1)
	}
	batch, err := w.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	count := map[ident.Tenant]int{}
	for _, p := range batch {
		count[p.event.Tenant]++
	}
	if len(batch) != fairBatch || len(count) != 10 || count[flood] != 10 {
		t.Errorf("%d events of %d tenants, %d of who floods", len(batch), len(count), count[flood])
	}
}

// waiting returns once events are to wait in the store.
func waiting(t *testing.T, w *window) {
	t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for n := 0; n == 0; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("nobody waits in the store")
		}
		w.mu.Lock()
		n = len(w.puts)
		w.mu.Unlock()
	}
}

func TestWhoFillsTheWindowWaitsInTheStore(t *testing.T) {
	for bound, w := range map[string]*window{
		"events": newWindow(4_000, 1<<30, time.Now),
		"bytes":  newWindow(1<<20, 4_000*64, time.Now),
	} {
		flood, quiet := ident.Tenant{9}, ident.Tenant{10}
		full(t, w, flood, 0, 4_000, 64)
		last := &pending{place: place{"t", 0, 10_000}, event: uplink.Event{Tenant: quiet}, size: 64}
		w.begin(last.place)
		came := make(chan error, 1)
		go func() { came <- w.put(t.Context(), last) }() // there is no room for it
		waiting(t, w)
		put, finished := 0, 0
		for finished < 4_001 {
			batch, err := w.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(batch) > fullBatch {
				t.Fatalf("%s: %d at once, the store takes %d", bound, len(batch), fullBatch)
			}
			for _, p := range batch {
				if p.put {
					put++
					if p.event.Tenant != flood {
						t.Errorf("%s: somebody else is to wait", bound)
					}
				}
			}
			w.finish(batch)
			finished += len(batch)
		}
		if err := <-came; err != nil || put != 4_000-1_000 {
			t.Errorf("%s: %d wait in the store, of what is beyond a quarter", bound, put)
		}
		if w.held != 0 || w.bytes != 0 || len(w.queues) != 0 || w.load() != 0 {
			t.Errorf("%s: %d are held, %d bytes, %d queues", bound, w.held, w.bytes, len(w.queues))
		}
	}
}

// Whose events are taken apart is in nobody's batch until they are all taken, and then again; what is given back is the first to come.
func TestWhatIsTakenApartIsInNoBatchAndComesBackInItsPlace(t *testing.T) {
	w := newWindow(20_000, 1<<30, time.Now)
	slow, quick := ident.Tenant{9}, ident.Tenant{10}
	full(t, w, slow, 0, 30, 1)
	full(t, w, quick, 100, 10, 1)
	batch := func(want ...int) []*pending {
		t.Helper()
		ps, err := w.take(t.Context())
		got := make([]int, len(want))
		for _, p := range ps {
			for i, of := range []ident.Tenant{slow, quick} {
				if p.event.Tenant == of {
					got[i]++
				}
			}
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("a batch has %v of each, want %v; %v", got, want, err)
		}
		return ps
	}
	apart := func(first, n int) []*pending {
		t.Helper()
		ps := w.takeApart(slow)
		for i, p := range ps {
			if p.offset != int64(first+i) {
				t.Fatalf("%d stands where %d should", p.offset, first+i)
			}
		}
		if len(ps) != n {
			t.Fatalf("%d are taken apart, want %d", len(ps), n)
		}
		return ps
	}
	all := batch(30, 10)
	full(t, w, slow, 30, 5, 1)
	full(t, w, quick, 110, 5, 1)
	if !w.apart(slow) || w.apart(slow) {
		t.Error("somebody takes it apart already, or two do")
	}
	w.back(all[:0])
	all = append(all, batch(0, 5)...)
	full(t, w, slow, 35, 5, 1)
	ps := apart(30, 10)
	w.back(ps[4:])
	all = append(append(all, ps[:4]...), apart(34, 6)...)
	if w.takeApart(slow) != nil {
		t.Error("there is nothing left")
	}
	full(t, w, slow, 40, 5, 1)
	ps = batch(5, 0)
	w.back(ps)
	all = append(all, batch(5, 0)...)
	if len(all) != 60 || w.queued != 0 {
		t.Errorf("%d were taken, %d are queued", len(all), w.queued)
	}
	w.finish(all)
	if w.held != 0 || len(w.queues) != 0 {
		t.Errorf("%d are held, %d queues", w.held, len(w.queues))
	}
}

// Whoever is to take a tenant's events apart is the only one, though all that there was is finished before it comes.
func TestATenantsEventsAreTakenApartByOne(t *testing.T) {
	w := newWindow(20_000, 1<<30, time.Now)
	slow := ident.Tenant{9}
	for n := range 2 {
		full(t, w, slow, n, 1, 1)
		if n > 0 {
			if w.apart(slow) {
				t.Error("a second one takes it apart")
			}
			w.finish(w.takeApart(slow))
			continue
		}
		ps, err := w.take(t.Context())
		if err != nil || !w.apart(slow) {
			t.Fatalf("nobody takes it apart: %v", err)
		}
		w.finish(ps)
	}
	if w.takeApart(slow) != nil || len(w.queues) != 0 || w.held != 0 {
		t.Errorf("%d queues, %d are held", len(w.queues), w.held)
	}
}

// A window that a slow tenant keeps nearly full lets what that has beyond its share wait in the store, though it moves, and whoever
// decodes others' events has it written. Who is quick is written as it comes, though it has as much.
func TestASlowTenantDoesNotKeepTheWindowFull(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for _, apart := range []bool{true, false} {
		w := newWindow(4_000, 1<<30, func() time.Time { return now })
		much, other := ident.Tenant{9}, ident.Tenant{10}
		full(t, w, much, 0, 3_900, 1)
		if apart {
			w.apart(much)
		}
		for n := range 10 {
			now = now.Add(crowded / 4)
			full(t, w, other, 10_000+n, 1, 1)
		}
		ps, err := w.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		put := 0
		for _, p := range ps {
			if p.put {
				put++
			}
		}
		if want := map[bool]int{true: 3_900 - 1_000, false: 0}[apart]; len(w.puts)+put != want || put != min(want, fullBatch) {
			t.Errorf("slow: %t; %d are to wait in the store, %d of them taken; want %d", apart, len(w.puts)+put, put, want)
		}
	}
}
