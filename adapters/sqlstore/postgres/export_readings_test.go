//go:build services

package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/ringfence/ringfence/ports/store"
)

// Readings writes the readings of parts and nothing else, the way that batches do, in one transaction.
func Readings(ctx context.Context, db *sql.DB, parts []store.Part) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	err = conn.Raw(func(driver any) error {
		b := &batching{conn: driver.(*stdlib.Conn).Conn()} //nolint:errcheck,forcetypeassert // a test's own
		show, write, err := b.prepared(ctx, newTexts().show, "INSERT INTO readings (tenant, "+readingNames+") SELECT $1::bytea, x.* FROM "+unnested(2, readingTypes)+" AS x")
		if err != nil {
			return err
		}
		args := newArguments(readingTypes)
		return b.ask(ctx, func() error {
			for i := range parts {
				args.begin()
				var errs []error
				for _, n := range inOrder(&parts[i]) {
					errs = append(errs, fillReading(args.columns, parts[i].Rows[n].Reading))
				}
				t := parts[i].Scope.Tenant()
				errs = append(errs, b.shown(show, &parts[i]), b.send(write, nothing, args.with(t[:])...))
				if err := errors.Join(errs...); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return errors.Join(err, tx.Commit())
}
