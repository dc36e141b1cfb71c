package storetest_test

import (
	"context"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

type (
	people = store.Catalogue[ident.Principal, principal.Member]
	doors  = store.Catalogue[ident.Source, source.Source]
)

func (r reading) Sources() doors {
	if r.sources != nil {
		return r.sources(r.Reader.Sources())
	}
	return r.Reader.Sources()
}

// farReaching finds a name wherever it is.
type farReaching struct{ doors }

func (f farReaching) Named(ctx context.Context, name string, q store.Query) (store.Page[source.Source], error) {
	if !q.Reach.IsEmpty() {
		q.Reach = access.Everywhere
	}
	return f.doors.Named(ctx, name, q)
}

func (r reading) Members() people {
	if r.members != nil {
		return r.members(r.Reader.Members())
	}
	return r.Reader.Members()
}

// nameless finds everybody.
type nameless[K comparable, V any] struct{ store.Catalogue[K, V] }

func (n nameless[K, V]) Named(ctx context.Context, _ string, q store.Query) (store.Page[V], error) {
	return n.List(ctx, q)
}

// placeless looks for entries wherever they are.
type placeless struct{ store.Audit }

func (p placeless) Find(ctx context.Context, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	f.Org = ident.Node{}
	return p.Audit.Find(ctx, q, f)
}
