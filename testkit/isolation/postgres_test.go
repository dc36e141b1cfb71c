//go:build services

package isolation_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/testkit/isolation"
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

// swept runs the sweep on a store.
func swept(t *testing.T, open func(testing.TB, *enter.Cache) opened, requests int) {
	t.Helper()
	target, out := server(t, engine(t), open, nil)
	r := isolation.Run(t, target, isolation.Plan{Requests: requests})
	t.Logf("%d requests on %d routes, %d findings", r.Requests, len(r.Routes), len(r.Findings))
	for _, canary := range []string{"canaryalpha", "canarybravo", "canarycharlie"} {
		if bytes.Contains([]byte(out.text()), []byte(canary)) {
			t.Errorf("a log line holds %s", canary)
		}
	}
}
