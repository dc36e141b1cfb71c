package servers

import (
	"crypto/rand"
	_ "embed" // its settings, which deploy/testbed/with uses too
	"encoding/base64"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

//go:embed kafka.properties
var kafkaProperties string

// Login is how somebody signs in, by SCRAM-SHA-512.
type Login struct{ User, Password string }

// SharedKafka is the broker that all tests have in common, and who may do all there. Tests give their topics, users and groups
// names that no other has.
func SharedKafka(t testing.TB) (addr string, admin Login) {
	t.Helper()
	user, password, _ := strings.Cut(told(t, "TESTBED_KAFKA_ADMIN"), ":")
	return told(t, "TESTBED_KAFKA"), Login{User: user, Password: password}
}

// Secured is a Kafka's way in by TLS.
type Secured struct {
	TLS    string // address: who it is says SCRAM
	Mutual string // address: who it is says the certificate that is shown
	// CAFile vouches for the broker; CertFile and KeyFile are those of who may do all. All are PEM.
	CAFile, CertFile, KeyFile string
	// Authority signs for others whom the broker is to know; nil for the shared one.
	Authority *Authority
}

// SharedSecured is how the broker that all tests have in common is reached by TLS.
func SharedSecured(t testing.TB) Secured {
	t.Helper()
	dir := told(t, "TESTBED_KAFKA_CERTIFICATES")
	return Secured{
		TLS: told(t, "TESTBED_KAFKA_TLS"), Mutual: told(t, "TESTBED_KAFKA_MUTUAL"),
		CAFile: filepath.Join(dir, "broker.pem"), CertFile: filepath.Join(dir, "admin.pem"), KeyFile: filepath.Join(dir, "admin.key"),
	}
}

// Kafka is a broker of the test's own, set like the shared one but that it notices sooner that it was away, and who may do all
// there.
func Kafka(t testing.TB) (*Server, Login) {
	t.Helper()
	s, admin, _ := SecuredKafka(t)
	return s, admin
}

// SecuredKafka is one, and how it is reached by TLS.
func SecuredKafka(t testing.TB) (*Server, Login, Secured) {
	t.Helper()
	jars := filepath.Join(told(t, "TESTBED_KAFKA_HOME"), "*")
	admin := Login{User: "testbed-admin", Password: rand.Text()}
	by := NewAuthority(t)
	secured := Secured{CAFile: by.File(), Authority: by}
	cert, key := by.Issue("127.0.0.1")
	secured.CertFile, secured.KeyFile = by.Issue(admin.User)
	s := start(t, "Kafka", 5, func(dir string, ports []int) *Server {
		secured.TLS, secured.Mutual = local(ports[2]), local(ports[3])
		write(t, filepath.Join(dir, "broker.both"), read(t, key), read(t, cert))
		write(t, filepath.Join(dir, "trusted.pem"), read(t, by.File()))
		config := write(t, filepath.Join(dir, "server.properties"), strings.NewReplacer(
			"{plain}", strconv.Itoa(ports[0]), "{sasl}", strconv.Itoa(ports[1]), "{tls}", strconv.Itoa(ports[2]), "{mutual}", strconv.Itoa(ports[3]), "{controller}", strconv.Itoa(ports[4]),
			"{data}", filepath.Join(dir, "data"), "{certificates}", dir,
		).Replace(kafkaProperties),
			"broker.session.timeout.ms=2000", "broker.heartbeat.interval.ms=500")
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		id[0] &= 0x7f        // a leading hyphen would be an option
		format := exec.CommandContext(t.Context(), "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", jars, "kafka.tools.StorageTool", "format",
			"-t", base64.RawURLEncoding.EncodeToString(id), "-c", config, "--add-scram", "SCRAM-SHA-512=[name="+admin.User+",password="+admin.Password+"]")
		if out, err := format.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return &Server{
			addr:    local(ports[1]),
			command: func() *exec.Cmd { return exec.Command("java", "-Xmx512m", "-cp", jars, "kafka.Kafka", config) },
			ready:   func(log string) bool { return strings.Contains(log, "Kafka Server started") },
			stop:    syscall.SIGTERM,
			end:     syscall.SIGKILL,
		}
	})
	return s, admin, secured
}
