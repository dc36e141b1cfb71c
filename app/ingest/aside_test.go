package ingest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// changing is a store of which some tenants are being changed until they are not.
type changing struct {
	store.Store
	slow map[ident.Tenant]chan struct{}

	mu      sync.Mutex
	waiting map[ident.Tenant]int
	most    int
	written map[ident.Tenant][]ident.Uplink
}

func (s *changing) IngestBatch(ctx context.Context, parts []store.Part) []error {
	errs := make([]error, len(parts))
	first := parts[0].Scope.Tenant()
	wait := !slices.ContainsFunc(parts, func(p store.Part) bool { return !p.Wait })
	if over := s.slow[first]; wait && over != nil {
		s.wait(first, 1)
		select {
		case <-over:
		case <-ctx.Done():
			for i := range errs {
				errs[i] = ctx.Err()
			}
			return errs
		}
		s.wait(first, -1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range parts {
		t := p.Scope.Tenant()
		if s.slow[t] != nil && !wait {
			errs[i] = store.ErrBusy
			continue
		}
		for _, r := range p.Rows {
			s.written[t] = append(s.written[t], r.Uplink.ID)
		}
	}
	return errs
}

func (s *changing) wait(t ident.Tenant, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[t] += n
	all := 0
	for _, n := range s.waiting {
		all += n
	}
	s.most = max(s.most, all)
}

// look waits until something holds.
func (s *changing) look(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		ok := holds()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: written %d tenants', waiting %v", what, len(s.written), s.waiting)
		}
	}
}

// The one writer that there is goes on while three tenants' records are being changed: all that others sent is finished and its
// offsets are due, whatever stands beside it in its batches, and if nothing does; of each of the three it follows in its order.
func TestWhoIsBeingChangedDelaysNobodyElse(t *testing.T) {
	const rounds, places = 30, 2
	slow, quick := []ident.Tenant{{1}, {2}, {3}}, []ident.Tenant{{4}, {5}}
	s := &changing{slow: map[ident.Tenant]chan struct{}{}, waiting: map[ident.Tenant]int{}, written: map[ident.Tenant][]ident.Uplink{}}
	over := make(chan struct{})
	for _, of := range slow {
		s.slow[of] = over
	}
	g := New(enter.New(s, enter.NewCache(1), enter.Recorder{Mint: ident.Mint{Now: time.Now}}, slog.New(slog.DiscardHandler)), s, nil, nil, tenant.Limits{}, slog.New(slog.DiscardHandler))
	g.durable = &Durable{Topics: bus.TopicsUnder("rf")}
	c := &consumer{g: g, w: newWindow(10_000, 1<<20, time.Now), decided: make(chan decided), asides: newAsides(2 * places)}
	c.main, c.later = newCommitter(g, nil), newCommitter(g, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writer sync.WaitGroup
	writer.Go(func() { c.write(ctx) })
	sent := map[ident.Tenant][]ident.Uplink{}
	for n := range rounds {
		var parts []*part
		for i, of := range slices.Concat(slow, quick) {
			id := ident.Uplink{byte(n), byte(i)}
			sent[of] = append(sent[of], id)
			p := &pending{place: place{g.durable.Topics.Uplinks, i, int64(n)}, event: uplink.Event{Tenant: of, ID: id}}
			c.w.begin(p.place)
			if err := c.w.put(ctx, p); err != nil {
				t.Fatal(err)
			}
			scope := new(storetest.World).Scope(of, 0)
			parts = append(parts, &part{Part: store.Part{Scope: scope, Rows: []store.Finished{{Uplink: uplink.Uplink{ID: id}}}}, of: []*pending{p}})
		}
		batches := [][]*part{parts}
		if n%2 == 1 { // one tenant's alone, and nobody's beside it
			batches = [][]*part{parts[:1], parts[1:]}
		}
		for _, parts := range batches {
			select {
			case c.decided <- decided{parts: parts}:
			case <-time.After(10 * time.Second):
				t.Fatalf("the writer stands in round %d", n)
			}
		}
	}
	s.look(t, "what others sent is not written", func() bool { return len(s.written[quick[0]]) == rounds && len(s.written[quick[1]]) == rounds })
	s.look(t, "nobody waits", func() bool { return s.waiting[slow[0]]+s.waiting[slow[1]]+s.waiting[slow[2]] == places })
	close(c.decided)
	writer.Wait()
	c.main.mu.Lock()
	for i := range slices.Concat(slow, quick) {
		due, want := c.main.due[partition{g.durable.Topics.Uplinks, i}], int64(0)
		if i >= len(slow) {
			want = rounds
		}
		if due != want {
			t.Errorf("of partition %d all before %d is due, want %d", i, due, want)
		}
	}
	c.main.mu.Unlock()
	if err := g.consuming.unstored; err != nil {
		t.Errorf("a tenant's change makes the worker unready: %v", err)
	}
	close(over)
	c.asides.lanes.Wait()
	for of, ids := range sent {
		if !slices.Equal(s.written[of], ids) {
			t.Errorf("tenant %v: written %d of %d, or in another order", of, len(s.written[of]), len(ids))
		}
	}
	if s.most > places {
		t.Errorf("%d tenants waited at once, each with a connection", s.most)
	}
	if len(c.asides.of) != 0 || c.w.load() != 0 {
		t.Errorf("%d lanes are left, and %v of the window", len(c.asides.of), c.w.load())
	}
}

// A worker that is to stop does not wait for a change.
func TestWhatIsAsideIsLeftWhenTheWorkerStops(t *testing.T) {
	of := ident.Tenant{1}
	s := &changing{slow: map[ident.Tenant]chan struct{}{of: make(chan struct{})}, waiting: map[ident.Tenant]int{}, written: map[ident.Tenant][]ident.Uplink{}}
	g := New(enter.New(s, enter.NewCache(1), enter.Recorder{Mint: ident.Mint{Now: time.Now}}, slog.New(slog.DiscardHandler)), s, nil, nil, tenant.Limits{}, slog.New(slog.DiscardHandler))
	c := &consumer{g: g, asides: newAsides(1)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	scope := new(storetest.World).Scope(of, 0)
	c.aside(ctx, &part{Part: store.Part{Scope: scope, Rows: []store.Finished{{}}}, of: []*pending{{}}})
	s.look(t, "nobody waits", func() bool { return s.waiting[of] == 1 })
	stop()
	c.asides.lanes.Wait()
	if len(s.written) != 0 {
		t.Error("something was written")
	}
}
