package ingest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// clogged is a bus that takes some records no more.
type clogged struct {
	bus.Bus

	refuses func(bus.Record) bool
	how     string // hangs: as long as its caller waits; panics; else it fails
	open    atomic.Bool
	refused atomic.Int64 // calls
	long    atomic.Int64 // of them, that wait longer than a second
	mixed   atomic.Int64 // rounds that had something of all
}

// rounds is an outbox whose rounds are looked at.
type rounds struct {
	store.Outbox
	of *clogged
}

func (r rounds) Relay(ctx context.Context, at store.Round, publish func(context.Context, []store.Sent) []error) (bool, error) {
	return r.Outbox.Relay(ctx, at, func(ctx context.Context, rs []store.Sent) []error {
		if rs[0].Tenant != rs[len(rs)-1].Tenant {
			r.of.mixed.Add(1)
		}
		return publish(ctx, rs)
	})
}

func (c *clogged) Publish(ctx context.Context, rs []bus.Record) []error {
	errs := make([]error, len(rs))
	var taken []bus.Record
	var places []int
	for i, r := range rs {
		if !c.open.Load() && c.refuses(r) {
			errs[i] = bus.ErrAway
		} else {
			taken, places = append(taken, r), append(places, i)
		}
	}
	for n, err := range c.Bus.Publish(ctx, taken) {
		errs[places[n]] = err
	}
	if len(taken) < len(rs) {
		if end, _ := ctx.Deadline(); time.Until(end) > time.Second {
			c.long.Add(1)
		}
		switch c.refused.Add(1); c.how {
		case "hangs":
			<-ctx.Done()
		case "panics":
			panic("of a bus")
		}
	}
	return errs
}

// writes puts a record of a tenant's into the outbox.
func (s *stream) writes(t ident.Tenant, key, value string) {
	s.t.Helper()
	f := store.Finished{Uplink: uplink.Uplink{State: uplink.Processed, ArrivedAt: s.now, ReceivedAt: s.now}, Reading: &uplink.Reading{At: s.now, Data: []byte(`{}`)}}
	ident.Fresh(s.gate.Mint, &f.Uplink.ID)
	ident.Fresh(s.gate.Mint, &f.Reading.ID)
	f.Reading.Uplink, f.Out = f.Uplink.ID, &store.Outgoing{Event: f.Uplink.ID, Key: key, Value: []byte(value)}
	for _, err := range s.store.IngestBatch(s.t.Context(), []store.Part{{Scope: s.gate.System(t, "process", access.Origin{}), Rows: []store.Finished{f}, Wait: true}}) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// comes waits until so many of a tenant's records went out, and answers all that did.
func (s *stream) comes(what string, t ident.Tenant, n int, meanwhile func()) []bus.Record {
	s.t.Helper()
	tick, late := time.NewTicker(10*time.Millisecond), time.NewTimer(2*time.Minute)
	defer tick.Stop()
	defer late.Stop()
	for {
		rs := s.all(s.topics.Out(t))
		if len(rs) >= n {
			return rs
		}
		select {
		case <-tick.C:
			meanwhile()
		case <-late.C:
			s.t.Fatalf("%s: %d went out of %d", what, len(rs), n)
		}
	}
}

// clog has a relay with two hands send what two tenants have, on a bus that refuses some of it, each with two records of twenty keys.
func clog(t *testing.T, b *clogged) (s *stream, sick, well ident.Tenant) {
	t.Helper()
	s, sick, well = newStream(t, "x", tenant.DefaultLimits), ident.Tenant{2}, ident.Tenant{3}
	b.Bus = s.bus
	s.events.Over(ingest.Durable{Bus: b, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers"})
	for _, of := range []ident.Tenant{sick, well} {
		if err := s.broker.Create(s.topics.Out(of), 3); err != nil {
			t.Fatal(err)
		}
		for n := range 40 {
			s.writes(of, fmt.Sprint("k", n%20), fmt.Sprint(n/20))
		}
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.events.Relay(ctx, rounds{s.store, b}, 2); close(done) }()
	t.Cleanup(func() { end(); <-done })
	return s, sick, well
}

func inTheirOrder(t *testing.T, rs []bus.Record) {
	t.Helper()
	last := map[string]string{}
	for _, r := range rs {
		if was := last[r.Key]; was > string(r.Value) {
			t.Errorf("of %s, %s went out before %s", r.Key, was, r.Value)
		}
		last[r.Key] = string(r.Value)
	}
}

// One tenant's topic takes nothing, be it that it fails, that we panic over it or that it keeps its callers waiting: the others'
// records go out meanwhile, and its own when it is mended, in their order.
func TestATopicThatTakesNothingHoldsUpNobodyElse(t *testing.T) {
	for _, how := range []string{"fails", "hangs", "panics"} {
		t.Run(how, func(t *testing.T) {
			b := &clogged{how: how}
			b.refuses = func(r bus.Record) bool { return r.Topic == bus.TopicsUnder("rf").Out(ident.Tenant{2}) }
			s, sick, well := clog(t, b)
			nothing, later := func() {}, func() { s.ahead.Add(int64(time.Second / 10)) }
			s.comes("what waited of the others", well, 40, nothing)
			if n := b.refused.Load(); n < 1 || n > 2 {
				t.Errorf("it was tried %d times, want once by each who did not know", n)
			}
			for n := 0; n < 1_000 && b.refused.Load() < 5; n++ { // it is tried again meanwhile
				s.writes(well, fmt.Sprint("k", n%20), "2")
				s.comes("one more of the others", well, 41+n, later)
			}
			if all, long, mixed := b.refused.Load(), b.long.Load(), b.mixed.Load(); all < 5 || long > 2 || mixed > 2 {
				t.Errorf("it was tried %d times, %d of them for long; %d rounds had others' records, too; want that twice at most", all, long, mixed)
			}
			s.writes(sick, "k0", "2")
			b.open.Store(true)
			rs := s.comes("what waited of the one", sick, 41, later)
			inTheirOrder(t, rs)
			s.writes(sick, "k0", "3")
			if rs = s.comes("one more of the one", sick, 42, later); len(rs) != 42 {
				t.Errorf("%d went out", len(rs))
			}
		})
	}
}

// What one partition of a tenant's topic does not take does not keep what the others would.
func TestWhatAPartitionDoesNotTakeKeepsTheTenantsOthersNotForLong(t *testing.T) {
	b := &clogged{}
	b.refuses = func(r bus.Record) bool { return r.Topic == bus.TopicsUnder("rf").Out(ident.Tenant{2}) && r.Key == "k0" }
	s, sick, _ := clog(t, b)
	later := func() { s.ahead.Add(int64(time.Second)) }
	s.comes("all but of one key", sick, 38, later)
	s.writes(sick, "k1", "2")
	rs := s.comes("one more", sick, 39, later)
	for _, r := range rs {
		if r.Key == "k0" {
			t.Error("one went out that the bus did not take")
		}
	}
	b.open.Store(true)
	rs = s.comes("the rest", sick, 41, later)
	inTheirOrder(t, rs)
}
