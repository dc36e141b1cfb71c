package mqttlink_test

import (
	"bytes"
	"encoding/binary"
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
