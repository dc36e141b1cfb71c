//go:build services

package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// year are the partitions of a test's past, and no others of before the last days.
func year(t testing.TB, server *pgtest.Server, name string, days ...int) {
	t.Helper()
	pgtest.Day()
	server.Recent(t, name)
	for _, d := range days {
		if _, err := postgres.Prepare(t.Context(), server.URL(name, "owner"), ago(d), ago(d)); err != nil {
			t.Fatal(err)
		}
	}
}

func ago(days int) time.Time { return time.Now().UTC().AddDate(0, 0, -days) }

// arrived makes an uplink of a time, and answers it.
func arrived(t testing.TB, s store.Store, scope access.Scope, at time.Time) uplink.Uplink {
	t.Helper()
	at = at.Truncate(time.Microsecond)
	u := uplink.Uplink{State: uplink.Accepted, Address: device.Address{Kind: device.Serial, Value: "a"}, Payload: []byte("p"), Node: ident.Node{1}, Source: ident.Source{1}, ArrivedAt: at, ReceivedAt: at, UpdatedAt: at}
	then := mint
	then.Now = func() time.Time { return at }
	ident.Fresh(then, &u.ID)
	if err := s.Ingest(t.Context(), scope, func(ctx context.Context, f store.Flow) error {
		_, err := f.Accept(ctx, []uplink.Uplink{u})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	u.Rev = 1
	return u
}

// read makes a reading of an uplink.
func read(ctx context.Context, s store.Store, scope access.Scope, d ident.Device, u uplink.Uplink) (r uplink.Reading, err error) {
	u.State, u.Device = uplink.Processed, d
	r = uplink.Reading{Uplink: u.ID, Device: d, Node: ident.Node{1}, At: u.ReceivedAt, Data: []byte(`{"n":1}`)}
	o := uplink.Outcome{Uplink: u.ID, Device: d, Node: ident.Node{1}, At: u.ReceivedAt}
	then := mint
	then.Now = func() time.Time { return u.ReceivedAt }
	ident.Fresh(then, &r.ID)
	ident.Fresh(then, &o.ID)
	return r, s.Ingest(ctx, scope, func(ctx context.Context, f store.Flow) error {
		return f.Finish(ctx, store.Finished{Uplink: u, Reading: &r, Outcome: &o})
	})
}

// tables are how many rows of tables there are, seen by the administrator.
func tables(t testing.TB, db *sql.DB, names ...string) (n []int) {
	t.Helper()
	for _, name := range names {
		n = append(n, 0)
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+name).Scan(&n[len(n)-1]); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// A database of before partitions keeps every row, whatever its day.
func TestWhatIsThereMovesIntoPartitions(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		name := server.Empty(t)
		if err := postgres.MigrateTo(t.Context(), server.URL(name, "owner"), "20261126000001"); err != nil {
			t.Fatal(err)
		}
		admin := connect(t, server.URL(name, ""))
		if _, err := admin.ExecContext(t.Context(), `INSERT INTO readings SELECT decode(lpad(to_hex(n % 7 + 1), 32, '0'), 'hex'), '\x01', (n * 4000)::bigint * 1000000, decode(lpad(to_hex(n), 32, '0'), 'hex'), '\x02', '\x03', '\x04', '\x05', n, true, '', '{}', 'null' FROM generate_series(1, 500) n;
			INSERT INTO uplinks SELECT decode(lpad(to_hex(n % 7 + 1), 32, '0'), 'hex'), decode(lpad(to_hex(n::bigint * 4000000), 12, '0') || repeat('00', 10), 'hex'), 1, '\x01', '\x01', '\x01', CASE n % 5 WHEN 0 THEN 'accepted' ELSE 'processed' END, '', '', '', '', '', 0, 0, false, '', '', '', n, 0, n, 0, 0, 0, 0 FROM generate_series(1, 500) n;
			INSERT INTO outcomes SELECT tenant, id, id, device, node, '', '', '', '', '', 0, 0, '', arrived FROM uplinks`); err != nil {
			t.Fatal(err)
		}
		sums := func() (s string) {
			for _, table := range []string{"readings", "uplinks", "outcomes", "due"} {
				var part string
				if err := admin.QueryRowContext(t.Context(), "SELECT count(*) || md5(string_agg(r::text, ',' ORDER BY r::text)) FROM "+table+" r").Scan(&part); err != nil {
					t.Fatal(err)
				}
				s += part
			}
			return s
		}
		before := sums()
		if err := postgres.Migrate(t.Context(), server.URL(name, "owner")); err != nil {
			t.Fatal(err)
		}
		if after := sums(); after != before || !strings.HasPrefix(after, "500") {
			t.Errorf("%s became %s", before, after)
		}
		if wrong := catalogue(t, admin, ""); len(wrong) > 0 {
			t.Errorf("%q", wrong)
		}
		p, err := postgres.Partitioned(t.Context(), server.URL(name, "runtime"), time.Now())
		if err != nil || p.Ahead != postgres.DaysAhead || p.Oldest["readings"] != "1970-01-01" || p.Count["readings"] != 24+postgres.DaysBehind+1+postgres.DaysAhead || p.Alarm() != "" {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

// Of one moment, a reading's id said at first which is the later.
func TestTheLatestReadingOfAnOlderDatabaseIsTheLastThatWasCounted(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		name := server.Empty(t)
		if err := postgres.MigrateTo(t.Context(), server.URL(name, "owner"), "20261127000030"); err != nil {
			t.Fatal(err)
		}
		admin := connect(t, server.URL(name, ""))
		if _, err := admin.ExecContext(t.Context(), `SET ROLE ringfence_owner; SELECT add_partition('readings', '1970-01-01'); RESET ROLE;
			INSERT INTO readings (tenant, device, at, id, uplink, node, decoder, version, fcnt, has_fcnt, session, data, warnings)
				SELECT '\x01', d, CASE WHEN n = 8 AND d = '\x01' THEN 6 ELSE 5 END, d || id, '\x02' || id, '\x03', '\x04', '\x05', n, true, '', '{}', 'null' FROM (VALUES ('\x00'::bytea), ('\x01')) ds (d), (VALUES ('\x00'::bytea, 9), ('\x01', 10), ('\x02', 8)) rs (id, n);
			INSERT INTO latest (tenant, device, at, id) VALUES ('\x01', '\x00', 5, '\x0002'), ('\x01', '\x01', 6, '\x0102'), ('\x01', '\x02', 6, '\x0202')`); err != nil {
			t.Fatal(err)
		}
		if err := postgres.Migrate(t.Context(), server.URL(name, "owner")); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := admin.QueryRowContext(t.Context(), "SELECT string_agg(encode(device || id, 'hex') || at || ' ' || fcnt, ', ' ORDER BY device) FROM latest").Scan(&got); err != nil || got != "0000015 10, 0101026 8, 0202026 0" {
			t.Error(got, err)
		}
		if wrong := catalogue(t, admin, ""); len(wrong) > 0 {
			t.Errorf("%q", wrong)
		}
	})
}

// A time that no partition was made for is an error that says what to do, and what came with it stays as it was.
func TestATimeWithoutAPartitionIsRefusedWithTheRemedy(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	year(t, server, name)
	w := storetest.NewWorld(t, func(t testing.TB, o storetest.Options) store.Store { return open(t, server.URL(name, "runtime"), o, 0) })
	admin := connect(t, server.URL(name, ""))
	u := arrived(t, w.Store, w.A, ago(0))
	refused := func(u uplink.Uplink) {
		t.Helper()
		_, err := read(t.Context(), w.Store, w.A, ident.Device{1}, u)
		if f := fault.As(err); f == nil || f.Kind != fault.Unavailable || f.Code != "no_partition" || !strings.Contains(f.Message, "ringfence maintain") {
			t.Errorf("%v", err)
		}
	}
	for _, days := range []int{100, -30} {
		late := u
		late.ReceivedAt = ago(days)
		refused(late)
	}
	if n := tables(t, admin, "readings", "latest", "outcomes", "seen", "uplinks WHERE state = 'accepted'"); !slices.Equal(n, []int{0, 0, 0, 0, 1}) {
		t.Errorf("readings, latest, outcomes, seen, accepted: %v", n)
	}
	u.ReceivedAt = ago(100)
	year(t, server, name, 100)
	if _, err := read(t.Context(), w.Store, w.A, ident.Device{1}, u); err != nil {
		t.Error(err)
	}
}

// Many maintainers at once make each partition once, and one that is missing in between is found.
func TestManyMaintainersMakeEachDayOnce(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		name := server.Database(t)
		admin := connect(t, server.URL(name, ""))
		pgtest.Day()
		if _, err := postgres.Prepare(t.Context(), server.URL(name, "owner"), ago(0), ago(-postgres.DaysAhead)); err != nil { // the database may be of yesterday
			t.Fatal(err)
		}
		for n := 1; n <= postgres.DaysAhead; n++ {
			if _, err := admin.ExecContext(t.Context(), "DROP TABLE readings_"+ago(-n).Format("20060102")); err != nil {
				t.Fatal(err)
			}
		}
		ahead := func(want int, alarmed bool) {
			t.Helper()
			p, err := postgres.Partitioned(t.Context(), server.URL(name, "retention"), time.Now())
			if err != nil || p.Ahead != want || (p.Alarm() != "") != alarmed {
				t.Errorf("%+v %q, %v; want %d days ahead", p, p.Alarm(), err, want)
			}
		}
		ahead(0, true)
		var made atomic.Int64
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				names, err := postgres.Prepare(t.Context(), server.URL(name, "owner"), ago(0), ago(-postgres.DaysAhead))
				if err != nil {
					t.Error(err)
				}
				made.Add(int64(len(names)))
			})
		}
		wg.Wait()
		if made.Load() != postgres.DaysAhead { // the others were there
			t.Errorf("%d were made", made.Load())
		}
		ahead(postgres.DaysAhead, false)
		if _, err := admin.ExecContext(t.Context(), "DROP TABLE readings_"+ago(-2).Format("20060102")); err != nil {
			t.Fatal(err)
		}
		ahead(1, true)
		if wrong := catalogue(t, admin, ""); len(wrong) > 0 {
			t.Errorf("%q", wrong)
		}
	})
}

// What the retention role's own sign-in could do, were every check of ours forgotten.
func TestTheRetentionRoleDropsWholeOldDaysAndNothingElse(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		name := server.Database(t)
		year(t, server, name, 40, 35, 31, 29)
		db := connect(t, server.URL(name, "retention"))
		for _, q := range []string{
			"SELECT expire_partition('readings', now())", "SELECT expire_partition('readings', now() - interval '29 days')", "SELECT expire_partition('readings', NULL)", "SELECT expire_partition(NULL, now() - interval '100 days')",
			"SELECT expire_partition('devices', now() - interval '100 days')", "SELECT expire_partition('readings_" + ago(40).Format("20060102") + "', now() - interval '30 days')", "SELECT expire_partition('readings', 'infinity')",
			"SELECT add_partition('readings', '2030-01-01')", "DROP TABLE readings", "DROP TABLE readings_" + ago(40).Format("20060102"), "SELECT 1 FROM readings", "SELECT 1 FROM readings_" + ago(40).Format("20060102"), "DELETE FROM readings", "TRUNCATE readings", "DELETE FROM latest",
			"ALTER TABLE readings DETACH PARTITION readings_" + ago(40).Format("20060102"), "CREATE TABLE mine (a int)", "CREATE OR REPLACE FUNCTION partitions(OUT parent text, OUT name text, OUT starts timestamptz, OUT ends timestamptz) RETURNS SETOF record LANGUAGE sql AS 'SELECT NULL, NULL, NULL, NULL'",
			"SET ROLE ringfence_owner", "ALTER FUNCTION expire_partition(text, timestamptz) OWNER TO ringfence_retention",
		} {
			if _, err := db.ExecContext(t.Context(), q); err == nil {
				t.Errorf("not refused: %s", q)
			}
		}
		// Names of one's own do not take the place of the database's.
		if _, err := db.ExecContext(t.Context(), "CREATE TEMP TABLE due (id bytea); CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$; SET search_path = pg_temp, public, pg_catalog; SELECT public.expire_partition('readings', pg_catalog.now() - interval '29 days')"); err == nil {
			t.Error("a false clock was believed")
		}
		if _, err := postgres.Expire(t.Context(), server.URL(name, "retention"), time.Now(), postgres.Kept{Uplinks: 29, Readings: 40}); err == nil {
			t.Error("29 days were taken")
		}
		if _, err := postgres.Expire(t.Context(), server.URL(name, "retention"), time.Now(), postgres.Kept{Uplinks: 40, Readings: 41}); err == nil {
			t.Error("readings were to go while what they come of may wait")
		}
		dropped, err := postgres.Expire(t.Context(), server.URL(name, "retention"), time.Now(), postgres.Kept{Uplinks: 32, Readings: 34})
		var want []string
		for _, table := range []string{"uplinks_", "outcomes_", "readings_"} {
			want = append(want, table+ago(40).Format("20060102"), table+ago(35).Format("20060102"))
		}
		if err != nil || !slices.Equal(dropped, want) {
			t.Errorf("dropped %v, %v; want %v", dropped, err, want)
		}
		if dropped, err := postgres.Expire(t.Context(), server.URL(name, "retention"), time.Now(), postgres.Kept{Uplinks: 30, Readings: 32}); err != nil || len(dropped) != 2 {
			t.Errorf("dropped %v, %v; want two", dropped, err)
		}
		for _, role := range []string{"runtime", "backup"} {
			if _, err := postgres.Expire(t.Context(), server.URL(name, role), time.Now(), postgres.Kept{Uplinks: 30, Readings: 32}); err == nil {
				t.Errorf("%s drops", role)
			}
		}
	})
}

// Days are dropped while others read and write: nobody is refused, what is kept is all there, and what is gone is missing.
func TestDaysAreDroppedUnderLoad(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		name := server.Database(t)
		days := make([]int, 30)
		for i := range days {
			days[i] = 60 + i
		}
		year(t, server, name, days...)
		w := storetest.NewWorld(t, func(t testing.TB, o storetest.Options) store.Store { return open(t, server.URL(name, "runtime"), o, 8) })
		devices := []ident.Device{{1}, {2}}
		var old []uplink.Reading
		for _, d := range days {
			for _, scope := range []access.Scope{w.A, w.B} {
				arrived(t, w.Store, scope, ago(d)) // one that waits until it is gone
				u := arrived(t, w.Store, scope, ago(d))
				r, err := read(t.Context(), w.Store, scope, devices[0], u)
				if err != nil {
					t.Fatal(err)
				}
				old = append(old, r)
			}
		}
		stop := make(chan struct{})
		var written, looked atomic.Int64
		var wg sync.WaitGroup
		for c := range 6 {
			scope := []access.Scope{w.A, w.B}[c%2]
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if c < 3 {
						u := arrived(t, w.Store, scope, ago(0))
						if _, err := read(t.Context(), w.Store, scope, devices[1], u); err != nil {
							t.Errorf("writing: %v", err)
							return
						}
						written.Add(1)
						continue
					}
					if err := look(t.Context(), w.Store, scope, devices, old); err != nil {
						t.Errorf("reading: %v", err)
						return
					}
					looked.Add(1)
				}
			})
		}
		dropped := []string{}
		for len(dropped) < 3*len(days)-1 && !t.Failed() {
			more, err := postgres.Expire(t.Context(), server.URL(name, "retention"), time.Now(), postgres.Kept{Uplinks: 58, Readings: 60})
			if err != nil {
				t.Error(err)
			}
			dropped = append(dropped, more...)
		}
		for before := looked.Load(); looked.Load() < before+20 && !t.Failed(); { // and they go on after it
			if err := look(t.Context(), w.Store, w.A, devices, old); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		wg.Wait()
		admin := connect(t, server.URL(name, ""))
		want := int(written.Load())
		if n := tables(t, admin, "readings", "uplinks", "outcomes", "due"); !slices.Equal(n, []int{want + 2, want, want, 0}) || len(dropped) != 3*len(days)-1 {
			t.Errorf("readings, uplinks, outcomes, due: %v after %d were written and %d partitions dropped", n, want, len(dropped))
		}
		t.Logf("%d partitions were dropped while %d were written and %d looked", len(dropped), written.Load(), looked.Load())
	})
}

// look reads as people do: the latest reading, an old one by its id, a page.
func look(ctx context.Context, s store.Store, scope access.Scope, devices []ident.Device, old []uplink.Reading) error {
	return s.View(ctx, scope, func(ctx context.Context, r store.Reader) error {
		for _, reach := range []access.Reach{access.Everywhere, {Nodes: []ident.Node{{1}}}} {
			for _, d := range devices {
				if got, err := r.Readings().Latest(ctx, d, reach); err != nil && !fault.Is(err, fault.NotFound) || err == nil && got.Device != d {
					return fmt.Errorf("latest of %v: %w", d, err)
				}
			}
		}
		for _, r0 := range old[:4] {
			if _, err := r.Uplinks().Get(ctx, r0.Uplink); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			if _, err := r.Outcomes().Find(ctx, store.Query{Reach: access.Everywhere}, store.OutcomeFilter{Uplink: r0.Uplink}); err != nil {
				return err
			}
		}
		if _, err := r.Uplinks().Due(ctx, time.Now(), 10); err != nil {
			return err
		}
		_, err := r.Readings().Find(ctx, store.Query{Reach: access.Everywhere, Limit: 50}, store.ReadingFilter{})
		return err
	})
}

// The latest value of a device that fell silent long ago goes with its day: it is missing then, like one that never was, and no
// other tenant's.
func TestTheLatestReadingIsMissingOnceItsDayIsDropped(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	year(t, server, name, 50, 45)
	w := storetest.NewWorld(t, func(t testing.TB, o storetest.Options) store.Store { return open(t, server.URL(name, "runtime"), o, 0) })
	d := ident.Device{1}
	made := map[access.Scope]uplink.Reading{}
	for scope, days := range map[access.Scope]int{w.A: 50, w.B: 45} { // a device of the same id, in both
		u := arrived(t, w.Store, scope, ago(0))
		u.ReceivedAt = ago(days).Truncate(time.Microsecond)
		r, err := read(t.Context(), w.Store, scope, d, u)
		if err != nil {
			t.Fatal(err)
		}
		made[scope] = r
	}
	if dropped, err := postgres.Expire(t.Context(), server.URL(name, "retention"), time.Now(), postgres.Kept{Uplinks: 44, Readings: 46}); err != nil || len(dropped) != 5 {
		t.Fatalf("%v, %v", dropped, err)
	}
	for scope, there := range map[access.Scope]bool{w.A: false, w.B: true} {
		if err := w.Store.View(t.Context(), scope, func(ctx context.Context, r store.Reader) error {
			for _, reach := range []access.Reach{access.Everywhere, {Nodes: []ident.Node{{1}}}} {
				got, err := r.Readings().Latest(ctx, d, reach)
				if there && (err != nil || got.ID != made[scope].ID) || !there && (!fault.Is(err, fault.NotFound) || err.Error() != fault.Missing().Error()) {
					t.Errorf("latest: %v, %v; want there %v", got.ID, err, there)
				}
			}
			page, err := r.Readings().Find(ctx, store.Query{Reach: access.Everywhere, Limit: 10}, store.ReadingFilter{Device: d})
			if want := map[bool]int{true: 1}[there]; len(page.Items) != want || want == 1 && page.Items[0].ID != made[scope].ID {
				t.Errorf("by its device: %v", page.Items)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	u := arrived(t, w.Store, w.A, ago(0)) // and the device speaks again
	if r, err := read(t.Context(), w.Store, w.A, d, u); err != nil {
		t.Error(err)
	} else if err := w.Store.View(t.Context(), w.A, func(ctx context.Context, rd store.Reader) error {
		got, err := rd.Readings().Latest(ctx, d, access.Everywhere)
		if err == nil && got.ID != r.ID {
			t.Errorf("latest %v", got.ID)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// An uplink that still waits when its day is dropped is waited for no more: the queue and the backlog forget it, its tenant is named
// to no worker, and whoever asks for it is told that there is none.
func TestWhatWaitsIsForgottenWithItsDay(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	year(t, server, name, 50, 40)
	w := storetest.NewWorld(t, func(t testing.TB, o storetest.Options) store.Store { return open(t, server.URL(name, "runtime"), o, 0) })
	gone, kept, decoded := arrived(t, w.Store, w.A, ago(50)), arrived(t, w.Store, w.B, ago(40)), arrived(t, w.Store, w.A, ago(50))
	decoded.ReceivedAt = ago(40).Truncate(time.Microsecond)
	r, err := read(t.Context(), w.Store, w.A, ident.Device{1}, decoded)
	if err != nil {
		t.Fatal(err)
	}
	if dropped, err := postgres.Expire(t.Context(), server.URL(name, "retention"), time.Now(), postgres.Kept{Uplinks: 45, Readings: 50}); err != nil || len(dropped) != 2 {
		t.Fatalf("%v, %v", dropped, err)
	}
	if waiting, err := w.Store.Directory().Waiting(t.Context(), time.Now(), 10); err != nil || len(waiting) != 1 || waiting[0].Tenant != w.B.Tenant() {
		t.Errorf("waiting: %v, %v", waiting, err)
	}
	for scope, want := range map[access.Scope][]ident.Uplink{w.A: {}, w.B: {kept.ID}} {
		if err := w.Store.View(t.Context(), scope, func(ctx context.Context, rd store.Reader) error {
			due, err := rd.Uplinks().Due(ctx, time.Now(), 10)
			n, err2 := rd.Uplinks().Backlog(ctx)
			if err != nil || err2 != nil || len(due) != len(want) || n != len(want) || len(due) == 1 && due[0].ID != want[0] {
				t.Errorf("due %d, backlog %d, %v, %v; want %d", len(due), n, err, err2, len(want))
			}
			for _, id := range []ident.Uplink{gone.ID, decoded.ID} {
				if _, err := rd.Uplinks().Get(ctx, id); !fault.Is(err, fault.NotFound) {
					t.Errorf("an uplink that is gone: %v", err)
				}
			}
			page, err := rd.Readings().Find(ctx, store.Query{Reach: access.Everywhere, Limit: 10}, store.ReadingFilter{Device: r.Device, From: r.At, To: r.At.Add(time.Microsecond)})
			if err != nil || scope == w.A && (len(page.Items) != 1 || page.Items[0].Uplink != decoded.ID) || scope == w.B && len(page.Items) != 0 {
				t.Errorf("its reading, which is kept for longer: %v, %v", page.Items, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}
