//go:build services

package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

func TestOneProcessAtATimeHasTheTurn(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	db := server.Database(t)
	start := func() *sqlstore.Store {
		st := open(t, server.URL(db, "runtime"), storetest.Options{Now: time.Now}, 0)
		t.Cleanup(func() { _ = st.Close() })
		return st
	}
	one, other := start(), start()
	turn := func(st *sqlstore.Store, job string, of ident.Tenant) bool {
		had, err := store.Turn(t.Context(), st, job, of, func(context.Context) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return had
	}
	a, b := ident.Tenant{1}, ident.Tenant{2}
	had, err := one.Turn(t.Context(), "jobs", a, func(context.Context) error {
		if turn(other, "jobs", a) || turn(one, "jobs", a) {
			t.Error("two have the turn")
		}
		if !turn(other, "jobs", b) || !turn(other, "process", a) {
			t.Error("another tenant or job has to wait")
		}
		return errors.New("mine")
	})
	if !had || err == nil || err.Error() != "mine" {
		t.Errorf("%v, %v", had, err)
	}
	if !turn(other, "jobs", a) {
		t.Error("a turn that is over is not given on")
	}
	taken, err := one.Turn(t.Context(), "jobs", a, func(context.Context) error { // whoever is killed gives its turn back
		return server.Ask(t.Context(), db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'ringfence_runtime' AND state = 'idle in transaction'")
	})
	if !taken || err != nil {
		t.Errorf("%v, %v", taken, err)
	}
	for ended := time.Now().Add(time.Minute); !turn(other, "jobs", a); { // it says farewell before it lets go
		if time.Now().After(ended) {
			t.Fatal("the turn of one that was killed is kept")
		}
	}
}

// However many turns are had, what is done in them finds a connection.
func TestTurnsLeaveConnectionsForWhatIsDoneInThem(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	database := server.Database(t)
	for _, conns := range []int{2, 10} {
		st := open(t, server.URL(database, "runtime"), storetest.Options{Now: time.Now}, conns)
		t.Cleanup(func() { _ = st.Close() })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		done := make(chan error)
		for n := range 3 * conns {
			of := ident.Tenant{byte(n + 1)}
			go func() {
				had, err := st.Turn(ctx, "jobs", of, func(ctx context.Context) error {
					return st.Ingest(ctx, new(storetest.World).Scope(of, 0), func(context.Context, store.Flow) error { return nil })
				})
				if err == nil && !had {
					err = errors.New("somebody else has it")
				}
				done <- err
			}()
		}
		for range 3 * conns {
			if err := <-done; err != nil {
				t.Errorf("%d connections: %v", conns, err)
			}
		}
	}
}
