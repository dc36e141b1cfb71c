package mqttlink

import (
	"context"
	"time"
)

// AckFirst plants a bug: messages are acknowledged before Take has answered.
func (o Options) AckFirst() Options { o.tuning.ackFirst = true; return o }

// Forgets plants a bug: every connection asks for a new session.
func (o Options) Forgets() Options { o.tuning.forgets = true; return o }

// Hasty shortens what tests would wait for.
func (o Options) Hasty() Options {
	o.tuning.willDelay, o.tuning.takenOver, o.tuning.retry = 1, 300*time.Millisecond, 10*time.Millisecond
	return o
}

// Crash ends all connections as the death of the process would: nothing is acknowledged any more and no farewell is said.
func (ls *Links) Crash() {
	for _, l := range ls.lines {
		l.aborted.Store(true)
		l.once.Do(func() { close(l.stopping) })
		l.giveUp()
		l.end()
		if w := l.wire.Load(); w != nil {
			_ = w.Close()
		}
	}
	_ = ls.Stop(context.Background())
}

// Cut ends the network connections alone.
func (ls *Links) Cut() {
	for _, l := range ls.lines {
		if w := l.wire.Load(); w != nil {
			_ = w.Close()
		}
	}
}

// Highest is how much was ever in flight at once, over all connections.
func (ls *Links) Highest() (messages, bytes int) {
	for _, l := range ls.lines {
		l.budget.mu.Lock()
		messages, bytes = messages+l.budget.highest, bytes+l.budget.highestOct
		l.budget.mu.Unlock()
	}
	return messages, bytes
}
