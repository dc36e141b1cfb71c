package ingest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// turn switches the source, which tells when it was off.
func (s *stream) turn(to source.State) { s.patch(manage.SourcePatch{State: &to}) }

// quarantined are the tenant's uplinks in quarantine.
func (s *stream) quarantined() []uplink.Uplink {
	s.t.Helper()
	return must[store.Page[uplink.Uplink]](s.t)(s.out.Uplinks(s.t.Context(), s.may(access.UplinkRead).Scope, access.UplinkRead, store.Query{Limit: 200}, store.UplinkFilter{State: uplink.Quarantined})).Items
}

// counted is how many of a connection's messages became something.
func (s *stream) counted(c ingest.Connection, result string) int64 {
	return s.events.Counts()[`ringfence_mqtt_messages_total{connection="`+c.Name+`",result="`+result+`"}`]
}

// Its operator sees why nothing arrives, and that something did.
func TestWhatAConnectionBringsForWhoIsOffWaitsInQuarantineAndNothingButAReleaseLetsItOut(t *testing.T) {
	for _, c := range []struct {
		reason  uplink.Reason
		off, on func(*stream)
	}{
		{uplink.SourceDisabled, func(s *stream) { s.turn(source.Disabled) }, func(s *stream) { s.turn(source.Active) }},
		{uplink.TenantStopped, func(s *stream) { s.suspend(true) }, func(s *stream) { s.suspend(false) }},
	} {
		s := newStream(t, "x", tenant.DefaultLimits)
		must[source.Mapping](t)(s.admin.MapApplication(t.Context(), s.may(access.PlatformConnectionWrite), source.Mapping{Connection: "apps", Application: "pumps", Tenant: s.tenant, Source: s.way.ID}))
		fixed := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up")}}
		apps := ingest.Connection{Name: "apps", Format: source.Plain, Owner: ingest.ByApplication, Topics: []uplink.Template{template(t, "app/{application}/up")}}
		c.off(s)
		s.now = s.now.Add(time.Second)
		for topic, by := range map[string]ingest.Connection{"up": fixed, "app/pumps/up": apps} {
			if err := s.receive(by, topic, `{"id":"`+topic+`","device":"`+known+`","payload":"AA=="}`); err != nil {
				t.Errorf("%s: it would be given again for ever: %v", c.reason, err)
			}
			if n := s.counted(by, "refused"); n != 1 {
				t.Errorf("%s: %d are counted as refused", c.reason, n)
			}
		}
		if err := s.receive(fixed, "up", `{"device":`); err != nil || s.counted(fixed, "refused_dropped") != 1 || len(s.dead()) != 0 {
			t.Errorf("%s: what cannot be read: %v, %v", c.reason, err, s.dead())
		}
		s.now = s.now.Add(time.Second)
		s.consume()
		c.on(s)
		s.now = s.now.Add(time.Second)
		s.process()
		kept := s.quarantined()
		if len(kept) != 2 || kept[0].Reason != c.reason || kept[1].Reason != c.reason || len(s.readings()) != 0 {
			t.Fatalf("%s: in quarantine %+v; %d readings", c.reason, kept, len(s.readings()))
		}
		release := func() {
			t.Helper()
			must[uplink.Uplink](t)(s.admin.Release(t.Context(), s.may(access.QuarantineRelease), kept[0].ID))
			s.now = s.now.Add(time.Second)
			s.process()
		}
		s.turn(source.Disabled)
		s.now = s.now.Add(time.Second)
		release()
		if u := s.uplink(kept[0].ID); u.State != uplink.Quarantined || u.Reason != uplink.SourceDisabled {
			t.Errorf("%s: released while its source is disabled it is %s, %s", c.reason, u.State, u.Reason)
		}
		s.turn(source.Active)
		s.now = s.now.Add(time.Second)
		release()
		if u := s.uplink(kept[0].ID); u.State != uplink.Processed || len(s.readings()) != 1 || len(s.quarantined()) != 1 {
			t.Errorf("%s: released it is %s; %d readings, %d in quarantine", c.reason, u.State, len(s.readings()), len(s.quarantined()))
		}
	}
}

// To turn a source off that sends too much helps the tenant's others, and its quarantine has as much of it as might have come in.
func TestAFloodForADisabledSourceTakesNothingFromTheOthers(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.SourceRate, limits.IngestRate, limits.Backlog = 20, 20, 5
	s := newStream(t, "x", limits)
	quiet := must[source.Source](t)(s.admin.CreateSource(t.Context(), s.may(access.SourceWrite), source.Source{Name: "quiet", Format: source.Plain}))
	c := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up")}}
	other := c
	other.Name, other.Source = "other", quiet.ID
	s.turn(source.Disabled)
	s.now = s.now.Add(time.Second)
	for i := range 40 {
		if err := s.receive(c, "up", fmt.Sprintf(`{"id":"%d","device":"%s","payload":"AA=="}`, i, known)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		if err := s.receive(other, "up", fmt.Sprintf(`{"id":"%d","device":"%s","payload":"AA=="}`, i, known)); err != nil {
			t.Fatal(err)
		}
	}
	if s.counted(c, "refused") != 10 || s.counted(c, "refused_dropped") != 30 || s.counted(other, "accepted") != 10 || len(s.all(s.topics.Later)) != 0 {
		t.Errorf("%v", s.events.Counts())
	}
	s.consume()
	if n := len(s.quarantined()); n != 10 || len(s.readings()) != 10 { // half a second's
		t.Errorf("%d in quarantine, %d readings", n, len(s.readings()))
	}
}

// What a message says of another device than its topic does is not let out with the rest.
func TestWhatIsWrongWithAMessageStaysSoWhenItsSourceIsOnAgain(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	c := ingest.Connection{Name: "fixed", Format: source.TTS, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up")}}
	s.turn(source.Disabled)
	s.now = s.now.Add(time.Second)
	if err := s.receive(c, "up", `{"end_device_ids":{"dev_eui":"`+known+`","application_ids":{"application_id":"a"}},"uplink_message":{"f_port":1,"frm_payload":"AA=="}}`); err != nil {
		t.Fatal(err)
	}
	s.consume()
	if kept := s.quarantined(); len(kept) != 1 || kept[0].Reason != uplink.WrongFormat {
		t.Errorf("in quarantine: %+v, %v", kept, s.events.Counts())
	}
}

// Nobody would ever be shown it.
func TestWhatAConnectionBringsForADeletedTenantIsDroppedAndCounted(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	c := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up")}}
	must[tenant.Tenant](t)(s.admin.SetTenantState(t.Context(), s.may(access.PlatformTenantSuspend), s.tenant, tenant.Deleted))
	if err := s.receive(c, "up", `{"device":"`+known+`","payload":"AA=="}`); err != nil || s.counted(c, "refused_dropped") != 1 || len(s.all(s.topics.Uplinks))+len(s.all(s.topics.Dead)) != 0 {
		t.Errorf("%v, %v", err, s.events.Counts())
	}
}
