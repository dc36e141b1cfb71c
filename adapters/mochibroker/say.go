package mochibroker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
)

// Say publishes one message with QoS 1 as a gateway does, over a connection of its own, and waits until it is acknowledged. It
// is for demonstrations and checks; gateways have better clients.
func Say(ctx context.Context, address string, from ident.Source, key secret.Text, topic string, payload []byte) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	at, ok := ctx.Deadline()
	if !ok {
		at = time.Now().Add(questionTime)
	}
	if err := conn.SetDeadline(at); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	hello := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5, Connect: packets.ConnectParams{
		ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 30, ClientIdentifier: from.String() + "-say", UsernameFlag: true, Username: []byte(from.String()), PasswordFlag: true, Password: []byte(key.Reveal()),
	}}
	message := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: 5, PacketID: 1, TopicName: topic, Payload: payload}
	if err := exchange(conn, r, hello.ConnectEncode, packets.Connack, 1); err != nil {
		return err
	}
	if err := exchange(conn, r, message.PublishEncode, packets.Puback, 2); err != nil {
		return err
	}
	_, err = conn.Write([]byte{packets.Disconnect << 4, 0})
	return err
}

// exchange sends a packet and reads its acknowledgement, in which the reason stands at a place, or nowhere if all is well.
func exchange(conn net.Conn, r *bufio.Reader, encode func(*bytes.Buffer) error, want byte, place int) error {
	var out bytes.Buffer
	if err := encode(&out); err != nil {
		return err
	}
	if _, err := conn.Write(out.Bytes()); err != nil {
		return err
	}
	first, err := r.ReadByte()
	if err != nil {
		return err
	}
	n, _, err := packets.DecodeLength(r)
	if err != nil || n > maxControl {
		return errors.Join(err, errors.New("what the broker answers is no MQTT"))
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	reason := byte(0)
	switch kind := first >> 4; {
	case kind == packets.Disconnect && n > 0:
		reason = body[0]
	case kind != want:
		return errors.New("what the broker answers is no acknowledgement")
	case n > place:
		reason = body[place]
	}
	if reason >= packets.ErrUnspecifiedError.Code {
		return Refused{reason}
	}
	return nil
}

// Refused is a broker's reason to refuse a connection or a message.
type Refused struct{ Reason byte }

// Error is the reason's number, as MQTT 5 lists it.
func (r Refused) Error() string { return fmt.Sprintf("refused: 0x%02x", r.Reason) }
