//go:build services

package mqttlink_test

import (
	"fmt"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// However much a broker may send that is not acknowledged: what waits takes its own place of it and none of the others'.
func TestABrokerGoesOnSendingWhileSomeOfItsMessagesWait(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	g := newGate(map[string]error{"up/unknown": later})
	c := b.connection()
	c.ReceiveMaximum, c.MaxInFlight = 50, 50
	ls := open(t, options(g.sink), c)
	ready(t, ls)
	pub := client(t, b.url())
	unknown := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := pub.Publish(t.Context(), &paho.Publish{QoS: 1, Topic: "up/unknown", Payload: fmt.Appendf(nil, "%04d", i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	unknown(0, 5)
	publish(t, pub, "", 2_000, 8)
	unknown(5, 10)
	publish(t, pub, "more", 2_000, 8)
	eventually(t, "all others are acknowledged", func() bool { return count(ls, "acknowledged_total") == 4_000 && count(ls, "in_flight") == 10 })
	if n := count(ls, "waiting"); n != 10 || count(ls, "in_flight") != 10 || count(ls, "connects_total") != 1 {
		t.Errorf("%d wait, %v", n, ls.Counts())
	}
	g.open()
	eventually(t, "all come", func() bool { return count(ls, "acknowledged_total") == 4_010 && count(ls, "in_flight") == 0 })
	ascending(t, "those that waited", g.of("up/unknown"), 10)
	if g.all() != 4_010 {
		t.Errorf("%d came", g.all())
	}
}
