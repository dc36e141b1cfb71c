package ingest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
)

// Whatever one message says, the broker does not give it again for ever, with all tenants' others behind it.
func TestWhatCannotBeWrittenAsAnEventIsADeadLetter(t *testing.T) {
	for _, c := range []struct{ name, topic, at, reason string }{
		{"a year behind all years", "up/a", "9999-12-31T23:59:59-01:00", "bad_message"},
		{"a year before all years", "up/a", "0000-01-01T00:59:59+01:00", "bad_message"},
		{"the last year", "up/a", "9999-12-31T23:59:59Z", ""},
		{"an application that no event may name", "up/" + strings.Repeat("a", uplink.MaxText+1), "2026-11-24T12:00:00Z", "bad_topic"},
		{"the longest application", "up/" + strings.Repeat("a", uplink.MaxText), "2026-11-24T12:00:00Z", ""},
	} {
		s := newStream(t, "x", tenant.DefaultLimits)
		fixed := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up/{application}")}}
		if err := s.receive(fixed, c.topic, `{"id":"1","device":"`+known+`","payload":"AA==","time":"`+c.at+`"}`); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		s.consume()
		letters, readings := 0, 1
		if c.reason != "" {
			letters, readings = 1, 0
		}
		if got := s.dead(); len(got) != letters || got[c.reason] != letters || len(s.readings()) != readings {
			t.Errorf("%s: dead letters %v, %d readings", c.name, got, len(s.readings()))
		}
	}
}

// A defect of ours in writing stops nobody either.
func TestAMessageThatWeCannotWriteIsADeadLetter(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	s.events.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version + 1, Wait: 5 * time.Second, Group: "workers"})
	fixed := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up/a")}}
	if err := s.receive(fixed, "up/a", `{"id":"1","device":"`+known+`","payload":"AA=="}`); err != nil {
		t.Error(err)
	}
	if got := s.dead(); got["event_version"] != 1 {
		t.Errorf("dead letters %v", got)
	}
}
