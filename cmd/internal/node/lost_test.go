//go:build services

package node_test

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/ringfence/ringfence/adapters/kafkabus"
)

// operates runs the operator's command about topics, which is to end with a code and to say something.
func (d *deployment) operates(code int, want string, args ...string) {
	d.t.Helper()
	args = append(append([]string{"kafka", "topics", "--brokers", d.kafka.Addr()}, d.administrator...), args...)
	c := exec.Command(filepath.Join(d.bin, "ringfence"), args...)
	out, _ := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
		d.t.Fatalf("%v: %d, want %d and %q:\n%s", args, got, code, want, out)
	}
}

// raw is a client of Kafka's that is none of ours, as its administrator.
func (d *deployment) raw(o ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	c, err := kgo.NewClient(append(o, kgo.SeedBrokers(d.kafka.Addr()), kgo.SASL(scram.Auth{User: d.admin.User, Pass: d.admin.Password}.AsSha512Mechanism()))...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(c.Close)
	return c
}

// deleted deletes a topic.
func (d *deployment) deleted(topic string) {
	d.t.Helper()
	r := kmsg.NewPtrDeleteTopicsRequest()
	one := kmsg.NewDeleteTopicsRequestTopic()
	one.Topic, r.TopicNames, r.TimeoutMillis = kmsg.StringPtr(topic), []string{topic}, 10_000
	r.Topics = append(r.Topics, one)
	gone, err := r.RequestWith(d.t.Context(), d.raw())
	if err != nil || len(gone.Topics) != 1 || gone.Topics[0].ErrorCode != 0 {
		d.t.Fatalf("%v, %+v", err, gone)
	}
}

// A topic that is deleted is told by the worker that reads it and by one that starts then, with what to do, as is one that was made
// anew, with fewer partitions. Both live, read nothing, and go on by themselves once the operator has accepted what was lost. What is
// away for a while is told too, by those who need it.
func TestAWorkerWhoseTopicIsLostSaysSoAndGoesOnOnceThatIsAccepted(t *testing.T) {
	d := deploy(t)
	reads, starts := d.workers["event-worker"], with(d.workers["event-worker"])
	d.workers["event-worker 2"] = starts
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	d.publish(0, 5)
	d.whole(5, 30*time.Second)
	both := func(want string) {
		t.Helper()
		d.unready(reads, want)
		d.unready(starts, want)
	}
	const topic, looks = "rf.uplinks", "the bus is not read, until somebody has mended that"

	d.deleted(topic)
	d.start(starts)
	both("ringfence kafka topics --apply")
	d.unready(d.workers["mqtt-ingestion-worker"], "ringfence kafka topics --apply")
	d.operates(1, "nothing was done; --apply does it", "--partitions", "4", "--replicas", "1")

	if err := d.carrier.Create(t.Context(), kafkabus.Topic{Name: topic, Partitions: 2}); err != nil { // by hand
		t.Fatal(err)
	}
	d.publish(5, 10)
	both("ringfence kafka topics --accept")
	d.topics() // which makes it as large as it was, and accepts nothing
	looked := strings.Count(reads.log.all(), looks)
	d.await("the worker looks again", time.Minute, func() error {
		if n := strings.Count(reads.log.all(), looks); n <= looked {
			return fmt.Errorf("it has looked %d times", n)
		}
		return nil
	})
	both("ringfence kafka topics --accept")
	if n := d.count("SELECT count(*) FROM uplinks"); n != 5 {
		t.Errorf("%d events were finished before anybody accepted", n)
	}

	d.operates(2, "none of our topics", "--accept", "somebody.elses")
	d.operates(0, topic+" is accepted as it is now", "--accept", topic)
	for _, p := range []string{"event-worker", "event-worker 2"} {
		d.await(p+" reads again", time.Minute, func() error {
			if d.metric(p, "ringfence_bus_generations_total") == 0 {
				return errors.New("it has joined nothing")
			}
			return d.ready(d.workers[p].metrics())
		})
	}
	d.whole(10, time.Minute)
	d.deleted("rf.uplinks.dead") // without it a worker stands still at the first dead letter
	for _, p := range d.workers {
		if p != d.api {
			d.unready(p, "ringfence kafka topics --apply")
		}
	}
	d.topics()
	for name, p := range d.workers {
		d.await(name+" is ready with the dead letters", time.Minute, func() error { return d.ready(p.metrics()) })
	}
	d.withoutKafka()
	d.whole(12, time.Minute)
	d.withoutPostgreSQL()
}

// withoutKafka has Kafka answer nobody for a while: the workers say so, and the API fails events alone, soon and with when to come
// again. One event comes by MQTT meanwhile, and one by HTTP that is sent again.
func (d *deployment) withoutKafka() {
	d.t.Helper()
	if status, err := d.status(d.base, http.MethodPost, "/v1/ingest/plain", d.key, object{}); err != nil || status != http.StatusUnprocessableEntity { // that the key is used is noted now
		d.t.Fatal(status, err)
	}
	d.freeze(d.kafka.Pid())
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.base+"/v1/ingest/plain", strings.NewReader(`{"id":"by http","device":"70b3d57ed0000001","payload":"AA=="}`))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+d.key)
	began := time.Now()
	res, err := new(http.Client).Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	_ = res.Body.Close()
	if took := time.Since(began); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || took > 8*time.Second {
		d.t.Errorf("an event is answered %d after %v, to come again after %q", res.StatusCode, took, res.Header.Get("Retry-After"))
	}
	d.publish(10, 11)
	for name, p := range d.workers {
		if name != "platform-api" {
			d.unready(p, "The bus cannot be reached")
		}
	}
	d.await("the API is ready without Kafka", time.Minute, func() error { return d.ready(d.base) })
	d.ask("GET", "/v1/tenants/"+d.tenant+"/devices/"+d.device+"/latest", nil, http.StatusOK)
	if err := syscall.Kill(d.kafka.Pid(), syscall.SIGCONT); err != nil {
		d.t.Fatal(err)
	}
	d.await("the event is accepted", time.Minute, func() error {
		if status := d.sent(d.t.Context(), "by http"); status != http.StatusAccepted {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
	for name, p := range d.workers {
		d.await(name+" is ready again", time.Minute, func() error { return d.ready(p.metrics()) })
	}
}

// withoutPostgreSQL takes the database away for a while, which the API says, and lives.
func (d *deployment) withoutPostgreSQL() {
	d.t.Helper()
	d.pg.Stop()
	d.unready(d.api, "The store cannot be reached")
	d.answers(d.base+"/readyz", http.StatusServiceUnavailable)
	d.answers(d.base+"/healthz", http.StatusOK)
	d.pg.Start()
	d.await("the API is ready again", time.Minute, func() error { return d.ready(d.base) })
	d.ask("GET", "/v1/tenants/"+d.tenant+"/devices/"+d.device+"/latest", nil, http.StatusOK)
}
