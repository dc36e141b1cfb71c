package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire is a keep-alive connection that is written and read without net/http: the client must not be what is measured.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(ctx context.Context, address string) (*socket, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &socket{conn, bufio.NewReaderSize(conn, 8<<10)}, nil
}

// ask sends a request and answers status, Retry-After and body.
func (s *socket) ask(request, into []byte) (status int, wait time.Duration, body []byte, err error) {
	if _, err = s.conn.Write(request); err != nil {
		return 0, 0, nil, err
	}
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, nil, err
	}
	if len(line) < 12 {
		return 0, 0, nil, errors.New("no status line")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, nil, err
	}
	length := -1
	for {
		line, err = s.in.ReadSlice('\n')
		if err != nil {
			return 0, 0, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, err = strconv.Atoi(string(v))
		} else if v, ok := bytes.CutPrefix(line, []byte("Retry-After: ")); ok {
			var seconds int
			seconds, err = strconv.Atoi(string(v))
			wait = time.Duration(seconds) * time.Second
		}
		if err != nil {
			return 0, 0, nil, err
		}
	}
	if length < 0 || length > cap(into) {
		return 0, 0, nil, fmt.Errorf("status %d with a body of %d bytes", status, length)
	}
	body = into[:length]
	_, err = io.ReadFull(s.in, body)
	return status, wait, body, err
}

// events are ChirpStack's, of 1.4 KB, that differ in id and counter: each is a new one.
type events struct {
	key    string
	before []byte // header and body up to the id
	middle []byte
	after  []byte
}

const newest = "5c3e1d0a-7f42-4b1e-9a65-0d8f2b6c4e17"

func eventsOf(t testing.TB, key, device string) events {
	t.Helper()
	body, err := os.ReadFile("../../core/uplink/testdata/chirpstack-up.json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(body))
	text = strings.Replace(text, "a84041ffff1e2d3c", device, 1)
	text = strings.Replace(text, "2026-11-24T09:14:27.318472+00:00", time.Now().UTC().Format("2006-01-02T15:04:05.000000+00:00"), 1)
	head := "POST /v1/ingest/chirpstack?event=up HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + key + "\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n"
	before, rest, _ := strings.Cut(head+text, newest)
	middle, after, ok := strings.Cut(rest, `"fCnt":48213`)
	if !ok {
		t.Fatal("the event is not as it was")
	}
	return events{key: key, before: []byte(before), middle: []byte(middle + `"fCnt":`), after: []byte(after)}
}

// next writes event n of a connection.
func (e *events) next(into []byte, run, conn, n int) []byte {
	id := [16]byte{byte(run), byte(conn), byte(n >> 16), byte(n >> 8), byte(n)}
	into = append(into[:0], e.before...)
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			into = append(into, '-')
		}
		into = hex.AppendEncode(into, id[[...]int{0, 4, 6, 8, 10}[i]:end])
	}
	into = strconv.AppendInt(append(into, e.middle...), int64(10_000+n%90_000), 10)
	return append(into, e.after...)
}

// traffic is what a number of connections got done in a time.
type traffic struct {
	perSecond float64
	took      []time.Duration // each request that was taken in
	refused   int
}

func (t traffic) percentile(p float64) time.Duration {
	if len(t.took) == 0 {
		return 0
	}
	slices.Sort(t.took)
	return t.took[min(int(float64(len(t.took))*p), len(t.took)-1)]
}

// load asks on conns keep-alive connections for a time, as fast as answers come, unless pause says how long to wait after
// each. 429 is waited for as long as the server says.
func load(t testing.TB, address string, conns int, during, pause time.Duration, want int, request func(into []byte, conn, n int) []byte) traffic {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	var mu sync.Mutex
	var all traffic
	var wg sync.WaitGroup
	began := time.Now()
	for c := range conns {
		wg.Go(func() {
			s, err := dial(ctx, address)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = s.conn.Close() }()
			var took []time.Duration
			refused := 0
			buffer, answer := make([]byte, 0, 4<<10), make([]byte, 0, 64<<10)
			for n := 0; ctx.Err() == nil; n++ {
				asked := time.Now()
				buffer = request(buffer, c, n)
				status, wait, body, err := s.ask(buffer, answer)
				if err != nil || status != want && status != 429 {
					t.Errorf("status %d, %v: %s", status, err, body)
					return
				}
				if status == 429 {
					refused++
					wait = max(wait, time.Millisecond)
				} else {
					took = append(took, time.Since(asked))
					wait = pause
				}
				if wait > 0 {
					select {
					case <-ctx.Done():
					case <-time.After(wait):
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.took, all.refused = append(all.took, took...), all.refused+refused
		})
	}
	wg.Wait()
	all.perSecond = float64(len(all.took)) / time.Since(began).Seconds()
	return all
}

// memory is the resident set of a process, in MiB: VmRSS is the present one, VmHWM the largest that it ever had.
func memory(t testing.TB, pid int, which string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), which+":")
	line, _, _ := strings.Cut(rest, "\n")
	kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(line), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return float64(kib) / 1024
}

// spent is the processor time that a process has used.
func spent(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

func benchTenant(b *testing.B, c *child, names ...string) (out []*demoTenant) {
	b.Helper()
	s, admin := c.story()
	for i, name := range names {
		t, err := s.tenant(admin, name, fmt.Sprintf("ana%d@bench.example", i))
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, t)
	}
	return out
}

var health = []byte("GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")

const (
	slice  = time.Second
	rounds = 11
)

// BenchmarkIngest is durable ingest over HTTP by 64 connections, processing off, beside the bare health route of the same
// server. Memory is the most that the server ever held.
func BenchmarkIngest(b *testing.B) {
	c := newChild(b, built(b), append(unlimited, "processing=false", "max_connections_per_address=1000")...)
	e := eventsOf(b, benchTenant(b, c, "Acme Water")[0].key, "70b3d57ed0000001")
	pid := c.cmd.Process.Pid
	var ratios, rates, bare, cost, slow []float64
	for run := range rounds {
		h := load(b, c.address, 64, slice, 0, 200, func([]byte, int, int) []byte { return health })
		before := spent(b, pid)
		i := load(b, c.address, 64, slice, 0, 202, func(into []byte, conn, n int) []byte { return e.next(into, run, conn, n) })
		ratios, rates, bare = append(ratios, i.perSecond/h.perSecond), append(rates, i.perSecond), append(bare, h.perSecond)
		slow = append(slow, float64(i.percentile(0.99).Microseconds())/1000)
		cost = append(cost, float64((spent(b, pid)-before).Microseconds())/float64(len(i.took)))
	}
	b.ReportMetric(median(ratios), "x-of-health")
	b.ReportMetric(median(rates), "events/s")
	b.ReportMetric(median(bare), "health/s")
	b.ReportMetric(median(cost), "cpu-µs/event")
	b.ReportMetric(median(slow), "p99-ms")
	b.ReportMetric(memory(b, pid, "VmHWM"), "peak-MiB")
}

// BenchmarkSustained is ingest with decoding on: what comes in and is decoded for as long as it comes, and how long an event
// waits for its reading. The times are the server's own, of arrival and outcome.
func BenchmarkSustained(b *testing.B) {
	c := newChild(b, built(b), append(unlimited, "max_connections_per_address=1000")...)
	e := eventsOf(b, benchTenant(b, c, "Acme Water")[0].key, "70b3d57ed0000001")
	const pause = 40 * time.Millisecond // 64 connections offer 1,600 events a second at most
	var rates []float64
	for run := range 5 {
		i := load(b, c.address, 64, 2*slice, pause, 202, func(into []byte, conn, n int) []byte { return e.next(into, run, conn, n) })
		rates = append(rates, i.perSecond)
	}
	waited := c.waits()
	b.ReportMetric(median(rates), "events/s")
	b.ReportMetric(waited[len(waited)/2]/1000, "p50-ms")
	b.ReportMetric(waited[len(waited)*99/100]/1000, "p99-ms")

	began := time.Now() // and as fast as they come, until the last one is decoded
	flood := load(b, c.address, 64, 4*slice, 0, 202, func(into []byte, conn, n int) []byte { return e.next(into, 100, conn, n) })
	for len(c.waits()) < len(waited)+len(flood.took) {
		if time.Since(began) > 5*time.Minute {
			b.Fatal("the backlog is not worked off")
		}
		<-time.After(50 * time.Millisecond)
	}
	b.ReportMetric(float64(len(flood.took))/time.Since(began).Seconds(), "decoded/s")
}

// waits are the microseconds from arrival to outcome of all events that have one, sorted.
func (c *child) waits() (out []float64) {
	c.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(c.dir, "ringfence.db")+"?mode=ro")
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(c.t.Context(), "SELECT o.at - u.arrived FROM outcomes o JOIN uplinks u ON u.tenant = o.tenant AND u.id = o.uplink ORDER BY 1")
	if err != nil {
		c.t.Fatal(err)
	}
	for rows.Next() {
		var w float64
		if err := rows.Scan(&w); err != nil {
			c.t.Fatal(err)
		}
		out = append(out, w)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		c.t.Fatal(err)
	}
	return out
}

// BenchmarkNeighbour is a quiet tenant's p99, alone and while another floods with 64 connections that wait as long as they
// are told to, all limits at their defaults.
func BenchmarkNeighbour(b *testing.B) {
	c := newChild(b, built(b))
	both := benchTenant(b, c, "Quiet Water", "Loud Power")
	quiet, loud := eventsOf(b, both[0].key, "70b3d57ed0000001"), eventsOf(b, both[1].key, "70b3d57ed0000001")
	var ratios, alone, beside []float64
	var accepted, refused int
	ask := func(run int) float64 {
		got := load(b, c.address, 1, 3*slice, 12*time.Millisecond, 202, func(into []byte, conn, n int) []byte { return quiet.next(into, run, conn, n) })
		if got.refused > 0 {
			b.Fatal("the quiet tenant was refused")
		}
		return float64(got.percentile(0.99).Microseconds()) / 1000
	}
	for run := range 7 {
		alone = append(alone, ask(2*run))
		var wg sync.WaitGroup
		wg.Go(func() {
			f := load(b, c.address, 64, 3*slice, 0, 202, func(into []byte, conn, n int) []byte { return loud.next(into, 50+run, conn, n) })
			accepted, refused = accepted+len(f.took), refused+f.refused
		})
		beside = append(beside, ask(2*run+1))
		wg.Wait()
		ratios = append(ratios, beside[run]/alone[run])
	}
	b.ReportMetric(median(ratios), "x-of-quiet")
	b.ReportMetric(median(alone), "quiet-p99-ms")
	b.ReportMetric(median(beside), "flooded-p99-ms")
	b.ReportMetric(float64(accepted)/21, "flood-accepted/s")
	b.ReportMetric(float64(refused)/21, "flood-refused/s")
}

// BenchmarkRest is the memory of a server that has been set up: the median and the largest of five looks in the minute after,
// the last at its end.
func BenchmarkRest(b *testing.B) {
	binary := built(b)
	newChild(b, binary).kill() // the engine's code is compiled once and kept
	c := newChild(b, binary)
	benchTenant(b, c, "Acme Water")
	var looks []float64
	for range 5 {
		<-time.After(time.Minute / 5)
		looks = append(looks, memory(b, c.cmd.Process.Pid, "VmRSS"))
	}
	b.ReportMetric(median(looks), "MiB")
	b.ReportMetric(slices.Max(looks), "most-MiB")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}
