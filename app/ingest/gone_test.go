package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// counted is a bus that counts how often anything is published.
type counted struct {
	*watched
	published atomic.Int64
}

func (c *counted) Publish(ctx context.Context, rs []bus.Record) []error {
	c.published.Add(1)
	return c.watched.Publish(ctx, rs)
}

// A tenant is deleted that had sent much: whoever stands behind it waits for a few records' worth of publishing, not for each.
func TestWhatADeletedTenantSentIsBuriedTogether(t *testing.T) {
	begun, slow := make(chan struct{}), make(chan struct{})
	s := streamOf(newBench(t, heavy{scripted{[]decoder.Category{decoder.Success}}, &sync.Once{}, func() { close(begun); <-slow }}, "x", tenant.DefaultLimits))
	b := &counted{watched: &watched{Bus: s.bus}}
	s.events.Over(ingest.Durable{Bus: b, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second})
	s.says(s.scope, s.way, "first", known, 0)
	of := ident.Tenant{9, 6: 0x70, 8: 0x80}.String()
	gone := s.all(s.topics.Uplinks)[0]
	gone.Value, gone.Key = []byte(strings.ReplaceAll(string(gone.Value), s.tenant.String(), of)), of+"/dev_eui:"+known
	gone.Headers[2].Value = []byte(of)
	const many, quiet = 1_000, 5
	for range many {
		s.publish(gone)
	}
	for n := range quiet {
		s.says(s.scope, s.way, fmt.Sprint(n), known, 0)
	}
	b.published.Store(0)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: 20 * time.Second})
	}()
	<-begun
	reaches(t, "all is read", &b.fetched, 1+many+quiet)
	close(slow)
	tick, late := time.NewTicker(time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for c := s.events.Counts(); c[`ringfence_dead_letters_total{from="bus"}`] < many || c[`ringfence_events_finished_total{state="processed"}`] < 1+quiet; c = s.events.Counts() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after a while: %v", c)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := b.published.Load(); n > many/10 {
		t.Errorf("%d events were buried by %d calls", many, n)
	}
	if got := s.dead(); fmt.Sprint(got) != fmt.Sprintf("map[tenant_gone:%d]", many) {
		t.Errorf("dead letters %v", got)
	}
}
