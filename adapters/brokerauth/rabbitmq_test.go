//go:build services

package brokerauth_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/testkit/brokertest"
)

func TestARealRabbitMQAsksAndObeys(t *testing.T) {
	w := newWorld(t)
	e := httptest.NewServer(w.endpoint())
	t.Cleanup(e.Close)
	rabbit := servers.RabbitMQ(t, e.URL+"/"+brokers+"/rabbitmq")
	b := brokertest.Broker{Address: rabbit.Addr(), Version: 4, KeepsRetained: true, NoReason: true, AsksOnce: true}
	brokertest.Run(t, w.World, b)

	// What RabbitMQ does with dots: they are its slashes. One's own topic may be spelled with them, and it is the same topic to
	// whoever hears it; nobody else's can be.
	t.Run("ADotIsASlashToItAndReachesNobodyElse", func(t *testing.T) {
		own, theirs := w.Acme.Gateway, w.Brook.Gateway
		c := b.Open(t, own.Hello(4))
		if code, err := c.Publish(strings.ReplaceAll(own.Up(), "/", "."), 1, false, "x"); code != 0 || err != nil {
			t.Errorf("its own, with dots: %d %v", code, err)
		}
		listener := b.Open(t, theirs.Hello(4))
		if codes, err := listener.Subscribe(theirs.Down() + "/#"); err != nil || codes[0] >= 0x80 {
			t.Fatal(codes, err)
		}
		for _, topic := range []string{strings.ReplaceAll(theirs.Down(), "/", ".") + ".x", strings.Replace(theirs.Down(), "/", ".", 1) + "/x", own.Up() + "..", own.Up() + "/.a"} {
			if _, err := b.Open(t, own.Hello(4)).Publish(topic, 1, false, "x"); err == nil {
				t.Errorf("%s is acknowledged", topic)
			}
		}
		if first, body, err := listener.Next(time.Second); err == nil {
			t.Errorf("the other tenant hears %x %q", first, body)
		}
	})
	// It does not ask again about a topic while a connection is busy with it, and asks anew once the connection was idle for some
	// seconds.
	t.Run("ARevokedKeyIsRefusedAtTheSameTopicOnceTheConnectionWasIdle", func(t *testing.T) {
		old := w.Acme.NewKey(w.Acme.Gateway, time.Hour)
		c := b.Open(t, old.Hello(4))
		if code, err := c.Publish(old.Up(), 1, false, "x"); code != 0 || err != nil {
			t.Fatal(code, err)
		}
		w.Acme.Revoke(old)
		idle := time.NewTicker(12 * time.Second)
		defer idle.Stop()
		for range 3 {
			<-idle.C
			if _, err := c.Publish(old.Up(), 1, false, "x"); err != nil {
				return
			}
		}
		t.Error("a revoked key publishes for ever")
	})
	if c := w.log.text(); strings.Contains(c, w.Acme.Gateway.Key.Reveal()) || strings.Contains(c, brokers) {
		t.Error("the log holds a secret")
	}
}
