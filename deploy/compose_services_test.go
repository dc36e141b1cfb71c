//go:build services

package deploy_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver registers itself

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// unpacked puts what a service of the compose file is given into a folder, as its container has it at /; what the files say is
// replaced, old and new in turn, and what they name in the container is in the folder.
func unpacked(t *testing.T, secrets, name, dir string, replace ...string) (path func(string) string) {
	t.Helper()
	path = func(in string) string { return filepath.Join(dir, in) }
	c := compose(t, read(t, "compose.yaml"))
	put := func(to, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path(to)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(to), []byte(text), 0o700); err != nil { //nolint:gosec // some are scripts
			t.Fatal(err)
		}
	}
	for _, in := range []string{"/run/secrets/", "/etc/ringfence/", "/opt/", "/tmp/", "/var/lib/"} {
		replace = append(replace, in, path(in)+"/")
	}
	for _, s := range c.Services[name].Secrets {
		put("/run/secrets/"+s, read(t, secrets, strings.TrimPrefix(c.Secrets[s].File, "./compose/secrets/")))
	}
	for _, f := range c.Services[name].Configs {
		put(f.Target, strings.NewReplacer(replace...).Replace(read(t, c.Configs[f.Source].File)))
	}
	if err := os.MkdirAll(path("/tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// entrypoint is how a service is started from there.
func entrypoint(t *testing.T, name string, path func(string) string, programs ...string) *exec.Cmd {
	t.Helper()
	words := compose(t, read(t, "compose.yaml")).Services[name].Entrypoint
	cmd := exec.Command(words[0], path(words[1])) //nolint:noctx // whoever starts it ends it
	cmd.Env = append(os.Environ(), "PATH="+strings.Join(append(programs, os.Getenv("PATH")), string(filepath.ListSeparator)))
	return cmd
}

// ours runs a service that is our command line once, as the compose file says it, with what its words are in the test.
func ours(t *testing.T, name string, path func(string) string, replace ...string) {
	t.Helper()
	replace = append(replace, "/run/secrets/", path("/run/secrets")+"/")
	var args []string
	for _, word := range compose(t, read(t, "compose.yaml")).Services[name].Command {
		args = append(args, strings.NewReplacer(replace...).Replace(word))
	}
	if out, errs, code := ran(t, nil, "ringfence", args...); code != 0 {
		t.Fatalf("%s: exit %d %s%s", name, code, out, errs)
	}
}

// The compose file's Kafka knows each user by its password, also when it is started again, and nobody else; the topics' service
// gives them their topics.
func TestTheComposeFilesKafkaKnowsItsUsers(t *testing.T) {
	secrets := prepared(t)
	java := "#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -Xmx512m -cp '" + filepath.Join(servers.Program(t, "Kafka", "TESTBED_KAFKA_HOME"), "*") + "' "
	var path func(string) string
	kafka := servers.Command(t, "Kafka", 2, func(dir string, ports []int) (func() *exec.Cmd, string) {
		sasl, controller := strconv.Itoa(ports[0]), strconv.Itoa(ports[1])
		path = unpacked(t, secrets, "kafka", dir, "//:9092", "//127.0.0.1:"+sasl, "//kafka:9092", "//127.0.0.1:"+sasl, "127.0.0.1:9093", "127.0.0.1:"+controller)
		for script, class := range map[string]string{"kafka-storage.sh": "kafka.tools.StorageTool", "kafka-server-start.sh": "kafka.Kafka"} { // the image's
			file := path("/opt/kafka/bin/" + script)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(java+class+` "$@"`), 0o700); err != nil { //nolint:gosec // a script
				t.Fatal(err)
			}
		}
		return func() *exec.Cmd { return entrypoint(t, "kafka", path) }, "Kafka Server started"
	})
	password := func(user string) string {
		return strings.TrimSpace(read(t, path("/run/secrets/kafka-"+user)))
	}
	ask := func(user, password string, within time.Duration) error {
		b, err := kafkabus.Open(kafkabus.Options{Brokers: []string{kafka.Addr()}, User: user, Password: secret.New(password)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Close() }()
		ctx, end := context.WithTimeout(t.Context(), within)
		defer end()
		return b.Check(ctx, "rf.uplinks")
	}
	ours(t, "topics", path, "kafka:9092", kafka.Addr())
	for again := range 2 {
		if again > 0 {
			kafka.Stop()
			kafka.Start()
		}
		for _, user := range append(services(), "admin") {
			if err := ask(user, password(user), 20*time.Second); err != nil {
				t.Errorf("%s: %v", user, err)
			}
			if err := ask(user, "hunter2", 20*time.Second); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s with a password that is not its own is answered %v", user, err)
			}
		}
		if err := ask("", "", time.Second); err == nil {
			t.Error("who says no name comes in")
		}
	}
}

// signIn has each role sign in by its URL, and fail to with another password.
func signIn(t *testing.T, of func(role string) string) {
	t.Helper()
	ping := func(at string) error {
		db, err := sql.Open("pgx", at)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		return db.PingContext(t.Context())
	}
	for _, role := range []string{"owner", "runtime", "reader", "retention", "relay"} {
		if err := ping(of(role)); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
	for _, role := range []string{"owner", "runtime", "reader", "retention", "relay", "backup"} { // of which the last has no password at all
		at, err := url.Parse(of("owner"))
		if err != nil {
			t.Fatal(err)
		}
		at.User = url.UserPassword("ringfence_"+role, "hunter2")
		if err := ping(at.String()); err == nil || !strings.Contains(err.Error(), "28P01") { // invalid_password
			t.Errorf("%s with a password that nobody gave it is answered %v", role, err)
		}
	}
}

// The compose file's roles sign in with the passwords that were made, to the one database, and its owner makes the schema there.
func TestTheComposeFilesRolesSignIn(t *testing.T) {
	psql := servers.PostgresClients(t)
	secrets := prepared(t)
	s, admin := servers.Postgres(t)
	by, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	word, _ := by.User.Password()
	if err := os.WriteFile(filepath.Join(secrets, "passwords", "postgres"), []byte(word+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := unpacked(t, secrets, "roles", t.TempDir(), "PGHOST=postgres", "PGHOST="+by.Hostname()+" PGPORT="+by.Port())
	for range 2 { // again: the same
		if out, err := entrypoint(t, "roles", path, psql).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	here := func(file string) string {
		return strings.Replace(strings.TrimSpace(read(t, file)), "@postgres:5432/", "@"+s.Addr()+"/", 1)
	}
	signIn(t, func(role string) string { return here(filepath.Join(secrets, "urls", role)) })
	path = unpacked(t, secrets, "migrate", t.TempDir())
	file := path("/run/secrets/owner-url")
	if err := os.WriteFile(file, []byte(here(file)), 0o600); err != nil {
		t.Fatal(err)
	}
	ours(t, "migrate", path)
}

// What is prepared for the database's administrator makes the roles that the chart's URLs are for, by TLS that is verified as in the
// cluster, and the database, whose owner makes the schema there.
func TestTheRolesThatArePreparedForTheChartSignIn(t *testing.T) {
	psql, by, dir := servers.PostgresClients(t), servers.NewAuthority(t), t.TempDir()
	s, admin := servers.SecuredPostgres(t, by)
	if err := os.MkdirAll(filepath.Join(dir, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	certify(t, filepath.Join(dir, "tls"))
	if err := os.WriteFile(filepath.Join(dir, "tls", "ca.crt"), []byte(read(t, by.File())), 0o600); err != nil {
		t.Fatal(err)
	}
	prepares(t, s.Addr(), dir)
	for range 2 { // again: the same
		run := exec.CommandContext(t.Context(), filepath.Join(psql, "psql"), admin, "-v", "ON_ERROR_STOP=1", "-f", filepath.Join(dir, "roles.sql")) // as README.md says it
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	here := func(role string) string { // the pods have the certificate elsewhere
		return strings.Replace(read(t, dir, "urls", role), "/run/ringfence/database-ca/", filepath.Join(dir, "tls")+"/", 1)
	}
	signIn(t, here)
	file := filepath.Join(dir, "owner")
	if err := os.WriteFile(file, []byte(here("owner")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := ran(t, nil, "ringfence", "migrate", "up", "--url-file", file); code != 0 {
		t.Errorf("migrate up: exit %d %s%s", code, out, errs)
	}
}

// The compose file's broker knows its users, and lets each say and hear what its list has.
func TestTheComposeFilesBrokerKnowsItsUsers(t *testing.T) {
	mosquitto := servers.Program(t, "Mosquitto", "TESTBED_MOSQUITTO")
	secrets := prepared(t)
	var path func(string) string
	broker := servers.Command(t, "Mosquitto", 1, func(dir string, ports []int) (func() *exec.Cmd, string) {
		listener := fmt.Sprintf("listener %d 127.0.0.1", ports[0])
		if os.Geteuid() == 0 { // as root it would give up its rights, which no container of ours has
			listener += "\nuser root"
		}
		path = unpacked(t, secrets, "mosquitto", dir, "listener 1883", listener)
		return func() *exec.Cmd {
			return entrypoint(t, "mosquitto", path, filepath.Dir(mosquitto))
		}, " running\n"
	})
	connect := func(user, password string) (*paho.Client, error) {
		ctx, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", broker.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		c := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: time.Minute})
		_, err = c.Connect(ctx, &paho.Connect{ClientID: user, Username: user, UsernameFlag: user != "", Password: []byte(password), PasswordFlag: user != "", CleanStart: true, KeepAlive: 30})
		return c, err
	}
	for user, password := range map[string]string{"": "", "ringfence": "hunter2", "network-server": "hunter2", "mallory": "hunter2"} {
		if _, err := connect(user, password); err == nil {
			t.Errorf("%q comes in", user)
		}
	}
	says := func(user, secret, topic string, may bool) {
		t.Helper()
		c, err := connect(user, strings.TrimSpace(read(t, path("/run/secrets/"+secret)))) // a new one: Mosquitto 2.0 sends away whom it refused
		if err == nil {
			_, err = c.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("x")})
		}
		if (err == nil) != may {
			t.Errorf("%s, who publishes to %s, is answered %v", user, topic, err)
		}
	}
	says("ringfence", "broker", "application/a/device/b/event/up", false)
	says("ringfence", "broker", "rf/members/workers/ringfence-example-0", true)
	says("network-server", "network-server", "application/a/device/b/event/up", true)
	says("network-server", "network-server", "rf/members/workers/ringfence-example-0", false)
}
