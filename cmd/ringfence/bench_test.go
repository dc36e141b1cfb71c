package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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

// memory is the resident set of a process, in MiB.
func memory(t testing.TB, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
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
// server. Memory is looked at while events come in.
func BenchmarkIngest(b *testing.B) {
	c := newChild(b, built(b), append(unlimited, "processing=false", "max_connections_per_address=1000")...)
	e := eventsOf(b, benchTenant(b, c, "Acme Water")[0].key, "70b3d57ed0000001")
	pid := c.cmd.Process.Pid
	var ratios, rates, bare, cost, most, slow []float64
	for run := range rounds {
		h := load(b, c.address, 64, slice, 0, 200, func([]byte, int, int) []byte { return health })
		before := spent(b, pid)
		i := load(b, c.address, 64, slice, 0, 202, func(into []byte, conn, n int) []byte { return e.next(into, run, conn, n) })
		ratios, rates, bare = append(ratios, i.perSecond/h.perSecond), append(rates, i.perSecond), append(bare, h.perSecond)
		slow = append(slow, float64(i.percentile(0.99).Microseconds())/1000)
		cost, most = append(cost, float64((spent(b, pid)-before).Microseconds())/float64(len(i.took))), append(most, memory(b, pid))
	}
	b.ReportMetric(median(ratios), "x-of-health")
	b.ReportMetric(median(rates), "events/s")
	b.ReportMetric(median(bare), "health/s")
	b.ReportMetric(median(cost), "cpu-µs/event")
	b.ReportMetric(median(slow), "p99-ms")
	b.ReportMetric(slices.Max(most), "MiB")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}
