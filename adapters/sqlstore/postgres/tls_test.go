//go:build services

package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// A database that TLS does not verify is told nothing, and its operator is told what to mend.
func TestADatabaseThatTLSDoesNotVerifyIsNotOpened(t *testing.T) {
	by, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	_, admin := servers.SecuredPostgres(t, by)
	t.Setenv("TESTBED_POSTGRES_SECURED", admin)
	secured, plain := pgtest.New("TESTBED_POSTGRES_SECURED"), pgtest.New(pgtest.Oldest)
	url := func(s *pgtest.Server, ca string) secret.Text {
		at, _, _ := strings.Cut(s.URL(s.Database(t), "runtime").Reveal(), "?")
		return secret.New(at + "?sslmode=verify-full&sslrootcert=" + ca)
	}
	showing := func(by *servers.Authority, url secret.Text) secret.Text {
		cert, key := by.Issue("a client")
		return secret.New(url.Reveal() + "&sslcert=" + cert + "&sslkey=" + key)
	}
	for name, c := range map[string]struct {
		url        secret.Text
		code, want string
	}{
		"as it should be":      {url(secured, by.File()), "", ""},
		"both are known":       {showing(by, url(secured, by.File())), "", ""},
		"we are not known":     {showing(stranger, url(secured, by.File())), "store_refused_us", "sslcert and sslkey"},
		"by another authority": {url(secured, stranger.File()), "store_certificate", "sslrootcert"},
		"a server without TLS": {url(plain, by.File()), "store_plain", "ssl_cert_file"},
	} {
		s, err := postgres.Open(t.Context(), postgres.Options{URL: c.url, Now: time.Now})
		for range 10 { // a server that closes may cut off its own last word
			if f := fault.As(err); f == nil || f.Code != "store_unavailable" {
				break
			}
			s, err = postgres.Open(t.Context(), postgres.Options{URL: c.url, Now: time.Now})
		}
		if s != nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		f := fault.As(err)
		if c.code == "" && err != nil || c.code != "" && (f == nil || f.Code != c.code || f.Kind != fault.Unavailable || !strings.Contains(f.Message, c.want)) {
			t.Errorf("%s: %v (%s)", name, err, fault.Cause(err))
		}
	}
}
