package mqttlink

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"

	"github.com/ringfence/ringfence/core/fault"
)

// line is one connection: it connects for ever, subscribes, and queues what comes for its worker.
type line struct {
	c    Connection
	o    Options
	id   string // client id
	role role

	budget  *budget
	aside   aside
	waiting atomic.Int64 // messages in it that are asked for again
	held    atomic.Int64 // and that a defect of ours holds
	clogged atomic.Bool  // they are half of what may be in flight
	queue   chan item    // as long as messages may be in flight, so that who fills it never waits
	wire    atomic.Pointer[wire]
	cm      atomic.Pointer[autopaho.ConnectionManager]
	members *roster
	counts  counts
	backoff autopaho.Backoff

	stopping chan struct{} // nothing more is taken
	once     sync.Once
	working  chan struct{}      // closed when the worker has ended
	taking   context.Context    // of Take
	giveUp   context.CancelFunc // ends Take
	living   context.Context    // of all else
	end      context.CancelFunc
	tasks    sync.WaitGroup
	aborted  atomic.Bool // by tests: end as a killed process does

	mu         sync.Mutex
	last       *wire // the last one that the broker accepted
	up         bool
	ever       bool // was up and subscribed
	subscribed bool
	upAt       time.Time
	troubled   time.Time // when it last ceased to work; a connection that ended at once was no work
	reason     string    // why it is down or not subscribed: what to do about it
	runs       int       // connections in a row that ended at once
	takenOver  time.Duration
	rival      time.Time // when another process last said that it is there by our client id
	alarmed    bool
}

// role is what makes a line that drains somebody's session another than a member's: it asks for no subscription, has no will
// and says nothing of itself, and ends when the connection does.
type role struct {
	adopts bool
	idle   time.Duration // the worker ends after nothing has come for so long
	begun  chan struct{} // closed when it counts that nothing comes
	on     chan bool     // told once, when the broker has accepted us: whether there was a session
	ends   atomic.Bool   // the session ends with the connection
}

func newLine(c Connection, o Options, id string, adopts bool) *line {
	l := &line{
		c: c, o: o, id: id, budget: newBudget(c.MaxInFlight, c.MaxInFlightBytes), queue: make(chan item, c.MaxInFlight),
		backoff:  autopaho.NewExponentialBackoff(100*time.Millisecond, 3*time.Second, 300*time.Millisecond, 1.6),
		stopping: make(chan struct{}), working: make(chan struct{}), troubled: o.Now(), reason: "The first connection is being made.",
	}
	l.role.adopts = adopts
	l.members = newRoster(l)
	return l
}

// open begins to connect. Only wrong settings are an error.
func (l *line) open(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	l.taking, l.giveUp = context.WithCancel(ctx)
	l.living, l.end = context.WithCancel(ctx)
	_, at := l.c.address()
	cfg := autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{{Scheme: "mqtt", Host: at}},
		KeepAlive:                     uint16(l.c.KeepAlive / time.Second),
		CleanStartOnInitialConnection: false,
		SessionExpiryInterval:         uint32(l.c.SessionExpiry / time.Second),
		ReconnectBackoff:              l.wait,
		ConnectTimeout:                connectFor,
		AttemptConnection:             func(ctx context.Context, _ autopaho.ClientConfig, _ *url.URL) (net.Conn, error) { return l.dial(ctx) },
		ConnectPacketBuilder:          l.connect,
		OnConnectionUp:                l.isUp,
		OnConnectionDown:              l.isDown,
		OnConnectError:                l.failed,
		DisconnectPacketBuilder: func() *paho.Disconnect {
			if l.aborted.Load() {
				return nil
			}
			return l.farewell()
		},
		ClientConfig: paho.ClientConfig{
			ClientID:          l.id,
			AuthHandler:       noAuth{},
			PingHandler:       pinger{l.c.KeepAlive},
			Session:           silent{state.NewInMemory()},
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){l.received},
			OnClientError:     l.dropped,
		},
	}
	cm, err := autopaho.NewConnection(l.living, cfg)
	if err != nil {
		return err
	}
	l.cm.Store(cm)
	go l.work()
	return nil
}

// silent is a session of paho's that acknowledges nothing: the wire does, when a message is durable.
type silent struct{ session.SessionManager }

func (silent) Ack(*packets.Publish) error { return nil }

// dial makes a network connection. Files are read anew, so that a renewed certificate counts.
func (l *line) dial(ctx context.Context) (net.Conn, error) {
	if w := l.wire.Load(); w != nil {
		w.settle()
	}
	ctx, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	cfg, err := l.c.tls()
	if err != nil {
		return nil, err
	}
	_, at := l.c.address()
	c, err := (&net.Dialer{KeepAlive: l.c.KeepAlive}).DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		secured := tls.Client(c, cfg)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, err
		}
		c = secured
	}
	w := newWire(c, l.c.MaxPacket, l.budget, l.o.Now())
	l.wire.Store(w)
	return w, nil
}

// connect completes the packet that asks for our session.
func (l *line) connect(p *paho.Connect, _ *url.URL) (*paho.Connect, error) {
	password, err := l.c.password()
	if err != nil {
		return nil, err
	}
	if l.c.Username != "" {
		p.UsernameFlag, p.Username = true, l.c.Username
		if !password.IsZero() {
			p.PasswordFlag, p.Password = true, []byte(password.Reveal())
		}
	}
	most := uint16(l.c.ReceiveMaximum)
	p.Properties.ReceiveMaximum = &most
	p.Properties.RequestProblemInfo = true
	if l.c.AskMaxPacket {
		size := uint32(l.c.MaxPacket)
		p.Properties.MaximumPacketSize = &size
	}
	p.CleanStart = l.o.tuning.forgets
	l.members.will(p)
	return p, nil
}

// wait is how long to stay away before an attempt.
func (l *line) wait(attempt int) time.Duration {
	if attempt > 0 {
		return l.backoff(attempt)
	}
	w := l.wire.Load()
	if w == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lived := l.o.Now().Sub(w.since)
	if w.code.Load() == packets.DisconnectSessionTakenOver || l.o.Now().Sub(l.rival) < takenMost {
		// Whoever has it now works, and would lose it to us and come back: with each turn we stay away longer.
		if l.takenOver == 0 || lived > 4*l.takenOver {
			l.takenOver = l.o.tuning.takenOver
		} else {
			l.takenOver = min(2*l.takenOver, takenMost)
		}
		return l.takenOver
	}
	l.runs++
	if lived > shortLived {
		l.runs = 0
	}
	if l.runs > endless { // a broker that says nothing of a second client, or a message that it cannot send us
		return min(l.o.tuning.takenOver<<min(l.runs-endless-1, 8), time.Minute)
	}
	return l.backoff(l.runs)
}

// rivalled is told that another process has our client id.
func (l *line) rivalled() {
	l.counts.takeovers.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rival = l.o.Now()
}

// isUp is called when the broker has accepted us; it must not wait.
func (l *line) isUp(cm *autopaho.ConnectionManager, ack *paho.Connack) {
	w := l.wire.Load()
	l.counts.connects.Add(1)
	l.cm.Store(cm)
	l.mu.Lock()
	if l.last != nil {
		l.last.kept = ack.SessionPresent
		close(l.last.decided)
	}
	l.last = w
	l.up, l.subscribed, l.upAt, l.reason = true, false, l.o.Now(), "It is connected, and not subscribed yet."
	l.mu.Unlock()
	if l.role.adopts {
		l.role.on <- ack.SessionPresent
		return
	}
	l.tasks.Go(func() { l.subscribe(cm, w) })
}

// subscribe asks for the messages, until it has them or the connection ends. A session has its subscriptions still, but the
// filters may be new ones, and asking again costs nothing.
func (l *line) subscribe(cm *autopaho.ConnectionManager, w *wire) {
	ctx, cancel := l.during(w)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := l.ask(ctx, cm)
		l.mu.Lock()
		if err == nil && l.last == w && l.up {
			l.subscribed, l.ever, l.reason = true, true, ""
		} else if err != nil && l.last == w && l.up {
			l.reason = explain(err)
		}
		l.mu.Unlock()
		if err == nil {
			l.counts.subscribes.Add(1)
			l.members.announce(ctx, w)
			return
		}
		l.counts.subscribeFailures.Add(1)
		l.o.Log.WarnContext(ctx, "MQTT subscription failed", slog.String("connection", l.c.Name), slog.String("cause", fault.Cause(err)))
		if !l.pause(l.backoff(attempt), w) {
			return
		}
	}
}

func (l *line) ask(ctx context.Context, cm *autopaho.ConnectionManager) error {
	s := &paho.Subscribe{}
	for _, f := range l.c.filters() {
		// What is retained comes once, when the session is new: not again at every connection.
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1, RetainHandling: 1, RetainAsPublished: true})
	}
	ack, err := cm.Subscribe(ctx, s)
	if ack == nil {
		return err
	}
	for _, code := range ack.Reasons {
		if code >= 0x80 {
			return refusal{"subscribe", code}
		}
		if code == 0 {
			return refusal{"subscribe", 0}
		}
	}
	return nil
}

// during is a context that ends with a connection.
func (l *line) during(w *wire) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(l.living)
	l.tasks.Go(func() {
		select {
		case <-w.gone:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}

// pause waits while the connection lasts.
func (l *line) pause(d time.Duration, w *wire) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.gone:
	case <-l.stopping:
	case <-l.living.Done():
	}
	return false
}

// isDown is called when a connection that was up has ended, all its messages handed over; true: go on.
func (l *line) isDown() bool {
	w := l.wire.Load()
	l.counts.disconnects.Add(1)
	if w.code.Load() == packets.DisconnectSessionTakenOver {
		l.counts.takeovers.Add(1)
	}
	l.mu.Lock()
	if now := l.o.Now(); l.subscribed && now.Sub(l.upAt) >= shortLived {
		l.troubled = now
	}
	l.up, l.subscribed = false, false
	if code := w.code.Load(); code >= 0 {
		l.reason = explain(refusal{"stay connected", byte(code)})
	} else {
		l.reason = "The connection was lost. Look whether the broker runs and can be reached."
	}
	l.mu.Unlock()
	l.o.Log.InfoContext(l.living, "MQTT connection was lost", slog.String("connection", l.c.Name), slog.Int("code", int(w.code.Load())))
	return !l.role.adopts
}

// dropped is told why a connection ended.
func (l *line) dropped(err error) {
	l.o.Log.InfoContext(l.living, "MQTT connection ended", slog.String("connection", l.c.Name), slog.String("cause", fault.Cause(err)))
}

// failed is told why there is no connection.
func (l *line) failed(err error) {
	l.counts.connectFailures.Add(1)
	l.mu.Lock()
	if !l.up {
		l.reason = explain(err)
	}
	l.mu.Unlock()
	l.o.Log.InfoContext(l.living, "MQTT connection failed", slog.String("connection", l.c.Name), slog.String("cause", fault.Cause(err)))
}

// received queues a message. paho calls it, for one message at a time.
func (l *line) received(r paho.PublishReceived) (bool, error) {
	w := l.wire.Load()
	p, _ := w.next()
	it := item{wire: w, pub: r.Packet, piece: p, at: l.o.Now()}
	it.heard = l.members.heard(it)
	select {
	case <-l.stopping:
		if it.heard { // nobody else will, and it would come again
			l.finish([]item{it})
		} else {
			l.forget(it)
		}
		return true, nil
	default:
	}
	if !it.heard {
		l.counts.received.Add(1)
		if r.Packet.Duplicate() {
			l.counts.redelivered.Add(1)
		}
	}
	select {
	case l.queue <- it:
	case <-w.gone: // only if our count of what is in flight were wrong
		l.forget(it)
	}
	return true, nil
}

// farewell ends a connection; the broker keeps the session, unless it is to end.
func (l *line) farewell() *paho.Disconnect {
	d := &paho.Disconnect{}
	if l.role.ends.Load() {
		d.Properties = &paho.DisconnectProperties{SessionExpiryInterval: new(uint32)}
	}
	return d
}

// close ends the line: Take first, then the acknowledgements, then the connection.
func (l *line) close(ctx context.Context) error {
	l.once.Do(func() { close(l.stopping) })
	err := l.rest(ctx)
	l.members.leave(ctx)
	l.mu.Lock()
	w, up := l.last, l.up
	l.mu.Unlock()
	if up {
		w.told(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	if cm := l.cm.Load(); cm != nil {
		_ = cm.Disconnect(bounded)
	}
	l.end()
	l.tasks.Wait()
	return err
}

// rest waits for Take.
func (l *line) rest(ctx context.Context) error {
	t := time.NewTimer(l.o.StopWithin)
	defer t.Stop()
	select {
	case <-l.working:
		l.giveUp()
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	l.giveUp()
	t.Reset(time.Second)
	select {
	case <-l.working:
	case <-t.C:
	}
	return fault.New(fault.Unavailable, "mqtt_stop", "What was taken over connection %s did not become durable in time. It was not acknowledged, and comes again.", l.c.Name)
}
