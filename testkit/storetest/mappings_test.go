package storetest_test

import (
	"context"
	"testing"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

// misled finds mappings with bugs.
type misled struct {
	store.Reader
	claimed func(store.Mappings, context.Context, string, string) (source.Mapping, error)
	find    func(store.Mappings, context.Context, store.Query, store.MappingFilter) (store.Page[source.Mapping], error)
}

func (m misled) Mappings() store.Mappings { return shelfOfMappings{m.Reader.Mappings(), m} }

type shelfOfMappings struct {
	store.Mappings
	m misled
}

func (s shelfOfMappings) ByApplication(ctx context.Context, connection, application string) (source.Mapping, error) {
	if s.m.claimed != nil {
		return s.m.claimed(s.Mappings, ctx, connection, application)
	}
	return s.Mappings.ByApplication(ctx, connection, application)
}

func (s shelfOfMappings) Find(ctx context.Context, q store.Query, f store.MappingFilter) (store.Page[source.Mapping], error) {
	if s.m.find != nil {
		return s.m.find(s.Mappings, ctx, q, f)
	}
	return s.Mappings.Find(ctx, q, f)
}

// unclaimed makes every application another one, so that nothing is ever somebody's already.
type unclaimed struct{ store.Writer }

func (u unclaimed) Mappings() store.Records[ident.Mapping, source.Mapping] {
	return apart{u.Writer.Mappings()}
}

type apart struct {
	store.Records[ident.Mapping, source.Mapping]
}

func (a apart) Put(ctx context.Context, v source.Mapping) (source.Mapping, error) {
	own := v
	if own.Source == (ident.Source{2}) {
		own.Application += "'"
	}
	out, err := a.Records.Put(ctx, own)
	out.Application = v.Application
	return out, err
}

// forgetful keeps no tenure, or one a connection.
type forgetful struct {
	store.Writer
	keep func(store.Records[[32]byte, source.Tenure], context.Context, source.Tenure) (source.Tenure, error)
}

func (f forgetful) Tenures() store.Records[[32]byte, source.Tenure] {
	return kept{f.Writer.Tenures(), f}
}

type kept struct {
	store.Records[[32]byte, source.Tenure]
	f forgetful
}

func (k kept) Put(ctx context.Context, v source.Tenure) (source.Tenure, error) {
	return k.f.keep(k.Records, ctx, v)
}

func TestAStoreThatForgetsWhoHadAnApplicationIsFound(t *testing.T) {
	for bug, keep := range map[string]func(store.Records[[32]byte, source.Tenure], context.Context, source.Tenure) (source.Tenure, error){
		"nothing is kept": func(_ store.Records[[32]byte, source.Tenure], _ context.Context, v source.Tenure) (source.Tenure, error) {
			v.Rev++
			return v, nil
		},
		"the first stays": func(all store.Records[[32]byte, source.Tenure], ctx context.Context, v source.Tenure) (source.Tenure, error) {
			if v.Rev == 0 {
				return all.Put(ctx, v)
			}
			v.Rev++
			return v, nil
		},
		"the last one wins": func(all store.Records[[32]byte, source.Tenure], ctx context.Context, v source.Tenure) (source.Tenure, error) {
			got, err := all.Get(ctx, v.ID)
			if err == nil {
				v.Rev = got.Rev
			}
			return all.Put(ctx, v)
		},
		"whether others had it is forgotten": func(all store.Records[[32]byte, source.Tenure], ctx context.Context, v source.Tenure) (source.Tenure, error) {
			v.Others = false
			return all.Put(ctx, v)
		},
	} {
		faulty := func(s store.Store) store.Store {
			return wrapped{Store: s, writer: func(w store.Writer) store.Writer { return forgetful{w, keep} }}
		}
		if !caught(t, "WhoHadAnApplicationIsKept", faulty, nil) {
			t.Errorf("not caught: %s", bug)
		}
	}
}

func TestAStoreThatMistakesWhoseAnApplicationIsIsFound(t *testing.T) {
	reading := func(m misled) func(store.Store) store.Store {
		return func(s store.Store) store.Store {
			return wrapped{Store: s, reader: func(r store.Reader) store.Reader { m.Reader = r; return m }}
		}
	}
	for bug, faulty := range map[string]func(store.Store) store.Store{
		"an application has two owners": func(s store.Store) store.Store {
			return wrapped{Store: s, writer: func(w store.Writer) store.Writer { return unclaimed{w} }}
		},
		"any connection brings an application": reading(misled{claimed: func(s store.Mappings, ctx context.Context, connection, application string) (source.Mapping, error) {
			m, err := s.ByApplication(ctx, connection, application)
			if err != nil {
				return s.ByApplication(ctx, "eu", application)
			}
			return m, nil
		}}),
		"a connection's name is a beginning": reading(misled{find: func(s store.Mappings, ctx context.Context, q store.Query, f store.MappingFilter) (store.Page[source.Mapping], error) {
			if f.Connection == "e" {
				f.Connection = "eu"
			}
			return s.Find(ctx, q, f)
		}}),
		"a filter is forgotten": reading(misled{find: func(s store.Mappings, ctx context.Context, q store.Query, f store.MappingFilter) (store.Page[source.Mapping], error) {
			f.Tenant = ident.Tenant{}
			return s.Find(ctx, q, f)
		}}),
	} {
		if !caught(t, "AnApplicationIsMappedOnce", faulty, nil) {
			t.Errorf("not caught: %s", bug)
		}
	}
}
