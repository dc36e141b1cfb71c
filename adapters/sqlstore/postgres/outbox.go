package postgres

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/store"
)

// Outbox is a connection of relays' to the one table that they see, of all tenants.
type Outbox struct{ db *bun.DB }

var _ store.Outbox = (*Outbox)(nil)

// OpenOutbox opens an outbox as ringfence_relay. It refuses other roles that row-level security does not bind, and a schema that
// this program does not work on.
func OpenOutbox(ctx context.Context, url secret.Text, conns int) (*Outbox, error) {
	// A transaction is open while its records are sent, as long as that may take.
	config, err := configured(url, map[string]string{"lock_timeout": "10s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"})
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	db := bun.NewDB(stdlib.OpenDB(*config), pgdialect.New())
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	if err := errors.Join(harmless(ctx, db), upToDate(ctx, db)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Outbox{db}, nil
}

// Close lets go of the connections.
func (o *Outbox) Close() error { return o.db.Close() }

// atOnce is how many tenants a round looks at.
const atOnce = 64

// Statements of a relay. A lock has a class of its own (3; see dialect). Tenants are found by skipping along the index, so that a round costs
// what it takes, however much there is.
const (
	lockShard = "SELECT pg_try_advisory_xact_lock(hashtextextended('outbox ' || $1::text, 3))"
	oldest    = `WITH RECURSIVE t(tenant, n) AS (
			SELECT $2::bytea, 0
			UNION ALL SELECT x.tenant, n + CASE WHEN x.tenant = ANY($3) THEN 0 ELSE 1 END FROM t CROSS JOIN LATERAL (SELECT o.tenant FROM outbox o WHERE o.shard = $1 AND o.tenant > t.tenant ORDER BY o.tenant LIMIT 1) x WHERE n < $4),
		s AS MATERIALIZED (SELECT tenant FROM t WHERE tenant > $2 AND NOT tenant = ANY($3))
		SELECT o.tenant, o.id, o.event, o.key, o.value FROM (SELECT tenant FROM s ORDER BY tenant) s
			CROSS JOIN LATERAL (SELECT * FROM outbox b WHERE b.shard = $1 AND b.tenant = s.tenant ORDER BY b.id LIMIT (SELECT greatest($5 / count(*), 1) FROM s)) o`
	oldestOf = `SELECT o.tenant, o.id, o.event, o.key, o.value FROM (SELECT tenant FROM unnest($2::bytea[]) s(tenant) ORDER BY tenant) s
			CROSS JOIN LATERAL (SELECT * FROM outbox b WHERE b.shard = $1 AND b.tenant = s.tenant ORDER BY b.id LIMIT $3) o`
	letGo = "DELETE FROM outbox WHERE (tenant, id) IN (SELECT * FROM unnest($1::bytea[], $2::bigint[]))"
)

// Waiting are the shards that have something.
func (o *Outbox) Waiting(ctx context.Context) (shards []int, err error) {
	err = o.db.NewRaw(sqlstore.ShardsWaiting()).Scan(ctx, &shards)
	return shards, gone(err)
}

// Relay hands over what a shard has. The lock ends with the transaction, and that with its process.
func (o *Outbox) Relay(ctx context.Context, r store.Round, publish func(context.Context, []store.Sent) []error) (bool, error) {
	tx, err := o.db.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return false, gone(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing, once it is committed
	free := false
	if err := tx.QueryRowContext(ctx, lockShard, strconv.Itoa(r.Shard)).Scan(&free); err != nil || !free {
		return false, gone(err)
	}
	rs, ids, err := handed(ctx, tx, r)
	if err != nil {
		return true, gone(err)
	}
	if len(rs) == 0 {
		return true, nil
	}
	errs, err := published(ctx, rs, publish)
	if err != nil {
		return true, err
	}
	var tenants [][]byte
	var places []int64
	for i, err := range errs {
		if err == nil && i < len(rs) {
			tenants, places = append(tenants, rs[i].Tenant[:]), append(places, ids[i])
		}
	}
	if len(places) > 0 {
		if _, err := tx.ExecContext(ctx, letGo, tenants, places); err != nil {
			return true, gone(err)
		}
	}
	return true, gone(tx.Commit())
}

func published(ctx context.Context, rs []store.Sent, publish func(context.Context, []store.Sent) []error) (errs []error, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Panicked(p), fault.Internal, "panic", "Something went wrong on our side. The log has the details under this request's id.")
		}
	}()
	return publish(store.Enter(ctx), rs), nil
}

// handed are the records of a round, and their ids.
func handed(ctx context.Context, tx *sql.Tx, r store.Round) (rs []store.Sent, ids []int64, err error) {
	bytes := func(ts []ident.Tenant) [][]byte {
		all := make([][]byte, len(ts))
		for i := range ts {
			all[i] = ts[i][:]
		}
		return all
	}
	var rows *sql.Rows
	if only := r.Only[:min(len(r.Only), r.Limit, atOnce)]; len(only) > 0 {
		rows, err = tx.QueryContext(ctx, oldestOf, r.Shard, bytes(only), max(r.Limit/len(only), 1))
	} else {
		rows, err = tx.QueryContext(ctx, oldest, r.Shard, r.After[:], bytes(r.Except), min(r.Limit, atOnce), r.Limit)
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var tenant, event []byte
		var s store.Sent
		var id int64
		if err := rows.Scan(&tenant, &id, &event, &s.Key, &s.Value); err != nil {
			return nil, nil, err
		}
		s.Tenant, s.Event = ident.Tenant(tenant), ident.Uplink(event)
		rs, ids = append(rs, s), append(ids, id)
	}
	return rs, ids, rows.Err()
}

// gone is an error of the database's, as a fault: it cannot be used now.
func gone(err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(err, fault.Unavailable, "store_unavailable", "The database cannot be used at the moment. Try again.")
}
