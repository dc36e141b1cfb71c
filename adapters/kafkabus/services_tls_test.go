//go:build services

package kafkabus_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/bustest"
)

// by is TLS with files in PEM: who is trusted, and what is shown.
func by(t *testing.T, ca, cert, key string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", ca)
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

func TestTheBusFillsThePortOnKafkaByTLS(t *testing.T) {
	p := shared(t)
	at := servers.SharedSecured(t)
	p.options.Brokers, p.options.TLS, p.options.RequireTLS = []string{at.TLS}, by(t, at.CAFile, "", ""), true
	bustest.Run(t, func(testing.TB) *bustest.Server { return p.server() }, bustest.Losing, bustest.Growing, bustest.Cutting)
}

// A Kafka that takes certificates knows us by ours, and asks for no password.
func TestAClientCertificateIsWhoWeAre(t *testing.T) {
	p, at := shared(t), servers.SharedSecured(t)
	topic := strings.ToLower("mutual." + rand.Text())
	create(t, p, topic, 2)
	b := open(t, quick(kafkabus.Options{Brokers: []string{at.Mutual}, TLS: by(t, at.CAFile, at.CertFile, at.KeyFile), RequireTLS: true}))
	good(t, b.Publish(soon(t), sent(topic, 5, 0, 100)))
	noHoles(t, drain(t, join(t, b, topic, topic), 100))
}

// What is wrong with TLS is told as what to do about it, and no record goes anywhere.
func TestWhatIsWrongWithTLSIsToldWithItsRemedy(t *testing.T) {
	addr, admin := servers.SharedKafka(t)
	p, at, other := shared(t), servers.SharedSecured(t), servers.NewAuthority(t)
	topic := strings.ToLower("tls." + rand.Text())
	create(t, p, topic, 1)
	cert, key := other.Issue(admin.User)
	elsewhere := by(t, at.CAFile, "", "")
	elsewhere.ServerName = "kafka.example"
	older := by(t, at.CAFile, cert, key)
	older.MaxVersion = tls.VersionTLS12 // where the broker refuses within the handshake
	scram := func(at string, by *tls.Config) kafkabus.Options {
		return kafkabus.Options{Brokers: []string{at}, TLS: by, User: admin.User, Password: secret.New(admin.Password)}
	}
	mutual := func(by *tls.Config) kafkabus.Options { return kafkabus.Options{Brokers: []string{at.Mutual}, TLS: by} }
	nobody := scram(at.TLS, nil)
	nobody.User = ""
	t.Run("each", func(t *testing.T) {
		for name, c := range map[string]struct {
			o    kafkabus.Options
			code string
			want string // of the message
		}{
			"another authority":                         {scram(at.TLS, by(t, other.File(), "", "")), "kafka_authority", "kafka_ca_file"},
			"another name":                              {scram(at.TLS, elsewhere), "kafka_name", "advertised.listeners"},
			"plain text to a listener of TLS":           {scram(at.TLS, nil), "kafka_speaks_tls", "kafka_ca_file"},
			"plain text by nobody to a listener of TLS": {nobody, "kafka_speaks_tls", "kafka_ca_file"},
			"TLS to a listener of plain text":           {scram(addr, by(t, at.CAFile, "", "")), "kafka_speaks_plain", "SASL_SSL"},
			"no certificate":                            {mutual(by(t, at.CAFile, "", "")), "kafka_certificate", "kafka_cert_file"},
			"a certificate that nobody vouches for":     {mutual(by(t, at.CAFile, cert, key)), "kafka_certificate", "kafka_cert_file"},
			"one that nobody vouches for, by older TLS": {mutual(older), "kafka_certificate", "kafka_cert_file"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := open(t, quick(c.o))
				for what, do := range map[string]func(context.Context) error{
					"check": func(ctx context.Context) error { return b.Check(ctx, topic) },
					"publish": func(ctx context.Context) error {
						return b.Publish(ctx, []bus.Record{{Topic: topic, Key: "k", Value: []byte("v")}})[0]
					},
					"join": func(ctx context.Context) error { _, err := b.Join(ctx, topic, topic); return err },
				} {
					err := do(soon(t))
					if f := fault.As(err); f == nil || f.Code != c.code || !strings.Contains(f.Message, c.want) {
						t.Errorf("%s: %v (%s), want %s with %q", what, err, fault.Cause(err), c.code, c.want)
					}
				}
			})
		}
	})
	if lags, err := open(t, p.options).Lags(soon(t), topic, topic); err != nil || len(lags) != 1 || lags[0].End != 0 {
		t.Errorf("in the topic: %+v, %v", lags, err)
	}
}
