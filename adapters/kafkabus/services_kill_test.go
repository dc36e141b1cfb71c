//go:build services

package kafkabus_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/bustest"
)

// A Kafka of its own is killed and started again, once in the suite's check and once under a stream of records.
func TestAKilledKafkaLosesNothingThatWasAcknowledged(t *testing.T) {
	s, admin := servers.Kafka(t)
	p := real(t, s.Addr(), admin)
	for _, c := range bustest.Checks() {
		if c.Needs == bustest.Restarting {
			t.Run(c.Name, func(t *testing.T) {
				one := p.server()
				one.Restart = func(testing.TB) { s.Kill(); s.Start() }
				c.Run(t, one)
			})
		}
	}
	create(t, p, "stream", 3)
	b := open(t, p.options)
	m := join(t, b, "g", "stream")
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	stop := make(chan struct{})
	patient, end := context.WithTimeout(t.Context(), 5*time.Minute) // over the start of a server
	defer end()
	var wg sync.WaitGroup
	wg.Go(func() {
		for from := 0; ; from += 50 {
			select {
			case <-stop:
				return
			default:
			}
			rs := sent("stream", 7, from, 50)
			for i, err := range b.Publish(patient, rs) {
				if err != nil {
					t.Errorf("publishing: %v", err)
					return
				}
				mu.Lock()
				acknowledged[string(rs[i].Value)] = true
				mu.Unlock()
			}
		}
	})
	var got []bus.Record
	read := func(d time.Duration) {
		for until := time.Now().Add(d); time.Now().Before(until); {
			rs, err := m.Fetch(soon(t), 500, 100*time.Millisecond)
			if err != nil && !errors.Is(err, bus.ErrAway) {
				t.Fatal(err)
			}
			got = append(got, rs...)
			if len(rs) > 0 {
				_ = m.Commit(soon(t), []bus.Mark{{Topic: "stream", Partition: rs[0].Partition, Next: rs[0].Offset + 1}})
			}
		}
	}
	read(time.Second)
	s.Kill()
	s.Start()
	began := time.Now()
	read(2 * time.Second)
	close(stop)
	wg.Wait()
	for ctx := patient; ; {
		seen := map[string]bool{}
		for _, r := range got {
			seen[string(r.Value)] = true
		}
		mu.Lock()
		missing := 0
		for value := range acknowledged {
			if !seen[value] {
				missing++
			}
		}
		mu.Unlock()
		if missing == 0 {
			break
		}
		if ctx.Err() != nil {
			ls, err := b.Lags(soon(t), "g", "stream")
			t.Fatalf("%d of %d acknowledged records never came; %+v, %v; %v", missing, len(acknowledged), ls, err, b.Watch())
		}
		read(500 * time.Millisecond)
	}
	noHoles(t, got)
	firsts(t, all(t, b, "stream", 3), len(acknowledged))
	t.Logf("%d acknowledged, %d read, the last of them %v after the start", len(acknowledged), len(got), time.Since(began).Round(100*time.Millisecond))
}

// memberOrders is what a process of its own is told in its environment.
type memberOrders struct{ Addr, User, Password, Expected, Topic, Group string }

const ordersName = "RINGFENCE_KAFKABUS_MEMBER"

// In a process of its own this is a member that tells what it is given; among other tests it has no orders.
func TestAMemberInAProcessOfItsOwn(t *testing.T) {
	text := os.Getenv(ordersName)
	if text == "" {
		return
	}
	var o memberOrders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	b := open(t, kafkabus.Options{Brokers: []string{o.Addr}, User: o.User, Password: secret.New(o.Password), Expected: o.Expected, Heartbeat: 200 * time.Millisecond})
	m, err := b.Join(t.Context(), o.Group, o.Topic)
	if err != nil {
		t.Fatal(err)
	}
	for {
		rs, err := m.Fetch(t.Context(), 20, time.Second)
		if err != nil && !errors.Is(err, bus.ErrAway) {
			t.Fatal(err)
		}
		for _, r := range rs {
			fmt.Printf("got %s %d %d\n", r.Value, r.Partition, r.Offset)
		}
		if len(rs) > 0 {
			_ = m.Commit(t.Context(), []bus.Mark{{Topic: o.Topic, Partition: rs[len(rs)-1].Partition, Next: rs[len(rs)-1].Offset + 1}})
		}
	}
}

// A member is frozen by SIGSTOP: the other takes over what it had, and when it thaws it hands out nothing that was done meanwhile.
func TestAFrozenMembersRecordsComeToTheOtherAndItThawsInPeace(t *testing.T) {
	addr, admin := servers.SharedKafka(t)
	p := real(t, addr, admin)
	topic, group := p.options.Expected+".t", p.options.Expected+".g"
	create(t, p, topic, 4)
	orders, err := json.Marshal(memberOrders{addr, admin.User, admin.Password, p.options.Expected, topic, group})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAMemberInAProcessOfItsOwn$", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), ordersName+"="+string(orders))
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var mu sync.Mutex
	seen, theirs := map[string]bool{}, 0
	told := make(chan struct{}, 1)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			if f := strings.Fields(s.Text()); len(f) == 4 && f[0] == "got" {
				mu.Lock()
				seen[f[1]] = true
				theirs++
				mu.Unlock()
				select {
				case told <- struct{}{}:
				default:
				}
			}
		}
	}()
	b := open(t, p.options)
	m := join(t, b, group, topic)
	n := 0
	publish := func(more int) {
		good(t, b.Publish(soon(t), sent(topic, 40, n, more)))
		n += more
	}
	twice := 0
	readAll := func() {
		ctx := soon(t)
		for {
			mu.Lock()
			done := len(seen) == n
			mu.Unlock()
			if done {
				return
			}
			rs, err := m.Fetch(ctx, 100, 100*time.Millisecond)
			if err != nil && !errors.Is(err, bus.ErrAway) || ctx.Err() != nil {
				t.Fatalf("%d of %d: %v %s", len(seen), n, err, complaints.String())
			}
			mu.Lock()
			for _, r := range rs {
				if seen[string(r.Value)] {
					twice++
				}
				seen[string(r.Value)] = true
			}
			mu.Unlock()
			for p := range 4 {
				if i := slices.IndexFunc(rs, func(r bus.Record) bool { return r.Partition == p }); i >= 0 {
					last := rs[i]
					for _, r := range rs {
						if r.Partition == p {
							last = r
						}
					}
					_ = m.Commit(ctx, []bus.Mark{{Topic: topic, Partition: p, Next: last.Offset + 1}})
				}
			}
		}
	}
	for shared := false; !shared; { // until both read
		publish(80)
		readAll()
		mu.Lock()
		shared = theirs > 0
		mu.Unlock()
	}
	<-told
	publish(40)
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	publish(400)
	readAll()
	took := time.Since(began)
	mu.Lock()
	before := theirs
	mu.Unlock()
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	publish(400)
	readAll()
	for again := false; !again; { // it is back among us
		publish(80)
		readAll()
		mu.Lock()
		again = theirs > before
		mu.Unlock()
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d records, %d came twice; all of a frozen member's were the other's after %v", n, twice, took.Round(100*time.Millisecond))
}
