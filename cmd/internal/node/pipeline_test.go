//go:build services

package node_test

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// publish publishes events as a network server does, each until the broker has acknowledged it; if addresses of devices are given, as
// The Things Stack does, of each in turn, with the time when the network had it; all join anew at half time, and count from there.
func (d *deployment) publish(from, to int, addresses ...string) {
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
	body, of := "", -1
	for n := from; n < to; {
		if c == nil {
			if err := connect(); err != nil {
				c = nil
				<-tick.C
				continue
			}
		}
		switch k, half := n-from, (to-from+1)/2; {
		case of == n: // it says the same when it is sent again
		case len(addresses) > 0:
			body = fmt.Sprintf(`{"end_device_ids":{"device_id":"pump","dev_eui":"%s"},"uplink_message":{"session_key_id":"%d","f_port":2,"f_cnt":%d,"frm_payload":"AA==","received_at":"%s"}}`, addresses[k%len(addresses)], k/half, k%half, time.Now().UTC().Format(time.RFC3339Nano))
		default:
			body = fmt.Sprintf(`{"id":"%d","device":"70b3d57ed0000001","payload_hex":"%02x"}`, n, n%256)
		}
		of = n
		d.wait(n-from, to-from)
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

// wait waits until the nth of so many may be sent.
func (d *deployment) wait(n, of int) {
	if len(d.gates) > 0 {
		select {
		case <-d.gates[n*len(d.gates)/of]:
		case <-d.t.Context().Done():
		}
	}
}

// traced publishes an event within a trace of its sender's, which is told wherever the event is.
func (d *deployment) traced(n int) {
	d.t.Helper()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	p := d.publisher(1)
	defer p.close()
	props := &paho.PublishProperties{}
	props.User.Add("traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	if _, err := p.clients[0].Publish(d.t.Context(), &paho.Publish{QoS: 1, Topic: "up/gateway", Properties: props, Payload: []byte(fmt.Sprintf(`{"id":"%d","device":"70b3d57ed0000001","payload_hex":"00"}`, n))}); err != nil {
		d.t.Fatal(err)
	}
	d.await("the event worker tells the trace", 30*time.Second, func() error {
		for _, line := range strings.Split(d.workers["event-worker"].log.all(), "\n") {
			var said object
			if json.Unmarshal([]byte(line), &said) == nil && str(said, "trace_id") == trace {
				if d.count("SELECT count(*) FROM readings WHERE uplink = decode('"+eventHex(d.t, str(said, "event_id"))+"', 'hex')") == 1 {
					return nil
				}
			}
		}
		return errors.New("it does not")
	})
}

// post posts events as a customer does, each until it is accepted.
func (d *deployment) post(from, to int) {
	d.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := from; n < to && d.t.Context().Err() == nil; {
		d.wait(n-from, to-from)
		switch status := d.sent(d.t.Context(), fmt.Sprint("posted ", n)); status {
		case http.StatusAccepted:
			n++
		case 0, http.StatusServiceUnavailable:
			<-tick.C
		default:
			d.t.Errorf("the API answers %d", status)
			return
		}
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
		"a latest value that is not": "SELECT count(*) FROM latest l WHERE EXISTS (SELECT 1 FROM readings r WHERE r.tenant = l.tenant AND r.device = l.device AND (r.at, r.fcnt, r.uplink) > (l.at, l.fcnt, l.uplink))",
		"no latest value":            "SELECT count(*) FROM (SELECT DISTINCT tenant, device FROM readings EXCEPT SELECT tenant, device FROM latest) x",
		"readings that are not in the order of session and counter": "SELECT count(*) FROM (SELECT session, fcnt, lag(session) OVER w AS session_before, lag(fcnt) OVER w AS before FROM readings WHERE has_fcnt WINDOW w AS (PARTITION BY tenant, device ORDER BY at, fcnt, uplink)) x WHERE (session, fcnt) <= (session_before, before)",
	} {
		if n := d.count(query); n != 0 {
			d.t.Errorf("%s: %d", what, n)
		}
	}
}

func TestAnEventGoesFromMQTTOverKafkaToPostgreSQL(t *testing.T) {
	d := deploy(t)
	d.env = append(d.env, "RINGFENCE_LOG_LEVEL=debug")
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	d.publish(0, 99)
	d.traced(99)
	d.whole(100, time.Minute)
	latest := d.ask("GET", "/v1/tenants/"+d.tenant+"/devices/"+d.device+"/latest", nil, 200)
	if str(latest, "device_id") != d.device {
		t.Errorf("%v", latest)
	}
	token := d.token
	d.token = d.key
	v := d.ask("POST", "/v1/ingest/plain", object{"id": "by http", "device": "70b3d57ed0000001", "payload": "AA=="}, 202)
	d.token = token
	d.whole(101, time.Minute)
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
	anew(t, losesNothing)
}

// losesNothing answers if it takes too long.
func losesNothing(t *testing.T) error {
	d := deploy(t)
	d.output("acme")
	const publishers, posters, devices = 4, 2, 12
	addresses := make([]string, publishers*devices)
	for i := range addresses {
		addresses[i] = fmt.Sprintf("70b3d57ed1%06x", i)
		d.ask("POST", "/v1/tenants/"+d.tenant+"/devices", object{"name": "pump " + addresses[i], "decoder_id": d.decoder, "addresses": []object{{"kind": "dev_eui", "value": addresses[i]}}}, 201)
	}
	file := filepath.Join(d.dir, "connections.yaml")
	config, err := os.ReadFile(file)
	if err == nil {
		network := str(d.ask("POST", "/v1/tenants/"+d.tenant+"/sources", object{"name": "network", "format": "tts"}, 201), "id")
		config = bytes.Replace(config, []byte("format: plain"), []byte("format: tts\n  group: workers"), 1)
		err = os.WriteFile(file, bytes.Replace(config, []byte("source: "+d.source), []byte("source: "+network), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.workers["mqtt-ingestion-worker 2"], d.workers["event-worker 2"] = with(d.workers["mqtt-ingestion-worker"], "RINGFENCE_ORDINAL=1"), with(d.workers["event-worker"])
	d.workers["mqtt-ingestion-worker"] = with(d.workers["mqtt-ingestion-worker"], "RINGFENCE_ORDINAL=0")
	two := map[string]string{"mqtt-ingestion-worker": `ringfence_mqtt_received_total{connection="lab"}`, "event-worker": "ringfence_bus_fetched_total"}
	for name := range two {
		d.run(name)
		d.run(name + " 2")
	}
	for _, name := range []string{"event-worker", "event-worker 2"} { // ready, it may yet be about to join
		d.await(name+" is in both groups", 30*time.Second, func() error {
			if n := d.metric(name, "ringfence_bus_generations_total"); n < 2 {
				return fmt.Errorf("it has begun %d generations", n)
			}
			return nil
		})
	}
	began := time.Now()
	watched := d.watchLatest()
	events, kills := long(10_000, 100_000), long(10, 100)
	for range kills + 1 { // a part before the first kill, and one around each
		d.gates = append(d.gates, make(chan struct{}))
	}
	close(d.gates[0])
	posted := events / 10 // by HTTP, the others by MQTT
	var sending sync.WaitGroup
	for i := range publishers {
		sending.Go(func() {
			d.publish(i*(events-posted)/publishers, (i+1)*(events-posted)/publishers, addresses[i*devices:(i+1)*devices]...)
		})
	}
	for i := range posters {
		sending.Go(func() { d.post(i*posted/posters, (i+1)*posted/posters) })
	}
	for name, series := range two {
		for _, name := range []string{name, name + " 2"} {
			d.await(name+" has its part", time.Minute, func() error {
				if d.metric(name, series) == 0 {
					return errors.New("it has had no event")
				}
				return nil
			})
		}
	}
	victims := []func() error{
		func() error { return d.crash("mqtt-ingestion-worker") },
		func() error { return d.crash("event-worker") },
		func() error { d.kafka.Kill(); d.kafka.Start(); return nil },
		func() error { return d.crash("mqtt-ingestion-worker 2") },
		func() error { d.pg.Kill(); d.pg.Start(); return nil },
		func() error { return d.crash("event-worker 2") },
		func() error { return d.crash("platform-api") },
	}
	for k := range kills {
		close(d.gates[k+1])
		pause := time.NewTimer(time.Duration(50+rand.IntN(200)) * time.Millisecond) //nolint:gosec // when to kill
		<-pause.C
		if err := victims[k%len(victims)](); err != nil {
			t.Fatal(err)
		}
	}
	sending.Wait()
	d.whole(events, long(3*time.Minute, 10*time.Minute)) // seconds on a quiet machine
	d.await("all of them have gone out", time.Minute, func() error {
		if n := d.count("SELECT count(*) FROM outbox"); n != 0 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	watched()
	went := d.wentOut()
	took := time.Since(began)
	t.Logf("%d events and %d kills: %v", events, kills, took)
	if len(went) != events {
		t.Errorf("%d of %d events went out", len(went), events)
	}
	if kills == 10 && took > time.Minute { // 16 to 31 s on two busy cores, 53 s with twenty others waiting and this last of all
		return fmt.Errorf("all of it took %v", took)
	}
	return nil
}

// watchLatest looks at every device's latest value all the time, until it is told to end; none may go back.
func (d *deployment) watchLatest() (end func()) {
	ctx, stop := context.WithCancel(d.t.Context())
	looks, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		db, err := sql.Open("pgx", d.database)
		if err != nil {
			d.t.Error(err)
			return
		}
		defer func() { _ = db.Close() }()
		type value struct {
			at, counter int64
			uplink      string
		}
		last := map[string]value{}
		for tick := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			rows, err := db.QueryContext(ctx, "SELECT encode(tenant || device, 'hex'), at, fcnt, encode(uplink, 'hex') FROM latest")
			if err != nil {
				continue // it was killed
			}
			for rows.Next() {
				var device string
				var now value
				if rows.Scan(&device, &now.at, &now.counter, &now.uplink) != nil {
					break
				}
				if before := last[device]; cmp.Or(cmp.Compare(now.at, before.at), cmp.Compare(now.counter, before.counter), cmp.Compare(now.uplink, before.uplink)) < 0 {
					d.t.Errorf("the latest value of %s goes back: %v, %v", device, before, now)
				}
				last[device] = now
			}
			if rows.Err() == nil {
				looks++
			}
			_ = rows.Close()
		}
	}()
	return func() {
		stop()
		<-done
		if looks < 100 {
			d.t.Errorf("the latest values were looked at %d times", looks)
		}
	}
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

// rev is a record's revision as If-Match has it.
func rev(record object) string { return fmt.Sprintf(`"%v"`, record["rev"]) }

// status asks one process, and answers what it says.
func (d *deployment) status(base, method, path, credential string, body object) (int, error) {
	status, _, _, err := d.tells(base, method, path, credential, "", body)
	return status, err
}
