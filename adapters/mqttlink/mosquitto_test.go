//go:build services

package mqttlink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/goleak"

	"github.com/ringfence/ringfence/adapters/mqttlink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a Mosquitto of one test's.
type broker struct {
	t    *testing.T
	dir  string
	conf string
	port string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// mosquitto starts one. more are lines of its configuration; PORT in them is its port, DIR its folder.
func mosquitto(t *testing.T, more ...string) *broker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	b := &broker{t: t, dir: t.TempDir(), port: port}
	if len(more) == 0 {
		more = []string{"listener PORT 127.0.0.1", "allow_anonymous true"}
	}
	lines := append([]string{
		"persistence true", "persistence_location DIR/", "max_queued_messages 0", "max_inflight_messages 0", "user root", "set_tcp_nodelay true",
	}, more...)
	b.conf = filepath.Join(b.dir, "conf")
	text := strings.NewReplacer("PORT", port, "DIR", b.dir).Replace(strings.Join(lines, "\n") + "\n")
	if err := os.WriteFile(b.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(func() { b.end(syscall.SIGKILL) })
	return b
}

func (b *broker) url() string { return "mqtt://127.0.0.1:" + b.port }

func (b *broker) start() {
	b.t.Helper()
	program := os.Getenv("TESTBED_MOSQUITTO")
	if program == "" {
		program = "mosquitto"
	}
	if found, err := exec.LookPath(program); err == nil {
		program = found
	} else if _, err := os.Stat("/usr/sbin/mosquitto"); err == nil {
		program = "/usr/sbin/mosquitto"
	}
	b.cmd = exec.Command(program, "-c", b.conf)
	b.cmd.Stderr, b.cmd.Stdout = &b.log, &b.log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatalf("mosquitto: %v: apt-get install mosquitto", err)
	}
	eventually(b.t, "mosquitto listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+b.port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (b *broker) end(s syscall.Signal) {
	if b.cmd != nil {
		_ = b.cmd.Process.Signal(s)
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

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

func (b *broker) connection() mqttlink.Connection {
	return mqttlink.Connection{Name: "site", URL: b.url(), Filters: []string{"up/#"}, Group: "workers", SessionExpiry: time.Hour}
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

// client is a publisher's connection.
func client(t testing.TB, at string) *autopaho.ConnectionManager {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	cm, err := autopaho.NewConnection(context.WithoutCancel(t.Context()), autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, KeepAlive: 20, ReconnectBackoff: autopaho.NewConstantBackoff(50 * time.Millisecond),
		ClientConfig: paho.ClientConfig{ClientID: "publisher" + strconv.FormatInt(time.Now().UnixNano(), 36)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cm.Disconnect(context.Background()) })
	if err := cm.AwaitConnection(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cm
}

// publish publishes n messages over some devices and waits until the broker has acknowledged all. The payload is
// {device}:{number}, rising for each device.
func publish(t testing.TB, cm *autopaho.ConnectionManager, prefix string, n, devices int) {
	t.Helper()
	var all sync.WaitGroup
	errs := make(chan error, devices)
	for d := range devices {
		all.Go(func() {
			for i := d; i < n; i += devices {
				p := &paho.Publish{QoS: 1, Topic: fmt.Sprintf("up/%d", d), Payload: fmt.Appendf(nil, "%s%d:%06d", prefix, d, i)}
				if _, err := cm.Publish(context.Background(), p); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
}
