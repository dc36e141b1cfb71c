package ingest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// moving is a stream of an application of a connection that is mapped to one tenant's source, and may be to another's.
type moving struct {
	*stream
	apps  ingest.Connection
	other ident.Tenant
	to    source.Source
	n     int
	at    time.Time
}

func newMoving(t *testing.T) *moving {
	t.Helper()
	m := &moving{stream: newStream(t, "x", tenant.DefaultLimits)}
	m.apps = ingest.Connection{Name: "apps", Format: source.Plain, Owner: ingest.ByApplication, Topics: []uplink.Template{template(t, "app/{application}/up")}}
	made, _, err := m.admin.CreateTenant(t.Context(), m.may(access.PlatformTenantCreate), "Other Water", org.Customer, "bob@other.example")
	if err != nil {
		t.Fatal(err)
	}
	m.other = made.ID
	m.to = source.Source{ID: ident.Source{7, 6: 0x70, 8: 0x80}, Account: ident.Principal{8, 6: 0x70, 8: 0x80}, Name: "gateway", Node: made.Root, Format: source.Plain, State: source.Active, CreatedAt: m.now}
	scope := m.gate.System(m.other, "process", access.Origin{})
	event := must[audit.Event](t)(m.gate.Event(t.Context(), scope, audit.SourceCreated, audit.Target{Kind: "source", ID: m.to.ID.String()}))
	if err := m.store.Change(t.Context(), scope, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		if _, err := w.Members().Put(ctx, principal.Member{ID: m.to.Account, Kind: principal.Service, Name: "gateway", Source: m.to.ID}); err != nil {
			return nil, err
		}
		if _, err := w.Memberships().Put(ctx, access.Membership{ID: ident.Membership{6: 0x70, 8: 0x81}, Principal: m.to.Account, Role: access.SourceAccount, Node: made.Root, Recursive: true}); err != nil {
			return nil, err
		}
		_, err := w.Sources().Put(ctx, m.to)
		return []audit.Event{event}, err
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

// mine and others map the application, and gone takes the mapping away; half a minute goes by after each.
func (m *moving) mine()   { m.give(m.tenant, m.way.ID) }
func (m *moving) others() { m.give(m.other, m.to.ID) }

func (m *moving) give(t ident.Tenant, s ident.Source) {
	m.t.Helper()
	must[source.Mapping](m.t)(m.admin.MapApplication(m.t.Context(), m.may(access.PlatformConnectionWrite), source.Mapping{Connection: "apps", Application: "pumps", Tenant: t, Source: s}))
	m.now = m.now.Add(30 * time.Second)
}

func (m *moving) gone() {
	m.t.Helper()
	page := must[store.Page[source.Mapping]](m.t)(m.admin.Mappings(m.t.Context(), m.may(access.PlatformConnectionRead).Scope, store.Query{}, store.MappingFilter{Connection: "apps"}))
	if err := m.admin.UnmapApplication(m.t.Context(), m.may(access.PlatformConnectionWrite), page.Items[0].ID, page.Items[0].Rev); err != nil {
		m.t.Fatal(err)
	}
	m.now = m.now.Add(30 * time.Second)
}

// forgotten is that the mappings that ended did so by a program that kept no tenures.
func (m *moving) forgotten() {
	m.t.Helper()
	scope := m.gate.System(ident.Platform, "process", access.Origin{})
	event := must[audit.Event](m.t)(m.gate.Event(m.t.Context(), scope, audit.MappingDeleted, audit.Target{Kind: "mapping", ID: "x"}))
	if err := m.store.Change(m.t.Context(), scope, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		was, err := w.Tenures().Get(ctx, source.TenureID(source.Claim("apps", "pumps")))
		if err != nil {
			return nil, err
		}
		return []audit.Event{event}, w.Tenures().Delete(ctx, was.ID, was.Rev)
	}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *moving) removed() {
	m.t.Helper()
	now := must[source.Source](m.t)(m.admin.Source(m.t.Context(), m.may(access.SourceRead).Scope, m.way.ID))
	if err := m.admin.DeleteSource(m.t.Context(), m.may(access.SourceWrite), m.way.ID, now.Rev); err != nil {
		m.t.Fatal(err)
	}
}

// brings brings a message by way of a process that still knows what it knew at first; another is what its payload says otherwise.
func (m *moving) brings(another string) { m.by(m.unaware, another) }

// told brings one by way of a process that knows whose the application is now.
func (m *moving) told() { m.by(m.events, "") }

func (m *moving) by(process *ingest.Ingest, another string) {
	m.t.Helper()
	m.n++
	body := fmt.Sprintf(`{"id":"%d","device":"%s","payload":"AA=="%s}`, m.n, known, another)
	if err := process.Receive(m.t.Context(), m.apps, []ingest.Brought{{Topic: "app/pumps/up", Payload: []byte(body)}})[0]; err != nil {
		m.t.Fatal(err)
	}
	m.now = m.now.Add(30 * time.Second)
}

// shown is what a tenant sees: the first letters of its uplinks' states, oldest first.
func (m *moving) shown(t ident.Tenant) (states string) {
	m.t.Helper()
	if err := m.store.View(m.t.Context(), m.gate.System(t, "process", access.Origin{}), func(ctx context.Context, r store.Reader) error {
		page, err := r.Uplinks().List(ctx, store.Query{Limit: 200, Reach: access.Everywhere})
		for _, u := range page.Items {
			states = string(u.State[:1]) + states
		}
		return err
	}); err != nil {
		m.t.Fatal(err)
	}
	return states
}

// An application goes from one tenant to another while a process that lets its messages in cannot be told: what it let in meanwhile is
// the other tenant's, and shown to neither before somebody decides it.
func TestWhatIsNoLongerATenantsIsNotShownToIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(m *moving)
		mine   string // that the first tenant is shown
		dead   int
		code   string // of the replay's refusal
		others string // that the other tenant is shown after it
	}{
		{"nothing changed", func(m *moving) { m.brings("") }, "pp", 0, "", ""},
		{"unmapped", func(m *moving) { m.gone(); m.brings("") }, "p", 1, "letter_without_owner", ""},
		{"in flight", func(m *moving) { m.brings(""); m.gone() }, "pp", 0, "", ""},
		{"in flight, and the other's since", func(m *moving) { m.brings(""); m.gone(); m.others() }, "pp", 0, "", ""},
		{"the other's", func(m *moving) { m.gone(); m.others(); m.brings("") }, "p", 1, "", "q"},
		{"the other's, another application in its payload", func(m *moving) { m.gone(); m.others(); m.brings(`,"application":"others"`) }, "p", 1, "", "q"},
		{"nobody's, and the other's since", func(m *moving) { m.gone(); m.brings(""); m.others() }, "p", 1, "letter_before_mapping", ""},
		{"nobody's, the worker knows, then the other's", func(m *moving) { m.gone(); m.told(); m.others() }, "p", 1, "letter_without_heir", ""},
		{"the other's, and back since", func(m *moving) { m.gone(); m.others(); m.brings(""); m.gone(); m.mine() }, "p", 1, "letter_before_mapping", ""},
		{"the other's, and back since, of which nothing was kept", func(m *moving) {
			m.gone()
			m.others()
			m.brings("")
			m.gone()
			m.mine()
			m.forgotten()
		}, "p", 1, "letter_without_heir", ""},
		{"mapped again", func(m *moving) { m.gone(); m.mine(); m.brings("") }, "pp", 0, "", ""},
		{"in flight, and mapped again", func(m *moving) { m.brings(""); m.gone(); m.mine() }, "pp", 0, "", ""},
		{"its source deleted", func(m *moving) { m.removed(); m.brings("") }, "pq", 0, "", ""},
		{"its source deleted, and the other's", func(m *moving) { m.removed(); m.gone(); m.others(); m.brings("") }, "p", 1, "", "q"},
	} {
		m := newMoving(t)
		m.mine()
		m.brings("")
		m.consume()
		c.do(m)
		m.consume()
		found := m.letters("")
		if got := m.shown(m.tenant); got != c.mine || len(found) != c.dead || m.shown(m.other) != "" {
			t.Errorf("%s: the tenant is shown %s, want %s; %d dead letters, want %d; the other %q", c.name, got, c.mine, len(found), c.dead, m.shown(m.other))
		}
		for _, d := range found {
			if d.Reason != "not_its_tenants" && d.Reason != "no_tenant" {
				t.Errorf("%s: a letter of %s", c.name, d.Reason)
			}
			if _, err := m.replay(d.Place); c.code != "" {
				refused(t, c.name, err, c.code)
			} else if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		m.consume()
		if mine, others := m.shown(m.tenant), m.shown(m.other); mine != c.mine || others != c.others || len(m.letters("")) != c.dead {
			t.Errorf("%s: after the replay the tenant is shown %s, the other %q, want %s and %q; %d letters", c.name, mine, others, c.mine, c.others, len(m.letters("")))
		}
	}
}

// What a broker kept while no worker was there tells by its network server's time alone that it came before.
func TestWhatABrokerKeptSinceAnApplicationWasAnothersIsNotShownToWhoHasIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(m *moving)
		mine  string
		other string // what the other tenant is shown of a message of before its mapping
		code  string // of the refusal of a replay, if it is shown nothing
	}{
		{"while it was another's", func(m *moving) { m.mine(); m.kept(); m.gone(); m.others() }, "", "", "letter_before_mapping"},
		{"while it was nobody's, after another's", func(m *moving) { m.mine(); m.gone(); m.kept(); m.others() }, "", "", "letter_without_heir"},
		{"while it was another's, and the mapping ended since", func(m *moving) {
			m.mine()
			m.kept()
			m.gone()
			m.others()
			m.brought()
			m.gone()
		}, "", "", "letter_without_owner"},
		{"before anybody's", func(m *moving) { m.kept(); m.others() }, "", "q", ""},
		{"in an earlier mapping of its own", func(m *moving) { m.others(); m.kept(); m.gone(); m.others() }, "", "q", ""},
		{"while it was another's, by a clock that tells nothing", func(m *moving) { m.mine(); m.kept(); m.at = time.Unix(0, 0); m.gone(); m.others() }, "", "q", ""},
		{"since it is the other's", func(m *moving) { m.mine(); m.gone(); m.others(); m.kept() }, "", "q", ""},
	} {
		m := newMoving(t)
		c.do(m)
		m.brought()
		m.consume()
		found := m.letters("not_its_tenants")
		if got := m.shown(m.other); m.shown(m.tenant) != c.mine || got != c.other || len(found) != len(m.letters("")) || (len(found) == 1) != (c.code != "") {
			t.Errorf("%s: the other is shown %q, want %q; letters: %+v", c.name, got, c.other, m.letters(""))
		}
		for _, d := range found {
			_, err := m.replay(d.Place)
			refused(t, c.name, err, c.code)
		}
	}
}

// kept is that a message comes to the broker, and brought that a worker takes it.
func (m *moving) kept() { m.at = m.now; m.now = m.now.Add(30 * time.Second) }

func (m *moving) brought() {
	if !m.at.IsZero() {
		m.by(m.events, `,"time":"`+m.at.UTC().Format(time.RFC3339)+`"`)
	}
	m.at = time.Time{}
}

// Whom an application went to learns nothing of whom it was of before.
func TestALetterDoesNotTellWhomItGoesToThatTheOtherWasOff(t *testing.T) {
	m := newMoving(t)
	m.mine()
	m.turn(source.Disabled)
	m.brings("")
	m.gone()
	m.others()
	m.brings("")
	m.consume()
	for _, d := range m.letters("not_its_tenants") {
		if _, err := m.replay(d.Place); err != nil {
			t.Fatal(err)
		}
	}
	m.consume()
	if err := m.store.View(t.Context(), m.gate.System(m.other, "process", access.Origin{}), func(ctx context.Context, r store.Reader) error {
		page, err := r.Uplinks().List(ctx, store.Query{Limit: 10, Reach: access.Everywhere})
		if len(page.Items) != 1 || page.Items[0].Reason != uplink.UnknownDevice {
			t.Errorf("the other is shown %+v", page.Items)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// Whose a letter was is asked before it goes to whose its application is now.
func TestALetterOfOneTenantIsNotReplayedToAnother(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(m *moving)
		code string
	}{
		{"nothing changed", func(*moving) {}, "letter_unreadable"}, // it is read, and cannot be still
		{"mapped again", func(m *moving) { m.gone(); m.mine() }, "letter_unreadable"},
		{"mapped again, of which its source alone tells", func(m *moving) { m.gone(); m.mine(); m.forgotten() }, "letter_unreadable"},
		{"the other's now", func(m *moving) { m.gone(); m.others() }, "letter_before_mapping"},
	} {
		m := newMoving(t)
		m.mine()
		if err := m.receive(m.apps, "app/pumps/up", `{"id":`); err != nil {
			t.Fatal(err)
		}
		c.do(m)
		_, err := m.replay(m.letters("unreadable")[0].Place)
		refused(t, c.name, err, c.code)
	}
}

// What was decided by a mapping is not written once that has ended, whoever knows of it.
func TestWhatAProcessDecidesThatDoesNotKnowOfTheEndOfAMappingIsNotWritten(t *testing.T) {
	m := newMoving(t)
	m.mine()
	m.brings("")
	m.consume()
	m.gone()
	m.brings("")
	ctx, end := context.WithTimeout(t.Context(), hang)
	defer end()
	ended := make(chan error, 1)
	go func() {
		ended <- m.unaware.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later"})
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for m.unaware.Counts()["ringfence_events_decided_again_total"] == 0 && m.shown(m.tenant) == "p" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("nothing was decided")
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := m.shown(m.tenant); got != "p" {
		t.Errorf("the tenant is shown %s", got)
	}
	m.consume()
	if n := len(m.letters("not_its_tenants")); n != 1 {
		t.Errorf("%d dead letters by who knows", n)
	}
}

// An application whose mapping ended by a clock that is ahead is given to nobody until then: what came meanwhile would be nobody's.
func TestAnApplicationIsGivenToNobodyBeforeItsLastMappingEnded(t *testing.T) {
	m := newMoving(t)
	m.mine()
	m.ahead.Store(int64(time.Minute))
	m.gone()
	m.ahead.Store(0)
	give := func() (source.Mapping, error) {
		return m.admin.MapApplication(t.Context(), m.may(access.PlatformConnectionWrite), source.Mapping{Connection: "apps", Application: "pumps", Tenant: m.other, Source: m.to.ID})
	}
	_, err := give()
	if f := fault.As(err); f == nil || f.Kind != fault.Unavailable || f.Code != "clock_ahead" || f.RetryAfter != 30*time.Second {
		t.Errorf("half a minute before: %v", err)
	}
	m.now = m.now.Add(29 * time.Second)
	if made := must[source.Mapping](t)(give()); !made.CreatedAt.Equal(m.now.Add(time.Second)) {
		t.Errorf("a second before it begins at %v, now %v", made.CreatedAt, m.now)
	}
	m.told()
	m.consume()
	if got := m.shown(m.other); got != "q" || len(m.letters("")) != 0 {
		t.Errorf("what came then: the tenant is shown %q, letters: %+v", got, m.letters(""))
	}
}
