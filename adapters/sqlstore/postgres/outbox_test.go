//go:build services

package postgres_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
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

// Several relays over one database, the way of several processes: 1,000 tenants' records, each key's in order, though the bus fails now and
// then, and relays lose their session in the middle of what they send, at which others take it over.
func TestFourRelaysTurnNothingRound(t *testing.T) {
	r := relayed(t, 8)
	t.Logf("%d of %d records went out, %d again after %d kills, %d turned round", len(r.went), tenants*each, r.again, r.killed, r.turned)
	if r.turned != 0 || len(r.went) != tenants*each {
		t.Errorf("%d records went out behind those that came after them, %d are lost", r.turned, tenants*each-len(r.went))
	}
	if r.killed < 4 || r.unheld == 0 || r.again != r.unheld {
		t.Errorf("%d kills let %d records go out that nobody let go of; %d went out again", r.killed, r.unheld, r.again)
	}
}

// One round of twenty: what the machine does beside them slows the others down.
func TestFourRelaysSendTenThousandRecordsASecond(t *testing.T) {
	var rates []float64
	for best := 0.0; best < 10_000 && len(rates) < 20; {
		r := relayed(t, 0)
		if r.turned != 0 || r.again != 0 || len(r.went) != tenants*each {
			t.Errorf("%d records went out behind those that came after them, %d twice, %d are lost", r.turned, r.again, tenants*each-len(r.went))
		}
		best = tenants * each / r.took.Seconds()
		rates = append(rates, best)
	}
	t.Logf("%d records of %d tenants by %d relays: %.0f/s", tenants*each, tenants, relays, rates)
	if slices.Max(rates) < 10_000 {
		t.Errorf("%.0f records a second", rates)
	}
}

const tenants, each, relays = 1_000, 20, 4

// relaying is what a bus was sent.
type relaying struct {
	server *pgtest.Server
	name   string
	every  int // so many rounds a relay loses its session; 0: none does
	took   time.Duration
	left   atomic.Int64 // records that no relay has let go of

	mu                            sync.Mutex
	last                          map[string]int // of each key
	went                          map[ident.Uplink]bool
	turned, again, rounds, killed int
	unheld                        int // records that were sent and could not be let go of
}

// relayed fills an outbox and lets relays empty it.
func relayed(t *testing.T, every int) *relaying {
	t.Helper()
	server := pgtest.New(pgtest.Oldest)
	r := &relaying{server: server, name: server.Database(t), every: every, last: map[string]int{}, went: map[ident.Uplink]bool{}}
	fill(t, server, r.name, tenants, each)
	r.left.Store(tenants * each)
	all := make([]*postgres.Outbox, relays)
	for n := range all {
		u, err := url.Parse(server.URL(r.name, "relay").Reveal())
		if err != nil {
			t.Fatal(err)
		}
		with := u.Query()
		with.Set("application_name", fmt.Sprint("relay-", n))
		u.RawQuery = with.Encode()
		if all[n], err = postgres.OpenOutbox(t.Context(), secret.New(u.String()), 4); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = all[n].Close() }()
	}
	began := time.Now()
	var wg sync.WaitGroup
	for n, o := range all {
		wg.Go(func() { r.relay(t, o, n) })
	}
	wg.Wait()
	r.took = time.Since(began)
	return r
}

// relay is one of them.
func (r *relaying) relay(t *testing.T, o *postgres.Outbox, n int) {
	after := make([]ident.Tenant, store.OutboxShards)
	for shard := n * store.OutboxShards / relays; r.left.Load() > 0 && t.Context().Err() == nil; shard = (shard + 1) % store.OutboxShards {
		sent, kill, from := 0, false, after[shard]
		after[shard] = ident.Tenant{} // unless there is more
		_, err := o.Relay(t.Context(), store.Round{Shard: shard, After: from, Limit: 500}, func(_ context.Context, rs []store.Sent) []error {
			errs := failing(rs)
			if kill = r.begin(); kill {
				half := len(rs) / 2
				sent = r.send(rs[:half], errs[:half])
				if err := r.server.Ask(t.Context(), r.name, fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'relay-%d' AND state = 'idle in transaction'", n)); err != nil {
					t.Error(err)
				}
				sent += r.send(rs[half:], errs[half:]) // it does not know yet
			} else {
				sent = r.send(rs, errs)
			}
			after[shard] = rs[len(rs)-1].Tenant
			return errs
		})
		switch {
		case kill && err != nil:
			r.mu.Lock()
			r.killed, r.unheld = r.killed+1, r.unheld+sent
			r.mu.Unlock()
		case kill:
			t.Error("a relay without its session let go of what it had sent")
			return
		case err != nil:
			t.Errorf("relay: %v", err)
			return
		default:
			r.left.Add(-int64(sent))
		}
	}
}

// failing is a bus that fails now and then, for all of a key from there on.
func failing(rs []store.Sent) []error {
	errs := make([]error, len(rs))
	for i := 96; i < len(rs); i += 97 {
		for j := i; j < len(rs); j++ {
			if rs[j].Tenant == rs[i].Tenant && rs[j].Key == rs[i].Key {
				errs[j] = context.DeadlineExceeded
			}
		}
	}
	return errs
}

// begin begins a round, and reports whether its session is to be ended.
func (r *relaying) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rounds++
	return r.every > 0 && r.rounds%r.every == 0
}

// send sends what does not fail.
func (r *relaying) send(rs []store.Sent, errs []error) (sent int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range rs {
		if errs[i] != nil {
			continue
		}
		sent++
		if r.went[s.Event] {
			r.again++
			continue
		}
		r.went[s.Event] = true
		var n int
		_, _ = fmt.Sscan(string(s.Value), &n)
		key := s.Tenant.String() + s.Key
		if before, seen := r.last[key]; seen && n < before {
			r.turned++
		} else {
			r.last[key] = n
		}
	}
	return sent
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

// Who cannot be sent anything now may have much that waits: a round passes over it, and looks at no record of it.
func TestARoundPassesOverWhoIsLeftOut(t *testing.T) {
	const tenants, each, limit = 50, 400, 100
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	fill(t, server, name, tenants, each)
	db, err := sql.Open("pgx", server.URL(name, "relay").Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	one := ident.Tenant{1, 0, tenants - 1}
	var except [][]byte
	for n := range tenants - 1 {
		out := ident.Tenant{1, 0, byte(n)}
		except = append(except, out[:])
	}
	var none ident.Tenant
	var text string
	if err := db.QueryRowContext(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+postgres.HandedText, store.OutboxShard(one, "k0"), none[:], except, 64, limit).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan measured }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		t.Fatal(err)
	}
	if n := plans[0].Plan.looked(); n < limit || n > limit+2*tenants {
		t.Errorf("%v records were looked at for %d: %s", n, limit, text)
	}
}

// measured is a node of what EXPLAIN ANALYZE says.
type measured struct {
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Loops    float64 `json:"Actual Loops"`
	Plans    []measured
}

// looked is how many rows of tables it looked at.
func (m measured) looked() (n float64) {
	if m.Relation != "" {
		n = (m.Rows + m.Removed) * m.Loops
	}
	for _, below := range m.Plans {
		n += below.looked()
	}
	return n
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
