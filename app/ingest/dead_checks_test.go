package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// What is shown of foreign text is made printable; whose a letter is must not be asked by what was made of it.
func TestALetterIsMappedByItsApplicationAndNotByHowThatIsShown(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	apps := ingest.Connection{Name: "apps", Format: source.Plain, Owner: ingest.ByApplication, Topics: []uplink.Template{template(t, "app/{application}/{device}/up")}}
	const hidden = "pum\u200bps" // an application of its own, which looks like another
	if err := s.receive(apps, "app/"+hidden+"/"+known+"/up", `{"id":"1","device":"`+known+`","payload":"AA=="}`); err != nil {
		t.Fatal(err)
	}
	letter := s.letters("no_tenant")[0]
	claim := func(application string) {
		t.Helper()
		must[source.Mapping](t)(s.admin.MapApplication(t.Context(), s.may(access.PlatformConnectionWrite), source.Mapping{Connection: "apps", Application: application, Tenant: s.tenant, Source: s.way.ID}))
	}
	claim("pum?ps")
	_, err := s.replay(letter.Place)
	refused(t, "another application's mapping", err, "letter_without_owner")
	claim(hidden)
	id := must[ident.Uplink](t)(s.replay(letter.Place))
	s.consume()
	if u := s.uplink(id); u.State != uplink.Processed {
		t.Errorf("%s %s", u.State, u.Reason)
	}
	// The first levels of a topic of another form are no application's name.
	if err := s.receive(apps, "app/"+hidden+"/"+known+"/down", `{"id":"2","device":"`+known+`","payload":"AA=="}`); err != nil {
		t.Fatal(err)
	}
	_, err = s.replay(s.letters("bad_topic")[0].Place)
	refused(t, "a topic of another form", err, "letter_not_an_event")
}

// A message that could not be read when it came is told to be so still, and what is no event at all is none now.
func TestAMessageThatCannotBeReadStaysADeadLetter(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	fixed := ingest.Connection{Name: "own", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up/{device}")}}
	for _, body := range []string{`{"id":"1"`, `{"id":"1","device":"` + known + `","payload":"not base64!"}`} {
		if err := s.receive(fixed, "up/"+known, body); err != nil {
			t.Fatal(err)
		}
	}
	found := s.letters("")
	for _, d := range found {
		_, err := s.replay(d.Place)
		refused(t, d.Reason, err, "letter_unreadable")
		if err != nil && !strings.Contains(err.Error(), d.Reason) {
			t.Errorf("%s: %v does not say what is wrong", d.Reason, err)
		}
	}
	if len(found) != 2 || len(s.all(s.topics.Uplinks)) != 0 {
		t.Errorf("%d letters, %d events", len(found), len(s.all(s.topics.Uplinks)))
	}
}

// A record that could not be read when it came is held against its key and headers when it can be.
func TestARecordThatNamesTwoTenantsStaysADeadLetter(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	v := s.says(s.scope, s.way, "1", known, 0)
	good := s.all(s.topics.Uplinks)[0]
	newer := func(r bus.Record) bus.Record {
		r.Headers, r.Value = append([]bus.Header(nil), r.Headers...), []byte(strings.Replace(string(r.Value), `"version":1`, `"version":9`, 1))
		return r
	}
	whole, key, header, two := newer(good), newer(good), newer(good), newer(good)
	key.Key = strings.Replace(key.Key, s.tenant.String(), ident.Platform.String(), 1)
	header.Headers[2].Value = []byte(ident.Platform.String())
	two.Headers = append(two.Headers, bus.Header{Name: bus.TenantHeader, Value: []byte(ident.Platform.String())})
	s.publish(whole, key, header, two)
	s.consume()
	found := s.letters("event_version")
	if len(found) != 4 {
		t.Fatalf("%d letters", len(found))
	}
	// The program is brought up to date: it reads the version now. Its letters are what the old one wrote, but for the value.
	accepted := 0
	for _, r := range s.all(s.topics.Dead) {
		r.Value = []byte(strings.Replace(string(r.Value), `"version":9`, `"version":1`, 1))
		s.publish(bus.Record{Topic: s.topics.Dead, Key: r.Key, Value: r.Value, Headers: r.Headers})
	}
	for _, d := range s.letters("event_version") {
		switch id, err := s.replay(d.Place); {
		case err == nil && id == v.ID:
			accepted++
		case err == nil:
			t.Errorf("it became %s, and was %s", id, v.ID)
		}
	}
	if accepted != 1 {
		t.Errorf("%d of the four were replayed, and one of them says the same in all its places", accepted)
	}
}

// A letter says how its tenant was known; one that says nothing of the kind, or was brought by a topic that tells nothing, is
// believed in nothing.
func TestNoLetterIsBelievedThatDoesNotSayHowItsTenantWasKnown(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	value := []byte(`{"id":"1","device":"` + known + `","payload":"AA=="}`)
	for i, c := range []struct {
		owner, application string
		tenant             ident.Tenant
		source             ident.Source
		code               string
	}{
		{"", "", s.tenant, s.way.ID, "letter_not_an_event"},
		{"guessed", "", s.tenant, s.way.ID, "letter_not_an_event"},
		{string(ingest.ByApplication), "", s.tenant, s.way.ID, "letter_not_an_event"},
		{string(ingest.ByApplication), "pumps", s.tenant, s.way.ID, "letter_without_owner"}, // nobody mapped it: what the letter says counts for nothing
		{string(ingest.Checked), "", ident.Tenant{}, ident.Source{}, "letter_not_an_event"},
		{string(ingest.Fixed), "", s.tenant, ident.Source{1}, "letter_without_owner"},
		{string(ingest.Fixed), "", s.tenant, s.way.ID, ""},
	} {
		l := uplink.Letter{Reason: "x", Via: "connection:apps", Origin: "x", Size: len(value), At: s.now, Format: string(source.Plain), Owner: c.owner, Tenant: c.tenant, Source: c.source, Told: uplink.Told{Application: c.application}}
		r := bus.Record{Topic: s.topics.Dead, Key: "k" + fmt.Sprint(i), Value: value}
		for _, f := range l.Fields() {
			r.Headers = append(r.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
		}
		s.publish(r)
		for _, d := range s.letters("x") {
			if d.Owner != c.owner || d.Told.Application != c.application || d.Source != c.source {
				continue
			}
			if _, err := s.replay(d.Place); c.code != "" {
				refused(t, fmt.Sprint(c), err, c.code)
			} else if err != nil {
				t.Errorf("%v: %v", c, err)
			}
		}
	}
}

// A page holds as much as may be looked at in one request: letters may be large, and those of a reason seldom.
func TestAPageOfDeadLettersLooksAtABoundedAmount(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	const letters, each = 70, 500 << 10
	for i := range letters {
		reason := "common"
		if i == letters-1 {
			reason = "seldom"
		}
		s.publish(bus.Record{Topic: s.topics.Dead, Key: "k", Value: make([]byte, each), Headers: []bus.Header{{Name: "rf-reason", Value: []byte(reason)}}})
	}
	scope := s.may(access.PlatformDeadLetterRead).Scope
	first := must[store.Page[ingest.DeadLetter]](t)(s.events.DeadLetters(t.Context(), scope, store.Query{Limit: 50}, "seldom"))
	if first.Next == "" {
		t.Errorf("%d MiB were looked at for one page", letters*each>>20)
	}
	if found := s.letters("seldom"); len(found) != 1 {
		t.Errorf("%d letters were found over all pages", len(found))
	}
}

// A repeat under the same key is told as one; it publishes again, since whether the first got there is not known.
func TestAReplayUnderAKeyIsRecordedOnce(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	s.says(s.scope, s.way, "1", known, 0)
	r := s.all(s.topics.Uplinks)[0]
	l := uplink.Letter{Reason: "cannot_be_stored", Via: s.topics.Uplinks, Size: len(r.Value), At: s.now, Said: uplink.Said{Key: r.Key, Event: string(r.Headers[0].Value), Tenant: string(r.Headers[2].Value)}}
	dead := bus.Record{Topic: s.topics.Dead, Key: "k", Value: r.Value}
	for _, f := range l.Fields() {
		dead.Headers = append(dead.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
	}
	s.publish(dead)
	once, place := enter.Once{Key: [32]byte{1}, Request: [32]byte{2}}, s.letters("")[0].Place
	for n := range 2 {
		id, again, err := s.events.ReplayDead(t.Context(), s.may(access.PlatformDeadLetterReplay).Scope, once, place, ident.Tenant{})
		if err != nil || again != (n > 0) || id.String() != string(r.Headers[0].Value) {
			t.Errorf("%s, %v, %v", id, again, err)
		}
	}
	once.Request[0]++
	if _, _, err := s.events.ReplayDead(t.Context(), s.may(access.PlatformDeadLetterReplay).Scope, once, place, ident.Tenant{}); err == nil {
		t.Error("the same key for another request")
	}
}

// Which times the store keeps events of is asked once a minute, however much is replayed, and again at once if there was no answer.
func TestWhichTimesAreKeptIsAskedOnceAMinute(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	asked := 0
	var span ingest.Span
	s.events.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", Span: func(context.Context) (ingest.Span, error) {
		if asked++; asked == 1 {
			return span, bus.ErrAway
		}
		return span, nil
	}})
	v := s.says(s.scope, s.way, "1", known, 0)
	good := s.all(s.topics.Uplinks)[0]
	l := uplink.Letter{Reason: "cannot_be_stored", Tenant: s.tenant, Via: s.topics.Uplinks, Origin: "0/0", Size: len(good.Value), At: s.now, Said: uplink.Said{Key: good.Key, Event: v.ID.String(), Tenant: s.tenant.String()}}
	r := bus.Record{Topic: s.topics.Dead, Key: "k", Value: good.Value}
	for _, f := range l.Fields() {
		r.Headers = append(r.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
	}
	s.publish(r)
	place := s.letters("")[0].Place
	span = ingest.Span{Uplinks: s.now.Add(-time.Hour), Readings: s.now.Add(-time.Hour), End: s.now.Add(time.Hour)}
	_, err := s.replay(place)
	refused(t, "while the store cannot be asked", err, fault.As(bus.ErrAway).Code)
	for range 3 {
		must[ident.Uplink](t)(s.replay(place))
	}
	if asked != 2 {
		t.Errorf("it was asked %d times, once in vain", asked)
	}
	span.End = span.Uplinks
	s.now = s.now.Add(time.Minute)
	_, err = s.replay(place)
	refused(t, "a minute later", err, "time_not_kept")
	if asked != 3 {
		t.Errorf("it was asked %d times", asked)
	}
}
