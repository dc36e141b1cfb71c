//go:build services

package node_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// deaf asks for something again and again and takes no answer, until who answers does not read any more either.
func (d *deployment) deaf(address, path string) {
	d.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://")) //nolint:noctx // this machine's
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	asks := []byte(strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", 1_000))
	for {
		if err = conn.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
			d.t.Fatal(err)
		}
		if _, err = conn.Write(asks); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Fatalf("%s%s: %v", address, path, err)
	}
}

// freeze stops processes as they are: they hold their connections and answer nothing.
func (d *deployment) freeze(pids ...int) {
	d.t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) { // one that has just ended
			d.t.Fatal(err)
		}
		d.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	}
}

// freezePostgres freezes the database: first the process that makes the others.
func (d *deployment) freezePostgres() (pids []int) {
	d.t.Helper()
	pids = []int{d.pg.Pid()}
	d.freeze(pids...)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pids[0]))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, s := range strings.Fields(string(line)) {
		var pid int
		if _, err := fmt.Sscan(s, &pid); err != nil {
			d.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	d.freeze(pids[1:]...)
	return pids
}

// Callers that take no answers, a database and a bus that give none, with events under way: each process that is told to stop then has
// ended, as if nothing were wrong, before Kubernetes would kill it.
func TestAStopTakesNoLongerThanKubernetesWaitsWhateverHangs(t *testing.T) {
	anew(t, stopsInTime)
}

func stopsInTime(t *testing.T) (missed error) {
	const before = 30 * time.Second
	d := deploy(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // this machine's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	door := servers.Free(t)
	d.env = append(d.env, "RINGFENCE_OTLP_ENDPOINT=http://"+silent.Addr().String(), "RINGFENCE_OTLP_RATIO=1")
	made := d.api.make
	d.api.make = func() *exec.Cmd {
		c := made()
		c.Env = append(c.Env, "RINGFENCE_BROKER_AUTH_LISTEN="+door, "RINGFENCE_BROKER_AUTH_SECRET="+word()+word())
		return c
	}
	d.end(d.api, syscall.SIGTERM)
	d.start(d.api)
	d.await("the API", time.Minute, func() error { return d.ready(d.base) })
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	publish := func(n int) {
		if _, err := p.clients[0].Publish(t.Context(), &paho.Publish{QoS: 1, Topic: "up/gateway", Payload: fmt.Appendf(nil, `{"id":"%d","device":"70b3d57ed0000001","payload_hex":"00"}`, n)}); err != nil {
			t.Fatal(err)
		}
		p.acked.Add(1)
	}
	publish(0)
	p.through(time.Minute)
	d.deaf(d.base, "/openapi.json")
	d.deaf("http://"+door, "/healthz")
	for _, p := range d.workers {
		d.deaf(p.metrics(), "/metrics")
	}
	d.freezePostgres()
	publish(1) // which the event worker cannot finish
	d.await("the event worker has it", time.Minute, func() error {
		if n := d.metric("event-worker", "ringfence_bus_fetched_total"); n < 2 {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
	d.freeze(d.kafka.Pid())
	publish(2) // which the MQTT worker cannot
	began := time.Now()
	for _, p := range d.workers {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	var all sync.WaitGroup
	late := make(chan error, len(d.workers))
	for name, p := range d.workers {
		all.Go(func() {
			select {
			case <-p.done:
			case <-time.After(2 * before):
				t.Errorf("%s has not ended after %s", name, time.Since(began))
				return
			}
			took, code := time.Since(began), p.cmd.ProcessState.ExitCode()
			t.Logf("%s ended after %s", name, took)
			switch {
			case took > before-2*time.Second:
				late <- fmt.Errorf("%s ended after %s with code %d:\n%s", name, took, code, p.log)
			case code != 0:
				t.Errorf("%s ended with code %d:\n%s", name, code, p.log)
			}
		})
	}
	all.Wait()
	close(late)
	for err := range late {
		missed = errors.Join(missed, err)
	}
	return missed
}
