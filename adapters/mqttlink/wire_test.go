package mqttlink

import (
	"bytes"
	"net"
	"testing"
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

// Acknowledgements of many messages leave as one write, between what else is written, in whatever order they are given.
func TestAcknowledgementsLeaveTogether(t *testing.T) {
	each := make(chan []byte, 16)
	w := newWire(writes{each: each}, 1<<20, newBudget(100, 1<<20), time.Now())
	next := func(what string, want ...byte) {
		t.Helper()
		select {
		case got := <-each:
			if !bytes.Equal(got, want) {
				t.Errorf("%s: % x", what, got)
			}
		default:
			t.Errorf("%s: nothing was written", what)
		}
	}
	if !w.acknowledge([]uint16{3, 1, 0x102}) {
		t.Error("not told")
	}
	next("three", 0x40, 2, 0, 3, 0x40, 2, 0, 1, 0x40, 2, 1, 2)
	w.Lock()
	_, _ = w.Write([]byte{0xc0})
	_, _ = w.Write([]byte{0})
	w.Unlock()
	next("a packet of two writes", 0xc0, 0)
	if w.acknowledge(nil) || len(each) > 0 {
		t.Error("nothing was told")
	}
	w.once.Do(func() { close(w.gone) })
	if w.acknowledge([]uint16{4}) || len(each) > 0 {
		t.Error("told over a connection that is lost")
	}
}
