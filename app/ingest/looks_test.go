package ingest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// freezing is a store that answers no question from a moment on.
type freezing struct {
	store.Store

	frozen atomic.Bool
	asked  atomic.Int64 // since
}

func (f *freezing) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	if !f.frozen.Load() {
		return f.Store.View(ctx, s, fn)
	}
	f.asked.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

// A database that hangs is asked beside the way of the messages of tenants that are known, not on it.
func TestNoMessageWaitsForAStoreThatAnswersNothing(t *testing.T) {
	var frozen *freezing
	s := streamOf(newBenchOn(t, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), func(now func() time.Time, revised store.Revised) store.Store {
		frozen = &freezing{Store: inMemory(now, revised)}
		return frozen
	}, scripted{[]decoder.Category{decoder.Success}}, "x", tenant.DefaultLimits))
	c := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up")}}
	const events = 10
	for n := range events {
		frozen.frozen.Store(n > 0)
		s.now = s.now.Add(time.Minute) // what is known is old
		if err := s.receive(c, "up", fmt.Sprintf(`{"id":"m%d","device":"%s","payload":"AA=="}`, n, known)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.events.Admit(t.Context(), s.scope, s.way, tenant.DefaultLimits); err != nil {
			t.Fatal(err)
		}
		s.says(s.scope, s.way, fmt.Sprint("h", n), known, 0)
	}
	if n := frozen.asked.Load(); n != 0 {
		t.Errorf("%d questions on the way of %d events", n, events)
	}
	if n := len(s.all(s.topics.Uplinks)); n != 2*events {
		t.Errorf("%d of %d events are on the bus", n, 2*events)
	}
	ctx, end := context.WithCancel(t.Context())
	looked := make(chan struct{})
	go func() { s.events.Look(ctx); close(looked) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for frozen.asked.Load() == 0 {
		<-tick.C
	}
	if err := s.receive(c, "up", `{"id":"meanwhile","device":"`+known+`","payload":"AA=="}`); err != nil {
		t.Error(err)
	}
	end()
	<-looked
	if n := frozen.asked.Load(); n != 1 {
		t.Errorf("%d questions of one tenant", n)
	}
}
