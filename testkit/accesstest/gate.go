package accesstest

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/seal"
	"github.com/ringfence/ringfence/ports/store"
)

// Keys are what the gate wants of ports/seal.
type Keys interface {
	seal.Sealer
	seal.Peppers
}

// Parts are what a gate is proved on.
type Parts struct {
	Open    func(t testing.TB, revised store.Revised) store.Store // empty, and closed by the test's cleanup
	Keys    Keys
	Changes int // of the policy, while 64 readers ask; a tenth of it, of one person's rights, while eight ask
	Worlds  int // in which grants are tried

	Patience time.Duration // how long what was refused as stale is repeated; 0: half a minute
}

// GateCheck is one promise of the gate on a store.
type GateCheck struct {
	Name string
	Run  func(t testing.TB, p Parts)
}

// RunGate runs every check of a gate.
func RunGate(t *testing.T, p Parts) {
	for _, c := range GateChecks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, p) })
	}
}

// GateChecks are all promises of a gate on a store.
func GateChecks() []GateCheck {
	return []GateCheck{
		{"EveryAnswerIsOfTheOldPolicyOrOfTheNew", reloads},
		{"NoAllowBeginsAfterARevokeWasAcknowledged", revokes},
		{"NobodyGrantsThemselvesMore", climbs},
	}
}

// gate is the application around one tenant.
type gate struct {
	testing.TB
	*enter.Enter
	ctx    context.Context //nolint:containedctx // a test's own
	store  store.Store
	manage *manage.Manage
	tenant ident.Tenant
	root   ident.Node
	owner  ident.Principal

	patience time.Duration
}

var here = access.Origin{Node: "accesstest"}

// open makes a tenant with one owner, and whatever fill adds.
func open(t testing.TB, p Parts, fill func(*gate, store.Writer) error) *gate {
	t.Helper()
	cache := enter.NewCache(10)
	g := &gate{TB: t, ctx: t.Context(), store: p.Open(t, cache.Revised), patience: cmp.Or(p.Patience, 30*time.Second)}
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	g.Enter = enter.New(g.store, cache, enter.Recorder{Mint: mint, Sealer: p.Keys, Peppers: p.Keys}, slog.New(slog.DiscardHandler))
	g.manage = manage.New(g.Enter, g.store, nil, tenant.DefaultLimits, func(ident.Tenant, ident.Version) {})
	ident.Fresh(mint, &g.tenant)
	g.must(g.change(func(w store.Writer) error {
		born, err := g.Birth(g.ctx, w, g.tenant, "Acme", org.Customer)
		if err != nil {
			return err
		}
		g.root = born.Root
		if g.owner, err = g.member(w); err != nil {
			return err
		}
		if _, err = g.give(w, access.Membership{Principal: g.owner, Role: access.Owner, Node: g.root, Recursive: true}); err != nil {
			return err
		}
		return fill(g, w)
	}))
	return g
}

func (g *gate) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatalf("%v (%s)", err, fault.Cause(err))
	}
}

// change writes records as they are, asking nobody.
func (g *gate) change(do func(store.Writer) error) error {
	s := g.System(g.tenant, "accesstest", here)
	ev, err := g.Event(g.ctx, s, audit.MembershipGranted, audit.Target{Kind: "test", ID: "accesstest"})
	if err != nil {
		return err
	}
	return g.store.Change(g.ctx, s, func(_ context.Context, w store.Writer) ([]audit.Event, error) {
		return []audit.Event{ev}, do(w)
	})
}

func (g *gate) member(w store.Writer) (ident.Principal, error) {
	var m principal.Member
	ident.Fresh(g.Mint, &m.ID)
	m.Kind, m.Name, m.CreatedAt, m.UpdatedAt = principal.Human, fmt.Sprintf("member %x", m.ID[14:]), g.Now(), g.Now()
	_, err := w.Members().Put(g.ctx, m)
	return m.ID, err
}

func (g *gate) give(w store.Writer, m access.Membership) (access.Membership, error) {
	if m.ID.IsZero() {
		ident.Fresh(g.Mint, &m.ID)
	}
	m.CreatedAt, m.UpdatedAt = g.Now(), g.Now()
	return w.Memberships().Put(g.ctx, m)
}

// records are the tenant's as the store has them.
func (g *gate) records() (r access.Records) {
	g.Helper()
	g.must(g.store.View(g.ctx, g.System(g.tenant, "accesstest", here), func(ctx context.Context, read store.Reader) (err error) {
		r, err = read.Policy(ctx)
		return err
	}))
	return r
}

// as is somebody who signed in.
func as(p ident.Principal) enter.Identity {
	return enter.Identity{Actor: access.Actor{Kind: access.Human, ID: p}, Subject: access.Subject{Principal: p}, Kind: credential.KindSession}
}
