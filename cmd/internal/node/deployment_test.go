//go:build services

package node_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // database/sql by the name pgx

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// deployment is the scaled-out deployment on servers of its own, driven as its users drive it.
type deployment struct {
	t                      testing.TB
	dir                    string
	bin                    string
	pg, kafka, mosquitto   *servers.Server
	admin                  servers.Login      // of Kafka
	secured                servers.Secured    // Kafka's way in by TLS
	pgBy                   *servers.Authority // who signed PostgreSQL's certificate
	database               string             // as the administrator signs in
	server                 *pgtest.Server
	name                   string // of the database there
	runtime, backup        string // as services and the backup do
	env                    []string
	api                    *process
	base                   string
	token                  string
	tenant, source, device string
	decoder                string
	key                    string
	carrier                *kafkabus.Bus
	users                  map[kafkabus.Who]string // as whom our binaries sign in to Kafka
	consumers              map[string]string       // as whom tenants' own consumers do
	administrator          []string                // flags of who may do all there
	workers                map[string]*process
	mqttUser, mqttPassword string
	gates                  []chan struct{} // each lets publish and post send the next part of what they are to send; none: all of it
}

// process is one of our binaries.
type process struct {
	name string
	make func() *exec.Cmd
	cmd  *exec.Cmd
	done chan struct{}
	log  journal
}

// journal is a file of all that a process says, from its first start on.
type journal string

func (j journal) all() string {
	text, _ := os.ReadFile(string(j))
	return string(text)
}

// String is its end, for who reads what a failed test says.
func (j journal) String() string {
	text := j.all()
	return text[max(0, len(text)-1<<16):]
}

// say writes to a process's journal, as the process does.
func (d *deployment) say(p *process, text string) *os.File {
	d.t.Helper()
	if p.log == "" {
		p.log = journal(filepath.Join(d.t.TempDir(), "log"))
	}
	file, err := os.OpenFile(string(p.log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.WriteString(text)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return file
}

func (d *deployment) start(p *process) {
	d.t.Helper()
	p.cmd = p.make()
	p.done = make(chan struct{})
	out := d.say(p, "")
	defer func() { _ = out.Close() }() // the process has its own
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	done := p.done
	cmd := p.cmd
	go func() { _ = cmd.Wait(); close(done) }()
}

func (d *deployment) end(p *process, signal os.Signal) {
	if p == nil || p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Kill()
		d.t.Errorf("%s does not end:\n%s", p.name, p.log)
	}
}

// await waits until something holds.
func (d *deployment) await(what string, within time.Duration, holds func() error) {
	d.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late.C:
			d.logs()
			d.t.Fatalf("%s: not within %v: %v", what, within, err)
		}
	}
}

// logs tells what is known of a deployment that does not do what it should.
func (d *deployment) logs() {
	if d.carrier == nil {
		return // no whole one
	}
	for group, topic := range map[string]string{kafkabus.Group("rf"): "rf.uplinks", kafkabus.LaterGroup("rf"): "rf.uplinks.later", "nobody": "rf.uplinks.dead"} {
		lags, err := d.carrier.Lags(context.WithoutCancel(d.t.Context()), group, topic)
		for _, l := range lags {
			d.t.Logf("%s %d: %d to %d, committed %d", l.Topic, l.Partition, l.First, l.End, l.Committed)
		}
		if err != nil {
			d.t.Logf("%s: %v", topic, err)
		}
	}
	for part := range 4 {
		if rs, err := d.carrier.Browse(context.WithoutCancel(d.t.Context()), "rf.uplinks.dead", part, 0, 3); err == nil {
			for _, r := range rs {
				d.t.Logf("a dead letter: %s", r.Headers)
			}
		}
	}
	for _, line := range strings.Split(d.pg.Log(), "\n") {
		if strings.Contains(line, "denied") {
			d.t.Log(line)
			break
		}
	}
	for name, p := range d.workers {
		if p.log == "" {
			continue
		}
		text := p.log.String()
		if len(text) > 4000 {
			text = text[len(text)-4000:]
		}
		d.t.Logf("%s says:\n%s", name, text)
		if res, err := (&http.Client{Timeout: time.Second}).Get(p.metrics() + "/metrics"); err == nil { //nolint:noctx // a test that has failed
			all, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			for _, line := range strings.Split(string(all), "\n") {
				if !strings.HasPrefix(line, "#") && !strings.Contains(line, "http_request") {
					d.t.Log(line)
				}
			}
		}
	}
}

func word() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// built builds the binaries, into the folder that TestMain made.
var built = sync.OnceValues(func() (string, error) {
	dir := os.Getenv("TEST_BINARIES")
	out, err := exec.Command("go", "build", "-o", dir, "github.com/ringfence/ringfence/cmd/platform-api", "github.com/ringfence/ringfence/cmd/event-worker", "github.com/ringfence/ringfence/cmd/mqtt-ingestion-worker", "github.com/ringfence/ringfence/cmd/ringfence").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ringfence-bin-*")
	if err == nil {
		err = os.Setenv("TEST_BINARIES", dir)
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// deploy starts servers, prepares them as an operator does, starts one API and makes a tenant; workers are the test's.
func deploy(t testing.TB) *deployment {
	t.Helper()
	d := bare(t)
	d.world()
	return d
}

// bare is a deployment in which nobody has signed in yet.
func bare(t testing.TB) *deployment {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{t: t, bin: bin, dir: t.TempDir(), workers: map[string]*process{}, mqttUser: "network-server", mqttPassword: word()}
	d.pgBy = servers.NewAuthority(t)
	d.pg, d.database = servers.SecuredPostgres(t, d.pgBy)
	t.Setenv("TESTBED_POSTGRES_OWN", d.database)
	server := pgtest.New("TESTBED_POSTGRES_OWN")
	name := server.Database(t)
	d.server, d.name, d.database = server, name, server.URL(name, "").Reveal()
	d.kafka, d.admin, d.secured = servers.SecuredKafka(t)
	d.mosquitto = d.broker()
	carrier, err := kafkabus.Open(kafkabus.Options{Brokers: []string{d.kafka.Addr()}, User: d.admin.User, Password: secret.New(d.admin.Password), Expected: kafkabus.ExpectedTopic("rf")})
	if err != nil {
		t.Fatal(err)
	}
	d.carrier = carrier
	t.Cleanup(func() { _ = carrier.Close() })
	d.users, d.consumers = map[kafkabus.Who]string{kafkabus.PlatformAPI: "api", kafkabus.MQTTWorker: "mqtt", kafkabus.EventWorker: "events"}, map[string]string{}
	passwords := map[string]string{}
	for _, user := range d.users {
		passwords[user] = word()
		if err := carrier.SetUser(t.Context(), user, secret.New(passwords[user])); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(d.dir, "admin.password")
	if err := os.WriteFile(file, []byte(d.admin.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	d.administrator = []string{"--admin", d.admin.User, "--password-file", file}
	d.topics()
	keys := filepath.Join(d.dir, "keys")
	if _, err := keyring.Init(keys); err != nil {
		t.Fatal(err)
	}
	d.env = append(os.Environ(), "RINGFENCE_DATABASE_URL="+server.URL(name, "runtime").Reveal(), "RINGFENCE_KAFKA_BROKERS="+d.kafka.Addr(), "RINGFENCE_LOG_LEVEL=warn")
	listen := servers.Free(t)
	d.base = "http://" + listen
	d.api = d.node("platform-api", "api", passwords["api"], "RINGFENCE_KEYS="+keys, "RINGFENCE_LISTEN="+listen, "RINGFENCE_PUBLIC_URL="+d.base, "RINGFENCE_ENGINE="+filepath.Join(d.dir, "engine"),
		"RINGFENCE_SOURCE_RATE=100000", "RINGFENCE_SOURCE_BURST=100000", "RINGFENCE_INGEST_RATE=100000", "RINGFENCE_INGEST_BURST=100000", "RINGFENCE_PRINCIPAL_RATE=10000", "RINGFENCE_PRINCIPAL_BURST=10000", "RINGFENCE_TENANT_RATE=10000", "RINGFENCE_PASSWORD_MEMORY_KIB=19456", "RINGFENCE_PASSWORD_TIME=2")
	d.start(d.api)
	t.Cleanup(func() {
		for _, p := range d.workers {
			d.end(p, syscall.SIGKILL)
		}
	})
	d.runtime, d.backup = server.URL(name, "runtime").Reveal(), server.URL(name, "backup").Reveal()
	d.workers["event-worker"] = d.node("event-worker", "events", passwords["events"], "RINGFENCE_OUTBOX_DATABASE_URL="+server.URL(name, "relay").Reveal(), "RINGFENCE_KEYS="+keys, "RINGFENCE_ENGINE="+filepath.Join(d.dir, "engine"), "RINGFENCE_FUEL_PER_MINUTE=1000000000000")
	d.workers["mqtt-ingestion-worker"] = d.node("mqtt-ingestion-worker", "mqtt", passwords["mqtt"], "RINGFENCE_DATABASE_URL="+server.URL(name, "reader").Reveal(), "RINGFENCE_CONNECTIONS_FILE="+filepath.Join(d.dir, "connections.yaml"),
		"RINGFENCE_SOURCE_RATE=100000", "RINGFENCE_INGEST_RATE=100000", "RINGFENCE_INGEST_BACKLOG=1000000")
	d.workers["platform-api"] = d.api
	d.await("the API", 60*time.Second, func() error { return d.ready(d.base) })
	return d
}

// topics makes topics and rights as an administrator of Kafka does, by the command.
func (d *deployment) topics() {
	d.t.Helper()
	args := append([]string{"kafka", "topics", "--apply", "--brokers", d.kafka.Addr(), "--partitions", "4", "--replicas", "1"}, d.administrator...)
	for binary, user := range d.users {
		args = append(args, "--user", string(binary)+"="+user)
	}
	for tenant, user := range d.consumers {
		args = append(args, "--consumer", tenant+"="+user)
	}
	if out, err := exec.CommandContext(d.t.Context(), filepath.Join(d.bin, "ringfence"), args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%q: %v: %s", args, err, out)
	}
}

// broker starts an MQTT broker.
func (d *deployment) broker() *servers.Server {
	return servers.Mosquitto(d.t, servers.Options{
		Passwords: map[string]string{d.mqttUser: d.mqttPassword, "worker": d.mqttPassword},
		Config:    []string{"max_queued_messages 0", "max_inflight_messages 1000", "persistence true", "autosave_interval 1"},
	})
}

// node is a binary of ours with its own user of Kafka.
func (d *deployment) node(binary, user, password string, env ...string) *process {
	return &process{name: binary, make: func() *exec.Cmd {
		c := exec.Command(filepath.Join(d.bin, binary))
		c.Dir = d.dir
		c.Env = append(append(append([]string{}, d.env...), env...), "RINGFENCE_KAFKA_USER="+user, "RINGFENCE_KAFKA_PASSWORD="+password, "RINGFENCE_METRICS_LISTEN="+servers.Free(d.t))
		return c
	}}
}

// metrics is the address of a process's probes.
func (p *process) metrics() string {
	for _, v := range p.cmd.Env {
		if at, ok := strings.CutPrefix(v, "RINGFENCE_METRICS_LISTEN="); ok {
			return "http://" + at
		}
	}
	return ""
}

func (d *deployment) ready(base string) error {
	ctx, end := context.WithTimeout(d.t.Context(), 2*time.Second)
	defer end()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := new(http.Client).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", res.StatusCode, text)
	}
	return err
}

// run starts a worker and waits until it is ready.
func (d *deployment) run(name string) {
	d.t.Helper()
	p := d.workers[name]
	d.start(p)
	d.await(name, 60*time.Second, func() error {
		select {
		case <-p.done:
			d.t.Fatalf("%s ended:\n%s", name, p.log)
		default:
		}
		return d.ready(p.metrics())
	})
}

const personsPassword = "four random words here"

type object map[string]any

// tells asks a process something, and answers what it says, whatever that is.
func (d *deployment) tells(base, method, path, credential, rev string, body object) (status int, text []byte, header http.Header, err error) {
	var raw []byte
	if body != nil {
		if raw, err = json.Marshal(body); err != nil {
			return 0, nil, nil, err
		}
	}
	req, err := http.NewRequestWithContext(d.t.Context(), method, base+path, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	if rev != "" {
		req.Header.Set("If-Match", rev)
	}
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err = io.ReadAll(res.Body)
	return res.StatusCode, text, res.Header, err
}

// ask asks the API and wants an answer of a status.
func (d *deployment) ask(method, path string, body object, status int) object {
	d.t.Helper()
	rev, _ := body["-rev"].(string)
	delete(body, "-rev")
	got, text, header, err := d.tells(d.base, method, path, d.token, rev, body)
	if err != nil {
		d.t.Fatal(err)
	}
	out := object{}
	_ = json.Unmarshal(text, &out)
	if got != status {
		d.t.Fatalf("%s %s: %d %s", method, path, got, text)
	}
	out["-etag"] = header.Get("Etag")
	return out
}

func str(o object, path ...string) string {
	var v any = map[string]any(o)
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	s, _ := v.(string)
	return s
}

// setupToken is that of the link which the operator asks for.
func (d *deployment) setupToken() string {
	d.t.Helper()
	link := exec.Command(filepath.Join(d.bin, "platform-api"), "setup-link")
	link.Dir, link.Env = d.dir, d.api.cmd.Env
	out, err := link.Output()
	if err != nil {
		d.t.Fatalf("setup-link: %v", err)
	}
	token := regexp.MustCompile(`token=(\S+)`).FindStringSubmatch(string(out))
	if token == nil {
		d.t.Fatalf("setup-link printed %q", out)
	}
	return token[1]
}

// world makes a tenant with one device that is decoded, and a connection of the operator's that brings its messages.
func (d *deployment) world() {
	made := d.ask("POST", "/v1/auth/setup", object{"token": d.setupToken(), "email": "ana@acme.example", "name": "Ana", "password": personsPassword, "tenant": object{"name": "Acme Water"}}, 201)
	d.tenant = str(made, "tenant", "id")
	d.token = str(d.ask("POST", "/v1/auth/login", object{"email": "ana@acme.example", "password": personsPassword, "mode": "token"}, 200), "access_token")
	at := "/v1/tenants/" + d.tenant
	d.decoder = str(d.ask("POST", at+"/decoders", object{"name": "level"}, 201), "id")
	version := d.ask("POST", at+"/decoders/"+d.decoder+"/versions", object{"source": "function decodeUplink(input) { return { data: { n: input.bytes[0] } } }"}, 201)
	dec := d.ask("GET", at+"/decoders/"+d.decoder, nil, 200)
	d.ask("POST", at+"/decoders/"+d.decoder+"/activate", object{"version_id": str(version, "id"), "-rev": str(dec, "-etag")}, 200)
	d.device = str(d.ask("POST", at+"/devices", object{"name": "pump", "decoder_id": d.decoder, "addresses": []object{{"kind": "dev_eui", "value": "70b3d57ed0000001"}}}, 201), "id")
	src := d.ask("POST", at+"/sources", object{"name": "gateway", "format": "plain"}, 201)
	d.source = str(src, "id")
	d.key = str(d.ask("POST", at+"/sources/"+d.source+"/keys", object{"name": "first"}, 201), "secret")
	passwordFile := filepath.Join(d.dir, "mqtt.password")
	for file, text := range map[string]string{passwordFile: d.mqttPassword, filepath.Join(d.dir, "connections.yaml"): fmt.Sprintf(`- name: lab
  url: mqtt://%s
  username: worker
  password_file: %s
  filters: [up/+]
  format: plain
  tenant_from: fixed
  tenant: %s
  source: %s
  presence: false
- name: direct
  url: mqtt://%[1]s
  username: worker
  password_file: %[2]s
  format: plain
  tenant_from: checked
  presence: false
`, d.mosquitto.Addr(), passwordFile, d.tenant, d.source)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
}

// row asks the database as its administrator for one row.
func (d *deployment) row(query string) *sql.Row {
	d.t.Helper()
	db, err := sql.Open("pgx", d.database)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = db.Close() })
	return db.QueryRowContext(d.t.Context(), query)
}

// count answers a number from the database, asked as its administrator.
func (d *deployment) count(query string) int {
	d.t.Helper()
	db, err := sql.Open("pgx", d.database)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	n := -1
	ctx, end := context.WithTimeout(d.t.Context(), 10*time.Second)
	defer end()
	if err := db.QueryRowContext(ctx, query).Scan(&n); err != nil {
		return -1 // it may be stopped
	}
	return n
}
