//go:build services

package node_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// customer is a tenant with a source that publishes straight to the broker, and devices that are decoded.
type customer struct{ id, source string }

const pumps = 5 // devices of a customer

// customers makes tenants, as the operator and each of their owners do.
func (d *deployment) customers(n int, script string) []customer {
	d.t.Helper()
	all := make([]customer, n)
	for i := range all {
		made := d.ask("POST", "/v1/platform/tenants", object{"name": fmt.Sprintf("Customer %d", i), "owner_email": "ana@acme.example"}, 201)
		all[i].id = str(made, "id")
		d.ask("POST", "/v1/auth/invitations/accept", object{"token": str(made, "owner_invitation", "secret")}, 201)
		at := "/v1/tenants/" + all[i].id
		dec := str(d.ask("POST", at+"/decoders", object{"name": "level"}, 201), "id")
		version := str(d.ask("POST", at+"/decoders/"+dec+"/versions", object{"source": script}, 201), "id")
		d.ask("POST", at+"/decoders/"+dec+"/activate", object{"version_id": version, "-rev": str(d.ask("GET", at+"/decoders/"+dec, nil, 200), "-etag")}, 200)
		for p := range pumps {
			d.ask("POST", at+"/devices", object{"name": fmt.Sprint("pump ", p), "decoder_id": dec, "addresses": []object{{"kind": "serial", "value": fmt.Sprint("pump-", p)}}}, 201)
		}
		all[i].source = str(d.ask("POST", at+"/sources", object{"name": "direct", "format": "plain"}, 201), "id")
	}
	return all
}

// publisher publishes to the broker over a few connections, each event until the broker has acknowledged it.
type publisher struct {
	d       *deployment
	clients []*paho.Client
	acked   atomic.Int64
	n       atomic.Int64 // events begun, of which each has a number
	from    int64        // records that Kafka had before
}

func (d *deployment) publisher(connections int) *publisher {
	return d.publisherTo(d.mosquitto, connections)
}

func (d *deployment) publisherTo(broker *servers.Server, connections int) *publisher {
	d.t.Helper()
	p := &publisher{d: d, from: d.records()}
	for i := range connections {
		conn, err := net.Dial("tcp", broker.Addr())
		if err != nil {
			d.t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: conn, SendAcksInterval: time.Millisecond, PacketTimeout: time.Minute})
		if _, err := c.Connect(d.t.Context(), &paho.Connect{ClientID: fmt.Sprintf("load-%d-%d", time.Now().UnixNano(), i), CleanStart: true, KeepAlive: 30, UsernameFlag: true, Username: d.mqttUser, PasswordFlag: true, Password: []byte(d.mqttPassword)}); err != nil {
			d.t.Fatal(err)
		}
		p.clients = append(p.clients, c)
	}
	return p
}

func (p *publisher) close() {
	for _, c := range p.clients {
		_ = c.Disconnect(&paho.Disconnect{ReasonCode: 0})
	}
}

// says publishes one message, whatever it is, and waits for the broker.
func (p *publisher) says(topic, body string) {
	p.d.t.Helper()
	if _, err := p.clients[0].Publish(p.d.t.Context(), &paho.Publish{QoS: 1, Topic: topic, Payload: []byte(body)}); err != nil {
		p.d.t.Fatalf("%s: %v", topic, err)
	}
}

// send publishes one event of a customer and waits for the broker.
func (p *publisher) send(ctx context.Context, of customer, n int64) error {
	body := fmt.Sprintf(`{"id":"%d","device":"pump-%d","address_kind":"serial","time":"%s","payload_hex":"%02x%048x"}`, n, n/7%pumps, time.Now().UTC().Format(time.RFC3339Nano), n%200, n)
	_, err := p.clients[n%int64(len(p.clients))].Publish(ctx, &paho.Publish{QoS: 1, Topic: "rf/" + of.id + "/" + of.source + "/up", Payload: []byte(body)})
	if err == nil {
		p.acked.Add(1)
	}
	return err
}

// flood publishes until so many events were, or the context ends, and answers how many were acknowledged; rate 0 is as fast as the broker
// takes them.
func (p *publisher) flood(ctx context.Context, of []customer, rate, events int) int {
	p.d.t.Helper()
	var inFlight sync.WaitGroup
	var acked atomic.Int64
	begun := make(chan customer)
	hands := 128
	if rate > 0 {
		hands = min(hands, max(rate/10, 8))
	}
	for range hands {
		inFlight.Go(func() {
			for c := range begun {
				switch err := p.send(p.d.t.Context(), c, p.n.Add(1)); {
				case err == nil:
					acked.Add(1)
				case ctx.Err() == nil:
					p.d.t.Errorf("publish: %v", err)
				}
			}
		})
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for n := 0; n < events && ctx.Err() == nil; n++ {
		for rate > 0 && time.Since(began) < time.Duration(n)*time.Second/time.Duration(rate) && ctx.Err() == nil {
			<-tick.C
		}
		begun <- of[n%len(of)]
	}
	close(begun)
	inFlight.Wait()
	return int(acked.Load())
}

// spent is the processor time of processes and all that they began, in seconds.
func spent(pids ...int) (seconds float64) {
	all := map[int]bool{}
	for _, pid := range pids {
		all[pid] = true
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for range 3 { // children of children
		for _, file := range stats {
			if f := stat(file); len(f) > 20 {
				parent, _ := strconv.Atoi(f[1])
				if pid, _ := strconv.Atoi(strings.Split(file, "/")[2]); all[parent] {
					all[pid] = true
				}
			}
		}
	}
	for pid := range all {
		if f := stat(fmt.Sprintf("/proc/%d/stat", pid)); len(f) > 20 {
			for _, ticks := range f[11:15] { // its own, and those of children that have ended
				n, _ := strconv.ParseFloat(ticks, 64)
				seconds += n / 100
			}
		}
	}
	return seconds
}

// stat are a process's numbers from its state on.
func stat(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// held is the memory that a process holds, in MiB.
func held(pid int) int { return inStatus(pid, "VmRSS:") }

// inStatus is what a process's status says of its memory, in MiB.
func inStatus(pid int, what string) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, what); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kib / 1024
		}
	}
	return 0
}

// readers are who reads what.
func readers() map[string]string {
	return map[string]string{kafkabus.Group("rf"): "rf.uplinks", kafkabus.LaterGroup("rf"): "rf.uplinks.later"}
}

// read waits until all that Kafka has is finished.
func (d *deployment) read(within time.Duration) {
	d.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond) // each look costs what is measured
	defer tick.Stop()
	late := time.Now().Add(within)
	for {
		behind := d.behind()
		if behind == 0 {
			return
		}
		if time.Now().After(late) {
			d.logs()
			d.t.Fatalf("%d events are not finished after %v", behind, within)
		}
		<-tick.C
	}
}

// through waits until all that the broker acknowledged is in Kafka, to which nobody else adds, and finished.
func (p *publisher) through(within time.Duration) {
	p.d.t.Helper()
	began := time.Now()
	p.d.await("all messages are in Kafka", within, func() error {
		if n, want := p.d.records()-p.from, p.acked.Load(); n < want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
	p.d.read(within - time.Since(began))
}

// records is how many uplinks Kafka ever had.
func (d *deployment) records() (n int64) {
	d.t.Helper()
	d.await("Kafka", time.Minute, func() error {
		lags, err := d.carrier.Lags(d.t.Context(), kafkabus.Group("rf"), "rf.uplinks")
		n = 0
		for _, l := range lags {
			n += l.End
		}
		return err
	})
	return n
}

// eventHex is an event's id as the database has it.
func eventHex(t testing.TB, id string) string {
	t.Helper()
	event, err := ident.ParseUplink(id)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(event[:])
}

// hexOf is a tenant's id as the database has it.
func hexOf(t testing.TB, id string) string {
	t.Helper()
	tenant, err := ident.ParseTenant(id)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(tenant[:])
}
