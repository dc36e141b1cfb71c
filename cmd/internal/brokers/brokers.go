// Package brokers lets an operator's own MQTT brokers ask who may connect, publish and subscribe (adapters/brokerauth): the
// settings, the listener and its end, for each binary of ours that answers them.
package brokers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/cmd/internal/settings"
)

// Settings are those of this door.
func Settings() settings.Table {
	return settings.Table{
		settings.Of("broker_auth_listen", "", "Address where MQTT brokers of yours ask who may connect, publish and subscribe; TLS with the API's certificate, if it has one; empty: none", settings.Optional(settings.Address)),
		settings.Hidden("broker_auth_secret", "What these brokers show, at least 24 letters and digits", word),
		settings.Of("broker_auth_client_ca_file", "", "Whose client certificates these brokers show, PEM; with it the secret may be left out", settings.Any),
		settings.Of("broker_auth_plain_http", "false", "Allow these brokers to ask in plain HTTP on an address that is not loopback", settings.Boolean),
		settings.Of("broker_auth_rate", "2000", "Their questions a second that each process answers, one for each connect, message and filter; an eighth are any source's own, more what others leave", settings.Number(8, 1_000_000)),
	}
}

// word takes what can stand in a URL as it is, and is long enough that nobody guesses it.
func word(s string) error {
	if len(s) < brokerauth.MinSecret || strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_'
	}) {
		return errors.New("want at least 24 letters, digits, hyphens and underscores, such as openssl rand -hex 32 prints")
	}
	return nil
}

// Together judges what each of them cannot be judged for alone; clear: the process has no certificate.
func Together(c settings.Config, clear bool) (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	asked := c.Str("broker_auth_listen")
	if asked == "" {
		return nil
	}
	if c.Secret("broker_auth_secret").IsZero() && c.Str("broker_auth_client_ca_file") == "" {
		say("broker_auth_listen: anybody could ask; put what brokers show into a file that %s_FILE names, or set broker_auth_client_ca_file", settings.Variable("broker_auth_secret"))
	}
	if c.Str("broker_auth_client_ca_file") != "" && clear {
		say("broker_auth_client_ca_file: certificates are shown in TLS alone; set tls_cert_file and tls_key_file")
	}
	if settings.Open(asked) && clear && !c.Flag("broker_auth_plain_http") {
		say("broker_auth_listen: %s is not loopback and has no TLS; set tls_cert_file and tls_key_file, or broker_auth_plain_http: true behind a proxy that ends TLS", asked)
	}
	return wrong
}

// CAs are whose client certificates brokers show; nil if they show none.
func CAs(c settings.Config) (*x509.CertPool, error) {
	file := c.Str("broker_auth_client_ca_file")
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file) //nolint:gosec // named by the operator
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(raw) {
		err = errors.New("want certificates, PEM")
	}
	if err != nil {
		return nil, fmt.Errorf("broker_auth_client_ca_file: %w", err)
	}
	return pool, nil
}

// Door is where brokers ask. A nil one is none, which serves nobody.
type Door struct {
	Counts func() map[string]int64

	server   *http.Server
	listener net.Listener
}

// Listen opens the door if it is configured; else it is nil. Secret and rate are the configuration's.
func Listen(c settings.Config, o brokerauth.Options, cert *tls.Config, log *slog.Logger) (*Door, error) {
	address := c.Str("broker_auth_listen")
	if address == "" {
		return nil, nil
	}
	o.Secret, o.Rate, o.Log = c.Secret("broker_auth_secret"), c.Num("broker_auth_rate"), log
	e, err := brokerauth.New(o)
	if err != nil {
		return nil, err
	}
	own := cert.Clone()
	if cert != nil {
		if own.ClientCAs, err = CAs(c); err != nil {
			return nil, err
		}
		if own.ClientCAs != nil {
			own.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	d := &Door{Counts: e.Counts, server: httpapi.Server(e, log)}
	if d.listener, err = httpapi.Listen(address, 256, 256); err != nil {
		return nil, err
	}
	if own != nil {
		d.listener = tls.NewListener(d.listener, own)
	}
	return d, nil
}

// Addr is where it listens.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

// Serve answers until it is shut down.
func (d *Door) Serve() error {
	if err := d.server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown lets what is under way come to its end, unless the context ends before.
func (d *Door) Shutdown(ctx context.Context) error {
	if d == nil {
		return nil
	}
	if d.server.Shutdown(ctx) != nil {
		return d.server.Close()
	}
	return nil
}

// Close gives back what listens and does not serve.
func (d *Door) Close() error {
	if d == nil {
		return nil
	}
	return d.listener.Close()
}
