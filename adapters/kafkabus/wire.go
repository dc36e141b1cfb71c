package kafkabus

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/bus"
)

// kafka-go answers questions about topics from a cache, and knows no topic ids, which came with version 10 of the request that
// is asked here at version 12. It never makes a topic. Of the answer to a heartbeat kafka-go takes the throttling for the error,
// and it sends it to any broker, so that one is asked here, too.

const (
	apiMetadata      = 3
	apiHeartbeat     = 12
	metadataVersion  = 12 // Kafka 3.1
	heartbeatVersion = 1
	maxAnswer        = 16 << 20
)

// described is what a broker says of a topic.
type described struct {
	id         string // of the topic, a new one if it is made anew
	partitions int
	replicas   int // of the first partition
	code       kafka.Error
}

func (d described) err() error {
	switch {
	case d.code != 0:
		return told(d.code)
	case d.partitions == 0:
		return bus.ErrTopic
	}
	return nil
}

// wire is one connection to one of some brokers, over which kafka-go has said who we are.
type wire struct {
	d       *dialer
	turn    chan struct{} // holds one token
	mu      sync.Mutex
	conn    net.Conn
	closing bool
	id      int32
}

func newWire(d *dialer) *wire {
	w := &wire{d: d, turn: make(chan struct{}, 1)}
	w.turn <- struct{}{}
	return w
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closing = true
	if w.conn != nil {
		_ = w.conn.Close()
	}
}

// call asks one question. A connection that breaks is made anew once: the broker may have closed it while nobody asked.
func (w *wire) call(ctx context.Context, brokers []string, key, version uint16, flexible bool, body []byte) ([]byte, error) {
	select {
	case <-w.turn:
		defer func() { w.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var err error
	for range 2 {
		fresh := w.conn == nil
		if fresh {
			if err = w.connect(ctx, brokers); err != nil {
				return nil, err
			}
		}
		var answer []byte
		if answer, err = w.once(ctx, key, version, flexible, body); err == nil {
			return answer, nil
		}
		w.drop()
		if fresh || ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (w *wire) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// connect makes a connection to the first broker that takes us.
func (w *wire) connect(ctx context.Context, brokers []string) (err error) {
	for _, broker := range brokers {
		var conn net.Conn
		if conn, err = w.hail(ctx, broker); err != nil {
			continue
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.conn = conn; w.closing {
			_ = conn.Close()
		}
		return nil
	}
	return err
}

// hail has kafka-go say who we are, and answers what it said that over. It alone would wait for ever for a broker that says nothing.
func (w *wire) hail(ctx context.Context, broker string) (net.Conn, error) {
	ctx, end := context.WithTimeout(ctx, dialWait)
	defer end()
	conn, err := w.d.dial(ctx, "tcp", broker)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	d := &kafka.Dialer{ClientID: w.d.o.ClientID, SASLMechanism: w.d.sasl, DialFunc: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	if _, err := d.DialContext(ctx, "tcp", broker); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// once sends a request with its header and answers the body of what comes back.
func (w *wire) once(ctx context.Context, key, version uint16, flexible bool, body []byte) ([]byte, error) {
	until := time.Now().Add(wait)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	conn := w.conn
	if err := conn.SetDeadline(until); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	w.id++
	if _, err := conn.Write(request(w.id, w.d.o.ClientID, key, version, flexible, body)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxAnswer {
		return nil, errAnswer
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(conn, text); err != nil {
		return nil, err
	}
	p := &parser{rest: text}
	id := p.int32()
	if flexible {
		p.tags()
	}
	if p.bad || id != w.id {
		return nil, errAnswer
	}
	return p.rest, nil
}

var errAnswer = fault.Ours("a broker's answer cannot be read: is it older than Kafka 3.1?")

func request(id int32, client string, key, version uint16, flexible bool, body []byte) []byte {
	q := make([]byte, 4, 64+len(body))
	q = binary.BigEndian.AppendUint16(q, key)
	q = binary.BigEndian.AppendUint16(q, version)
	q = binary.BigEndian.AppendUint32(q, uint32(id))
	q = append(binary.BigEndian.AppendUint16(q, uint16(len(client))), client...)
	if flexible {
		q = append(q, 0) // no tagged fields
	}
	q = append(q, body...)
	binary.BigEndian.PutUint32(q, uint32(len(q)-4))
	return q
}

// question asks for metadata, version 12.
func question(topics []string) (q []byte) {
	q = binary.AppendUvarint(q, uint64(len(topics)+1))
	for _, name := range topics {
		q = append(q, make([]byte, 16)...) // asked for by name, not by id
		q = append(binary.AppendUvarint(q, uint64(len(name)+1)), name...)
		q = append(q, 0)
	}
	return append(q, 0, 0, 0) // make no topic; no list of what we may; no tagged fields
}

// heartbeat tells a group's coordinator that a member lives, version 1.
func (w *wire) heartbeat(ctx context.Context, coordinator, group, memberID string, generation int) error {
	q := append(binary.BigEndian.AppendUint16(nil, uint16(len(group))), group...)
	q = binary.BigEndian.AppendUint32(q, uint32(generation))
	q = append(binary.BigEndian.AppendUint16(q, uint16(len(memberID))), memberID...)
	text, err := w.call(ctx, []string{coordinator}, apiHeartbeat, heartbeatVersion, false, q)
	if err != nil {
		return err
	}
	p := &parser{rest: text}
	p.int32() // throttled for
	if code := p.int16(); code != 0 {
		return kafka.Error(code)
	}
	if p.bad {
		return errAnswer
	}
	return nil
}

// parser reads what a broker sent. After a fault everything is zero and ok is false.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) take(n int) []byte {
	if p.bad || n < 0 || n > len(p.rest) {
		p.bad = true
		return nil
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

func (p *parser) int16() int16 {
	if b := p.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (p *parser) int32() int32 {
	if b := p.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// count is the size of a compact list or text: one more than it has, or 0 for none at all. Each piece takes at least so many
// bytes.
func (p *parser) count(least int) int {
	n, size := binary.Uvarint(p.rest)
	if p.bad || size <= 0 || n > uint64(len(p.rest)) {
		p.bad = true
		return 0
	}
	p.rest = p.rest[size:]
	if n == 0 {
		return 0
	}
	if n--; n*uint64(least) > uint64(len(p.rest)) {
		p.bad = true
		return 0
	}
	return int(n)
}

func (p *parser) text() string { return string(p.take(p.count(1))) }

// tags passes over what newer brokers add.
func (p *parser) tags() {
	n, size := binary.Uvarint(p.rest)
	if p.bad || size <= 0 || n > uint64(len(p.rest)) {
		p.bad = true
		return
	}
	p.rest = p.rest[size:]
	for range n {
		_, size := binary.Uvarint(p.rest)
		if p.take(max(size, 0)); size <= 0 || p.bad {
			p.bad = true
			return
		}
		n, size := binary.Uvarint(p.rest)
		if size <= 0 || n > uint64(len(p.rest)) {
			p.bad = true
			return
		}
		p.take(size)
		p.take(int(n))
	}
}

// answered reads the answer to a question.
func answered(text []byte) (map[string]described, error) {
	p := &parser{rest: text}
	p.int32() // throttled for
	for range p.count(9) {
		p.int32()
		p.text()
		p.int32()
		p.text()
		p.tags()
	}
	p.text()  // the cluster
	p.int32() // its controller
	all := map[string]described{}
	for range p.count(24) {
		code := p.int16()
		name := p.text()
		topic := described{code: kafka.Error(code), id: hex.EncodeToString(p.take(16))}
		p.take(1) // one of Kafka's own?
		for range p.count(18) {
			p.take(2 + 4 + 4 + 4) // error, number, leader, epoch
			for list := range 3 { // replicas, those in sync, those away
				n := p.count(4)
				p.take(4 * n)
				if list == 0 && topic.partitions == 0 {
					topic.replicas = n
				}
			}
			p.tags()
			topic.partitions++
		}
		p.int32()
		p.tags()
		all[name] = topic
	}
	p.tags()
	if p.bad || len(p.rest) > 0 {
		return nil, errAnswer
	}
	return all, nil
}

// describe asks until there is an answer, which names each topic.
func (b *Bus) describe(ctx context.Context, topics []string) (all map[string]described, err error) {
	var names []string
	for _, t := range topics {
		if bus.Named(t) {
			names = append(names, t)
		}
	}
	if len(names) > 0 || len(topics) == 0 {
		err = b.asked(ctx, func(ctx context.Context) error {
			text, err := b.asker.call(ctx, b.o.Brokers, apiMetadata, metadataVersion, true, question(names))
			if err == nil {
				all, err = answered(text)
			}
			return err
		})
	}
	if all == nil {
		all = map[string]described{}
	}
	for _, t := range topics {
		if _, ok := all[t]; !ok {
			all[t] = described{code: kafka.UnknownTopicOrPartition}
		}
	}
	return all, err
}
