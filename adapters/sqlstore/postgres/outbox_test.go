//go:build services

package postgres_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

func outbox(t testing.TB, server *pgtest.Server, name string) *postgres.Outbox {
	t.Helper()
	o, err := postgres.OpenOutbox(t.Context(), server.URL(name, "relay"), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func TestPostgreSQLHasAnOutbox(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		storetest.RunOutbox(t, func(t testing.TB, o storetest.Options) (store.Store, store.Outbox) {
			name := server.Database(t)
			return open(t, server.URL(name, "runtime"), o, 0), outbox(t, server, name)
		})
	})
}

// No other role relays.
func TestRelaysSignInAsTheirOwnRole(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	for _, role := range []string{"owner", "backup"} {
		if o, err := postgres.OpenOutbox(t.Context(), server.URL(name, role), 1); err == nil {
			_ = o.Close()
			t.Errorf("%s opened the outbox", role)
		}
	}
	o, err := postgres.OpenOutbox(t.Context(), server.URL(name, "runtime"), 1)
	if err == nil {
		_, err = o.Relay(t.Context(), store.Round{Limit: 1}, func(context.Context, []store.Sent) []error { return nil })
		_ = o.Close()
	}
	if err == nil {
		t.Error("services can read the outbox")
	}
}

// A process that starts before its database waits; one that may not sign in is mended.
func TestADatabaseThatIsAwayIsNoRefusal(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := secret.New("postgres://ringfence_runtime:runtime@" + l.Addr().String() + "/ringfence")
	_ = l.Close()
	wrong := secret.New(strings.Replace(server.URL(name, "relay").Reveal(), ":relay@", ":wrong@", 1))
	for what, open := range map[string]func(secret.Text) error{
		"store": func(url secret.Text) error {
			_, err := postgres.Open(t.Context(), postgres.Options{URL: url})
			return err
		},
		"outbox": func(url secret.Text) error {
			_, err := postgres.OpenOutbox(t.Context(), url, 1)
			return err
		},
	} {
		if err := open(nobody); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: nobody listens: %v", what, err)
		}
		if err := open(wrong); err == nil || fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: a wrong password: %v", what, err)
		}
	}
}

// Several relays over one database, the way of several processes: 1,000 tenants' records, each key's in order.
func TestFourRelaysTurnNothingRound(t *testing.T) {
	const tenants, each, relays = 1_000, 20, 4
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	fill(t, server, name, tenants, each)
	var mu sync.Mutex
	last, turned, again := map[string]int{}, 0, 0
	var left atomic.Int64
	left.Store(tenants * each)
	began := time.Now()
	var wg sync.WaitGroup
	for n := range relays {
		o := outbox(t, server, name)
		wg.Go(func() {
			after := make([]ident.Tenant, store.OutboxShards)
			for shard := n * store.OutboxShards / relays; left.Load() > 0 && t.Context().Err() == nil; shard = (shard + 1) % store.OutboxShards {
				if _, err := o.Relay(t.Context(), store.Round{Shard: shard, After: after[shard], Limit: 500}, func(_ context.Context, rs []store.Sent) []error {
					mu.Lock()
					defer mu.Unlock()
					errs := make([]error, len(rs))
					for i, r := range rs {
						if i%97 == 96 { // the bus fails now and then, for all of the key from there on
							for j := i; j < len(rs); j++ {
								if rs[j].Tenant == r.Tenant && rs[j].Key == r.Key {
									errs[j] = context.DeadlineExceeded
								}
							}
						}
						var n int
						_, _ = fmt.Sscan(string(r.Value), &n)
						before, seen := last[r.Tenant.String()+r.Key]
						switch {
						case errs[i] != nil:
						case seen && n == before:
							again++
						case seen && n < before:
							turned++
						default:
							last[r.Tenant.String()+r.Key] = n
						}
						if errs[i] == nil {
							left.Add(-1)
						}
					}
					after[shard] = ident.Tenant{}
					if len(rs) > 0 {
						after[shard] = rs[len(rs)-1].Tenant
					}
					return errs
				}); err != nil {
					t.Errorf("relay: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	t.Logf("%d records of %d tenants by %d relays in %s: %.0f/s, %d turned round, %d again", tenants*each, tenants, relays, took, tenants*each/took.Seconds(), turned, again)
	if turned != 0 || again != 0 || left.Load() != 0 {
		t.Errorf("%d records went out behind those that came after them, %d twice, %d are left", turned, again, left.Load())
	}
}

// fill writes rows whose values count up, of two keys a tenant.
func fill(t testing.TB, server *pgtest.Server, name string, tenants, each int) {
	t.Helper()
	w := storetest.NewWorld(t, func(t testing.TB, o storetest.Options) store.Store { return open(t, server.URL(name, "runtime"), o, 0) })
	for of := range slices.Chunk(slices.Collect(func(yield func(int) bool) {
		for n := range tenants {
			if !yield(n) {
				return
			}
		}
	}), 50) {
		var parts []store.Part
		for _, n := range of {
			s := w.Scope(ident.Tenant{1, byte(n >> 8), byte(n)}, 0)
			var rows []store.Finished
			for i := range each {
				rows = append(rows, w.Sending(ident.Device{9, byte(i % 2)}, fmt.Sprint("k", i%2), fmt.Sprint(i)))
			}
			parts = append(parts, store.Part{Scope: s, Rows: rows})
		}
		for _, err := range w.Store.IngestBatch(t.Context(), parts) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// An MQTT worker's role reads what it needs, and a role that may write is refused where nothing is ever written.
func TestAReadersRoleMayNotWrite(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	if s, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL(name, "runtime"), Reads: true}); err == nil {
		_ = s.Close()
		t.Error("a role that may write was taken for a reader's")
	}
	s, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL(name, "reader"), Reads: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	scope := new(storetest.World).Scope(ident.Tenant{1}, 0)
	if err := s.View(t.Context(), scope, func(ctx context.Context, r store.Reader) error { _, err := r.Policy(ctx); return err }); err != nil {
		t.Errorf("it cannot read a policy: %v", err)
	}
	if err := s.View(t.Context(), scope, func(ctx context.Context, r store.Reader) error {
		_, err := r.Readings().Find(ctx, store.Query{Reach: access.Everywhere}, store.ReadingFilter{})
		return err
	}); err == nil {
		t.Error("it reads readings")
	}
	if err := s.Ingest(t.Context(), scope, func(ctx context.Context, f store.Flow) error { return f.Touch(ctx, "a", time.Now()) }); err == nil {
		t.Error("it writes")
	}
}
