//go:build services

package servers_test

import (
	"database/sql"
	"net"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver registers itself

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

func TestAKilledPostgresKeepsWhatItCommittedAndNothingElse(t *testing.T) {
	cluster, address := servers.Postgres(t)
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE kept (n int)"); err != nil {
		t.Fatal(err)
	}
	for i, ends := range []func(){cluster.Kill, cluster.Stop, cluster.Kill} {
		if _, err := db.ExecContext(t.Context(), "INSERT INTO kept VALUES ($1)", i); err != nil {
			t.Fatal(err)
		}
		open, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open.ExecContext(t.Context(), "INSERT INTO kept VALUES (1000)"); err != nil {
			t.Fatal(err)
		}
		ends()
		if err := open.Commit(); err == nil {
			t.Error("what is gone commits")
		}
		if conn, err := net.Dial("tcp", cluster.Addr()); err == nil {
			_ = conn.Close()
			t.Error("somebody still listens")
		}
		cluster.Start()
		var count, most int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*), max(n) FROM kept").Scan(&count, &most); err != nil {
			t.Fatal(err)
		}
		if count != i+1 || most != i {
			t.Errorf("%d rows up to %d, wanted %d up to %d", count, most, i+1, i)
		}
	}
}
