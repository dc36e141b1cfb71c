package sqlstore

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"
)

// Migrator knows the migrations in a folder, which are also answered. One that fails is not marked as applied.
func Migrator(db *bun.DB, dir fs.FS, below string) (*migrate.Migrator, *migrate.Migrations, error) {
	dir, err := fs.Sub(dir, below)
	if err != nil {
		return nil, nil, err
	}
	known := migrate.NewMigrations()
	if err := known.Discover(dir); err != nil {
		return nil, nil, fmt.Errorf("read migrations: %w", err)
	}
	return migrate.NewMigrator(db, known, migrate.WithMarkAppliedOnSuccess(true)), known, nil
}

// Migrate applies the migrations in a folder that a database has not seen.
func Migrate(ctx context.Context, db *bun.DB, dir fs.FS, below string) error {
	m, _, err := Migrator(db, dir, below)
	if err != nil {
		return err
	}
	if err := m.Init(ctx); err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	if _, err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
