package kafkabus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
)

// certificate is one that an authority signs, or which signs itself.
func certificate(t *testing.T, name string, by *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: by == nil, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := c, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Every connection of ours, kafka-go's and the one beside it, is by TLS with our certificate and by SCRAM with our name.
func TestConnectionsAreSecuredOnBothSides(t *testing.T) {
	authority := certificate(t, "authority", nil)
	pool := x509.NewCertPool()
	pool.AddCert(authority.Leaf)
	const user, password = "somebody", "a password of some length"
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "t"), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", user, password),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{*certificate(t, "broker", authority)}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	whole := quick(kafkabus.Options{
		Brokers: c.ListenAddrs(), User: user, Password: secret.New(password), RequireTLS: true,
		TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{*certificate(t, "client", authority)}, MinVersion: tls.VersionTLS12},
	})
	b := open(t, whole)
	good(t, b.Publish(soon(t), sent("t", 5, 0, 100)))
	noHoles(t, drain(t, join(t, b, "g", "t"), 100))
	for name, spoil := range map[string]func(*kafkabus.Options){
		"no TLS":              func(o *kafkabus.Options) { o.TLS = nil },
		"no certificate":      func(o *kafkabus.Options) { o.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12} },
		"another's authority": func(o *kafkabus.Options) { o.TLS = o.TLS.Clone(); o.TLS.RootCAs = x509.NewCertPool() },
		"another name":        func(o *kafkabus.Options) { o.TLS = o.TLS.Clone(); o.TLS.ServerName = "elsewhere" },
		"a certificate of itself": func(o *kafkabus.Options) {
			o.TLS = o.TLS.Clone()
			o.TLS.Certificates = []tls.Certificate{*certificate(t, "x", nil)}
		},
		"another password": func(o *kafkabus.Options) { o.Password = secret.New("another password") },
		"nobody":           func(o *kafkabus.Options) { o.User, o.Password = "", secret.Text{} },
	} {
		o := whole
		spoil(&o)
		b := open(t, o)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		if name == "another password" { // it is told, and asks for no time
			ctx = soon(t)
		}
		if err := b.Check(ctx, "t"); err == nil || name == "another password" && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
		if errs := b.Publish(ctx, sent("t", 1, 0, 1)); errs[0] == nil {
			t.Errorf("%s: published", name)
		}
		cancel()
	}
}

// elsewhere is a connection to another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9092} }

// The address that counts is that of the connection: brokers may be named by others.
func TestNothingGoesToAnotherMachineInPlainText(t *testing.T) {
	_, p := fake(t)
	create(t, p, "t", 1)
	o := p.options
	o.RequireTLS = true
	good(t, open(t, o).Publish(soon(t), sent("t", 1, 0, 1))) // this machine
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return elsewhere{conn}, nil
	}
	b := open(t, o)
	if err := b.Check(soon(t), "t"); !fault.Is(err, fault.Denied) {
		t.Errorf("%v", err)
	}
	if errs := b.Publish(soon(t), sent("t", 1, 0, 1)); !fault.Is(errs[0], fault.Denied) {
		t.Errorf("%v", errs[0])
	}
	if _, err := b.Join(soon(t), "g", "t"); !fault.Is(err, fault.Denied) {
		t.Errorf("%v", err)
	}
}

// A broker that takes connections and then says nothing, as one that is frozen does, keeps neither a question nor the end waiting.
func TestABrokerThatSaysNothingIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // this machine's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	b, err := kafkabus.Open(kafkabus.Options{Brokers: []string{l.Addr().String()}, User: "events", Password: secret.New("word")})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ctx, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		err := b.Check(ctx, "rf.uplinks")
		ended <- errors.Join(err, b.Close())
	}()
	select {
	case err := <-ended:
		if !fault.Is(err, fault.Unavailable) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		_ = l.Close() // and with it the connection
		t.Fatal("it waits for an answer")
	}
}
