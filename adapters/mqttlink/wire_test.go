package mqttlink

import (
	"bytes"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// writes is a connection that tells what is written at once.
type writes struct {
	net.Conn
	each chan []byte
}

func (w writes) Write(p []byte) (int, error) {
	w.each <- bytes.Clone(p)
	return len(p), nil
}

func (writes) SetWriteDeadline(time.Time) error { return nil }

// Acknowledgements of many messages leave together, in their order and before what is written behind them, and none waits for one
// that does not come.
func TestAcknowledgementsLeaveTogetherAndNoneIsKeptBack(t *testing.T) {
	synctest.Test(t, acknowledgements)
}

func acknowledgements(t *testing.T) {
	each := make(chan []byte, 16)
	w := newWire(writes{each: each}, 1<<20, newBudget(100, 1<<20), time.Now())
	say := func(packet ...byte) {
		w.Lock()
		if _, err := w.Write(packet); err != nil {
			t.Fatal(err)
		}
		w.Unlock()
	}
	ack := func(n byte) []byte { return []byte{0x40, 2, 0, n} }
	next := func(what string, want ...[]byte) {
		t.Helper()
		select {
		case got := <-each:
			if !bytes.Equal(got, bytes.Join(want, nil)) {
				t.Errorf("%s: % x", what, got)
			}
		case <-time.After(time.Second):
			t.Errorf("%s: nothing was written", what)
		}
	}
	for range 3 {
		w.mark()
	}
	say(ack(1)...)
	say(ack(2)...)
	if len(each) != 0 || w.flushed() {
		t.Error("an acknowledgement left alone while others were to follow at once")
	}
	say(ack(3)...)
	next("three", ack(1), ack(2), ack(3))
	if !w.flushed() {
		t.Error("all have left, and it is not known")
	}
	w.mark()
	w.mark()
	say(ack(4)...)
	ping := []byte{0xc0, 0}
	say(ping...)
	next("with what came behind it", ack(4), ping)
	w.mark()
	say(ack(5)...)
	next("without the other one, which does not come", ack(5))
}
