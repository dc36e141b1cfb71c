//go:build services

package postgres_test

import (
	"context"
	crand "crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// both runs a test on the oldest server that is supported and on the newest.
func both(t *testing.T, test func(t *testing.T, s *pgtest.Server)) {
	t.Run("oldest", func(t *testing.T) { test(t, pgtest.New(pgtest.Oldest)) })
	t.Run("newest", func(t *testing.T) { test(t, pgtest.New(pgtest.Newest)) })
}

func open(t testing.TB, url secret.Text, o storetest.Options, conns int) *sqlstore.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Options{URL: url, Conns: conns, Now: o.Now, Revised: o.Revised})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPostgreSQLFillsThePort(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		storetest.Run(t, func(t testing.TB, o storetest.Options) store.Store {
			return open(t, server.URL(server.Database(t), "runtime"), o, 0)
		})
	})
}

// The other wall: our statements, in a database that has none. That the database's is enough without theirs `make test` holds by the tag
// unguarded.
func TestOurStatementsFillThePortWithoutTheWall(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	storetest.Run(t, func(t testing.TB, o storetest.Options) store.Store {
		database := server.Database(t)
		s := open(t, server.URL(database, "runtime"), o, 0)
		if err := server.Fell(t.Context(), database); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

var mint = ident.Mint{Now: time.Now, Random: func(p []byte) { _, _ = crand.Read(p) }}

// kept is a device that was made in a tenant.
func kept(t testing.TB, s store.Store, scope access.Scope) (d device.Device) {
	t.Helper()
	err := s.Change(t.Context(), scope, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		d = device.Device{Name: "pump", Node: ident.Node{1}, State: device.Active}
		ident.Fresh(mint, &d.ID)
		var err error
		d, err = w.Devices().Put(ctx, d)
		return []audit.Event{{ID: ident.NewEntry(mint), Action: audit.DeviceCreated, Target: audit.Target{Kind: "device", ID: d.ID.String()}, Outcome: audit.OK}}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// connect is a plain connection, as a role signs in.
func connect(t testing.TB, url secret.Text) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// What a service's own sign-in could do, were every check of ours forgotten.
func TestTheDatabaseRefusesByItself(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		name := server.Database(t)
		w := storetest.NewWorld(t, func(t testing.TB, o storetest.Options) store.Store { return open(t, server.URL(name, "runtime"), o, 0) })
		for i, n := range []int{1, 2} {
			for range n {
				kept(t, w.Store, []access.Scope{w.A, w.B}[i])
			}
		}
		db := connect(t, server.URL(name, "runtime"))
		count := func(tenant string) (n int) {
			t.Helper()
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if tenant != "" {
				if _, err := tx.ExecContext(t.Context(), "SELECT set_config('app.tenant', $1, true)", tenant); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM devices").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		a, b := "0a"+strings.Repeat("00", 15), "0b"+strings.Repeat("00", 15)
		if got := []int{count(a), count(""), count(b), count("")}; got[0] != 1 || got[1] != 0 || got[2] != 2 || got[3] != 0 {
			t.Errorf("devices of A, of nobody, of B, of nobody: %v", got)
		}
		for _, q := range []string{
			"INSERT INTO devices (tenant, id, rev, state, body) VALUES ('\\x0b000000000000000000000000000000', '\\x01', 1, '-', '')",
			"UPDATE devices SET tenant = '\\x0b000000000000000000000000000000'", // to give one's own row away
			"TRUNCATE devices", "DELETE FROM audit_entries", "UPDATE audit_entries SET outcome = 'ok'", "DELETE FROM audit_heads", "UPDATE audit_checkpoints SET size = 0",
			"ALTER TABLE devices DISABLE ROW LEVEL SECURITY", "ALTER TABLE devices NO FORCE ROW LEVEL SECURITY", "DROP POLICY tenant ON devices", "CREATE TABLE mine (a int)",
			"SET ROLE ringfence_owner", "SET SESSION AUTHORIZATION postgres", "CREATE POLICY all_of_it ON devices USING (true)", "DROP TRIGGER audit_entries_delete ON audit_entries",
			"SET session_replication_role = replica", "COPY devices TO PROGRAM 'cat'", "UPDATE bun_migrations SET name = ''",
		} {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(t.Context(), "SELECT set_config('app.tenant', $1, true)", a); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(t.Context(), q); err == nil {
				t.Errorf("not refused: %s", q)
			}
			_ = tx.Rollback()
		}
	})
}

// A role that the wall does not bind, and a schema that is another version's, are refused at start with what to do.
func TestWhatWouldBreakTheWallIsRefusedAtStart(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	refused := func(role, want string) {
		t.Helper()
		s, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL(name, role), Now: time.Now})
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("as %q: %v, want %q", role, err, want)
		}
	}
	for _, c := range [][2]string{{"", "is a superuser"}, {"owner", "owns tables"}, {"backup", "bypasses row-level security"}} {
		refused(c[0], c[1])
	}
	if err := server.Ask(t.Context(), name, "INSERT INTO bun_migrations (name, group_id) VALUES ('20991231000001', 99)"); err != nil {
		t.Fatal(err)
	}
	refused("runtime", "newer than this program") // nothing is said of who works with it
	if err := server.Ask(t.Context(), name, "INSERT INTO oldest_programs VALUES ('20991231000001', '20991230000001')"); err != nil {
		t.Fatal(err)
	}
	refused("runtime", "migration 20991231000001 needs a newer one; use the program")
	if err := server.Ask(t.Context(), name, "DELETE FROM bun_migrations"); err != nil {
		t.Fatal(err)
	}
	refused("runtime", "run ringfence migrate up")
	if _, err := postgres.Open(t.Context(), postgres.Options{URL: secret.New("postgres://u:hunter2@host:port/x"), Now: time.Now}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a URL that cannot be read: %v", err)
	}
}

// A database may be set to acknowledge before anything is on a disk, and so may a URL: ours waits all the same. A server that never
// waits is refused.
func TestWhatIsCommittedIsOnTheDisk(t *testing.T) {
	cluster, admin := servers.Postgres(t)
	t.Setenv("TESTBED_POSTGRES_CARELESS", admin)
	server := pgtest.New("TESTBED_POSTGRES_CARELESS")
	name := server.Database(t)
	if err := server.Ask(t.Context(), name,
		"ALTER DATABASE "+name+" SET synchronous_commit = off", "ALTER ROLE ringfence_runtime SET synchronous_commit = off",
		`CREATE FUNCTION careful() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF current_setting('synchronous_commit') <> 'on' THEN RAISE 'careless'; END IF; RETURN NEW; END $$`,
		"CREATE TRIGGER careful BEFORE INSERT OR UPDATE ON audit_heads FOR EACH ROW EXECUTE FUNCTION careful()"); err != nil {
		t.Fatal(err)
	}
	if err := server.Ask(t.Context(), name, "INSERT INTO audit_heads (tenant, size, last, edge, revision, narrowed, alive) VALUES ('\\x01', 0, 0, '', 0, 0, '')"); err == nil || !strings.Contains(err.Error(), "careless") {
		t.Fatalf("a session of somebody else's: %v", err)
	}
	url := secret.New(server.URL(name, "runtime").Reveal() + "&synchronous_commit=off")
	st := open(t, url, storetest.Options{Now: time.Now}, 0)
	kept(t, st, new(storetest.World).Scope(ident.Tenant{1}, 0))
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if err := server.Ask(t.Context(), "postgres", "ALTER SYSTEM SET fsync = off"); err != nil {
		t.Fatal(err)
	}
	cluster.Stop()
	cluster.Start()
	if st, err := postgres.Open(t.Context(), postgres.Options{URL: url, Now: time.Now}); err == nil || !strings.Contains(err.Error(), "fsync = on") {
		t.Errorf("%v, %v", st, err)
	}
}

// A migration that an old program works with is applied under its feet: it goes on, starts anew, and works beside the new one.
func TestOldAndNewProgramsWorkSideBySide(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		name := server.Database(t)
		w := storetest.NewWorld(t, func(t testing.TB, o storetest.Options) store.Store { return open(t, server.URL(name, "runtime"), o, 0) })
		before := kept(t, w.Store, w.A)
		if err := server.Ask(t.Context(), name, "SET ROLE ringfence_owner", "ALTER TABLE devices ADD COLUMN colour text NOT NULL DEFAULT 'grey'", "CREATE TABLE paints (tenant bytea NOT NULL, id bytea NOT NULL, PRIMARY KEY (tenant, id))",
			"INSERT INTO bun_migrations (name, group_id) VALUES ('20991231000001', 99)", "INSERT INTO oldest_programs SELECT '20991231000001', max(migration) FROM oldest_programs"); err != nil {
			t.Fatal(err)
		}
		started := open(t, server.URL(name, "runtime"), storetest.Options{Now: time.Now}, 0)
		t.Cleanup(func() { _ = started.Close() })
		made := []device.Device{before, kept(t, w.Store, w.A), kept(t, started, w.A)}
		if err := server.Ask(t.Context(), name, "UPDATE devices SET colour = 'red'"); err != nil { // the new program's
			t.Fatal(err)
		}
		for _, s := range []store.Store{w.Store, started} {
			if err := s.View(t.Context(), w.A, func(ctx context.Context, r store.Reader) error {
				page, err := r.Devices().List(ctx, store.Query{Reach: access.Everywhere})
				if err == nil && len(page.Items) != len(made) {
					t.Errorf("%d devices, want %d", len(page.Items), len(made))
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}
		if n := tables(t, connect(t, server.URL(name, "")), "devices WHERE colour = 'red'"); n[0] != len(made) {
			t.Errorf("%d kept what the new program wrote", n[0])
		}
	})
}

// Every migration after the first says in its first line which is the oldest program that still works: one that there was.
func TestEveryMigrationNamesTheOldestProgramThatStillWorks(t *testing.T) {
	said, err := postgres.OldestPrograms()
	if err != nil || len(said) < 5 {
		t.Fatalf("%v, %v", said, err)
	}
	for migration, program := range said {
		if _, there := said[program]; !there && migration != "20261126000001" || program > migration {
			t.Errorf("%s: its first line wants to be -- oldest program: MIGRATION, the newest that the program brings; it names %q", migration, program)
		}
	}
}

// What one process changed, another is told of, and of nothing else.
func TestAnotherProcessIsToldOfEachChange(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	url := server.URL(server.Database(t), "runtime")
	told := make(chan ident.Tenant, 100)
	mine := open(t, url, storetest.Options{Now: time.Now}, 0)
	other := open(t, url, storetest.Options{Now: time.Now, Revised: func(id ident.Tenant, _ uint64) { told <- id }}, 0)
	t.Cleanup(func() { _, _ = mine.Close(), other.Close() })
	w := new(storetest.World)
	var took []time.Duration
	for i := 0; i < 15 && (i%5 > 0 || i == 0 || median(took[i-5:]) > time.Second); i++ { // five, three times at most
		id := ident.Tenant{byte(i + 1)}
		kept(t, mine, w.Scope(id, 0))
		began := time.Now()
		for got := (ident.Tenant{}); got != id; {
			select {
			case got = <-told:
				if got[0] == 0 || got[0] > id[0] {
					t.Fatalf("told of %v", got)
				}
			case <-time.After(time.Minute):
				t.Fatalf("not told of change %d", i)
			}
		}
		took = append(took, time.Since(began))
	}
	if last := took[len(took)-5:]; median(last) > time.Second {
		t.Errorf("told after %v", took)
	}
}

func median(of []time.Duration) time.Duration { return slices.Sorted(slices.Values(of))[len(of)/2] }

// What one process took away, another refuses at its very next look, and tells its cache of decisions before it answers: it need
// not have been told first.
func TestAnotherProcessSeesARevocationAtItsNextRequest(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		url := server.URL(server.Database(t), "runtime")
		var mu sync.Mutex
		told := map[ident.Tenant]int{}
		mine := open(t, url, storetest.Options{Now: time.Now}, 0)
		other := open(t, url, storetest.Options{Now: time.Now, Revised: func(id ident.Tenant, _ uint64) { mu.Lock(); defer mu.Unlock(); told[id]++ }}, 0)
		t.Cleanup(func() { _, _ = mine.Close(), other.Close() })
		w := new(storetest.World)
		tenant := ident.Tenant{1}
		m := access.Membership{ID: ident.Membership{1}, Node: ident.Node{1}, Principal: ident.Principal{1}}
		change := func(fn func(context.Context, store.Writer) error) (rev uint64) {
			t.Helper()
			if err := mine.Change(t.Context(), w.Scope(tenant, 0), func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
				err := fn(ctx, wr)
				rev = wr.Revision()
				return []audit.Event{{ID: ident.NewEntry(mint), Action: audit.MembershipGranted, Target: audit.Target{Kind: "membership", ID: m.ID.String()}, Outcome: audit.OK}}, err
			}); err != nil {
				t.Fatal(err)
			}
			return rev
		}
		rev := change(func(ctx context.Context, wr store.Writer) (err error) {
			m, err = wr.Memberships().Put(ctx, m)
			return err
		})
		for range 20 {
			look := func(rev uint64) error {
				return other.View(t.Context(), w.Scope(tenant, rev), func(context.Context, store.Reader) error { return nil })
			}
			if err := look(rev); err != nil {
				t.Fatalf("before: %v", err)
			}
			now := change(func(ctx context.Context, wr store.Writer) (err error) {
				m, err = wr.Memberships().Put(ctx, m)
				return err
			})
			mu.Lock()
			before := told[tenant]
			mu.Unlock()
			if err := look(rev); !errors.Is(err, store.ErrStale) {
				t.Errorf("after: %v", err)
			}
			mu.Lock()
			if told[tenant] == before {
				t.Error("its cache was not told")
			}
			mu.Unlock()
			if err := look(now); err != nil {
				t.Errorf("decided anew: %v", err)
			}
			if err := other.View(t.Context(), w.Scope(ident.Tenant{2}, 1), func(context.Context, store.Reader) error { return nil }); err != nil {
				t.Errorf("another tenant: %v", err)
			}
			rev = now
		}
	})
}

// Transactions of four tenants on four connections that are cancelled, time out and panic at any point: none ever sees or
// writes another tenant's row.
func TestNoTenantContextEverCrosses(t *testing.T) {
	const transactions, callers = 100_000, 64
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	w := storetest.NewWorld(t, func(t testing.TB, o storetest.Options) store.Store { return open(t, server.URL(name, "runtime"), o, 4) })
	scopes, own := make([]access.Scope, 4), make([]device.Device, 4)
	for i := range scopes {
		scopes[i] = w.Scope(ident.Tenant{byte(i + 1)}, 0)
		own[i] = kept(t, w.Store, scopes[i])
	}
	var wg sync.WaitGroup
	var begun atomic.Int64
	for c := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c), 7))
			for begun.Add(1) <= transactions {
				if err := once(t.Context(), w.Store, r, scopes, own); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i, s := range scopes {
		if err := w.Store.View(t.Context(), s, func(ctx context.Context, rd store.Reader) error {
			page, err := rd.Uplinks().List(ctx, store.Query{Reach: access.Everywhere})
			for _, u := range page.Items {
				if u.Source != (ident.Source{byte(i + 1)}) {
					t.Errorf("tenant %d has an uplink of source %v", i, u.Source)
				}
			}
			if len(page.Items) < 100 {
				t.Errorf("tenant %d has %d uplinks", i, len(page.Items))
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// batched are parts of all tenants, each with an uplink that says whose it is; one may be refused.
func batched(r *rand.Rand, scopes []access.Scope) []store.Part {
	parts := make([]store.Part, len(scopes))
	for i := range parts {
		u := uplink.Uplink{Source: ident.Source{byte(i + 1)}, State: uplink.Quarantined, Reason: uplink.UnknownDevice, ArrivedAt: time.Now()}
		ident.Fresh(mint, &u.ID)
		if r.IntN(20) == 0 {
			u.Application = "\x00"
		}
		parts[i] = store.Part{Scope: scopes[i], Rows: []store.Finished{{Uplink: u}}}
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return parts
}

// once is one transaction of a random tenant that comes to a random end; the error is a wall that did not hold.
func once(ctx context.Context, s store.Store, r *rand.Rand, scopes []access.Scope, own []device.Device) (crossed error) {
	i := r.IntN(len(scopes))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch r.IntN(200) { // a connection that is broken off costs more than a hundred transactions
	case 0:
		after := time.Duration(r.IntN(1500)) * time.Microsecond
		ctx, cancel = context.WithTimeout(ctx, after)
		defer cancel()
	case 1:
		timer := time.AfterFunc(time.Duration(r.IntN(1500))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	end := r.IntN(150)
	look := func(ctx context.Context, rd store.Reader) error {
		page, err := rd.Devices().List(ctx, store.Query{Reach: access.Reach{All: true}, Limit: 10})
		if err != nil {
			return err
		}
		if len(page.Items) != 1 || page.Items[0].ID != own[i].ID {
			crossed = fmt.Errorf("tenant %d sees %v", i, page.Items)
		}
		if _, err := rd.Devices().Get(ctx, own[(i+1)%len(own)].ID); !fault.Is(err, fault.NotFound) && ctx.Err() == nil && !fault.Is(err, fault.Unavailable) {
			crossed = errors.Join(crossed, fmt.Errorf("tenant %d reads another's device: %w", i, err))
		}
		switch end {
		case 0:
			cancel()
		case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
			panic("in the middle")
		case 11, 12, 13, 14, 15, 16, 17, 18, 19, 20:
			return errors.New("in the middle")
		}
		return nil
	}
	if r.IntN(100) == 0 {
		_ = s.IngestBatch(ctx, batched(r, scopes))
	}
	if r.IntN(2) == 0 {
		_ = s.View(ctx, scopes[i], look) // however it ended, what it saw was looked at
		return crossed
	}
	_ = s.Ingest(ctx, scopes[i], func(ctx context.Context, f store.Flow) error {
		if err := f.Touch(ctx, "accessor", time.Unix(int64(r.IntN(1000)), 0)); err != nil {
			return err
		}
		return look(ctx, f.Read())
	})
	return crossed
}
