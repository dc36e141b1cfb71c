//go:build services

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
)

// An operator's way to a database: the roles, an empty database of the owner's, its schema by several processes at once.
func TestMigrateMakesASchemaOnceAndSaysWhichItIs(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Empty(t)
	file := filepath.Join(t.TempDir(), "owner.url")
	if err := os.WriteFile(file, []byte(server.URL(name, "owner").Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) (int, string, string) {
		var out, told bytes.Buffer
		code := run(t.Context(), args, environment{lookup: func(string) (string, bool) { return "", false }, stdout: &out, stderr: &told})
		return code, out.String(), told.String()
	}
	if code, out, told := ask("migrate", "status", "--url-file", file); code != exitNo || !strings.Contains(out, "20261126000001  pending") {
		t.Errorf("before: %d %s %s", code, out, told)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if code, out, told := ask("migrate", "up", "--url-file", file); code != exitDone || !strings.Contains(out, "20261126000001  applied") {
				t.Errorf("up: %d %s %s", code, out, told)
			}
		})
	}
	wg.Wait()
	if code, out, told := ask("migrate", "status", "--json", "--url-file", file); code != exitDone || !strings.HasPrefix(out, `{"applied":["20261126000001"`) || !strings.Contains(out, `"pending":[]`) {
		t.Errorf("after: %d %s %s", code, out, told)
	}
	if err := server.Ask(t.Context(), name, "INSERT INTO bun_migrations (name, group_id) VALUES ('20991231000001', 99)"); err != nil {
		t.Fatal(err)
	}
	if code, out, told := ask("migrate", "status", "--url-file", file); code != exitNo || !strings.Contains(out, "20991231000001  unknown to this program") {
		t.Errorf("of another version: %d %s %s", code, out, told)
	}
	if code, out, _ := ask("migrate", "roles"); code != exitDone || !strings.Contains(out, "ringfence_runtime") {
		t.Errorf("roles: %d %s", code, out)
	}
	if code, _, told := ask("migrate", "up"); code != exitUsage || !strings.Contains(told, "RINGFENCE_DATABASE_URL") {
		t.Errorf("without a URL: %d %s", code, told)
	}
	if err := os.Chmod(file, 0o644); err != nil { //nolint:gosec // what is to be refused
		t.Fatal(err)
	}
	if code, _, told := ask("migrate", "up", "--url-file", file); code != exitUsage || !strings.Contains(told, "chmod") {
		t.Errorf("a file that others may read: %d %s", code, told)
	}
	if err := os.WriteFile(file, []byte("postgres://ringfence_owner:hunter2@127.0.0.1:1/none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, told := ask("migrate", "up", "--url-file", file); code != exitFail || strings.Contains(told, "hunter2") {
		t.Errorf("no server: %d %s", code, told)
	}
	if err := os.WriteFile(file, []byte("postgres://ringfence_owner:hunter2@127.0.0.1/none?host=db.invalid&sslmode=disable"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"migrate", "up"}, {"migrate", "status"}, {"maintain"}} {
		if code, _, told := ask(append(args, "--url-file", file)...); code != exitUsage || !strings.Contains(told, "sslmode=verify-full") || strings.Contains(told, "hunter2") {
			t.Errorf("%s in clear: %d %s", args, code, told)
		}
		if code, _, told := ask(append(args, "--plaintext", "--url-file", file)...); code != exitFail || strings.Contains(told, "hunter2") {
			t.Errorf("%s in clear, as is allowed: %d %s", args, code, told)
		}
	}
}
