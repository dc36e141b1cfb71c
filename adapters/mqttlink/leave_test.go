package mqttlink_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/mqttlink"
)

// A member that is told to stop while it still says that it is there has stopped: the last word is the one that the broker keeps.
func TestNobodyIsThereAgainWhoHasSaidThatItStops(t *testing.T) {
	var mu sync.Mutex
	var words []string
	var asked []byte
	r := speaks(t, accepted, func(int, io.Writer) {})
	r.own = func(kind byte, body []byte, w io.Writer) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case kind == 8 && bytes.Contains(body, []byte("rf/members/")): // answered while it says that it stops
			asked = body[:2]
			return true
		case kind == 3:
			topic := 2 + int(binary.BigEndian.Uint16(body))
			word, _, _ := strings.Cut(string(body[topic+3:]), " ")
			words = append(words, word)
			_, _ = w.Write(packet(0x90, asked, []byte{0, 1}))
			answer := packet(0x40, body[topic:topic+2])
			time.AfterFunc(200*time.Millisecond, func() { _, _ = w.Write(answer) })
			return true
		}
		return false
	}
	c := r.connection()
	c.Presence = true
	ls := open(t, options(newSink()), c)
	eventually(t, "who is there is asked", func() bool { mu.Lock(); defer mu.Unlock(); return asked != nil })
	if err := ls.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(words, []string{string(mqttlink.Stopped)}) {
		t.Errorf("it said %q", words)
	}
}

// What a broker sent is acknowledged in its order (MQTT-4.6.0-2), what members say of themselves with it.
func TestAMembersWordIsAcknowledgedInItsTurn(t *testing.T) {
	s := newSink()
	s.held(true)
	var once sync.Once
	r := speaks(t, accepted, func(_ int, w io.Writer) {
		once.Do(func() {
			_, _ = w.Write(message(1, "up/a", "one"))
			_, _ = w.Write(message(2, "rf/members/workers/w-site-7", "present"))
			_, _ = w.Write(message(3, "up/b", "three"))
		})
	})
	r.own = func(kind byte, body []byte, w io.Writer) bool {
		if kind == 3 { // it says that it is there
			topic := 2 + int(binary.BigEndian.Uint16(body))
			_, _ = w.Write(packet(0x40, body[topic:topic+2]))
		}
		return kind == 3
	}
	c := r.connection()
	c.Presence = true
	ls := open(t, options(s), c)
	eventually(t, "all are here", func() bool {
		return s.called() == 1 && count(ls, "received_total") == 2 && len(ls.Members("site")) == 1
	})
	eventually(t, "an answer came after whatever was acknowledged", ls.Flushed)
	if r.acked(2) {
		t.Error("the second is acknowledged before the first is durable")
	}
	s.held(false)
	eventually(t, "all are acknowledged", func() bool { return r.acked(1) && r.acked(2) && r.acked(3) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if fmt.Sprint(r.acks) != "[1 2 3]" || count(ls, "taken_total") != 2 || s.all() != 2 {
		t.Errorf("%v, %v", r.acks, ls.Counts())
	}
}
