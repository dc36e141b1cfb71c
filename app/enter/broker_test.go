package enter_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/brokertest"
)

// asked is a store that counts the questions before a tenant is known.
type asked struct {
	store.Store
	located atomic.Int64
}

type counting struct {
	store.Directory
	n *atomic.Int64
}

func (c counting) Locate(ctx context.Context, accessor string) (store.Location, error) {
	c.n.Add(1)
	return c.Directory.Locate(ctx, accessor)
}

func (a *asked) Directory() store.Directory { return counting{a.Store.Directory(), &a.located} }

type door struct {
	*enter.Broker
	*brokertest.World
	store *asked
	now   *atomic.Int64
	log   *bytes.Buffer
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{now: &atomic.Int64{}, log: &bytes.Buffer{}}
	d.now.Store(time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC).UnixNano())
	clock := func() time.Time { return time.Unix(0, d.now.Load()).UTC() }
	cache, limiter := enter.NewCache(100), memlimit.New(clock, 1000)
	d.store = &asked{Store: memory.New(memory.Options{Now: clock, Revised: cache.Revised})}
	keys, err := keyring.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	passwords, err := localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 64, Time: 1}, TestCost: true})
	if err != nil {
		t.Fatal(err)
	}
	gate := enter.New(d.store, cache, enter.Recorder{Mint: ident.Mint{Now: clock, Random: func(b []byte) { _, _ = rand.Read(b) }}, Sealer: keys, Peppers: keys}, slog.New(slog.NewJSONHandler(d.log, nil)))
	admin := manage.New(gate, d.store, nil, tenant.DefaultLimits, nil)
	d.World = brokertest.Build(t, brokertest.Parts{Enter: gate, SignIn: signin.New(gate, d.store, passwords, limiter), Manage: admin, Disclose: disclose.New(gate, d.store, keys)})
	d.Broker = enter.NewBroker(gate, limiter)
	return d
}

func (d *door) connect(t *testing.T, s brokertest.Source) enter.Publisher {
	t.Helper()
	p, err := d.Connect(t.Context(), s.Source.String(), s.Key, s.Source.String()+"-1", access.Origin{Address: "198.51.100.7"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAClientConnectsAsTheSourceOfItsKeyAndAsNothingElse(t *testing.T) {
	d := newDoor(t)
	own, other, theirs := d.Acme.Gateway, d.Acme.Other, d.Brook.Gateway
	p := d.connect(t, own)
	if p.Topics() != own.Topics {
		t.Errorf("let in as %v", p.Topics())
	}
	again, err := d.Resume(t.Context(), own.Source.String(), p.Mark(), p.Client)
	if err != nil || again.Topics() != p.Topics() || again.Actor != p.Actor {
		t.Errorf("resumed as %v: %v", again, err)
	}
	for _, c := range [][3]string{{other.Source.String(), p.Mark(), other.Source.String()}, {own.Source.String(), p.Mark(), other.Source.String()}, {own.Source.String(), "", p.Client},
		{theirs.Source.String(), strings.Replace(p.Mark(), own.Tenant.String(), theirs.Tenant.String(), 1), theirs.Source.String()}} {
		if _, err := d.Resume(t.Context(), c[0], c[1], c[2]); err == nil {
			t.Errorf("resumed: %v", c)
		}
	}
	id := own.Source.String()
	for name, c := range map[string]struct {
		user, client string
		key          secret.Text
		code         string
	}{
		"no key":                     {id, id, secret.Text{}, "bad_credential"},
		"junk":                       {id, id, secret.New("rf_ing_" + strings.Repeat("x", 71)), "bad_credential"},
		"half a key":                 {id, id, secret.New(own.Key.Reveal()[:50]), "bad_credential"},
		"no user":                    {"", id, own.Key, "bad_credential"},
		"a tenant for a user":        {own.Tenant.String(), id, own.Key, "bad_credential"},
		"another source's name":      {other.Source.String(), other.Source.String(), own.Key, "bad_credential"},
		"another source's key":       {id, id, other.Key, "bad_credential"},
		"another tenant's key":       {id, id, theirs.Key, "bad_credential"},
		"a second spelling":          {strings.ToUpper(id), id, own.Key, "bad_credential"},
		"another's client id":        {id, other.Source.String(), own.Key, "bad_client_id"},
		"no client id":               {id, "", own.Key, "bad_client_id"},
		"a client id that begins so": {id, id + "1", own.Key, "bad_client_id"},
	} {
		got, err := d.Connect(t.Context(), c.user, c.key, c.client, access.Origin{Address: "203.0.113.9"})
		if f := fault.As(err); f == nil || f.Code != c.code || got.Client != "" {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
		d.now.Add(int64(time.Minute))
	}
	if err := d.Publish(t.Context(), enter.Publisher{}, own.Up(), false, access.Origin{}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("nobody publishes: %v", err)
	}
	if strings.Contains(d.log.String(), own.Key.Reveal()) {
		t.Error("the log holds a key")
	}
}

func TestWhatAClientMayDoIsAskedAsThingsAreNow(t *testing.T) {
	from := access.Origin{Address: "198.51.100.7"}
	for name, c := range map[string]struct{ off, on func(d *door) }{
		"key revoked":      {func(d *door) { d.Acme.Revoke(d.Acme.Gateway) }, nil},
		"key expired":      {func(d *door) { d.now.Add(int64(2 * time.Hour)) }, nil},
		"source disabled":  {func(d *door) { d.Acme.Disable(d.Acme.Gateway, true) }, func(d *door) { d.Acme.Disable(d.Acme.Gateway, false) }},
		"tenant suspended": {func(d *door) { d.Suspend(d.Acme, true) }, func(d *door) { d.Suspend(d.Acme, false) }},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			d := newDoor(t)
			own, neighbour := d.connect(t, d.Acme.Gateway), d.connect(t, d.Brook.NewKey(d.Brook.Gateway, 24*time.Hour))
			may := func(p enter.Publisher) []error {
				return []error{d.Still(t.Context(), p), d.Publish(t.Context(), p, p.Topics().Up()+"/a", false, from), d.Subscribe(t.Context(), p, p.Topics().Down()+"/#", from)}
			}
			for _, err := range append(may(own), may(neighbour)...) {
				if err != nil {
					t.Fatal(err)
				}
			}
			c.off(d)
			for i, err := range may(own) {
				if err == nil {
					t.Errorf("question %d is answered as before", i)
				}
			}
			if _, err := d.Connect(t.Context(), own.Source.String(), d.Acme.Gateway.Key, own.Source.String(), from); err == nil {
				t.Error("it connects anew")
			}
			for _, err := range may(neighbour) {
				if err != nil {
					t.Error(err)
				}
			}
			if c.on == nil {
				return
			}
			c.on(d)
			for _, err := range may(own) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestAnotherKeyOfTheSourceDoesNotKeepAConnectionOpen(t *testing.T) {
	d := newDoor(t)
	first := d.connect(t, d.Acme.Gateway)
	second := d.connect(t, d.Acme.NewKey(d.Acme.Gateway, time.Hour))
	d.Acme.Revoke(d.Acme.Gateway)
	if err := d.Still(t.Context(), first); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the revoked key's: %v", err)
	}
	if err := d.Still(t.Context(), second); err != nil {
		t.Errorf("the other key's: %v", err)
	}
}

func TestRefusedTopicsOfSomebodyKnownAreRecordedAndFolded(t *testing.T) {
	d := newDoor(t)
	p := d.connect(t, d.Acme.Gateway)
	for range 30 {
		if err := d.Publish(t.Context(), p, d.Brook.Gateway.Up(), false, access.Origin{}); !fault.Is(err, fault.Denied) {
			t.Fatal(err)
		}
	}
	if err := d.Subscribe(t.Context(), p, "#", access.Origin{}); err == nil {
		t.Error("everything is heard")
	}
	refused := 0
	for _, e := range d.Acme.Entries() {
		if e.Action == string(audit.AuthzFail) && e.Actor == p.Actor.Name() {
			refused++
		}
	}
	if refused != 20 {
		t.Errorf("%d refusals stand in the tenant's log, 20 a minute are told in full", refused)
	}
}

func TestFailedConnectsAreThrottledAndARightKeyInUseIsNot(t *testing.T) {
	d := newDoor(t)
	own, from := d.Acme.Gateway, access.Origin{Address: "203.0.113.9"}
	d.connect(t, own)
	stranger := func() secret.Text { // a key in its form, which nobody made
		var random [48]byte
		_, _ = rand.Read(random[:])
		return brokertest.Forged(random)
	}
	before := d.store.located.Load()
	throttled := 0
	for range 200 {
		_, err := d.Connect(t.Context(), own.Source.String(), stranger(), own.Source.String(), from)
		switch f := fault.As(err); {
		case f == nil:
			t.Fatal(err)
		case f.Code == "connect_throttled" && f.RetryAfter > 0:
			throttled++
		}
	}
	if looked := d.store.located.Load() - before; looked > 20 || throttled < 180 {
		t.Errorf("%d were looked up, %d throttled", looked, throttled)
	}
	if _, err := d.Connect(t.Context(), own.Source.String(), own.Key, own.Source.String(), from); err != nil {
		t.Errorf("a right key from the same network: %v", err)
	}
	fresh := d.Acme.NewKey(own, time.Hour)
	if _, err := d.Connect(t.Context(), own.Source.String(), fresh.Key, own.Source.String(), from); fault.As(err).Code != "connect_throttled" {
		t.Errorf("a new key: %v", err)
	}
	d.now.Add(int64(time.Minute))
	if _, err := d.Connect(t.Context(), own.Source.String(), fresh.Key, own.Source.String(), from); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}
