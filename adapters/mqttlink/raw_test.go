package mqttlink_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/core/uplink"
)

// raw is a broker that says whatever a test wants: what no real one would send.
type raw struct {
	t    *testing.T
	l    net.Listener
	all  sync.WaitGroup
	mu   sync.Mutex
	acks []uint16
	cs   []net.Conn
	n    int

	grants func() byte                                           // the answer to a subscription; nil: QoS 1
	own    func(kind byte, body []byte, w io.Writer) (done bool) // what a test answers itself
}

// speaks starts one. say is called for each connection once the client has subscribed, with the connection's number from 1.
func speaks(t *testing.T, connack []byte, say func(n int, w io.Writer)) *raw {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, l: l}
	r.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.n++
			n := r.n
			r.cs = append(r.cs, c)
			r.mu.Unlock()
			r.all.Go(func() { defer c.Close(); r.serve(c, connack, n, say) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.mu.Lock()
		for _, c := range r.cs {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.all.Wait()
	})
	return r
}

func (r *raw) connection() mqttlink.Connection {
	return mqttlink.Connection{Name: "site", URL: "mqtt://" + r.l.Addr().String(), Filters: []string{"up/#"}, Group: "workers"}
}

func (r *raw) serve(c net.Conn, connack []byte, n int, say func(int, io.Writer)) {
	in := bufio.NewReader(c)
	for {
		first, err := in.ReadByte()
		if err != nil {
			return
		}
		length, err := binary.ReadUvarint(in)
		if err != nil {
			return
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if r.own != nil && r.own(first>>4, body, c) {
			continue
		}
		switch first >> 4 {
		case 1:
			_, _ = c.Write(connack)
		case 8:
			code := byte(1)
			if r.grants != nil {
				code = r.grants()
			}
			_, _ = c.Write([]byte{0x90, 4, body[0], body[1], 0, code})
			if code == 1 {
				say(n, c)
			}
		case 4:
			r.mu.Lock()
			r.acks = append(r.acks, binary.BigEndian.Uint16(body))
			r.mu.Unlock()
		case 12:
			_, _ = c.Write([]byte{0xd0, 0})
		case 14:
			return
		}
	}
}

func (r *raw) acked(id uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.acks, id)
}

var accepted = []byte{0x20, 3, 1, 0, 0} // with a session

func packet(first byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func id(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func message(n uint16, topic, payload string) []byte {
	return packet(0x32, text(topic), id(n), []byte{0}, []byte(payload))
}

func TestWhatCannotBeAnUplinkIsHandedOverWithItsReason(t *testing.T) {
	for _, one := range []struct {
		name  string
		bytes []byte
		want  error
		kept  int // of the payload
		size  int
	}{
		{"no topic", message(7, "", "x"), mqttlink.ErrTopicEmpty, 1, 1},
		{"an alias", packet(0x32, text(""), id(7), []byte{3, 35, 0, 1}, []byte("x")), mqttlink.ErrTopicEmpty, 1, 1},
		{"a long topic", message(7, strings.Repeat("a", uplink.MaxTopic+1), "x"), mqttlink.ErrTopicLong, 1, 1},
		{"the longest topic", message(7, strings.Repeat("a", 1<<16-1), "x"), mqttlink.ErrTopicLong, 1, 1},
		{"a NUL", message(7, "up/\x00", "x"), mqttlink.ErrTopicText, 1, 1},
		{"no UTF-8", message(7, "up/\xff", "x"), mqttlink.ErrTopicText, 1, 1},
		{"a wildcard", message(7, "up/+", "x"), mqttlink.ErrTopicWildcard, 1, 1},
		{"an empty level", message(7, "up//a", "x"), mqttlink.ErrTopicLevel, 1, 1},
		{"an empty level at the end", message(7, "up/", "x"), mqttlink.ErrTopicLevel, 1, 1},
		{"a topic of one slash", message(7, "/", "x"), mqttlink.ErrTopicLevel, 1, 1},
		{"a payload too long", message(7, "up/a", strings.Repeat("p", uplink.MaxBody+1)), mqttlink.ErrTooLarge, uplink.MaxBody, uplink.MaxBody + 1},
		{"a packet too long", message(7, "up/a", strings.Repeat("p", 3<<20)), mqttlink.ErrTooLarge, uplink.MaxBody, 3 << 20},
		{"long properties", packet(0x32, text("up/a"), id(7), properties(600<<10), []byte("pp")), nil, 2, 2},
		{"no fault", message(7, "up/a", strings.Repeat("p", uplink.MaxBody)), nil, uplink.MaxBody, uplink.MaxBody},
		{"an empty payload", message(7, "up/a", ""), nil, 0, 0},
	} {
		t.Run(one.name, func(t *testing.T) {
			s := newSink()
			r := speaks(t, accepted, func(_ int, w io.Writer) {
				_, _ = w.Write(one.bytes)
				_, _ = w.Write(message(8, "up/next", "next"))
			})
			ls := open(t, options(s), r.connection())
			eventually(t, "both come", func() bool { return s.all() == 2 })
			m := s.messages()[0]
			if !errors.Is(m.Fault, one.want) || len(m.Payload) != one.kept || m.Size != one.size || len(m.Topic) > uplink.MaxTopic {
				t.Errorf("fault %v, %d of %d bytes, topic of %d", m.Fault, len(m.Payload), m.Size, len(m.Topic))
			}
			if whole := strings.Repeat("p", one.size); one.size > one.kept && m.Hash != sha256.Sum256([]byte(whole)) {
				t.Errorf("its hash is %x", m.Hash)
			}
			eventually(t, "it is acknowledged", func() bool { return r.acked(7) && r.acked(8) })
			if count(ls, "connects_total") != 1 {
				t.Error("it ended the connection")
			}
		})
	}
}

// properties are user properties of about so many bytes.
func properties(n int) []byte {
	var all []byte
	for len(all) < n {
		all = append(append(append(all, 38), text("k")...), text(strings.Repeat("v", 1_000))...)
	}
	return append(binary.AppendUvarint(nil, uint64(len(all))), all...)
}

// A broker that breaks the protocol ends a connection and nothing else, whatever it claims of lengths.
func TestAClientOutlivesABrokerThatSpeaksNonsense(t *testing.T) {
	for name, nonsense := range map[string][]byte{
		"a length without end":         {0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a topic longer than a packet": packet(0x32, []byte{0xff, 0xff, 'a'}),
		"a packet id of 0":             message(0, "up/a", "x"),
		"no packet id":                 packet(0x32, text("up/a")),
		"nothing":                      packet(0x32),
		"QoS 2":                        packet(0x34, text("up/a"), id(3), []byte{0}),
		"QoS 3":                        packet(0x36, text("up/a"), id(3), []byte{0}),
		"an unknown property":          packet(0x32, text("up/a"), id(3), []byte{2, 0x7f, 0}, []byte("x")),
		"properties beyond the packet": packet(0x32, text("up/a"), id(3), []byte{0x7f}, []byte("x")),
		"half a property":              packet(0x32, text("up/a"), id(3), []byte{2, 3, 0}, []byte("x")),
		"long properties without end":  packet(0x32, text("up/a"), id(3), []byte{0xff, 0xff, 0xff, 0x7f}, make([]byte, 600<<10)),
		"a second CONNACK":             accepted,
		"an AUTH":                      packet(0xf0, []byte{0x18, 0}),
		"a client's packet":            packet(0x10, text("MQTT")),
		"a PUBREC":                     packet(0x50, id(1)),
		"a PUBREL":                     packet(0x62, id(1)),
		"type 0":                       packet(0x00),
		"a long SUBACK":                packet(0x90, make([]byte, 1<<20)),
		"a DISCONNECT":                 packet(0xe0, []byte{0x98}),
		"a DISCONNECT of no bytes":     packet(0xe0),
		"half a packet, and the end":   {0x32, 100, 1, 2, 3},
		"HTTP":                         []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSink()
			r := speaks(t, accepted, func(n int, w io.Writer) {
				if n == 1 {
					_, _ = w.Write(nonsense)
					if name == "half a packet, and the end" {
						_ = w.(net.Conn).Close()
					}
					return
				}
				_, _ = w.Write(message(9, "up/a", "good"))
			})
			ls := open(t, options(s), r.connection())
			eventually(t, "the good one comes", func() bool { return s.has("good") && r.acked(9) })
			if s.all() != 1 {
				t.Errorf("%d came", s.all())
			}
			eventually(t, "nothing is in flight", func() bool { return count(ls, "in_flight") == 0 && count(ls, "in_flight_bytes") == 0 })
		})
	}
}

func TestABrokerThatLosesTheSessionLosesNothingThatIsInHand(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprint("session kept ", kept), func(t *testing.T) {
			s := newSink()
			s.held(true)
			ack := bytes.Clone(accepted)
			if !kept {
				ack[2] = 0
			}
			said := make(chan struct{})
			r := speaks(t, ack, func(n int, w io.Writer) {
				if n == 1 {
					_, _ = w.Write(message(1, "up/a", "taken"))
					<-said
					_, _ = w.Write(message(2, "up/a", "in hand"))
				}
			})
			ls := open(t, options(s), r.connection())
			eventually(t, "Take is asked", func() bool { return s.called() == 1 })
			close(said)
			eventually(t, "the other is in hand", func() bool { return count(ls, "received_total") == 2 })
			ls.Cut()
			eventually(t, "it is connected again", func() bool { return count(ls, "subscribes_total") == 2 })
			s.held(false)
			eventually(t, "nothing is in flight", func() bool { return count(ls, "in_flight") == 0 })
			if s.has("in hand") == kept {
				t.Errorf("taken: %v", s.has("in hand"))
			}
			if r.acked(1) || r.acked(2) {
				t.Error("acknowledged over a connection that had not brought it")
			}
		})
	}
}

func TestABrokerThatSaysNothingIsGivenUp(t *testing.T) {
	s := newSink()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if n == 0 {
				_, _ = c.Write(accepted) // and falls silent; the next one does not even say so much
			}
		}
	})
	c := mqttlink.Connection{Name: "site", URL: "mqtt://" + l.Addr().String(), Filters: []string{"up/#"}, KeepAlive: time.Second}
	ls := open(t, options(s), c)
	eventually(t, "it is given up", func() bool { return count(ls, "disconnects_total") == 1 })
	within(t, 15*time.Second, "so is the next", func() bool { return count(ls, "connect_failures_total") > 0 })
	if err := ls.Ready(); err == nil || !strings.Contains(err.Error(), "MQTT 5") {
		t.Errorf("%v", err)
	}
	_ = l.Close()
	_ = ls.Stop(t.Context())
}

func TestATakeoverThatIsToldKeepsAway(t *testing.T) {
	s := newSink()
	r := speaks(t, accepted, func(_ int, w io.Writer) { _, _ = w.Write(packet(0xe0, []byte{0x8e, 0})) })
	ls := open(t, options(s), r.connection())
	eventually(t, "it is noticed", func() bool {
		err := ls.Ready()
		return err != nil && strings.Contains(err.Error(), "ordinal")
	})
	began := time.Now()
	after(t, time.Second)
	if n := count(ls, "connects_total"); n > 3 && time.Since(began) < 1500*time.Millisecond { // after 0, 0.3, 0.9, 2.1 s
		t.Errorf("%d connections", n)
	}
}

func TestABrokerThatRefusesSaysWhatToDo(t *testing.T) {
	for code, want := range map[byte]string{0x84: "MQTT 5", 0x85: "client id", 0x86: "password", 0x87: "username", 0x97: "quota", 0x95: "0x95"} {
		r := speaks(t, packet(0x20, []byte{0, code}, []byte{8, 31, 0, 5}, []byte("spill")), func(int, io.Writer) {})
		ls := open(t, options(newSink()), r.connection())
		eventually(t, "it is refused", func() bool { return count(ls, "connect_failures_total") > 0 })
		if err := ls.Ready(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "spill") {
			t.Errorf("0x%x: %v", code, err)
		}
	}
	// An authentication that nobody began must not end the process.
	r := speaks(t, packet(0x20, []byte{1, 0}, []byte{4, 21, 0, 1, 'x'}), func(_ int, w io.Writer) { _, _ = w.Write(message(1, "up/a", "x")) })
	s := newSink()
	open(t, options(s), r.connection())
	eventually(t, "it comes", func() bool { return s.has("x") })
}

func TestASubscriptionThatIsRefusedSaysWhatToDoAndIsAskedForAgain(t *testing.T) {
	for code, want := range map[byte]string{0x87: "filters", 0: "QoS 1", 0x9e: "shared", 0x80: "0x80"} {
		s := newSink()
		r := speaks(t, accepted, func(_ int, w io.Writer) { _, _ = w.Write(message(1, "up/a", "x")) })
		refuse := make(chan struct{})
		r.grants = func() byte {
			select {
			case <-refuse:
				return 1
			default:
				return code
			}
		}
		ls := open(t, options(s), r.connection())
		eventually(t, "it is refused", func() bool { return count(ls, "subscribe_failures_total") > 0 })
		if err := ls.Ready(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("0x%x: %v", code, err)
		}
		close(refuse)
		eventually(t, "it comes", func() bool { return s.has("x") && ls.Ready() == nil })
	}
}
