package ingest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// buried is a message that a process that knew of no mapping took for nobody's.
func (m *moving) buried() {
	m.t.Helper()
	m.n++
	value := fmt.Appendf(nil, `{"id":"%d","device":"%s","payload":"AA=="}`, m.n, known)
	l := uplink.Letter{Reason: "no_tenant", Via: "connection:apps", Origin: "app/pumps/up", Size: len(value), At: m.now, Format: string(source.Plain), Owner: string(ingest.ByApplication), Told: uplink.Told{Application: "pumps"}}
	r := bus.Record{Topic: m.topics.Dead, Key: "k", Value: value}
	for _, f := range l.Fields() {
		r.Headers = append(r.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
	}
	m.publish(r)
}

func (m *moving) deleted() {
	m.t.Helper()
	must[tenant.Tenant](m.t)(m.admin.SetTenantState(m.t.Context(), m.may(access.PlatformTenantClose), m.tenant, tenant.Deleted))
}

// What came while an application was nobody's may be of the devices of whoever had it: another gets it only if the operator says so, and
// never what came while it was somebody's.
func TestALetterOfNobodysTimeGoesToAnotherOnlyIfTheOperatorNamesIt(t *testing.T) {
	const wants, never, none = "letter_without_heir", "letter_before_mapping", "letter_without_owner"
	for _, c := range []struct {
		name       string
		do         func(m *moving)
		code       string // of the refusal of a replay
		named      string // of one that names whose the application is
		mine, last string // that the tenants are shown at the end
	}{
		{"never anybody else's", func(m *moving) { m.told(); m.others() }, "", "", "", "q"},
		{"after another's", func(m *moving) { m.mine(); m.gone(); m.told(); m.others() }, wants, "", "", "q"},
		{"long after another's", func(m *moving) {
			m.mine()
			m.gone()
			m.others()
			m.gone()
			m.others()
			m.gone()
			m.told()
			m.others()
		}, "", "", "", "q"},
		{"before another's", func(m *moving) { m.told(); m.mine(); m.gone(); m.others() }, wants, "", "", "q"},
		{"while it was another's", func(m *moving) { m.mine(); m.buried(); m.gone(); m.others() }, never, never, "", ""},
		{"while it was another's, and mapped again", func(m *moving) {
			m.mine()
			m.buried()
			m.gone()
			m.mine()
			m.gone()
			m.others()
		}, never, never, "", ""},
		{"while it was another's, mapped by a clock that was ahead", func(m *moving) {
			m.ahead.Store(int64(2 * time.Minute))
			m.mine()
			m.ahead.Store(0)
			m.buried()
			m.gone()
			m.now = m.now.Add(2 * time.Minute)
			m.others()
		}, never, never, "", ""},
		{"mapped again", func(m *moving) { m.mine(); m.gone(); m.told(); m.mine() }, "", "", "p", ""},
		{"after another's, and back", func(m *moving) {
			m.mine()
			m.gone()
			m.others()
			m.gone()
			m.told()
			m.mine()
		}, wants, "", "p", ""},
		{"before another's, and back", func(m *moving) {
			m.mine()
			m.gone()
			m.told()
			m.others()
			m.gone()
			m.mine()
		}, never, never, "", ""},
		{"after a tenant's that is gone", func(m *moving) { m.mine(); m.deleted(); m.gone(); m.told(); m.others() }, wants, "", "", "q"},
		{"after another's, and nobody's still", func(m *moving) { m.mine(); m.gone(); m.told() }, none, none, "", ""},
		{"when it was mapped already, which the worker did not know", func(m *moving) { m.mine(); m.gone(); m.others(); m.buried() }, "", "", "", "q"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMoving(t)
			c.do(m)
			found := m.letters("")
			if len(found) != 1 || found[0].Reason != "no_tenant" {
				t.Fatalf("%+v", found)
			}
			place := found[0].Place
			page := must[store.Page[source.Mapping]](t)(m.admin.Mappings(t.Context(), m.may(access.PlatformConnectionRead).Scope, store.Query{}, store.MappingFilter{Connection: "apps"}))
			holder, other := m.other, "letter_not_heirs"
			for _, v := range page.Items {
				holder = v.Tenant
			}
			if c.code == none {
				other = none
			}
			for _, one := range []struct {
				what string
				heir ident.Tenant
				code string
			}{{"the other is named", ident.Tenant{9}, other}, {"nobody is named", ident.Tenant{}, c.code}, {"its holder is named", holder, c.named}} {
				if _, err := m.replayTo(place, one.heir); one.code != "" {
					refused(t, one.what, err, one.code)
				} else if err != nil {
					t.Errorf("%s: %v", one.what, err)
				}
			}
			m.consume()
			if mine, got := m.shown(m.tenant), m.shown(m.other); mine != c.mine || got != c.last {
				t.Errorf("the tenant is shown %q, the other %q, want %q and %q", mine, got, c.mine, c.last)
			}
		})
	}
}

// Who names an heir answers for it: the log tells whom, and of no letter it makes another's.
func TestTheLogTellsWhoWasNamedAsALettersHeir(t *testing.T) {
	m := newMoving(t)
	m.mine()
	m.gone()
	m.told()
	m.others()
	value := fmt.Appendf(nil, `{"id":"fixed","device":"%s","payload":"AA=="}`, known)
	l := uplink.Letter{Reason: "x", Via: "connection:own", Origin: "x", Size: len(value), At: m.now, Format: string(source.Plain), Owner: string(ingest.Fixed), Tenant: m.tenant, Source: m.way.ID}
	r := bus.Record{Topic: m.topics.Dead, Key: "k", Value: value}
	for _, f := range l.Fields() {
		r.Headers = append(r.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
	}
	m.publish(r)
	fixed, nobodys := m.letters("x")[0].Place, m.letters("no_tenant")[0].Place
	_, err := m.replayTo(fixed, m.other)
	refused(t, "what one source's connection brought, for another", err, "letter_not_heirs")
	must[ident.Uplink](t)(m.replayTo(fixed, m.tenant))
	must[ident.Uplink](t)(m.replayTo(nobodys, m.other))
	must[ident.Uplink](t)(m.replay(fixed))
	entries := must[store.Page[audit.Entry]](t)(m.out.Entries(t.Context(), m.may(access.PlatformAuditRead).Scope, store.Query{Limit: 10}, store.AuditFilter{Action: string(audit.DeadLetterReplayed)}))
	var named []string
	for _, e := range entries.Items {
		for _, t := range []ident.Tenant{m.tenant, m.other} {
			if strings.Contains(string(e.Leaf), `{"field":"heir","new":"`+t.String()+`"`) {
				named = append(named, e.Target+" "+t.String())
			}
		}
	}
	if want := []string{nobodys + " " + m.other.String(), fixed + " " + m.tenant.String()}; len(entries.Items) != 3 || !slices.Equal(named, want) {
		t.Errorf("of %d replays the log names %v, want %v", len(entries.Items), named, want)
	}
}

// What a letter is decided by holds when the log is told of it: if the application went to another meanwhile, nobody is told anything and
// nothing goes out, so that it is decided again.
func TestALetterIsNotReplayedToWhomItsApplicationWasTakenFromMeanwhile(t *testing.T) {
	m := newMoving(t)
	m.mine()
	m.gone()
	m.told()
	m.others()
	moves := []func(){m.gone, m.mine}
	m.events.Over(ingest.Durable{Bus: m.bus, Topics: m.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", Span: func(context.Context) (ingest.Span, error) {
		for _, move := range moves {
			move()
		}
		moves = nil
		return ingest.Span{End: m.now.Add(time.Hour)}, nil
	}})
	place := m.letters("no_tenant")[0].Place
	_, err := m.replayTo(place, m.other)
	refused(t, "an heir who has it no more", err, "stale_policy")
	_, err = m.replayTo(place, m.other)
	refused(t, "decided again", err, "letter_not_heirs")
	m.consume()
	entries := must[store.Page[audit.Entry]](t)(m.out.Entries(t.Context(), m.may(access.PlatformAuditRead).Scope, store.Query{Limit: 10}, store.AuditFilter{Action: string(audit.DeadLetterReplayed)}))
	if mine, got := m.shown(m.tenant), m.shown(m.other); moves != nil || mine+got != "" || len(entries.Items) != 0 {
		t.Errorf("the tenant is shown %q, the other %q; the log tells %d replays", mine, got, len(entries.Items))
	}
}
