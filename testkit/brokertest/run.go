package brokertest

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/secret"
)

// Broker is one that listens without TLS, and decides by Ringfence's gate.
type Broker struct {
	Address string
	Version byte // of MQTT that it is spoken to in

	KeepsRetained bool // it cannot ask about the retain flag
	NoReason      bool // a will on a topic of others is refused when it is said, not at connecting
	AsksOnce      bool // a topic that a connection was let publish to is not asked for again while it is busy
}

// Hello is what a client of a source says.
func (s Source) Hello(version byte) Hello {
	return Hello{Version: version, User: s.Source.String(), Password: s.Key, ID: s.Source.String() + "-gw", KeepAlive: 60}
}

// Message is an uplink in the plain format.
func Message(id string) string {
	return `{"id":"` + id + `","device":"70b3d57ed0000001","payload":"AQID"}`
}

// Open connects a client that must be let in.
func (b Broker) Open(t testing.TB, h Hello) *Conn {
	t.Helper()
	c, code, err := b.Try(t, h)
	if err != nil || code != 0 {
		t.Fatalf("connect: %d %v", code, err)
	}
	return c
}

// Try connects a client.
func (b Broker) Try(t testing.TB, h Hello) (*Conn, byte, error) {
	t.Helper()
	c, err := Dial(t.Context(), b.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	code, err := c.Connect(h)
	return c, code, err
}

// Run tries what the world's clients may do, and what they may not.
func Run(t *testing.T, w *World, b Broker) {
	own, other, theirs := w.Acme.Gateway, w.Acme.Other, w.Brook.Gateway
	t.Run("OneConnectsAsItsOwnSourceAlone", func(t *testing.T) {
		right := own.Hello(b.Version)
		_ = b.Open(t, right).Close()
		for name, change := range map[string]func(*Hello){
			"a wrong key": func(h *Hello) { h.Password = secret.New(strings.Repeat("x", 80)) }, "no key": func(h *Hello) { h.Password = secret.Text{} },
			"another's key": func(h *Hello) { h.Password = other.Key }, "another tenant's key": func(h *Hello) { h.Password = theirs.Key },
			"another's name": func(h *Hello) { h.User, h.ID = theirs.Source.String(), theirs.Source.String() }, "another's client id": func(h *Hello) { h.ID = theirs.Source.String() },
			"any client id": func(h *Hello) { h.ID = "gateway" }, "the tenant's name": func(h *Hello) { h.User = own.Tenant.String() },
		} {
			h := right
			change(&h)
			if _, code, err := b.Try(t, h); err == nil && code == 0 {
				t.Errorf("%s connects", name)
			}
		}
	})
	t.Run("OnePublishesToItsOwnTopicsAlone", func(t *testing.T) {
		c := b.Open(t, own.Hello(b.Version))
		for _, topic := range []string{own.Up(), own.Up() + "/application/1/event/up"} {
			if code, err := c.Publish(topic, 1, false, Message(topic[60:])); code != 0 || err != nil {
				t.Errorf("%s: %d %v", topic, code, err)
			}
		}
		foreign := []string{theirs.Up(), theirs.Down() + "/x", other.Up(), own.Down() + "/x", own.Up() + "x", "$SYS/x", "x", "rf", own.Up() + "/a*"}
		foreign = append(foreign, strings.ReplaceAll(theirs.Up(), "/", "."))
		for _, topic := range foreign {
			c := b.Open(t, own.Hello(b.Version))
			if code, err := c.Publish(topic, 1, false, Message("x")); code < 0x80 && err == nil {
				t.Errorf("%s is acknowledged", topic)
			}
		}
		if code, err := b.Open(t, own.Hello(b.Version)).Publish(own.Up(), 1, true, Message("retained")); !b.KeepsRetained && code < 0x80 && err == nil {
			t.Error("a retained message is acknowledged")
		}
	})
	t.Run("OneHearsItsOwnTopicsAlone", func(t *testing.T) {
		c := b.Open(t, own.Hello(b.Version))
		for _, filter := range []string{own.Down() + "/#", own.Down() + "/+/a"} {
			if codes, err := c.Subscribe(filter); err != nil || codes[0] >= 0x80 {
				t.Errorf("%s: %x %v", filter, codes, err)
			}
		}
		for _, filter := range []string{"#", "+/#", "rf/#", "rf/+/+/down/#", own.Up() + "/#", theirs.Down() + "/#", other.Down() + "/#", strings.Replace(own.Down(), own.Source.String(), "+", 1), "$SYS/#", "$share/g/#", "$share/g/" + own.Down() + "/#", "$share/g/" + theirs.Up()} {
			c := b.Open(t, own.Hello(b.Version))
			if codes, err := c.Subscribe(filter); err == nil && codes[0] < 0x80 {
				t.Errorf("%s is heard", filter)
			}
		}
	})
	t.Run("AWillIsAPublish", func(t *testing.T) {
		listener := b.Open(t, theirs.Hello(b.Version))
		if codes, err := listener.Subscribe(theirs.Down() + "/#"); err != nil || codes[0] >= 0x80 {
			t.Fatal(codes, err)
		}
		h := own.Hello(b.Version)
		h.Will = theirs.Down() + "/will"
		c, code, err := b.Try(t, h)
		if err == nil && code == 0 && !b.NoReason {
			t.Error("a will on a topic of another tenant's is taken")
		}
		_ = c.Close()
		if first, body, err := listener.Next(2 * time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the other tenant hears it: %x %q %v", first, body, err)
		}
	})
	t.Run("ARevokedKeyIsRefusedAtTheNextPacket", func(t *testing.T) {
		old := w.Acme.NewKey(own, time.Hour)
		h := old.Hello(b.Version)
		h.ID += "-old"
		c := b.Open(t, h)
		if code, err := c.Publish(own.Up(), 1, false, Message("before")); code != 0 || err != nil {
			t.Fatal(code, err)
		}
		w.Acme.Revoke(old)
		topic := own.Up()
		if b.AsksOnce {
			topic += "/other"
		}
		if code, err := c.Publish(topic, 1, false, Message("after")); code < 0x80 && err == nil {
			t.Error("a revoked key publishes")
		}
		if _, code, err := b.Try(t, h); err == nil && code == 0 {
			t.Error("a revoked key connects")
		}
	})
	t.Run("ASuspendedTenantIsShutOut", func(t *testing.T) {
		c := b.Open(t, theirs.Hello(b.Version))
		w.Suspend(w.Brook, true)
		if code, err := c.Publish(theirs.Up(), 1, false, Message("suspended")); code < 0x80 && err == nil {
			t.Error("it publishes")
		}
		if _, code, err := b.Try(t, theirs.Hello(b.Version)); err == nil && code == 0 {
			t.Error("it connects")
		}
		w.Suspend(w.Brook, false)
		_ = b.Open(t, theirs.Hello(b.Version)).Close()
	})
}
