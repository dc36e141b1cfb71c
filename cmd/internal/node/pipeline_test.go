//go:build services

package node_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// publish publishes events as a network server does, each until the broker has acknowledged it.
func (d *deployment) publish(from, to int) {
	d.t.Helper()
	var c *paho.Client
	connect := func() error {
		conn, err := net.Dial("tcp", d.mosquitto.Addr())
		if err != nil {
			return err
		}
		c = paho.NewClient(paho.ClientConfig{Conn: conn})
		_, err = c.Connect(d.t.Context(), &paho.Connect{ClientID: fmt.Sprint("publisher-", from), CleanStart: true, KeepAlive: 30, UsernameFlag: true, Username: d.mqttUser, PasswordFlag: true, Password: []byte(d.mqttPassword)})
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := from; n < to; {
		if c == nil {
			if err := connect(); err != nil {
				c = nil
				<-tick.C
				continue
			}
		}
		body := fmt.Sprintf(`{"id":"%d","device":"70b3d57ed0000001","payload_hex":"%02x"}`, n, n%256)
		ctx, end := context.WithTimeout(d.t.Context(), 5*time.Second)
		_, err := c.Publish(ctx, &paho.Publish{QoS: 1, Topic: "up/gateway", Payload: []byte(body)})
		end()
		if err != nil {
			c = nil
			if d.t.Context().Err() != nil {
				return
			}
			continue
		}
		n++
	}
	if c != nil {
		_ = c.Disconnect(&paho.Disconnect{ReasonCode: 0})
	}
}

// whole waits until every event is a reading, once.
func (d *deployment) whole(events int, within time.Duration) {
	d.t.Helper()
	d.await(fmt.Sprintf("%d events as readings", events), within, func() error {
		if n := d.count("SELECT count(DISTINCT uplink) FROM readings"); n != events {
			return fmt.Errorf("%d readings, %d uplinks, %d wait", n, d.count("SELECT count(*) FROM uplinks"), d.count("SELECT count(*) FROM uplinks WHERE state = 'accepted'"))
		}
		return nil
	})
	for what, query := range map[string]string{
		"readings of one event":      "SELECT count(*) FROM (SELECT uplink FROM readings GROUP BY uplink HAVING count(*) > 1) x",
		"events kept twice":          "SELECT count(*) FROM (SELECT dedupe FROM uplinks GROUP BY dedupe HAVING count(*) > 1) x",
		"events that are no success": "SELECT count(*) FROM uplinks WHERE state <> 'processed'",
		"a latest value that is not": "SELECT count(*) FROM latest l WHERE EXISTS (SELECT 1 FROM readings r WHERE r.tenant = l.tenant AND r.device = l.device AND (r.at, r.id) > (l.at, l.id))",
	} {
		if n := d.count(query); n != 0 {
			d.t.Errorf("%s: %d", what, n)
		}
	}
}

func TestAnEventGoesFromMQTTOverKafkaToPostgreSQL(t *testing.T) {
	d := deploy(t)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	d.publish(0, 100)
	d.whole(100, 30*time.Second)
	latest := d.ask("GET", "/v1/tenants/"+d.tenant+"/devices/"+d.device+"/latest", nil, 200)
	if str(latest, "device_id") != d.device {
		t.Errorf("%v", latest)
	}
	token := d.token
	d.token = d.key
	v := d.ask("POST", "/v1/ingest/plain", object{"id": "by http", "device": "70b3d57ed0000001", "payload": "AA=="}, 202)
	d.token = token
	d.whole(101, 10*time.Second)
	if up := d.ask("GET", "/v1/tenants/"+d.tenant+"/uplinks/"+str(v, "event_id"), nil, 200); str(up, "state") != "processed" {
		t.Errorf("%v", up)
	}
	for _, name := range []string{"mqtt-ingestion-worker", "event-worker", "platform-api"} {
		d.end(d.workers[name], syscall.SIGTERM)
		if code := d.workers[name].cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ends with %d:\n%s", name, code, d.workers[name].log)
		}
	}
}

func TestNothingThatWasAcknowledgedIsLostOrDoubledWhateverIsKilled(t *testing.T) {
	d := deploy(t)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	const events, kills, publishers = 10_000, 10, 4
	published := make(chan struct{}, publishers)
	for i := range publishers {
		go func() { d.publish(i*events/publishers, (i+1)*events/publishers); published <- struct{}{} }()
	}
	victims := []func() error{
		func() error { return d.crash("mqtt-ingestion-worker") },
		func() error { return d.crash("event-worker") },
		func() error { d.kafka.Kill(); d.kafka.Start(); return nil },
		func() error { d.pg.Kill(); d.pg.Start(); return nil },
	}
	for k := range kills {
		pause := time.NewTimer(time.Duration(100+rand.IntN(300)) * time.Millisecond) //nolint:gosec // when to kill
		<-pause.C
		if err := victims[k%len(victims)](); err != nil {
			t.Fatal(err)
		}
	}
	for range publishers {
		<-published
	}
	d.whole(events, 60*time.Second)
}

// crash kills a worker and starts it again.
func (d *deployment) crash(name string) error {
	p := d.workers[name]
	if err := p.cmd.Process.Kill(); err != nil {
		return errors.Join(errors.New(p.log.String()), err)
	}
	<-p.done
	d.start(p)
	return nil
}
