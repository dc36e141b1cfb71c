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
	client *paho.Client
	pub    *paho.Publish
	piece  piece
	at     time.Time
}

// work takes batch after batch.
func (l *line) work() {
	defer close(l.working)
	for moments := 1; ; {
		batch := l.gather(moments)
		if batch == nil {
			return
		}
		l.deliver(batch)
		if moments = 1; len(batch) >= crowd { // a few milliseconds are less than so many small batches cost all behind
			moments = crowdedFor
		}
	}
}

// gather waits for a message, and a moment for more, or several while more come. Nil: there will be none.
func (l *line) gather(moments int) []item {
	var batch []item
	var idle <-chan time.Time
	for begun := l.role.begun; batch == nil; {
		select {
		case it := <-l.queue:
			batch = append(make([]item, 0, max(16, min(len(l.queue)+1, batchMost))), it)
		case <-l.stopping:
			return nil
		case <-begun:
			begun = nil
			t := time.NewTimer(l.role.idle)
			defer t.Stop()
			idle = t.C
		case <-idle:
			return nil
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
				return batch
			}
			last = len(batch)
			t.Reset(l.o.tuning.gather)
		case <-l.stopping:
			return batch
		}
	}
	return batch
}

// deliver gives a batch to Take until all of it is durable, or the broker will send it again, or the line ends.
func (l *line) deliver(batch []item) {
	if l.o.tuning.ackFirst {
		for _, it := range batch {
			l.acknowledge(it)
		}
	}
	for wait := l.o.tuning.retry; ; wait = min(2*wait, retryMost) {
		if batch = l.current(batch); len(batch) == 0 {
			return
		}
		ms := make([]Message, len(batch))
		for i, it := range batch {
			ms[i] = l.message(it)
		}
		errs := l.take(ms)
		left, before, why := batch[:0], len(batch), error(nil)
		for i, it := range batch {
			if errs[i] == nil {
				l.finish(it)
				l.counts.taken.Add(1)
			} else {
				left, why = append(left, it), errs[i]
			}
		}
		if batch = left; len(batch) == 0 {
			return
		}
		l.counts.retries.Add(int64(len(batch)))
		if len(batch) < before {
			wait = l.o.tuning.retry
		}
		if wait >= retryMost/2 { // it lasts
			l.o.Log.WarnContext(l.living, "messages cannot be made durable, and are tried again", slog.String("connection", l.c.Name), slog.Int("messages", len(batch)), slog.String("cause", fault.Cause(why)), slog.Duration("again", wait))
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-l.stopping:
			t.Stop()
			for _, it := range batch {
				l.forget(it)
			}
			return
		}
	}
}

// take calls Take, whatever it does.
func (l *line) take(ms []Message) (errs []error) {
	defer func() {
		if p := recover(); p != nil {
			errs = l.defect(len(ms), fault.Panicked(p))
		}
	}()
	errs = l.o.Take(l.taking, ms)
	if len(errs) != len(ms) {
		return l.defect(len(ms), fault.Ours("Take did not answer one error a message"))
	}
	for _, err := range errs {
		if err != nil && !fault.Is(err, fault.Unavailable) {
			l.defect(1, err)
			break
		}
	}
	return errs
}

func (l *line) defect(n int, err error) []error {
	l.counts.defects.Add(1)
	l.o.Log.ErrorContext(l.taking, "MQTT messages could not be taken", slog.String("connection", l.c.Name), slog.String("cause", fault.Cause(err)))
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
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

// finish acknowledges a message that is durable.
func (l *line) finish(it item) {
	if !l.o.tuning.ackFirst {
		l.acknowledge(it)
	}
	l.forget(it)
}

func (l *line) acknowledge(it item) {
	if it.pub.QoS == 0 || it.wire.lost() {
		return
	}
	if it.client.Ack(it.pub) == nil {
		it.wire.mark()
		l.counts.acknowledged.Add(1)
	}
}

// forget lets go of a message: it is no longer in flight here.
func (l *line) forget(it item) { l.budget.give(it.piece.held) }

// message is what Take is told.
func (l *line) message(it item) Message {
	p := it.pub
	m := Message{
		Connection: l.c.Name, Topic: p.Topic, Payload: p.Payload, Size: len(p.Payload), Retained: p.Retain, Duplicate: p.Duplicate(),
		AtMostOnce: p.QoS == 0, ReceivedAt: it.at,
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
