//go:build services

package mqttlink_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// paced publishes numbered messages, so many a second, until all are acknowledged, and answers how long that took.
func paced(t *testing.T, b broker, n, rate int) time.Duration {
	t.Helper()
	cm := client(t, b.url())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for i := range n {
		for time.Since(began) < time.Duration(i)*time.Second/time.Duration(rate) {
			<-tick.C
		}
		if _, err := cm.Publish(context.Background(), &paho.Publish{QoS: 1, Topic: "up/0", Payload: fmt.Appendf(nil, "n:%06d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(began)
}

// What a Mosquitto that is killed loses of what it had acknowledged is what it had not saved: how much that is, its settings decide.
// README.md has the figures.
func TestAKilledMosquittoLosesWhatItHadNotSaved(t *testing.T) {
	const rate, n = 300, 1_000
	for _, c := range []struct {
		name    string
		config  []string
		present bool // a member takes what comes
		most    int  // that may be lost
		least   int  // that is
	}{
		{"autosave_interval 1800, as it is by itself, the workers away", nil, false, n, n},
		{"autosave_interval 1800, the workers there", nil, true, rate, 0}, // what was on its way
		{"autosave_interval 1, the workers away", []string{"autosave_interval 1"}, false, 3 * rate, 0},
		{"autosave_on_changes after each one, the workers away", []string{"autosave_interval 1", "autosave_on_changes true"}, false, rate / 10, 0},
	} {
		b := mosquitto(t, servers.Options{Config: c.config})
		s := newSink()
		ls := open(t, options(s), b.connection())
		ready(t, ls)
		after(t, 2500*time.Millisecond) // the session is saved, if anything is
		if !c.present {
			if err := ls.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		took := paced(t, b, n, rate)
		b.Kill()
		b.Start()
		if !c.present {
			ls = open(t, options(s), b.connection())
		}
		eventually(t, "it is there again", func() bool { return ls.Ready() == nil && (!c.present || count(ls, "subscribes_total") == 2) })
		publish(t, client(t, b.url()), "end", 1, 1)
		within(t, time.Minute, "the last one comes", func() bool { return s.has("end0:000000") })
		lost := n + 1 - s.distinct()
		t.Logf("%s: %d of %d are lost (%.1f %%), %d/s", c.name, lost, n, 100*float64(lost)/float64(n), int(float64(n)/took.Seconds()))
		if lost > c.most || lost < c.least {
			t.Errorf("%s: %d of %d are lost, want %d to %d", c.name, lost, n, c.least, c.most)
		}
		if err := ls.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
