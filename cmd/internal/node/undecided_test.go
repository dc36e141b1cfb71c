//go:build services

package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// A database that answers nothing stops nobody whom the MQTT worker remembers: what it cannot decide waits at the broker's, and is there
// once the database answers again.
func TestWithAFrozenDatabaseWhoIsRememberedGoesOnAndTheOthersWait(t *testing.T) {
	d := deploy(t)
	cs := d.customers(2, light)
	remembered, other := cs[0], cs[1]
	more, err := os.ReadFile(filepath.Join(d.dir, "connections.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(more) + fmt.Sprintf("- name: apps\n  url: mqtt://%s\n  username: worker\n  password_file: %s/mqtt.password\n  filters: [\"app/{application}/up\"]\n  format: plain\n  tenant_from: application\n  presence: false\n", d.mosquitto.Addr(), d.dir)
	if err := os.WriteFile(filepath.Join(d.dir, "connections.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.ask("POST", "/v1/platform/mappings", object{"connection": "apps", "application_id": "pumps", "tenant_id": other.id, "source_id": other.source}, 201)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(2)
	defer p.close()
	send := func(c customer, n int) {
		t.Helper()
		for range n {
			if err := p.send(t.Context(), c, p.n.Add(1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(remembered, 10)
	p.through(time.Minute)
	before := d.records()
	frozen := d.freezePostgres()
	var lines sync.WaitGroup
	for n := range 20 { // of applications, each by its topic
		lines.Go(func() {
			body := fmt.Appendf(nil, `{"id":"app %d","device":"pump-1","address_kind":"serial","payload_hex":"00"}`, n)
			if _, err := p.clients[0].Publish(t.Context(), &paho.Publish{QoS: 1, Topic: fmt.Sprintf("app/%s/up", []string{"pumps", "nobodys"}[n%2]), Payload: body}); err != nil {
				t.Error(err)
			}
		})
	}
	lines.Wait()
	send(other, 20)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var known sync.WaitGroup
	known.Go(func() { p.flood(ctx, cs[:1], 200, 3_000) }) // more than the broker sends before it is told that some are durable
	d.await("what is remembered reaches Kafka while the database is frozen", 2*time.Minute, func() error {
		if n := d.records() - before; n < 3_000 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
	known.Wait()
	metric := func(what, series string, want int) {
		t.Helper()
		d.await(what, time.Minute, func() error {
			if n := d.metric("mqtt-ingestion-worker", series); n != want {
				return fmt.Errorf("%s is %d, want %d", series, n, want)
			}
			return nil
		})
	}
	for _, connection := range []string{"direct", "apps"} {
		metric("what cannot be decided waits", `ringfence_mqtt_waiting{connection="`+connection+`"}`, 20)
	}
	for _, pid := range frozen {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	d.await("what waited reaches Kafka", time.Minute, func() error {
		if n := d.records() - before; n != 3_030 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
	d.whole(3_040, time.Minute)
	metric("what is of nobody's application is a dead letter", `ringfence_mqtt_messages_total{connection="apps",result="dead_letter"}`, 10)
	for _, connection := range []string{"direct", "apps"} {
		metric("all is acknowledged", `ringfence_mqtt_in_flight{connection="`+connection+`"}`, 0)
	}
}
