package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
)

// probeWait is how long an address may take to answer: one that says nothing has not answered.
const probeWait = 5 * time.Second

// hello is the first thing that is said in a protocol, without a name or a password, and whether an answer is the protocol's own:
// somebody who says it in clear and is answered has been let in without TLS.
type hello struct {
	name string
	// upgrade asks for TLS within the protocol; nil: TLS is there from the first byte.
	upgrade func(net.Conn) error
	ask     []byte
	answers func(*bufio.Reader) bool
}

// httpHello is answered by whoever speaks HTTP. A TLS listener of ours or of a proxy says 400 in clear, which lets nobody in.
func httpHello(host string) hello {
	return hello{"HTTP", nil, []byte("GET /healthz HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"), func(r *bufio.Reader) bool {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode != http.StatusBadRequest && !strings.HasPrefix(res.Header.Get("Location"), "https://")
	}}
}

// mqttHello is a CONNECT of MQTT 5 with an empty client id. Refused or not, an answer is CONNACK.
func mqttHello() hello {
	return hello{"MQTT", nil, []byte{0x10, 0x0d, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 10, 0, 0, 0}, func(r *bufio.Reader) bool {
		b, err := r.Peek(1)
		return err == nil && b[0] == 0x20
	}}
}

// kafkaHello asks which versions are spoken, which every Kafka answers to anybody that it talks to.
func kafkaHello() hello {
	body := []byte{0, 18, 0, 0, 'r', 'i', 'n', 'g', 0, 6, 'd', 'o', 'c', 't', 'o', 'r'} // ApiVersions, version 0, correlation id, client id
	return hello{"Kafka", nil, append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), func(r *bufio.Reader) bool {
		b, err := r.Peek(8)
		return err == nil && bytes.Equal(b[4:], []byte("ring"))
	}}
}

// postgresHello begins a session. Whoever is asked for a password was let in; who is refused is told so by an error.
func postgresHello(user, database string) hello {
	body := binary.BigEndian.AppendUint32(nil, 3<<16)
	for _, s := range []string{"user", user, "database", database, ""} {
		body = append(append(body, s...), 0)
	}
	return hello{"PostgreSQL", postgresTLS, append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...), func(r *bufio.Reader) bool {
		b, err := r.Peek(1)
		return err == nil && b[0] == 'R'
	}}
}

func postgresTLS(c net.Conn) error {
	if _, err := c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
		return err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if b[0] != 'S' {
		return errors.New("it has no TLS")
	}
	return nil
}

// said reports whether an address answers a hello, in clear or by TLS, and what TLS was agreed on. The error is that nobody was
// reached, or that TLS was not: then nothing was answered.
func said(ctx context.Context, address string, h hello, by *tls.Config) (answered bool, agreed tls.ConnectionState, err error) {
	ctx, end := context.WithTimeout(ctx, probeWait)
	defer end()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false, agreed, err
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return false, agreed, err
	}
	if by != nil {
		if h.upgrade != nil {
			if err := h.upgrade(c); err != nil {
				return false, agreed, err
			}
		}
		t := tls.Client(c, by)
		if err := t.HandshakeContext(ctx); err != nil {
			return false, agreed, err
		}
		agreed, c = t.ConnectionState(), t
	}
	if _, err := c.Write(h.ask); err != nil {
		return false, agreed, nil //nolint:nilerr // it hung up: no answer
	}
	return h.answers(bufio.NewReader(c)), agreed, nil
}

// trust is who vouches for the server; nil: whom the system trusts.
func (k doctorCmd) trust() (*x509.CertPool, error) {
	if k.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(k.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", k.CAFile)
	}
	return pool, nil
}

// expiring is how long before its end a certificate is told of.
const expiring = 14 * 24 * time.Hour

// listeners looks at each public address: is it answered in clear, or by an old TLS, and who vouches for it?
func (k doctorCmd) listeners(ctx context.Context) finding {
	const remedy = "Set tls_cert_file and tls_key_file, or end TLS at a proxy in front, and let nobody reach the server around it; tls_cert_file is renewed before it ends."
	trusted, err := k.trust()
	if err != nil {
		return found(yellow, "--ca-file: "+err.Error(), "Name a file with the certificate authority, PEM.")
	}
	u, err := url.Parse(k.Server)
	if err != nil || u.Host == "" {
		return found(yellow, "no address was named", "Name the API by --server https://HOST.")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	var bad, warned, good []string
	probes := map[string]hello{net.JoinHostPort(u.Hostname(), port): httpHello(u.Host)}
	order := []string{net.JoinHostPort(u.Hostname(), port)}
	for _, l := range k.Listener {
		if _, there := probes[l]; !there {
			probes[l], order = mqttHello(), append(order, l)
		}
	}
	for _, address := range order {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return found(yellow, "--listener wants HOST:PORT", "")
		}
		h, before := probes[address], len(bad)+len(warned)
		for _, one := range []hello{h, httpHello(host)} {
			clear, _, err := said(ctx, address, one, nil)
			if err != nil {
				warned = append(warned, address+" is not reached")
				break
			}
			if clear {
				bad = append(bad, address+" answers "+one.name+" in clear")
				break
			}
		}
		_, _, err = said(ctx, address, h, &tls.Config{ServerName: host, RootCAs: trusted, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}) //nolint:gosec // to see whether it is refused
		if err == nil {
			bad = append(bad, address+" still speaks TLS 1.1 or older")
		}
		_, agreed, err := said(ctx, address, h, &tls.Config{ServerName: host, RootCAs: trusted, MinVersion: tls.VersionTLS12})
		var unverified *tls.CertificateVerificationError
		switch {
		case errors.As(err, &unverified):
			bad = append(bad, address+": nobody who is trusted here vouches for its certificate, or it is over ("+fault.Cause(unverified.Err)+")")
		case err != nil:
			if len(bad)+len(warned) == before {
				bad = append(bad, address+" does not speak TLS")
			}
		case time.Until(agreed.PeerCertificates[0].NotAfter) < expiring:
			warned = append(warned, address+": the certificate ends on "+agreed.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
		default:
			good = append(good, address+" speaks "+tls.VersionName(agreed.Version)+" alone, until "+agreed.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
		}
	}
	switch {
	case len(bad) > 0:
		return found(red, some(append(bad, warned...)), remedy)
	case len(warned) > 0:
		return found(yellow, some(warned), remedy)
	}
	return found(green, some(good), "")
}

// stores are database and Kafka, as they are named or the URL says.
func (k doctorCmd) stores(database secret.Text) (address, user, name string) {
	address, user, name = k.Database, "ringfence_runtime", "ringfence"
	if u, err := url.Parse(database.Reveal()); err == nil && u.Host != "" {
		port := u.Port()
		if port == "" {
			port = "5432"
		}
		if address == "" {
			address = net.JoinHostPort(u.Hostname(), port)
		}
		if u.User.Username() != "" {
			user = u.User.Username()
		}
		if path := strings.TrimPrefix(u.Path, "/"); path != "" {
			name = path
		}
	}
	return address, user, name
}

// brokers are what is said of those that were looked at beside database and Kafka.
func (k doctorCmd) brokers() string {
	if len(k.Broker) == 0 {
		return "; no --broker was named"
	}
	return ", nor " + strings.Join(k.Broker, ", ")
}

// network tells whether database, Kafka and brokers are reached from here, where nobody should.
func (k doctorCmd) network(ctx context.Context, database secret.Text) finding {
	address, _, _ := k.stores(database)
	const remedy = "Close it to all but the right pods: deploy/helm/ringfence has the policies (networkPolicy), deploy/compose.yaml the networks; look whether your cluster enforces them."
	if !k.Foreign || address == "" || len(k.Kafka) == 0 {
		return found(yellow, "not looked at: it is seen from outside alone", "Run this in a pod of another application, with --foreign --database HOST:PORT --kafka HOST:PORT --broker HOST:PORT.")
	}
	var open []string
	for _, at := range slices.Concat([]string{address}, k.Kafka, k.Broker) {
		within, end := context.WithTimeout(ctx, probeWait)
		c, err := (&net.Dialer{}).DialContext(within, "tcp", at)
		end()
		if err == nil {
			_ = c.Close()
			open = append(open, at+" is reached from here")
		}
		var unknown *net.DNSError
		if errors.As(err, &unknown) {
			return found(yellow, at+" has no address here, so that nothing was tried", "Name it by its address.")
		}
	}
	if len(open) > 0 {
		return found(red, some(open), remedy)
	}
	return found(green, "neither database nor Kafka is reached from here"+k.brokers(), "")
}

// internal tells whether database, Kafka and brokers answer without TLS, or without a certificate of the caller's.
func (k doctorCmd) internal(ctx context.Context, database secret.Text) finding {
	address, user, name := k.stores(database)
	if address == "" || len(k.Kafka) == 0 {
		return found(yellow, "not looked at: which database and Kafka?", "Name them by --database HOST:PORT and --kafka HOST:PORT.")
	}
	type probe struct {
		at string
		hello
	}
	probes := []probe{{address, postgresHello(user, name)}}
	for _, at := range k.Kafka {
		probes = append(probes, probe{at, kafkaHello()})
	}
	for _, at := range k.Broker {
		probes = append(probes, probe{at, mqttHello()})
	}
	var bad []string
	for _, p := range probes {
		clear, _, err := said(ctx, p.at, p.hello, nil)
		if err != nil {
			return found(yellow, p.at+" is not reached from here", "Run this where the services run.")
		}
		if clear {
			bad = append(bad, p.name+" at "+p.at+" answers in clear")
			continue
		}
		// Who vouches for it is each client's own matter (sslmode=verify-full, kafka_ca_file); here it is asked whom it lets in.
		bare, _, err := said(ctx, p.at, p.hello, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // nothing is told to it
		switch {
		case err == nil && bare:
			bad = append(bad, p.name+" at "+p.at+" answers who shows no certificate")
		case err != nil && !refusedFor(err):
			return found(yellow, p.at+" could not be asked by TLS", "Look at its log, and run this again.")
		}
	}
	if len(bad) > 0 {
		return found(red, some(bad), "PostgreSQL: hostssl lines alone in pg_hba.conf, with clientcert=verify-full. Kafka: SSL or SASL_SSL listeners with ssl.client.auth=required. Mosquitto: require_certificate true. Services: sslcert and sslkey in the URL, kafka_cert_file, kafka_key_file; a connection's cert_file and key_file.")
	}
	return found(green, "database and Kafka answer nobody without TLS and a certificate of the caller's"+k.brokers()+"; metrics and probes of our own processes are plain HTTP, and stay behind network policy", "")
}

// refusedFor tells an alert, by which a server ends a handshake that lacks a certificate, from a failure to reach one.
func refusedFor(err error) bool {
	var alert tls.AlertError
	var op *net.OpError
	return errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error"
}
