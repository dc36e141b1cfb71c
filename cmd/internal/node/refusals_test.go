//go:build services

package node_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

var binaries = []string{"platform-api", "event-worker", "mqtt-ingestion-worker"}

// alone is what our binaries need to begin, on the servers that tests share.
type alone struct {
	*deployment
	server   *pgtest.Server
	database string
}

func newAlone(t *testing.T) *alone {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	a := &alone{deployment: &deployment{t: t, bin: bin, dir: t.TempDir(), workers: map[string]*process{}}, server: pgtest.New(pgtest.Oldest)}
	a.database = a.server.Database(t)
	if _, err := keyring.Init(filepath.Join(a.dir, "keys")); err != nil {
		t.Fatal(err)
	}
	a.connections(nobody)
	return a
}

// nobody is a broker that is not there.
const nobody = "mqtt://127.0.0.1:1"

// connections writes the MQTT worker's file of one connection.
func (a *alone) connections(url string) {
	a.t.Helper()
	text := fmt.Sprintf("- name: lab\n  url: %s\n  format: plain\n  tenant_from: fixed\n  filters: [up/+]\n  tenant: %s\n  source: %s\n", url, ident.Tenant{1}, ident.Source{1})
	if err := os.WriteFile(filepath.Join(a.dir, "connections.yaml"), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// role is how a binary signs in to the database.
func role(binary string) string {
	if binary == "mqtt-ingestion-worker" {
		return "reader"
	}
	return "runtime"
}

// env is what a binary is told that has all it needs.
func (a *alone) env(binary string) []string {
	addr, admin := servers.SharedKafka(a.t)
	env := []string{
		"RINGFENCE_DATABASE_URL=" + a.server.URL(a.database, role(binary)).Reveal(), "RINGFENCE_KAFKA_BROKERS=" + addr, "RINGFENCE_KAFKA_USER=" + admin.User, "RINGFENCE_KAFKA_PASSWORD=" + admin.Password,
		"RINGFENCE_METRICS_LISTEN=" + servers.Free(a.t),
	}
	switch binary {
	case "platform-api":
		return append(env, "RINGFENCE_KEYS="+filepath.Join(a.dir, "keys"), "RINGFENCE_LISTEN="+servers.Free(a.t), "RINGFENCE_PUBLIC_URL=https://iot.example.com", "RINGFENCE_ENGINE="+filepath.Join(a.dir, "engine"))
	case "event-worker":
		return append(env, "RINGFENCE_KEYS="+filepath.Join(a.dir, "keys"), "RINGFENCE_ENGINE="+filepath.Join(a.dir, "engine"))
	}
	return append(env, "RINGFENCE_CONNECTIONS_FILE="+filepath.Join(a.dir, "connections.yaml"))
}

// refused starts a binary and wants it to end by itself, with a code and with what is to be done.
func (a *alone) refused(binary string, code int, want string, args []string, env ...string) {
	a.t.Helper()
	ctx, end := context.WithTimeout(a.t.Context(), time.Minute)
	defer end()
	c := exec.CommandContext(ctx, filepath.Join(a.bin, binary), args...)
	c.Dir = a.dir
	c.Env = append(append(os.Environ(), a.env(binary)...), env...)
	out, err := c.CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != code || !strings.Contains(string(out), want) || strings.Contains(string(out), secretWord) {
		a.t.Errorf("%v, want exit %d and %q, without secrets:\n%s", err, code, want, out)
	}
}

// What is not safe, or is not what a binary works on, is refused at start by each binary itself, with what to do.
func TestEachBinaryRefusesToStartOnWhatIsNotSafe(t *testing.T) {
	a := newAlone(t)
	file := filepath.Join(a.dir, "unknown.yaml")
	if err := os.WriteFile(file, []byte("kafka_broker: x:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var bypassing = "bypass_" + strings.ToLower(rand.Text())
	if err := a.server.Ask(t.Context(), a.database, "CREATE ROLE "+bypassing+" LOGIN BYPASSRLS PASSWORD '"+secretWord+"' IN ROLE ringfence_runtime"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.server.Ask(context.WithoutCancel(t.Context()), a.database, "DROP ROLE "+bypassing); err != nil {
			t.Error(err)
		}
	})
	others, none, empty := filepath.Join(a.dir, "others"), filepath.Join(a.dir, "none"), filepath.Join(a.dir, "empty")
	if _, err := keyring.Init(others); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	begun := exec.CommandContext(t.Context(), filepath.Join(a.bin, "platform-api"), "audit-key") // a database knows the keys that it was begun with
	begun.Dir, begun.Env = a.dir, append(os.Environ(), a.env("platform-api")...)
	if out, err := begun.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	keyed := []string{"platform-api", "event-worker"}
	newer, older := a.server.Database(t), a.server.Empty(t)
	if err := a.server.Ask(t.Context(), newer, "INSERT INTO bun_migrations (name, group_id) VALUES ('20991231000001', 99)"); err != nil {
		t.Fatal(err)
	}
	as := func(database, role string) func(string) []string {
		return func(string) []string {
			return []string{"RINGFENCE_DATABASE_URL=" + a.server.URL(database, role).Reveal()}
		}
	}
	its := func(database string) func(string) []string {
		return func(binary string) []string { return as(database, role(binary))(binary) }
	}
	say := func(env ...string) func(string) []string { return func(string) []string { return env } }
	const elsewhere = "postgres://ringfence_runtime:" + secretWord + "@db.example/ringfence"
	connection := func(url string) func(string) []string {
		return func(string) []string { a.connections(url); return nil }
	}
	for _, c := range []struct {
		name string
		only []string // binaries; nil: all
		args []string
		env  func(binary string) []string
		code int
		want string
	}{
		{"an unknown key in the file", nil, []string{"--config", file}, say(), 2, `there is no setting "kafka_broker"; did you mean "kafka_brokers"?`},
		{"an unknown key in the environment", nil, nil, say("RINGFENCE_DATABASE=" + secretWord), 2, "there is no setting RINGFENCE_DATABASE"},
		{"an unknown key on the command line", nil, []string{"--set", "kafka_broker=x:1"}, say(), 2, "did you mean"},
		{"a setting that another binary has", []string{"event-worker", "mqtt-ingestion-worker"}, nil, say("RINGFENCE_LISTEN=127.0.0.1:1"), 2, "there is no setting RINGFENCE_LISTEN"},
		{"a database in clear", nil, nil, say("RINGFENCE_DATABASE_URL=" + elsewhere + "?sslmode=disable"), 2, "add sslmode=verify-full"},
		{"a database that TLS does not verify", nil, nil, say("RINGFENCE_DATABASE_URL=" + elsewhere + "?sslmode=require"), 2, "add sslmode=verify-full"},
		{"an outbox in clear", []string{"event-worker"}, nil, say("RINGFENCE_OUTBOX_DATABASE_URL=" + elsewhere + "?sslmode=prefer"), 2, "outbox_database_url: the database is not on this machine"},
		{"a Kafka that asks nobody who they are", nil, nil, say("RINGFENCE_KAFKA_BROKERS=kafka.example:9092", "RINGFENCE_KAFKA_USER=", "RINGFENCE_KAFKA_PASSWORD="), 2, "set kafka_user and kafka_password, or a client certificate"},
		{"metrics for everybody", nil, nil, say("RINGFENCE_METRICS_LISTEN=0.0.0.0:0"), 2, "metrics_plain_http: true"},
		{"an API in clear", []string{"platform-api"}, nil, say("RINGFENCE_LISTEN=0.0.0.0:0"), 2, "set tls_cert_file and tls_key_file"},
		{"brokers that ask in clear", []string{"platform-api"}, nil, say("RINGFENCE_BROKER_AUTH_LISTEN=0.0.0.0:0", "RINGFENCE_BROKER_AUTH_SECRET="+strings.Repeat(secretWord, 2)), 2, "broker_auth_plain_http: true"},
		{"anybody who asks as a broker", []string{"platform-api"}, nil, say("RINGFENCE_BROKER_AUTH_LISTEN=127.0.0.1:0"), 2, "RINGFENCE_BROKER_AUTH_SECRET_FILE"},
		{"an MQTT broker in clear", []string{"mqtt-ingestion-worker"}, nil, connection("mqtt://broker.example\n  username: u"), 2, "want mqtts://"},
		{"an MQTT broker that asks nobody who they are", []string{"mqtt-ingestion-worker"}, nil, connection("mqtts://broker.example"), 2, "want username and password_file"},
		{"the role that owns the tables", nil, nil, as(a.database, "owner"), 3, "owns tables, so that the database would show it every tenant's rows; sign in as ringfence_runtime"},
		{"a superuser", nil, nil, as(a.database, ""), 3, "is a superuser"},
		{"a role that bypasses row-level security", nil, nil, func(string) []string {
			url := strings.Replace(a.server.URL(a.database, "runtime").Reveal(), "ringfence_runtime:runtime", bypassing+":"+secretWord, 1)
			return []string{"RINGFENCE_DATABASE_URL=" + url}
		}, 3, "bypasses row-level security"},
		{"a role that may write, where nothing is written", []string{"mqtt-ingestion-worker"}, nil, as(a.database, "runtime"), 3, "sign in as ringfence_reader"},
		{"an outbox as the owner", []string{"event-worker"}, nil, func(string) []string {
			return []string{"RINGFENCE_OUTBOX_DATABASE_URL=" + a.server.URL(a.database, "owner").Reveal()}
		}, 3, "owns tables"},
		{"keys of another deployment", keyed, nil, say("RINGFENCE_KEYS=" + others), 3, "are not those of this database, which was made with another"},
		{"keys that are not there", keyed, nil, say("RINGFENCE_KEYS=" + none), 3, "ringfence keys init"},
		{"a folder without keys", keyed, nil, say("RINGFENCE_KEYS=" + empty), 3, "ringfence keys init"},
		{"a schema newer than the binary", nil, nil, its(newer), 3, "newer than this program, and migration 20991231000001 needs a newer one; use the program that the schema was made for"},
		{"a schema older than the binary", nil, nil, its(older), 3, "run ringfence migrate up"},
	} {
		for _, binary := range binaries {
			if c.only == nil || slices.Contains(c.only, binary) {
				t.Run(c.name+" "+binary, func(t *testing.T) {
					on := *a
					on.deployment = &deployment{t: t, bin: a.bin, dir: a.dir}
					on.connections(nobody)
					on.refused(binary, c.code, c.want, c.args, c.env(binary)...)
				})
			}
		}
	}
	if made, err := os.ReadDir(empty); err != nil || len(made) > 0 {
		t.Errorf("keys were made: %v %v", made, err)
	}
	if _, err := os.Stat(none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder for keys was made: %v", err)
	}
}

// gate is an address that nobody listens at until it is opened; it leads to a server then.
type gate struct {
	at, to string
	listen func() net.Listener
}

func newGate(t *testing.T, to string) gate {
	t.Helper()
	at, listen := servers.Shut(t)
	return gate{at, to, listen}
}

func (g gate) open() {
	l := g.listen()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", g.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				}()
			}
		}
	}()
}

// pauses are those that a process has logged before it tried something again.
func (p *process) pauses(what string) (all []time.Duration) {
	for _, line := range bytes.Split([]byte(p.log.all()), []byte("\n")) {
		var said struct {
			Msg   string        `json:"msg"`
			Again time.Duration `json:"again"`
		}
		if json.Unmarshal(line, &said) == nil && said.Msg == what {
			all = append(all, said.Again)
		}
	}
	return all
}

// What is away at start is waited for: /readyz says what, /healthz that the process lives, and it works once all is there.
func TestEachBinaryWaitsForWhatIsAwayAtStart(t *testing.T) {
	a := newAlone(t)
	addr, admin := servers.SharedKafka(t)
	prefix := "t-" + strings.ToLower(rand.Text())
	carrier, err := kafkabus.Open(kafkabus.Options{Brokers: []string{addr}, User: admin.User, Password: secret.New(admin.Password), Expected: kafkabus.ExpectedTopic(prefix)})
	if err != nil {
		t.Fatal(err)
	}
	a.carrier = carrier
	t.Cleanup(func() { _ = carrier.Close() })
	if _, err := carrier.Apply(t.Context(), kafkabus.Layout{Prefix: prefix, Partitions: 1, Replicas: 1, InSync: 1}); err != nil {
		t.Fatal(err)
	}
	broker := servers.Mosquitto(t, servers.Options{})
	broker.Stop()
	a.pg = broker // whose log is looked at when something fails
	a.connections("mqtt://" + broker.Addr())
	database := a.server.URL(a.database, "").Reveal()
	_, host, _ := strings.Cut(database, "@")
	host, _, _ = strings.Cut(host, "/")
	toDatabase, toKafka := newGate(t, host), newGate(t, addr)
	for _, binary := range binaries {
		env := append(a.env(binary), "RINGFENCE_KAFKA_PREFIX="+prefix, "RINGFENCE_KAFKA_BROKERS="+toKafka.at, "RINGFENCE_DATABASE_URL="+strings.Replace(a.server.URL(a.database, role(binary)).Reveal(), host, toDatabase.at, 1))
		p := &process{name: binary, make: func() *exec.Cmd {
			c := exec.Command(filepath.Join(a.bin, binary))
			c.Dir, c.Env = a.dir, append(os.Environ(), env...)
			return c
		}}
		a.workers[binary] = p
		a.start(p)
		t.Cleanup(func() { a.end(p, syscall.SIGTERM) })
	}
	api, events, mqtt := a.workers["platform-api"], a.workers["event-worker"], a.workers["mqtt-ingestion-worker"]
	for _, p := range a.workers {
		a.unready(p, "The database cannot be used")
		a.await(p.name+" tries again and again", time.Minute, func() error {
			if all := p.pauses("the database is away"); len(all) < 3 || all[0] >= all[1] || all[1] >= all[2] {
				return fmt.Errorf("it paused for %v", all)
			}
			return nil
		})
	}
	toDatabase.open()
	a.await("the API", time.Minute, func() error { return a.ready(api.metrics()) })
	a.unready(events, "The bus cannot be reached")
	a.unready(mqtt, "broker")
	toKafka.open()
	a.await("the event worker", time.Minute, func() error { return a.ready(events.metrics()) })
	a.unready(mqtt, "broker")
	broker.Start()
	a.await("the MQTT worker", time.Minute, func() error { return a.ready(mqtt.metrics()) })
}

// The database goes away once it was reached, just when the keys are compared to its own: that is waited for as any other time.
func TestADatabaseThatGoesAwayWhileABinaryStartsIsWaitedFor(t *testing.T) {
	a := newAlone(t)
	tell := func(statements ...string) {
		t.Helper()
		if err := a.server.Ask(t.Context(), a.database, statements...); err != nil {
			t.Fatal(err)
		}
	}
	tell(`CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$`,
		"CREATE TRIGGER gone BEFORE INSERT ON marks FOR EACH STATEMENT EXECUTE FUNCTION gone()")
	p := &process{name: "platform-api", make: func() *exec.Cmd {
		c := exec.Command(filepath.Join(a.bin, "platform-api"))
		c.Dir, c.Env = a.dir, append(os.Environ(), a.env("platform-api")...)
		return c
	}}
	a.start(p)
	t.Cleanup(func() { a.end(p, syscall.SIGTERM) })
	awake := func(what string, holds func() error) {
		t.Helper()
		a.await(what, time.Minute, func() error {
			select {
			case <-p.done:
				t.Fatalf("it ended:\n%s", p.log)
			default:
			}
			return holds()
		})
	}
	awake("it tries again", func() error {
		if all := p.pauses("the database is away"); len(all) < 2 {
			return fmt.Errorf("it paused for %v", all)
		}
		return nil
	})
	tell("DROP TRIGGER gone ON marks")
	awake("the API", func() error { return a.ready(p.metrics()) })
}
