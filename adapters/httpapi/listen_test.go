package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serving runs an API on a real listener.
func serving(t *testing.T, s *stand, total, perAddress int) string {
	t.Helper()
	return servingOn(t, s, total, perAddress, func(l net.Listener) net.Listener { return l })
}

func servingOn(t *testing.T, s *stand, total, perAddress int, around func(net.Listener) net.Listener) string {
	t.Helper()
	l, err := Listen("127.0.0.1:0", total, perAddress)
	if err != nil {
		t.Fatal(err)
	}
	l = around(l)
	server := Server(s, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// alive asks for health on a connection that is kept.
func alive(c net.Conn) bool {
	if _, err := fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil && r.StatusCode == 200
}

func TestConnectionsAreBoundedPerAddressAndInAll(t *testing.T) {
	for name, c := range map[string]struct{ total, perAddress int }{"address": {100, 5}, "all": {5, 100}} {
		address := serving(t, newStand(t), c.total, c.perAddress)
		var held []net.Conn
		for i := range 5 {
			held = append(held, dial(t, address))
			if !alive(held[i]) {
				t.Fatalf("%s: connection %d is not served", name, i+1)
			}
		}
		for range 3 {
			if alive(dial(t, address)) {
				t.Errorf("%s: one connection too many is served", name)
			}
		}
		for i, h := range held {
			if !alive(h) {
				t.Errorf("%s: connection %d is not served any more", name, i+1)
			}
		}
		if err := held[0].Close(); err != nil {
			t.Fatal(err)
		}
		again := false
		for deadline := time.Now().Add(10 * time.Second); !again && time.Now().Before(deadline); {
			again = alive(dial(t, address))
		}
		if !again {
			t.Errorf("%s: a place that was left is not given again", name)
		}
	}
}

// An address may be used from a bounded number of connections; another address still has its own.
func TestOneAddressDoesNotUseUpAnothersConnections(t *testing.T) {
	l := &listener{total: 10, perAddress: 2, open: map[string]int{}}
	for _, c := range []struct {
		address string
		want    bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}} {
		if got := l.enter(c.address); got != c.want {
			t.Errorf("%s: %v", c.address, got)
		}
	}
	for range 2 {
		l.leave("a")
	}
	if _, ok := l.open["a"]; ok || l.all != 1 {
		t.Errorf("addresses pile up: %v", l.open)
	}
}

// I7: what the server waits for is bounded by the defaults of security.md.
func TestTheServerWaitsForNobodyLong(t *testing.T) {
	s := Server(nil, slog.New(slog.DiscardHandler))
	if s.ReadTimeout != 10*time.Second || s.ReadHeaderTimeout != 10*time.Second || s.MaxHeaderBytes != 16<<10 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Errorf("%+v", s)
	}
}

func TestHeadersPastTheLimitAreNotRead(t *testing.T) {
	address := serving(t, newStand(t), 100, 100)
	for size, want := range map[int]string{15 << 10: "200", 17 << 10: "431", 64 << 10: "431"} {
		c := dial(t, address)
		go func() {
			_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: %s\r\n\r\n", strings.Repeat("a", size))
		}()
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, want) {
			t.Errorf("%d bytes: %q %v", size, line, err)
		}
	}
}

// Anybody may send junk, which the audit log does not take: it is counted.
func TestARefusedCredentialIsCounted(t *testing.T) {
	s := newStand(t)
	s.wants(s.ask("GET", s.path(""), "", "Authorization", "Bearer rf_at_junk"), 401, "bad_credential")
	w := httptest.NewRecorder()
	s.o.Metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "ringfence_credentials_refused_total 1\n") {
		t.Errorf("%s", w.Body)
	}
}

// counted counts what is read of its connections.
type counted struct {
	net.Listener
	read *atomic.Int64
}

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	return countedConn{conn, c.read}, err
}

type countedConn struct {
	net.Conn
	read *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// A body of unknown length is read to its limit if somebody takes it, and not at all if nobody does: net/http would go on for
// another half MiB to find the next request.
func TestABodyOfUnknownLengthIsNotReadOn(t *testing.T) {
	for token, c := range map[string]struct {
		answer string
		most   int64
	}{good: {"413", 1<<20 + 64<<10}, "rf_at_none": {"401", 64 << 10}} {
		var read atomic.Int64
		address := servingOn(t, newStand(t), 100, 100, func(l net.Listener) net.Listener { return counted{l, &read} })
		conn := dial(t, address)
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", newStand(t).path(""), token); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for range 4096 {
				if _, err := io.WriteString(conn, "1000\r\n"+strings.Repeat(" ", 4096)+"\r\n"); err != nil {
					return
				}
			}
		}()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, c.answer) {
			t.Errorf("%q %v, want %s", line, err, c.answer)
		}
		<-stopped // the server has closed
		if n := read.Load(); n > c.most {
			t.Errorf("%s: %d bytes were read, at most %d may", c.answer, n, c.most)
		}
	}
}

// Whoever sends a body without end is answered while they send, and what the process takes of it is bounded: the limit, and
// what buffers hold.
func TestABodyWithoutEndIsAnsweredAndDropped(t *testing.T) {
	address := serving(t, newStand(t), 100, 100)
	c := dial(t, address)
	if err := c.(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", newStand(t).path(""), good); err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		chunk := "1000\r\n" + strings.Repeat(" ", 4096) + "\r\n"
		for sent.Load() < 64<<20 {
			if _, err := io.WriteString(c, chunk); err != nil {
				return
			}
			sent.Add(4096)
		}
	}()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "413") {
		t.Errorf("%q %v", line, err)
	}
	_ = c.Close()
	<-stopped
	if sent.Load() > 16<<20 {
		t.Errorf("%d bytes were taken", sent.Load())
	}
}

// Against the wire: what is too long by its own account is refused before a byte of it, and before anybody is asked.
func TestALengthPastTheLimitIsRefusedWithoutItsBody(t *testing.T) {
	s := newStand(t)
	c := dial(t, serving(t, s, 100, 100))
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n", s.path("")); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "413") || s.door.asked > 0 {
		t.Errorf("%q %v, %d asked", line, err, s.door.asked)
	}
}

func TestOddRequestLinesAreProblems(t *testing.T) {
	address := serving(t, newStand(t), 100, 100)
	for line, want := range map[string]string{"OPTIONS * HTTP/1.1": "404", "GET http://other.example/healthz HTTP/1.1": "200", "CONNECT x:1 HTTP/1.1": "404", "GET //healthz HTTP/1.1": "404", "GET /v1%2fme HTTP/1.1": "400"} {
		c := dial(t, address)
		if _, err := fmt.Fprintf(c, "%s\r\nHost: x\r\n\r\n", line); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || fmt.Sprint(r.StatusCode) != want || r.Header.Get("Request-Id") == "" {
			t.Errorf("%s: %v %+v", line, err, r)
		}
	}
}

// What the description says of net/http's own refusals: they are the only ones that are no problem documents.
func TestWhatIsNoHTTPIsRefusedInPlainText(t *testing.T) {
	address := serving(t, newStand(t), 100, 100)
	for what, text := range map[string]string{
		"an escape that is none": "GET /nodes/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "a NUL in the path": "GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
		"two lengths": "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "no Host": "GET /healthz HTTP/1.1\r\n\r\n",
	} {
		c := dial(t, address)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != 400 || !r.Close || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") || len(said) > 100 || bytes.ContainsRune(said, 0) {
			t.Errorf("%s: %v %+v %q", what, err, r, said)
		}
	}
}

// An answer that breaks off is seen as broken by the client, over the wire.
func TestAnAnswerThatBreaksOffDoesNotLookWhole(t *testing.T) {
	c := dial(t, serving(t, newStand(t), 100, 100))
	if _, err := fmt.Fprint(c, "GET /test/half HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil {
		_, err = io.ReadAll(r.Body)
	}
	if err == nil {
		t.Error("it looks whole")
	}
}

func TestReadinessIsNotHealth(t *testing.T) {
	s := newStand(t, func(o *Options) { o.Ready = func(context.Context) error { return errors.New("no store") } })
	if w := s.ask("GET", "/healthz", ""); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w := s.ask("GET", "/readyz", "")
	if s.wants(w, 503, "not_ready"); w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "no store") {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
	if w := newStand(t).ask("GET", "/readyz", ""); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
}

// I8: metrics are no route of the API, have few series, and name no tenant.
func TestMetricsStandApartAndNameNobody(t *testing.T) {
	s := newStand(t)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/vars"} {
		s.wants(s.ask("GET", path, ""), 404, "not_found")
	}
	count := func() int {
		w := httptest.NewRecorder()
		s.o.Metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		text := w.Body.String()
		if strings.Contains(text, s.ten.String()) || !strings.Contains(text, `ringfence_http_requests_total{class="4xx"}`) || !strings.Contains(text, `_bucket{le="+Inf"}`) {
			t.Errorf("%s", text)
		}
		return strings.Count(text, "\n")
	}
	s.ask("GET", s.path(""), "")
	before := count()
	for i := range byte(50) {
		s.ten[3] = i
		s.ask("GET", s.path(fmt.Sprintf("/%d", i)), "")
		s.ask("GET", s.path(""), "", "Authorization: -")
	}
	if after := count(); after != before {
		t.Errorf("%d lines became %d", before, after)
	}
}
