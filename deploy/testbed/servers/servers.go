// Package servers gives a test servers of its own: Mosquitto, RabbitMQ, Kafka and PostgreSQL, each with settings that the test
// chooses, to be stopped, killed and started again with the same data and ports. deploy/testbed/with says where their programs
// are, and starts the Kafka that tests share. Only tests import it; it imports the standard library.
package servers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	patience = 2 * time.Minute // for a start or an end, on a machine that does much else
	look     = 20 * time.Millisecond
)

// Server is one server of one test, which ends it. Its methods fail the test; whoever calls them elsewhere than in the test's
// own goroutine ends that goroutine by it.
type Server struct {
	t       testing.TB
	name    string
	dir     string
	addr    string
	command func() *exec.Cmd      // a new one for each start
	ready   func(log string) bool // by what it logged since it was started
	again   []string              // in its log, when it ended because what was killed before it is not quite gone
	stop    os.Signal             // asks it to end well
	end     os.Signal             // ends it at once
	brood   bool                  // it has processes of its own, which die with it

	mu    sync.Mutex
	run   *exec.Cmd
	gone  chan struct{} // closed when run has left the process table
	since int64         // where its log was when it was started
}

// Addr is where it listens, the same for its whole life.
func (s *Server) Addr() string { return s.addr }

// Pid is its process now, for who measures it.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run.Process.Pid
}

// Log is what it said, from its first start on.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		s.t.Error(err)
	}
	return string(text)
}

// Stop asks it to end, and waits until it is gone.
func (s *Server) Stop() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.leave(s.stop); err != nil {
		s.t.Fatal(err)
	}
}

// Kill ends it as a crash does, and waits until it has vanished from the process table.
func (s *Server) Kill() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.leave(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// Start starts it again after Stop or Kill, with the same data at the same address, and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		s.t.Fatal(s.name + " runs already")
	}
	if err := s.begin(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "server.log") }

// begin starts it; if it meets what is left of the one before, more than once.
func (s *Server) begin() error {
	deadline := time.Now().Add(patience)
	for {
		err := s.once(deadline)
		if err == nil || time.Now().After(deadline) || !containsAny(err.Error(), s.again) {
			return err
		}
	}
}

func (s *Server) once(deadline time.Time) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has its own
	at, err := log.Stat()
	if err != nil {
		return err
	}
	s.since = at.Size()
	run := s.command()
	run.Stdout, run.Stderr = log, log
	diesWithUs(run)
	if err := run.Start(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = run.Wait() // how it ended stands in its log
	}()
	s.run, s.gone = run, gone
	if wait(deadline, func() bool { return closed(gone) || s.ready(s.said()) }) && !closed(gone) {
		return nil
	}
	return errors.Join(fmt.Errorf("%s is not up; it says:\n%s", s.name, s.said()), s.leave(syscall.SIGKILL))
}

// said is what it logged since it was started.
func (s *Server) said() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text[min(s.since, int64(len(text))):])
}

// leave sends a signal and waits until the process is gone, and those that it has started if it was killed.
func (s *Server) leave(signal os.Signal) error {
	if s.run == nil {
		return nil
	}
	p := s.run.Process
	s.run = nil
	var brood []int
	if s.brood && signal == syscall.SIGKILL {
		// Frozen, it has no more; each would finish what it is about after its parent's death, which is no crash.
		_ = p.Signal(syscall.SIGSTOP)
		brood = children(p.Pid)
	}
	_ = p.Signal(signal) // it may be gone already
	for _, pid := range brood {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	left := func() bool {
		return closed(s.gone) && !containsLiving(brood)
	}
	if wait(time.Now().Add(patience), left) {
		return nil
	}
	_ = p.Kill()
	return fmt.Errorf("%s does not end on %v; it says:\n%s", s.name, signal, s.said())
}

// Command is a server that the test has a command for, such as a script of deploy/compose: with is given a folder and free ports,
// the first of which is its address, and answers how it is started and what it logs when it is up.
func Command(t testing.TB, name string, ports int, with func(dir string, ports []int) (command func() *exec.Cmd, up string)) *Server {
	t.Helper()
	return start(t, name, ports, func(dir string, ports []int) *Server {
		command, up := with(dir, ports)
		return &Server{addr: local(ports[0]), command: command, ready: func(log string) bool { return strings.Contains(log, up) }, stop: syscall.SIGTERM, end: syscall.SIGKILL}
	})
}

// start makes a server with a function that is given a folder and free ports, and starts it: with others if somebody took one.
func start(t testing.TB, name string, ports int, with func(dir string, ports []int) *Server) *Server {
	t.Helper()
	for try := 1; ; try++ {
		dir := folder(t)
		s := with(dir, free(t, ports))
		s.t, s.name, s.dir = t, name, dir
		t.Cleanup(func() { // before the folder goes
			s.mu.Lock()
			defer s.mu.Unlock()
			if err := s.leave(s.end); err != nil {
				t.Error(err)
			}
		})
		err := s.begin()
		if err == nil {
			return s
		}
		if try == 5 || !containsAny(err.Error(), []string{"in use", "eaddrinuse"}) {
			t.Fatal(err)
		}
	}
}

// folder is a new one that a server without our rights may pass through; it goes with the test.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "server-") // t.TempDir lets nobody else in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What a killed server has started may still write as it ends.
		var err error
		if !wait(time.Now().Add(patience), func() bool { err = os.RemoveAll(dir); return err == nil }) {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Free is an address of loopback where nobody listens, for a process that the test starts.
func Free(t testing.TB) string {
	t.Helper()
	return local(free(t, 1)[0])
}

// Shut is an address of loopback that refuses everybody and that nobody else can have, until it is opened or the test ends.
func Shut(t testing.TB) (addr string, open func() net.Listener) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	syscall.ForkLock.RLock() // no process that is started now keeps it
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	must(err)
	file := os.NewFile(uintptr(fd), "shut")
	t.Cleanup(func() { _ = file.Close() })
	must(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := syscall.Getsockname(fd)
	must(err)
	return local(at.(*syscall.SockaddrInet4).Port), func() net.Listener {
		t.Helper()
		must(syscall.Listen(fd, syscall.SOMAXCONN))
		l, err := net.FileListener(file) // which has its own
		must(err)
		must(file.Close())
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
}

// free answers ports of loopback that nobody listens at, below those that systems give to clients, and that no other test is given
// until this one ends, in other processes neither: not while a server is down, nor before it is up.
func free(t testing.TB, n int) []int {
	t.Helper()
	dir := "/tmp/ringfence-ports-" + strconv.Itoa(os.Getuid()) // whatever the folder of these tests is
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		port := 20000 + rand.IntN(12000)
		err := taken(t, filepath.Join(dir, strconv.Itoa(port)))
		if err == nil {
			var l net.Listener
			if l, err = net.Listen("tcp", local(port)); err == nil {
				err = l.Close()
			}
		}
		if err == nil {
			ports = append(ports, port)
		} else if tries >= 100 {
			t.Fatal(err)
		}
	}
	return ports
}

// taken locks a file until the test ends, if nobody else does.
func taken(t testing.TB, name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(err, f.Close())
	}
	t.Cleanup(func() { _ = f.Close() })
	return nil
}

func local(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// wait asks until the answer is yes, or the time is over.
func wait(deadline time.Time, yes func() bool) bool {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for !yes() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func containsAny(text string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// containsLiving reports whether one of the processes is still there.
func containsLiving(pids []int) bool {
	for _, pid := range pids {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return true
		}
	}
	return false
}

// told is what deploy/testbed/with says about a server.
func told(t testing.TB, variable string) string {
	t.Helper()
	said := os.Getenv(variable)
	if said == "" {
		t.Fatal(variable + " is not in the environment: run the test by deploy/testbed/with")
	}
	return said
}

// Program is where the one of a server is, or what belongs to it, as a variable says. Where somebody may not install it,
// deploy/testbed/with leaves it out, says so and goes on, and so do the tests that ask for it; CI leaves nothing out.
func Program(t testing.TB, name, variable string) string {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("TESTBED_LEFT_OUT"), ","), name) && os.Getenv("CI") != "true" {
		t.Skip("left out: " + name)
	}
	return told(t, variable)
}

// write makes a file of lines.
func write(t testing.TB, file string, lines ...string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
