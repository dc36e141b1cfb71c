// Package sqlite opens sqlstore on an embedded SQLite database: one file, no other service, every commit synced.
package sqlite

import (
	"context"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"runtime"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"

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
	Beside  bool   // another process may have the file open: its schema is left as it is, or refused, and nothing is tidied
}

// Open opens the file, which its owner alone can read, brings its schema up to date and starts the writer.
func Open(ctx context.Context, o Options) (*sqlstore.Store, error) { return open(ctx, o, nil) }

// open opens with connections that wrap may have put something around.
func open(ctx context.Context, o Options, wrap func(driver.Conn) driver.Conn) (*sqlstore.Store, error) {
	if err := closed(o.Path); err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Path, err)
	}
	file := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: o.Path}).EscapedPath()}).String()
	wait := "5000"
	if o.Beside { // there is no queue: it has to look just between two groups of a server that always writes
		wait = "20000"
	}
	write, err := pool(file, written(wait), "&_txlock=immediate", wrap)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Path, err)
	}
	write.SetMaxOpenConns(1)
	db := bun.NewDB(write, sqlitedialect.New())
	foreign, tidy := "PRAGMA data_version", "PRAGMA wal_checkpoint(PASSIVE)"
	if o.Beside {
		foreign, tidy = "", ""
		err = upToDate(ctx, db)
	} else {
		err = Migrate(ctx, db)
	}
	if err != nil {
		_ = write.Close()
		return nil, err
	}
	reading, err := pool(file, read(), "", wrap)
	if err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("open %s for reading: %w", o.Path, err)
	}
	conns := max(4, 2*runtime.GOMAXPROCS(0))
	reading.SetMaxOpenConns(conns)
	reading.SetMaxIdleConns(conns)
	return sqlstore.New(ctx, sqlstore.Options{
		Write: db, Read: bun.NewDB(reading, sqlitedialect.New()), Dialect: dialect(), Begin: "BEGIN IMMEDIATE",
		Foreign: foreign, Tidy: tidy, Now: o.Now, Revised: o.Revised, Version: o.Version, Node: o.Node,
	})
}

// dialect is SQLite's: one writer, which needs no lock and has no wall beside ours.
func dialect() sqlstore.Dialect {
	return sqlstore.Dialect{
		Greatest: "max", Refused: refused,
		Tenants: "SELECT tenant FROM audit_heads WHERE tenant > ? ORDER BY tenant LIMIT ?",
		// It skips from tenant to tenant along the queue's index.
		Waiting: `WITH RECURSIVE t(tenant) AS (
			SELECT min(tenant) FROM uplinks WHERE state = 'accepted'
			UNION ALL SELECT (SELECT min(tenant) FROM uplinks WHERE state = 'accepted' AND tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL)
			SELECT hex(tenant), due FROM (SELECT tenant, (SELECT arrived FROM uplinks u WHERE u.tenant = t.tenant AND u.state = 'accepted' AND u.not_before <= ? ORDER BY arrived LIMIT 1) AS due FROM t WHERE tenant IS NOT NULL)
			WHERE due IS NOT NULL ORDER BY due LIMIT ?`,
	}
}

// refused is an error of a statement for what it says: SQLITE_CONSTRAINT.
func refused(err error) (asked, always bool) {
	var of *sqlite.Error
	is := errors.As(err, &of) && of.Code()&0xff == 19
	return is, is
}

// closed makes the file if it is not there, and takes from all but the owner what they may do with it. SQLite makes its other
// files with the mode of this one. It is opened only while it is new: closing it would let go of the locks that another
// connection of this process has on it.
func closed(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // named by the caller
	if err == nil {
		return f.Close()
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(name, info.Mode().Perm()&^0o077)
		}
		if err != nil && (name == path || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// Migrate applies the migrations that the database has not seen.
func Migrate(ctx context.Context, db *bun.DB) error {
	return sqlstore.Migrate(ctx, db, migrations, "migrations")
}

// upToDate refuses a schema that is another version's: the process that has the file open would be left with ours.
func upToDate(ctx context.Context, db *bun.DB) error {
	m, _, err := sqlstore.Migrator(db, migrations, "migrations")
	if err != nil {
		return err
	}
	known, err := m.MigrationsWithStatus(ctx)
	if err != nil {
		return fmt.Errorf("look at migrations: %w", err)
	}
	strange, err := m.MissingMigrations(ctx)
	if err != nil {
		return fmt.Errorf("look at migrations: %w", err)
	}
	if len(known.Unapplied()) > 0 || len(strange) > 0 {
		return errors.New("the database is of another version of this program; use the program that serves it")
	}
	return nil
}
