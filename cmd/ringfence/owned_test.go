package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An operator's password goes to no other machine in clear, unless the operator says so.
func TestADatabaseInClearIsRefusedToItsOwner(t *testing.T) {
	write := func(name, url string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(url), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const at = "postgres://ringfence_owner:hunter2@db.example/ringfence?sslmode="
	clear, secured := write("clear", at+"require"), write("secured", at+"verify-full")
	for _, args := range [][]string{
		{"migrate", "up", "--url-file", clear}, {"migrate", "status", "--url-file", clear}, {"maintain", "--url-file", clear}, {"maintain", "--url-file", secured, "--retention-url-file", clear},
	} {
		var told bytes.Buffer
		code := run(t.Context(), args, environment{lookup: func(string) (string, bool) { return "", false }, stdout: &told, stderr: &told})
		if code != exitUsage || !strings.Contains(told.String(), "add sslmode=verify-full") || strings.Contains(told.String(), "hunter2") {
			t.Errorf("%q: %d %s", args, code, told.String())
		}
	}
	none := environment{lookup: func(string) (string, bool) { return "", false }}
	for _, o := range []owned{{URLFile: secured}, {URLFile: clear, Plaintext: true}} {
		if u, err := o.url(none); err != nil || u.IsZero() {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
