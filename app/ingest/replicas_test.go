package ingest_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
)

// oneOf makes the stream's process one of several of its kind.
func (s *stream) oneOf(replicas int) {
	s.events.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", Replicas: replicas})
}

// What waits in the store is everybody's and is held against the whole limit; what is put off, each of the processes that do so knows
// its own part of. HTTP puts nothing off, but refuses it, and is held against what waits in the store alone.
func TestABacklogIsTheDeploymentsHoweverManyProcessesHoldItsLimit(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.FuelPerMinute, limits.Backlog, limits.SourceRate = 1, 40, 4
	s := newStream(t, "x", limits)
	s.send(0, make([]byte, 11)...) // one of them is decoded
	s.consume()
	s.oneOf(4)
	s.now = s.now.Add(2 * time.Second)
	api := ingest.New(s.gate, s.store, scripted{}, memlimit.New(func() time.Time { return s.now }, 1000), limits, slog.New(slog.DiscardHandler))
	api.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", Replicas: 4})
	admits := func(what string, backlog int, room bool) {
		t.Helper()
		if _, err := api.Admit(t.Context(), s.scope, s.way, tenant.Limits{Backlog: backlog, SourceRate: 1_000, SourceBurst: 1_000}); (err == nil) != room || err != nil && !fault.Is(err, fault.Exhausted) {
			t.Errorf("%s, with ten that wait and a limit of %d: %v", what, backlog, err)
		}
	}
	admits("before the store was asked", 10, true)
	api.Look(t.Context())
	for backlog, room := range map[int]bool{40: true, 11: true, 10: false} {
		admits("after it", backlog, room)
	}
	c := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up")}}
	receive := func(i int) {
		t.Helper()
		if err := s.receive(c, "up", fmt.Sprintf(`{"id":"m%d","device":"%s","payload":"AA=="}`, i, known)); err != nil {
			t.Fatal(err)
		}
	}
	receive(0)
	s.events.Look(t.Context())
	for i := range 19 {
		receive(1 + i)
	}
	counts := s.events.Counts()
	for result, want := range map[string]int64{"accepted": 1, "later": 8, "over_backlog": 11} { // eight here are 32 of all
		if n := counts[`ringfence_mqtt_messages_total{connection="fixed",result="`+result+`"}`]; n != want {
			t.Errorf("%d messages are %s, want %d", n, result, want)
		}
	}
	admits("beside a topic that is full", 40, true)
	// What waits is asked again without anybody's message, until nothing does.
	for _, waiting := s.process(); waiting > 0; _, waiting = s.process() {
		s.now = s.now.Add(time.Minute)
	}
	api.Look(t.Context())
	admits("once nothing waits", 1, true)
}

func TestATenantsFuelIsSharedByTheProcessesThatSpendIt(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.FuelPerMinute = 800 // that eight runs take
	s := newStream(t, "x", limits)
	s.oneOf(4)
	s.now = s.now.Truncate(time.Minute).Add(time.Minute)
	s.send(0, make([]byte, 10)...)
	s.consume()
	s.want("from the bus", 2, 8, false)
	s.now = s.now.Add(time.Minute)
	s.want("from the store, a minute later", 4, 6, false)
	s.now = s.now.Add(time.Minute)
	for n := range 3 {
		_, err := s.admin.DryRun(t.Context(), s.may(access.DecoderTest).Scope, s.dec, ident.Version{}, "y", decoder.Input{Bytes: []byte{0}})
		if limited := fault.Is(err, fault.Exhausted); limited != (n == 2) {
			t.Errorf("dry run %d: %v", n, err)
		}
	}
}
