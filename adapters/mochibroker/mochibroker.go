// Package mochibroker is an MQTT broker for those who have none, on mochi: gateways publish to it with their source's key, and a
// message is acknowledged once it is durable. It decides nothing: app/enter's gate of brokers does, and app/ingest takes the
// messages as it takes those of HTTP. Nothing that a client says is handed to another client.
package mochibroker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/ports/trace"
)

// Options are what a broker stands on.
type Options struct {
	Gate    *enter.Broker
	Ingest  *ingest.Ingest
	Limiter limit.Limiter
	Mint    ident.Mint  // ids of connections, for the log
	TLS     *tls.Config // nil: none
	Node    string      // which of our processes
	Log     *slog.Logger
	Count   func(series string, n int64) // adds to a counter; nil: nothing is counted
	Tracer  trace.Tracer                 // nil: nobody is told of traces

	Sessions  int // that are kept at the same time, those of absent clients among them; 2,000 if 0
	PerSource int // of them, of one source; 20 if 0

	Connects limit.Rate // of one source; 5 a second and 100 at once if zero
}

// Bounds of all connections.
const (
	maxKeepAlive     = 600 // seconds; a client that names more, or none, is held to it
	maxSessionExpiry = 3600
	maxInflight      = 64
	maxSubscriptions = 32 // a client
	maxPending       = 64 // messages for one client
	questionTime     = 10 * time.Second
	patience         = 3 * time.Second        // for a message that comes too fast
	askAgain         = 500 * time.Millisecond // whether those who are connected still may be
)

// Broker is one. Use New, then Serve; Shutdown ends both.
type Broker struct {
	o      Options
	server *mqtt.Server
	base   context.Context //nolint:containedctx // of everything that clients ask
	cancel context.CancelFunc
	large  chan struct{}
	wg     sync.WaitGroup // connections
	asking sync.WaitGroup
	done   chan struct{}

	mu       sync.Mutex
	open     map[*conn]bool
	stopping bool
	listener net.Listener
}

// New returns a broker that listens nowhere yet.
func New(o Options) (*Broker, error) {
	if o.Sessions == 0 {
		o.Sessions = 2_000
	}
	if o.PerSource == 0 {
		o.PerSource = 20
	}
	if o.Connects == (limit.Rate{}) {
		o.Connects = limit.PerSecond(5, 100)
	}
	if o.Count == nil {
		o.Count = func(string, int64) {}
	}
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClientWritesPending, caps.MaximumSessionExpiryInterval, caps.MaximumPacketSize = maxPending, maxSessionExpiry, maxPublish+1
	caps.ReceiveMaximum, caps.MaximumInflight, caps.TopicAliasMaximum = maxInflight, maxInflight, 0
	caps.SharedSubAvailable, caps.RetainAvailable, caps.SubIDAvailable, caps.MinimumProtocolVersion = 0, 0, 1, 4
	caps.Compatibilities.NoInheritedPropertiesOnAck = true
	// What mochi logs are whole packets, passwords among them: the hook logs instead.
	b := &Broker{o: o, server: mqtt.New(&mqtt.Options{Capabilities: caps, Logger: slog.New(slog.DiscardHandler), SysTopicResendInterval: 3600}),
		large: make(chan struct{}, largeSlots), done: make(chan struct{}), open: map[*conn]bool{}}
	b.base, b.cancel = context.WithCancel(context.Background())
	return b, b.server.AddHook(&hook{broker: b}, nil)
}

// Serve takes connections from a listener, which bounds how many there are, until Shutdown. It answers nil then.
func (b *Broker) Serve(l net.Listener) error {
	if b.o.TLS != nil {
		l = tls.NewListener(l, b.o.TLS)
	}
	b.mu.Lock()
	if b.stopping {
		b.mu.Unlock()
		return l.Close()
	}
	b.listener = l
	b.asking.Go(b.ask) // under mu, so that Shutdown waits for it
	b.mu.Unlock()
	in := &entrance{broker: b, listener: l, ended: make(chan error, 1)}
	if err := b.server.AddListener(in); err != nil {
		return err
	}
	if err := b.server.Serve(); err != nil {
		return err
	}
	err := <-in.ended
	b.mu.Lock()
	stopping := b.stopping
	b.mu.Unlock()
	if !stopping {
		return fmt.Errorf("mochibroker: %w", err)
	}
	<-b.done
	return nil
}

// Shutdown takes no more connections and reads no more packets, lets what was read become durable and be acknowledged, and ends
// the connections. What is not over when the context is, is cut off without an acknowledgement.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	if b.stopping {
		b.mu.Unlock()
		<-b.done
		return nil
	}
	b.stopping = true
	l := b.listener
	var open []*conn
	for c := range b.open {
		open = append(open, c)
	}
	b.mu.Unlock()
	var err error
	if l != nil {
		err = l.Close()
	}
	for _, c := range open {
		c.stop()
	}
	over := make(chan struct{})
	go func() { b.wg.Wait(); close(over) }()
	select {
	case <-over:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	b.cancel()
	if l != nil {
		err = errors.Join(err, ignoreClosed(b.server.Close()))
	}
	b.asking.Wait()
	close(b.done)
	return ignoreClosed(err)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Counts are what is now.
func (b *Broker) Counts() map[string]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return map[string]int64{"ringfence_mqtt_connections": int64(len(b.open)), "ringfence_mqtt_sessions": int64(b.server.Clients.Len())}
}

func (b *Broker) add(series string) { b.o.Count(series, 1) }

// ask looks again and again whether those who are connected may still be: a revoked key ends its connections within a second,
// silent ones too.
func (b *Broker) ask() {
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		select {
		case <-b.base.Done():
			return
		case <-tick.C:
		}
		b.mu.Lock()
		open := make([]*conn, 0, len(b.open))
		for c := range b.open {
			open = append(open, c)
		}
		b.mu.Unlock()
		for _, c := range open {
			s := c.who()
			if s == nil {
				continue
			}
			ctx, cancel := b.under()
			err := b.o.Gate.Still(ctx, s.Publisher)
			cancel()
			if fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Denied) {
				b.end(c.client, c, err, "revoked")
			}
		}
	}
}

// enter counts a connection in.
func (b *Broker) enter(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopping {
		return false
	}
	b.open[c] = true
	b.wg.Add(1)
	return true
}

// left counts it out.
func (b *Broker) left(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, c)
}

// room reports whether a source may have one more session, or takes over one of its own, and gives it to the connection.
func (b *Broker) room(c *conn, s *session) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	own := map[string]bool{}
	all := b.server.Clients.GetAll()
	for id := range all {
		if strings.HasPrefix(id, s.Source.String()) {
			own[id] = true
		}
	}
	for other := range b.open {
		if o := other.who(); o != nil && o.Source == s.Source {
			own[o.Client] = true
		}
	}
	if !own[s.Client] && (len(own) >= b.o.PerSource || len(all) >= b.o.Sessions) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	return true
}

// entrance is the listener as mochi wants it.
type entrance struct {
	broker   *Broker
	listener net.Listener
	ended    chan error
}

var _ listeners.Listener = (*entrance)(nil)

// Init does nothing: it listens already.
func (*entrance) Init(*slog.Logger) error { return nil }

// ID is the one listener's.
func (*entrance) ID() string { return "mqtt" }

// Address is where it listens.
func (e *entrance) Address() string { return e.listener.Addr().String() }

// Protocol is its network.
func (e *entrance) Protocol() string { return e.listener.Addr().Network() }

// Close ends whoever is left: Shutdown has closed the listener and let the others finish.
func (e *entrance) Close(closeClients listeners.CloseFn) { closeClients(e.ID()) }

// Serve gives each connection to mochi. What one of them makes mochi do is its own end, and nobody else's.
func (e *entrance) Serve(establish listeners.EstablishFn) {
	for {
		raw, err := e.listener.Accept()
		if err != nil {
			e.ended <- err
			return
		}
		c := newConn(raw, e.broker)
		if !e.broker.enter(c) {
			_ = raw.Close()
			continue
		}
		go func() {
			defer e.broker.wg.Done()
			defer func() {
				if p := recover(); p != nil {
					e.broker.o.Log.Error("a connection made the broker fail and was ended", slog.String("kind", fmt.Sprintf("%T", p)))
					e.broker.add(`ringfence_mqtt_disconnects_total{why="failed"}`)
				}
				_ = c.Close()
				if c.slot { // this is the goroutine that reads
					c.giveBack()
				}
			}()
			_ = establish(e.ID(), c)
		}()
	}
}
