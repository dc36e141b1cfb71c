package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Outbox is that of a database of one process. A database with a wall of its own has a role and a package of its own for it.
type Outbox struct {
	s    *Store
	busy [store.OutboxShards]atomic.Bool
}

var _ store.Outbox = (*Outbox)(nil)

// NewOutbox is the outbox of a store.
func NewOutbox(s *Store) *Outbox { return &Outbox{s: s} }

// Relay hands over what a shard has. No transaction is open meanwhile: there is one writer alone.
func (o *Outbox) Relay(ctx context.Context, r store.Round, publish func(context.Context, []store.Sent) []error) (bool, error) {
	if store.Inside(ctx) {
		return false, store.ErrNested
	}
	if o.s.writer.closed() {
		return false, store.ErrClosed
	}
	if !o.busy[r.Shard].CompareAndSwap(false, true) {
		return false, nil
	}
	defer o.busy[r.Shard].Store(false)
	db := &session{d: &o.s.o.Dialect, db: o.s.o.Read, raw: o.s.o.Dialect.rawPool(o.s.o.Read)}
	rs, ids, err := outgoing(ctx, db, r)
	if err != nil || len(rs) == 0 {
		return true, away(err)
	}
	var errs []error
	if err := protect(func() error { errs = publish(store.Enter(ctx), rs); return nil }); err != nil {
		return true, err
	}
	return true, o.s.writer.do(ctx, func(ctx context.Context, db *session) error {
		for i, err := range errs {
			if err != nil || i >= len(rs) {
				continue
			}
			if _, err := db.exec(ctx, "DELETE FROM outbox WHERE tenant = ? AND shard = ? AND id = ?", []any{rs[i].Tenant[:], r.Shard, ids[i]}); err != nil {
				return away(err)
			}
		}
		return nil
	})
}

// ShardsWaiting is the statement that finds the shards which have something.
func ShardsWaiting() string {
	return fmt.Sprintf("WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < %d) SELECT n FROM s WHERE EXISTS (SELECT 1 FROM outbox o WHERE o.shard = s.n)", store.OutboxShards-1)
}

// Waiting are the shards that have something.
func (o *Outbox) Waiting(ctx context.Context) (shards []int, err error) {
	if store.Inside(ctx) {
		return nil, store.ErrNested
	}
	if o.s.writer.closed() {
		return nil, store.ErrClosed
	}
	db := &session{d: &o.s.o.Dialect, db: o.s.o.Read, raw: o.s.o.Dialect.rawPool(o.s.o.Read)}
	rows, err := db.query(ctx, ShardsWaiting(), nil)
	if err != nil {
		return nil, away(err)
	}
	return shards, away(collect(rows, func() error {
		shards = append(shards, 0)
		return rows.Scan(&shards[len(shards)-1])
	}))
}

// outgoing are the oldest records of a shard, of each tenant as many as of the others, and their ids.
func outgoing(ctx context.Context, db *session, r store.Round) (rs []store.Sent, ids []int64, err error) {
	tenants := slices.Clone(r.Only[:min(len(r.Only), r.Limit)])
	slices.SortFunc(tenants, ident.Tenant.Compare)
	for after := r.After; len(r.Only) == 0 && len(tenants) < r.Limit; {
		found, err := column(ctx, db, "SELECT tenant FROM outbox WHERE shard = ? AND tenant > ? ORDER BY tenant LIMIT 1", r.Shard, after[:])
		if err != nil {
			return nil, nil, err
		}
		if len(found) == 0 {
			break
		}
		if after = ident.Tenant(found[0]); !slices.Contains(r.Except, after) {
			tenants = append(tenants, after)
		}
	}
	for _, t := range tenants {
		rows, err := db.query(ctx, "SELECT id, event, key, value FROM outbox WHERE shard = ? AND tenant = ? ORDER BY id LIMIT ?", []any{r.Shard, t[:], max(r.Limit/len(tenants), 1)})
		if err != nil {
			return nil, nil, err
		}
		if err := collect(rows, func() error {
			s := store.Sent{Tenant: t}
			var id int64
			var event []byte
			err := rows.Scan(&id, &event, &s.Key, &s.Value)
			if err == nil {
				s.Event = ident.Uplink(event)
				rs, ids = append(rs, s), append(ids, id)
			}
			return err
		}); err != nil {
			return nil, nil, err
		}
	}
	return rs, ids, nil
}

// column are the values of a query's one column.
func column(ctx context.Context, db *session, q string, args ...any) (all [][]byte, err error) {
	rows, err := db.query(ctx, q, args)
	if err != nil {
		return nil, err
	}
	err = collect(rows, func() error {
		var b []byte
		err := rows.Scan(&b)
		all = append(all, b)
		return err
	})
	return all, err
}

func collect(rows *sql.Rows, one func() error) error {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := one(); err != nil {
			return err
		}
	}
	return rows.Err()
}
