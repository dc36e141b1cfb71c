package ingest_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// letters are the dead letters of a reason, or all.
func (s *stream) letters(reason string) []ingest.DeadLetter {
	s.t.Helper()
	var all []ingest.DeadLetter
	for after := ""; ; {
		page := must[store.Page[ingest.DeadLetter]](s.t)(s.events.DeadLetters(s.t.Context(), s.may(access.PlatformDeadLetterRead).Scope, store.Query{Limit: 2, After: after}, reason))
		if all = append(all, page.Items...); page.Next == "" {
			return all
		}
		after = page.Next
	}
}

func (s *stream) replay(place string) (ident.Uplink, error) { return s.replayTo(place, ident.Tenant{}) }

func (s *stream) replayTo(place string, heir ident.Tenant) (ident.Uplink, error) {
	s.t.Helper()
	id, _, err := s.events.ReplayDead(s.t.Context(), s.may(access.PlatformDeadLetterReplay).Scope, enter.Once{}, place, heir)
	return id, err
}

func refused(t *testing.T, what string, err error, code string) {
	t.Helper()
	if f := fault.As(err); f == nil || f.Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func TestAMessageThatWasNobodysIsReplayedOnceItIsSomebodys(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	apps := ingest.Connection{Name: "apps", Format: source.Plain, Owner: ingest.ByApplication, Topics: []uplink.Template{template(t, "app/{application}/{device}/up")}}
	for id, topic := range map[string]string{"1": "app/pumps/" + known + "/up", "2": "app/others/" + known + "/up"} {
		if err := s.receive(apps, topic, `{"id":"`+id+`","application":"others","device":"`+known+`","payload":"AA=="}`); err != nil {
			t.Fatal(err)
		}
	}
	var mine, others ingest.DeadLetter
	for _, d := range s.letters("no_tenant") {
		if d.Told.Application == "pumps" {
			mine = d
		} else {
			others = d
		}
	}
	if mine.Via != "connection:apps" || mine.Origin != "app/pumps/"+known+"/up" || !mine.Whole() || !mine.Tenant.IsZero() || others.Place == "" || len(s.letters("other")) != 0 {
		t.Fatalf("%+v, %+v", mine, others)
	}
	_, err := s.replay(mine.Place)
	refused(t, "what is still nobody's", err, "letter_without_owner")
	must[source.Mapping](t)(s.admin.MapApplication(t.Context(), s.may(access.PlatformConnectionWrite), source.Mapping{Connection: "apps", Application: "pumps", Tenant: s.tenant, Source: s.way.ID}))
	first := must[ident.Uplink](t)(s.replay(mine.Place))
	if again := must[ident.Uplink](t)(s.replay(mine.Place)); again != first {
		t.Errorf("replayed again it is another event: %s, %s", first, again)
	}
	_, err = s.replay(others.Place) // the payload of neither chooses: both say the same application
	refused(t, "what another application brought", err, "letter_without_owner")
	s.consume()
	if u := s.uplink(first); u.State != uplink.Quarantined || u.Reason != uplink.TopicMismatch { // its payload says another application than its topic
		t.Errorf("%+v", u)
	}
	if n := len(s.letters("")); n != 2 {
		t.Errorf("%d letters are there after a replay", n)
	}
	entries := must[store.Page[audit.Entry]](t)(s.out.Entries(t.Context(), s.may(access.PlatformAuditRead).Scope, store.Query{Limit: 10}, store.AuditFilter{Action: string(audit.DeadLetterReplayed)}))
	told := 0
	for _, e := range entries.Items {
		if e.Target == mine.Place {
			told++
		}
	}
	if told != 2 {
		t.Errorf("the platform's log tells of %d replays", told)
	}
}

func TestAReplayedRecordIsTheEventThatItWas(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	v := s.says(s.scope, s.way, "1", known, 0)
	good := s.all(s.topics.Uplinks)[0]
	bury := func(reason string, value []byte) {
		l := uplink.Letter{Reason: reason, Tenant: s.tenant, Via: s.topics.Uplinks, Origin: "0/0", Size: len(value), At: s.now}
		if reason != "headers_disagree" {
			l.Said = uplink.Said{Key: good.Key, Event: v.ID.String(), Tenant: s.tenant.String()}
		}
		if reason == "too_large" {
			l.Size = 900 << 10
		}
		r := bus.Record{Topic: s.topics.Dead, Key: "k", Value: value}
		for _, f := range l.Fields() {
			r.Headers = append(r.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
		}
		s.publish(r)
	}
	bury("cannot_be_stored", good.Value)
	bury("headers_disagree", good.Value)
	bury("too_large", []byte("{"))
	bury("event_version", []byte(strings.Replace(string(good.Value), `"version":1`, `"version":9`, 1)))
	s.publish(bus.Record{Topic: s.topics.Dead, Key: "k", Value: []byte("nothing of ours")})
	all := map[string]string{}
	for _, d := range s.letters("") {
		all[d.Reason] = d.Place
	}
	for reason, want := range map[string]string{"headers_disagree": "letter_not_ours", "too_large": "letter_cut", "event_version": "letter_unreadable", "": "letter_cut"} {
		_, err := s.replay(all[reason])
		refused(t, reason, err, want)
	}
	if id := must[ident.Uplink](t)(s.replay(all["cannot_be_stored"])); id != v.ID {
		t.Errorf("it became %s, and was %s", id, v.ID)
	}
	if n := len(s.all(s.topics.Uplinks)); n != 2 {
		t.Errorf("%d records of events", n)
	}
	s.consume()
	if n := len(s.readings()); n != 1 {
		t.Errorf("%d readings", n)
	}
	for _, place := range []string{"", "0", "0-", "-1-0", "0-99", "99-0", "00-1", "0-+1", "a-b", "0-0-0", "0-99999999999999999999"} {
		if _, err := s.replay(place); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", place, err)
		}
	}
	if _, err := s.events.DeadLetter(t.Context(), s.may(access.TenantRead).Scope, all["cannot_be_stored"]); !errors.Is(err, store.ErrScope) {
		t.Errorf("a tenant's scope opens the dead letters: %v", err)
	}
	if _, err := s.events.DeadLetters(t.Context(), s.may(access.PlatformDeadLetterRead).Scope, store.Query{After: "x"}, ""); !errors.Is(err, store.ErrCursor) {
		t.Errorf("a cursor that is none: %v", err)
	}
}

func TestALetterOfWhatATransportCutSaysHowMuchThereWas(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	c := ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(t, "up/#")}}
	cut, hash := make([]byte, uplink.MaxBody), [32]byte{7}
	for _, err := range s.events.Receive(t.Context(), c, []ingest.Brought{
		{Topic: "up//a", Payload: []byte("x"), Bad: "topic_empty_level"},
		{Topic: "up/a", Payload: cut, Bad: "too_large", Size: 300 << 10, Hash: hash},
		{Topic: "up/a", Payload: cut, Bad: "too_large", Size: 3 << 20, Hash: hash},
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	whole := sha256.Sum256([]byte("x"))
	for size, want := range map[int]struct {
		reason string
		kept   int
		hash   [32]byte
		replay string
	}{1: {"topic_empty_level", 1, whole, "letter_not_an_event"}, 300 << 10: {"too_large", uplink.MaxBody, hash, "letter_cut"}, 3 << 20: {"too_large", uplink.CutLetter, hash, "letter_cut"}} {
		found := slices.DeleteFunc(s.letters(want.reason), func(d ingest.DeadLetter) bool { return d.Size != size })
		if len(found) != 1 {
			t.Errorf("%d letters of %d bytes", len(found), size)
			continue
		}
		if d := found[0]; d.Kept != want.kept || d.Whole() != (size == want.kept) || d.Hash != want.hash || d.Via != "connection:fixed" || !d.Tenant.IsZero() {
			t.Errorf("of %d bytes: %+v", size, d)
		}
		_, err := s.replay(found[0].Place)
		refused(t, want.reason, err, want.replay)
	}
}
