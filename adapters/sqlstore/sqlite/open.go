// Package sqlite opens sqlstore on an embedded SQLite database: one file, no other service, every commit synced.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"net/url"
	"runtime"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/migrate"
	_ "modernc.org/sqlite" // the driver registers itself: database/sql knows no other way

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/ports/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options of a database.
type Options struct {
	Path    string // of the file; its folder must exist
	Now     func() time.Time
	Revised store.Revised
	Version string // of our program, for audit entries
	Node    string // which of our processes
}

// durable are the pragmas of the writing connection: nothing is acknowledged that a power cut could take back.
const durable = "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=temp_store(MEMORY)&_pragma=wal_autocheckpoint(16000)&_pragma=foreign_keys(1)&_txlock=immediate"

// reading are those of the reading ones.
const reading = "_pragma=busy_timeout(5000)&_pragma=query_only(1)&_pragma=foreign_keys(1)"

// Open opens the file, brings its schema up to date and starts the writer.
func Open(ctx context.Context, o Options) (*sqlstore.Store, error) {
	file := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: o.Path}).EscapedPath()}).String()
	write, err := sql.Open("sqlite", file+"?"+durable)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Path, err)
	}
	write.SetMaxOpenConns(1)
	db := bun.NewDB(write, sqlitedialect.New())
	if err := Migrate(ctx, db); err != nil {
		_ = write.Close()
		return nil, err
	}
	read, err := sql.Open("sqlite", file+"?"+reading)
	if err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("open %s for reading: %w", o.Path, err)
	}
	pool := max(4, 2*runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(pool)
	read.SetMaxIdleConns(pool)
	return sqlstore.New(ctx, sqlstore.Options{
		Write: db, Read: bun.NewDB(read, sqlitedialect.New()), Begin: "BEGIN IMMEDIATE",
		Foreign: "PRAGMA data_version", Tidy: "PRAGMA wal_checkpoint(PASSIVE)", Now: o.Now, Revised: o.Revised, Version: o.Version, Node: o.Node,
	})
}

// Migrate applies the migrations that the database has not seen.
func Migrate(ctx context.Context, db *bun.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	known := migrate.NewMigrations()
	if err := known.Discover(dir); err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	m := migrate.NewMigrator(db, known, migrate.WithMarkAppliedOnSuccess(true))
	if err := m.Init(ctx); err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	if _, err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
