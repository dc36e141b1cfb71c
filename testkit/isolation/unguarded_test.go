//go:build services && unguarded

package isolation_test

import (
	"context"
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// In this build no statement of ours says whose rows it is about.
func TestTheDatabasesWallIsEnoughAlone(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	swept(t, engine(t), onPostgreSQL(server, false), 10_000)

	// And it is what holds: without it too, one tenant counts another's failures.
	for _, felled := range []bool{false, true} {
		st := onPostgreSQL(server, felled)(t, enter.NewCache(1)).store
		t.Cleanup(func() { _ = st.Close() })
		w := new(storetest.World)
		a, b := w.Scope(ident.Tenant{1}, 0), w.Scope(ident.Tenant{2}, 0)
		if err := st.Ingest(t.Context(), a, func(ctx context.Context, f store.Flow) error {
			return f.SetFailures(ctx, principal.Failure{Key: "key", Count: 3})
		}); err != nil {
			t.Fatal(err)
		}
		if err := st.View(t.Context(), b, func(ctx context.Context, r store.Reader) error {
			seen, err := r.Failures(ctx, "key")
			if (seen.Count == 3) != felled {
				t.Errorf("the wall is felled: %v, and another tenant's count is %d", felled, seen.Count)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
