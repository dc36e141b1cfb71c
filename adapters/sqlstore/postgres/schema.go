package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/core/secret"
)

// Migrate brings the schema up to date, as its owner. One process does at a time, the others wait. Programs that run meanwhile go on,
// if the migrations say that they can.
func Migrate(ctx context.Context, url secret.Text) error {
	return bring(ctx, url, migrations, func(ctx context.Context, db *bun.DB) error {
		oldest, err := oldestPrograms(migrations)
		if err != nil {
			return err
		}
		for migration, program := range oldest {
			if _, err := db.DB.ExecContext(ctx, "INSERT INTO oldest_programs (migration, program) VALUES ($1, $2) ON CONFLICT (migration) DO UPDATE SET program = excluded.program", migration, program); err != nil {
				return fmt.Errorf("note which programs work on this schema: %w", err)
			}
		}
		now := time.Now()
		_, err = prepare(ctx, db, now.Add(-DaysBehind*day), now.Add(DaysAhead*day)) // what comes first need not wait for ringfence maintain
		return err
	})
}

// oldestPrograms is what migrations say in their first lines: the oldest program that works on a schema with them.
func oldestPrograms(dir fs.FS) (map[string]string, error) {
	first := regexp.MustCompile(`^-- oldest program: ([0-9]{14})\n`)
	files, err := fs.Glob(dir, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	oldest := map[string]string{}
	for _, file := range files {
		text, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, err
		}
		if said := first.FindSubmatch(text); said != nil {
			oldest[file[len("migrations/"):][:14]] = string(bytes.Clone(said[1]))
		}
	}
	return oldest, nil
}

// bring applies what is missing of a folder's migrations, and does what is to be done after them.
func bring(ctx context.Context, url secret.Text, dir fs.FS, then func(context.Context, *bun.DB) error) error {
	db, err := connect(url)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(2) // the lock's, and the migrations'
	lock, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = lock.Close() }() // and with it the lock is gone
	if _, err := lock.ExecContext(ctx, "SELECT pg_advisory_lock(hashtextextended('ringfence migrations', 0))"); err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	if err := sqlstore.Migrate(ctx, db, dir, "migrations"); err != nil {
		return err
	}
	return then(ctx, db)
}

// Schema is which migrations a database has seen, by name, in order.
type Schema struct {
	Applied []string `json:"applied"`
	Pending []string `json:"pending"`
	Unknown []string `json:"unknown"` // applied by a newer version of this program
	TooOld  []string `json:"too_old"` // those of the unknown that this program does not work with
}

// Refused is why this program does not start on the schema; nil if it does.
func (s Schema) Refused() error {
	switch {
	case len(s.Pending) > 0:
		return errors.New("the database's schema is older than this program; run ringfence migrate up")
	case len(s.TooOld) > 0:
		return fmt.Errorf("the database's schema is newer than this program, and migration %s needs a newer one; use the program that the schema was made for", s.TooOld[len(s.TooOld)-1])
	}
	return nil
}

// Status looks at a database's schema.
func Status(ctx context.Context, url secret.Text) (Schema, error) {
	db, err := connect(url)
	if err != nil {
		return Schema{}, err
	}
	defer func() { _ = db.Close() }()
	return status(ctx, db)
}

func status(ctx context.Context, db *bun.DB) (Schema, error) {
	s := Schema{Applied: []string{}, Pending: []string{}, Unknown: []string{}, TooOld: []string{}}
	m, all, err := sqlstore.Migrator(db, migrations, "migrations")
	if err != nil {
		return s, err
	}
	var there bool
	if err := db.DB.QueryRowContext(ctx, "SELECT to_regclass('public.bun_migrations') IS NOT NULL").Scan(&there); err != nil {
		return s, looked("look at migrations", err)
	}
	known, strange := all.Sorted(), migrate.MigrationSlice(nil)
	if there {
		if known, err = m.MigrationsWithStatus(ctx); err == nil {
			strange, err = m.MissingMigrations(ctx)
		}
		if err != nil {
			return s, looked("look at migrations", err)
		}
	}
	mine := "" // what this program is called by migrations: its newest
	for _, k := range known {
		mine = max(mine, k.Name)
		if k.IsApplied() {
			s.Applied = append(s.Applied, k.Name)
		} else {
			s.Pending = append(s.Pending, k.Name)
		}
	}
	for _, k := range strange {
		s.Unknown = append(s.Unknown, k.Name)
		var suits bool
		if err := db.DB.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM oldest_programs WHERE migration = $1 AND program <= $2 COLLATE "C")`, k.Name, mine).Scan(&suits); err != nil {
			return s, looked("look at migrations", err)
		}
		if !suits {
			s.TooOld = append(s.TooOld, k.Name)
		}
	}
	return s, nil
}

// upToDate refuses a schema that this program does not work on.
func upToDate(ctx context.Context, db *bun.DB) error {
	s, err := status(ctx, db)
	if err != nil {
		return err
	}
	return s.Refused()
}
