package kafkabus_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/bustest"
)

// line is how one bus reaches its brokers, until it is cut.
type line struct {
	cut   atomic.Bool
	lose  atomic.Int64 // so many answers to large requests are lost
	mu    sync.Mutex
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if l.cut.Load() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.ErrClosed}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, conn)
		l.mu.Unlock()
		conn = &lossy{Conn: conn, l: l}
	}
	return conn, err
}

// lossy loses the answer to a large request once the broker has given it.
type lossy struct {
	net.Conn
	l    *line
	deaf atomic.Bool
}

func (c *lossy) Write(b []byte) (int, error) {
	if len(b) > 2000 && c.l.lose.Add(-1) >= 0 {
		c.deaf.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *lossy) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deaf.Load() {
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func (l *line) close() {
	l.cut.Store(true)
	l.drop()
}

// drop ends all connections; new ones may be made.
func (l *line) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

// place is a Kafka, fake or not, as the suite wants one.
type place struct {
	options kafkabus.Options // of an administrator
	raw     *kgo.Client      // for what only an operator's tools do
	mu      sync.Mutex
	lines   map[bus.Bus]*line
}

func newPlace(o kafkabus.Options, raw *kgo.Client) *place {
	return &place{options: o, raw: raw, lines: map[bus.Bus]*line{}}
}

func quick(o kafkabus.Options) kafkabus.Options {
	o.Session, o.Rebalance, o.Heartbeat, o.Backoff, o.Watch = 6*time.Second, 6*time.Second, 200*time.Millisecond, 100*time.Millisecond, 300*time.Millisecond
	return o
}

func open(t testing.TB, o kafkabus.Options) *kafkabus.Bus {
	t.Helper()
	b, err := kafkabus.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (p *place) open(t testing.TB) bus.Bus {
	t.Helper()
	l := &line{}
	o := p.options
	o.Dial = l.dial
	b := open(t, o)
	p.mu.Lock()
	p.lines[b] = l
	p.mu.Unlock()
	return b
}

func (p *place) ask(t testing.TB, r kmsg.Request) kmsg.Response {
	t.Helper()
	answer, err := p.raw.Request(soon(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (p *place) server() *bustest.Server {
	admin := func(t testing.TB, do func(context.Context, *kafkabus.Bus) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		b, err := kafkabus.Open(p.options)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := do(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	return &bustest.Server{
		Open: p.open,
		Create: func(t testing.TB, topic string, n int) {
			admin(t, func(ctx context.Context, b *kafkabus.Bus) error {
				return b.Create(ctx, kafkabus.Topic{Name: topic, Partitions: n})
			})
		},
		Grow: func(t testing.TB, topic string, n int) {
			admin(t, func(ctx context.Context, b *kafkabus.Bus) error {
				return b.Grow(ctx, topic, n)
			})
		},
		Delete: func(t testing.TB, topic string) {
			r := kmsg.NewPtrDeleteTopicsRequest()
			r.TimeoutMillis = 10_000
			r.TopicNames = []string{topic}
			one := kmsg.NewDeleteTopicsRequestTopic()
			one.Topic = kmsg.StringPtr(topic)
			r.Topics = append(r.Topics, one)
			if got := p.ask(t, r).(*kmsg.DeleteTopicsResponse); got.Topics[0].ErrorCode != 0 {
				t.Fatalf("deleting: %d", got.Topics[0].ErrorCode)
			}
		},
		Trim: func(t testing.TB, topic string, partition int, below int64) {
			r := kmsg.NewPtrDeleteRecordsRequest()
			r.TimeoutMillis = 10_000
			one := kmsg.NewDeleteRecordsRequestTopic()
			one.Topic = topic
			part := kmsg.NewDeleteRecordsRequestTopicPartition()
			part.Partition, part.Offset = int32(partition), below
			one.Partitions = append(one.Partitions, part)
			r.Topics = append(r.Topics, one)
			if got := p.ask(t, r).(*kmsg.DeleteRecordsResponse); got.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Fatalf("trimming: %d", got.Topics[0].Partitions[0].ErrorCode)
			}
		},
		Accept: func(t testing.TB, topic string) {
			admin(t, func(ctx context.Context, b *kafkabus.Bus) error {
				_, err := b.Accept(ctx, topic)
				return err
			})
		},
		Cut: func(_ testing.TB, b bus.Bus) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lines[b].close()
		},
	}
}

const expected = "bustest.expected"

// fake is a Kafka in this process.
func fake(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, *place) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.SeedTopics(1, expected)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	raw, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(raw.Close)
	return c, newPlace(quick(kafkabus.Options{Brokers: c.ListenAddrs(), Expected: expected}), raw)
}

func TestTheBusFillsThePortOnAFakeKafka(t *testing.T) {
	_, p := fake(t)
	bustest.Run(t, func(testing.TB) *bustest.Server { return p.server() }, bustest.Losing, bustest.Growing, bustest.Cutting)
}
