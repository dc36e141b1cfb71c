package isolation_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/adapters/mochibroker"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/isolation"
)

// logs collects what the server logs, for looking for canaries.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// engine is shared by all servers of the tests: it keeps nothing between calls.
func engine(t testing.TB) sandbox.Engine {
	t.Helper()
	e, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return e
}

// opened is an empty store, and a text that changes when any row of a tenant does.
type opened struct {
	store store.Store
	rows  func(tenantID string) string
}

func onSQLite(t testing.TB, cache *enter.Cache) opened {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ringfence.db")
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: file, Now: time.Now, Revised: cache.Revised})
	if err != nil {
		t.Fatal(err)
	}
	return opened{st, func(id string) string {
		digest, err := sqlite.Fingerprint(t.Context(), file, parsed(t, id))
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}}
}

func inMemory(t testing.TB, cache *enter.Cache) opened {
	t.Helper()
	st := memory.New(memory.Options{Now: time.Now, Revised: cache.Revised})
	return opened{st, func(id string) string { return st.Fingerprint(parsed(t, id)) }}
}

func parsed(t testing.TB, id string) ident.Tenant {
	t.Helper()
	tenantID, err := ident.ParseTenant(id)
	if err != nil {
		t.Fatal(err)
	}
	return tenantID
}

// server assembles the application on a store, with limits that do not slow the sweep; spoil may break the store.
func server(t testing.TB, e sandbox.Engine, open func(testing.TB, *enter.Cache) opened, spoil func(store.Store) store.Store) (isolation.Target, *logs) {
	return serverWith(t, e, open, spoil, func(*ingest.Ingest) {})
}

// serverWith hands out what takes events in.
func serverWith(t testing.TB, e sandbox.Engine, open func(testing.TB, *enter.Cache) opened, spoil func(store.Store) store.Store, tell func(*ingest.Ingest)) (isolation.Target, *logs) {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	keys, err := keyring.Open(filepath.Join(dir, "keys"))
	must(err)
	cache := enter.NewCache(1000)
	kept := open(t, cache)
	st := kept.store
	t.Cleanup(func() { _ = st.Close() })
	if spoil != nil {
		st = spoil(st)
	}
	passwords, err := localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 64, Time: 1}, TestCost: true})
	must(err)
	limits := tenant.DefaultLimits
	limits.PrincipalRate, limits.PrincipalBurst, limits.SourceRate, limits.SourceBurst, limits.InFlight = 1_000_000, 1_000_000, 1_000_000, 1_000_000, 64
	limits.IngestRate, limits.IngestBurst, limits.TenantRate = 1_000_000, 1_000_000, 1_000_000
	out := &logs{}
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	limiter := memlimit.New(time.Now, 10_000)
	gate := enter.New(st, cache, enter.Recorder{Mint: ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}, Sealer: keys, Peppers: keys}, log)
	in := ingest.New(gate, st, e, limiter, limits, log)
	tell(in)
	people := signin.New(gate, st, passwords, limiter)
	cursorKey, err := keys.Derive("cursors")
	must(err)
	api, err := httpapi.New(httpapi.Options{
		Enter: gate, SignIn: people, Manage: manage.New(gate, st, in.Trials(1), limits, in.Again), Ingest: in, Disclose: disclose.New(gate, st, keys), Limiter: limiter, Limits: limits,
		CursorKey: cursorKey, PublicURL: "http://sweep.example", Docs: true, Ready: gate.Ready, Metrics: httpapi.NewMetrics(), Log: log, Version: "test", Node: "test",
	})
	must(err)
	token, err := people.SetupLink(t.Context())
	must(err)
	return isolation.Target{Handler: api, SetupToken: token.Reveal(), Rows: kept.rows, Broker: broker(t, mochibroker.Options{
		Gate: enter.NewBroker(gate, limiter), Ingest: in, Limiter: limiter, Mint: gate.Mint, Log: log, PerSource: 1000, Connects: limit.PerSecond(1_000_000, 1_000_000),
	}), Settle: func() {
		for {
			waiting, err := st.Directory().Waiting(t.Context(), time.Now(), 100)
			must(err)
			if len(waiting) == 0 {
				return
			}
			for _, w := range waiting {
				_, err := in.Process(t.Context(), w.Tenant)
				must(err)
			}
		}
	}}, out
}

// swept runs the sweep on a store, and looks at what the server logged meanwhile.
func swept(t *testing.T, e sandbox.Engine, open func(testing.TB, *enter.Cache) opened, requests int) {
	t.Helper()
	target, out := server(t, e, open, nil)
	r := isolation.Run(t, target, isolation.Plan{Requests: requests})
	t.Logf("%d requests on %d routes, %d attempts at the broker, %d findings", r.Requests, len(r.Routes), r.Topics, len(r.Findings))
	if r.Topics < 1000 {
		t.Error("too little was tried at the broker")
	}
	for _, canary := range []string{"canaryalpha", "canarybravo", "canarycharlie"} {
		if bytes.Contains([]byte(out.text()), []byte(canary)) {
			t.Errorf("a log line holds %s", canary)
		}
	}
}

func TestNoActorReachesAnotherTenant(t *testing.T) {
	e, requests := engine(t), 10_000
	if os.Getenv("RINGFENCE_LONG") != "" {
		requests = 200_000
	}
	for name, open := range map[string]func(testing.TB, *enter.Cache) opened{"SQLite": onSQLite, "memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			swept(t, e, open, requests)
		})
	}
}
