package mqttlink

import (
	"bytes"
	"context"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
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

// Anew has what is held asked for so often.
func (o Options) Anew(every time.Duration) Options { o.tuning.anew = every; return o }

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

// Flushed waits until the brokers have read all that was acknowledged.
func (ls *Links) Flushed() bool {
	for _, l := range ls.lines {
		w := l.wire.Load()
		if w == nil || !w.told(context.Background()) {
			return false
		}
	}
	return true
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

// fixed is a network connection that brings some bytes and ends.
type fixed struct {
	net.Conn
	*bytes.Reader
}

func (f fixed) Read(p []byte) (int, error) { return f.Reader.Read(p) }
func (fixed) Close() error                 { return nil }

// ReadPackets has paho read all that a broker sent, through a wire: how many packets it got, and how long the longest was that
// the wire handed over.
func ReadPackets(sent []byte) (n, longest int) {
	w := newWire(fixed{Reader: bytes.NewReader(sent)}, 512<<10, newBudget(1<<30, 1<<62), time.Now())
	for {
		if _, err := packets.ReadPacket(w); err != nil {
			return n, longest
		}
		n++
		longest = max(longest, len(w.buf))
	}
}
