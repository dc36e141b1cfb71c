package ingest_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// heavy is an engine whose first run takes its time, however long that is.
type heavy struct {
	scripted
	first *sync.Once
	takes func()
}

func (e heavy) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	e.first.Do(e.takes)
	return e.scripted.Run(ctx, j)
}

// watched is a bus that counts what was fetched, and publishes nothing if it is cut.
type watched struct {
	bus.Bus
	fetched atomic.Int64
	cut     bool
	refused atomic.Int64
}

type fetching struct {
	bus.Member
	w *watched
}

func (w *watched) Join(ctx context.Context, group string, topics ...string) (bus.Member, error) {
	m, err := w.Bus.Join(ctx, group, topics...)
	return fetching{m, w}, err
}

func (m fetching) Fetch(ctx context.Context, most int, wait time.Duration) ([]bus.Record, error) {
	rs, err := m.Member.Fetch(ctx, most, wait)
	m.w.fetched.Add(int64(len(rs)))
	return rs, err
}

func (w *watched) Publish(ctx context.Context, rs []bus.Record) []error {
	if !w.cut {
		return w.Bus.Publish(ctx, rs)
	}
	w.refused.Add(1)
	errs := make([]error, len(rs))
	for i := range errs {
		errs[i] = bus.ErrAway
	}
	return errs
}

// reaches waits until a number is what it should be.
func reaches(t *testing.T, what string, n *atomic.Int64, want int64) {
	t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for n.Load() < want {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: %d, want %d", what, n.Load(), want)
		}
	}
}

// A worker that is told to stop finishes the batch that it has begun. What it has read beyond that is for whoever reads it next.
func TestAtAStopWhatIsQueuedIsSomebodyElses(t *testing.T) {
	begun, slow := make(chan struct{}), make(chan struct{})
	s := streamOf(newBench(t, heavy{scripted{[]decoder.Category{decoder.Success}}, &sync.Once{}, func() { close(begun); <-slow }}, "x", tenant.DefaultLimits))
	b := &watched{Bus: s.bus}
	s.events.Over(ingest.Durable{Bus: b, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second})
	const events, batch = 3_000, 1_000
	for n := range events {
		s.says(s.scope, s.way, fmt.Sprint(n), known, 0)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: 20 * time.Second})
	}()
	<-begun
	reaches(t, "all is read", &b.fetched, events)
	stop()
	time.AfterFunc(300*time.Millisecond, func() { close(slow) }) // by when nobody reads any more
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	done := s.events.Counts()[`ringfence_events_finished_total{state="processed"}`]
	if done == 0 || done > batch {
		t.Errorf("%d events were finished at the stop; one batch of at most %d was begun", done, batch)
	}
	behind := int64(0)
	for _, l := range must[[]bus.Lag](t)(s.bus.Lags(t.Context(), "workers", s.topics.Uplinks)) {
		behind += l.Behind()
	}
	if behind < events-batch {
		t.Errorf("%d events are left to others", behind)
	}
	s.consume()
	if done = s.events.Counts()[`ringfence_events_finished_total{state="processed"}`]; done < events {
		t.Errorf("%d events are finished in the end, of %d", done, events)
	}
}

// joining is a bus that ends something as soon as somebody would join.
type joining struct {
	bus.Bus
	end func()
}

func (j joining) Join(ctx context.Context, group string, topics ...string) (bus.Member, error) {
	j.end()
	return j.Bus.Join(ctx, group, topics...)
}

// A worker that is told to stop before it has joined passes nothing over.
func TestAStopBeforeTheBusIsJoinedIsNoFailure(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	ctx, stop := context.WithCancel(t.Context())
	s.events.Over(ingest.Durable{Bus: joining{s.bus, stop}, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second})
	if err := s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: time.Second}); err != nil {
		t.Error(err)
	}
}

// A record that nothing can be made of and that cannot be buried, since the bus is away, keeps no worker from stopping.
func TestABusThatIsAwayHoldsUpNoStop(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	s.publish(bus.Record{Topic: s.topics.Uplinks, Key: "k", Value: []byte("of nobody")})
	b := &watched{Bus: s.bus, cut: true}
	s.events.Over(ingest.Durable{Bus: b, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: 100 * time.Millisecond})
	}()
	reaches(t, "a dead letter is refused", &b.refused, 1)
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on trying")
	}
	if n := s.events.Counts()[`ringfence_dead_letters_total{from="bus"}`]; n != 0 {
		t.Errorf("%d dead letters are counted", n)
	}
}

// Somebody looks at a worker that has work and comes to no end with any.
func TestAWorkerThatFinishesNothingIsNotReady(t *testing.T) {
	begun, slow := make(chan struct{}), make(chan struct{})
	s := streamOf(newBench(t, heavy{scripted{[]decoder.Category{decoder.Success}}, &sync.Once{}, func() { close(begun); <-slow }}, "x", tenant.DefaultLimits))
	s.says(s.scope, s.way, "1", known, 0)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: 20 * time.Second})
	}()
	<-begun
	s.ahead.Store(int64(59 * time.Second))
	if err := s.events.Consuming(); err != nil {
		t.Errorf("within a minute: %v", err)
	}
	s.ahead.Store(int64(2 * time.Minute))
	refused(t, "after two minutes", s.events.Consuming(), "stuck")
	close(slow)
	tick, late := time.NewTicker(time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for s.events.Consuming() != nil {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(s.events.Consuming())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
