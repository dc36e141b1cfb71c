//go:build services

package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// The database goes away just after somebody has signed in, which changes the platform's records as a mapping does: messages of applications
// that are mapped go on, those of one whose mapping was seen to be taken away do not.
func TestMessagesOfMappedApplicationsGoOnWhileTheDatabaseIsAway(t *testing.T) {
	d := deploy(t)
	more, err := os.ReadFile(filepath.Join(d.dir, "connections.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(more) + fmt.Sprintf("- name: apps\n  url: mqtt://%s\n  username: worker\n  password_file: %s/mqtt.password\n  filters: [\"app/{application}/up\"]\n  format: plain\n  tenant_from: application\n  presence: false\n", d.mosquitto.Addr(), d.dir)
	if err := os.WriteFile(filepath.Join(d.dir, "connections.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mapping := d.ask("POST", "/v1/platform/mappings", object{"connection": "apps", "application_id": "pumps", "tenant_id": d.tenant, "source_id": d.source}, 201)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	sent := 0
	publish := func(n int) {
		t.Helper()
		for range n {
			sent++
			body := fmt.Sprintf(`{"id":"grace %d","device":"70b3d57ed0000001","payload_hex":"0%d"}`, sent, sent%10)
			if _, err := p.clients[0].Publish(t.Context(), &paho.Publish{QoS: 1, Topic: "app/pumps/up", Payload: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	counted := func(result string, want int) {
		t.Helper()
		d.await(fmt.Sprintf("%d messages are %s", want, result), time.Minute, func() error {
			if n := d.metric("mqtt-ingestion-worker", `ringfence_mqtt_messages_total{connection="apps",result="`+result+`"}`); n < want {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	}
	// seen waits until the worker has asked what was changed, some time after now.
	seen := func() {
		t.Helper()
		var now string
		if err := d.row("SELECT clock_timestamp()::text").Scan(&now); err != nil {
			t.Fatal(err)
		}
		d.await("the worker asks what was changed", time.Minute, func() error {
			if d.count("SELECT count(*) FROM pg_stat_activity WHERE usename = 'ringfence_reader' AND query LIKE '%known%' AND query_start > '"+now+"' AND state = 'idle'") == 0 {
				return fmt.Errorf("not yet")
			}
			return nil
		})
	}
	publish(1)
	counted("accepted", 1)

	d.ask("POST", "/v1/auth/login", object{"email": "ana@acme.example", "password": personsPassword, "mode": "token"}, 200)
	seen()
	d.pg.Stop()
	publish(10)
	counted("accepted", 11)
	d.pg.Start()

	d.await("the API answers again", time.Minute, func() error { return d.ready(d.base) })
	d.ask("DELETE", "/v1/platform/mappings/"+str(mapping, "id"), object{"-rev": rev(mapping)}, 204)
	seen()
	d.pg.Stop()
	publish(1)
	d.await("the message is given back", time.Minute, func() error {
		if d.metric("mqtt-ingestion-worker", `ringfence_mqtt_take_retries_total{connection="apps"}`) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if n := d.metric("mqtt-ingestion-worker", `ringfence_mqtt_messages_total{connection="apps",result="accepted"}`); n != 11 {
		t.Errorf("%d messages were accepted after their mapping was seen to be taken away", n-11)
	}
	d.pg.Start()
	counted("dead_letter", 1)
	d.whole(11, 60*time.Second)
}

// metric is one of a process's numbers; 0: it has none such.
func (d *deployment) metric(process, series string) int {
	d.t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\d+)$`).FindStringSubmatch(d.scraped(d.workers[process]))
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}
