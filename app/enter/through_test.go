package enter_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

// post is a server with one tenant and its source, and another process that lets messages in from the same file.
type post struct {
	t           *testing.T
	gate, other *enter.Enter
	store       store.Store
	admin       *manage.Manage
	who         enter.Identity
	tenant      ident.Tenant
	way         source.Source
}

func must[V any](t *testing.T) func(V, error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newPost(t *testing.T) *post {
	t.Helper()
	file := filepath.Join(t.TempDir(), "r.db")
	return furnished(t, func(cache *enter.Cache) store.Store {
		st, err := sqlite.Open(t.Context(), sqlite.Options{Path: file, Now: time.Now, Revised: cache.Revised})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
		return st
	})
}

// newTold is the same on a store that tells both processes of which tenants there is news, and of nothing else, as PostgreSQL's does.
func newTold(t *testing.T) *post {
	t.Helper()
	var caches []*enter.Cache
	st := memory.New(memory.Options{Now: time.Now, Revised: func(of ident.Tenant, rev uint64) {
		for _, c := range caches {
			c.Revised(of, rev)
		}
	}})
	return furnished(t, func(cache *enter.Cache) store.Store {
		caches = append(caches, cache)
		return st
	})
}

func furnished(t *testing.T, on func(*enter.Cache) store.Store) *post {
	t.Helper()
	ctx, keys := t.Context(), must[*keyring.Keyring](t)(keyring.Ephemeral())
	open := func() (*enter.Enter, store.Store) {
		cache := enter.NewCache(10)
		st := on(cache)
		return enter.New(st, cache, enter.Recorder{Mint: ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}, Sealer: keys, Peppers: keys}, slog.New(slog.DiscardHandler)), st
	}
	p := &post{t: t}
	p.gate, p.store = open()
	p.other, _ = open()
	people := signin.New(p.gate, p.store, must[*localauth.Passwords](t)(localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 64, Time: 1}, TestCost: true})), memlimit.New(time.Now, 1000))
	p.admin = manage.New(p.gate, p.store, sandbox.Engine(nil), tenant.Limits{Sources: 10}, func(ident.Tenant, ident.Version) {})
	ana := signin.NewPerson{Email: "ana@acme.example", Name: "Ana", Password: secret.New("four random words here")}
	_, acme, err := people.Setup(ctx, must[secret.Text](t)(people.SetupLink(ctx)), ana, &signin.FirstTenant{Name: "Acme Water"}, access.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	p.tenant = acme.ID
	p.who = must[enter.Identity](t)(p.gate.Authenticate(ctx, must[signin.Granted](t)(people.Login(ctx, ana.Email, ana.Password, false, access.Origin{})).Access, access.Origin{}))
	p.way = must[source.Source](t)(p.admin.CreateSource(ctx, p.may(p.tenant, access.SourceWrite), source.Source{Name: "network server", Format: source.ChirpStack}))
	return p
}

// may is a call of the administrator's.
func (p *post) may(t ident.Tenant, to access.Permission) *manage.Call {
	p.t.Helper()
	return &manage.Call{Scope: must[access.Scope](p.t)(p.gate.Gate(p.t.Context(), p.who, t, to, enter.Root, access.Origin{}))}
}

func (p *post) claim() source.Mapping {
	p.t.Helper()
	in := source.Mapping{Connection: "chirpstack-eu", Application: "1", Tenant: p.tenant, Source: p.way.ID}
	return must[source.Mapping](p.t)(p.admin.MapApplication(p.t.Context(), p.may(ident.Platform, access.PlatformConnectionWrite), in))
}

func (p *post) mapped(e *enter.Enter) bool {
	p.t.Helper()
	id, src, err := e.Mapped(p.t.Context(), "chirpstack-eu", "1")
	if err != nil && !fault.Is(err, fault.NotFound) || err == nil && (id != p.tenant || src != p.way.ID) {
		p.t.Fatalf("%v, %v, %v", id, src, err)
	}
	return err == nil
}

// soon waits for what another process notices within a second, or later on a busy machine.
func (p *post) soon(what string, is func() bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			p.t.Fatal(what)
		case <-tick.C:
		}
	}
}

func TestAMappingHoldsFromTheNextMessageOnAndInOtherProcessesSoon(t *testing.T) {
	p := newPost(t)
	if p.mapped(p.gate) || p.mapped(p.other) {
		t.Fatal("nobody's application is somebody's")
	}
	made := p.claim()
	if !p.mapped(p.gate) {
		t.Error("what was mapped is not")
	}
	p.soon("another process does not see the mapping", func() bool { return p.mapped(p.other) })
	if err := p.admin.UnmapApplication(t.Context(), p.may(ident.Platform, access.PlatformConnectionWrite), made.ID, made.Rev); err != nil {
		t.Fatal(err)
	}
	if p.mapped(p.gate) {
		t.Error("what is not mapped any more is")
	}
	p.soon("another process lets in what is not mapped any more", func() bool { return !p.mapped(p.other) })
}

func TestALimitIsInForceInEveryProcessThatRemembersTheTenant(t *testing.T) {
	p := newTold(t)
	fuel := func(e *enter.Enter) int64 {
		return must[tenant.Limits](t)(e.Limits(t.Context(), p.tenant)).FuelPerMinute
	}
	if here, there := fuel(p.gate), fuel(p.other); here != 0 || there != 0 {
		t.Fatalf("nothing was granted, and fuel is %d and %d", here, there)
	}
	logs := p.entries(p.tenant)
	set := func(rev uint64, to int64) manage.Granted {
		return must[manage.Granted](t)(p.admin.SetLimits(t.Context(), p.may(ident.Platform, access.PlatformSettingWrite), p.tenant, rev, func(l *tenant.Limits) { l.FuelPerMinute = to }))
	}
	for n, want := range []int64{1_000_000, 5_000_000, 0} {
		set(uint64(n), want)
		if here, there := fuel(p.gate), fuel(p.other); here != want || there != want {
			t.Errorf("fuel is %d here and %d in another process, want %d", here, there, want)
		}
	}
	if told := p.entries(p.tenant) - logs; told != 3 {
		t.Errorf("the tenant's log tells of %d changes of its limits, want 3", told)
	}
}

func TestAConnectionLetsInForASourceWhileAllOfItIsInForce(t *testing.T) {
	p := newPost(t)
	ctx := t.Context()
	before := p.entries(p.tenant) + p.entries(ident.Platform)
	changed := 0
	refused := func(when string, kind fault.Kind, code string) {
		t.Helper()
		way, _, err := p.gate.Through(ctx, p.tenant, p.way.ID)
		if f := fault.As(err); f == nil || f.Kind != kind || f.Code != code || (way.ID == p.way.ID) != (kind == fault.Denied) {
			t.Errorf("%s: %v, %+v", when, way.ID, err)
		}
	}
	in := func(when string) {
		t.Helper()
		if way, _, err := p.gate.Through(ctx, p.tenant, p.way.ID); err != nil || way.ID != p.way.ID {
			t.Fatalf("%s: %+v, %v", when, way, err)
		}
	}
	in("at first")
	state := func(to source.State) {
		t.Helper()
		p.way = must[source.Source](t)(p.admin.UpdateSource(ctx, p.may(p.tenant, access.SourceWrite), p.way.ID, p.way.Rev, manage.SourcePatch{State: &to}))
		changed++
	}
	lifecycle := func(to tenant.State) {
		t.Helper()
		_ = must[tenant.Tenant](t)(p.admin.SetTenantState(ctx, p.may(ident.Platform, access.PlatformTenantSuspend), p.tenant, to))
		changed += 2
	}
	state(source.Disabled)
	refused("of a disabled source", fault.Denied, "source_disabled")
	state(source.Active)
	in("enabled again")
	lifecycle(tenant.Suspended)
	refused("of a suspended tenant", fault.Denied, "tenant_suspended")
	lifecycle(tenant.Active)
	in("resumed")

	var grants []access.Membership
	p.view(p.tenant, func(ctx context.Context, r store.Reader) (err error) {
		grants, err = r.Memberships().Of(ctx, p.way.Account)
		return err
	})
	if err := p.admin.Revoke(ctx, p.may(p.tenant, access.MembershipRevoke), grants[0].ID, grants[0].Rev); err == nil {
		changed++
		refused("of a source whose right was taken away", fault.Denied, "permission_denied")
	} else if f := fault.As(err); f == nil || f.Code != "service_account" { // it goes with its source alone
		t.Error(err)
	}
	if err := p.admin.DeleteSource(ctx, p.may(p.tenant, access.SourceWrite), p.way.ID, p.way.Rev); err != nil {
		t.Fatal(err)
	}
	changed++
	refused("of a source that is gone", fault.NotFound, "not_found")
	if _, _, err := p.gate.Through(ctx, ident.Tenant{7}, p.way.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("of a tenant that is not there: %v", err)
	}
	if _, _, err := p.gate.Through(ctx, ident.Platform, p.way.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("of the platform: %v", err)
	}
	lifecycle(tenant.Deleted)
	refused("of a tenant that is gone", fault.NotFound, "not_found")
	if got := p.entries(p.tenant) + p.entries(ident.Platform); got != before+changed {
		t.Errorf("%d entries for %d changes: refusals are recorded where the message is put", got-before, changed)
	}
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.gate.Through(ctx, ident.Tenant{8}, p.way.ID); !fault.Is(err, fault.Unavailable) {
		t.Errorf("while the store is away: %v", err)
	}
	if _, _, err := p.gate.Mapped(ctx, "chirpstack-eu", "2"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("while the store is away: %v", err)
	}
}

// The platform maps to what is there and learns no more of a tenant; both logs tell of it, the tenant's without the address.
func TestAnApplicationIsGivenToASourceThatIsThereAndBothLogsTell(t *testing.T) {
	p := newPost(t)
	ctx := t.Context()
	other := p.entries(ident.Tenant{7})
	mine, theirs := p.entries(p.tenant), p.entries(ident.Platform)
	give := func(in source.Mapping) error {
		call := p.may(ident.Platform, access.PlatformConnectionWrite)
		_, err := p.admin.MapApplication(ctx, call, in)
		return err
	}
	good := source.Mapping{Connection: "chirpstack-eu", Application: "1", Tenant: p.tenant, Source: p.way.ID}
	for what, c := range map[string]struct {
		change func(*source.Mapping)
		code   string
	}{
		"no connection":      {func(m *source.Mapping) { m.Connection = "Chirp" }, "bad_connection"},
		"no application":     {func(m *source.Mapping) { m.Application = "a/b" }, "bad_application"},
		"no tenant":          {func(m *source.Mapping) { m.Tenant = ident.Tenant{7} }, "unknown_reference"},
		"the platform":       {func(m *source.Mapping) { m.Tenant = ident.Platform }, "unknown_reference"},
		"no source":          {func(m *source.Mapping) { m.Source = ident.Source{7} }, "unknown_reference"},
		"nothing of a thing": {func(m *source.Mapping) { *m = source.Mapping{Connection: "a", Application: "b"} }, "unknown_reference"},
	} {
		in := good
		c.change(&in)
		if f := fault.As(give(in)); f == nil || f.Code != c.code {
			t.Errorf("%s: %v, want %s", what, f, c.code)
		}
	}
	if p.entries(p.tenant) != mine || p.entries(ident.Platform) != theirs || p.entries(ident.Tenant{7}) != other {
		t.Error("what was refused left an entry")
	}
	if err := give(good); err != nil {
		t.Fatal(err)
	}
	if f := fault.As(give(good)); f == nil || f.Kind != fault.Conflict || f.Code != "taken" {
		t.Errorf("what is mapped already: %v", f)
	}
	if p.entries(p.tenant) != mine+1 || p.entries(ident.Platform) != theirs+1 {
		t.Errorf("%d and %d entries more, want one in each log", p.entries(p.tenant)-mine, p.entries(ident.Platform)-theirs)
	}
	_ = must[tenant.Tenant](t)(p.admin.SetTenantState(ctx, p.may(ident.Platform, access.PlatformTenantClose), p.tenant, tenant.Deleted))
	good.Application = "2"
	if f := fault.As(give(good)); f == nil || f.Code != "tenant_state" {
		t.Errorf("to a tenant that is gone: %v", f)
	}
	page, err := p.admin.Mappings(ctx, p.may(ident.Platform, access.PlatformConnectionRead).Scope, store.Query{}, store.MappingFilter{Tenant: p.tenant})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%v, %v", page.Items, err)
	}
	if err := p.admin.UnmapApplication(ctx, p.may(ident.Platform, access.PlatformConnectionWrite), page.Items[0].ID, page.Items[0].Rev); err != nil {
		t.Errorf("a mapping to what is gone cannot be taken away: %v", err)
	}
}

func (p *post) view(t ident.Tenant, fn func(context.Context, store.Reader) error) {
	p.t.Helper()
	if err := p.store.View(p.t.Context(), p.gate.System(t, "gate", access.Origin{}), fn); err != nil {
		p.t.Fatal(err)
	}
}

// entries is how long a tenant's log is.
func (p *post) entries(t ident.Tenant) (n int) {
	p.t.Helper()
	p.view(t, func(ctx context.Context, r store.Reader) error {
		head, err := r.Audit().Head(ctx)
		n = int(head.Size) //nolint:gosec // a test's few
		return err
	})
	return n
}
