package mochibroker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/trace"
)

// hook is where mochi asks. It is the only one: without it nobody is let in.
type hook struct {
	mqtt.HookBase
	broker *Broker
}

// ID names it.
func (*hook) ID() string { return "ringfence" }

// Provides says which questions it answers.
func (*hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablished, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnWill:
		return true
	}
	return false
}

func connOf(cl *mqtt.Client) *conn {
	c, _ := cl.Net.Conn.(*conn)
	return c
}

// OnConnect lets a client in, or tells it why not.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := connOf(cl)
	if c == nil {
		return packets.ErrNotAuthorized
	}
	c.client = cl
	ctx, cancel := h.broker.under()
	defer cancel()
	err := h.letIn(ctx, c, cl, pk)
	if err == nil {
		h.broker.add(`ringfence_mqtt_connects_total{result="accepted"}`)
		return nil
	}
	h.broker.add(`ringfence_mqtt_connects_total{result="` + kindOf(err) + `"}`)
	if fault.Is(err, fault.Unauthenticated) {
		h.broker.add("ringfence_credentials_refused_total") // never audited: anybody may send junk
	}
	code := codeOf(err)
	if cerr := h.broker.server.SendConnack(cl, code, false, nil); cerr != nil {
		return cerr
	}
	return code
}

func (h *hook) letIn(ctx context.Context, c *conn, cl *mqtt.Client, pk packets.Packet) error {
	b := h.broker
	origin := access.Origin{Node: b.o.Node}
	ident.Fresh(b.o.Mint, &origin.Request)
	if host, _, err := net.SplitHostPort(c.RemoteAddr().String()); err == nil {
		origin.Address = host
	}
	if pk.Properties.AuthenticationMethod != "" {
		return fault.New(fault.Invalid, "bad_method", "There is no other way to prove oneself than user name and password.")
	}
	p, err := b.o.Gate.Connect(ctx, string(pk.Connect.Username), secret.New(string(pk.Connect.Password)), pk.Connect.ClientIdentifier, origin)
	if err != nil {
		return err
	}
	s := &session{p, origin}
	if v := b.o.Limiter.Take("mqtt connects "+p.Source.String(), 1, b.o.Connects); !v.OK {
		return fault.New(fault.Exhausted, "connect_throttled", "The source connects too often.").WithRetry(v.RetryAfter)
	}
	if pk.Connect.WillFlag {
		if err := b.o.Gate.Publish(ctx, p, pk.Connect.WillTopic, pk.Connect.WillRetain, origin); err != nil {
			return err
		}
	}
	if !b.room(c, s) {
		return fault.New(fault.Exhausted, "too_many_sessions", "The source has too many sessions, or all sources together have.")
	}
	cl.Properties.Will.WillDelayInterval = 0 // a will is said at once: nothing is kept that was not said
	if pk.Connect.Keepalive == 0 || pk.Connect.Keepalive > maxKeepAlive {
		cl.State.Keepalive, cl.State.ServerKeepalive = maxKeepAlive, true
	}
	return nil
}

// OnConnectAuthenticate is asked after OnConnect: a client without a session was not let in.
func (*hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	c := connOf(cl)
	return c != nil && c.who() != nil
}

// OnSessionEstablished is told after the acknowledgement: from now on a reason can be said.
func (*hook) OnSessionEstablished(cl *mqtt.Client, pk packets.Packet) {
	if c := connOf(cl); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.version = pk.ProtocolVersion
	}
}

// OnPacketRead is where each packet is judged, before mochi does anything with it. mochi lets ErrRejectPacket alone end the
// connection.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	if c == nil {
		return pk, packets.ErrRejectPacket
	}
	s := c.who()
	if pk.FixedHeader.Type == packets.Connect && s == nil {
		return pk, nil
	}
	if s == nil {
		return pk, packets.ErrRejectPacket
	}
	ctx, cancel := h.broker.under()
	defer cancel()
	err := h.judge(ctx, c, cl, s, &pk)
	if err != nil {
		h.broker.end(cl, c, err, kindOf(err))
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}

func (h *hook) judge(ctx context.Context, c *conn, cl *mqtt.Client, s *session, pk *packets.Packet) error {
	gate := h.broker.o.Gate
	switch pk.FixedHeader.Type {
	case packets.Publish:
		c.again = pk.FixedHeader.Dup
		if pk.Properties.TopicAliasFlag || pk.TopicName == "" {
			return nil // there are none: mochi says so
		}
		return gate.Publish(ctx, s.Publisher, pk.TopicName, pk.FixedHeader.Retain, s.origin)
	case packets.Subscribe:
		if cl.State.Subscriptions.Len()+len(pk.Filters) > maxSubscriptions {
			return fault.New(fault.Exhausted, "too_many_subscriptions", "A client has at most %d subscriptions.", maxSubscriptions)
		}
	case packets.Unsubscribe:
		for i := range pk.Filters { // what was never subscribed is looked for under a name that nothing has
			if s.Topics().MaySubscribe(pk.Filters[i].Filter) != nil {
				pk.Filters[i].Filter = "none"
			}
		}
	case packets.Auth, packets.Connect:
		return packets.ErrProtocolViolation
	case packets.Disconnect:
		c.saidIt()
		pk.Properties.SessionExpiryInterval = min(pk.Properties.SessionExpiryInterval, maxSessionExpiry)
	}
	return gate.Still(ctx, s.Publisher)
}

// OnACLCheck is asked for each filter, and for each message that is about to be delivered. What is published was judged when it
// was read; here the rule is a second wall.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	c := connOf(cl)
	if c == nil {
		return false
	}
	s := c.who()
	if s == nil {
		return false
	}
	if write {
		return s.Topics().MayPublish(topic, false) == nil
	}
	ctx, cancel := h.broker.under()
	defer cancel()
	err := h.broker.o.Gate.Subscribe(ctx, s.Publisher, topic, s.origin)
	if err != nil {
		h.broker.add("ringfence_mqtt_subscriptions_refused_total")
	}
	return err == nil
}

// OnPublish makes a message durable. mochi acknowledges it when this answers that it need not be handed on, and not at all when
// it is rejected.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	if c == nil || c.who() == nil {
		return pk, packets.ErrRejectPacket
	}
	err := h.take(c.who(), pk.TopicName, pk.Payload, patience, sender(pk.Properties.User))
	switch {
	case err == nil:
		return pk, packets.CodeSuccessIgnore
	case !fault.Is(err, fault.Invalid):
		h.broker.end(cl, c, err, kindOf(err))
		return pk, packets.ErrRejectPacket
	case cl.Properties.ProtocolVersion < 5 || pk.FixedHeader.Qos == 0:
		// Sent again it would be refused again, for ever: there is no other way to say so in MQTT 3.1.1.
		return pk, packets.CodeSuccessIgnore
	}
	kind := packets.Puback
	if pk.FixedHeader.Qos == 2 {
		kind = packets.Pubrec
	}
	no := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: pk.PacketID, ReasonCode: packets.ErrPayloadFormatInvalid.Code}
	no.Properties.ReasonString = err.Error() // tells the rule, and echoes nothing
	if werr := cl.WritePacket(no); werr != nil {
		cl.Stop(werr)
	}
	return pk, packets.ErrRejectPacket
}

// OnWill says a will: as its client would have said it, if it still may.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	defer atomic.StoreUint32(&cl.Properties.Will.Flag, 0)
	c := connOf(cl)
	if c == nil || c.who() == nil {
		return will, nil
	}
	c.mu.Lock()
	stopping := c.stopping
	c.mu.Unlock()
	if stopping { // the client did nothing wrong
		return will, nil
	}
	s := c.who()
	ctx, cancel := h.broker.under()
	defer cancel()
	if err := h.broker.o.Gate.Publish(ctx, s.Publisher, will.TopicName, will.Retain, s.origin); err != nil {
		h.broker.add(`ringfence_mqtt_messages_total{result="` + kindOf(err) + `"}`)
		return will, nil
	}
	_ = h.take(s, will.TopicName, will.Payload, 0, sender(will.User)) // counted; there is nobody to tell
	return will, nil
}

// sender is where a message stands in a trace, as its publisher says, who does not choose whether we keep it.
func sender(said []packets.UserProperty) trace.Place {
	at := trace.Sent(func(yield func(string, string) bool) {
		for i := 0; i < len(said) && yield(said[i].Key, said[i].Val); i++ {
		}
	})
	at.Kept = false
	return at
}

// take is what every message goes through.
func (h *hook) take(s *session, topic string, payload []byte, wait time.Duration, from trace.Place) error {
	ctx, cancel := h.broker.under()
	defer cancel()
	began, at, origin := time.Now(), from, s.origin
	if tracer := h.broker.o.Tracer; tracer != nil {
		at = tracer.Enter(from)
	}
	ctx, origin.Trace = trace.With(ctx, at), at.ID()
	got, err := h.broker.o.Ingest.Take(ctx, s.Identity, origin, ingest.Delivery{
		Event: source.Event(topic), Body: func() ([]byte, error) { return payload, nil }, Patience: wait,
	})
	result := "accepted"
	switch {
	case err != nil:
		result = kindOf(err)
		h.broker.told(ctx, s, "an MQTT message was not taken", err)
	case got.Ignored:
		result = "ignored"
	}
	h.broker.add(`ringfence_mqtt_messages_total{result="` + result + `"}`)
	if at.Kept {
		h.broker.o.Tracer.Tell(trace.Span{
			Name: "receive", Kind: trace.Consumer, Place: at, Parent: from, Began: began, Ended: time.Now(), Tenant: s.Tenant, Event: got.ID, Result: result,
			Failed: fault.Is(err, fault.Internal) || fault.Is(err, fault.Unavailable),
		})
	}
	return err
}

// OnPacketEncode says what the broker offers, and translates what MQTT 3.1.1 has no words for.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	five := cl.Properties.ProtocolVersion == 5
	switch pk.FixedHeader.Type {
	case packets.Connack:
		switch {
		case five && pk.ReasonCode == 0:
			pk.Properties.RetainAvailable, pk.Properties.RetainAvailableFlag = 0, true
			pk.Properties.SharedSubAvailable, pk.Properties.SharedSubAvailableFlag = 0, true
			pk.Properties.MaximumPacketSize = maxPublish
		case !five && pk.ReasonCode >= packets.ErrUnspecifiedError.Code:
			code := pk.ReasonCode
			if pk.ReasonCode = packets.Err3NotAuthorized.Code; code == packets.ErrQuotaExceeded.Code || code == packets.ErrConnectionRateExceeded.Code || code == packets.ErrServerBusy.Code {
				pk.ReasonCode = packets.Err3ServerUnavailable.Code
			}
		}
	case packets.Pubrec:
		if c := connOf(cl); c != nil && c.again && pk.ReasonCode == packets.ErrPacketIdentifierInUse.Code {
			pk.ReasonCode = 0 // it was taken when it came first
			pk.Properties.ReasonString = ""
		}
	}
	return pk
}

// end ends a connection for a reason, which MQTT 3.1.1 cannot say.
func (b *Broker) end(cl *mqtt.Client, c *conn, err error, why string) {
	b.add(`ringfence_mqtt_disconnects_total{why="` + why + `"}`)
	if s := c.who(); s != nil {
		b.told(b.base, s, "an MQTT connection was ended", err)
	}
	code := codeOf(err)
	if code == packets.ErrBadUsernameOrPassword { // a word for connecting alone
		code = packets.ErrNotAuthorized
	}
	if cl.Properties.ProtocolVersion == 5 {
		_ = b.server.DisconnectClient(cl, code)
		return
	}
	cl.Stop(code)
}

// told is a line of the log about a source: our reason, and nothing of what was sent.
func (b *Broker) told(ctx context.Context, s *session, what string, err error) {
	level, code := slog.LevelInfo, kindOf(err)
	f := fault.As(err)
	if f != nil && f.Code != "" {
		code = f.Code
	}
	attributes := []slog.Attr{slog.String("tenant_id", s.Tenant.String()), slog.String("source_id", s.Source.String()), slog.String("request_id", s.origin.Request.String()), slog.String("code", code)}
	if code == fault.Internal.String() || f != nil && (f.Kind == fault.Internal || f.Kind == fault.Unavailable) {
		level = slog.LevelError
		attributes = append(attributes, slog.String("cause", fault.Cause(err)))
	}
	b.o.Log.LogAttrs(ctx, level, what, attributes...)
}

// kindOf is a word for metrics.
func kindOf(err error) string {
	var code packets.Code
	switch f := fault.As(err); {
	case f != nil:
		return f.Kind.String()
	case errors.As(err, &code):
		return "malformed"
	}
	return fault.Internal.String()
}

// codeOf is MQTT's word for an error of ours.
func codeOf(err error) packets.Code {
	var code packets.Code
	if errors.As(err, &code) {
		return code
	}
	f := fault.As(err)
	if f == nil {
		return packets.ErrServerBusy
	}
	switch f.Code {
	case "bad_client_id":
		return packets.ErrClientIdentifierNotValid
	case "bad_method":
		return packets.ErrBadAuthenticationMethod
	case "connect_throttled":
		return packets.ErrConnectionRateExceeded
	case "retain_refused":
		return packets.ErrRetainNotSupported
	case "bad_topic":
		return packets.ErrTopicNameInvalid
	}
	switch f.Kind {
	case fault.Unauthenticated:
		return packets.ErrBadUsernameOrPassword
	case fault.Denied, fault.NotFound:
		return packets.ErrNotAuthorized
	case fault.Exhausted:
		return packets.ErrQuotaExceeded
	case fault.Invalid:
		return packets.ErrPayloadFormatInvalid
	case fault.Internal, fault.Unavailable, fault.Conflict:
	}
	return packets.ErrServerBusy
}
