package mqttlink

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/uplink"
)

// wire is one network connection as paho sees it. It stands between because paho bounds nothing: it would allocate what a packet
// says of its length, and read on into a buffer of its own while nobody takes. A wire hands over whole packets of the kinds that
// a broker may send us, none longer than a bound, and stops reading while as much is in flight as may be. What is sent leaves
// as one write a packet, and acknowledgements of many messages as one: each write costs as much as all else about a message.
type wire struct {
	net.Conn
	in     *bufio.Reader
	most   int // bytes of a packet; of longer ones the rest of the payload is dropped
	budget *budget
	packet []byte // what is left of the packet that is being handed over
	buf    []byte

	mu     sync.Mutex // while paho writes a packet: paho finds Lock and Unlock by itself
	out    []byte     // what was written and has not left
	broken error

	pieces struct {
		sync.Mutex
		queue []piece // packets handed over, which paho will hand to us, in their order
	}

	heard   atomic.Int64 // when bytes last came, in nanoseconds of the Unix time
	paused  atomic.Bool  // nothing is read, because enough is in flight
	code    atomic.Int32 // of the broker's farewell; -1: it said none
	since   time.Time    // when it was connected
	gone    chan struct{}
	once    sync.Once
	pongs   chan struct{} // told when the broker has answered a ping
	decided chan struct{} // closed when the next connection is there
	kept    bool          // then: the broker has the session still, and sends again what was not acknowledged
}

// piece is what a wire knows of a message that paho does not tell.
type piece struct {
	held int      // bytes in the budget
	size int      // of a payload that was cut; 0: it is whole
	hash [32]byte // of all of it then
}

var (
	errPacket = fault.Ours("the broker sent what is no MQTT 5 packet, or none that a broker may send")
	errUnsent = fault.Ours("a packet could not be sent")
)

func newWire(c net.Conn, most int, b *budget, now time.Time) *wire {
	w := &wire{Conn: c, most: most, budget: b, since: now, gone: make(chan struct{}), pongs: make(chan struct{}, 1), decided: make(chan struct{})}
	w.in = bufio.NewReaderSize(stamped{w}, 32<<10)
	w.code.Store(-1)
	w.heard.Store(time.Now().UnixNano())
	return w
}

// stamped notes when something came.
type stamped struct{ w *wire }

func (s stamped) Read(p []byte) (int, error) {
	n, err := s.w.Conn.Read(p)
	if n > 0 {
		s.w.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// Close ends the connection, and every wait for it.
func (w *wire) Close() error {
	w.once.Do(func() { close(w.gone) })
	return w.Conn.Close()
}

func (w *wire) lost() bool {
	select {
	case <-w.gone:
		return true
	default:
		return false
	}
}

// Lock begins a packet.
func (w *wire) Lock() { w.mu.Lock() }

// Write adds to the packet.
func (w *wire) Write(p []byte) (int, error) {
	if w.broken != nil {
		return 0, w.broken
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// Unlock sends the packet. Where that fails the connection is closed, which whoever reads notices.
func (w *wire) Unlock() {
	defer w.mu.Unlock()
	if w.broken != nil || len(w.out) == 0 {
		return
	}
	err := w.SetWriteDeadline(time.Now().Add(writeFor))
	if err == nil {
		_, err = w.Conn.Write(w.out)
	}
	if w.out = w.out[:0]; err != nil {
		w.broken = errors.Join(errUnsent, err)
		_ = w.Close()
	}
}

// acknowledge tells the broker of messages that are durable; false if the connection is lost. Not paho does it, which would keep one
// back until all that came before it are: one that waits would stop the broker as soon as it has sent as many as it may. Who sent
// them finds each by its number, whatever their order.
func (w *wire) acknowledge(ids []uint16) bool {
	if len(ids) == 0 || w.lost() {
		return false
	}
	w.Lock()
	defer w.Unlock()
	if w.broken != nil {
		return false
	}
	for _, id := range ids {
		w.out = append(w.out, packets.PUBACK<<4, 2, byte(id>>8), byte(id))
	}
	return true
}

// told waits until the broker has answered a question that stands behind the acknowledgements: it has read them by then, which one
// that sees the connection end may not do.
func (w *wire) told(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	select {
	case <-w.pongs:
	default:
	}
	if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(w); err != nil {
		return false
	}
	select {
	case <-w.pongs:
		return true
	case <-w.gone:
	case <-ctx.Done():
	}
	return false
}

// Read hands over packets.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.packet) == 0 {
		if err := w.fetch(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.packet)
	w.packet = w.packet[n:]
	return n, nil
}

const maxControl = 64 << 10 // bytes of a packet that is no message

// fetch reads the next packet.
func (w *wire) fetch() error {
	first, err := w.in.ReadByte()
	if err != nil {
		return err
	}
	length, err := w.length()
	if err != nil {
		return err
	}
	switch kind, flags := first>>4, first&0xf; kind {
	case packets.PUBLISH:
		return w.message(first, length)
	case packets.CONNACK, packets.PUBACK, packets.SUBACK, packets.UNSUBACK, packets.PINGRESP, packets.DISCONNECT:
		// The others are a client's, or of QoS 2, which is not asked for, or of an authentication that was not begun.
		if flags != 0 || length > maxControl {
			return errPacket
		}
		w.begin(first, length)
		body, err := w.keep(length)
		if kind == packets.PINGRESP {
			select {
			case w.pongs <- struct{}{}:
			default:
			}
		}
		if err == nil && kind == packets.DISCONNECT {
			w.code.Store(0)
			if len(body) > 0 {
				w.code.Store(int32(body[0]))
			}
		}
		return err
	}
	return errPacket
}

// length reads a variable byte integer.
func (w *wire) length() (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := w.in.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errPacket
}

// begin writes a packet's header.
func (w *wire) begin(first byte, length int) {
	w.buf = append(w.buf[:0], first)
	for length >= 0x80 {
		w.buf = append(w.buf, byte(length)|0x80)
		length >>= 7
	}
	w.buf = append(w.buf, byte(length))
}

// keep reads the rest of a packet into what is handed over, and answers it.
func (w *wire) keep(n int) ([]byte, error) {
	from := len(w.buf)
	w.buf = append(w.buf, make([]byte, n)...)
	if _, err := io.ReadFull(w.in, w.buf[from:]); err != nil {
		return nil, unexpected(err)
	}
	w.packet = w.buf
	return w.buf[from:], nil
}

func (w *wire) message(first byte, length int) error {
	qos := first >> 1 & 3
	if qos > 1 {
		return errPacket
	}
	p := piece{held: min(length, w.most)}
	if !w.budget.take(p.held, w.gone, &w.paused) {
		return net.ErrClosed
	}
	w.heard.Store(time.Now().UnixNano()) // a pause is no silence
	w.paused.Store(false)
	w.pieces.Lock()
	w.pieces.queue = append(w.pieces.queue, p)
	w.pieces.Unlock()
	if length > w.most {
		return w.cut(first, length)
	}
	w.begin(first, length)
	body, err := w.keep(length)
	if err != nil {
		return err
	}
	if len(body) < 2 {
		return errPacket
	}
	rest := body[2:]
	if topic := int(binary.BigEndian.Uint16(body)); topic > len(rest) {
		return errPacket
	} else if rest = rest[topic:]; qos > 0 && (len(rest) < 2 || rest[0]|rest[1] == 0) {
		return errPacket // paho would drop it without a word
	}
	return nil
}

// cut reads a packet that is too long and hands over a shorter one: topic, no properties, the beginning of the payload.
func (w *wire) cut(first byte, length int) error {
	var two [2]byte
	read := func(p []byte) bool {
		length -= len(p)
		if length < 0 {
			return false
		}
		_, err := io.ReadFull(w.in, p)
		return err == nil
	}
	if !read(two[:]) {
		return errPacket
	}
	head := make([]byte, 2+int(binary.BigEndian.Uint16(two[:])), 2+1<<16+2)
	copy(head, two[:])
	if !read(head[2:]) {
		return errPacket
	}
	if first>>1&3 > 0 {
		if !read(two[:]) || two[0]|two[1] == 0 {
			return errPacket
		}
		head = append(head, two[:]...)
	}
	before := w.in
	properties, err := w.length()
	if err != nil {
		return err
	}
	length -= properties + lengthOf(properties)
	if length < 0 {
		return errPacket
	}
	if _, err := io.CopyN(io.Discard, before, int64(properties)); err != nil {
		return unexpected(err)
	}
	kept := min(length, uplink.MaxBody)
	head = append(head, 0)
	w.begin(first, len(head)+kept)
	w.buf = append(w.buf, head...)
	beginning, err := w.keep(kept)
	if err != nil {
		return err
	}
	whole := sha256.New()
	_, _ = whole.Write(beginning) // never fails
	if _, err := io.CopyN(whole, before, int64(length-kept)); err != nil {
		return unexpected(err)
	}
	w.pieces.Lock()
	defer w.pieces.Unlock()
	p := &w.pieces.queue[len(w.pieces.queue)-1]
	p.size, p.hash = length, [32]byte(whole.Sum(nil))
	return nil
}

func lengthOf(n int) int {
	bytes := 1
	for n >>= 7; n > 0; n >>= 7 {
		bytes++
	}
	return bytes
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next is the piece of the message that paho hands to us.
func (w *wire) next() (piece, bool) {
	w.pieces.Lock()
	defer w.pieces.Unlock()
	if len(w.pieces.queue) == 0 {
		return piece{}, false
	}
	p := w.pieces.queue[0]
	if w.pieces.queue = w.pieces.queue[1:]; len(w.pieces.queue) == 0 {
		w.pieces.queue = nil
	}
	return p, true
}

// settle gives back what is held for messages that paho did not hand to us before the connection ended.
func (w *wire) settle() {
	for p, ok := w.next(); ok; p, ok = w.next() {
		w.budget.give(p.held)
	}
}

// budget bounds what is in flight, over all wires of a connection: read, and neither acknowledged nor dropped.
type budget struct {
	mu                  sync.Mutex
	n, bytes            int
	most, mostBytes     int
	highest, highestOct int
	free                chan struct{}
}

func newBudget(most, mostBytes int) *budget {
	return &budget{most: most, mostBytes: mostBytes, free: make(chan struct{}, 1)}
}

// take waits for room; false if the connection ended. One message has room always, however large it is.
func (b *budget) take(size int, gone <-chan struct{}, paused *atomic.Bool) bool {
	for {
		b.mu.Lock()
		if b.n == 0 || b.n < b.most && b.bytes+size <= b.mostBytes {
			b.n++
			b.bytes += size
			b.highest, b.highestOct = max(b.highest, b.n), max(b.highestOct, b.bytes)
			b.mu.Unlock()
			return true
		}
		b.mu.Unlock()
		paused.Store(true)
		select {
		case <-b.free:
		case <-gone:
			return false
		}
	}
}

func (b *budget) give(size int) {
	b.mu.Lock()
	b.n--
	b.bytes -= size
	b.mu.Unlock()
	select {
	case b.free <- struct{}{}:
	default:
	}
}

func (b *budget) now() (n, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n, b.bytes
}
