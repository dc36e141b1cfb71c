//go:build services

package mqttlink_test

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// broker is a Mosquitto of one test's.
type broker struct{ *servers.Server }

func mosquitto(t testing.TB, o servers.Options) broker {
	t.Helper()
	o.Config = append(o.Config, "max_inflight_messages 0", "set_tcp_nodelay true")
	return broker{servers.Mosquitto(t, o)}
}

func (b broker) url() string { return "mqtt://" + b.Addr() }

func (b broker) connection() mqttlink.Connection {
	return mqttlink.Connection{Name: "site", URL: b.url(), Filters: []string{"up/#"}, Group: "workers", SessionExpiry: time.Hour}
}

// client is a publisher's connection.
func client(t testing.TB, at string) *autopaho.ConnectionManager {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	cm, err := autopaho.NewConnection(context.WithoutCancel(t.Context()), autopaho.ClientConfig{
		ConnectUsername: u.User.Username(), ConnectPassword: []byte(password),
		ServerUrls: []*url.URL{u}, KeepAlive: 20, ReconnectBackoff: autopaho.NewConstantBackoff(50 * time.Millisecond),
		ClientConfig: paho.ClientConfig{PacketTimeout: time.Minute, ClientID: "publisher" + strconv.FormatInt(time.Now().UnixNano(), 36)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cm.Disconnect(context.Background()) })
	if err := cm.AwaitConnection(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cm
}

// publish publishes n messages over some devices and waits until the broker has acknowledged all. The payload is
// {device}:{number}, rising for each device.
func publish(t testing.TB, cm *autopaho.ConnectionManager, prefix string, n, devices int) {
	t.Helper()
	var all sync.WaitGroup
	errs := make(chan error, devices)
	for d := range devices {
		all.Go(func() {
			for i := d; i < n; i += devices {
				p := &paho.Publish{QoS: 1, Topic: fmt.Sprintf("up/%d", d), Payload: fmt.Appendf(nil, "%s%d:%06d", prefix, d, i)}
				if _, err := cm.Publish(context.Background(), p); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
}

func serverURLs(t *testing.T, at string) []*url.URL {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	return []*url.URL{u}
}

// fill publishes as fast as the broker acknowledges.
func fill(t testing.TB, b broker, n int) {
	t.Helper()
	payload := make([]byte, 300)
	var all sync.WaitGroup
	const publishers, each = 4, 64
	for p := range publishers {
		cm := client(t, b.url())
		for e := range each {
			all.Go(func() {
				for i := p*each + e; i < n; i += publishers * each {
					if _, err := cm.Publish(context.Background(), &paho.Publish{QoS: 1, Topic: "up/1", Payload: payload}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	all.Wait()
}
