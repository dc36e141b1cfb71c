package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/audittest"
)

// audited is the application as serve wires it, on a store that spoil may have broken.
func audited(t *testing.T, spoil func(store.Store) store.Store) audittest.Target {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	warm(t, dir)
	conf, err := loadConfig("/dev/null", []string{"data=" + dir, "principal_rate=100000", "principal_burst=100000", "tenant_rate=100000"}, environment{lookup: func(string) (string, bool) { return "", false }})
	must(err)
	app, err := opened(t.Context(), conf, io.Discard)
	must(err)
	t.Cleanup(func() { must(app.close(context.Background())) })
	app.store = spoil(app.store)
	passwords, err := localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 64, Time: 1}, TestCost: true})
	must(err)
	must(app.rest(t.Context(), conf, passwords))
	link, err := app.signin.SetupLink(t.Context())
	must(err)
	return audittest.Target{
		Handler: app.api, SetupToken: link.Reveal(), Store: app.store,
		Settle: func() { app.settle(t) },
		Break: func(broken bool) {
			db, err := sql.Open("sqlite", "file:"+conf.dataFile("ringfence.db"))
			must(err)
			statement := "DROP TRIGGER full"
			if broken {
				statement = "CREATE TRIGGER full BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
			}
			_, err = db.ExecContext(t.Context(), "PRAGMA busy_timeout = 5000; "+statement)
			must(errors.Join(err, db.Close()))
		},
		Rows: func(id ident.Tenant) string {
			digest, err := sqlite.Fingerprint(t.Context(), conf.dataFile("ringfence.db"), id, "failures", "touched") // written without an entry: ARCHITECTURE.md has the list
			must(err)
			return digest
		},
	}
}

// Every operation that changes something records what it declares, no more and no less; while nothing can be recorded it
// changes nothing and says so; and every refusal stands in the right tree.
func TestEveryChangeIsRecordedAsItsRouteDeclares(t *testing.T) {
	r := audittest.Run(t, audited(t, audittest.Hourly))
	t.Logf("%d operations, %d refusals", r.Operations, r.Refusals)
	if r.Operations < 71 || r.Refusals < 190 {
		t.Errorf("%d operations, %d refusals were made", r.Operations, r.Refusals)
	}
}

func TestPlantedBugsOfTheLogAreFound(t *testing.T) {
	for _, bug := range audittest.Bugs() {
		t.Run(bug.Name, func(t *testing.T) {
			t.Parallel()
			r := audittest.Check(t, audited(t, bug.Plant), bug.Finding)
			if !strings.Contains(strings.Join(r.Findings, "\n"), bug.Finding) {
				t.Errorf("not found: %q in %d findings, such as %.300q", bug.Finding, len(r.Findings), r.Findings)
			}
		})
	}
}
