package brokertest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/ringfence/ringfence/core/secret"
)

// Hello is what a client says when it connects.
type Hello struct {
	Version   byte // 4 is MQTT 3.1.1, and 0 too; 5
	User      string
	Password  secret.Text
	ID        string
	Keep      bool // the session of before
	KeepAlive uint16
	Will      string // its topic; empty: none
	Retained  bool   // of the will
	Expiry    uint32 // of the session in seconds, MQTT 5
}

// Conn is a client of MQTT that says what it is told, right or wrong.
type Conn struct {
	net     net.Conn
	r       *bufio.Reader
	version byte
	id      uint16
}

// Ended is how a broker of MQTT 5 says why it ends a connection.
type Ended struct{ Code byte }

// Error says it to people.
func (e Ended) Error() string { return fmt.Sprintf("disconnected: 0x%02x", e.Code) }

// answers is how long the broker may take for anything.
const answers = 10 * time.Second

// Dial opens a connection and says nothing.
func Dial(ctx context.Context, address string) (*Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return On(c), nil
}

// On speaks on a connection that is open.
func On(c net.Conn) *Conn { return &Conn{net: c, r: bufio.NewReader(c), version: 4} }

// Close ends the connection without a word, so that a will is said.
func (c *Conn) Close() error { return c.net.Close() }

// Str is a text as MQTT writes it.
func Str(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) //nolint:gosec // of a test
}

// Framed is a packet of a first byte and a body.
func Framed(first byte, body []byte) []byte {
	out := []byte{first}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b |= 0x80
		}
		out = append(out, b)
		if n == 0 {
			return append(out, body...)
		}
	}
}

// Send writes bytes as they are.
func (c *Conn) Send(raw []byte) error {
	if err := c.net.SetWriteDeadline(time.Now().Add(answers)); err != nil {
		return err
	}
	_, err := c.net.Write(raw)
	return err
}

// Next reads a packet. A connection that the broker ends is an error, with its reason if it said one.
func (c *Conn) Next(within time.Duration) (first byte, body []byte, err error) {
	if err := c.net.SetReadDeadline(time.Now().Add(within)); err != nil {
		return 0, nil, err
	}
	if first, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	if _, err = io.ReadFull(c.r, body); err != nil {
		return 0, nil, err
	}
	if first>>4 == 14 {
		e := Ended{}
		if n > 0 {
			e.Code = body[0]
		}
		return first, body, e
	}
	return first, body, nil
}

// until reads until a packet of a kind. Messages that come meanwhile are handed to nobody.
func (c *Conn) until(kind byte) ([]byte, error) {
	for {
		first, body, err := c.Next(answers)
		if err != nil {
			return nil, err
		}
		if first>>4 == kind {
			return body, nil
		}
	}
}

// properties are none, in MQTT 5.
func (c *Conn) properties() []byte {
	if c.version == 5 {
		return []byte{0}
	}
	return nil
}

// Hello is the packet that connects.
func (c *Conn) Hello(h Hello) []byte {
	if h.Version != 0 {
		c.version = h.Version
	}
	flags := byte(0xc0)
	if !h.Keep {
		flags |= 2
	}
	if h.Will != "" {
		flags |= 0x0c // QoS 1
	}
	if h.Retained {
		flags |= 0x20
	}
	body := append(Str("MQTT"), c.version, flags)
	body = binary.BigEndian.AppendUint16(body, h.KeepAlive)
	if c.version == 5 {
		if h.Expiry > 0 {
			body = binary.BigEndian.AppendUint32(append(body, 5, 0x11), h.Expiry)
		} else {
			body = append(body, 0)
		}
	}
	body = append(body, Str(h.ID)...)
	if h.Will != "" {
		body = append(append(append(body, c.properties()...), Str(h.Will)...), Str(`{"id":"will","device":"70b3d57ed0000001","payload":"AA=="}`)...)
	}
	return Framed(0x10, append(append(body, Str(h.User)...), Str(h.Password.Reveal())...))
}

// Connect says who the client is, and answers the broker's code: 0 lets it in.
func (c *Conn) Connect(h Hello) (byte, error) {
	if err := c.Send(c.Hello(h)); err != nil {
		return 0, err
	}
	body, err := c.until(2)
	if err != nil || len(body) < 2 {
		return 0, errors.Join(err, errors.New("no answer to the connect"))
	}
	return body[1], nil
}

// Message is the packet that publishes.
func (c *Conn) Message(topic string, qos byte, retain bool, payload string) []byte {
	first := 0x30 | qos<<1
	if retain {
		first |= 1
	}
	body := Str(topic)
	if qos > 0 {
		c.id++
		body = binary.BigEndian.AppendUint16(body, c.id)
	}
	return Framed(first, append(append(body, c.properties()...), payload...))
}

// Publish says something with QoS 1 or 2 and answers the code of the acknowledgement: 0, unless MQTT 5 refuses by one.
func (c *Conn) Publish(topic string, qos byte, retain bool, payload string) (byte, error) {
	if err := c.Send(c.Message(topic, qos, retain, payload)); err != nil || qos == 0 {
		return 0, err
	}
	id := c.id
	body, err := c.until(map[byte]byte{1: 4, 2: 5}[qos])
	if err == nil && (len(body) < 2 || binary.BigEndian.Uint16(body) != id) {
		err = fmt.Errorf("%x acknowledges %d", body, id)
	}
	if err != nil || len(body) > 2 && body[2] >= 0x80 {
		if len(body) > 2 {
			return body[2], err
		}
		return 0, err
	}
	if qos == 2 {
		if err := c.Send(Framed(0x62, binary.BigEndian.AppendUint16(nil, id))); err != nil {
			return 0, err
		}
		_, err = c.until(7)
	}
	return 0, err
}

// Subscribe asks for a filter with QoS 1, and answers the code: 0x80 and above refuse.
func (c *Conn) Subscribe(filters ...string) ([]byte, error) {
	c.id++
	body := append(binary.BigEndian.AppendUint16(nil, c.id), c.properties()...)
	for _, f := range filters {
		body = append(append(body, Str(f)...), 1)
	}
	if err := c.Send(Framed(0x82, body)); err != nil {
		return nil, err
	}
	answer, err := c.until(9)
	if err != nil {
		return nil, err
	}
	at := 2 + len(c.properties())
	if len(answer) < at+len(filters) {
		return nil, fmt.Errorf("%x answers %d filters", answer, len(filters))
	}
	return answer[len(answer)-len(filters):], nil
}

// Ping asks whether the broker is there.
func (c *Conn) Ping() error {
	if err := c.Send([]byte{0xc0, 0}); err != nil {
		return err
	}
	_, err := c.until(13)
	return err
}
