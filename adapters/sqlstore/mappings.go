package sqlstore

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

var mappings = &noun[ident.Mapping, source.Mapping]{
	table: "mappings", counted: mappingsAlive, policy: true, adds: true, bytes: func(k ident.Mapping) []byte { return k[:] }, key: func(v source.Mapping) []byte { return v.ID[:] }, rev: func(v *source.Mapping) *uint64 { return &v.Rev },
	index: func(v source.Mapping, r *row) {
		claim := v.Claim()
		r.Owner, r.Label = v.Tenant[:], &claim
	},
}

var tenures = &noun[[32]byte, source.Tenure]{
	table: "tenures", bytes: func(k [32]byte) []byte { return k[:] }, key: func(v source.Tenure) []byte { return v.ID[:] }, rev: func(v *source.Tenure) *uint64 { return &v.Rev },
	index: func(source.Tenure, *row) {},
}

func (r reader) Tenures() store.Shelf[[32]byte, source.Tenure] { return on(r.h, tenures) }

func (w writing) Tenures() store.Records[[32]byte, source.Tenure] { return put(w.h, tenures) }

func (r reader) Mappings() store.Mappings { return mappingShelf{on(r.h, mappings)} }

func (w writing) Mappings() store.Records[ident.Mapping, source.Mapping] { return put(w.h, mappings) }

type mappingShelf struct {
	shelf[ident.Mapping, source.Mapping]
}

func (s mappingShelf) Find(ctx context.Context, q store.Query, f store.MappingFilter) (store.Page[source.Mapping], error) {
	return s.list(ctx, q, func(sq *bun.SelectQuery) *bun.SelectQuery {
		if f.Connection != "" { // all that begins with its name and a slash: a zero comes behind the slash
			sq = sq.Where("r.label >= ? AND r.label < ?", source.Claim(f.Connection, ""), f.Connection+"0")
		}
		if !f.Tenant.IsZero() {
			sq = sq.Where("r.owner = ?", f.Tenant[:])
		}
		return sq
	})
}

func (s mappingShelf) ByApplication(ctx context.Context, connection, application string) (source.Mapping, error) {
	var rev uint64
	var body []byte
	if err := s.h.one(ctx, "SELECT rev, body FROM mappings WHERE tenant = ? AND label = ?", []any{s.h.tenant[:], source.Claim(connection, application)}, &rev, &body); err != nil {
		return source.Mapping{}, err
	}
	return s.decode(ctx, rev, body)
}
