//go:build services

package node_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/redacttest"
)

// secrets are all that the deployment was given, and all that it gave out: by what they are.
func (d *deployment) secrets() map[string]string {
	d.t.Helper()
	out := map[string]string{"the broker's password": d.mqttPassword, "a key of ingestion": d.key[len(d.key)-40:], "a person's token": d.token[len(d.token)-40:], "a person's password": personsPassword}
	for name, p := range d.workers {
		for _, v := range p.make().Env {
			key, value, _ := strings.Cut(v, "=")
			switch {
			case key == "RINGFENCE_KAFKA_PASSWORD":
				out[name+"'s Kafka password"] = value
			case strings.HasSuffix(key, "DATABASE_URL"):
				out[name+"'s "+key] = value
				if u, err := url.Parse(value); err == nil { // the test roles' passwords are words, so that they are looked for with what stands around them
					password, _ := u.User.Password()
					out[name+"'s sign-in of "+key] = u.User.Username() + ":" + password
				}
			}
		}
	}
	settings, err := os.ReadFile(filepath.Join(d.dir, "connections.yaml"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, p := range d.workers {
		settings = append(settings, strings.Join(p.make().Env, "\n")...)
	}
	for _, file := range regexp.MustCompile(`/[^\s=&]+\.key\b`).FindAllString(string(settings), -1) { // of certificates that we show
		raw, err := os.ReadFile(file)
		lines := strings.Split(string(raw), "\n")
		if err != nil || len(lines) < 4 {
			d.t.Fatalf("%s: %v, %d lines", file, err, len(lines))
		}
		out["the private key "+filepath.Base(file)] = lines[2] // the first one begins as all keys do
	}
	files, err := filepath.Glob(filepath.Join(d.dir, "keys", "*.key"))
	if err != nil || len(files) < 3 {
		d.t.Fatalf("%d keys: %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			d.t.Fatal(err)
		}
		out["the key "+filepath.Base(file)] = strings.TrimSpace(string(raw))
	}
	return out
}

// left is all that the deployment has left behind so far, by where it was.
func (d *deployment) left() map[string][]byte {
	d.t.Helper()
	out := map[string][]byte{}
	for name, p := range d.workers {
		out[name+"'s log"] = []byte(p.log.all())
		check := exec.Command(p.make().Path, "config", "check")
		check.Dir, check.Env = d.dir, p.make().Env
		text, err := check.CombinedOutput()
		if err != nil || len(text) < 500 {
			d.t.Fatalf("%s config check: %v: %s", name, err, text)
		}
		out[name+"'s configuration"] = text
		metrics := d.scraped(p)
		if len(metrics) < 100 {
			d.t.Fatalf("%s's metrics: %s", name, metrics)
		}
		out[name+"'s metrics"] = []byte(metrics)
	}
	topics := bus.TopicsUnder("rf")
	for _, topic := range []string{topics.Uplinks, topics.Later, topics.Dead, topics.Expected, topics.Out(d.id())} {
		out["records of "+topic] = d.browsed(topic)
	}
	dump := exec.Command(filepath.Join(servers.PostgresClients(d.t), "pg_dump"), "--dbname", d.backup, "--inserts")
	text, err := dump.CombinedOutput()
	if err != nil || !bytes.Contains(text, []byte("INSERT INTO public.devices")) {
		d.t.Fatalf("pg_dump as ringfence_backup: %v: %.500s", err, text)
	}
	out["pg_dump"] = text
	return out
}

// browsed is what a topic holds.
func (d *deployment) browsed(topic string) []byte {
	d.t.Helper()
	var all bytes.Buffer
	for part := range 4 {
		rs, err := d.carrier.Browse(d.t.Context(), topic, part, 0, 10_000)
		if err != nil {
			break // it has fewer partitions
		}
		for _, r := range rs {
			fmt.Fprintf(&all, "%s %s", r.Key, r.Value)
			for _, h := range r.Headers {
				fmt.Fprintf(&all, " %s=%s", h.Name, h.Value)
			}
			all.WriteByte('\n')
		}
	}
	return all.Bytes()
}

// talks has every process say all that it can, and a tenant's decoded events go out.
func (d *deployment) talks() {
	d.t.Helper()
	d.env = append(d.env, "RINGFENCE_LOG_LEVEL=debug")
	d.end(d.api, syscall.SIGTERM)
	d.start(d.api)
	d.await("the API", time.Minute, func() error { return d.ready(d.base) })
	d.output("acme-consumer")
}

// showsKeys gives every process a collector that is not there, and the MQTT worker a broker, that both want a certificate.
func (d *deployment) showsKeys() {
	d.t.Helper()
	by := servers.NewAuthority(d.t)
	cert, key := by.Issue("a client")
	nowhere, _ := servers.Shut(d.t)
	d.env = append(d.env, "RINGFENCE_OTLP_ENDPOINT=https://"+nowhere, "RINGFENCE_OTLP_CA_FILE="+by.File(), "RINGFENCE_OTLP_CERT_FILE="+cert, "RINGFENCE_OTLP_KEY_FILE="+key)
	broker := servers.Mosquitto(d.t, servers.Options{TLS: by, Config: []string{"require_certificate true"}})
	cert, key = by.Issue("the MQTT worker")
	file, err := os.OpenFile(filepath.Join(d.dir, "connections.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err = fmt.Fprintf(file, "- {name: secured, url: mqtts://%s, ca_file: %s, cert_file: %s, key_file: %s, filters: [up/+], format: plain, tenant_from: fixed, tenant: %s, source: %s, presence: false}\n", broker.Addr(), by.File(), cert, key, d.tenant, d.source); err != nil || file.Close() != nil {
		d.t.Fatal(err)
	}
}

// Whatever goes wrong, no process of the deployment lets slip what it was given.
func TestNoSecretOfTheDeploymentSlips(t *testing.T) {
	servers.PostgresClients(t)
	d := deploy(t)
	d.byTLS()
	d.showsKeys()
	d.talks()
	early := "early" + word() // in a log's first line, before a start, a crash and more than anybody keeps in memory
	_ = d.say(d.workers["event-worker"], early+"\n"+strings.Repeat(strings.Repeat(".", 99)+"\n", 20_000)).Close()
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	d.publish(0, 50)
	shown := "shown" + word() // what senders show where it does not belong
	p := d.publisher(1)
	for _, body := range []string{
		`{"id":"1","device":"70b3d57ed0000001","password":"` + shown + `","payload_hex":"00"}`, `{"id":"2","device":"` + shown + `","payload_hex":"00"}`, `{"device":` + shown, `{"id":"4","device":"70b3d57ed0000001","payload_hex":"` + shown + `"}`,
	} {
		if _, err := p.clients[0].Publish(t.Context(), &paho.Publish{QoS: 1, Topic: "up/gateway", Payload: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	p.close()
	d.await("what cannot be read is a dead letter", time.Minute, func() error {
		if !bytes.Contains(d.browsed("rf.uplinks.dead"), []byte(shown)) {
			return errors.New("it is none")
		}
		return nil
	})
	for _, credential := range []string{d.key + "x", shown, "rf_ing_" + shown, d.token[:len(d.token)-3]} {
		if _, err := d.status(d.base, "POST", "/v1/ingest/plain", credential, object{"device": shown}); err != nil {
			t.Fatal(err)
		}
	}
	d.pg.Stop() // each says what it cannot reach
	if _, err := d.status(d.base, "GET", "/v1/tenants/"+d.tenant+"/devices", d.token, nil); err != nil {
		t.Fatal(err)
	}
	d.publish(50, 60)
	d.pg.Start()
	d.kafka.Kill()
	if err := d.crash("event-worker"); err != nil {
		t.Fatal(err)
	}
	d.kafka.Start()
	d.await("the API is back", time.Minute, func() error { return d.ready(d.base) })
	d.publish(60, 70)
	d.read(time.Minute)
	d.await("all of it went out", time.Minute, func() error {
		if n := d.count("SELECT count(*) FROM outbox"); n != 0 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	secrets, left := d.secrets(), d.left()
	for where, text := range left {
		if len(text) == 0 && !strings.Contains(where, "later") {
			t.Errorf("%s is empty: nothing was looked at", where)
		}
	}
	for _, line := range redacttest.Slips(secrets, left) {
		t.Error(line)
	}
	// What a sender shows is in what it sent, which is kept as it is; nowhere else.
	kept := map[string][]byte{}
	for where, text := range left {
		if where != "records of rf.uplinks.dead" && where != "records of rf.uplinks" && where != "pg_dump" {
			kept[where] = text
		}
	}
	for _, line := range redacttest.Slips(map[string]string{"what a sender showed": shown}, kept) {
		t.Error(line)
	}
	if !bytes.Contains(left["records of rf.uplinks.dead"], []byte(shown)) {
		t.Error("what could not be read is not in the dead letters")
	}
	var shownKeys int
	for what, value := range secrets { // and each would have been found
		if strings.HasPrefix(what, "the private key ") {
			shownKeys++
		}
		for _, where := range []string{"event-worker's log", "pg_dump", "records of rf.out." + d.tenant} {
			text := append(bytes.Clone(left[where]), value...)
			if len(redacttest.Slips(secrets, map[string][]byte{where: text})) == 0 {
				t.Errorf("%s, planted in %s, was not found", what, where)
			}
		}
	}
	if shownKeys != 6 { // each process's for PostgreSQL, and for Kafka, a broker and the collector
		t.Errorf("%d keys of certificates were looked for", shownKeys)
	}
	if found := redacttest.Slips(map[string]string{"an early line": early}, left); len(found) != 1 || !strings.HasPrefix(found[0], "event-worker's log: ") {
		t.Errorf("what was said at a log's beginning was found so: %q", found)
	}
	t.Logf("%d secrets in %d places", len(secrets), len(left))
}
