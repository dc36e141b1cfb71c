// Package postgres opens sqlstore on PostgreSQL 15 or later, whose row-level security is a second wall: without a tenant that
// was named there are no rows. Services sign in as ringfence_runtime, migrations as ringfence_owner (roles.sql).
package postgres

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Roles makes the roles; an administrator of the cluster runs it once.
//
//go:embed roles.sql
var Roles string

// Options of a database.
type Options struct {
	URL     secret.Text // postgres://ringfence_runtime:…@host:port/database?sslmode=verify-full
	Conns   int         // connections at most; 0: 10
	Reads   bool        // as ringfence_reader: a role that may write is refused
	Now     func() time.Time
	Revised store.Revised
	// Followed is told, four times a second, that Revised was told of all that other processes had changed by then.
	Followed func()
	Version  string // of our program, for audit entries
	Node     string // which of our processes

	tracer pgx.QueryTracer // is told of each statement; for tests
}

// Open opens the database as a service does. It refuses a role that could see more than one tenant at a time, and a schema that
// it does not work on.
func Open(ctx context.Context, o Options) (*sqlstore.Store, error) {
	// Nobody waits for ever: not for a lock, not for an answer, and not with a transaction open that others wait for. What is
	// acknowledged is on the disk, whatever a database or role is set to.
	config, err := configured(o.URL, map[string]string{"lock_timeout": "10s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s", "synchronous_commit": "on"})
	if err != nil {
		return nil, err
	}
	config.Tracer = o.tracer
	db := bun.NewDB(stdlib.OpenDB(*config), pgdialect.New())
	if o.Conns == 0 {
		o.Conns = 10
	}
	db.SetMaxOpenConns(o.Conns)
	db.SetMaxIdleConns(o.Conns)
	if err := errors.Join(harmless(ctx, db), upToDate(ctx, db)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if o.Reads {
		if err := readOnly(ctx, db); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return sqlstore.New(ctx, sqlstore.Options{Write: db, Read: db, Dialect: dialect(), Now: o.Now, Revised: o.Revised, Followed: o.Followed, Version: o.Version, Node: o.Node})
}

func connect(url secret.Text) (*bun.DB, error) {
	config, err := configured(url, nil)
	if err != nil {
		return nil, err
	}
	return bun.NewDB(stdlib.OpenDB(*config), pgdialect.New()), nil
}

func configured(url secret.Text, settings map[string]string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		// pgx's error quotes it.
		return nil, errors.New("the database's URL cannot be read, or a file that it names (sslrootcert, sslcert, sslkey); it looks like postgres://user:password@host:5432/ringfence?sslmode=verify-full")
	}
	maps.Copy(config.RuntimeParams, settings)
	// bun writes arguments into the text, so that preparing would keep a statement for each value. Our own are prepared (bind).
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return config, nil
}

// Verified reports whether each server that a URL leads to is this machine, or is verified by TLS before it is told anything.
func Verified(url secret.Text) (bool, error) {
	config, err := configured(url, nil)
	if err != nil {
		return false, err
	}
	for _, at := range append(config.Fallbacks, &pgconn.FallbackConfig{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}) {
		network, _ := pgconn.NetworkAddress(at.Host, at.Port)
		ip, err := netip.ParseAddr(at.Host)
		here := network == "unix" || at.Host == "localhost" || err == nil && ip.IsLoopback()
		if !here && (at.TLSConfig == nil || at.TLSConfig.InsecureSkipVerify) { // as pgx has it for all but verify-full
			return false, nil
		}
	}
	return true, nil
}

// dialect is PostgreSQL's: transactions side by side, with a wall of their own.
func dialect() sqlstore.Dialect {
	return sqlstore.Dialect{
		Bind: bind, Show: "SELECT set_config('app.tenant', ?, true)",
		Enter: "SELECT (SELECT narrowed FROM audit_heads WHERE tenant = decode(s.tenant, 'hex')) FROM (SELECT set_config('app.tenant', ?, true) AS tenant OFFSET 0) s", // what is asked for depends on what is set, so that it is set first
		// A lock of the tenant, of a class of its own (2; LockName has 0, TryLock 1).
		ShowAlone:  "SELECT pg_advisory_xact_lock(hashtextextended(set_config('app.tenant', ?, true), 2))",
		ShowShared: showShared, ShowFree: showFree,
		Sooner: sooner("?", "?"),
		Batch:  newTexts().batch, Refused: refused,
		Snapshot: sql.LevelRepeatableRead, LockHead: " FOR UPDATE", LockName: "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", TryLock: "SELECT pg_try_advisory_xact_lock(hashtextextended(?, 1))", Spoils: true, Again: again, Told: told, Parts: true,
		Greatest: "GREATEST",
		Changed:  "SELECT s.oldest::text, encode(k.tenant, 'hex') FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS oldest) s LEFT JOIN known k ON k.changed >= ?::text::xid8",
		Now:      "18446744073709551615",
		Tenants:  "SELECT tenant FROM known WHERE tenant > ? ORDER BY tenant LIMIT ?",
		// It skips from tenant to tenant along the index.
		Waiting: `WITH RECURSIVE t(tenant) AS (
			(SELECT tenant FROM due ORDER BY tenant LIMIT 1)
			UNION ALL SELECT (SELECT d.tenant FROM due d WHERE d.tenant > t.tenant ORDER BY d.tenant LIMIT 1) FROM t WHERE t.tenant IS NOT NULL)
			SELECT encode(tenant, 'hex'), since FROM (SELECT tenant, (SELECT arrived FROM due u WHERE u.tenant = t.tenant AND u.not_before <= ? ORDER BY arrived LIMIT 1) AS since FROM t WHERE tenant IS NOT NULL) w
			WHERE since IS NOT NULL ORDER BY since LIMIT ?`,
	}
}

// bind numbers the arguments and has the statement prepared and kept.
func bind(query string, args []any) (string, []any) {
	var b strings.Builder
	n := 0
	for {
		before, after, more := strings.Cut(query, "?")
		b.WriteString(before)
		if !more {
			return b.String(), append([]any{pgx.QueryExecModeCacheStatement}, args...)
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}

// again is a transaction that the database ended for another's sake (serialization_failure, deadlock_detected), or that met a
// connection which its last user had broken off: the driver says so only of what it has not sent.
func again(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01") || errors.Is(err, driver.ErrBadConn)
}

// refused is an error of a statement, rather than of a server that is away or out of something; always: of what it says.
func refused(err error) (asked, always bool) {
	var pg *pgconn.PgError
	if errors.Is(err, errAlone) {
		return true, false
	}
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return false, false
	}
	class := pg.Code[:2]
	return class != "08" && class != "53" && class != "57" && class != "58", class == "22" || class == "23"
}

// readOnly refuses a role that may write anything.
func readOnly(ctx context.Context, db *bun.DB) error {
	var role, table string
	err := db.DB.QueryRowContext(ctx, `SELECT current_user, c.relname FROM pg_class c, (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) v(p)
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND has_table_privilege(c.oid, v.p) LIMIT 1`).Scan(&role, &table)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return looked("look at the role's rights", err)
	}
	return fmt.Errorf("the role %s may write (%s), which this process never does; sign in as ringfence_reader (roles.sql)", role, table)
}

// looked is an error of a look at a database that is to be opened: one that is away may be waited for, and one whose TLS is not
// as it should be, which its operator mends at the server; anything else is to be mended here.
func looked(at string, err error) error {
	var unverified *tls.CertificateVerificationError
	var op *net.OpError
	asked, _ := refused(err)
	switch {
	case asked:
		return fmt.Errorf("%s: %w", at, err)
	case errors.As(err, &unverified):
		return fault.Wrap(err, fault.Unavailable, "store_certificate", "The database's certificate is for another name than its URL has, or nobody that we trust vouches for it, or it is out of its time. Name its authority's by sslrootcert in the URL, or give the database another.")
	case errors.As(err, &op) && op.Op == "remote error": // an alert of TLS
		return fault.Wrap(err, fault.Unavailable, "store_refused_us", "The database does not take our certificate, or wants one and is shown none. Name one that its ssl_ca_file vouches for, and its key, by sslcert and sslkey in the URL.")
	case strings.HasSuffix(err.Error(), "server refused TLS connection"): // the driver has no type for it
		return fault.Wrap(err, fault.Unavailable, "store_plain", "The database does not speak TLS, and its URL wants it. Set ssl, ssl_cert_file and ssl_key_file at the database.")
	}
	return gone(err)
}

// harmless refuses a role that row-level security does not bind, and a server that keeps nothing of what it commits.
func harmless(ctx context.Context, db *bun.DB) error {
	var role, fsync string
	var super, bypass, owns bool
	if err := db.DB.QueryRowContext(ctx, `SELECT r.rolname, r.rolsuper, r.rolbypassrls, EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND pg_has_role(r.oid, c.relowner, 'MEMBER')), current_setting('fsync')
		FROM pg_roles r WHERE r.rolname = current_user`).Scan(&role, &super, &bypass, &owns, &fsync); err != nil {
		return looked("look at the role", err)
	}
	if fsync != "on" {
		return errors.New("PostgreSQL runs with fsync = off: what it has committed could be gone or broken after a power cut; set fsync = on and restart it")
	}
	for _, c := range []struct {
		is  bool
		why string
	}{{super, "is a superuser"}, {bypass, "bypasses row-level security"}, {owns, "owns tables"}} {
		if c.is {
			return fmt.Errorf("the role %s %s, so that the database would show it every tenant's rows; sign in as ringfence_runtime (roles.sql)", role, c.why)
		}
	}
	return nil
}
