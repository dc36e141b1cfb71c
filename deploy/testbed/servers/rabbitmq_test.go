//go:build services

package servers_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// text is a text as MQTT writes it.
func text(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

// session signs in by MQTT 3.1.1, which paho.golang does not speak, and answers the broker's code.
func session(t *testing.T, addr, user, password string) (conn net.Conn, code byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	body := append(text("MQTT"), 4, 0xc2, 0, 60) // level, user name and password and a clean session, keep-alive
	for _, s := range []string{"client-" + user, user, password} {
		body = append(body, text(s)...)
	}
	return conn, exchange(t, conn, 0x10, body)[3]
}

// exchange sends a packet and answers the four bytes that acknowledge it.
func exchange(t *testing.T, conn net.Conn, kind byte, body []byte) [4]byte {
	t.Helper()
	var ack [4]byte
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append([]byte{kind, byte(len(body))}, body...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, ack[:]); err != nil {
		t.Fatal(err)
	}
	return ack
}

func TestRabbitMQAsksWhoMayDoWhat(t *testing.T) {
	topics := make(chan url.Values, 100)
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := "allow"
		switch err := r.ParseForm(); {
		case err != nil, r.URL.Path == "/auth/user" && r.PostForm.Get("password") != "right":
			answer = "deny"
		case r.URL.Path == "/auth/topic":
			topics <- r.PostForm
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer gate.Close()
	broker := servers.RabbitMQ(t, gate.URL+"/auth")
	if _, code := session(t, broker.Addr(), "ana", "wrong"); code == 0 {
		t.Error("a wrong password is let in")
	}
	for _, ends := range []func(){broker.Kill, broker.Stop, nil} {
		conn, code := session(t, broker.Addr(), "ana", "right")
		if code != 0 {
			t.Fatalf("the right password is answered %d", code)
		}
		ack := exchange(t, conn, 0x32, append(append(text("acme/up"), 0, 7), "payload"...)) // QoS 1, packet 7
		if ack != [4]byte{0x40, 2, 0, 7} {
			t.Errorf("a publication is answered %x", ack)
		}
		select {
		case form := <-topics:
			if form.Get("permission") != "write" || form.Get("routing_key") != "acme.up" || form.Get("username") != "ana" {
				t.Errorf("it asks %v", form)
			}
		case <-time.After(10 * time.Second):
			t.Error("it does not ask about the topic")
		}
		if ends != nil {
			ends()
			broker.Start()
		}
	}
}
