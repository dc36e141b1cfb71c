//go:build services

package node_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// The network server's broker is away, with messages that it had acknowledged and the worker had not: the worker waits, small, and
// says so when that lasts; when the broker is back, all of them become readings, once.
func TestAnOutageOfTheBrokerLosesNothingThatItKept(t *testing.T) {
	const kept, alarm = 2_000, 30 * time.Second
	outage := long(3*time.Second, 75*time.Second)
	d := deploy(t)
	cs := d.customers(3, light)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	w := d.workers["mqtt-ingestion-worker"]
	at := func(p *publisher, rate, events int) {
		t.Helper()
		p.flood(t.Context(), cs, rate, events)
		p.close()
	}
	p := d.publisher(2)
	p.flood(t.Context(), cs, 0, 200)
	p.through(time.Minute)
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := w.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP) // it acknowledges nothing of what comes
	at(p, 0, kept)
	was := d.count("SELECT count(*) FROM readings")
	d.mosquitto.Stop()
	signal(syscall.SIGCONT)
	most := 0
	tick, over := time.NewTicker(250*time.Millisecond), time.NewTimer(outage)
	defer tick.Stop()
	for going := true; going; {
		select {
		case <-tick.C:
			most = max(most, held(w.cmd.Process.Pid))
		case <-over.C:
			going = false
		}
	}
	d.lives(w)
	if err := d.ready(w.metrics()); err == nil && outage > alarm {
		t.Errorf("after %v without its broker the worker says that it is ready", outage)
	}
	d.mosquitto.Start()
	back := time.Now()
	d.await("the worker is at the broker again", time.Minute, func() error {
		if d.metric("mqtt-ingestion-worker", `ringfence_mqtt_subscribes_total{connection="direct"}`) < 2 {
			return errors.New("it is not")
		}
		return d.ready(w.metrics())
	})
	q := d.publisher(2)
	q.n.Store(p.n.Load())
	at(q, 0, 200)
	want := int(p.acked.Load() + q.acked.Load())
	d.await("all that was acknowledged is a reading", time.Minute, func() error {
		if n := d.count("SELECT count(*) FROM readings"); n < want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
	took := time.Since(back)
	d.settled()
	if n := d.count("SELECT count(*) FROM readings"); n != want || was >= want-200 {
		t.Errorf("%d were acknowledged, %d were read before the outage, and there are %d readings", want, was, n)
	}
	if most = max(most, held(w.cmd.Process.Pid)); most > 128 {
		t.Errorf("it held %d MiB", most)
	}
	t.Logf("away for %v with %d messages: all were readings %v after its return; the worker held at most %d MiB", outage, want-was-200, took.Round(time.Millisecond), most)
}
