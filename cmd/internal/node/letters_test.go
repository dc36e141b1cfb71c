//go:build services

package node_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
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

// What is no event ends as a dead letter that says what it was, all the way from a real broker: acknowledged, so that it does not
// come again, and in nobody's way.
func TestWhatIsNoEventIsADeadLetterThatSaysWhatItWas(t *testing.T) {
	d := deploy(t)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	publish := func(topic, payload string) {
		t.Helper()
		if _, err := p.clients[0].Publish(t.Context(), &paho.Publish{QoS: 1, Topic: topic, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}
	const via = "connection:direct"
	direct := "rf/" + d.tenant + "/" + d.source + "/up"
	brought := []bad{
		{"an empty level", "topic_empty_level", via, direct + "//a", "x", true},
		{"more than an uplink may be", "too_large", via, direct, strings.Repeat("m", 300<<10), false},
		{"more than a packet may be", "too_large", via, direct, strings.Repeat("p", 3<<20), false},
		{"no UTF-8", "unreadable", via, direct, "{\"id\":\"\xff\",\"device\":\"70b3d57ed0000001\",\"payload_hex\":\"00\"}", true},
	}
	for _, b := range brought {
		publish(b.topic, b.value)
	}
	good := func(id string) { publish(direct, `{"id":"`+id+`","device":"70b3d57ed0000001","payload_hex":"00"}`) }
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
}
