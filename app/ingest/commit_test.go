package ingest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// slow is a bus whose first commits wait until they are let go on, and fail.
type slow struct {
	bus.Bus
	until chan struct{}
	waits atomic.Int64
}

type slowly struct {
	bus.Member
	s *slow
}

func (s *slow) Join(ctx context.Context, group string, topics ...string) (bus.Member, error) {
	m, err := s.Bus.Join(ctx, group, topics...)
	return slowly{m, s}, err
}

func (m slowly) Commit(ctx context.Context, marks []bus.Mark) error {
	select {
	case <-m.s.until:
		return m.Member.Commit(ctx, marks)
	default:
	}
	m.s.waits.Add(1)
	<-m.s.until
	return bus.ErrAway
}

// Whoever finishes events does not wait for their commit; what was not committed is, without anything new.
func TestASlowCommitHoldsUpNothingAndIsMadeUpFor(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	held := &slow{Bus: s.bus, until: make(chan struct{})}
	s.events.Over(ingest.Durable{Bus: held, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second})
	const events = 2_500 // more than one batch
	for n := range events {
		s.says(s.scope, s.way, fmt.Sprint(n), known, 0)
	}
	ctx, end := context.WithTimeout(t.Context(), hang)
	defer end()
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 2, Writers: 1, Grace: 5 * time.Second})
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.events.Counts()[`ringfence_events_finished_total{state="processed"}`] < events && ctx.Err() == nil {
		<-tick.C
	}
	if ctx.Err() != nil || held.waits.Load() != 1 {
		t.Errorf("%d events were finished while a commit was under way, of %d: %v", events, held.waits.Load(), ctx.Err())
	}
	close(held.until)
	for behind := int64(1); behind > 0 && ctx.Err() == nil; <-tick.C {
		behind = 0
		for _, l := range must[[]bus.Lag](t)(s.bus.Lags(ctx, "workers", s.topics.Uplinks)) {
			behind += l.Behind()
		}
	}
	if ctx.Err() != nil {
		t.Error("what was finished is not committed")
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
