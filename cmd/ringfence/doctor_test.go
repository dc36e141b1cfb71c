package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// examine runs doctor and answers what it found of one row.
func examine(t *testing.T, id string, vars map[string]string, args ...string) (state, seen, remedy string, code int) {
	t.Helper()
	code, out, errs := told(t, vars, "", append(append([]string{"doctor"}, args...), "--json")...)
	var report struct {
		Profile string
		Good    bool
		Rows    []finding
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("exit %d %v %s%s", code, err, out, errs)
	}
	bad := false
	for _, r := range report.Rows {
		bad = bad || r.State == red
		if r.State == red && r.Remedy == "" {
			t.Errorf("%s is red, and nothing is said to do", r.ID)
		}
		if r.ID == id {
			state, seen, remedy = r.State, r.Seen, r.Remedy
		}
	}
	if (code == exitNo) != bad || report.Good == bad {
		t.Errorf("exit %d, good %v: %s", code, report.Good, out)
	}
	return state, seen, remedy, code
}

// want holds a row to a state and to what is said of it.
func want(t *testing.T, what, state, text string, id string, vars map[string]string, args ...string) {
	t.Helper()
	got, seen, remedy, _ := examine(t, id, vars, args...)
	if got != state || !strings.Contains(seen, text) || got != green && remedy == "" {
		t.Errorf("%s: %s is %s: %s (%s); want %s: %s", what, id, got, seen, remedy, state, text)
	}
}

// authority is a file with a server's own certificate.
func authority(t *testing.T, cert *x509.Certificate) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// lasting are files with a certificate for loopback that is not over soon, and its key.
func lasting(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(0, 3, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	key = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600); err != nil {
		t.Fatal(err)
	}
	return authority(t, made), key
}

// listening answers everybody who connects, until the test is over.
func listening(t *testing.T, by *tls.Config, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if by != nil {
					c = tls.Server(c, by)
				}
				answer(c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestDoctorIsRedWhenAListenerIsPlainAndGreenAfter(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	serve := func(by *tls.Config) *httptest.Server { // nil: in clear
		s := httptest.NewUnstartedServer(page)
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		if s.TLS = by; by == nil {
			s.Start()
		} else {
			s.StartTLS()
		}
		t.Cleanup(s.Close)
		return s
	}
	plain := serve(nil)
	want(t, "plain HTTP", red, "answers HTTP in clear", "M66", nil, "--server", plain.URL)

	good := serve(&tls.Config{MinVersion: tls.VersionTLS12})
	ca := authority(t, good.Certificate())
	want(t, "TLS", green, "speaks TLS 1.3 alone", "M66", nil, "--server", good.URL, "--ca-file", ca)
	want(t, "TLS by nobody who is known", red, "vouches for its certificate", "M66", nil, "--server", good.URL)

	old := serve(&tls.Config{MinVersion: tls.VersionTLS10})
	want(t, "old TLS", red, "TLS 1.1", "M66", nil, "--server", old.URL, "--ca-file", authority(t, old.Certificate()))

	both := listening(t, nil, func(c net.Conn) { // what a proxy does that takes either at one port
		b := make([]byte, 1)
		if _, err := c.Read(b); err == nil && b[0] == 'G' {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	want(t, "either", red, "in clear", "M66", nil, "--server", "https://"+both)

	// Our own server, before and after.
	ours, _ := served(t)
	want(t, "ringfence in clear", red, "answers HTTP in clear", "M66", nil, "--server", ours.base)
	own, private := lasting(t)
	ours, _ = served(t, "tls_cert_file="+own, "tls_key_file="+private)
	want(t, "ringfence by TLS", green, "speaks TLS 1.3 alone", "M66", nil, "--server", "https"+strings.TrimPrefix(ours.base, "http"), "--ca-file", own)

	// A broker's.
	a := servers.NewAuthority(t)
	cert, key := a.Issue("broker")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	connack := func(c net.Conn) {
		b := make([]byte, 64)
		if n, err := c.Read(b); err == nil && n > 0 && b[0] == 0x10 {
			_, _ = c.Write([]byte{0x20, 3, 0, 0x87, 0})
		}
	}
	broker := listening(t, nil, connack)
	want(t, "a broker in clear", red, broker+" answers MQTT in clear", "M66", nil, "--server", good.URL, "--ca-file", ca, "--listener", broker)
	other := serve(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	broker = listening(t, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, connack)
	got, seen, _, _ := examine(t, "M66", nil, "--server", other.URL, "--ca-file", a.File(), "--listener", broker)
	if got == red || !strings.Contains(seen, broker) { // green, or yellow for a certificate that is soon over
		t.Errorf("a broker by TLS: %s %s", got, seen)
	}
	want(t, "nobody there", yellow, "not reached", "M66", nil, "--server", "https://127.0.0.1:1")
}

func TestDoctorSaysNoneIsGreenThatItDidNotSee(t *testing.T) {
	_, _, _, code := examine(t, "", nil, "--profile", "p2", "--server", "https://127.0.0.1:1")
	for _, id := range []string{"M66", "M67", "M68", "M69", "M70", "M71", "M72", "M73", "M74", "M75", "M76"} {
		want(t, "without anything", yellow, "", id, nil, "--profile", "p2", "--server", "https://127.0.0.1:1")
	}
	if code != exitDone {
		t.Errorf("exit %d", code)
	}
	for profile, rows := range map[string]int{"p0": 5, "p1": 9, "p2": 11} {
		if v := document(t, exitDone, nil, "", "doctor", "--profile", profile, "--server", "https://127.0.0.1:1"); len(v["rows"].([]any)) != rows {
			t.Errorf("%s: %v", profile, v)
		}
	}
	code, out, _ := told(t, nil, "", "doctor", "--server", "https://127.0.0.1:1")
	if code != exitDone || strings.Count(out, "\nM") != 4 || !strings.Contains(out, "→ ") || strings.Contains(out, green) {
		t.Errorf("exit %d %s", code, out)
	}
	if code, _, _ := told(t, nil, "", "doctor", "--profile", "p3"); code != exitUsage {
		t.Errorf("another profile: exit %d", code)
	}
	if code, _, _ := told(t, nil, "", "doctor", "--key-days", "0"); code != exitUsage {
		t.Errorf("no age: exit %d", code)
	}
}

func TestDoctorReadsRightsKeysAndLimitsFromARunningServer(t *testing.T) {
	s, _, ten := unhurried(t)
	vars := map[string]string{"RINGFENCE_TOKEN": ten.token}
	at := "/v1/tenants/" + ten.id
	ask := []string{"--server", s.base}

	// M67: what persons hold directly, and roles that hold everything.
	held := map[string]bool{}
	for _, m := range s.get(ten.token, at+"/memberships?limit=200").list("items") {
		if who := m.str("principal_id"); who != "" {
			held[who] = true
		}
	}
	want(t, "an owner of his own", red, "holds owner in "+ten.id+" directly", "M67", vars, ask...)
	glass := ask
	for who := range held {
		glass = append(glass, "--break-glass", who)
	}
	want(t, "who breaks the glass", green, "by groups", "M67", vars, glass...)
	var admin []any
	for _, r := range s.get(ten.token, at+"/roles?limit=200").list("items") {
		if r.str("name") == "admin" {
			admin = r["permissions"].([]any)
		}
	}
	role := s.post(ten.token, at+"/roles", obj{"name": "everything", "permissions": admin})
	group := s.post(ten.token, at+"/groups", obj{"name": "all of them"})
	status(t, "a role", role, 201)
	status(t, "a group", group, 201)
	want(t, "a role that nobody has", green, "", "M67", vars, glass...)
	status(t, "a membership", s.post(ten.token, at+"/memberships", obj{"group_id": group.str("id"), "role_id": role.str("id"), "node_id": ten.root, "recursive": true}), 201)
	want(t, "a role of everything", red, "role everything (rol_", "M67", vars, glass...)
	want(t, "without a token", yellow, "who is asking", "M67", nil, ask...)
	want(t, "with one that is none", yellow, "401", "M67", map[string]string{"RINGFENCE_TOKEN": "rf_at_none"}, ask...)

	// M68: the key that the tenant was made with is of today.
	want(t, "a fresh key", green, "keys and tokens none is older than 90 days", "M68", vars, ask...)
	x := &examined{doctorCmd{remote: remote{Server: s.base}, KeyDays: -1}, environment{lookup: func(k string) (string, bool) { v, ok := vars[k]; return v, ok }}} // of tomorrow
	if f := x.keys(t.Context()); f.State != red || !strings.Contains(f.Seen, "is of "+time.Now().UTC().Format("2006-")) || f.Remedy == "" {
		t.Errorf("an old key: %v", f)
	}

	// M70: by an ingestion key, through a proxy that takes the fields away, and without.
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(ten.key), 0o600); err != nil {
		t.Fatal(err)
	}
	had := len(s.get(ten.token, at+"/uplinks?limit=200").list("items")) + len(s.get(ten.token, at+"/quarantine?limit=200").list("items"))
	want(t, "limits", green, "answers at ingestion say", "M70", vars, append(ask, "--ingest-key-file", key)...)
	if now := len(s.get(ten.token, at+"/uplinks?limit=200").list("items")) + len(s.get(ten.token, at+"/quarantine?limit=200").list("items")); now != had {
		t.Errorf("doctor sent an event: %d, %d before", now, had)
	}
	front := proxied(t, s.base, func(r *http.Response) error {
		r.Header.Del("RateLimit")
		r.Header.Del("RateLimit-Policy")
		return nil
	})
	want(t, "no limits", red, "says nothing of a rate", "M70", vars, "--server", front, "--ingest-key-file", key)
	want(t, "no key", yellow, "no ingestion key", "M70", vars, ask...)

	// M74: the log as it is, and as somebody on the way changed it.
	code, policy, errs := told(t, nil, "", "--set", "data="+filepath.Join(s.dir, "data"), "audit", "key", ten.id)
	file := filepath.Join(t.TempDir(), "policy.txt")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil || code != exitDone {
		t.Fatalf("exit %d %s %v", code, errs, err)
	}
	p1 := []string{"--profile", "p1", "--tenant", ten.id, "--policy", file}
	want(t, "a log", green, "good: ", "M74", vars, append(p1, ask...)...)
	changed := proxied(t, s.base, func(r *http.Response) error {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		raw = bytes.Replace(raw, []byte(`"seq":3`), []byte(`"seq":4`), 1)
		r.Body = io.NopCloser(bytes.NewReader(raw))
		return nil
	})
	want(t, "a changed log", red, "", "M74", vars, append(p1, "--server", changed)...)
}

// proxied is a server behind a proxy that changes its answers.
func proxied(t *testing.T, base string, change func(*http.Response) error) string {
	t.Helper()
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	p := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, ModifyResponse: change})
	t.Cleanup(p.Close)
	return p.URL
}

func TestDoctorFindsWhatIsReachedWhereNothingShouldBe(t *testing.T) {
	open := listening(t, nil, func(net.Conn) {})
	shut, _ := servers.Shut(t)
	where := []string{"--profile", "p1", "--server", "https://127.0.0.1:1", "--foreign"}
	want(t, "an open database", red, open+" is reached", "M72", nil, append(where, "--database", open, "--kafka", shut)...)
	want(t, "an open Kafka", red, open+" is reached", "M72", nil, append(where, "--database", shut, "--kafka", open)...)
	want(t, "both closed", green, "no --broker was named", "M72", nil, append(where, "--database", shut, "--kafka", shut)...)
	want(t, "all closed", green, "nor "+shut, "M72", nil, append(where, "--database", shut, "--kafka", shut, "--broker", shut)...)
	want(t, "an open broker", red, open+" is reached", "M72", nil, append(where, "--database", shut, "--kafka", shut, "--broker", shut, "--broker", open)...)
	want(t, "a name that is none", yellow, "no address", "M72", nil, append(where, "--database", shut, "--kafka", "kafka.invalid:9092")...)
	want(t, "from within", yellow, "from outside alone", "M72", nil, "--profile", "p1", "--server", "https://127.0.0.1:1", "--database", open, "--kafka", open)
}

func TestDoctorFindsInternalListenersThatWantNoCertificate(t *testing.T) {
	a := servers.NewAuthority(t)
	cert, key := a.Issue("internal")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	lax := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	strict := lax.Clone()
	strict.ClientAuth, strict.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool()
	older := strict.Clone()
	older.MaxVersion = tls.VersionTLS12 // where the handshake itself fails
	kafka := func(c net.Conn) {
		b := make([]byte, 8)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		rest := make([]byte, 20-8)
		if _, err := io.ReadFull(c, rest); err == nil {
			_, _ = c.Write(append([]byte{0, 0, 0, 6}, "ring\x00\x00"...))
		}
	}
	postgres := func(clear bool, by *tls.Config) string {
		return listening(t, nil, func(c net.Conn) {
			b := make([]byte, 8)
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if b[4] == 4 && by != nil { // SSLRequest
				_, _ = c.Write([]byte{'S'})
				c = tls.Server(c, by)
				if _, err := io.ReadFull(c, b); err == nil {
					_, _ = c.Write([]byte{'R'})
				}
				return
			}
			_, _ = c.Write([]byte{map[bool]byte{true: 'R', false: 'E'}[clear]})
		})
	}
	at := func(db, kafka string) []string {
		return []string{"--profile", "p2", "--server", "https://127.0.0.1:1", "--database", db, "--kafka", kafka}
	}
	good := listening(t, strict, kafka)
	want(t, "both want one", green, "answer nobody", "M75", nil, at(postgres(false, strict), good)...)
	want(t, "both want one, of old", green, "answer nobody", "M75", nil, at(postgres(false, older), listening(t, older, kafka))...)
	want(t, "a database in clear", red, "answers in clear", "M75", nil, at(postgres(true, strict), good)...)
	want(t, "a lax database", red, "PostgreSQL at", "M75", nil, at(postgres(false, lax), good)...)
	want(t, "a lax Kafka", red, "shows no certificate", "M75", nil, at(postgres(false, strict), listening(t, lax, kafka))...)
	want(t, "Kafka in clear", red, "Kafka at ", "M75", nil, at(postgres(false, strict), listening(t, nil, kafka))...)
	want(t, "nobody there", yellow, "not reached", "M75", nil, at("127.0.0.1:1", good)...)
	broker := func(by *tls.Config) []string {
		return append(at(postgres(false, strict), good), "--broker", listening(t, by, func(c net.Conn) {
			if _, err := io.ReadFull(c, make([]byte, 15)); err == nil {
				_, _ = c.Write([]byte{0x20, 3, 0, 0x87, 0}) // who is that?
			}
		}))
	}
	want(t, "a broker that wants one", green, "a certificate of the caller's, nor 127.0.0.1:", "M75", nil, broker(strict)...)
	want(t, "a lax broker", red, "MQTT at 127.0.0.1:", "M75", nil, broker(lax)...)
	want(t, "a broker in clear", red, "answers in clear", "M75", nil, broker(nil)...)
}
