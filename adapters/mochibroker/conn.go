package mochibroker

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/uplink"
)

// Bounds of one connection. mochi reads a packet's length and makes room for as much as it says, whoever says it.
const (
	maxConnect  = 16 << 10 // the will and all
	maxControl  = 8 << 10
	maxPublish  = uplink.MaxBody + 4<<10
	large       = 32 << 10 // packets beyond it take one of largeSlots
	largeSlots  = 32
	packetTime  = 10 * time.Second // for a packet to arrive once it began, and for the first one at all
	writeTime   = 10 * time.Second
	bytesPerSec = 1 << 20
	bytesAtOnce = 2 << 20
)

// session is who a connection turned out to be.
type session struct {
	enter.Publisher
	origin access.Origin
}

// conn is a connection between the socket and mochi. It follows the frames of the packets that arrive, so that what is too
// large or too slow never gets further, and says why it ends to whoever would not be told otherwise: mochi closes without a word
// whatever it cannot read.
type conn struct {
	net.Conn
	broker *Broker
	client *mqtt.Client // since the packet that connects, of the goroutine that reads
	closed chan struct{}
	once   sync.Once

	// Of the goroutine that reads.
	inHead, inBody bool // of a packet
	kind           byte
	length, shift  int // as far as the head tells
	left           int // of the body
	connected      bool
	slot           bool          // a large packet's place is held
	spent          time.Duration // waiting for the present packet
	paced          time.Time
	debt           float64
	again          bool // the present message was sent before

	mu       sync.Mutex
	session  *session
	version  byte // once it is let in: of MQTT
	deadline time.Time
	stopping bool
	said     bool // a DISCONNECT went one way or the other, or the peer went
	reason   packets.Code
}

func newConn(c net.Conn, b *Broker) *conn {
	now := time.Now()
	return &conn{Conn: c, broker: b, closed: make(chan struct{}), deadline: now.Add(packetTime), paced: now, reason: packets.ErrMalformedPacket}
}

// Read hands on what arrives, if it may.
func (c *conn) Read(p []byte) (int, error) {
	if c.slot && !c.inBody { // whoever reads on is done with what was read
		c.giveBack()
	}
	began := time.Now()
	if err := c.until(began); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if c.inHead || c.inBody {
		c.spent += time.Since(began)
	}
	if n > 0 {
		if ferr := c.frames(p[:n]); ferr != nil {
			return 0, ferr
		}
		c.pace(n)
	}
	if err != nil {
		c.gone(err)
	}
	return n, err
}

// until sets how long the next bytes may take: what is left of a packet, or the keep-alive.
func (c *conn) until(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.deadline
	if c.inHead || c.inBody {
		if rest := now.Add(packetTime - c.spent); at.IsZero() || rest.Before(at) {
			at = rest
		}
	}
	if c.stopping {
		at = now.Add(-time.Second)
	}
	return c.SetReadDeadline(at)
}

// gone notes why nothing more arrives.
func (c *conn) gone(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopping:
		c.reason = packets.ErrServerShuttingDown
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.reason = packets.ErrKeepAliveTimeout
	default:
		c.said = true // there is nobody to tell
	}
}

// frames follows the packets through what arrived.
func (c *conn) frames(p []byte) error {
	for len(p) > 0 {
		if c.inBody {
			n := min(c.left, len(p))
			if c.left, p = c.left-n, p[n:]; c.left == 0 {
				c.inBody = false
			}
			continue
		}
		b := p[0]
		p = p[1:]
		if !c.inHead {
			c.inHead, c.kind, c.length, c.shift, c.spent = true, b>>4, 0, 0, 0
			continue
		}
		c.length |= int(b&0x7f) << c.shift
		if c.shift += 7; b&0x80 != 0 {
			if c.shift > 21 {
				return c.refuse(packets.ErrMalformedVariableByteInteger)
			}
			continue
		}
		if err := c.admit(); err != nil {
			return err
		}
		c.inHead, c.inBody, c.left = false, c.length > 0, c.length
	}
	return nil
}

// admit judges a packet by its head, before there is room for its body.
func (c *conn) admit() error {
	most := maxControl
	switch {
	case !c.connected:
		if c.kind != packets.Connect {
			return c.refuse(packets.ErrProtocolViolationRequireFirstConnect)
		}
		c.connected, most = true, maxConnect
	case c.kind == packets.Publish:
		most = maxPublish
	}
	if c.length > most {
		return c.refuse(packets.ErrPacketTooLarge)
	}
	if c.length <= large || c.slot {
		return nil
	}
	wait := time.NewTimer(packetTime)
	defer wait.Stop()
	select {
	case c.broker.large <- struct{}{}:
		c.slot = true
		return nil
	case <-wait.C:
		return c.refuse(packets.ErrServerBusy)
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *conn) giveBack() {
	c.slot = false
	<-c.broker.large
}

// refuse ends the connection for a reason.
func (c *conn) refuse(code packets.Code) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reason = code
	return code
}

// pace lets bytes arrive no faster than they may: the sender is slowed down and nothing is lost.
func (c *conn) pace(n int) {
	now := time.Now()
	c.debt = max(0, c.debt-now.Sub(c.paced).Seconds()*bytesPerSec) + float64(n)
	c.paced = now
	over := c.debt - bytesAtOnce
	if over <= 0 {
		return
	}
	wait := time.NewTimer(time.Duration(over / bytesPerSec * float64(time.Second)))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-c.closed:
	}
}

// Write bounds how long a client may take to read.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0]>>4 == packets.Disconnect {
		c.saidIt()
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *conn) saidIt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = true
}

// SetDeadline is mochi's keep-alive.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

// Close says why, in MQTT 5 and once the client was let in, unless it was said.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		c.mu.Lock()
		tell := c.version == 5 && !c.said
		reason := c.reason
		c.said = true
		c.mu.Unlock()
		if tell {
			c.broker.add(`ringfence_mqtt_disconnects_total{why="` + whyEnded(reason) + `"}`)
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.Conn.Write([]byte{packets.Disconnect << 4, 2, reason.Code, 0})
		}
		close(c.closed)
		c.broker.left(c)
		err = c.Conn.Close()
	})
	return err
}

// stop lets what was read be finished and acknowledged, and reads no more.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
}

// whyEnded is a word of ours for metrics.
func whyEnded(code packets.Code) string {
	switch code.Code {
	case packets.ErrServerShuttingDown.Code:
		return "stopping"
	case packets.ErrKeepAliveTimeout.Code:
		return "silent"
	case packets.ErrPacketTooLarge.Code:
		return "too large"
	case packets.ErrServerBusy.Code:
		return "busy"
	}
	return "malformed"
}

// who is the connection's session, nil before it was let in.
func (c *conn) who() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// under is a context for one question in the name of a connection.
func (b *Broker) under() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.base, questionTime)
}
