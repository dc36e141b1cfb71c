//go:build services && !unguarded

package isolation_test

import (
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
)

// PostgreSQL's own wall stands behind ours. Each is enough alone: here the database's is taken away, in unguarded_test.go ours.
func TestNoActorReachesAnotherTenantOnPostgreSQL(t *testing.T) {
	oldest := pgtest.New(pgtest.Oldest)
	t.Run("both walls", func(t *testing.T) { swept(t, engine(t), onPostgreSQL(oldest, false), 10_000) })
	t.Run("without row-level security", func(t *testing.T) { swept(t, engine(t), onPostgreSQL(oldest, true), 10_000) })
	t.Run("newest", func(t *testing.T) { swept(t, engine(t), onPostgreSQL(pgtest.New(pgtest.Newest), false), 1_000) })
}
