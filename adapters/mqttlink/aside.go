package mqttlink

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/ringfence/ringfence/core/fault"
)

// aside is what could not be made durable when Take was asked, and what came behind it by the same topics: it waits while others go
// on, and is asked for again in its order. It is in flight all the while and bounded by that: where it is all that there may be, nothing
// more is read. The worker's alone.
type aside struct {
	items  []item
	topics map[string]int // how many of each are among them
	again  time.Time      // when they are asked for
	wait   time.Duration  // before that
	held   []item         // what our own defect kept from being durable too often: it keeps nothing waiting, and is asked for now and then
	anew   time.Time      // when that is
}

// wakes is when something of it is to be asked for; nil: there is nothing.
func (a *aside) wakes() (<-chan time.Time, func() bool) {
	at := a.again
	switch {
	case len(a.items)+len(a.held) == 0:
		return nil, func() bool { return true }
	case len(a.items) == 0, len(a.held) > 0 && a.anew.Before(at):
		at = a.anew
	}
	t := time.NewTimer(time.Until(at))
	return t.C, t.Stop
}

// due takes out what is to be asked for now.
func (a *aside) due() []item {
	if len(a.items) == 0 || time.Now().Before(a.again) {
		return nil
	}
	n := min(len(a.items), batchMost)
	out := slices.Clone(a.items[:n])
	a.items = slices.Delete(a.items, 0, n)
	for _, it := range out {
		if a.topics[it.pub.Topic]--; a.topics[it.pub.Topic] == 0 {
			delete(a.topics, it.pub.Topic)
		}
	}
	return out
}

// behind puts those of a batch aside of whose topic something waits, and answers the others.
func (a *aside) behind(batch []item) []item {
	if len(a.items) == 0 {
		return batch
	}
	others := batch[:0]
	for _, it := range batch {
		if a.topics[it.pub.Topic] > 0 {
			a.put(len(a.items), it)
		} else {
			others = append(others, it)
		}
	}
	return others
}

func (a *aside) put(at int, its ...item) {
	if a.topics == nil {
		a.topics = map[string]int{}
	}
	a.items = slices.Insert(a.items, at, its...)
	for _, it := range its {
		a.topics[it.pub.Topic]++
	}
}

// back puts what was asked for in vain behind all else, with what stands behind it by its topic: so each topic has its turn, however
// many wait.
func (a *aside) back(late []item) {
	topics := map[string]bool{}
	for _, it := range late {
		topics[it.pub.Topic] = true
	}
	var others, behind []item
	for _, it := range a.items {
		if topics[it.pub.Topic] {
			behind = append(behind, it)
		} else {
			others = append(others, it)
		}
	}
	a.items = others
	a.put(len(a.items), late...)
	a.items = append(a.items, behind...)
}

// deliver gives messages to Take, behind what waits aside if that is due. What does not become durable waits.
func (l *line) deliver(batch []item) {
	a := &l.aside
	if l.o.tuning.ackFirst {
		l.acknowledge(batch)
	}
	a.held = l.current(a.held)
	defer l.anew()
	first := len(a.items) == 0
	again := l.current(a.due())
	batch = l.current(a.behind(batch))
	l.waiting.Store(int64(len(again) + len(a.items)))
	asked := slices.Concat(again, batch)
	if len(asked) == 0 {
		return
	}
	var done, late, fresh []item
	var why error
	taken := int64(0)
	for i, err := range l.answers(asked) {
		it := asked[i]
		switch {
		case err == nil:
			if done = append(done, it); !it.heard {
				taken++
			}
			continue
		case !fault.Is(err, fault.Unavailable) && it.tries+1 >= triesMost:
			l.hold(it, err)
			continue
		case !fault.Is(err, fault.Unavailable):
			it.tries++
		}
		if why = err; !errors.Is(err, errBehind) {
			it.before = err
		}
		if i < len(again) {
			late = append(late, it)
		} else {
			fresh = append(fresh, it)
		}
	}
	l.counts.taken.Add(taken)
	l.counts.retries.Add(int64(len(late) + len(fresh)))
	a.back(late)
	a.put(len(a.items), fresh...)
	l.waiting.Store(int64(len(a.items)))
	l.finish(done)
	switch {
	case len(again) == 0 && !first: // those that wait are asked for when it was said
		return
	case len(again) > 0 && len(late)+len(fresh) == 0:
		a.wait = 0
	case first, len(late) < len(again):
		a.wait = l.o.tuning.retry
	default:
		a.wait = min(2*max(a.wait, l.o.tuning.retry), retryMost)
	}
	a.again = time.Now().Add(a.wait)
	if a.wait >= retryMost/2 { // it lasts
		l.o.Log.WarnContext(l.living, "messages cannot be made durable, and are tried again", slog.String("connection", l.c.Name), slog.Int("messages", len(a.items)), slog.String("cause", fault.Cause(why)), slog.Duration("again", a.wait))
	}
}

// hold gives up a message that Take has answered with a defect of ours each time: those behind it go on. It is not acknowledged, so
// that whoever mended the defect has lost nothing.
func (l *line) hold(it item, err error) {
	l.o.Log.ErrorContext(l.living, "an MQTT message is held, and keeps its place of what may be in flight: a defect of ours keeps it from being durable", slog.String("connection", l.c.Name), slog.String("cause", fault.Cause(err)))
	if it.pub.QoS == 0 {
		l.forget(it)
		return
	}
	a := &l.aside
	if len(a.held) == 0 {
		a.anew = time.Now().Add(l.o.tuning.anew)
	}
	a.held = append(a.held, it)
}

// anew asks once in a while for what is held, in turns: its defect may be over, and nothing else may bring another connection, or the
// broker may have lost the session.
func (l *line) anew() {
	a := &l.aside
	if n := min(len(a.held), batchMost); n > 0 && !time.Now().Before(a.anew) {
		asked := slices.Clone(a.held[:n])
		a.held = slices.Delete(a.held, 0, n)
		var done []item
		for i, err := range l.answers(asked) {
			if err == nil {
				done = append(done, asked[i])
			} else {
				a.held = append(a.held, asked[i])
			}
		}
		l.counts.taken.Add(int64(len(done)))
		l.finish(done)
		a.anew = time.Now().Add(l.o.tuning.anew)
	}
	bytes := 0
	for _, it := range a.held {
		bytes += it.piece.held
	}
	l.held.Store(int64(len(a.held)))
	l.clogged.Store(2*len(a.held) >= min(l.c.MaxInFlight, l.c.ReceiveMaximum) || 2*bytes >= l.c.MaxInFlightBytes)
}

// abandon lets go of what waits when the line ends: the broker has it still.
func (l *line) abandon() {
	for _, it := range slices.Concat(l.aside.items, l.aside.held) {
		l.forget(it)
	}
}
