package sqlite

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// directory are the tables that are asked before a tenant is known, and bun's own: everything else belongs to a tenant.
var directory = []string{"locations", "known", "bun_migrations", "bun_migration_locks"}

// Every table of a tenant's has the tenant first in its primary key and in each index, and no row without one; SQLite has this
// one wall.
func TestEveryKeyBeginsWithTheTenant(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ringfence.db")
	s, err := Open(t.Context(), Options{Path: file, Now: time.Now, Version: "test", Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables, wrong := catalogue(t, file, "")
	if len(wrong) > 0 || tables < 30 {
		t.Errorf("%d tables; %q", tables, wrong)
	}
	for name, planted := range map[string]string{
		"readings_by_time":  "CREATE INDEX readings_by_time ON readings (at)",
		"notes: no tenant":  "CREATE TABLE notes (id BLOB PRIMARY KEY, text TEXT)",
		"drafts: tenant":    "CREATE TABLE drafts (tenant BLOB, id BLOB NOT NULL, PRIMARY KEY (tenant, id))",
		"sqlite_autoindex_": "CREATE TABLE slugs (tenant BLOB NOT NULL, slug TEXT NOT NULL UNIQUE, PRIMARY KEY (tenant, slug)) WITHOUT ROWID",
		"labels: key":       "CREATE TABLE labels (tenant BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (id, tenant)) WITHOUT ROWID",
	} {
		if _, wrong := catalogue(t, file, planted); !strings.Contains(strings.Join(wrong, "\n"), name) {
			t.Errorf("not found: %s, in %q", planted, wrong)
		}
	}
}

// catalogue looks at every table that exists, after planted was executed, which is then rolled back.
func catalogue(t *testing.T, file, planted string) (tables int, wrong []string) {
	t.Helper()
	db, err := pool("file:"+file, written("5000"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if planted != "" {
		if _, err := tx.ExecContext(t.Context(), planted); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(query string, args ...any) (out [][]string) {
		rows, err := tx.QueryContext(context.WithoutCancel(t.Context()), query, args...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			row, into := make([]string, len(columns)), make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			out = append(out, row)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, table := range ask("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1") {
		name := table[0]
		if slices.Contains(directory, name) {
			continue
		}
		tables++
		column := ask(`SELECT "notnull", pk FROM pragma_table_info(?) WHERE name = 'tenant'`, name)
		switch {
		case len(column) == 0:
			wrong = append(wrong, name+": no tenant")
		case column[0][0] != "1":
			wrong = append(wrong, name+": tenant may be absent")
		case column[0][1] != "1":
			wrong = append(wrong, name+": key does not begin with the tenant")
		}
		for _, index := range ask("SELECT il.name, ii.name FROM pragma_index_list(?) il, pragma_index_info(il.name) ii WHERE ii.seqno = 0", name) {
			if index[1] != "tenant" {
				wrong = append(wrong, index[0]+" begins with "+index[1])
			}
		}
	}
	return tables, wrong
}
