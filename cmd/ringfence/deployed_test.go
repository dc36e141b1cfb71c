package main

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// deployedEnv names a folder with the scaled-out deployment's binaries: served then starts these, over PostgreSQL and Kafka, in the
// single binary's place.
const deployedEnv = "TEST_DEPLOYED"

// postgres15 makes the schema once; each test has a database of its own.
var postgres15 = sync.OnceValue(func() *pgtest.Server { return pgtest.New(pgtest.Oldest) })

// deployed is an API and an event worker on a database and topics of their own, and the setup token.
func deployed(t *testing.T, log io.Writer, settings ...string) (*story, string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	said := &output{}
	dir, listen, prefix := t.TempDir(), servers.Free(t), "suite-"+strings.ToLower(rand.Text())
	kafka, login := servers.SharedKafka(t)
	carrier, err := kafkabus.Open(kafkabus.Options{Brokers: []string{kafka}, User: login.User, Password: secret.New(login.Password), Expected: kafkabus.ExpectedTopic(prefix)})
	must(err)
	t.Cleanup(func() { _ = carrier.Close() })
	_, err = carrier.Apply(t.Context(), kafkabus.Layout{Prefix: prefix, Partitions: 1, Replicas: 1, InSync: 1})
	must(err)
	_, err = keyring.Init(filepath.Join(dir, "keys"))
	must(err)
	warm(t, dir)
	database := postgres15().Database(t)
	binary := func(name string, env ...string) *exec.Cmd {
		c := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(os.Getenv(deployedEnv), name))
		c.Dir, c.Stdout, c.Stderr = dir, said, io.MultiWriter(said, log)
		c.Env = append(append(os.Environ(), "RINGFENCE_DATABASE_URL="+postgres15().URL(database, "runtime").Reveal(), "RINGFENCE_KAFKA_BROKERS="+kafka, "RINGFENCE_KAFKA_USER="+login.User, "RINGFENCE_KAFKA_PASSWORD="+login.Password,
			"RINGFENCE_KAFKA_PREFIX="+prefix, "RINGFENCE_LOG_LEVEL=error", "RINGFENCE_METRICS_LISTEN="+servers.Free(t), "RINGFENCE_KEYS="+filepath.Join(dir, "keys"), "RINGFENCE_ENGINE="+filepath.Join(dir, "engine")), env...)
		return c
	}
	own := []string{"RINGFENCE_LISTEN=" + listen, "RINGFENCE_PUBLIC_URL=http://" + listen, "RINGFENCE_PASSWORD_MEMORY_KIB=19456", "RINGFENCE_PASSWORD_TIME=2"}
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		own = append(own, "RINGFENCE_"+strings.ToUpper(key)+"="+value)
	}
	worker := servers.Free(t)
	for _, c := range []*exec.Cmd{binary("platform-api", own...), binary("event-worker", "RINGFENCE_METRICS_LISTEN="+worker, "RINGFENCE_OUTBOX_DATABASE_URL="+postgres15().URL(database, "relay").Reveal())} {
		must(c.Start())
		t.Cleanup(func() {
			_ = c.Process.Kill()
			_ = c.Wait()
		})
	}
	s := &story{ctx: t.Context(), dir: dir, base: "http://" + listen, out: io.Discard, client: &http.Client{Timeout: 20 * time.Second}}
	for _, at := range []string{listen, worker} {
		probed := &story{ctx: s.ctx, base: "http://" + at, client: s.client}
		up, err := s.wait(1, func() (int, error) {
			if probed.get("", "/readyz").status == http.StatusOK {
				return 1, nil
			}
			return 0, nil
		})
		must(err)
		if up == 0 {
			t.Fatalf("what is at %s does not come up: %s", at, said.text())
		}
	}
	link := binary("platform-api", own...)
	link.Args, link.Stdout = append(link.Args, "setup-link"), nil
	out, err := link.Output()
	must(err)
	return s, regexp.MustCompile(`rf_set_[0-9A-Za-z]+`).FindString(string(out))
}
