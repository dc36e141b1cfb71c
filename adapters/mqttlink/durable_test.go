//go:build services

package mqttlink_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// killed takes a worker away while Take has not answered, and says how many messages its successor did not get.
func killed(t *testing.T, change func(mqttlink.Options) mqttlink.Options) (lost int) {
	b := mosquitto(t, servers.Options{})
	first := newSink()
	first.held(true)
	one := open(t, change(options(first)), b.connection())
	ready(t, one)
	publish(t, client(t, b.url()), "", 500, 5)
	eventually(t, "Take is asked", func() bool { return first.called() > 0 })
	eventually(t, "all is in flight", func() bool { return count(one, "received_total") == 500 })
	one.Crash()

	second := newSink()
	two := open(t, change(options(second)), b.connection())
	ready(t, two)
	publish(t, client(t, b.url()), "end", 1, 1)
	eventually(t, "the last one comes", func() bool { return second.has("end0:000000") })
	return 501 - second.distinct()
}

func TestNothingIsAcknowledgedBeforeTakeHasAnswered(t *testing.T) {
	if lost := killed(t, func(o mqttlink.Options) mqttlink.Options { return o }); lost != 0 {
		t.Errorf("%d messages are lost", lost)
	}
}

func TestAcknowledgingTooEarlyIsFound(t *testing.T) {
	if killed(t, mqttlink.Options.AckFirst) == 0 {
		t.Error("acknowledging first loses nothing in this test: it proves nothing")
	}
}

func TestAskingForANewSessionIsFound(t *testing.T) {
	if killed(t, mqttlink.Options.Forgets) == 0 {
		t.Error("a new session loses nothing in this test: it proves nothing")
	}
}

// A broker that is stopped keeps what it had acknowledged. Mosquitto 2.0.11 keeps shared subscriptions for the time that it runs
// alone: what is published between its start and the members' return goes to nobody, but for a member without a group.
func TestAStoppedBrokerLosesNothing(t *testing.T) {
	for _, group := range []string{"", "workers"} {
		t.Run("group "+group, func(t *testing.T) {
			b := mosquitto(t, servers.Options{})
			s := newSink()
			c := b.connection()
			c.Group = group
			ls := open(t, options(s), c)
			ready(t, ls)
			s.held(true)
			publish(t, client(t, b.url()), "a", 300, 3)
			eventually(t, "all is in flight", func() bool { return count(ls, "received_total") == 300 })
			b.Stop()
			s.held(false)
			b.Start()
			if group != "" {
				eventually(t, "it is back", func() bool { return count(ls, "connects_total") == 2 && count(ls, "subscribes_total") == 2 })
			}
			publish(t, client(t, b.url()), "b", 300, 3)
			eventually(t, "all come", func() bool { return s.distinct() == 600 })
			ready(t, ls)
		})
	}
}

// A lost connection voids the acknowledgements: what was in hand comes again and is taken once.
func TestWhatIsInHandWhenTheConnectionIsLostComesAgain(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	s := newSink()
	s.held(true)
	ls := open(t, options(s), b.connection())
	ready(t, ls)
	publish(t, client(t, b.url()), "", 400, 4)
	eventually(t, "all is in flight", func() bool { return count(ls, "received_total") == 400 })
	ls.Cut()
	eventually(t, "it is connected again", func() bool { return count(ls, "connects_total") == 2 })
	s.held(false)
	eventually(t, "all come", func() bool { return s.distinct() == 400 })
	eventually(t, "nothing is in flight", func() bool { return count(ls, "in_flight") == 0 })
	if count(ls, "discarded_total") == 0 || count(ls, "redelivered_total") == 0 {
		t.Errorf("nothing was sent again: %v", ls.Counts())
	}
	inOrder(t, s)
}

func inOrder(t *testing.T, s *sink) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	last := map[string]string{}
	seen := map[string]bool{}
	for _, p := range s.order {
		device, number, _ := strings.Cut(p, ":")
		if seen[p] { // one that comes again says nothing of order
			continue
		}
		seen[p] = true
		if number <= last[device] {
			t.Fatalf("device %s: %s after %s", device, number, last[device])
		}
		last[device] = number
	}
}

func TestOneMemberKeepsTheOrderOfADevice(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	s := newSink()
	failing := 0
	s.err = func(mqttlink.Message) error {
		if failing++; failing%7 == 0 && failing < 1000 {
			return fault.New(fault.Unavailable, "away", "Try again.")
		}
		return nil
	}
	// Take answers for a prefix alone here, as one that keeps the order of its keys does.
	o := options(s)
	take := o.Take
	o.Take = func(ctx context.Context, ms []mqttlink.Message) []error {
		errs := take(ctx, ms[:1])
		if errs[0] == nil && len(ms) > 1 {
			errs = append(errs, take(ctx, ms[1:2])...)
		}
		for len(errs) < len(ms) {
			errs = append(errs, fault.New(fault.Unavailable, "away", "Try again."))
		}
		return errs
	}
	ls := open(t, o, b.connection())
	ready(t, ls)
	publish(t, client(t, b.url()), "", 200, 4)
	within(t, 30e9, "all come", func() bool { return s.distinct() == 200 })
	inOrder(t, s)
}

func TestStoppingAcknowledgesWhatTakeIsAt(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	s := newSink()
	s.held(true)
	ls := open(t, options(s), b.connection())
	ready(t, ls)
	publish(t, client(t, b.url()), "", 10, 1)
	eventually(t, "Take is asked", func() bool { return s.called() > 0 })
	done := make(chan error, 1)
	go func() { done <- ls.Stop(context.Background()) }()
	s.held(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	taken := s.distinct()
	again := newSink()
	two := open(t, options(again), b.connection())
	ready(t, two)
	publish(t, client(t, b.url()), "end", 1, 1)
	eventually(t, "the rest comes", func() bool { return again.distinct() == 11-taken })
	for p := range again.times {
		if s.has(p) {
			t.Errorf("%s was taken and came again", p)
		}
	}
}

func TestATakeThatDoesNotEndIsNotWaitedForForEver(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	s := newSink()
	s.held(true)
	o := options(s)
	o.StopWithin = 50e6
	ls := open(t, o, b.connection())
	ready(t, ls)
	publish(t, client(t, b.url()), "", 1, 1)
	eventually(t, "Take is asked", func() bool { return s.called() > 0 })
	if err := ls.Stop(context.Background()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	if count(ls, "acknowledged_total") != 0 {
		t.Error("it was acknowledged")
	}
}

func TestTenThousandMessagesAreTakenAndAcknowledged(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	s := newSink()
	ls := open(t, options(s), b.connection())
	ready(t, ls)
	publish(t, client(t, b.url()), "", 10_000, 32)
	eventually(t, "all come", func() bool { return s.distinct() == 10_000 })
	eventually(t, "all are acknowledged", func() bool {
		return count(ls, "acknowledged_total") == 10_000
	})
	if s.all() != 10_000 {
		t.Errorf("%d were taken twice", s.all()-10_000)
	}
	inOrder(t, s)
}

// Mosquitto does not keep to Receive Maximum: our own bound holds, and the connection lives on however long nobody takes.
func TestWhatIsInFlightIsBoundedWhileNobodyTakes(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	s := newSink()
	s.held(true)
	c := b.connection()
	c.MaxInFlight, c.KeepAlive, c.ReceiveMaximum = 100, 4e9, 1_000
	ls := open(t, options(s), c)
	ready(t, ls)
	publish(t, client(t, b.url()), "", 3_000, 16)
	eventually(t, "reading stops", func() bool { return count(ls, "paused") == 1 })
	after(t, 10e9) // two and a half times the keep-alive: a broker that hears nothing for one and a half ends it
	if n, _ := ls.Highest(); n != 100 {
		t.Errorf("%d were in flight, at most 100 may be", n)
	}
	if n := count(ls, "connects_total"); n != 1 {
		t.Errorf("it connected %d times", n)
	}
	s.held(false)
	eventually(t, "all come", func() bool { return s.distinct() == 3_000 })
	if s.all() != 3_000 {
		t.Errorf("%d came twice", s.all()-3_000)
	}
}

func TestBytesInFlightAreBounded(t *testing.T) {
	b := mosquitto(t, servers.Options{})
	s := newSink()
	s.held(true)
	c := b.connection()
	c.MaxInFlightBytes = 1 << 20
	ls := open(t, options(s), c)
	ready(t, ls)
	pub := client(t, b.url())
	big := strings.Repeat("x", 100<<10)
	publish(t, pub, big, 40, 4)
	eventually(t, "reading stops", func() bool { return count(ls, "paused") == 1 })
	if _, n := ls.Highest(); n > 1<<20 {
		t.Errorf("%d bytes were in flight", n)
	}
	s.held(false)
	eventually(t, "all come", func() bool { return s.distinct() == 40 })
}

func TestAConnectionThatIsDownIsOneAlarmAndNothingOfAnybodysIsLogged(t *testing.T) {
	b := mosquitto(t, servers.Options{Passwords: map[string]string{"u": "KANARIE"}})
	var log lines
	s := newSink()
	s.err = func(mqttlink.Message) error { return errors.New("KANARIE") }
	o := options(s)
	o.Log, o.DownAlarm = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), 3*time.Second
	c := b.connection()
	c.Username, c.Password, c.Presence = "u", secret.New("KANARIE"), true
	ls := open(t, o, c)
	ready(t, ls)
	u := client(t, "mqtt://u:KANARIE@"+b.Addr())
	publish(t, u, "KANARIE", 1, 1)
	eventually(t, "it is a defect", func() bool { return count(ls, "take_defects_total") > 0 })
	b.Stop()
	eventually(t, "it is an alarm that says what is wrong", func() bool {
		err := ls.Ready()
		return err != nil && strings.Contains(err.Error(), "cannot be reached") && log.has("is down") == 1 && count(ls, "down") == 1
	})
	after(t, 4500*time.Millisecond)
	b.Start()
	eventually(t, "it is back", func() bool { return ls.Ready() == nil && log.has("is back") == 1 })
	if log.has("is down") != 1 || log.has("KANARIE") != 0 || log.has("up/") != 0 {
		t.Error(log.all())
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) has(what string) int { return strings.Count(l.all(), what) }

// Each broker has a line of its own: one that is away is told, and keeps the others' messages waiting for nothing.
func TestABrokerThatIsAwayHoldsUpNoOther(t *testing.T) {
	one, two := mosquitto(t, servers.Options{}), mosquitto(t, servers.Options{})
	s := newSink()
	other := two.connection()
	other.Name = "other"
	o := options(s)
	o.DownAlarm = 200 * time.Millisecond
	ls := open(t, o, one.connection(), other)
	ready(t, ls)
	comes := func(b broker, prefix string, all int) {
		t.Helper()
		publish(t, client(t, b.url()), prefix, 20, 4)
		eventually(t, "all that was published to "+prefix, func() bool { return s.distinct() == all })
	}
	comes(one, "a", 20)
	comes(two, "b", 40)
	one.Stop()
	eventually(t, "told", func() bool { return ls.Ready() != nil })
	comes(two, "c", 60)
	one.Start()
	ready(t, ls)
	comes(one, "d", 80)
}
