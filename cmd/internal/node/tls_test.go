//go:build services

package node_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// with is a process with more in its environment.
func with(p *process, env ...string) *process {
	return &process{name: p.name, make: func() *exec.Cmd {
		c := p.make()
		c.Env = append(c.Env, env...)
		return c
	}}
}

// verifying is a process whose database's URLs want TLS, verified by an authority, and show a certificate that another signed.
func verifying(p *process, authority, signer *servers.Authority) *process {
	cert, key := signer.Issue("worker")
	return &process{name: p.name, make: func() *exec.Cmd {
		c := p.make()
		for i, v := range c.Env {
			if url, _, found := strings.Cut(v, "?sslmode="); found {
				c.Env[i] = url + "?sslmode=verify-full&sslrootcert=" + authority.File() + "&sslcert=" + cert + "&sslkey=" + key
			}
		}
		return c
	}}
}

// probe asks a process whether it is ready, or alive.
func (d *deployment) probe(url string) (status int, text string) {
	ctx, end := context.WithTimeout(d.t.Context(), 10*time.Second)
	defer end()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	res, err := new(http.Client).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(said)
}

// unready waits until a process says that it is not ready and why, while it lives.
func (d *deployment) unready(p *process, want string) {
	d.t.Helper()
	d.await(p.name+" says "+want, time.Minute, func() error {
		select {
		case <-p.done:
			d.t.Fatalf("%s ended:\n%s", p.name, p.log)
		default:
		}
		if status, text := d.probe(p.metrics() + "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, want) {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	d.lives(p)
}

// byTLS has every process talk to Kafka and PostgreSQL by TLS, and show both a certificate.
func (d *deployment) byTLS() {
	d.t.Helper()
	cert, key := d.secured.Authority.Issue("events")
	d.end(d.api, syscall.SIGKILL)
	for name, p := range d.workers {
		d.workers[name] = verifying(with(p, "RINGFENCE_KAFKA_BROKERS="+d.secured.TLS, "RINGFENCE_KAFKA_CA_FILE="+d.secured.CAFile, "RINGFENCE_KAFKA_CERT_FILE="+cert, "RINGFENCE_KAFKA_KEY_FILE="+key), d.pgBy, d.pgBy)
	}
	d.api = d.workers["platform-api"]
	d.start(d.api)
	d.await("the API", time.Minute, func() error { return d.ready(d.base) })
}

// Events go through all three binaries with every connection to Kafka and PostgreSQL by TLS, one of them known to Kafka by its
// certificate alone; and none goes on where TLS is not as it should be.
func TestTheDeploymentTalksToKafkaAndPostgreSQLByTLS(t *testing.T) {
	d := deploy(t)
	plain := d.workers["event-worker"]
	d.byTLS()
	d.workers["event-worker"] = with(d.workers["event-worker"], "RINGFENCE_KAFKA_BROKERS="+d.secured.Mutual, "RINGFENCE_KAFKA_USER=", "RINGFENCE_KAFKA_PASSWORD=")
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	d.publish(0, 50)
	d.post(0, 50)
	d.whole(100, 30*time.Second)
	const sessions = "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename LIKE 'ringfence%' AND "
	if others, secured := d.count(sessions+"client_dn IS DISTINCT FROM '/CN=worker'"), d.count(sessions+"ssl AND client_dn = '/CN=worker'"); others != 0 || secured < 3 {
		t.Errorf("%d connections to PostgreSQL by TLS with a certificate of ours, %d otherwise", secured, others)
	}
	d.doctored()

	stranger := servers.NewAuthority(t)
	itsCert, itsKey := stranger.Issue("events")
	for _, c := range []struct {
		binary string
		as     *process
		env    []string
		want   string
	}{
		{"event-worker", d.workers["event-worker"], []string{"RINGFENCE_KAFKA_CA_FILE=" + stranger.File()}, "kafka_ca_file"},
		{"event-worker", d.workers["event-worker"], []string{"RINGFENCE_KAFKA_CERT_FILE=" + itsCert, "RINGFENCE_KAFKA_KEY_FILE=" + itsKey}, "kafka_cert_file"},
		{"event-worker", plain, []string{"RINGFENCE_KAFKA_BROKERS=" + d.secured.TLS}, "we speak plain text"},
		{"mqtt-ingestion-worker", d.workers["mqtt-ingestion-worker"], []string{"RINGFENCE_KAFKA_CA_FILE=" + stranger.File()}, "kafka_ca_file"},
		{"mqtt-ingestion-worker", d.workers["mqtt-ingestion-worker"], []string{"RINGFENCE_KAFKA_BROKERS=" + d.kafka.Addr()}, "SASL_SSL"},
	} {
		d.end(d.workers[c.binary], syscall.SIGKILL)
		p := with(c.as, c.env...)
		d.workers[c.binary] = p
		d.start(p)
		d.unready(p, c.want)
		d.end(p, syscall.SIGKILL)
		d.workers[c.binary] = c.as
	}
	for name, p := range d.workers {
		d.end(p, syscall.SIGKILL)
		for _, c := range []struct {
			astray *process
			want   string
		}{{verifying(p, stranger, d.pgBy), "sslrootcert"}, {verifying(p, d.pgBy, stranger), "sslcert and sslkey"}} {
			d.workers[name] = c.astray
			d.start(c.astray)
			d.unready(c.astray, c.want)
			d.end(c.astray, syscall.SIGKILL)
		}
		d.workers[name] = p
	}
	d.api = with(d.workers["platform-api"], "RINGFENCE_KAFKA_CA_FILE="+stranger.File())
	d.workers["platform-api"] = d.api
	d.start(d.api)
	d.await("the API", time.Minute, func() error { return d.ready(d.base) })
	if status := d.sent(t.Context(), "by a stranger"); status != http.StatusServiceUnavailable {
		t.Errorf("an event that no trusted Kafka took is answered %d", status)
	}
}
