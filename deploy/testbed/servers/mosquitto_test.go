//go:build services

package servers_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// dial connects an MQTT 5 client; it answers the reason if it is refused. What arrives goes to got, and that it lost its
// connection closes lost.
func dial(t *testing.T, addr string, with *tls.Config, user, password string) (c *paho.Client, got chan string, lost chan struct{}, refused byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var conn net.Conn
	var err error
	if with != nil {
		conn, err = (&tls.Dialer{Config: with}).DialContext(ctx, "tcp", addr)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	got, lost = make(chan string, 10), make(chan struct{})
	c = paho.NewClient(paho.ClientConfig{
		Conn: conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			got <- string(p.Packet.Payload)
			return true, nil
		}},
		OnClientError:      func(error) { close(lost) },
		OnServerDisconnect: func(*paho.Disconnect) { close(lost) },
	})
	ack, err := c.Connect(ctx, &paho.Connect{ClientID: t.Name() + user, Username: user, UsernameFlag: user != "", Password: []byte(password), PasswordFlag: password != "", CleanStart: true, KeepAlive: 30})
	if ack != nil && ack.ReasonCode != 0 {
		return nil, nil, nil, ack.ReasonCode
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, got, lost, 0
}

func received(t *testing.T, got <-chan string, want string) {
	t.Helper()
	select {
	case v := <-got:
		if v != want {
			t.Errorf("received %q, wanted %q", v, want)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("nothing received, wanted %q", want)
	}
}

func subscribe(t *testing.T, c *paho.Client, topic string) {
	t.Helper()
	if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
}

func TestMosquittoKnowsPasswordsRightsAndTLS(t *testing.T) {
	const notAuthorized = 0x87
	ca := servers.NewAuthority(t)
	broker := servers.Mosquitto(t, servers.Options{
		Passwords: map[string]string{"ana": "right", "bob": "too"},
		ACL:       []string{"user ana", "topic readwrite acme/#", "user bob", "topic read acme/#"},
		TLS:       ca,
	})
	with := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
	for user, password := range map[string]string{"ana": "wrong", "bob": "right", "": ""} {
		if _, _, _, refused := dial(t, broker.Addr(), with, user, password); refused != notAuthorized {
			t.Errorf("%q with %q is answered %#x", user, password, refused)
		}
	}
	ana, got, _, _ := dial(t, broker.Addr(), with, "ana", "right")
	bob, _, _, _ := dial(t, broker.Addr(), with, "bob", "too")
	subscribe(t, ana, "acme/up")
	if ack, err := bob.Publish(t.Context(), &paho.Publish{Topic: "acme/up", QoS: 1, Payload: []byte("by bob")}); err == nil || ack == nil || ack.ReasonCode != notAuthorized {
		t.Errorf("who may read and publishes is answered %v, %v", ack, err)
	}
	if _, err := ana.Publish(t.Context(), &paho.Publish{Topic: "acme/up", QoS: 1, Payload: []byte("by ana")}); err != nil {
		t.Error(err)
	}
	received(t, got, "by ana")
	if _, err := tls.Dial("tcp", broker.Addr(), &tls.Config{RootCAs: servers.NewAuthority(t).Pool(), MinVersion: tls.VersionTLS12}); err == nil {
		t.Error("another authority's client trusts it")
	}
}

func TestMosquittoComesBackWithWhatItKept(t *testing.T) {
	broker := servers.Mosquitto(t, servers.Options{Config: []string{"max_queued_bytes 1000000"}})
	c, _, lost, _ := dial(t, broker.Addr(), nil, "", "")
	if _, err := c.Publish(t.Context(), &paho.Publish{Topic: "kept", QoS: 1, Retain: true, Payload: []byte("before")}); err != nil {
		t.Fatal(err)
	}
	// Stopped it saves what it keeps; killed after that it has it still.
	for _, ends := range []func(){broker.Stop, broker.Kill} {
		ends()
		select {
		case <-lost:
		case <-time.After(10 * time.Second):
			t.Error("the client does not notice")
		}
		if conn, err := net.Dial("tcp", broker.Addr()); err == nil {
			_ = conn.Close()
			t.Error("somebody still listens")
		}
		broker.Start()
		var got chan string
		c, got, lost, _ = dial(t, broker.Addr(), nil, "", "")
		subscribe(t, c, "kept")
		received(t, got, "before")
	}
}
