package mqttlink

import (
	"crypto/sha256"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/trace"
)

// item is a message on its way.
type item struct {
	wire   *wire
	pub    *paho.Publish
	piece  piece
	at     time.Time
	tries  int   // that ended by a defect of ours
	before error // what Take last answered
	heard  bool  // a member's word, of which nothing is left to do: it is acknowledged in its turn
}

// work takes batch after batch.
func (l *line) work() {
	defer close(l.working)
	defer l.abandon()
	for moments := 1; ; {
		batch, on := l.gather(moments)
		if !on {
			return
		}
		l.deliver(batch)
		if moments = 1; len(batch) >= crowd { // a few milliseconds are less than so many small batches cost all behind
			moments = crowdedFor
		}
	}
}

// gather waits for a message, and a moment for more, or several while more come; none: what waits aside is to be asked for. False:
// there will be none.
func (l *line) gather(moments int) (batch []item, on bool) {
	var idle <-chan time.Time
	begun := l.role.begun
	wakes, stop := l.aside.wakes()
	defer stop()
	if len(l.aside.items) > 0 {
		begun = nil
	}
	for batch == nil {
		select {
		case <-wakes:
			return nil, true
		case it := <-l.queue:
			batch = append(make([]item, 0, max(16, min(len(l.queue)+1, batchMost))), it)
		case <-l.stopping:
			return nil, false
		case <-begun:
			begun = nil
			t := time.NewTimer(l.role.idle)
			defer t.Stop()
			idle = t.C
		case <-idle:
			return nil, false
		}
	}
	t := time.NewTimer(l.o.tuning.gather)
	defer t.Stop()
	for last := 0; len(batch) < min(batchMost, (l.c.MaxInFlight+1)/2, (l.c.ReceiveMaximum+1)/2); { // what follows comes while these are taken
		select {
		case it := <-l.queue:
			batch = append(batch, it)
		case <-t.C:
			if moments--; moments == 0 || len(batch) == last { // a broker may send no more before these are acknowledged
				return batch, true
			}
			last = len(batch)
			t.Reset(l.o.tuning.gather)
		case <-l.stopping:
			return batch, true
		}
	}
	return batch, true
}

// answers gives Take what is its.
func (l *line) answers(its []item) []error {
	errs := make([]error, len(its))
	ms, of := make([]Message, 0, len(its)), make([]int, 0, len(its))
	for i, it := range its {
		if !it.heard {
			ms, of = append(ms, l.message(it)), append(of, i)
		}
	}
	if len(ms) > 0 {
		for k, err := range l.take(ms) {
			errs[of[k]] = err
		}
	}
	return errs
}

var errBehind = fault.New(fault.Unavailable, "mqtt_behind", "The message waits for one before it.")

// take calls Take, whatever it does. Where that ends without an answer for each, the halves are asked for by themselves, so that one
// that is too much for us is no other's misfortune, but of those behind it by its topic.
func (l *line) take(ms []Message) []error {
	errs, err := l.try(ms)
	if err == nil {
		for _, err := range errs {
			if err != nil && !fault.Is(err, fault.Unavailable) {
				l.defect(err)
				break
			}
		}
		return errs
	}
	l.defect(err)
	if len(ms) == 1 {
		return []error{err}
	}
	half := len(ms) / 2
	errs = l.take(ms[:half])
	waits := map[string]bool{}
	for i, err := range errs {
		if err != nil {
			waits[ms[i].Topic] = true
		}
	}
	var others []Message
	for _, m := range ms[half:] {
		if !waits[m.Topic] {
			others = append(others, m)
		}
	}
	var answers []error
	if len(others) > 0 {
		answers = l.take(others)
	}
	for _, m := range ms[half:] {
		if waits[m.Topic] {
			errs = append(errs, errBehind)
		} else {
			errs, answers = append(errs, answers[0]), answers[1:]
		}
	}
	return errs
}

func (l *line) try(ms []Message) (errs []error, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Panicked(p)
		}
	}()
	if errs = l.o.Take(l.taking, ms); len(errs) != len(ms) {
		err = fault.Ours("Take did not answer one error a message")
	}
	return errs, err
}

func (l *line) defect(err error) {
	l.counts.defects.Add(1)
	l.o.Log.ErrorContext(l.taking, "MQTT messages could not be taken", slog.String("connection", l.c.Name), slog.String("cause", fault.Cause(err)))
}

// current is what of a batch is to be taken. When a connection is lost its acknowledgements are void, and a broker that has the
// session still sends again what it saw none for: taking it now would only double it. One that lost the session will not, so
// that what is here may be all that is left; which of the two it is the next connection tells.
func (l *line) current(batch []item) []item {
	left := batch[:0]
	for _, it := range batch {
		if it.pub.QoS > 0 && it.wire.lost() {
			select {
			case <-it.wire.decided:
			case <-l.stopping:
				l.forget(it)
				continue
			}
			if it.wire.kept {
				l.counts.discarded.Add(1)
				l.forget(it)
				continue
			}
		}
		left = append(left, it)
	}
	return left
}

// finish acknowledges messages that are durable.
func (l *line) finish(its []item) {
	if !l.o.tuning.ackFirst {
		l.acknowledge(its)
	}
	for _, it := range its {
		l.forget(it)
	}
}

// acknowledge tells the broker by the connections that brought them, each in one write.
func (l *line) acknowledge(its []item) {
	for len(its) > 0 {
		w, ids := its[0].wire, make([]uint16, 0, len(its))
		for len(its) > 0 && its[0].wire == w {
			if its[0].pub.QoS > 0 {
				ids = append(ids, its[0].pub.PacketID)
			}
			its = its[1:]
		}
		if w.acknowledge(ids) {
			l.counts.acknowledged.Add(int64(len(ids)))
		}
	}
}

// forget lets go of a message: it is no longer in flight here.
func (l *line) forget(it item) { l.budget.give(it.piece.held) }

// message is what Take is told.
func (l *line) message(it item) Message {
	p := it.pub
	m := Message{
		Connection: l.c.Name, Topic: p.Topic, Payload: p.Payload, Size: len(p.Payload), Retained: p.Retain, Duplicate: p.Duplicate(),
		AtMostOnce: p.QoS == 0, ReceivedAt: it.at, Before: it.before,
	}
	if p.Properties != nil {
		if len(p.Properties.ContentType) <= maxText && utf8.ValidString(p.Properties.ContentType) {
			m.ContentType = p.Properties.ContentType
		}
		m.Trace = sender(p.Properties.User)
	}
	if m.Fault = judge(m.Topic); m.Fault != nil && len(m.Topic) > uplink.MaxTopic {
		m.Topic = strings.Clone(m.Topic[:uplink.MaxTopic])
	}
	if it.piece.size > 0 {
		m.Size, m.Hash = it.piece.size, it.piece.hash
	} else if m.Size > uplink.MaxBody {
		m.Hash = sha256.Sum256(p.Payload)
	}
	if m.Size > uplink.MaxBody {
		m.Payload = append([]byte(nil), m.Payload[:min(len(m.Payload), uplink.MaxBody)]...)
		if m.Fault == nil {
			m.Fault = ErrTooLarge
		}
	}
	if m.Fault != nil {
		l.counts.faulty.Add(1)
	}
	return m
}

func sender(said paho.UserProperties) trace.Place {
	return trace.Sent(func(yield func(string, string) bool) {
		for i := 0; i < len(said) && yield(said[i].Key, said[i].Value); i++ {
		}
	})
}

// judge says what is wrong with a topic. A broker should have refused most of it; not all do.
func judge(topic string) error {
	switch {
	case topic == "":
		return ErrTopicEmpty
	case len(topic) > uplink.MaxTopic:
		return ErrTopicLong
	case !utf8.ValidString(topic) || strings.ContainsRune(topic, 0):
		return ErrTopicText
	case strings.ContainsAny(topic, "+#"):
		return ErrTopicWildcard
	case topic[0] == '/' || topic[len(topic)-1] == '/' || strings.Contains(topic, "//"):
		return ErrTopicLevel
	}
	return nil
}
