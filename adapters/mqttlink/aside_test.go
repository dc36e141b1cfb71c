package mqttlink_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/core/fault"
)

var later = fault.New(fault.Unavailable, "later", "Not now.")

// gate is a Take that cannot decide messages of some topics for the time being.
type gate struct {
	*sink
	mu     sync.Mutex
	closed map[string]error
}

func newGate(closed map[string]error) *gate {
	g := &gate{sink: newSink(), closed: closed}
	g.err = func(m mqttlink.Message) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.closed[m.Topic]
	}
	return g
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.closed)
}

func (g *gate) opens(topic string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.closed, topic)
}

// of are the payloads that were taken of a topic, in their order.
func (g *gate) of(topic string) (out []string) {
	for _, m := range g.messages() {
		if m.Topic == topic {
			out = append(out, string(m.Payload))
		}
	}
	return out
}

func ascending(t *testing.T, what string, got []string, n int) {
	t.Helper()
	for i, p := range got {
		if p != fmt.Sprintf("%04d", i) {
			t.Fatalf("%s: the %dth is %s", what, i, p)
		}
	}
	if len(got) != n {
		t.Fatalf("%s: %d came, want %d", what, len(got), n)
	}
}

// What cannot be decided waits with what comes behind it by its topic, in its order and unacknowledged; all others are durable and
// acknowledged meanwhile, however many.
func TestWhatCannotBeDecidedWaitsAndKeepsNoOtherWaiting(t *testing.T) {
	const each = 300
	g := newGate(map[string]error{"up/unknown": later})
	r := speaks(t, accepted, func(_ int, w io.Writer) {
		for i := range each {
			_, _ = w.Write(message(uint16(2*i+1), "up/unknown", fmt.Sprintf("%04d", i)))
			_, _ = w.Write(message(uint16(2*i+2), "up/known", fmt.Sprintf("%04d", i)))
		}
	})
	ls := open(t, options(g.sink), r.connection())
	eventually(t, "the others are acknowledged", func() bool { return count(ls, "acknowledged_total") == each })
	ascending(t, "the others", g.of("up/known"), each)
	eventually(t, "the broker was told", func() bool { return r.acked(2 * each) })
	if n := count(ls, "waiting"); n != each || r.acked(1) || r.acked(2*each-1) {
		t.Errorf("%d wait, %v", n, ls.Counts())
	}
	eventually(t, "they alone are in flight", func() bool { return count(ls, "in_flight") == each })
	asked := g.called()
	eventually(t, "they are asked for again and again", func() bool { return g.called() > asked+2 })
	g.open()
	eventually(t, "all are acknowledged", func() bool { return count(ls, "acknowledged_total") == 2*each })
	ascending(t, "those that waited", g.of("up/unknown"), each)
	eventually(t, "nothing is in flight", func() bool {
		return count(ls, "waiting")+count(ls, "in_flight")+count(ls, "in_flight_bytes") == 0
	})
	if count(ls, "connects_total") != 1 {
		t.Errorf("%v", ls.Counts())
	}
}

// Take is told what it answered last.
func TestWhatIsTriedAgainComesWithItsAnswer(t *testing.T) {
	g := newGate(map[string]error{"up/unknown": later})
	r := speaks(t, accepted, func(_ int, w io.Writer) { _, _ = w.Write(message(1, "up/unknown", "x")) })
	ls := open(t, options(g.sink), r.connection())
	eventually(t, "it waits", func() bool { return count(ls, "waiting") == 1 })
	g.open()
	eventually(t, "it is taken", func() bool { return g.all() == 1 })
	if m := g.messages()[0]; !errors.Is(m.Before, later) {
		t.Errorf("%v", m.Before)
	}
}

// What waits is within what may be in flight: when it is all of it nothing more is read, and nothing is lost.
func TestWhatWaitsIsBounded(t *testing.T) {
	const all = 60
	g := newGate(map[string]error{"up/unknown": later})
	r := speaks(t, accepted, func(_ int, w io.Writer) {
		for i := range all {
			_, _ = w.Write(message(uint16(i+1), "up/unknown", fmt.Sprintf("%04d", i)))
		}
		_, _ = w.Write(message(all+1, "up/known", "0000"))
	})
	c := r.connection()
	c.MaxInFlight = 20
	ls := open(t, options(g.sink), c)
	eventually(t, "reading stops", func() bool { return count(ls, "paused") == 1 && count(ls, "waiting") == 20 })
	if n, _ := ls.Highest(); n != 20 || count(ls, "received_total") != 20 {
		t.Errorf("%d were in flight, %v", n, ls.Counts())
	}
	g.open()
	eventually(t, "all are acknowledged", func() bool { return r.acked(all+1) && count(ls, "acknowledged_total") == all+1 })
	ascending(t, "those that waited", g.of("up/unknown"), all)
}

// More may wait than Take is asked for at once: what can be decided by now has its turn, whatever stands before it.
func TestWhatWaitsHasItsTurn(t *testing.T) {
	const before, few = 1_300, 10
	g := newGate(map[string]error{"up/unknown": later, "up/soon": later})
	r := speaks(t, accepted, func(_ int, w io.Writer) {
		for i := range before {
			_, _ = w.Write(message(uint16(i+1), "up/unknown", fmt.Sprintf("%04d", i)))
		}
		for i := range few {
			_, _ = w.Write(message(uint16(before+i+1), "up/soon", fmt.Sprintf("%04d", i)))
		}
	})
	c := r.connection()
	c.MaxInFlight = 2 * before
	ls := open(t, options(g.sink), c)
	eventually(t, "all wait", func() bool { return count(ls, "waiting") == before+few })
	g.opens("up/soon")
	within(t, 60e9, "those are acknowledged", func() bool { return count(ls, "acknowledged_total") == few })
	ascending(t, "those", g.of("up/soon"), few)
	g.open()
	eventually(t, "all are acknowledged", func() bool { return count(ls, "acknowledged_total") == before+few })
	ascending(t, "the others", g.of("up/unknown"), before)
}

// What waits when the connection is lost comes again by the next one and is taken once, in its order, if the broker kept the session;
// else what is here is all that there is.
func TestWhatWaitsWhenTheConnectionIsLostIsTakenOnce(t *testing.T) {
	for _, kept := range []bool{true, false} {
		ack := append([]byte(nil), accepted...)
		if !kept {
			ack[2] = 0
		}
		g := newGate(map[string]error{"up/unknown": later})
		r := speaks(t, ack, func(n int, w io.Writer) {
			if n == 1 || kept {
				for i := range 5 {
					_, _ = w.Write(message(uint16(i+1), "up/unknown", fmt.Sprintf("%04d", i)))
				}
			}
		})
		ls := open(t, options(g.sink), r.connection())
		eventually(t, "they wait", func() bool { return count(ls, "waiting") == 5 })
		ls.Cut()
		eventually(t, "it is connected again", func() bool { return count(ls, "subscribes_total") == 2 })
		g.open()
		eventually(t, "nothing is in flight", func() bool { return g.all() == 5 && count(ls, "in_flight") == 0 && count(ls, "waiting") == 0 })
		ascending(t, fmt.Sprint("session kept ", kept), g.of("up/unknown"), 5)
		if r.acked(1) != kept {
			t.Errorf("session kept %v: acknowledged is %v", kept, r.acked(1))
		}
	}
}

// A message that is too much for Take is given up until the broker sends it again, and no other is harmed by it.
func TestWhatADefectOfOursKeepsFromBeingDurableIsNotTriedForEver(t *testing.T) {
	for name, defect := range map[string]func(){
		"an error":  nil,
		"a panic":   func() { panic("too much") },
		"no answer": func() {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(map[string]error{"up/bad": errors.New("a defect")})
			o := options(g.sink)
			var mu sync.Mutex
			bad := 0
			o.Take = func(ctx context.Context, ms []mqttlink.Message) []error {
				for _, m := range ms {
					if m.Topic != "up/bad" {
						continue
					}
					mu.Lock()
					bad++
					mu.Unlock()
					if defect != nil {
						defect()
						return nil
					}
				}
				return g.take(ctx, ms)
			}
			r := speaks(t, accepted, func(n int, w io.Writer) {
				_, _ = w.Write(message(1, "up/bad", "bad"))
				for i := range 20 {
					_, _ = w.Write(message(uint16(n*100+i), "up/good", strings.Repeat("x", i)))
				}
			})
			ls := open(t, o, r.connection())
			tried := func() int { mu.Lock(); defer mu.Unlock(); return bad }
			eventually(t, "it is given up", func() bool { return r.acked(119) && count(ls, "held") == 1 })
			was := tried()
			after(t, 200e6) // twenty times the wait
			if was < 5 || tried() != was || r.acked(1) || count(ls, "in_flight") != 1 {
				t.Errorf("tried %d and then %d times; %v", was, tried(), ls.Counts())
			}
			ls.Cut()
			eventually(t, "it is tried again when it comes again", func() bool { return r.acked(219) && tried() > was && !r.acked(1) })
		})
	}
}

// What keeps a batch from being answered takes its parts' order from none: what stands behind one that waits is not asked for before it.
func TestAPanicOverOneMessageTurnsNoTopicsOrderRound(t *testing.T) {
	const all = 10
	g := newGate(nil)
	first := true
	g.err = func(m mqttlink.Message) error { // as long as the sink is locked
		if string(m.Payload) == "0000" && first {
			first = false
			return later
		}
		return nil
	}
	o := options(g.sink)
	o.Take = func(ctx context.Context, ms []mqttlink.Message) (errs []error) {
		if slices.ContainsFunc(ms, func(m mqttlink.Message) bool { return m.Topic == "up/bad" }) {
			panic("too much")
		}
		waits := false
		for _, m := range ms {
			if waits = waits && m.Topic == "up/a"; waits {
				errs = append(errs, later)
				continue
			}
			errs = append(errs, g.take(ctx, []mqttlink.Message{m})...)
			waits = errs[len(errs)-1] != nil
		}
		return errs
	}
	g.held(true)
	sent := make(chan struct{})
	r := speaks(t, accepted, func(_ int, w io.Writer) {
		_, _ = w.Write(message(1, "up/first", "first"))
		<-sent
		_, _ = w.Write(message(2, "up/bad", "bad"))
		for i := range all {
			_, _ = w.Write(message(uint16(i+3), "up/a", fmt.Sprintf("%04d", i)))
		}
	})
	ls := open(t, o, r.connection())
	eventually(t, "Take is asked", func() bool { return g.called() == 1 })
	close(sent)
	eventually(t, "the others are in hand", func() bool { return count(ls, "received_total") == all+2 })
	g.held(false)
	eventually(t, "all others are acknowledged", func() bool { return count(ls, "acknowledged_total") == all+1 })
	ascending(t, "a", g.of("up/a"), all)
}

// What is held is asked for now and then, so that it is taken once the defect is over, whether or not the broker has the session still
// or sends anything at all.
func TestWhatIsHeldIsTakenOnceTheDefectIsOver(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("session lost ", lost), func(t *testing.T) {
			t.Parallel()
			g := newGate(map[string]error{"up/bad": errors.New("a defect")})
			ack := append([]byte(nil), accepted...)
			if lost {
				ack[2] = 0
			}
			r := speaks(t, ack, func(n int, w io.Writer) {
				for i := range 6 {
					if n == 1 {
						_, _ = w.Write(message(uint16(i+1), "up/bad", fmt.Sprintf("%04d", i)))
					}
				}
			})
			c := r.connection()
			c.MaxInFlight = 12
			ls := open(t, options(g.sink).Anew(50e6), c)
			eventually(t, "they are held", func() bool { return count(ls, "held") == 6 })
			if err := ls.Ready(); err == nil || !strings.Contains(err.Error(), "defect") {
				t.Errorf("half of what may be in flight is held: %v", err)
			}
			if lost {
				ls.Cut()
				eventually(t, "it is connected again", func() bool { return count(ls, "subscribes_total") == 2 })
			}
			g.open()
			eventually(t, "they are taken", func() bool { return count(ls, "held")+count(ls, "in_flight") == 0 && ls.Ready() == nil })
			ascending(t, "those that were held", g.of("up/bad"), 6)
			if n := count(ls, "connects_total"); n != 1 && !lost {
				t.Errorf("%d connections", n)
			}
		})
	}
}
