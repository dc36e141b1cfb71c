// Package mqttlink carries messages from MQTT 5 brokers to the application, over several connections at once, by paho.golang. It
// hands batches to a function and acknowledges what that function says is durable, and nothing before; it knows when a broker
// or another member of its group is away, and how to adopt what the broker keeps for a member that does not come back. What a
// message means, whose it is and whether it is a duplicate is not asked here: it looks at no payload.
package mqttlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/trace"
)

// Message is what a broker sent.
type Message struct {
	Connection  string      // the name of the connection that brought it
	Topic       string      // as sent; cut to uplink.MaxTopic if Fault says that it is longer
	Payload     []byte      // the receiver's own; cut to uplink.MaxBody if Fault says that it is longer
	Size        int         // of the payload as it was sent
	Hash        [32]byte    // SHA-256 of the payload as it was sent, if it was cut
	ContentType string      // as its publisher says
	Trace       trace.Place // where its publisher says that it stands in a trace, by exactly one user property traceparent
	Retained    bool        // its publisher asked the broker to keep it for later subscribers
	Duplicate   bool        // the broker sent it before and saw no acknowledgement; who was given it then, if anybody, it does not say
	AtMostOnce  bool        // nobody will send it again: it was published or delivered with QoS 0
	ReceivedAt  time.Time
	Before      error // what Take answered for it last; nil: it was not asked
	Fault       error // one of the errors below: it cannot be an uplink, and is handed over to be recorded as refused; nil: none was found
}

// Take makes messages durable. It answers one error a message, in their order: nil says that it is durable, or refused for
// good and recorded as such, and it is acknowledged then. One that fails waits aside with all that comes behind it by its topic, and
// is tried again, while others go on; so Take answers an error for what stands behind it in the call and must not overtake it, too. A
// fault of kind Unavailable is tried again for as long as it takes; any other error is logged and counted as a defect of ours, and a
// message that meets one again and again is held: it keeps nothing behind it waiting any more, and is tried now and then.
// There is one call at a time for each connection. The context ends when the link stops and will wait no longer.
type Take func(ctx context.Context, ms []Message) []error

// Reasons why a message cannot be an uplink.
var (
	ErrTopicEmpty    = fault.New(fault.Invalid, "topic_empty", "The message has no topic. Publish to one; topic aliases are for publishers, no broker needs them here.")
	ErrTopicLong     = fault.New(fault.Invalid, "topic_too_long", "The topic is too long. Publish to one of at most 1,024 bytes.")
	ErrTopicText     = fault.New(fault.Invalid, "topic_not_text", "The topic is no UTF-8, or has a NUL in it. Publish to one that is text.")
	ErrTopicLevel    = fault.New(fault.Invalid, "topic_empty_level", "The topic has an empty level. Publish to one without // and without / at either end.")
	ErrTopicWildcard = fault.New(fault.Invalid, "topic_wildcard", "The topic has a + or # in it. Publish to one topic, not to a filter.")
	ErrTooLarge      = fault.New(fault.Invalid, "too_large", "The message is larger than an uplink may be. Publish smaller ones.")
)

// Options are what all connections of a process have in common. Take, Log and Name are needed, the rest has defaults.
type Options struct {
	Take    Take
	Log     *slog.Logger
	Name    string // of the workers that share the connections: client ids are {Name}-{connection}-{Ordinal}, the same at every start
	Ordinal int    // of this worker, from 0; no two that run at once may have the same

	DownAlarm   time.Duration    // how long a connection may be down until it is an alarm; 30 s
	AbsentAlarm time.Duration    // how long another member may be absent until it is an alarm; 60 s
	StopWithin  time.Duration    // how long Stop waits for Take; 10 s
	Now         func() time.Time // our clock; time.Now

	tuning tuning
}

// tuning is what tests change.
type tuning struct {
	ackFirst      bool          // planted: acknowledges before Take has answered
	forgets       bool          // planted: asks for a new session at every connection
	willDelay     uint32        // seconds
	takenOver     time.Duration // how long to stay away at first after somebody took the session over
	gather, retry time.Duration
	anew          time.Duration // what is held is asked for again
}

// Bounds and times of a connection, for those that its own settings do not say.
const (
	batchMost    = 1_000
	gatherFor    = 5 * time.Millisecond
	crowd        = 16 // messages at once: the next batch is gathered for so many such moments
	crowdedFor   = 4
	connectFor   = 2 * time.Second
	writeFor     = 10 * time.Second
	retryFirst   = 100 * time.Millisecond
	retryMost    = 5 * time.Second
	anewEvery    = time.Minute
	triesMost    = 5 // of a message that a defect of ours keeps from being durable
	takenFirst   = 15 * time.Second
	takenMost    = 5 * time.Minute
	shortLived   = 10 * time.Second // a connection that ends sooner is followed by a longer wait
	endless      = 3                // so many of them in a row are an alarm
	alarmsEvery  = time.Second
	maxName      = 32
	maxOrdinal   = 9_999
	maxConnected = 64
)

// Links are the connections of a process. Use Open.
type Links struct {
	o     Options
	lines []*line
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// Open begins to connect, and goes on for ever: a broker that cannot be reached is an alarm and no error. What it answers is
// wrong with the connections themselves, all of it at once.
func Open(ctx context.Context, cs []Connection, o Options) (*Links, error) {
	o = o.defaults()
	if err := o.check(cs); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ls := &Links{o: o, stop: stop}
	for _, c := range cs {
		l := newLine(c.defaults(), o, o.clientID(c), false)
		if err := l.open(ctx); err != nil { // only what check has missed
			stop()
			return nil, errors.Join(err, ls.Stop(ctx))
		}
		ls.lines = append(ls.lines, l)
	}
	ls.done.Go(func() { ls.watch(ctx) })
	return ls, nil
}

func (o Options) defaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.DownAlarm, 30*time.Second)
	def(&o.AbsentAlarm, time.Minute)
	def(&o.StopWithin, 10*time.Second)
	def(&o.tuning.takenOver, takenFirst)
	if o.tuning.willDelay == 0 {
		o.tuning.willDelay = willDelay
	}
	def(&o.tuning.gather, gatherFor)
	def(&o.tuning.retry, retryFirst)
	def(&o.tuning.anew, anewEvery)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func (o Options) clientID(c Connection) string {
	return o.Name + "-" + c.Name + "-" + strconv.Itoa(o.Ordinal)
}

func (o Options) check(cs []Connection) error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if o.Take == nil || o.Log == nil {
		bad("mqttlink: Take and Log are needed")
	}
	if !isName(o.Name) {
		bad("the workers' name: %s", wantName)
	}
	if o.Ordinal < 0 || o.Ordinal > maxOrdinal {
		bad("the worker's ordinal: want 0 to %d", maxOrdinal)
	}
	if len(cs) == 0 || len(cs) > maxConnected {
		bad("%d connections: want 1 to %d", len(cs), maxConnected)
	}
	for i, c := range cs {
		if slices.ContainsFunc(cs[:i], func(other Connection) bool { return other.Name == c.Name }) {
			bad("two connections are named %q", c.Name)
		}
		for _, err := range c.Check() {
			bad("connection %q: %w", c.Name, err)
		}
		if err := c.files(); err != nil {
			bad("connection %q: %w", c.Name, err)
		}
	}
	return invalid(wrong)
}

func invalid(wrong []error) error {
	if len(wrong) == 0 {
		return nil
	}
	all := errors.Join(wrong...)
	return fault.Wrap(all, fault.Invalid, "bad_connections", "The MQTT connections cannot be used: %s", strings.ReplaceAll(all.Error(), "\n", "; "))
}

// Stop stops taking, waits for what Take is at, acknowledges it and disconnects; the brokers keep the sessions and all that
// was not acknowledged.
func (ls *Links) Stop(ctx context.Context) error {
	ls.stop()
	ls.done.Wait()
	errs := make([]error, len(ls.lines))
	var all sync.WaitGroup
	for i, l := range ls.lines {
		all.Go(func() { errs[i] = l.close(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Ready is nil if every connection is there and subscribed, or was until a moment ago. Its error says what to do.
func (ls *Links) Ready() error {
	var why []string
	for _, l := range ls.lines {
		if s := l.trouble(ls.o.Now()); s != "" {
			why = append(why, l.c.Name+": "+s)
		}
	}
	if len(why) == 0 {
		return nil
	}
	return fault.New(fault.Unavailable, "mqtt_unready", "%s", strings.Join(why, " "))
}

// Counts are series for metrics. Their number grows with the connections, which the operator configures.
func (ls *Links) Counts() map[string]int64 {
	out := map[string]int64{}
	for _, l := range ls.lines {
		l.count(out, ls.o.Now())
	}
	return out
}

// watch raises alarms and takes them back.
func (ls *Links) watch(ctx context.Context) {
	tick := time.NewTicker(alarmsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, l := range ls.lines {
				l.alarms(ctx, ls.o.Now())
			}
		}
	}
}
