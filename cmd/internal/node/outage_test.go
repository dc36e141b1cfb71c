//go:build services

package node_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

const light = "function decodeUplink(input) { return { data: { n: input.bytes[0] } } }"

// long is the number of the long run, or that of every day's.
func long[V any](always, far V) V {
	if os.Getenv("RINGFENCE_LONG") != "" {
		return far
	}
	return always
}

// PostgreSQL is away while MQTT and Kafka go on: the workers wait, small, and catch up.
func TestAnOutageOfPostgreSQLLosesNothing(t *testing.T) {
	d := deploy(t)
	cs := d.customers(10, light)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(4)
	defer p.close()
	most := map[string]int{}
	tried(t, func() error { return d.away(p, cs, most) })
	for name, mib := range most {
		if mib > 128 {
			t.Errorf("%s held %d MiB", name, mib)
		}
	}
}

// away takes PostgreSQL away from workers that have a quarter of what they can do, notes the most that each ever held, and answers if they
// catch up too late.
func (d *deployment) away(p *publisher, cs []customer, most map[string]int) error {
	d.t.Helper()
	const flood = 5_000
	began := time.Now()
	p.flood(d.t.Context(), cs, 0, flood)
	p.through(5 * time.Minute)
	quarter := max(1, min(1_000, int(flood/time.Since(began).Seconds()/4))) // events a second: of about 4,500 on a quiet machine
	outage := long(8*time.Second, time.Minute)
	ctx, stop := context.WithCancel(d.t.Context())
	defer stop()
	var publishing sync.WaitGroup
	publishing.Go(func() { p.flood(ctx, cs, quarter, 1<<30) })
	pause := func(d time.Duration) { <-time.After(d) }
	pause(3 * time.Second)
	before := p.acked.Load()
	d.pg.Stop()
	pause(outage)
	meanwhile := p.acked.Load() - before
	for _, name := range []string{"mqtt-ingestion-worker", "event-worker"} {
		d.lives(d.workers[name])
	}
	if err := d.ready(d.workers["event-worker"].metrics()); err == nil {
		d.t.Error("the event worker says that it is ready without its database")
	}
	d.await("the MQTT worker says that it has no database", 10*time.Second, func() error {
		if d.ready(d.workers["mqtt-ingestion-worker"].metrics()) == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	d.await("what was published meanwhile is in Kafka", time.Minute, func() error {
		if n := d.behind(); n < meanwhile {
			return fmt.Errorf("%d of %d", n, meanwhile)
		}
		return nil
	})
	d.pg.Start()
	back := time.Now()
	waited := d.behind()
	for behind := waited; behind > int64(3*quarter); behind = d.behind() { // what a second or two bring is no backlog
		if time.Since(back) > 10*time.Minute {
			d.logs()
			d.t.Fatalf("%d events are behind", behind)
		}
		pause(200 * time.Millisecond)
	}
	took := time.Since(back)
	stop()
	publishing.Wait()
	p.through(5 * time.Minute)
	acked := int(p.acked.Load())
	if n := d.count("SELECT count(*) FROM readings"); n != acked {
		d.t.Errorf("%d events were acknowledged, and there are %d readings", acked, n)
	}
	for _, name := range []string{"mqtt-ingestion-worker", "event-worker"} {
		most[name] = max(most[name], inStatus(d.workers[name].cmd.Process.Pid, "VmHWM:"))
	}
	d.t.Logf("away for %v at %d/s: %d events waited, caught up %v after its return; held at most %v MiB", outage, quarter, waited, took.Round(time.Millisecond), most)
	if took > 40*time.Second {
		return fmt.Errorf("caught up %v after the database's return", took)
	}
	return nil
}

// PostgreSQL hangs, which is no refusal: what tenants send that are known goes on to Kafka, whatever is asked of the database meanwhile.
func TestTenantsThatAreKnownPublishOnWhilePostgreSQLHangs(t *testing.T) {
	const rate, events = 100, 1_000 // a second, and in all: beyond the seconds after which the gate knows that it is told of nothing
	d := deploy(t)
	cs := d.customers(10, light)
	d.run("mqtt-ingestion-worker")
	p := d.publisher(4)
	defer p.close()
	inKafka := func(within time.Duration) {
		t.Helper()
		d.await("what was published is in Kafka", within, func() error {
			if n, want := d.records()-p.from, p.acked.Load(); n < want {
				return fmt.Errorf("%d of %d", n, want)
			}
			return nil
		})
	}
	p.flood(t.Context(), cs, 0, 2*len(cs))
	inKafka(time.Minute)
	d.freezePostgres()
	p.flood(t.Context(), cs, rate, events)
	inKafka(time.Minute) // two a second would be a fraction
}

// behind is how much of Kafka is not finished.
func (d *deployment) behind() (n int64) {
	d.t.Helper()
	for group, topic := range readers() {
		lags, err := d.carrier.Lags(d.t.Context(), group, topic)
		if fault.Is(err, fault.Unavailable) { // it has just been started: nobody knows yet
			return math.MaxInt64
		}
		if err != nil {
			d.t.Fatal(err)
		}
		for _, l := range lags {
			n += l.Behind()
		}
	}
	return n
}

// Each process is told to stop and started again, in turn, while events come by MQTT and HTTP: what was acknowledged is there, and who was
// not served was told to come again.
func TestStoppingProcessesInTurnLosesNothing(t *testing.T) {
	d := deploy(t)
	cs := d.customers(3, light)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(2)
	defer p.close()
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() { p.flood(ctx, cs, 300, 1<<30) })
	var later atomic.Int64
	var mu sync.Mutex
	var taken []string
	for hand := range 4 {
		sending.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				switch status, event := d.posted(ctx, fmt.Sprintf("%d %d", hand, n)); {
				case status == http.StatusAccepted:
					mu.Lock()
					taken = append(taken, event)
					mu.Unlock()
				case status == http.StatusServiceUnavailable || status == 0: // or nobody listens
					later.Add(1)
				case ctx.Err() == nil:
					t.Errorf("the API answers %d", status)
				}
			}
		})
	}
	for n := range 10 {
		pause := time.NewTimer(300 * time.Millisecond)
		<-pause.C
		name := []string{"platform-api", "mqtt-ingestion-worker", "event-worker"}[n%3]
		w := d.workers[name]
		d.end(w, syscall.SIGTERM)
		if code := w.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ends with %d:\n%s", name, code, w.log)
		}
		d.start(w)
	}
	d.await("the API is back", time.Minute, func() error { return d.ready(d.base) })
	stop()
	sending.Wait()
	d.await("the worker reads again", time.Minute, func() error { return d.ready(d.workers["mqtt-ingestion-worker"].metrics()) })
	if len(taken) == 0 || p.acked.Load() == 0 {
		t.Fatal("nothing was sent")
	}
	source, err := ident.ParseSource(d.source)
	if err != nil {
		t.Fatal(err)
	}
	for i := range taken {
		taken[i] = "'\\x" + eventHex(t, taken[i]) + "'"
	}
	for what, c := range map[string]struct {
		query string
		want  int
	}{
		"by MQTT": {"SELECT count(DISTINCT dedupe) FROM uplinks WHERE state = 'processed' AND source <> '\\x" + hex.EncodeToString(source[:]) + "'", int(p.acked.Load())},
		"by HTTP": {"SELECT count(*) FROM uplinks WHERE state = 'processed' AND id IN (" + strings.Join(taken, ", ") + ")", len(taken)}, // what came after a refusal does not stand in for what was accepted
	} {
		d.await("all that was acknowledged "+what, time.Minute, func() error {
			if n := d.count(c.query); n < c.want {
				return fmt.Errorf("%d of %d", n, c.want)
			}
			return nil
		})
	}
	if n := d.count("SELECT count(*) FROM (SELECT uplink FROM readings GROUP BY uplink HAVING count(*) > 1) x"); n != 0 {
		t.Errorf("%d events have two readings", n)
	}
	t.Logf("%d by MQTT, %d by HTTP, %d times told to come again", p.acked.Load(), len(taken), later.Load())
}

// sent posts one event; 0: nobody answered.
func (d *deployment) sent(ctx context.Context, id string) int {
	status, _ := d.posted(ctx, id)
	return status
}

// posted posts one event, and answers the id that it was given.
func (d *deployment) posted(ctx context.Context, id string) (status int, event string) {
	raw, _ := json.Marshal(object{"id": id, "device": "70b3d57ed0000001", "payload": "AA=="})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+"/v1/ingest/plain", bytes.NewReader(raw))
	if err != nil {
		return -1, ""
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+d.key)
	res, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = res.Body.Close() }()
	var said object
	if res.StatusCode == http.StatusAccepted && json.NewDecoder(res.Body).Decode(&said) != nil {
		return 0, "" // cut off
	}
	return res.StatusCode, str(said, "event_id")
}
