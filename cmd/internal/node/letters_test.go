//go:build services

package node_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// bad is something that is no event, and what its dead letter is to say.
type bad struct {
	name, reason, via string
	topic             string // of MQTT
	value             string
	whole             bool // all of it is kept
}

// letters waits until there is exactly one dead letter for each, which says of it what is true.
func (d *deployment) letters(of []bad) {
	d.t.Helper()
	var found []any
	d.await("the dead letters", 30*time.Second, func() error {
		found, _ = d.ask("GET", "/v1/platform/dead-letters?limit=200", nil, 200)["items"].([]any)
		if len(found) < len(of) {
			return fmt.Errorf("%d of %d", len(found), len(of))
		}
		return nil
	})
	for _, b := range of {
		sum := sha256.Sum256([]byte(b.value))
		n := 0
		for _, one := range found {
			l, _ := one.(map[string]any)
			if str(l, "reason") == b.reason && str(l, "via") == b.via && str(l, "sha256") == base64.StdEncoding.EncodeToString(sum[:]) && l["size"] == float64(len(b.value)) && l["whole"] == b.whole {
				n++
			}
		}
		if n != 1 {
			d.t.Errorf("%s: %d letters say %s of %d bytes, %x, whole %v", b.name, n, b.reason, len(b.value), sum, b.whole)
		}
	}
	if len(found) != len(of) || d.t.Failed() {
		d.t.Errorf("of %d things there are these letters: %v", len(of), found)
	}
}

// What is no event ends as a dead letter that says what it was, all the way from a real broker and a real Kafka: acknowledged, so
// that it does not come again, and in nobody's way.
func TestWhatIsNoEventIsADeadLetterThatSaysWhatItWas(t *testing.T) {
	d := deploy(t)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	const via = "connection:direct"
	direct := "rf/" + d.tenant + "/" + d.source + "/up"
	brought := []bad{
		{"an empty level", "topic_empty_level", via, direct + "//a", "x", true},
		{"more than an uplink may be", "too_large", via, direct, strings.Repeat("m", 300<<10), false},
		{"more than a packet may be", "too_large", via, direct, strings.Repeat("p", 3<<20), false},
		{"no UTF-8", "unreadable", via, direct, "{\"id\":\"\xff\",\"device\":\"70b3d57ed0000001\",\"payload_hex\":\"00\"}", true},
	}
	for _, b := range brought {
		p.says(b.topic, b.value)
	}
	good := func(id string) { p.says(direct, `{"id":"`+id+`","device":"70b3d57ed0000001","payload_hex":"00"}`) }
	good("behind them")
	d.whole(1, 30*time.Second)
	d.letters(brought)
	d.end(d.workers["mqtt-ingestion-worker"], syscall.SIGTERM)
	d.run("mqtt-ingestion-worker")
	good("after a start")
	d.whole(2, 30*time.Second)
	if n := d.metric("mqtt-ingestion-worker", `ringfence_mqtt_received_total{connection="direct"}`); n != 1 {
		t.Errorf("after a start the broker sends %d messages, so that it had no acknowledgement of some", n)
	}
	d.letters(brought)

	written := d.writes("rf.uplinks")
	good("behind those")
	d.whole(3, 30*time.Second)
	d.letters(append(brought, written...))
	if n := d.beginnings(written[len(written)-1].value); n != 1 {
		t.Errorf("%d letters hold the first KiB of what is too large, and no more", n)
	}
	for _, name := range []string{"mqtt-ingestion-worker", "event-worker"} {
		if mib := inStatus(d.workers[name].cmd.Process.Pid, "VmHWM:"); mib == 0 || mib > 128 {
			t.Errorf("%s held up to %d MiB", name, mib)
		}
	}
}

// writes puts onto the bus, before the next event of the device, what no process of ours puts there, and answers what it was. One is
// larger than the topic takes, but for its compression.
func (d *deployment) writes(topic string) (all []bad) {
	d.t.Helper()
	source, err := ident.ParseSource(d.source)
	if err != nil {
		d.t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	e := uplink.Event{Tenant: d.id(), Source: source, Via: "connection:direct", ArrivedAt: now, ReceivedAt: now, Message: uplink.Message{Payload: []byte{0}, DedupeID: "forged", Address: device.Address{Kind: device.DevEUI, Value: "70b3d57ed0000001"}}}
	ident.Fresh(ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}, &e.ID)
	marshalled := func(e uplink.Event) string {
		d.t.Helper()
		value, err := e.MarshalVersion(uplink.Version)
		if err != nil {
			d.t.Fatal(err)
		}
		return string(value)
	}
	ofGone := e
	ofGone.Tenant = ident.Tenant{9, 6: 0x70, 8: 0x80}
	lags, err := d.carrier.Lags(d.t.Context(), kafkabus.Group("rf"), "rf.uplinks")
	if err != nil {
		d.t.Fatal(err)
	}
	its := slices.IndexFunc(lags, func(l bus.Lag) bool { return l.End > 0 }) // the device's partition
	by := d.raw(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(16<<20), kgo.MaxBufferedBytes(64<<20))
	for _, w := range []struct {
		name, reason, value string
		of                  uplink.Event
		whole               bool
	}{
		{"an unknown version", "event_version", strings.Replace(marshalled(e), `"version":1`, `"version":9`, 1), e, true},
		{"a tenant that is gone", "tenant_gone", marshalled(ofGone), ofGone, true},
		{"larger than an event may be", "too_large", strings.Repeat("v", 900<<10), e, false},
		{"ten megabytes", "too_large", strings.Repeat("w", 10<<20), e, false},
	} {
		r := &kgo.Record{Topic: topic, Partition: int32(lags[its].Partition), Key: []byte(w.of.Key()), Value: []byte(w.value), Headers: []kgo.RecordHeader{{Key: bus.EventHeader, Value: []byte(e.ID.String())}, {Key: bus.VersionHeader, Value: []byte("1")}, {Key: bus.TenantHeader, Value: []byte(w.of.Tenant.String())}}}
		if err := by.ProduceSync(d.t.Context(), r).FirstErr(); err != nil {
			d.t.Fatalf("%s: %v", w.name, err)
		}
		all = append(all, bad{w.name, w.reason, topic, "", w.value, w.whole})
	}
	return all
}

// beginnings is how many dead letters hold the first KiB of a value and no more.
func (d *deployment) beginnings(of string) (n int) {
	d.t.Helper()
	for part := range 4 {
		rs, err := d.carrier.Browse(d.t.Context(), "rf.uplinks.dead", part, 0, 100)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, r := range rs {
			if string(r.Value) == of[:1<<10] {
				n++
			}
		}
	}
	return n
}
