package memory

import (
	"context"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

var mappings = ided(noun[ident.Mapping, source.Mapping]{
	id: mappingNoun, policy: true, adds: true, unique: true, of: func(v source.Mapping) ident.Mapping { return v.ID },
	rev: func(v *source.Mapping) *uint64 { return &v.Rev }, index: func(v source.Mapping, r *row) { r.label = v.Claim() },
})

var tenures = &noun[[32]byte, source.Tenure]{
	id: tenureNoun, key: func(k [32]byte) string { return string(k[:]) }, of: func(v source.Tenure) [32]byte { return v.ID },
	rev: func(v *source.Tenure) *uint64 { return &v.Rev }, index: func(source.Tenure, *row) {},
}

func (r reader) Tenures() store.Shelf[[32]byte, source.Tenure] { return on(r.h, tenures) }

func (w writing) Tenures() store.Records[[32]byte, source.Tenure] { return put(w.h, tenures) }

func (r reader) Mappings() store.Mappings { return mappingShelf{on(r.h, mappings)} }

func (w writing) Mappings() store.Records[ident.Mapping, source.Mapping] { return put(w.h, mappings) }

type mappingShelf struct {
	shelf[ident.Mapping, source.Mapping]
}

func (s mappingShelf) Find(_ context.Context, q store.Query, f store.MappingFilter) (store.Page[source.Mapping], error) {
	return s.list(q, func(v source.Mapping, _ row) bool {
		return (f.Connection == "" || f.Connection == v.Connection) && (f.Tenant.IsZero() || f.Tenant == v.Tenant)
	})
}

func (s mappingShelf) ByApplication(_ context.Context, connection, application string) (source.Mapping, error) {
	if err := s.h.alive(); err != nil {
		return source.Mapping{}, err
	}
	key, _ := s.h.book.labels[mappingNoun].get(source.Claim(connection, application))
	r, ok := s.rows().get(key)
	if !ok {
		return source.Mapping{}, fault.Missing()
	}
	return s.decode(r)
}
