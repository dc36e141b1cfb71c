//go:build services

package node_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/adapters/otlp/otlptest"
	"github.com/ringfence/ringfence/testkit/redacttest"
)

// told lets all processes that start from now on tell a collector of all traces, and begins the API anew.
func (d *deployment) told(endpoint, headers string) {
	d.t.Helper()
	d.env = append(d.env, "RINGFENCE_LOG_LEVEL=debug", "RINGFENCE_OTLP_RATIO=1", "RINGFENCE_OTLP_LOGS=true", "RINGFENCE_OTLP_ENDPOINT="+endpoint, "RINGFENCE_OTLP_HEADERS="+headers)
	d.end(d.api, syscall.SIGTERM)
	d.start(d.api)
	d.await("the API", time.Minute, func() error { return d.ready(d.base) })
}

// says publishes one message as a network server does, with a user property for each header.
func (d *deployment) says(body string, traceparents ...string) {
	d.t.Helper()
	p := d.publisher(1)
	defer p.close()
	m := &paho.Publish{QoS: 1, Topic: "up/gateway", Payload: []byte(body), Properties: &paho.PublishProperties{}}
	for _, at := range traceparents {
		m.Properties.User.Add("traceparent", at)
	}
	if _, err := p.clients[0].Publish(d.t.Context(), m); err != nil {
		d.t.Fatal(err)
	}
}

// asks sends one event over HTTP and answers its id.
func (d *deployment) asks(body, traceparent string) string {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.base+"/v1/ingest/plain", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header = http.Header{"Authorization": {"Bearer " + d.key}, "Content-Type": {"application/json"}, "Traceparent": {traceparent}}
	res, err := new(http.Client).Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var out struct {
		Event string `json:"event_id"`
	}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil || res.StatusCode != 202 {
		d.t.Fatalf("%d: %v", res.StatusCode, err)
	}
	return out.Event
}

// logged reports whether a process has logged a line of an event and its trace.
func (d *deployment) logged(binary, event, trace string) error {
	for line := range strings.Lines(d.workers[binary].log.all()) {
		var said struct {
			Event string `json:"event_id"`
			Trace string `json:"trace_id"`
		}
		if json.Unmarshal([]byte(line), &said) == nil && said.Event == event && said.Trace == trace {
			return nil
		}
	}
	return fmt.Errorf("%s has no line with %s and %s", binary, event, trace)
}

const (
	overMQTT = "0af7651916cd43dd8448eb211c80319c"
	overHTTP = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent   = "b7ad6b7169203331"
)

// One trace runs from the network server's message, over a real broker, Kafka and PostgreSQL, to the transaction that writes the
// reading; so does one from a request. Nothing in it is anybody's secret.
func TestOneTraceRunsThroughTheDeployment(t *testing.T) {
	d := deploy(t)
	r, token, shown := otlptest.New(t), "otlp-token-"+word(), "canary-"+word()
	d.told(r.URL, "Authorization=Bearer%20"+token)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	at := func(id string) string { return "00-" + id + "-" + parent + "-00" }
	d.says(`{"id":"1","device":"70b3d57ed0000001","payload_hex":"07"}`, at(overMQTT))
	asked := d.asks(`{"id":"2","device":"70b3d57ed0000001","payload_hex":"08"}`, at(overHTTP))
	d.says(`{"id":"3","device":"70b3d57ed0000001","payload_hex":"09"}`)                                                                                 // in no trace
	d.says(`{"id":"4","device":"70b3d57ed0000001","payload_hex":"0a"}`, "00-"+shown+"-01")                                                              // in none that is one
	d.says(`{"id":"5","device":"70b3d57ed0000001","payload_hex":"0b"}`, at("11111111111111111111111111111111"), at("22222222222222222222222222222222")) // in which?
	d.says(`{"id":"` + shown + `","device":"` + shown + `","payload_hex":"0c"}`)
	d.await("the readings", time.Minute, func() error {
		if n := d.count("SELECT count(*) FROM readings"); n != 5 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	written := func(trace string) map[string]otlptest.Span {
		of := map[string]otlptest.Span{}
		for _, s := range r.Spans(trace) {
			of[s.Name] = s
		}
		return of
	}
	for _, c := range []struct{ trace, door, binary, kind string }{{overMQTT, "receive", "mqtt-ingestion-worker", "consumer"}, {overHTTP, "ingestPlain", "platform-api", "server"}} {
		d.await("the spans of "+c.door, time.Minute, func() error {
			if of := written(c.trace); len(of) != 4 {
				return fmt.Errorf("%+v", of)
			}
			return nil
		})
		of := written(c.trace)
		door, publish, decode, write := of[c.door], of["publish"], of["decode"], of["write"]
		if door.Service != c.binary || door.Parent != parent || door.Kind != c.kind || publish.Service != c.binary || publish.Parent != door.ID ||
			decode.Service != "event-worker" || decode.Parent != publish.ID || write.Service != "event-worker" || write.Parent != publish.ID {
			t.Errorf("%s: %+v", c.trace, of)
		}
		event := write.Said["ringfence.event_id"]
		if write.Said["ringfence.result"] != "processed" || event == "" || door.Said["ringfence.event_id"] != event || door.Said["ringfence.tenant_id"] != d.tenant || c.door == "ingestPlain" && event != asked {
			t.Errorf("%+v", of)
		}
		if !write.Began.After(door.Began) || write.Ended.Before(decode.Ended) {
			t.Errorf("%+v is written before it is decoded", of)
		}
		for _, binary := range []string{c.binary, "event-worker"} {
			d.await(binary+"'s log", time.Minute, func() error { return d.logged(binary, event, c.trace) })
			d.await("the same at the collector", time.Minute, func() error {
				for _, line := range r.Lines() {
					if line.Service == binary && line.Said["ringfence.event_id"] == event && line.Trace == c.trace {
						return nil
					}
				}
				return fmt.Errorf("not among %d lines", len(r.Lines()))
			})
		}
		d.await("a batch with a link to it", time.Minute, func() error {
			for _, s := range r.Spans() {
				if s.Name == "consume" && strings.Contains(strings.Join(s.Links, " "), c.trace+"/"+publish.ID) {
					return nil
				}
			}
			return fmt.Errorf("none among %d spans", len(r.Spans()))
		})
	}
	if n := len(r.Spans("11111111111111111111111111111111", "22222222222222222222222222222222")); n != 0 {
		t.Errorf("%d spans of a trace of two", n)
	}
	d.await("metrics", 40*time.Second, func() error {
		for service, name := range map[string]string{
			"platform-api": "ringfence_partitions_ahead_days", "mqtt-ingestion-worker": "ringfence_mqtt_received_total", "event-worker": "ringfence_bus_oldest_unread_seconds",
		} {
			if r.Metric(service, name) == nil {
				return fmt.Errorf("%s tells nothing of %s", service, name)
			}
		}
		return nil
	})
	if days := r.Metric("platform-api", "ringfence_partitions_ahead_days").GetGauge().GetDataPoints()[0].GetAsInt(); days < 2 {
		t.Errorf("partitions for %d days", days)
	}
	for _, h := range r.Headers() {
		if h.Get("Authorization") != "Bearer "+token {
			t.Errorf("a request says %v", h)
		}
	}
	for name := range d.workers {
		d.end(d.workers[name], syscall.SIGTERM)
	}
	secrets := d.secrets()
	secrets["the collector's token"], secrets["what a sender showed"] = token, shown
	left := map[string][]byte{"what the collector was sent": r.Raw()}
	for name, p := range d.workers {
		left[name+"'s log"] = []byte(p.log.all())
	}
	for _, line := range redacttest.Slips(secrets, left) {
		t.Error(line)
	}
	for _, foreign := range []string{"70b3d57ed0000001", "gateway", "ana@acme.example", "Acme"} { // the device, the topic, a person, a name
		if bytes.Contains(r.Raw(), []byte(foreign)) {
			t.Errorf("the collector was told of %s", foreign)
		}
	}
	if len(redacttest.Slips(secrets, map[string][]byte{"planted": append(r.Raw(), token...)})) == 0 { // and it would have been found
		t.Error("a planted token was not found")
	}
}

// A collector that takes connections and says nothing costs spans, and neither an event nor a moment at the end.
func TestACollectorThatIsAwayHarmsNothing(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	d := deploy(t)
	ends := func(name string) time.Duration {
		began := time.Now()
		d.end(d.workers[name], syscall.SIGTERM)
		return time.Since(began)
	}
	without := map[string]time.Duration{}
	for _, name := range []string{"event-worker", "mqtt-ingestion-worker"} {
		d.run(name)
		without[name] = ends(name)
	}
	d.told("http://"+silent.Addr().String(), "")
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	began := time.Now()
	const events = 2_000
	p := d.publisher(2)
	var all []chan error
	for n := range events {
		done := make(chan error, 1)
		all = append(all, done)
		go func() {
			body := fmt.Sprintf(`{"id":"%d","device":"70b3d57ed0000001","payload_hex":"07"}`, n)
			_, err := p.clients[n%2].Publish(t.Context(), &paho.Publish{QoS: 1, Topic: "up/gateway", Payload: []byte(body)})
			done <- err
		}()
	}
	for _, done := range all {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	p.close()
	d.await("the readings", time.Minute, func() error {
		if n := d.count("SELECT count(*) FROM readings"); n != events {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	t.Logf("%d events in %v", events, time.Since(began).Round(time.Millisecond))
	d.await("what could not be told is counted", time.Minute, func() error {
		if d.metric("event-worker", "ringfence_otlp_failures_total") == 0 {
			return errors.New("nothing")
		}
		return nil
	})
	for name, alone := range without {
		tried(t, func() error {
			beside := ends(name)
			t.Logf("%s ends after %v, after %v without a collector", name, beside, alone)
			if beside > alone+3*time.Second { // it may try for 2 s to tell what is left
				d.run(name)
				return fmt.Errorf("%s ends after %v, after %v without a collector", name, beside, alone)
			}
			return nil
		})
	}
}
