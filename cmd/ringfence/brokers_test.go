package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/mochibroker"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/testkit/brokertest"
	"github.com/ringfence/ringfence/testkit/redacttest"
)

const brokersSecret = "what-the-brokers-alone-show"

// asBrokers is an environment with their secret.
func asBrokers(k string) (string, bool) {
	return brokersSecret, k == "RINGFENCE_BROKER_AUTH_SECRET"
}

// atDoors begins at the doors for MQTT, and answers what a client of MQTT does at all of them.
func (app *application) atDoors(t *testing.T, conf config) func(user, password, client, will string) {
	t.Helper()
	d, err := app.doors(conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	d.serve(&wg, failed)
	t.Cleanup(func() {
		if err := d.shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	ask := func(password, path, kind, body string, header ...string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.asked.Addr().String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := (&http.Client{Timeout: 10 * time.Second}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil || bytes.Contains(said, []byte(password)) {
			t.Errorf("%s: %s %v", path, said, err)
		}
	}
	return func(user, password, client, will string) {
		for _, version := range []byte{4, 5} {
			raw, err := net.Dial("tcp", d.mqtt.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c, h := brokertest.On(raw), brokertest.Hello{Version: version, User: user, Password: secret.New(password), ID: client, KeepAlive: 30, Will: will}
			hello := c.Hello(h)
			_ = c.Send(append(append(hello, hello...), 0x32, 3, 0, 200, 1)) // connects twice, and then says nonsense
			for err == nil {
				_, _, err = c.Next(10 * time.Second)
			}
			_ = c.Close()
		}
		form := url.Values{"username": {user}, "password": {password}, "vhost": {"/"}, "client_id": {client}, "clientid": {client}}.Encode()
		body, err := json.Marshal(obj{"username": user, "password": password, "clientid": client, "client_id": client, "topic": will, "acc": 2, "action": "publish"})
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range []string{"/" + brokersSecret, "/" + password[:min(len(password), 1)] + "x", ""} {
			auth := []string{"Authorization", "Bearer " + strings.TrimFunc(password, func(c rune) bool { return c < ' ' || c > '~' }), "Vernemq-Hook", "auth_on_register"}
			if strings.ContainsFunc(password, func(c rune) bool { return c < ' ' || c > '~' }) {
				auth = auth[2:]
			}
			ask(password, by+"/rabbitmq/user", "application/x-www-form-urlencoded", form, auth...)
			ask(password, by+"/mosquitto/user", "application/x-www-form-urlencoded", form, auth...)
			for _, path := range []string{"/mosquitto/user", "/mosquitto/acl", "/emqx/authn", "/emqx/authz", "/vernemq/hook"} {
				ask(password, by+path, "application/json", string(body), auth...)
			}
		}
	}
}

func TestServeIsAnMQTTBrokerThatLosesNothingWhenItStops(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	warm(t, data)
	conf, err := loadConfig("/dev/null", []string{"data=" + data, "listen=127.0.0.1:0", "metrics_listen=", "log_level=error", "mqtt=true", "mqtt_listen=127.0.0.1:0", "source_rate=100000", "source_burst=100000", "mqtt_sessions_per_source=1000", "max_connections_per_address=1000"}, environment{lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	var s *story
	var ten *demoTenant
	acknowledged := map[string]bool{}
	for round := range 3 {
		app, err := wire(t.Context(), conf, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var greeting bytes.Buffer
		ready, over := make(chan string, 1), make(chan error, 1)
		go func() { over <- app.serve(ctx, conf, &greeting, func(a string) { ready <- a }) }()
		select {
		case a := <-ready:
			token := ""
			if s != nil {
				token = s.logins.String()
			}
			s = &story{ctx: t.Context(), dir: dir, base: "http://" + a, mqtt: app.mqtt, out: io.Discard, client: &http.Client{Timeout: 20 * time.Second}}
			s.logins.WriteString(token)
		case err := <-over:
			t.Fatal(err)
		}
		if !strings.Contains(greeting.String(), "MQTT broker on "+app.mqtt) {
			t.Errorf("it does not say where: %s", greeting.String())
		}
		if ten == nil {
			admin, err := s.platform(regexp.MustCompile(`rf_set_[0-9A-Za-z]+`).FindString(greeting.String()))
			if err == nil {
				ten, err = s.tenant(admin, "Acme Water", "ana@acme.example")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		from, err := source.ParseUp("rf/" + ten.id + "/" + ten.source + "/up")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		begun := make(chan struct{})
		var once sync.Once
		for worker := range 4 {
			c, err := brokertest.Dial(t.Context(), s.mqtt)
			if err != nil {
				t.Fatal(err)
			}
			own := brokertest.Source{Topics: from, Key: secret.New(ten.key)}
			h := own.Hello(5)
			h.ID += string(rune('a' + worker))
			if code, err := c.Connect(h); err != nil || code != 0 {
				t.Fatal(code, err)
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				for n := 0; ; n++ {
					body, _ := json.Marshal(chirpStack(ten.id, ten.devEUI, round*1_000_000+worker*100_000+n))
					code, err := c.Publish(own.Up(), 1, false, string(body))
					if err != nil || code != 0 {
						return
					}
					mu.Lock()
					acknowledged[chirpStack(ten.id, ten.devEUI, round*1_000_000+worker*100_000+n)["deduplicationId"].(string)] = true
					if len(acknowledged) >= (round+1)*50 {
						once.Do(func() { close(begun) })
					}
					mu.Unlock()
				}
			})
		}
		<-begun
		stop()
		if err := <-over; err != nil {
			t.Errorf("stopping: %v", err)
		}
		wg.Wait()
	}
	app, err := wire(t.Context(), conf, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	app.settle(t)
	kept := 0
	if err := dumped(t.Context(), conf.dataFile(databaseFile), func(table, column string, _ []byte) {
		if table == "readings" && column == "id" {
			kept++
		}
	}); err != nil {
		t.Error(err)
	}
	if kept < len(acknowledged) || len(acknowledged) < 150 {
		t.Errorf("%d readings of %d acknowledged messages", kept, len(acknowledged))
	}
	if err := app.close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDoorsForBrokersThatAreOpenAreRefusedAtStart(t *testing.T) {
	for set, want := range map[string]string{
		"mqtt=true mqtt_listen=0.0.0.0:1883":                             "mqtt_listen: 0.0.0.0:1883 is not loopback and has no TLS",
		"mqtt=true mqtt_listen=0.0.0.0:1883 mqtt_plain=true":             "",
		"broker_auth_listen=127.0.0.1:9443":                              "anybody could ask",
		"broker_auth_listen=127.0.0.1:9443 broker_auth_client_ca_file=x": "certificates are shown in TLS alone",
		"broker_auth_secret=abcdefghijklmnopqrstuvwxyz":                  "others can read the command line",
	} {
		_, err := loadConfig("/dev/null", strings.Fields(set), environment{lookup: func(string) (string, bool) { return "", false }})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", set, err, want)
		}
	}
	for word, good := range map[string]bool{brokersSecret: true, "short": false, "with a blank, which no URL has": false} {
		_, err := loadConfig("/dev/null", []string{"broker_auth_listen=127.0.0.1:0"}, environment{lookup: func(k string) (string, bool) { return word, k == "RINGFENCE_BROKER_AUTH_SECRET" }})
		if (err == nil) != good {
			t.Errorf("%q: %v", word, err)
		}
	}
	_, err := loadConfig("/dev/null", []string{"broker_auth_listen=0.0.0.0:0"}, environment{lookup: asBrokers})
	if err == nil || !strings.Contains(err.Error(), "broker_auth_listen: 0.0.0.0:0 is not loopback and has no TLS") {
		t.Errorf("%v", err)
	}
}

func TestAWrongKeyIsRefusedOverMQTTLikeOverHTTP(t *testing.T) {
	s, _ := served(t, "mqtt=true", "mqtt_listen=127.0.0.1:0")
	err := mochibroker.Say(t.Context(), s.mqtt, ident.Source{1}, secret.New("rf_ing_"), "x", nil)
	var refused mochibroker.Refused
	if !errors.As(err, &refused) || refused.Reason != 0x86 {
		t.Errorf("%v", err)
	}
}

// A door that logs what it is shown is found by the suite: else its silence about ours would say nothing.
func TestAnMQTTPasswordThatIsLoggedIsFound(t *testing.T) {
	target := watched(t, redacttest.Bug{})
	var spilt journal
	logged := target.Logs
	target.Brokers = func(_, password, _, _ string) { _, _ = spilt.Write([]byte(password + "\n")) }
	target.Logs = func() []byte { return append(logged(), spilt.bytes()...) }
	r := redacttest.Check(t, target, redacttest.Part{Until: "the password of an MQTT client"})
	if !strings.Contains(strings.Join(r.Findings, "\n"), "the password of an MQTT client") {
		t.Errorf("not found in %d findings", len(r.Findings))
	}
}
