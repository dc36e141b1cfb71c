package sqlite

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// before is the migrations whose names come before one, on a new database.
func before(t *testing.T, file, name string) *bun.DB {
	t.Helper()
	conns, err := pool("file:"+file, written("5000"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	conns.SetMaxOpenConns(1)
	older := fstest.MapFS{}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if text, err := migrations.ReadFile(n); err != nil {
			t.Fatal(err)
		} else if short := filepath.Base(n); short < name {
			older[short] = &fstest.MapFile{Data: text}
		}
	}
	db := bun.NewDB(conns, sqlitedialect.New())
	if err := sqlstore.Migrate(t.Context(), db, older, "."); err != nil {
		t.Fatal(err)
	}
	return db
}

// What the first versions kept in tables of hashes and of private values, and did not count, is found where it is today.
func TestAnOlderLogIsBroughtUpToDate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ringfence.db")
	db := before(t, file, "20261126000004")
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.DB.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	tenants := []ident.Tenant{{1}, {2}}
	sizes, want := []int{21, 3}, make([][]audit.Hash, 2)
	for i, tenant := range tenants {
		head := audit.Head{Tenant: tenant}
		for n := range sizes[i] {
			ev := audit.Event{ID: ident.Entry{byte(n + 1)}, Action: audit.DeviceCreated, Target: audit.Target{Kind: "device", ID: "x"}, Outcome: audit.OK,
				Changes: []audit.Change{audit.Set("name", "", "pump")}}
			ev.Changes[0].New.Nonce, ev.Changes[0].New.Sealed = [16]byte{byte(n)}, []byte{7, byte(n)}
			out, err := audit.Append(head, audit.Context{Tenant: tenant, ActorKind: "human", Actor: "usr"}, []audit.Event{ev}, time.Unix(1_790_000_000+int64(n), 0))
			if err != nil {
				t.Fatal(err)
			}
			head, want[i] = out.Head, append(want[i], out.Hashes...)
			e, p := out.Entries[0], out.Entries[0].Private[0]
			exec("INSERT INTO audit_entries (tenant, seq, id, at, actor, action, kind, target, path, outcome, request, leaf) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
				tenant[:], n, e.ID[:], e.At.UnixMicro(), e.Actor, e.Action, e.Kind, e.Target, e.Path, e.Outcome, e.Request, e.Leaf)
			for k, h := range out.Hashes {
				exec("INSERT INTO audit_hashes (tenant, idx, hash) VALUES (?, ?, ?)", tenant[:], out.FirstIndex+int64(k), h[:])
			}
			exec("INSERT INTO audit_private (tenant, seq, field, new, nonce, sealed) VALUES (?, ?, ?, ?, ?, ?)", tenant[:], n, p.Field, p.New, p.Nonce[:], p.Sealed)
			exec("INSERT INTO devices (tenant, id, rev, state, body) VALUES (?, ?, 1, ?, '{}')", tenant[:], e.ID[:], []string{"active", "deleted"}[n%2])
		}
		exec("INSERT INTO audit_heads (tenant, size, last, edge, revision) VALUES (?, ?, ?, ?, 1)", tenant[:], head.Size, head.Last.UnixMicro(), []byte{})
	}
	s := upgraded(t, db, file)
	for i, tenant := range tenants {
		err := s.View(t.Context(), new(storetest.World).Scope(tenant, 0), func(ctx context.Context, r store.Reader) error {
			indexes := make([]int64, len(want[i]))
			for k := range indexes {
				indexes[k] = int64(k)
			}
			got, err := r.Audit().Hashes(ctx, indexes)
			if err != nil || !slices.Equal(got, want[i]) {
				t.Errorf("tenant %d: %d hashes, want %d: %v", i, len(got), len(want[i]), err)
			}
			page, err := r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, store.AuditFilter{})
			if err != nil || len(page.Items) != sizes[i] {
				t.Errorf("tenant %d: %d entries, want %d: %v", i, len(page.Items), sizes[i], err)
			}
			alive, err := r.Devices().Count(ctx)
			if alive != (sizes[i]+1)/2 {
				t.Errorf("tenant %d: %d devices alive, want %d", i, alive, (sizes[i]+1)/2)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := answered(t, file, "SELECT private FROM audit_entries WHERE tenant = ? AND seq = 20", tenants[0][:]); got != `[{"Field":"name","New":true,"Nonce":"14000000000000000000000000000000","Sealed":"0714"}]` {
		t.Errorf("private values of an entry: %s", got)
	}
}

// upgraded is an older database that was opened by the present program.
func upgraded(t *testing.T, db *bun.DB, file string) *sqlstore.Store {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Path: file, Now: time.Now, Version: "test", Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Nodes were not looked for by name at first: those that stand already are found by it too.
func TestNodesOfAnOlderDatabaseAreFoundByName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ringfence.db")
	db := before(t, file, "20261126000007")
	tenant, node := ident.Tenant{1}, ident.Node{7}
	if _, err := db.DB.ExecContext(t.Context(), "INSERT INTO nodes (tenant, id, rev, node, state, body) VALUES (?, ?, 1, ?, 'alive', ?)", tenant[:], node[:], node[:], []byte(`{"Name":"Pump \"é\""}`)); err != nil {
		t.Fatal(err)
	}
	s := upgraded(t, db, file)
	if err := s.View(t.Context(), new(storetest.World).Scope(tenant, 0), func(ctx context.Context, r store.Reader) error {
		page, err := r.Nodes().Named(ctx, `Pump "é"`, store.Query{Reach: access.Everywhere})
		if len(page.Items) != 1 {
			t.Errorf("%v", page.Items)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A reading did not say at first whether its event had a counter.
func TestReadingsOfAnOlderDatabaseHaveTheCounterOfTheirEvent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ringfence.db")
	db := before(t, file, "20261126000009")
	for i, has := range []bool{true, false} {
		id := []byte{byte(i)}
		if _, err := db.DB.ExecContext(t.Context(), `INSERT INTO uplinks VALUES (x'01', ?1, 1, x'', x'', x'', 'processed', '', '', '', '', '', 0, 0, ?2, x'', x'', x'', 0, 0, 0, 0, 0, 0, 0);
			INSERT INTO readings VALUES (x'01', x'', 0, ?1, ?1, x'', x'', x'', 0, '', x'', x'')`, id, has); err != nil {
			t.Fatal(err)
		}
	}
	s := upgraded(t, db, file)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := answered(t, file, "SELECT group_concat(has_fcnt, ' ') FROM (SELECT has_fcnt FROM readings ORDER BY id)"); got != "1 0" {
		t.Errorf("%s", got)
	}
}

// Of one moment, a reading's id said at first which is the later.
func TestTheLatestReadingOfAnOlderDatabaseIsTheLastThatWasCounted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ringfence.db")
	db := before(t, file, "20261127000031")
	for id, counter := range []int{9, 10, 8} {
		for device := range 2 {
			if _, err := db.DB.ExecContext(t.Context(), "INSERT INTO readings (tenant, device, at, id, uplink, node, decoder, version, fcnt, session, data, warnings, has_fcnt) VALUES (x'01', ?1, 5 + (?3 = 8 AND ?1 = x'01'), ?2, x'02' || ?2, x'03', x'04', x'05', ?3, 's', x'06', x'07', 1)",
				[]byte{byte(device)}, []byte{byte(device), byte(id)}, counter); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := db.DB.ExecContext(t.Context(), "INSERT INTO latest (tenant, device, at, id) VALUES (x'01', x'00', 5, x'0002'), (x'01', x'01', 6, x'0102'), (x'01', x'02', 6, x'0202')"); err != nil {
		t.Fatal(err)
	}
	if err := upgraded(t, db, file).Close(); err != nil {
		t.Fatal(err)
	}
	if got := answered(t, file, "SELECT group_concat(hex(device || id) || at || ' ' || fcnt, ', ') FROM (SELECT * FROM latest ORDER BY device)"); got != "0000015 10, 0101026 8" {
		t.Error(got)
	}
	if got := answered(t, file, "SELECT group_concat(hex(id || uplink || node || decoder || version || data || warnings) || session || has_fcnt || fcnt, ', ') FROM (SELECT * FROM readings ORDER BY device, at, fcnt)"); got !=
		"00020200020304050607s18, 00000200000304050607s19, 00010200010304050607s110, 01000201000304050607s19, 01010201010304050607s110, 01020201020304050607s18" {
		t.Error(got)
	}
}

func answered(t *testing.T, file, query string, args ...any) (text string) {
	t.Helper()
	db, err := pool("file:"+file, read(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// An entry is written once. What may be overwritten is its private values, so that they can be destroyed.
func TestAnEntryIsNeverChangedButForItsPrivateValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ringfence.db")
	s, err := Open(t.Context(), Options{Path: file, Now: time.Now, Version: "test", Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256([]byte("entry"))
	ev := audit.Event{ID: ident.Entry(id[:16]), Action: audit.DeviceCreated, Target: audit.Target{Kind: "device"}, Outcome: audit.OK}
	if err := s.Change(t.Context(), new(storetest.World).Scope(ident.Tenant{1}, 0), func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := pool("file:"+file, written("5000"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), "SELECT name FROM pragma_table_info('audit_entries')")
	if err != nil {
		t.Fatal(err)
	}
	var columns []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		columns = append(columns, name)
	}
	if err := rows.Err(); err != nil || len(columns) != 14 {
		t.Fatalf("columns %q, %v", columns, err)
	}
	for _, c := range columns {
		_, err := db.ExecContext(t.Context(), "UPDATE audit_entries SET "+c+" = "+c) //nolint:gosec // a column's name
		if refused := err != nil && strings.Contains(err.Error(), "never changed"); refused == (c == "private") {
			t.Errorf("writing on %s: %v", c, err)
		}
	}
	if _, err := db.ExecContext(t.Context(), "DELETE FROM audit_entries"); err == nil || !strings.Contains(err.Error(), "never deleted") {
		t.Errorf("deleting: %v", err)
	}
}

func TestAnotherVersionsSchemaIsLeftAloneBesideItsServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ringfence.db")
	older := before(t, file, "20261126000007")
	o := Options{Path: file, Now: time.Now, Version: "test", Node: "test", Beside: true}
	if s, err := Open(t.Context(), o); err == nil {
		t.Error("an older schema is taken", s.Close())
	}
	if err := older.Close(); err != nil {
		t.Fatal(err)
	}
	first, err := Open(t.Context(), Options{Path: file, Now: time.Now, Version: "test", Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if got := answered(t, file, "SELECT count(*) FROM bun_migrations WHERE name >= '20261126000007'"); got == "0" {
		t.Error("the server did not bring its own schema up to date")
	}
}
