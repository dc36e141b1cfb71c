//go:build services

package node_test

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// What the API's process grants or takes away reaches the workers that run, each by its own look at what was changed.
func TestALimitThatIsSetWhileTheWorkersRunIsInForceWithinASecond(t *testing.T) {
	d := deploy(t)
	cs := d.customers(1, light)
	const before, after, decoders = 50, 60, 2
	d.workers["event-worker"] = with(d.workers["event-worker"], fmt.Sprint("RINGFENCE_DECODER_WORKERS=", decoders))
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
	p.flood(t.Context(), cs, 0, before)
	p.through(time.Minute)
	if n := ofHers("readings WHERE true"); n != before {
		t.Fatalf("%d readings of %d events", n, before)
	}
	began := time.Now().Truncate(time.Minute)
	set(object{"fuel_per_minute": 1})
	p.flood(t.Context(), cs, 0, after)
	p.through(time.Minute)
	read, wait := ofHers("readings WHERE true")-before, ofHers("uplinks WHERE state = 'accepted'")
	minutes := 1 + int(time.Now().Truncate(time.Minute).Sub(began)/time.Minute)
	if most := minutes * 2 * decoders; read > most || wait < after-most { // a minute begins with as many as run at once: from the bus, and of those that wait
		t.Errorf("in %d minutes %d events were decoded by a worker that was running when the fuel was taken away; %d of %d wait", minutes, read, wait, after)
	}
	set(object{"backlog": after / 2})
	refused := func() (n int) { // of all that was sent
		d.await("all messages are taken", time.Minute, func() error {
			told := func(result string) int {
				return d.metric("mqtt-ingestion-worker", `ringfence_mqtt_messages_total{connection="direct",result="`+result+`"}`)
			}
			taken := told("accepted")
			if n = told("over_backlog"); taken+n != int(p.acked.Load()) {
				return fmt.Errorf("%d accepted and %d refused of %d", taken, n, p.acked.Load())
			}
			return nil
		})
		return n
	}
	d.await("the worker knows how many wait", 30*time.Second, func() error {
		p.flood(t.Context(), cs, 0, 1)
		if refused() == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	was := refused()
	p.flood(t.Context(), cs, 0, after)
	if n := refused() - was; n != after {
		t.Errorf("over the backlog %d of %d messages are refused", n, after)
	}
}
