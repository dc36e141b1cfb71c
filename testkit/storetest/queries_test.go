package storetest_test

import (
	"context"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/ports/store"
)

func (r reading) Members() store.Members {
	if r.members != nil {
		return r.members(r.Reader.Members())
	}
	return r.Reader.Members()
}

// nameless finds everybody.
type nameless struct{ store.Members }

func (n nameless) Named(ctx context.Context, _ string, q store.Query) (store.Page[principal.Member], error) {
	return n.List(ctx, q)
}

// placeless looks for entries wherever they are.
type placeless struct{ store.Audit }

func (p placeless) Find(ctx context.Context, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	f.Org = ident.Node{}
	return p.Audit.Find(ctx, q, f)
}
