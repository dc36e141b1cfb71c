//go:build services

package isolation_test

import (
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/app/enter"
)

// onPostgreSQL opens a store there; felled is one whose database has no wall of its own.
func onPostgreSQL(s *pgtest.Server, felled bool) func(testing.TB, *enter.Cache) opened {
	return func(t testing.TB, cache *enter.Cache) opened {
		t.Helper()
		name := s.Database(t)
		if felled {
			if err := s.Fell(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		st, err := postgres.Open(t.Context(), postgres.Options{URL: s.URL(name, "runtime"), Now: time.Now, Revised: cache.Revised})
		if err != nil {
			t.Fatal(err)
		}
		return opened{st, func(id string) string {
			digest, err := s.Fingerprint(t.Context(), name, parsed(t, id))
			if err != nil {
				t.Fatal(err)
			}
			return digest
		}}
	}
}
