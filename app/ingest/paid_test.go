package ingest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// A message that cannot be published comes again and again: each counts once for its rates, so that none is dropped, cut or put off
// for having been tried.
func TestWhatCannotBePublishedIsChargedOnce(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.SourceRate = 10 // of which half a second's may come at once
	own := ingest.Connection{Name: "own", Format: source.Plain, Owner: ingest.Checked, Topics: []uplink.Template{template(t, uplink.CheckedTopic)}}
	for _, c := range []struct {
		name             string
		off              bool
		payload          func(i int) string
		brought          int
		now, later, dead int
	}{
		{"accepted", false, func(i int) string { return fmt.Sprintf(`{"id":"%d","device":"%s","payload":"AA=="}`, i, known) }, 8, 5, 3, 0},
		{"of a tenant that is off", true, func(i int) string { return fmt.Sprintf(`{"id":"%d","device":"%s","payload":"AA=="}`, i, known) }, 5, 5, 0, 0},
		{"unreadable", false, func(int) string { return `{"device":` }, 20, 0, 0, 20},
	} {
		s := newStream(t, "x", limits)
		if c.off {
			s.suspend(true)
		}
		away := &clogged{Bus: s.bus, refuses: func(bus.Record) bool { return true }}
		s.events.Over(ingest.Durable{Bus: away, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers"})
		ds := make([]ingest.Brought, c.brought)
		for i := range ds {
			ds[i] = ingest.Brought{Topic: s.up(s.tenant) + fmt.Sprint("/", i), Payload: []byte(c.payload(i))}
		}
		for try := range 200 {
			for i, err := range s.events.Receive(t.Context(), own, ds) {
				if ds[i].Before = err; err == nil {
					t.Fatalf("%s: the %dth is acknowledged at the %dth try, and nowhere", c.name, i, try)
				}
			}
		}
		away.open.Store(true)
		for i, err := range s.events.Receive(t.Context(), own, ds) {
			if err != nil {
				t.Errorf("%s: the %dth: %v", c.name, i, err)
			}
		}
		now, later, dead := len(s.all(s.topics.Uplinks)), len(s.all(s.topics.Later)), len(s.all(s.topics.Dead))
		if now != c.now || later != c.later || dead != c.dead {
			t.Errorf("%s: %d at once, %d later, %d dead letters; want %d, %d, %d", c.name, now, later, dead, c.now, c.later, c.dead)
		}
	}
}

// Whatever an application that nobody is known for sends, another's letters are kept, so that they can be given again once it is mapped.
func TestAFloodOfOneUnknownApplicationDropsNoOthersLetters(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	apps := ingest.Connection{Name: "apps", Format: source.Plain, Owner: ingest.ByApplication, Topics: []uplink.Template{template(t, "app/{application}/up")}}
	for range 5_000 {
		if err := s.receive(apps, "app/flood/up", `{}`); err != nil {
			t.Fatal(err)
		}
	}
	if s.counted(apps, "dead_dropped") == 0 {
		t.Fatalf("nothing of it is dropped: %v", s.events.Counts())
	}
	was := s.counted(apps, "dead_letter")
	for range 10 {
		if err := s.receive(apps, "app/customer/up", `{}`); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.counted(apps, "dead_letter") - was; n != 10 {
		t.Errorf("%d of 10 are kept", n)
	}
}
