package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

func open(t testing.TB, o storetest.Options) store.Store {
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "ringfence.db"), Now: o.Now, Revised: o.Revised})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSQLiteFillsThePort(t *testing.T) { storetest.Run(t, open) }

func TestSQLiteHasAnOutbox(t *testing.T) {
	storetest.RunOutbox(t, func(t testing.TB, o storetest.Options) (store.Store, store.Outbox) {
		s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "outbox.db"), Now: o.Now, Revised: o.Revised})
		if err != nil {
			t.Fatal(err)
		}
		return s, sqlstore.NewOutbox(s)
	})
}
