//go:build services

package node_test

import (
	"fmt"
	"testing"
	"time"
)

// What the API's process grants or takes away reaches the workers that run, each by its own look at what was changed.
func TestALimitThatIsSetWhileTheWorkersRunIsInForceWithinASecond(t *testing.T) {
	d := deploy(t)
	cs := d.customers(1, light)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	ofHers := func(rest string) int {
		return d.count("SELECT count(*) FROM " + rest + " AND tenant = '\\x" + hexOf(t, cs[0].id) + "'")
	}
	set := func(limits object) {
		t.Helper()
		d.granted(cs[0], limits)
		second := time.NewTimer(time.Second)
		<-second.C
	}
	const before, after = 50, 60
	p.flood(t.Context(), cs, 0, before)
	p.through(time.Minute)
	if n := ofHers("readings WHERE true"); n != before {
		t.Fatalf("%d readings of %d events", n, before)
	}
	set(object{"fuel_per_minute": 1})
	p.flood(t.Context(), cs, 0, after)
	p.through(time.Minute)
	if n := ofHers("readings WHERE true"); n > before+3 { // one event begins a minute
		t.Errorf("%d events were decoded by a worker that was running when the fuel was taken away", n-before)
	}
	if n := ofHers("uplinks WHERE state = 'accepted'"); n < after-3 {
		t.Errorf("%d of %d events wait", n, after)
	}
	set(object{"backlog": after / 2})
	p.flood(t.Context(), cs, 0, after)
	d.await("messages over the backlog are refused", 10*time.Second, func() error {
		if n := d.metric("mqtt-ingestion-worker", `ringfence_mqtt_messages_total{connection="direct",result="over_backlog"}`); n != after {
			return fmt.Errorf("%d of %d", n, after)
		}
		return nil
	})
}
