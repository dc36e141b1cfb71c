package sqlstore

import (
	"context"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

var _ store.Turns = (*Store)(nil)

// Turn holds a lock of the database's by a transaction that does nothing else: it ends with its process, and the database ends
// it if it stands still. Turns have half of the connections at most, and wait for each other: what is done in them has the rest. A
// database of one process has none to share with.
func (s *Store) Turn(ctx context.Context, job string, t ident.Tenant, do func(context.Context) error) (bool, error) {
	if s.o.Dialect.TryLock == "" {
		return true, do(ctx)
	}
	if err := enter(ctx); err != nil {
		return false, err
	}
	if s.writer.closed() {
		return false, store.ErrClosed
	}
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return false, away(ctx.Err())
	}
	tx, err := s.o.Write.BeginTx(ctx, nil)
	if err != nil {
		return false, away(err)
	}
	defer func() { _ = tx.Rollback() }()
	h := &handle{session: &session{d: &s.o.Dialect, db: tx, raw: s.o.Dialect.raw(tx)}}
	defer h.kill()
	mine := false
	if err := h.one(ctx, s.o.Dialect.TryLock, []any{job + " " + t.String()}, &mine); err != nil || !mine {
		return false, err
	}
	return true, do(ctx)
}
