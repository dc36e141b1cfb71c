package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// stream is a bench whose events go over a bus.
type stream struct {
	*bench
	bus    bus.Bus
	topics bus.Topics
	broker *memory.Broker
}

func newStream(t *testing.T, script string, limits tenant.Limits) *stream {
	t.Helper()
	return streamOf(newBench(t, scripted{[]decoder.Category{decoder.Success, decoder.Fuel, decoder.Exception}}, script, limits))
}

func streamOf(b *bench) *stream {
	b.t.Helper()
	broker := memory.NewBroker(memory.BrokerOptions{})
	s := &stream{b, broker.Bus(), bus.TopicsUnder("rf"), broker}
	for _, topic := range []string{s.topics.Uplinks, s.topics.Later, s.topics.Dead} {
		if err := broker.Create(topic, 3); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, g := range []*ingest.Ingest{b.events, b.unaware} {
		g.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers"})
	}
	return s
}

// hang is how long a test waits for what does not end.
const hang = 5 * time.Minute

// consume works until as many events as are on the bus are finished.
func (s *stream) consume() {
	s.t.Helper()
	ctx, end := context.WithTimeout(s.t.Context(), hang)
	defer end()
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 2, Writers: 2, Grace: 5 * time.Second})
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for behind := int64(1); behind > 0; <-tick.C {
		behind = 0
		for group, topic := range map[string]string{"workers": s.topics.Uplinks, "workers-later": s.topics.Later} {
			for _, l := range must[[]bus.Lag](s.t)(s.bus.Lags(ctx, group, topic)) {
				behind += l.Behind()
			}
		}
	}
	end()
	if err := <-ended; err != nil {
		s.t.Fatal(err)
	}
}

// dead are the reasons of the dead letters, in no order.
func (s *stream) dead() map[string]int {
	s.t.Helper()
	out := map[string]int{}
	for part := range 3 {
		for _, r := range must[[]bus.Record](s.t)(s.bus.Browse(s.t.Context(), s.topics.Dead, part, 0, 1000)) {
			var fields []uplink.Field
			for _, h := range r.Headers {
				fields = append(fields, uplink.Field{Name: h.Name, Value: string(h.Value)})
			}
			out[uplink.ReadLetter(fields).Reason]++
		}
	}
	return out
}

func (s *stream) readings() []uplink.Reading {
	s.t.Helper()
	return must[store.Page[uplink.Reading]](s.t)(s.out.Readings(s.t.Context(), s.may(access.ReadingRead).Scope, store.Query{Limit: 200}, disclose.ReadingFilter{})).Items
}

func (s *stream) outcomes(id ident.Uplink) []uplink.Outcome {
	s.t.Helper()
	return must[store.Page[uplink.Outcome]](s.t)(s.out.Outcomes(s.t.Context(), s.may(access.ReadingRead).Scope, store.Query{Limit: 200}, store.OutcomeFilter{Uplink: id})).Items
}

func (s *stream) publish(rs ...bus.Record) {
	s.t.Helper()
	for _, err := range s.bus.Publish(s.t.Context(), rs) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// all are the records of a topic.
func (s *stream) all(topic string) (rs []bus.Record) {
	s.t.Helper()
	for part := range 3 {
		rs = append(rs, must[[]bus.Record](s.t)(s.bus.Browse(s.t.Context(), topic, part, 0, 1000))...)
	}
	return rs
}

const known = "70b3d57ed0000000"

func TestAnEventOverABusBecomesAReadingUnderTheIdThatItsSenderGot(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	v := s.says(s.scope, s.way, "1", known, 0)
	other := s.says(s.scope, s.way, "2", stranger, 0)
	s.consume()
	u := s.uplink(v.ID)
	if u.State != uplink.Processed || u.Node.IsZero() || !u.ArrivedAt.Equal(s.now.Add(-time.Millisecond)) {
		t.Errorf("%+v", u)
	}
	if rs := s.readings(); len(rs) != 1 || rs[0].Uplink != v.ID || !strings.Contains(string(rs[0].Data), "x") {
		t.Errorf("readings %+v", rs)
	}
	if outs := s.outcomes(v.ID); len(outs) != 1 || outs[0].Category != decoder.Success || outs[0].Version != s.active {
		t.Errorf("outcomes %+v", outs)
	}
	if u := s.uplink(other.ID); u.State != uplink.Quarantined || u.Reason != uplink.UnknownDevice {
		t.Errorf("a device that nobody registered: %s %s", u.State, u.Reason)
	}
}

func TestARecordThatIsReadAgainLeavesNoTraceAndADuplicateNamesTheFirst(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	first := s.says(s.scope, s.way, "1", known, 0)
	s.consume()
	s.publish(s.all(s.topics.Uplinks)[0]) // again, as after a lost commit
	again := s.says(s.scope, s.way, "1", known, 0)
	s.consume()
	if n, outs := len(s.readings()), s.outcomes(first.ID); n != 1 || len(outs) != 1 {
		t.Errorf("%d readings, outcomes %+v", n, outs)
	}
	if again.ID == first.ID || again.Duplicate {
		t.Errorf("over a bus nobody knows yet that it is one: %+v", again)
	}
	if outs := s.outcomes(again.ID); len(outs) != 1 || outs[0].Category != decoder.Duplicate || !strings.Contains(outs[0].Message, first.ID.String()) {
		t.Errorf("the duplicate's outcomes: %+v", outs)
	}
}

func TestWhatIsNoEventOfOursGoesToTheDeadLettersAndNothingIsSkipped(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	s.says(s.scope, s.way, "1", known, 0)
	good := s.all(s.topics.Uplinks)[0]
	change := func(do func(*bus.Record)) bus.Record {
		r := good
		r.Headers = append([]bus.Header(nil), good.Headers...)
		do(&r)
		return r
	}
	later := strings.ReplaceAll(string(good.Value), `"version":1`, `"version":9`)
	gone := strings.ReplaceAll(string(good.Value), s.tenant.String(), ident.Tenant{9, 6: 0x70, 8: 0x80}.String())
	s.publish(
		change(func(r *bus.Record) { r.Headers = nil }),
		change(func(r *bus.Record) { r.Value = []byte("{") }),
		change(func(r *bus.Record) { r.Value = []byte(later) }),
		change(func(r *bus.Record) { r.Value = make([]byte, 900<<10) }),
		change(func(r *bus.Record) { r.Key = "elsewhere" }),
		change(func(r *bus.Record) { r.Headers[0].Value = []byte("upl_other") }),
		change(func(r *bus.Record) { r.Headers[2].Value = []byte("ten_other") }),
		change(func(r *bus.Record) {
			r.Value, r.Key = []byte(gone), ident.Tenant{9, 6: 0x70, 8: 0x80}.String()+"/dev_eui:"+known
			r.Headers[2].Value = []byte(ident.Tenant{9, 6: 0x70, 8: 0x80}.String())
		}),
	)
	s.says(s.scope, s.way, "2", known, 0)
	s.consume()
	want := map[string]int{"no_headers": 1, "unreadable": 1, "event_version": 1, "too_large": 1, "headers_disagree": 3, "tenant_gone": 1}
	if got := s.dead(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dead letters %v; want %v", got, want)
	}
	if n := len(s.readings()); n != 2 {
		t.Errorf("%d readings", n)
	}
	for _, r := range s.all(s.topics.Dead) {
		if len(r.Value) == 900<<10 {
			t.Error("a dead letter holds all of a value that is too large")
		}
	}
	// Replayed, none of them becomes anything that it was not: what may go on its way again is judged as it was, and a dead letter again.
	var again []ident.Uplink
	for _, d := range s.letters("") {
		id, err := s.replay(d.Place)
		if d.Reason == "tenant_gone" && err == nil {
			again = append(again, id)
			continue
		}
		code := map[string]string{"no_headers": "letter_not_ours", "headers_disagree": "letter_not_ours", "unreadable": "letter_unreadable", "event_version": "letter_unreadable", "too_large": "letter_cut"}[d.Reason]
		refused(t, d.Reason, err, code)
	}
	s.consume()
	want["tenant_gone"] = 2
	if got := s.dead(); len(again) != 1 || !strings.Contains(string(good.Value), again[0].String()) || fmt.Sprint(got) != fmt.Sprint(want) || len(s.readings()) != 2 {
		t.Errorf("after the replay of %s: dead letters %v, want %v", again, got, want)
	}
}

// Each step is half a minute after the one before; by a process that does not know of any of them an event is let in after each.
func TestWhatWasLetInAfterARevocationIsQuarantined(t *testing.T) {
	turn := func(to source.State) func(*stream) {
		return func(s *stream) { s.patch(manage.SourcePatch{State: &to}) }
	}
	name := "another name"
	rename := func(s *stream) { s.patch(manage.SourcePatch{Name: &name}) }
	another := func(overlap *time.Duration) func(*stream) {
		return func(s *stream) {
			if _, _, err := s.admin.CreateKey(s.t.Context(), s.may(access.SourceKeyCreate), s.way.ID, "another", 24*time.Hour, overlap); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	nothing := func(*stream) {}
	for _, c := range []struct {
		name  string
		steps []func(*stream)
		want  string // after each: p processed, q quarantined
	}{
		{"a key revoked", []func(*stream){(*stream).revoke, nothing}, "qq"},
		{"and another made", []func(*stream){(*stream).revoke, another(nil)}, "qq"},
		{"a source disabled", []func(*stream){turn(source.Disabled), nothing}, "qq"},
		{"and renamed", []func(*stream){turn(source.Disabled), rename, rename}, "qqq"},
		{"and enabled again", []func(*stream){turn(source.Disabled), turn(source.Active), nothing}, "qpp"},
		{"twice", []func(*stream){turn(source.Disabled), turn(source.Active), turn(source.Disabled), turn(source.Active)}, "qpqp"},
		{"and its key revoked", []func(*stream){turn(source.Disabled), turn(source.Active), (*stream).revoke}, "qpq"},
		{"a key rotated", []func(*stream){another(new(time.Duration)), nothing}, "qq"},
		{"and a third one made", []func(*stream){another(new(time.Duration)), another(nil)}, "qq"},
		{"a key over, and another made", []func(*stream){func(s *stream) { s.now = s.now.Add(24 * time.Hour) }, another(nil)}, "qq"},
		{"another key made", []func(*stream){another(nil), nothing}, "pp"},
	} {
		s := newStream(t, "x", tenant.DefaultLimits)
		sent := []ident.Uplink{s.says(s.scope, s.way, "before", known, 0).ID}
		want := "p"
		for i, do := range c.steps {
			do(s)
			s.now = s.now.Add(900 * time.Millisecond)
			if i == 0 { // within the second that a process may not know of it
				sent, want = append(sent, s.says(s.scope, s.way, "soon", known, 0).ID), want+"p"
			}
			s.now = s.now.Add(30 * time.Second)
			sent, want = append(sent, s.says(s.scope, s.way, fmt.Sprint(i), known, 0).ID), want+c.want[i:i+1]
		}
		s.consume()
		got := ""
		for _, id := range sent {
			u := s.uplink(id)
			if got += string(u.State[:1]); (u.State == uplink.Quarantined) != (u.Reason == uplink.Revoked) {
				t.Errorf("%s: %s %s", c.name, u.State, u.Reason)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
}

func (s *stream) patch(p manage.SourcePatch) {
	s.t.Helper()
	now := must[source.Source](s.t)(s.admin.Source(s.t.Context(), s.may(access.SourceRead).Scope, s.way.ID))
	must[source.Source](s.t)(s.admin.UpdateSource(s.t.Context(), s.may(access.SourceWrite), s.way.ID, now.Rev, p))
}

// revoke ends the source's first key.
func (s *stream) revoke() {
	s.t.Helper()
	keys := must[[]credential.IngestionKey](s.t)(s.admin.Keys(s.t.Context(), s.may(access.SourceRead).Scope, s.way.ID))
	if err := s.admin.RevokeKey(s.t.Context(), s.may(access.SourceKeyRevoke), s.way.ID, keys[0].ID, keys[0].Rev); err != nil {
		s.t.Fatal(err)
	}
}

func TestWhatASuspendedTenantSentBeforeWaitsUntilItIsResumed(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	v := s.says(s.scope, s.way, "1", known, 0)
	s.suspend(true)
	s.consume()
	s.suspend(false)
	if u := s.uplink(v.ID); u.State != uplink.Accepted {
		t.Fatalf("%s", u.State)
	}
	s.process()
	if u := s.uplink(v.ID); u.State != uplink.Processed {
		t.Errorf("%s", u.State)
	}
}

func TestWhatAQuarantinedVersionHoldsUpWaitsInTheStoreAndTheBusGoesOn(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	for i := range 3 {
		s.says(s.scope, s.way, fmt.Sprint("f", i), known, 1)
	}
	s.consume()
	var waits []ident.Uplink
	for i := range 5 {
		waits = append(waits, s.says(s.scope, s.way, fmt.Sprint("w", i), known, 0).ID)
	}
	s.consume()
	for _, id := range waits {
		if u := s.uplink(id); u.State != uplink.Accepted || u.NotBefore.IsZero() {
			t.Fatalf("%s until %v", u.State, u.NotBefore)
		}
	}
	s.now = s.now.Add(2 * time.Minute)
	if r, w := s.process(); r != 5 || w != 0 {
		t.Errorf("%d readings, %d wait", r, w)
	}
}

func (s *stream) suspend(on bool) {
	s.t.Helper()
	p, state := access.PlatformTenantResume, tenant.Active
	if on {
		p, state = access.PlatformTenantSuspend, tenant.Suspended
	}
	must[tenant.Tenant](s.t)(s.admin.SetTenantState(s.t.Context(), s.may(p), s.tenant, state))
}

func (s *stream) receive(c ingest.Connection, topic, payload string) error {
	s.t.Helper()
	return s.events.Receive(s.t.Context(), c, []ingest.Brought{{Topic: topic, Payload: []byte(payload)}})[0]
}

func template(t *testing.T, s string) uplink.Template {
	t.Helper()
	return must[uplink.Template](t)(uplink.ParseTemplate(s))
}

func TestAConnectionsMessagesAreWhoseTheirTopicSaysAndNeverThePayload(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	fixed := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up/{device}")}}
	checked := ingest.Connection{Name: "own", Format: source.Plain, Owner: ingest.Checked, Topics: []uplink.Template{template(t, uplink.CheckedTopic)}}
	apps := ingest.Connection{Name: "apps", Format: source.Plain, Owner: ingest.ByApplication, Topics: []uplink.Template{template(t, "app/{application}/up")}}
	body := func(id string) string { return `{"id":"` + id + `","device":"` + known + `","payload":"AA=="}` }
	topic := "rf/" + s.tenant.String() + "/" + s.way.ID.String() + "/up"
	for _, c := range []struct {
		name           string
		by             ingest.Connection
		topic, payload string
	}{
		{"fixed", fixed, "up/" + known, body("1")},
		{"checked", checked, topic, body("2")},
		{"another device than the topic's", fixed, "up/70b3d57ed0000009", body("3")},
		{"a format that is not the source's", ingest.Connection{Name: "cs", Format: source.ChirpStack, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up/+")}},
			"up/x", `{"deduplicationId":"9","deviceInfo":{"devEui":"` + known + `"},"fCnt":1,"data":"AA=="}`},
		{"nobody's application", apps, "app/pumps/up", body("4")},
		{"another topic", checked, strings.TrimSuffix(topic, "up") + "down", body("5")},
		{"a tenant that is not there", checked, strings.Replace(topic, s.tenant.String(), ident.Tenant{9, 6: 0x70, 8: 0x80}.String(), 1), body("6")},
		{"a source that is not there", checked, strings.Replace(topic, s.way.ID.String(), ident.Source{9, 6: 0x70, 8: 0x80}.String(), 1), body("7")},
		{"no ids", checked, "rf/acme/pump/up", body("8")},
		{"nothing that can be read", fixed, "up/" + known, `{"device":`},
	} {
		if err := s.receive(c.by, c.topic, c.payload); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	s.consume()
	if n := len(s.readings()); n != 2 {
		t.Errorf("%d readings", n)
	}
	want := map[string]int{"no_tenant": 2, "bad_topic": 1, "no_source": 2, "unreadable": 1}
	if got := s.dead(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dead letters %v; want %v", got, want)
	}
	reasons := map[uplink.Reason]int{}
	page := must[store.Page[uplink.Uplink]](t)(s.out.Uplinks(t.Context(), s.may(access.UplinkRead).Scope, access.UplinkRead, store.Query{Limit: 200}, store.UplinkFilter{State: uplink.Quarantined}))
	for _, u := range page.Items {
		reasons[u.Reason]++
	}
	if fmt.Sprint(reasons) != fmt.Sprint(map[uplink.Reason]int{uplink.TopicMismatch: 1, uplink.WrongFormat: 1}) {
		t.Errorf("quarantined: %v", reasons)
	}
}

func TestWhatComesFasterThanItMayIsReadLaterAndNothingIsKeptBeyondTheBacklog(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.SourceRate, limits.Backlog = 10, 20
	s := newStream(t, "x", limits)
	c := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up")}}
	for i := range 40 {
		if err := s.receive(c, "up", fmt.Sprintf(`{"id":"%d","device":"%s","payload":"AA=="}`, i, known)); err != nil {
			t.Fatal(err)
		}
	}
	now, later := len(s.all(s.topics.Uplinks)), len(s.all(s.topics.Later))
	if now != 5 || later != 20 {
		t.Errorf("%d at once, %d later; want half a second's, and the backlog", now, later)
	}
	if n := s.events.Counts()[`ringfence_mqtt_messages_total{connection="fixed",result="over_backlog"}`]; n != 15 {
		t.Errorf("%d are counted as dropped", n)
	}
	s.consume()
	if n := len(s.readings()); n != 25 {
		t.Errorf("%d readings", n)
	}
}

// Whoever can make applications at a network server can have it bring messages of any number of them.
func TestMessagesOfUnknownApplicationsKeepThoseOfAMappedOneFromNobody(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	apps := ingest.Connection{Name: "apps", Format: source.Plain, Owner: ingest.ByApplication, Topics: []uplink.Template{template(t, "app/{application}/up")}}
	const mapped, unknown = store.MaxPage + 1, 1_100
	var all []ingest.Brought
	for n := range unknown {
		all = append(all, ingest.Brought{Topic: fmt.Sprintf("app/nobodys-%d/up", n), Payload: []byte("{}")})
	}
	for n := range mapped {
		name := fmt.Sprint("pumps-", n)
		must[source.Mapping](t)(s.admin.MapApplication(t.Context(), s.may(access.PlatformConnectionWrite), source.Mapping{Connection: "apps", Application: name, Tenant: s.tenant, Source: s.way.ID}))
		all = append(all, ingest.Brought{Topic: "app/" + name + "/up", Payload: []byte(`{"device":"` + known + `","payload":"AA=="}`)})
	}
	for _, err := range s.events.Receive(t.Context(), apps, all) {
		if err != nil {
			t.Fatal(err)
		}
	}
	counts, dead := s.events.Counts(), s.dead()
	count := func(result string) int64 {
		return counts[`ringfence_mqtt_messages_total{connection="apps",result="`+result+`"}`]
	}
	if count("accepted")+count("later") != mapped || count("dead_letter")+count("dead_dropped") != unknown || dead["no_tenant"] == 0 || len(dead) != 1 {
		t.Errorf("%v; dead letters: %v", counts, dead)
	}
}
