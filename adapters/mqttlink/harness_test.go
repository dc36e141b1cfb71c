package mqttlink_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ringfence/ringfence/adapters/mqttlink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits for something to be so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	within(t, 20*time.Second, what, so)
}

func within(t testing.TB, d time.Duration, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// after waits for a time to pass, where the thing itself cannot be seen: that nothing happens.
func after(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// sink is a Take that remembers.
type sink struct {
	mu    sync.Mutex
	order []string
	times map[string]int
	last  []mqttlink.Message
	hold  chan struct{} // waits for it first, if there
	calls int
	err   func(m mqttlink.Message) error
}

func newSink() *sink { return &sink{times: map[string]int{}} }

func (s *sink) take(ctx context.Context, ms []mqttlink.Message) []error {
	s.mu.Lock()
	s.calls++
	hold := s.hold
	s.mu.Unlock()
	errs := make([]error, len(ms))
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			for i := range errs {
				errs[i] = errors.New("the process is dead")
			}
			return errs
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range ms {
		if s.err != nil {
			errs[i] = s.err(m)
		}
		if errs[i] == nil {
			s.order = append(s.order, string(m.Payload))
			s.times[string(m.Payload)]++
			s.last = append(s.last, m)
		}
	}
	return errs
}

func (s *sink) distinct() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.times) }
func (s *sink) all() int      { s.mu.Lock(); defer s.mu.Unlock(); return len(s.order) }
func (s *sink) called() int   { s.mu.Lock(); defer s.mu.Unlock(); return s.calls }
func (s *sink) has(p string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times[p] > 0
}

func (s *sink) messages() []mqttlink.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]mqttlink.Message(nil), s.last...)
}

func (s *sink) held(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.hold = make(chan struct{})
	} else if s.hold != nil {
		close(s.hold)
		s.hold = nil
	}
}

func options(s *sink) mqttlink.Options {
	return mqttlink.Options{Take: s.take, Log: slog.New(slog.DiscardHandler), Name: "w", StopWithin: 3 * time.Second}.Hasty()
}

// open opens a link that ends with the test.
func open(t *testing.T, o mqttlink.Options, cs ...mqttlink.Connection) *mqttlink.Links {
	t.Helper()
	ls, err := mqttlink.Open(t.Context(), cs, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ls.Stop(context.Background()) })
	return ls
}

func ready(t *testing.T, ls *mqttlink.Links) {
	t.Helper()
	eventually(t, "ready", func() bool { return ls.Ready() == nil })
}

// count is a series of the one connection that tests have.
func count(ls *mqttlink.Links, name string) int64 {
	return ls.Counts()["ringfence_mqtt_"+name+`{connection="site"}`]
}
