//go:build services

package mqttlink_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

func TestTLSPasswordsAndClientCertificates(t *testing.T) {
	ca, other := servers.NewAuthority(t), servers.NewAuthority(t)
	mutual := mosquitto(t, servers.Options{TLS: ca, Config: []string{"require_certificate true"}})
	simple := mosquitto(t, servers.Options{TLS: ca, Passwords: map[string]string{"worker": "KANARIE-right"}, ACL: []string{"user worker", "topic readwrite up/#"}})
	plain := mosquitto(t, servers.Options{})
	cert, key := ca.Issue("worker")
	wrongCert, wrongKey := other.Issue("worker")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("KANARIE-right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secured := func(b broker, change func(*mqttlink.Connection)) mqttlink.Connection {
		c := b.connection()
		c.URL, c.CAFile = "mqtts://"+b.Addr(), ca.File()
		change(&c)
		return c
	}
	for _, one := range []struct {
		name string
		c    mqttlink.Connection
		want string // of the error; empty: it works
	}{
		{"password", secured(simple, func(c *mqttlink.Connection) { c.Username, c.Password = "worker", secret.New("KANARIE-right") }), ""},
		{"password in a file", secured(simple, func(c *mqttlink.Connection) { c.Username, c.PasswordFile = "worker", password }), ""},
		{"wrong password", secured(simple, func(c *mqttlink.Connection) { c.Username, c.Password = "worker", secret.New("KANARIE-wrong") }), "password"},
		{"no password", secured(simple, func(*mqttlink.Connection) {}), "username"},
		{"no CA", secured(simple, func(c *mqttlink.Connection) { c.CAFile = "" }), "ca_file"},
		{"another CA", secured(simple, func(c *mqttlink.Connection) { c.CAFile = other.File() }), "ca_file"},
		{"another host", secured(simple, func(c *mqttlink.Connection) { c.URL = strings.Replace(c.URL, "127.0.0.1", "127.0.0.2", 1) }), "cannot be reached"},
		{"a client certificate", secured(mutual, func(c *mqttlink.Connection) { c.CertFile, c.KeyFile = cert, key }), ""},
		{"no client certificate", secured(mutual, func(*mqttlink.Connection) {}), "cert_file"},
		{"another's client certificate", secured(mutual, func(c *mqttlink.Connection) { c.CertFile, c.KeyFile = wrongCert, wrongKey }), "cert_file"},
		{"a broker without TLS", secured(plain, func(*mqttlink.Connection) {}), "url"},
		{"presence that may not be told", secured(simple, func(c *mqttlink.Connection) {
			c.Username, c.PasswordFile, c.Presence = "worker", password, true
		}), "presence"},
	} {
		t.Run(one.name, func(t *testing.T) {
			s := newSink()
			ls := open(t, options(s), one.c)
			if one.want == "" {
				ready(t, ls)
				return
			}
			if one.want == "presence" { // a broker that lets a will in that it will not publish leaves this alone to be seen
				eventually(t, "it is counted", func() bool { return count(ls, "presence_failures_total")+count(ls, "connect_failures_total") > 0 })
				return
			}
			eventually(t, "it is refused", func() bool { return count(ls, "connect_failures_total")+count(ls, "disconnects_total") > 0 })
			err := ls.Ready()
			if err == nil || !strings.Contains(err.Error(), one.want) || strings.Contains(err.Error(), "KANARIE") {
				t.Errorf("%v, want %q", err, one.want)
			}
		})
	}
}
