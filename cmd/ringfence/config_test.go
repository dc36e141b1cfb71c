package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/keyring"
)

// checked runs config check with settings and an environment.
func checked(t *testing.T, vars map[string]string, settings ...string) (code int, said string) {
	t.Helper()
	args := []string{"--config", os.DevNull}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	code, out, errs := told(t, vars, "", append(args, "config", "check")...)
	return code, out + errs
}

func TestAConfigurationThatWouldNotServeIsNotGood(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := file("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	private := file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	none := filepath.Join(dir, "none.pem")
	for _, c := range []struct {
		settings []string
		want     string // empty: good
	}{
		{nil, ""},
		{[]string{"tls_cert_file=" + cert, "tls_key_file=" + private, "listen=0.0.0.0:8443"}, ""},
		{[]string{"tls_cert_file=" + cert}, "belong together"},
		{[]string{"tls_key_file=" + private}, "belong together"},
		{[]string{"tls_cert_file=" + none, "tls_key_file=" + private}, "none.pem"},
		{[]string{"tls_cert_file=" + cert, "tls_key_file=" + none}, "none.pem"},
		{[]string{"tls_cert_file=" + cert, "tls_key_file=" + cert}, "want a certificate chain and its key"},
		{[]string{"known_passwords_file=" + none}, "known_passwords_file"},
		{[]string{"password_memory_kib=64"}, "is below the floor"},
		{[]string{"password_memory_kib=19456", "password_time=1"}, "raise one or the other; the default is 47104 and 1"},
		{[]string{"password_memory_kib=19456", "password_time=2"}, ""},
		{[]string{"metrics_listen=0.0.0.0:9090"}, "metrics_listen: 0.0.0.0:9090 is not loopback"},
		{[]string{"metrics_listen=:9090"}, "metrics_listen: :9090 is not loopback"},
		{[]string{"metrics_listen=0.0.0.0:9090", "metrics_plain_http=true"}, ""},
		{[]string{"metrics_listen=[::1]:9090"}, ""},
	} {
		code, said := checked(t, nil, c.settings...)
		if (code == exitDone) != (c.want == "") || !strings.Contains(said, c.want) {
			t.Errorf("%v: exit %d, want %q\n%s", c.settings, code, c.want, said)
		}
	}
	for _, s := range [][]string{{"tls_cert_file=" + none, "tls_key_file=" + none}, {"password_memory_kib=64"}} {
		args := []string{"--config", os.DevNull, "--set", "data=" + filepath.Join(dir, "never")}
		for _, one := range s {
			args = append(args, "--set", one)
		}
		if code, _, errs := told(t, nil, "", append(args, "serve")...); code != exitUsage {
			t.Errorf("serve with %v: exit %d %s", s, code, errs)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "never")); err == nil {
		t.Error("a configuration that is not good made a data folder")
	}
}

func TestAVariableThatIsNoSettingIsToldWithTheNearestOne(t *testing.T) {
	for name, want := range map[string]string{
		"RINGFENCE_LISTN": "did you mean RINGFENCE_LISTEN?", "RINGFENCE_PUBLIC_URLFILE": "did you mean RINGFENCE_PUBLIC_URL_FILE?", "RINGFENCE_": "there is no setting",
	} {
		if code, said := checked(t, map[string]string{name: "x"}); code != exitNo || !strings.Contains(said, want) {
			t.Errorf("%s: exit %d %s", name, code, said)
		}
	}
	good := map[string]string{
		"RINGFENCE_TOKEN": "x", "RINGFENCE_LOG_LEVEL": "warn", "PATH": "/", "OTHER_RINGFENCE_X": "x", "RINGFENCE_LONG": "1",
		// Kubernetes tells of a service named ringfence so.
		"RINGFENCE_SERVICE_HOST": "10.0.0.1", "RINGFENCE_SERVICE_PORT": "80", "RINGFENCE_SERVICE_PORT_HTTP": "80", "RINGFENCE_PORT": "tcp://10.0.0.1:80",
		"RINGFENCE_METRICS_SERVICE_HOST": "10.0.0.2", "RINGFENCE_METRICS_PORT_9090_TCP_ADDR": "10.0.0.2", "RINGFENCE_HEADLESS_PORT": "tcp://10.0.0.3:80",
		"RINGFENCE_PORT_80_TCP": "tcp://10.0.0.1:80", "RINGFENCE_PORT_80_TCP_PROTO": "tcp", "RINGFENCE_PORT_80_TCP_PORT": "80", "RINGFENCE_PORT_80_TCP_ADDR": "10.0.0.1",
	}
	if code, said := checked(t, good); code != exitDone {
		t.Errorf("exit %d %s", code, said)
	}
}

func TestTheSettingsAreShownAsOneDocument(t *testing.T) {
	code, out, errs := told(t, nil, "", "--config", os.DevNull, "--set", "devices=7", "config", "show", "--json")
	var got map[string]string
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitDone {
		t.Fatalf("exit %d %v %s%s", code, err, out, errs)
	}
	if got["devices"] != "7" || got["listen"] != "127.0.0.1:8080" || len(got) != len(table) {
		t.Errorf("%s", out)
	}
}

func TestWhatWorksOnAServersDataBeginsNoOther(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "keys only")
	if err := os.MkdirAll(filepath.Join(empty, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{filepath.Join(dir, "typo"), empty} {
		for _, args := range [][]string{{"admin", "reset", "ana@acme.example"}, {"audit", "key"}} {
			code, out, errs := told(t, nil, "", append([]string{"--config", os.DevNull, "--set", "data=" + data}, args...)...)
			if code != exitFail || !strings.Contains(errs, "there is no server's data in") || out != "" {
				t.Errorf("%v in %s: exit %d %s%s", args, data, code, out, errs)
			}
		}
	}
	var left []string
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		left = append(left, path)
		return err
	}); err != nil || len(left) != 3 {
		t.Errorf("%v %v", left, err)
	}
}

func TestKeysAndDatabaseAreThereTogetherOrNotAtAll(t *testing.T) {
	for what, gone := range map[string][]string{"the database": {databaseFile, databaseFile + "-wal", databaseFile + "-shm"}, "the keys": {"keys"}} {
		dir := t.TempDir()
		conf, err := loadConfig(os.DevNull, []string{"data=" + dir, "metrics_listen="}, environment{lookup: func(string) (string, bool) { return "", false }})
		if err != nil {
			t.Fatal(err)
		}
		for start := range 2 {
			app, err := opened(t.Context(), conf, io.Discard)
			if err == nil {
				err = app.close(t.Context())
			}
			if err != nil {
				t.Fatalf("start %d: %v", start, err)
			}
		}
		for _, name := range gone {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		code, _, errs := told(t, nil, "", "--config", os.DevNull, "--set", "data="+dir, "--set", "listen=127.0.0.1:0", "--set", "metrics_listen=", "serve")
		if code != exitFail || !strings.Contains(errs, "back from your backup") {
			t.Errorf("without %s: exit %d %s", what, code, errs)
		}
		if _, err := os.Stat(filepath.Join(dir, gone[0])); err == nil {
			t.Errorf("%s: a new one was made", what)
		}
	}
}

func TestAFirstStartThatWasCutOffIsMadeAgain(t *testing.T) {
	conf, err := loadConfig(os.DevNull, []string{"data=" + t.TempDir(), "metrics_listen="}, environment{lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Open(conf.dataFile("keys")); err != nil { // and no further
		t.Fatal(err)
	}
	app, err := opened(t.Context(), conf, io.Discard)
	if err == nil {
		err = app.close(t.Context())
	}
	if err != nil {
		t.Error(err)
	}
}

func TestMetricsAreAtTheirPathAlone(t *testing.T) {
	s := httpapi.NewMetrics().Handler()
	for path, want := range map[string]int{"/metrics": 200, "/": 404, "/metrics/": 404, "/debug/pprof/": 404, "/v1/me": 404} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := &silent{header: http.Header{}}
		s.ServeHTTP(w, r)
		if w.status == 0 {
			w.status = 200
		}
		if w.status != want {
			t.Errorf("%s: %d, want %d", path, w.status, want)
		}
	}
}

// silent is a ResponseWriter that keeps the status alone.
type silent struct {
	header http.Header
	status int
}

func (s *silent) Header() http.Header         { return s.header }
func (s *silent) WriteHeader(status int)      { s.status = status }
func (s *silent) Write(b []byte) (int, error) { return len(b), nil }

func TestTheHelpOfEveryCommandBeginsWithAnExampleOfIt(t *testing.T) {
	parser, err := kong.New(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	commands := [][]string{{}}
	var walk func(*kong.Node, []string)
	walk = func(n *kong.Node, path []string) {
		for _, child := range n.Children {
			at := append(slices.Clone(path), child.Name)
			commands = append(commands, at)
			walk(child, at)
		}
	}
	walk(parser.Model.Node, nil)
	if len(commands) < 15 {
		t.Fatalf("%v", commands)
	}
	for _, c := range commands {
		code, out, errs := told(t, nil, "", append(slices.Clone(c), "--help")...)
		lines := strings.Split(out, "\n")
		begins := "  ringfence"
		if len(c) == 2 && c[1] == "verify" { // which is audit-verify
			begins = "  audit-verify"
		} else if len(c) > 0 {
			begins += " " + strings.Join(c, " ")
		}
		if code != exitDone || errs != "" || len(lines) < 4 || lines[0] != "For example:" || !strings.HasPrefix(lines[2], begins) || !strings.Contains(out, "Usage: ") {
			t.Errorf("%v: exit %d\n%s%s", c, code, out, errs)
		}
	}
	if code, _, errs := told(t, nil, ""); code != exitDone {
		t.Errorf("no command at all: exit %d %s", code, errs)
	}
}

func TestLinksNameAHostThatABrowserCanOpen(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sets    []string
		want    string
		guessed bool
	}{
		{nil, "http://127.0.0.1:8080", false},
		{[]string{"listen=0.0.0.0:8080", "plain_http=true"}, "http://" + machine + ":8080", true},
		{[]string{"listen=[::]:8080", "plain_http=true"}, "http://" + machine + ":8080", true},
		{[]string{"listen=0.0.0.0:8080", "plain_http=true", "public_url=https://iot.example.com"}, "https://iot.example.com", false},
	} {
		conf, err := loadConfig(os.DevNull, c.sets, environment{lookup: func(string) (string, bool) { return "", false }})
		if err != nil {
			t.Fatal(err)
		}
		if got := publicURL(conf); got != c.want || (guessed(conf) != "") != c.guessed {
			t.Errorf("%v: %s, want %s; said: %q", c.sets, got, c.want, guessed(conf))
		}
	}
}
