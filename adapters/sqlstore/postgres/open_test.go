package postgres_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/core/secret"
)

// What decides is what the driver makes of the URL, not what it looks like.
func TestAURLIsVerifiedOnlyIfTLSVerifiesWhoeverItLeadsTo(t *testing.T) {
	for url, want := range map[string]bool{
		"postgres://u:p@db.example/ringfence?sslmode=verify-full":                    true,
		"postgres://u:p@db.example,other.example/ringfence?sslmode=verify-full":      true,
		"host=db.example user=u sslmode=verify-full":                                 true,
		"postgres://u:p@127.0.0.1:5432/ringfence":                                    true,
		"postgres://u:p@localhost/ringfence?sslmode=disable":                         true,
		"postgres://u:p@[::1]:5432/ringfence":                                        true,
		"postgres:///ringfence?host=/run/postgresql":                                 true,
		"postgres://u:p@db.example/ringfence":                                        false,
		"postgres://u:p@db.example/ringfence?sslmode=disable":                        false,
		"postgres://u:p@db.example/ringfence?sslmode=prefer":                         false,
		"postgres://u:p@db.example/ringfence?sslmode=require":                        false,
		"postgres://u:p@db.example/ringfence?sslmode=verify-ca":                      false,
		"postgres://u:sslmode=verify-full@db.example/ringfence?sslmode=disable":      false,
		"postgres://u:p@db.example/ringfence?application_name=sslmode%3Dverify-full": false,
		"postgres://u:p@127.0.0.1/ringfence?host=db.example":                         false,
		"postgres://u:p@127.0.0.1,db.example/ringfence":                              false,
		"postgres://u:p@127.0.0.1.example/ringfence":                                 false,
		"postgres://127.0.0.1:5432@db.example/ringfence":                             false,
	} {
		if got, err := postgres.Verified(secret.New(url)); err != nil || got != want {
			t.Errorf("%s: %v %v", url, got, err)
		}
	}
	for _, url := range []string{"postgres://u:hunter2@db.example/x?sslmode=never", "postgres://u:hunter2@db.example/x?sslmode=verify-full&sslrootcert=" + filepath.Join(t.TempDir(), "none")} {
		if _, err := postgres.Verified(secret.New(url)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
