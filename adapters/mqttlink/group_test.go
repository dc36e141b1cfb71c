//go:build services

package mqttlink_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// member opens a worker of the group.
func member(t *testing.T, b broker, s *sink, ordinal int) *mqttlink.Links {
	t.Helper()
	o := options(s)
	o.Ordinal = ordinal
	c := b.connection()
	c.Presence = true
	ls := open(t, o, c)
	ready(t, ls)
	return ls
}

func presence(ls *mqttlink.Links, id string) mqttlink.Presence {
	for _, m := range ls.Members("site") {
		if m.ClientID == id {
			return m.Presence
		}
	}
	return ""
}

// together is how many different messages the sinks have.
func together(sinks ...*sink) int {
	all := map[string]bool{}
	for _, s := range sinks {
		s.mu.Lock()
		for p := range s.times {
			all[p] = true
		}
		s.mu.Unlock()
	}
	return len(all)
}

func TestTwoMembersShareAStream(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	one, two := newSink(), newSink()
	member(t, b, one, 0)
	member(t, b, two, 1)
	publish(t, client(t, b.url()), "", 2_000, 8)
	eventually(t, "all come", func() bool { return together(one, two) == 2_000 })
	if one.distinct() == 0 || two.distinct() == 0 || one.all()+two.all() != 2_000 {
		t.Errorf("%d and %d", one.all(), two.all())
	}
}

func TestAMemberThatIsKilledAndStartedAgainLosesNothing(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	one, two, again := newSink(), newSink(), newSink()
	member(t, b, one, 0)
	second := member(t, b, two, 1)
	two.held(true)
	pub := client(t, b.url())
	publish(t, pub, "a", 1_000, 8)
	eventually(t, "Take is asked", func() bool { return two.called() > 0 })
	second.Crash()
	publish(t, pub, "b", 1_000, 8)
	member(t, b, again, 1)
	eventually(t, "all come", func() bool { return together(one, again) == 2_000 })
}

func TestAMemberThatIsKilledAndAdoptedLosesNothing(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	one, two, adopter := newSink(), newSink(), newSink()
	first := member(t, b, one, 0)
	second := member(t, b, two, 1)
	eventually(t, "they know each other", func() bool {
		return presence(first, "w-site-1") == mqttlink.Present && presence(second, "w-site-0") == mqttlink.Present
	})
	two.held(true)
	pub := client(t, b.url())
	publish(t, pub, "a", 1_000, 8)
	eventually(t, "Take is asked", func() bool { return two.called() > 0 })

	c := b.connection()
	c.Presence = true
	a := adoption(adopter)
	if n, err := mqttlink.Adopt(t.Context(), c, "w-site-1", a); code(err) != "member_present" || n != 0 {
		t.Fatalf("one that is there: %d %v", n, err)
	}
	second.Crash()
	eventually(t, "the will is told", func() bool { return presence(first, "w-site-1") == mqttlink.Absent })

	// The stream goes on meanwhile: an adopted session that is to end gets nothing new.
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				publish(t, pub, "b"+strings.Repeat("x", n), 8, 1)
				n++
			}
		}
	}()
	a.End = true
	n, err := mqttlink.Adopt(t.Context(), c, "w-site-1", a)
	close(stop)
	rounds := <-stopped
	if err != nil || n == 0 || n != adopter.all() {
		t.Fatalf("%d %v", n, err)
	}
	eventually(t, "all come", func() bool { return together(one, adopter) == 1_000+8*rounds })
	publish(t, pub, "c", 100, 1)
	eventually(t, "the first has all", func() bool { return together(one, adopter) == 1_100+8*rounds })
	if p := presence(first, "w-site-1"); p != "" {
		t.Errorf("it still is a member: %q", p)
	}
	if n, err := mqttlink.Adopt(t.Context(), c, "w-site-1", a); code(err) != "member_unknown" || n != 0 {
		t.Errorf("one that was ended: %d %v", n, err)
	}
	a.Force = true
	if n, err := mqttlink.Adopt(t.Context(), c, "w-site-1", a); code(err) != "no_session" || n != 0 {
		t.Errorf("one that was ended: %d %v", n, err)
	}
}

func adoption(s *sink) mqttlink.Adoption {
	o := options(s)
	return mqttlink.Adoption{Take: o.Take, Log: o.Log}
}

func code(err error) string {
	if f := fault.As(err); f != nil {
		return f.Code
	}
	return ""
}

func TestAnAdoptedSessionStaysForItsMember(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	one, adopter, again := newSink(), newSink(), newSink()
	ls := member(t, b, one, 0)
	if err := ls.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	pub := client(t, b.url())
	publish(t, pub, "a", 100, 4)
	c := b.connection()
	c.Presence = true
	if n, err := mqttlink.Adopt(t.Context(), c, "w-site-0", adoption(adopter)); n != 100 || err != nil {
		t.Fatalf("%d %v", n, err)
	}
	publish(t, pub, "b", 100, 4)
	member(t, b, again, 0)
	eventually(t, "the rest comes", func() bool { return again.distinct() == 100 })
}

// What the adopter could not make durable is the broker's still.
func TestAnAdoptionThatFailsLosesNothing(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	one, adopter, again := newSink(), newSink(), newSink()
	if err := member(t, b, one, 0).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, client(t, b.url()), "", 50, 1)
	adopter.err = func(mqttlink.Message) error { return fault.New(fault.Unavailable, "away", "Try again.") }
	c := b.connection()
	c.Presence = true
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	a := adoption(adopter)
	a.End = true
	if n, err := mqttlink.Adopt(ctx, c, "w-site-0", a); n != 0 || !fault.Is(err, fault.Unavailable) {
		t.Fatalf("%d %v", n, err)
	}
	member(t, b, again, 0)
	eventually(t, "all come", func() bool { return again.distinct() == 50 })
}

// A message that a defect of ours keeps from being taken is in a session that is to end: it is not ended, whatever else it had.
func TestAnAdoptionEndsNoSessionThatADefectOfOursLeftAMessageIn(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	one, adopter, again := newSink(), newSink(), newSink()
	if err := member(t, b, one, 0).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, client(t, b.url()), "", 20, 4)
	a := adoption(adopter)
	a.End = true
	a.Take = func(ctx context.Context, ms []mqttlink.Message) []error {
		for _, m := range ms {
			if string(m.Payload) == "3:000007" {
				panic("too much")
			}
		}
		return adopter.take(ctx, ms)
	}
	c := b.connection()
	c.Presence = true
	if n, err := mqttlink.Adopt(t.Context(), c, "w-site-0", a); !fault.Is(err, fault.Internal) || n != 19 {
		t.Fatalf("%d %v", n, err)
	}
	member(t, b, again, 0)
	eventually(t, "it comes", func() bool { return again.has("3:000007") })
}

func TestMembersTellWhoIsThere(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	one, two := newSink(), newSink()
	o := options(one)
	o.AbsentAlarm = 100 * time.Millisecond
	c := b.connection()
	c.Presence = true
	first := open(t, o, c)
	second := member(t, b, two, 1)
	eventually(t, "it is present", func() bool { return presence(first, "w-site-1") == mqttlink.Present })
	second.Cut()
	eventually(t, "it comes back", func() bool { return count(second, "connects_total") == 2 && second.Ready() == nil })
	if err := second.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has stopped", func() bool { return presence(first, "w-site-1") == mqttlink.Stopped })
	eventually(t, "it is an alarm", func() bool { return count(first, "members_absent") == 1 })
	third := member(t, b, newSink(), 1)
	eventually(t, "it is no alarm any more", func() bool { return count(first, "members_absent") == 0 })
	third.Crash()
	eventually(t, "it is absent", func() bool { return presence(first, "w-site-1") == mqttlink.Absent })
	late := member(t, b, newSink(), 2)
	eventually(t, "who comes later learns it", func() bool { return presence(late, "w-site-1") == mqttlink.Absent })
	if one.all()+two.all() != 0 {
		t.Error("Take was given a member's word")
	}
}

func TestTwoWorkersOfOneClientIDDoNotFightForEver(t *testing.T) {
	for _, present := range []bool{true, false} {
		b := mosquitto(t, servers.Options{})
		one, two := newSink(), newSink()
		c := b.connection()
		c.Presence = present
		first := open(t, options(one), c)
		ready(t, first)
		second := open(t, options(two), c)
		why := func() string {
			for _, ls := range []*mqttlink.Links{first, second} {
				if err := ls.Ready(); err != nil {
					return err.Error()
				}
			}
			return ""
		}
		eventually(t, "it is an alarm", func() bool { return strings.Contains(why(), "ordinal") })
		turns := count(first, "connects_total") + count(second, "connects_total")
		after(t, 3*time.Second)
		// At 300 ms at first, doubling: unbounded they would have had tens of turns each.
		if n := count(first, "connects_total") + count(second, "connects_total") - turns; n > 8 {
			t.Errorf("presence %v: %d turns in 3 s", present, n)
		}
		publish(t, client(t, b.url()), "", 50, 1)
		eventually(t, "all come", func() bool { return together(one, two) == 50 })
		_, _ = first.Stop(t.Context()), second.Stop(t.Context())
	}
}

func TestRetainedMessagesAndWillsAreTold(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	pub := client(t, b.url())
	for _, topic := range strings.Split("a b c d e", " ") {
		if _, err := pub.Publish(t.Context(), &paho.Publish{QoS: 1, Retain: true, Topic: "up/" + topic, Payload: []byte("kept " + topic)}); err != nil {
			t.Fatal(err)
		}
	}
	s := newSink()
	c := b.connection()
	c.Group = ""
	ls := open(t, options(s), c)
	ready(t, ls)
	eventually(t, "what is retained comes", func() bool { return s.distinct() == 5 })
	eventually(t, "all is acknowledged", func() bool { return count(ls, "in_flight") == 0 })
	eventually(t, "and said so", ls.Flushed)
	ls.Cut()
	eventually(t, "it is connected again", func() bool { return count(ls, "subscribes_total") == 2 })

	u := autopaho.ClientConfig{ServerUrls: serverURLs(t, b.url()), KeepAlive: 5, WillMessage: &paho.WillMessage{QoS: 1, Topic: "up/will", Payload: []byte("gone")}, ClientConfig: paho.ClientConfig{ClientID: "mortal"}}
	mortal, err := autopaho.NewConnection(context.WithoutCancel(t.Context()), u)
	if err != nil {
		t.Fatal(err)
	}
	if err := mortal.AwaitConnection(t.Context()); err != nil {
		t.Fatal(err)
	}
	mortal.TerminateConnectionForTest()
	eventually(t, "the will comes", func() bool { return s.has("gone") })
	_ = mortal.Disconnect(context.Background())
	if _, err := pub.Publish(t.Context(), &paho.Publish{QoS: 1, Retain: true, Topic: "up/live", Payload: []byte("live")}); err != nil {
		t.Fatal(err)
	}
	if _, err := pub.Publish(t.Context(), &paho.Publish{QoS: 0, Topic: "up/once", Payload: []byte("once")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last comes", func() bool { return s.has("live") && s.has("once") })
	for _, m := range s.messages() {
		p := string(m.Payload)
		if m.Retained != (strings.HasPrefix(p, "kept") || p == "live") || m.AtMostOnce != (p == "once") {
			t.Errorf("%s: retained %v, at most once %v", p, m.Retained, m.AtMostOnce)
		}
	}
	if s.all() != 8 {
		t.Errorf("%d messages: what is retained came again with the connection", s.all())
	}
}

func TestAFloodOfRetainedMessagesIsTakenInTurn(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	pub := client(t, b.url())
	for i := range 3_000 {
		topic := "up/" + strings.Repeat("x", 1+i%60) + "/" + string(rune('a'+i/60%26)) + string(rune('a'+i/1560))
		if _, err := pub.Publish(t.Context(), &paho.Publish{QoS: 0, Retain: true, Topic: topic, Payload: []byte(topic)}); err != nil {
			t.Fatal(err)
		}
	}
	s := newSink()
	c := b.connection()
	c.Group, c.MaxInFlight = "", 50
	ls := open(t, options(s), c)
	ready(t, ls)
	publish(t, pub, "end", 1, 1)
	eventually(t, "the flood is over", func() bool { return s.has("end0:000000") && s.distinct() == 3_001 })
	if n, _ := ls.Highest(); n > 50 {
		t.Errorf("%d were in flight", n)
	}
}

// Whatever Take does, nothing is lost and the link goes on.
func TestATakeThatPanicsIsAskedAgain(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	s := newSink()
	turn := 0
	o := options(s)
	o.Take = func(ctx context.Context, ms []mqttlink.Message) []error {
		switch turn++; turn {
		case 1:
			panic("planted")
		case 2:
			return nil
		case 3:
			errs := make([]error, len(ms))
			errs[0] = errors.New("planted")
			return errs
		}
		return s.take(ctx, ms)
	}
	ls := open(t, o, b.connection())
	ready(t, ls)
	publish(t, client(t, b.url()), "", 1, 1)
	eventually(t, "it comes", func() bool { return s.distinct() == 1 })
	if n := count(ls, "take_defects_total"); n != 3 {
		t.Errorf("%d defects", n)
	}
}
