package sqlstore

import (
	"context"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/ports/store"
)

// Unaudited is a Change without head, entry and hashes: what an audited one is measured against.
func (s *Store) Unaudited(ctx context.Context, scope access.Scope, fn func(context.Context, store.Writer) error) error {
	return s.writer.do(ctx, func(ctx context.Context, db *session) error {
		h := &handle{session: db, tenant: scope.Tenant()}
		defer h.kill()
		return fn(store.Enter(ctx), &change{writing: writing{h}})
	})
}

// Serial gives every closure a transaction of its own. Call it before the store is used.
func (s *Store) Serial() { s.writer.(*writer).group = 1 }
