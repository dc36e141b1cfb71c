package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/core/ident"
)

// Fingerprint is a digest of all that a tenant has in a database file, which may be in use: every row of every table that has
// a tenant, less the tables that the caller names. Tests hold with it that nobody else's request, and nothing that failed,
// changed a thing.
func Fingerprint(ctx context.Context, file string, t ident.Tenant, except ...string) (digest string, err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	var tables []string
	err = each(ctx, db, "SELECT m.name FROM sqlite_master m WHERE m.type = 'table' AND EXISTS (SELECT 1 FROM pragma_table_info(m.name) WHERE name = 'tenant') ORDER BY 1", func(row []any) {
		if name := fmt.Sprint(row...); !slices.Contains(except, name) {
			tables = append(tables, name)
		}
	})
	h := sha256.New()
	for _, name := range tables {
		if err == nil {
			var held []string
			err = each(ctx, db, "SELECT * FROM "+name+" WHERE tenant = ?", func(row []any) { held = append(held, fmt.Sprintf("%s%q\n", name, row)) }, t[:])
			slices.Sort(held)
			_, _ = io.WriteString(h, strings.Join(held, ""))
		}
	}
	if err == nil && len(tables) == 0 {
		err = errors.New("sqlite: no table in " + file + " has a tenant")
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// each hands out the rows of a query.
func each(ctx context.Context, db *sql.DB, query string, do func([]any), args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	columns, err := rows.Columns()
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for err == nil && rows.Next() {
		if err = rows.Scan(into...); err == nil {
			do(values)
		}
	}
	return errors.Join(err, rows.Err(), rows.Close())
}
