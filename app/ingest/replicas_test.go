package ingest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
)

// oneOf makes the stream's process one of several of its kind.
func (s *stream) oneOf(replicas int) {
	s.events.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", Replicas: replicas})
}

// What waits in the store is everybody's and is held against the whole limit; what is put off, each of the processes knows its own
// part of.
func TestABacklogIsTheDeploymentsHoweverManyProcessesHoldItsLimit(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.FuelPerMinute, limits.Backlog, limits.SourceRate = 1, 40, 4
	s := newStream(t, "x", limits)
	s.send(0, make([]byte, 11)...) // one of them is decoded
	s.consume()
	s.oneOf(4)
	s.now = s.now.Add(2 * time.Second)
	for backlog, room := range map[int]bool{40: true, 11: true, 10: false} {
		if _, err := s.events.Admit(t.Context(), s.scope, s.way, tenant.Limits{Backlog: backlog, SourceRate: 1_000, SourceBurst: 1_000}); (err == nil) != room || err != nil && !fault.Is(err, fault.Exhausted) {
			t.Errorf("with ten that wait and a limit of %d: %v", backlog, err)
		}
	}
	c := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up")}}
	for i := range 20 {
		if err := s.receive(c, "up", fmt.Sprintf(`{"id":"m%d","device":"%s","payload":"AA=="}`, i, known)); err != nil {
			t.Fatal(err)
		}
	}
	counts := s.events.Counts()
	for result, want := range map[string]int64{"accepted": 1, "later": 8, "over_backlog": 11} { // eight here are 32 of all
		if n := counts[`ringfence_mqtt_messages_total{connection="fixed",result="`+result+`"}`]; n != want {
			t.Errorf("%d messages are %s, want %d", n, result, want)
		}
	}
}
