package signin_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/identity"
	"github.com/ringfence/ringfence/ports/store"
)

const (
	name     = "olga@platform.example"
	password = "four random words here"
)

// clock is moved by tests.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time       { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) on(d time.Duration)   { c.ns.Add(int64(d)) }
func at(address string) access.Origin { return access.Origin{Address: address} }

// counted counts how often a password is looked at, and how often one is hashed.
type counted struct {
	identity.Passwords
	looked, hashed atomic.Int64
}

func (c *counted) Hash(ctx context.Context, p secret.Text) (string, error) {
	c.hashed.Add(1)
	return c.Passwords.Hash(ctx, p)
}

func (c *counted) Verify(ctx context.Context, phc string, p secret.Text) (ok, stale bool, err error) {
	c.looked.Add(1)
	return c.Passwords.Verify(ctx, phc, p)
}

// world is a platform with one person, on the real adapters; the password costs 64 KiB.
type world struct {
	*signin.SignIn
	t         *testing.T
	clock     *clock
	passwords *counted
	enter     *enter.Enter
	store     store.Store
	who       ident.Principal
	stolen    secret.Text           // somebody else has it
	again     func() *signin.SignIn // the same after a restart: nothing remembered but what is stored
}

func newWorld(t *testing.T) *world { return costing(t, localauth.Cost{Memory: 64, Time: 1}) }

// costing is a world in which a password costs so much.
func costing(t *testing.T, cost localauth.Cost) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{}}
	w.clock.ns.Store(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixNano())
	keys, err := keyring.Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	cache := enter.NewCache(10)
	if w.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "r.db"), Now: w.clock.now, Revised: cache.Revised}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	cheap, err := localauth.New(localauth.Options{Cost: cost, TestCost: true, Waiting: 1000})
	if err != nil {
		t.Fatal(err)
	}
	w.passwords = &counted{Passwords: cheap}
	mint := ident.Mint{Now: w.clock.now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	w.enter = enter.New(w.store, cache, enter.Recorder{Mint: mint, Sealer: keys, Peppers: keys}, slog.New(slog.DiscardHandler))
	w.again = func() *signin.SignIn {
		return signin.New(w.enter, w.store, w.passwords, memlimit.New(w.clock.now, 1000))
	}
	w.SignIn = w.again()
	link, err := w.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := w.Setup(t.Context(), link, signin.NewPerson{Email: name, Name: "Olga", Password: secret.New(password)}, nil, at("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	w.who = p.ID
	return w
}

func (w *world) login() signin.Granted {
	w.t.Helper()
	g, err := w.Login(w.t.Context(), name, secret.New(password), false, at("192.0.2.1"))
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// person is the one, as they are stored.
func (w *world) person() (p principal.Person) {
	w.t.Helper()
	if err := w.store.View(w.t.Context(), w.enter.System(ident.Platform, "test", access.Origin{}), func(ctx context.Context, r store.Reader) (err error) {
		p, err = r.Persons().Get(ctx, w.who)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// recorded is how many entries of an action the platform's log has.
func (w *world) recorded(a audit.Action) (n int) {
	w.t.Helper()
	if err := w.store.View(w.t.Context(), w.enter.System(ident.Platform, "test", access.Origin{}), func(ctx context.Context, r store.Reader) error {
		page, err := r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, store.AuditFilter{Action: string(a)})
		n = len(page.Items)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// forgive forgets the failures of a key, as a good sign-in does.
func (w *world) forgive(key string) {
	w.t.Helper()
	if err := w.store.Ingest(w.t.Context(), w.enter.System(ident.Platform, "test", access.Origin{}), func(ctx context.Context, f store.Flow) error {
		return f.SetFailures(ctx, principal.Failure{Key: key})
	}); err != nil {
		w.t.Fatal(err)
	}
}

// all runs f n times at once and answers the errors.
func all(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errs
}

func won(errs []error) (n int) {
	for _, err := range errs {
		if err == nil {
			n++
		}
	}
	return n
}

func code(err error) string {
	if f := fault.As(err); f != nil {
		return f.Code
	}
	return ""
}
