package mochibroker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/adapters/mochibroker"
	"github.com/ringfence/ringfence/adapters/otlp"
	"github.com/ringfence/ringfence/adapters/otlp/otlptest"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/testkit/brokertest"
)

func TestTheBrokerPassesTheSuiteInBothVersions(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprintf("MQTT-%d", version), func(t *testing.T) {
			w := newWorld(t, tenant.DefaultLimits, nil)
			w.door.Version = version
			brokertest.Run(t, w.World, w.door)
			if n := len(w.uplinks(w.Brook)); n != 0 {
				t.Errorf("%d uplinks reached the other tenant", n)
			}
		})
	}
}

func TestAMessageIsAcknowledgedOnceItIsDurable(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprintf("QoS-%d", qos), func(t *testing.T) {
			w := newWorld(t, tenant.DefaultLimits, nil)
			own := w.Acme.Gateway
			c := w.door.Open(t, own.Hello(5))
			release := w.store.hold()
			defer release()
			if err := c.Send(c.Message(own.Up(), qos, false, brokertest.Message("1"))); err != nil {
				t.Fatal(err)
			}
			<-w.store.began
			if first, _, err := c.Next(300 * time.Millisecond); err == nil {
				t.Fatalf("acknowledged by %x before the store has it", first)
			}
			release()
			first, body, err := c.Next(5 * time.Second)
			if err != nil || first>>4 != map[byte]byte{1: 4, 2: 5}[qos] || len(w.uplinks(w.Acme)) != 1 {
				t.Errorf("%x %x %v, %d uplinks", first, body, err, len(w.uplinks(w.Acme)))
			}
		})
	}
}

func TestWhatIsNotTakenIsNotAcknowledged(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, nil)
	own := w.Acme.Gateway
	c := w.door.Open(t, own.Hello(5))
	if code, err := c.Publish(own.Up(), 1, false, `{"device":"x"`); code != 0x99 || err != nil {
		t.Errorf("an unreadable message: %x %v", code, err)
	}
	if code, err := c.Publish(own.Up(), 2, false, strings.Repeat("x", 1000)); code != 0x99 || err != nil {
		t.Errorf("an unreadable message of QoS 2: %x %v", code, err)
	}
	if code, err := c.Publish(own.Up(), 1, false, brokertest.Message("1")); code != 0 || err != nil {
		t.Errorf("the next one: %x %v", code, err)
	}
	w.store.away(true)
	if _, err := c.Publish(own.Up(), 1, false, brokertest.Message("2")); !errors.Is(err, brokertest.Ended{Code: 0x89}) {
		t.Errorf("while the store is away: %v", err)
	}
	w.store.away(false)
	old := w.door.Open(t, own.Hello(4))
	if code, err := old.Publish(own.Up(), 1, false, "junk"); code != 0 || err != nil {
		t.Errorf("MQTT 3.1.1 sends junk again for ever: %x %v", code, err)
	}
	if n := w.counted(`ringfence_mqtt_messages_total{result="invalid"}`); n != 3 {
		t.Errorf("%d are counted", n)
	}
	if n := len(w.uplinks(w.Acme)); n != 1 {
		t.Errorf("%d uplinks", n)
	}
}

func TestWhoPublishesTooFastIsSlowedDownAndThenToldWhy(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.SourceRate, limits.SourceBurst = 20, 1
	w := newWorld(t, limits, nil)
	own := w.Acme.Gateway
	c := w.door.Open(t, own.Hello(5))
	for n := range 10 {
		if code, err := c.Publish(own.Up(), 1, false, brokertest.Message(fmt.Sprint(n))); code != 0 || err != nil {
			t.Fatalf("message %d: %x %v", n, code, err)
		}
	}
	limits.Backlog = 10
	full := newWorld(t, limits, nil)
	own = full.Acme.Gateway
	for version, want := range map[byte]byte{4: 0, 5: 0x97} {
		c = full.door.Open(t, own.Hello(version))
		acknowledged := 0
		for {
			if _, err := c.Publish(own.Up(), 1, false, brokertest.Message(fmt.Sprint(version, acknowledged))); err != nil {
				if told := errors.Is(err, brokertest.Ended{Code: want}); told != (version == 5) {
					t.Errorf("MQTT %d, backlog full: %v", version, err)
				}
				break
			}
			acknowledged++
		}
	}
	if n := len(full.uplinks(full.Acme)); n != 10 {
		t.Errorf("%d uplinks are kept of 10 that were acknowledged", n)
	}
}

func TestARevokedKeyEndsSilentConnectionsWithinASecond(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, nil)
	neighbour := w.door.Open(t, w.Acme.Other.Hello(5))
	took := time.Hour
	for n := 0; took > time.Second && n < 3; n++ { // a busy machine may stand still for as long
		own := w.Acme.NewKey(w.Acme.Gateway, time.Hour)
		five, four := w.door.Open(t, own.Hello(5)), w.door.Open(t, func() brokertest.Hello { h := own.Hello(4); h.ID += "-4"; return h }())
		w.Acme.Revoke(own)
		began := time.Now()
		if why := reason(five); why != 0x87 {
			t.Errorf("MQTT 5 is told %x", why)
		}
		_ = reason(four)
		took = time.Since(began)
		if err := neighbour.Ping(); err != nil {
			t.Errorf("another source's: %v", err)
		}
	}
	if took > time.Second {
		t.Errorf("ended after %v", took)
	}
}

func TestAWillIsAnUplinkAndNobodyElsesCanBeLeft(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, nil)
	own := w.Acme.Gateway
	h := own.Hello(5)
	h.Will = own.Up() + "/gone"
	_ = w.door.Open(t, h).Close()
	w.eventually("the will", func() bool { return len(w.uplinks(w.Acme)) == 1 })
	for name, c := range map[string]struct {
		will     string
		retained bool
		code     byte
	}{"another tenant's": {w.Brook.Gateway.Up(), false, 0x87}, "its own down": {own.Down(), false, 0x87}, "a wildcard": {own.Up() + "/#", false, 0x90}, "retained": {own.Up(), true, 0x9a}} {
		h.Will, h.Retained = c.will, c.retained
		if _, code, err := w.door.Try(t, h); err != nil || code != c.code {
			t.Errorf("%s: %x %v", name, code, err)
		}
	}
	c := w.door.Open(t, func() brokertest.Hello { h := own.Hello(5); h.Will = own.Up(); return h }())
	w.Acme.Revoke(own)
	_ = reason(c)
	_ = c.Close()
	if n := len(w.uplinks(w.Acme)); n != 1 {
		t.Errorf("a revoked key's will is said: %d uplinks", n)
	}
}

func TestUplinksReachNoOtherClient(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, nil)
	own := w.Acme.Gateway
	h := own.Hello(5)
	h.ID += "-listener"
	listener := w.door.Open(t, h)
	if codes, err := listener.Subscribe(own.Down()+"/#", own.Up()+"/#", "#"); err != nil || codes[0] != 1 || codes[1] != 0x87 || codes[2] != 0x87 {
		t.Fatalf("%x %v", codes, err)
	}
	c := w.door.Open(t, own.Hello(5))
	for n := range 20 {
		if _, err := c.Publish(own.Up(), 1, false, brokertest.Message(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	if first, body, err := listener.Next(500 * time.Millisecond); err == nil {
		t.Errorf("it hears %x %q", first, body)
	}
}

func TestMalformedOversizeAndForbiddenPacketsAreRefusedWithAReasonAndTheServerGoesOn(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, nil)
	own := w.Acme.Gateway
	id := []byte{0, 7}
	publish := func(first byte, topic string, rest ...byte) []byte {
		body := append(brokertest.Str(topic), id...)
		return brokertest.Framed(first, append(append(body, rest...), brokertest.Message("x")...))
	}
	for name, c := range map[string]struct {
		raw []byte
		why byte
	}{
		"invalid UTF-8 in a topic":   {publish(0x32, own.Up()+"/\xff", 0), 0x81},
		"NUL in a topic":             {publish(0x32, own.Up()+"/\x00", 0), 0x81},
		"an empty level":             {publish(0x32, own.Up()+"//a", 0), 0x90},
		"a wildcard in a publish":    {publish(0x32, own.Up()+"/+", 0), 0x90},
		"a dot":                      {publish(0x32, own.Up()+"/a.b", 0), 0x90},
		"a topic that is too long":   {publish(0x32, own.Up()+"/"+strings.Repeat("x", 300), 0), 0x90},
		"a foreign topic":            {publish(0x32, w.Brook.Gateway.Up(), 0), 0x87},
		"a foreign topic of QoS 0":   {brokertest.Framed(0x30, append(append(brokertest.Str(w.Brook.Gateway.Up()), 0), "x"...)), 0x87},
		"$SYS":                       {publish(0x32, "$SYS/x", 0), 0x87},
		"retained":                   {publish(0x33, own.Up(), 0), 0x9a},
		"no topic":                   {publish(0x32, "", 0), 0x82},
		"a topic alias":              {publish(0x32, own.Up(), 3, 0x23, 0, 1), 0x94},
		"QoS 3":                      {publish(0x36, own.Up(), 0), 0x81},
		"half a packet of nonsense":  {brokertest.Framed(0x32, []byte{0, 200, 1}), 0x81},
		"a length that never ends":   {[]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x7f}, 0x81},
		"too large a message":        {append([]byte{0x30}, 0xff, 0xff, 0xff, 0x7f), 0x95},
		"too large a subscription":   {append([]byte{0x82}, 0xff, 0xff, 0x7f), 0x95},
		"a second connect":           {brokertest.On(nil).Hello(own.Hello(5)), 0x82},
		"packet type 0":              {[]byte{0x00, 0}, 0x81},
		"an acknowledgement of ours": {[]byte{0x20, 2, 0, 0}, 0x81},
		"an AUTH":                    {[]byte{0xf0, 2, 0x18, 0}, 0x82},
		"a subscription with no id":  {brokertest.Framed(0x82, append(append([]byte{0, 0, 0}, brokertest.Str(own.Down())...), 1)), 0x82},
		"a flag where none is":       {[]byte{0xc1, 0}, 0x81},
	} {
		conn := w.door.Open(t, own.Hello(5))
		if err := conn.Send(c.raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if why := reason(conn); why != c.why {
			t.Errorf("%s: ended with %#x, want %#x", name, why, c.why)
		}
	}
	for name, raw := range map[string][]byte{
		"nothing that connects":        {0xc0, 0},
		"HTTP":                         []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"zeros":                        make([]byte, 64),
		"a connect that is too large":  {0x10, 0xff, 0xff, 0x7f},
		"a connect of another version": brokertest.Framed(0x10, append(brokertest.Str("MQTT"), 9, 2, 0, 10, 0, 0)),
		"MQTT 3.1":                     brokertest.Framed(0x10, append(brokertest.Str("MQIsdp"), 3, 2, 0, 10, 0, 1, 'x')),
		"a connect without an end":     brokertest.Framed(0x10, brokertest.Str("MQTT")),
	} {
		conn, err := brokertest.Dial(t.Context(), w.door.Address)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Send(raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for err == nil {
			var first byte
			var body []byte
			if first, body, err = conn.Next(5 * time.Second); err == nil && first>>4 == 2 && body[1] == 0 {
				t.Errorf("%s is let in", name)
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays", name)
		}
		_ = conn.Close()
	}
	if code, err := w.door.Open(t, own.Hello(5)).Publish(own.Up(), 1, false, brokertest.Message("after all that")); code != 0 || err != nil {
		t.Errorf("after all that: %x %v", code, err)
	}
	if n := len(w.uplinks(w.Acme)); n != 1 {
		t.Errorf("%d uplinks", n)
	}
}

func TestConnectionsSessionsAndSubscriptionsAreBounded(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, func(o *mochibroker.Options) { o.PerSource = 3 })
	own := w.Acme.Gateway
	named := func(n int) brokertest.Hello {
		h := own.Hello(5)
		h.ID = fmt.Sprintf("%s-%d", own.Source, n)
		h.Keep, h.Expiry = true, 1<<31
		return h
	}
	var open []*brokertest.Conn
	for n := range 3 {
		open = append(open, w.door.Open(t, named(n)))
	}
	if _, code, err := w.door.Try(t, named(3)); err != nil || code != 0x97 {
		t.Errorf("a fourth: %x %v", code, err)
	}
	_ = w.door.Open(t, w.Acme.Other.Hello(5)).Close()
	again := w.door.Open(t, named(0)) // takes over its own
	if why := reason(open[0]); why != 0x8e {
		t.Errorf("who is taken over is told %#x", why)
	}
	_ = open[1].Close()
	if _, code, err := w.door.Try(t, named(3)); err != nil || code != 0x97 {
		t.Errorf("a session that is kept for an absent client is one: %x %v", code, err)
	}
	filters := make([]string, 33)
	for i := range filters {
		filters[i] = fmt.Sprintf("%s/%d", own.Down(), i)
	}
	if codes, err := again.Subscribe(filters[:32]...); err != nil || codes[31] != 1 {
		t.Errorf("%x %v", codes, err)
	}
	if _, err := again.Subscribe(filters[32:]...); !errors.Is(err, brokertest.Ended{Code: 0x97}) {
		t.Errorf("one subscription more: %v", err)
	}
}

func TestASilentClientIsEnded(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, nil)
	h := w.Acme.Gateway.Hello(5)
	h.KeepAlive = 1
	if why := reason(w.door.Open(t, h)); why != 0x8d {
		t.Errorf("told %#x", why)
	}
	h.KeepAlive = 0
	c, err := brokertest.Dial(t.Context(), w.door.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Send(c.Hello(h)); err != nil {
		t.Fatal(err)
	}
	_, body, err := c.Next(5 * time.Second)
	if err != nil || body[1] != 0 || !strings.Contains(string(body), string(binary.BigEndian.AppendUint16([]byte{0x13}, 600))) {
		t.Errorf("who never pings is not told that it has to: %x %v", body, err)
	}
}

func TestAPacketThatTricklesEndsItsConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, tenant.DefaultLimits, nil)
	h := w.Acme.Gateway.Hello(5)
	h.KeepAlive = 600
	c := w.door.Open(t, h)
	if err := c.Send([]byte{0x30, 0x80, 0x80, 0x08, 0}); err != nil { // 128 KiB are promised
		t.Fatal(err)
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for time.Since(began) < time.Minute {
		<-tick.C
		if c.Send([]byte{0}) != nil {
			break
		}
	}
	if took := time.Since(began); took > 40*time.Second { // 10 s are promised; one whose time began anew with each byte would never end
		t.Errorf("it may take %v", took)
	}
}

func TestShutdownLosesNothingThatWasAcknowledged(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, nil)
	own := w.Acme.Gateway
	c := w.door.Open(t, own.Hello(5))
	release := w.store.hold()
	defer release()
	if err := c.Send(c.Message(own.Up(), 1, false, brokertest.Message("1"))); err != nil {
		t.Fatal(err)
	}
	<-w.store.began
	over := make(chan error, 1)
	go func() { over <- w.broker.Shutdown(context.Background()) }()
	w.eventually("no new connections", func() bool {
		conn, err := net.Dial("tcp", w.door.Address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	release()
	first, _, err := c.Next(5 * time.Second)
	if err != nil || first>>4 != 4 {
		t.Errorf("what was under way is answered %x %v", first, err)
	}
	if why := reason(c); why != 0x8b {
		t.Errorf("told %#x", why)
	}
	if err := <-over; err != nil || len(w.uplinks(w.Acme)) != 1 {
		t.Errorf("%v, %d uplinks", err, len(w.uplinks(w.Acme)))
	}
}

func TestPahoSpeaksWithIt(t *testing.T) {
	w := newWorld(t, tenant.DefaultLimits, nil)
	own := w.Acme.Gateway
	conn, err := net.Dial("tcp", w.door.Address)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan *paho.Disconnect, 1)
	c := paho.NewClient(paho.ClientConfig{Conn: conn, ClientID: own.Source.String() + "-paho", OnServerDisconnect: func(d *paho.Disconnect) { gone <- d }, OnClientError: func(error) {}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ack, err := c.Connect(ctx, &paho.Connect{ClientID: own.Source.String() + "-paho", KeepAlive: 30, CleanStart: true, Username: own.Source.String(), UsernameFlag: true, Password: []byte(own.Key.Reveal()), PasswordFlag: true})
	if err != nil || ack.Properties.RetainAvailable || ack.Properties.SharedSubAvailable {
		t.Fatalf("%+v %v", ack, err)
	}
	for qos := range byte(3) {
		if _, err := c.Publish(ctx, &paho.Publish{QoS: qos, Topic: own.Up() + "/event/up", Payload: []byte(brokertest.Message(fmt.Sprint(qos)))}); err != nil {
			t.Errorf("QoS %d: %v", qos, err)
		}
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: own.Down() + "/#", QoS: 1}}}); err != nil {
		t.Error(err)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: w.Brook.Gateway.Down() + "/#", QoS: 1}}}); err == nil {
		t.Error("it hears the other tenant")
	}
	w.eventually("three uplinks", func() bool { return len(w.uplinks(w.Acme)) == 3 })
	_, _ = c.Publish(ctx, &paho.Publish{QoS: 1, Topic: w.Brook.Gateway.Up(), Payload: []byte("x")})
	select {
	case d := <-gone:
		if d.ReasonCode != 0x87 {
			t.Errorf("told %#x", d.ReasonCode)
		}
	case <-ctx.Done():
		t.Error("it may publish to the other tenant")
	}
}

// A message is in its publisher's trace, if it names one once; what it says of sampling counts for nothing, and what it says beside
// is not told.
func TestAMessageIsASpanOfItsPublishersTrace(t *testing.T) {
	const id, hidden = "0af7651916cd43dd8448eb211c80319c", "canary-of-a-publisher"
	r := otlptest.New(t)
	e, err := otlp.Open(otlp.Options{Endpoint: r.URL, Ratio: 1, Service: "ringfence", Random: func(b []byte) { _, _ = rand.Read(b) }, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, tenant.DefaultLimits, func(o *mochibroker.Options) { o.Tracer = e; o.Ingest.Traced(e) })
	own := w.Acme.Gateway
	conn, err := net.Dial("tcp", w.door.Address)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn, ClientID: own.Source.String() + "-paho"})
	if _, err := c.Connect(t.Context(), &paho.Connect{ClientID: own.Source.String() + "-paho", KeepAlive: 30, CleanStart: true, Username: own.Source.String(), UsernameFlag: true, Password: []byte(own.Key.Reveal()), PasswordFlag: true}); err != nil {
		t.Fatal(err)
	}
	place := paho.UserProperty{Key: "traceparent", Value: "00-" + id + "-b7ad6b7169203331-00"}
	for n, said := range []paho.UserProperties{{{Key: hidden, Value: hidden}, place}, {place, place}, nil} {
		if _, err := c.Publish(t.Context(), &paho.Publish{QoS: 1, Topic: own.Up(), Payload: []byte(brokertest.Message(fmt.Sprint(n))), Properties: &paho.PublishProperties{User: said}}); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Disconnect(&paho.Disconnect{})
	r.Await(6)
	e.Close(t.Context())
	var receive, accept []otlptest.Span
	for _, span := range r.Spans() {
		switch span.Name {
		case "receive":
			receive = append(receive, span)
		case "accept":
			accept = append(accept, span)
		}
	}
	if len(receive) != 3 || len(accept) != 3 {
		t.Fatalf("%+v", r.Spans())
	}
	if receive[0].Trace != id || receive[0].Parent != "b7ad6b7169203331" || receive[0].Kind != "consumer" || receive[0].Said["ringfence.result"] != "accepted" || receive[0].Said["ringfence.event_id"] == "" {
		t.Errorf("%+v", receive[0])
	}
	for i, span := range receive {
		if i > 0 && (span.Trace == id || span.Parent != "") || !slices.ContainsFunc(accept, func(a otlptest.Span) bool {
			return a.Parent == span.ID && a.Said["ringfence.event_id"] == span.Said["ringfence.event_id"]
		}) {
			t.Errorf("%d: %+v in %+v", i, span, accept)
		}
	}
	if bytes.Contains(r.Raw(), []byte(hidden)) {
		t.Error("a span says what a publisher said")
	}
}
