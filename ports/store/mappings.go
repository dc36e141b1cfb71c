package store

import (
	"context"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
)

// Mappings are found by what a message tells of itself.
type Mappings interface {
	Counted[ident.Mapping, source.Mapping]
	Find(ctx context.Context, q Query, f MappingFilter) (Page[source.Mapping], error)
	ByApplication(ctx context.Context, connection, application string) (source.Mapping, error) // fault.Missing() if it is nobody's
}

// MappingFilter narrows a list of mappings; zero fields do not.
type MappingFilter struct {
	Connection string
	Tenant     ident.Tenant // that it maps to
}
