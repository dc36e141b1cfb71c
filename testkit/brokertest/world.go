// Package brokertest is what an MQTT door must pass: a world of two tenants with sources, suspended, disabled and revoked ones
// among them, and what their clients may and may not do, asked over any client of MQTT that its caller has. The rule itself is
// core/source's, and held to a reference there; this package says nothing of performance.
package brokertest

import (
	"context"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// Parts is an application without its brokers, on any store that nobody set up yet.
type Parts struct {
	Enter    *enter.Enter
	SignIn   *signin.SignIn
	Manage   *manage.Manage
	Disclose *disclose.Disclose
}

// Tenant is one of the world's, with its owner and its sources.
type Tenant struct {
	ID      ident.Tenant
	Gateway Source // the first one, and what it comes with
	Other   Source // another one of the same tenant

	parts Parts
	owner enter.Identity
	t     testing.TB
}

// Source is a source and a key of it.
type Source struct {
	source.Topics
	Key    secret.Text
	Handle ident.Key
}

// World is a platform with two tenants.
type World struct {
	Acme, Brook *Tenant

	parts Parts
	t     testing.TB
	olga  enter.Identity
}

const password = "four random words here"

var here = access.Origin{Address: "192.0.2.1"}

// Build sets a platform up.
func Build(t testing.TB, p Parts) *World {
	t.Helper()
	ctx := t.Context()
	w := &World{parts: p, t: t}
	link, err := p.SignIn.SetupLink(ctx)
	w.no(err)
	_, _, err = p.SignIn.Setup(ctx, link, signin.NewPerson{Email: "olga@platform.example", Name: "Olga", Password: secret.New(password)}, nil, here)
	w.no(err)
	w.olga = w.login("olga@platform.example")
	w.Acme, w.Brook = w.tenant("Acme Water", "ana@acme.example"), w.tenant("Brook Energy", "ben@brook.example")
	return w
}

func (w *World) no(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *World) login(email string) enter.Identity {
	w.t.Helper()
	g, err := w.parts.SignIn.Login(w.t.Context(), email, secret.New(password), false, here)
	w.no(err)
	id, err := w.parts.Enter.Authenticate(w.t.Context(), g.Access, here)
	w.no(err)
	return id
}

func (w *World) platform(p access.Permission) *manage.Call {
	w.t.Helper()
	s, err := w.parts.Enter.Gate(w.t.Context(), w.olga, ident.Platform, p, enter.Root, here)
	w.no(err)
	return &manage.Call{Scope: s}
}

func (w *World) tenant(name, owner string) *Tenant {
	w.t.Helper()
	ctx := w.t.Context()
	made, invitation, err := w.parts.Manage.CreateTenant(ctx, w.platform(access.PlatformTenantCreate), name, "customer", owner)
	w.no(err)
	_, err = w.parts.SignIn.Accept(ctx, invitation, nil, signin.NewPerson{Name: owner[:3], Password: secret.New(password)}, here)
	w.no(err)
	t := &Tenant{ID: made.ID, parts: w.parts, owner: w.login(owner), t: w.t}
	t.Device("70b3d57ed0000001")
	t.Gateway, t.Other = t.Source("gateway"), t.Source("other gateway")
	return t
}

// Suspend closes or opens a tenant.
func (w *World) Suspend(t *Tenant, on bool) {
	w.t.Helper()
	state, p := tenant.Suspended, access.PlatformTenantSuspend
	if !on {
		state, p = tenant.Active, access.PlatformTenantResume
	}
	_, err := w.parts.Manage.SetTenantState(w.t.Context(), w.platform(p), t.ID, state)
	w.no(err)
}

// Call lets the tenant's owner do something.
func (t *Tenant) Call(p access.Permission) *manage.Call {
	t.t.Helper()
	s, err := t.parts.Enter.Gate(t.t.Context(), t.owner, t.ID, p, enter.Root, here)
	if err != nil {
		t.t.Fatal(err)
	}
	return &manage.Call{Scope: s}
}

// Device makes a device.
func (t *Tenant) Device(eui string) {
	t.t.Helper()
	if _, err := t.parts.Manage.CreateDevice(t.t.Context(), t.Call(access.DeviceCreate), manage.NewDevice{Name: eui, Addresses: []device.Address{{Kind: device.DevEUI, Value: eui}}}); err != nil {
		t.t.Fatal(err)
	}
}

// Source makes a source of the plain format, with a key.
func (t *Tenant) Source(name string) Source {
	t.t.Helper()
	s, err := t.parts.Manage.CreateSource(t.t.Context(), t.Call(access.SourceWrite), source.Source{Name: name, Format: source.Plain})
	if err != nil {
		t.t.Fatal(err)
	}
	return t.NewKey(Source{Topics: source.Topics{Tenant: t.ID, Source: s.ID}}, time.Hour)
}

// NewKey makes one more key of a source.
func (t *Tenant) NewKey(s Source, life time.Duration) Source {
	t.t.Helper()
	k, text, err := t.parts.Manage.CreateKey(t.t.Context(), t.Call(access.SourceKeyCreate), s.Source, "key", life, nil)
	if err != nil {
		t.t.Fatal(err)
	}
	s.Key, s.Handle = text, k.ID
	return s
}

// Revoke ends a source's key.
func (t *Tenant) Revoke(s Source) {
	t.t.Helper()
	ctx := t.t.Context()
	k, err := t.parts.Manage.Key(ctx, t.Call(access.SourceRead).Scope, s.Source, s.Handle)
	if err == nil {
		err = t.parts.Manage.RevokeKey(ctx, t.Call(access.SourceKeyRevoke), s.Source, s.Handle, k.Rev)
	}
	if err != nil {
		t.t.Fatal(err)
	}
}

// Disable switches a source off, or on again.
func (t *Tenant) Disable(s Source, off bool) {
	t.t.Helper()
	ctx := context.WithoutCancel(t.t.Context())
	got, err := t.parts.Manage.Source(ctx, t.Call(access.SourceRead).Scope, s.Source)
	if err == nil {
		state := source.Active
		if off {
			state = source.Disabled
		}
		_, err = t.parts.Manage.UpdateSource(ctx, t.Call(access.SourceWrite), s.Source, got.Rev, manage.SourcePatch{State: &state})
	}
	if err != nil {
		t.t.Fatal(err)
	}
}

// Entries are all of the tenant's audit log.
func (t *Tenant) Entries() []audit.Entry {
	t.t.Helper()
	var all []audit.Entry
	q := store.Query{Limit: 200}
	for {
		page, err := t.parts.Disclose.Entries(t.t.Context(), t.Call(access.AuditRead).Scope, q, store.AuditFilter{})
		if err != nil {
			t.t.Fatal(err)
		}
		all = append(all, page.Items...)
		if q.After = page.Next; q.After == "" {
			return all
		}
	}
}

// Forged is an ingestion key in its form, checksum and all, that nobody made.
func Forged(random [credential.RandomLen]byte) secret.Text {
	return credential.Mint(credential.KindIngestion, random).Whole
}
