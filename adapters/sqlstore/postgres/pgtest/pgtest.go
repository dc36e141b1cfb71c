// Package pgtest gives tests databases on the PostgreSQL servers that deploy/testbed/with started: each one new, with its
// schema, and signed in to by the roles of roles.sql.
package pgtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver registers itself

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
)

// Variables that name a server, by the URL that an administrator of the cluster signs in with.
const (
	Oldest = "TESTBED_POSTGRES"
	Newest = "TESTBED_POSTGRES_NEWEST"
)

// Server is one PostgreSQL server with our roles and a migrated database to copy.
type Server struct {
	admin    *url.URL
	template func() (string, error) // makes it once
}

// New is the server that a variable of the environment names.
func New(variable string) *Server {
	s := &Server{}
	s.template = sync.OnceValues(func() (string, error) {
		said := os.Getenv(variable)
		admin, err := url.Parse(said)
		if err != nil || said == "" {
			return "", errors.New(variable + " names no server; make test starts one, or deploy/testbed/with go test -tags services ./…")
		}
		s.admin = admin
		ctx := context.Background()
		if err := s.Ask(ctx, "postgres", "SELECT pg_advisory_lock(1)", postgres.Roles, "ALTER ROLE ringfence_owner PASSWORD 'owner'", "ALTER ROLE ringfence_runtime PASSWORD 'runtime'",
			"ALTER ROLE ringfence_retention PASSWORD 'retention'", "ALTER ROLE ringfence_reader PASSWORD 'reader'", "ALTER ROLE ringfence_relay PASSWORD 'relay'", "ALTER ROLE ringfence_backup PASSWORD 'backup'"); err != nil {
			return "", err
		}
		name, err := s.create(ctx, "OWNER ringfence_owner")
		if err != nil {
			return "", err
		}
		if err := postgres.Migrate(ctx, s.URL(name, "owner")); err != nil {
			return "", err
		}
		clock := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) // of storetest, whose days the migration need not have made
		_, err = postgres.Prepare(ctx, s.URL(name, "owner"), clock.AddDate(0, 0, -2), clock.AddDate(0, 0, 2))
		return name, err
	})
	return s
}

// Database is a new one, empty but for the schema; it goes with the test.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	template, err := s.template()
	if err != nil {
		t.Fatal(err)
	}
	return s.made(t, " TEMPLATE "+template)
}

// Day is the time, of a day that does not end while a test of partitions runs: shortly before one ends, the next is waited for.
func Day() time.Time {
	now := time.Now().UTC()
	if next := now.Truncate(24*time.Hour).AddDate(0, 0, 1); next.Sub(now) < 3*time.Minute {
		<-time.After(next.Sub(now))
	}
	return time.Now().UTC()
}

// Recent drops the partitions of before the last days: those that the clock of storetest needs, wherever it stands by now.
func (s *Server) Recent(t testing.TB, database string) {
	t.Helper()
	if err := s.Ask(t.Context(), database, "DO $$ DECLARE n text; BEGIN FOR n IN SELECT name FROM partitions() WHERE ends < now() - interval '3 days' LOOP EXECUTE format('DROP TABLE %I', n); END LOOP; END $$"); err != nil {
		t.Fatal(err)
	}
}

// Empty is a new one without a schema.
func (s *Server) Empty(t testing.TB) string {
	t.Helper()
	if _, err := s.template(); err != nil { // and with it the roles
		t.Fatal(err)
	}
	return s.made(t, "")
}

func (s *Server) made(t testing.TB, like string) string {
	t.Helper()
	name, err := s.create(t.Context(), "OWNER ringfence_owner"+like)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		again := time.NewTicker(100 * time.Millisecond)
		defer again.Stop()
		err, left := s.drop(name), time.Now().Add(time.Minute)
		for of := (*pgconn.PgError)(nil); errors.As(err, &of) && of.Code == "55006" && time.Now().Before(left); err = s.drop(name) {
			<-again.C // whom it ends may take longer than PostgreSQL waits for
		}
		if err != nil {
			t.Error(err)
		}
	})
	return name
}

func (s *Server) drop(name string) error {
	return s.Ask(context.Background(), "postgres", "DROP DATABASE "+name+" WITH (FORCE)")
}

// URL is a database as one of the roles signs in to it: owner, runtime, reader, retention, relay or backup; "" is the administrator.
func (s *Server) URL(database, role string) secret.Text {
	u := *s.admin
	u.Path = "/" + database
	if role != "" {
		u.User = url.UserPassword("ringfence_"+role, role)
	}
	return secret.New(u.String())
}

func (s *Server) create(ctx context.Context, with string) (string, error) {
	name := "test_" + strings.ToLower(rand.Text())
	return name, s.Ask(ctx, "postgres", "CREATE DATABASE "+name+" "+with)
}

// Ask runs statements on one connection, as the administrator.
func (s *Server) Ask(ctx context.Context, database string, statements ...string) error {
	db, err := sql.Open("pgx", s.URL(database, "").Reveal())
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, q := range statements {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// Fingerprint is a digest of all that a tenant has in a database: every row of every table that has a tenant, but some.
func (s *Server) Fingerprint(ctx context.Context, database string, t ident.Tenant, except ...string) (digest string, err error) {
	db, err := sql.Open("pgx", s.URL(database, "").Reveal())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, "SELECT attrelid::regclass::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE attname = 'tenant' AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY 1")
	if err != nil {
		return "", err
	}
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return "", err
		}
		tables = append(tables, name)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return "", err
	}
	if len(tables) < 30 {
		return "", errors.New("pgtest: the database has not our tables")
	}
	var parts []string // in one statement, since tests ask often
	for _, name := range tables {
		if !slices.Contains(except, name) {
			parts = append(parts, "SELECT '"+name+"' || coalesce(md5(string_agg(r::text, ',' ORDER BY r::text)), '') AS part FROM "+name+" r WHERE tenant = $1")
		}
	}
	err = db.QueryRowContext(ctx, "SELECT md5(string_agg(part, ',' ORDER BY part)) FROM ("+strings.Join(parts, " UNION ALL ")+") p", t[:]).Scan(&digest)
	return digest, err
}

// Fell takes row-level security away from every table, as the administrator: what holds then holds by our statements alone.
func (s *Server) Fell(ctx context.Context, database string) error {
	return s.Ask(ctx, database, "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace LOOP EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', t); END LOOP; END $$")
}
