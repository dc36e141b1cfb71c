// Package kafkabus fills ports/bus with Apache Kafka (3.1 and newer) by kafka-go, and makes Ringfence's topics and the rights on
// them. It knows nothing of what records say.
//
// Of kafka-go it takes the wire: one request, one answer. The order of records, the life of a group and what is lost are its own
// business, since kafka-go's Writer lets a later batch become durable before an earlier one that failed, and its Reader goes on
// silently after a hole, makes topics where a broker lets it, and does not say which partitions it has.
package kafkabus

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/bus"
)

// Options of a bus. Brokers alone is enough; what is zero is as the comment says.
type Options struct {
	Brokers  []string // host:port; any of them tells of the others
	ClientID string   // what the brokers' logs call us; "ringfence"

	// TLS is nil for connections in plain text. Certificates of our own make it mutual.
	TLS *tls.Config
	// RequireTLS refuses connections in plain text to anything but this machine, brokers that another one names included.
	RequireTLS bool
	// User and Password are those of SCRAM-SHA-512; without a user there is no authentication by name.
	User     string
	Password secret.Text
	// Dial makes connections; nil is a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Expected is the topic where Apply keeps what each topic of ours is (Plan). Without it a topic that is made anew is known
	// only to those who read at the time.
	Expected string

	InFlight  int           // bytes that Publish has under way; 32 MiB
	Session   time.Duration // after which a silent member is taken for dead; 6 s
	Rebalance time.Duration // within which members come back when a group changes; 2 s
	Heartbeat time.Duration // 1 s
	Backoff   time.Duration // after a failed try to join; 300 ms
	Watch     time.Duration // between two looks at whether topics are what is expected; 2 s
	Stuck     time.Duration // without progress, while there are records, after which a member begins anew; 15 s
	Metadata  time.Duration // after which leaders are asked for again; 2 s
}

const (
	wait     = 3 * time.Second // for an answer
	dialWait = 2 * time.Second
	pollWait = 250 * time.Millisecond // for records
	maxBatch = 1000                   // records sent at once
	maxBytes = 1 << 20                // bytes sent at once, or one record
	maxReady = 1000                   // records read ahead of a partition
	maxAhead = 512 << 10              // bytes read ahead of a partition, or one record
	maxPoll  = 128 << 10              // bytes of an answer, or one batch: kafka-go reads each batch in it into 64 KiB of its own, and most hold a few records
	refresh  = 2 * time.Second        // after which the number of partitions is asked for again
	commits  = time.Second            // for a commit, which is never tried again: the next one covers it
	tries    = 5
)

func (o Options) filled() Options {
	either := func(d *time.Duration, or time.Duration) {
		if *d <= 0 {
			*d = or
		}
	}
	either(&o.Session, 6*time.Second)
	either(&o.Rebalance, 2*time.Second)
	either(&o.Heartbeat, time.Second)
	either(&o.Backoff, 300*time.Millisecond)
	either(&o.Watch, 2*time.Second)
	either(&o.Stuck, 15*time.Second)
	either(&o.Metadata, 2*time.Second)
	if o.InFlight <= 0 {
		o.InFlight = 32 << 20
	}
	if o.ClientID == "" {
		o.ClientID = "ringfence"
	}
	return o
}

// Bus is the adapter.
type Bus struct {
	o       Options
	dialer  *dialer
	asker   *wire
	addr    net.Addr
	room    *room
	context context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	client  *kafka.Client
	lanes   map[place]*lane
	sizes   map[string]sized
	members []*member

	counts counts
}

var _ bus.Bus = (*Bus)(nil)

// place is a partition of a topic.
type place struct {
	topic string
	part  int
}

type counts struct {
	published, retried, refused, fetched, committed, uncommitted, rebuilt, joined, lost atomic.Int64
}

// Open returns a bus. It asks nobody yet: Check does.
func Open(o Options) (*Bus, error) {
	o = o.filled()
	if len(o.Brokers) == 0 || slices.Contains(o.Brokers, "") {
		return nil, fault.New(fault.Invalid, "kafka_brokers", "No Kafka broker is named. Name at least one, as host:port.")
	}
	if o.User != "" && o.Password.IsZero() {
		return nil, fault.New(fault.Invalid, "kafka_password", "The Kafka user has no password. Give it, or leave the user out.")
	}
	d := &dialer{o: o, open: map[*conn]bool{}}
	if o.User != "" {
		mechanism, err := scram.Mechanism(scram.SHA512, o.User, o.Password.Reveal())
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "kafka_password", "The Kafka user or its password has characters that SCRAM has no place for. Choose others.")
		}
		d.sasl = mechanism
	}
	b := &Bus{o: o, dialer: d, asker: newWire(d), addr: kafka.TCP(o.Brokers...), room: newRoom(o.InFlight), lanes: map[place]*lane{}, sizes: map[string]sized{}}
	b.context, b.cancel = context.WithCancel(context.Background())
	b.renew()
	return b, nil
}

// renew begins with connections of its own: what was stuck in the old ones is left behind.
func (b *Bus) renew() {
	t := &kafka.Transport{
		Dial: b.dialer.dial, DialTimeout: dialWait, IdleTimeout: 30 * time.Second, MetadataTTL: b.o.Metadata,
		ClientID: b.o.ClientID, SASL: b.dialer.sasl, Context: b.context, // TLS is the dialer's
	}
	b.mu.Lock()
	old := b.client
	b.client = &kafka.Client{Addr: b.addr, Timeout: 30 * time.Second, Transport: t}
	b.mu.Unlock()
	if old != nil {
		old.Transport.(*kafka.Transport).CloseIdleConnections()
	}
}

// kafka is the client of the moment.
func (b *Bus) kafka() *kafka.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.client
}

func (b *Bus) ended() bool { return b.context.Err() != nil }

// Close ends everything. What waits to be sent fails; who wants it sent waits for Publish first.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	members := slices.Clone(b.members)
	b.mu.Unlock()
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() { _ = m.Close() })
	}
	wg.Wait()
	b.cancel()
	b.work.Wait()
	b.asker.close()
	b.kafka().Transport.(*kafka.Transport).CloseIdleConnections()
	b.dialer.close()
	return nil
}

// Check asks a broker for the topics named: nil if the bus is reached and each of them may be seen.
func (b *Bus) Check(ctx context.Context, topics ...string) error {
	if b.ended() {
		return bus.ErrClosed
	}
	seen, err := b.describe(ctx, topics)
	for _, name := range topics {
		if err == nil {
			err = seen[name].err()
		}
	}
	return err
}

// Watch answers counters for httpapi's metrics. Their number does not grow.
func (b *Bus) Watch() map[string]int64 {
	c := &b.counts
	return map[string]int64{
		"ringfence_bus_published_total":        c.published.Load(),
		"ringfence_bus_publish_retries_total":  c.retried.Load(),
		"ringfence_bus_publish_failures_total": c.refused.Load(),
		"ringfence_bus_fetched_total":          c.fetched.Load(),
		"ringfence_bus_commits_total":          c.committed.Load(),
		"ringfence_bus_commit_failures_total":  c.uncommitted.Load(),
		"ringfence_bus_generations_total":      c.joined.Load(),
		"ringfence_bus_stuck_total":            c.rebuilt.Load(),
		"ringfence_bus_lost_total":             c.lost.Load(),
		"ringfence_bus_in_flight_bytes":        int64(b.room.used()),
	}
}

// dialer makes every connection, so that TLS and who we are are set in one place.
type dialer struct {
	o    Options
	sasl sasl.Mechanism

	mu    sync.Mutex
	open  map[*conn]bool
	ended bool
}

// conn is one that the dialer can end: kafka-go's own outlive their transport for as long as an answer may take.
type conn struct {
	net.Conn
	d        *dialer
	answered atomic.Bool
}

const tlsAlert = 0x15 // as the first byte of an answer; Kafka's begin with their size, which would be 350 MB

// Read tells of a broker that wants TLS, or another certificate: by TLS 1.3 it says so after the handshake.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.answered.Swap(true) && c.d.o.TLS == nil && b[0] == tlsAlert {
		return 0, errSpeaksTLS
	}
	if alerted(err) {
		err = handshaken(err)
	}
	return n, err
}

// Close closes the connection.
func (c *conn) Close() error {
	c.d.mu.Lock()
	delete(c.d.open, c)
	c.d.mu.Unlock()
	return c.Conn.Close()
}

// close ends all connections, and those that are just made.
func (d *dialer) close() {
	d.mu.Lock()
	d.ended = true
	open := slices.Collect(maps.Keys(d.open))
	d.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	secured, err := d.secured(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: secured, d: d}
	d.mu.Lock()
	ended := d.ended
	if !ended {
		d.open[c] = true
	}
	d.mu.Unlock()
	if ended {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

func (d *dialer) secured(ctx context.Context, network, address string) (net.Conn, error) {
	raw := d.o.Dial
	if raw == nil {
		raw = (&net.Dialer{Timeout: dialWait, KeepAlive: 15 * time.Second}).DialContext
	}
	conn, err := raw(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if d.o.TLS == nil {
		if d.o.RequireTLS && !loopback(conn.RemoteAddr()) {
			_ = conn.Close()
			return nil, errPlain
		}
		return conn, nil
	}
	config := d.o.TLS.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, handshaken(err)
	}
	return secured, nil
}

func loopback(a net.Addr) bool {
	host, _, err := net.SplitHostPort(a.String())
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// Loopback reports whether each broker named is this machine by its address, where plain text harms nobody.
func Loopback(brokers []string) bool {
	return !slices.ContainsFunc(brokers, func(b string) bool {
		host, _, err := net.SplitHostPort(b)
		ip := net.ParseIP(strings.Trim(host, "[]"))
		return err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback())
	})
}
