package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bunrouter"

	"github.com/ringfence/ringfence/core/fault"
)

func nobody() *Call { return nil }

func rawPanic(http.ResponseWriter, bunrouter.Request) error { panic(canary) }

func rawError(w http.ResponseWriter, _ bunrouter.Request) error {
	w.Header().Set("Etag", `"1"`)
	w.WriteHeader(http.StatusCreated)
	return errors.New("driver says no")
}

func rawHalf(w http.ResponseWriter, _ bunrouter.Request) error {
	_, _ = w.Write([]byte("half of it"))
	return errors.New("driver says no")
}

func TestNoErrorAndNoPanicAnswers200(t *testing.T) {
	s := newStand(t)
	for _, path := range []string{"/test/panic", "/test/error", "/test/silent", "/v1/me/broken", "/v1/me/nothing"} {
		w := s.ask("GET", path, "")
		s.wants(w, 500, "internal")
		if w.Header().Get("Etag") != "" {
			t.Errorf("%s: the error carries what the handler had prepared: %v", path, w.Header())
		}
	}
	if w := s.ask("GET", "/test/half", ""); w.Code != 0 {
		t.Errorf("an answer that broke off looks whole: %d %s", w.Code, w.Body)
	}
	for name, do := range map[string]func(context.Context, *Call) error{
		"panic":         func(context.Context, *Call) error { panic(canary) },
		"runtime panic": func(context.Context, *Call) error { return errors.New(nobody().Query) },
		"error":         func(context.Context, *Call) error { return fmt.Errorf("pq: %w", errors.New("driver says no")) },
		"our fault":     func(context.Context, *Call) error { return fault.New(fault.Internal, "seal", "Inner words.") },
	} {
		s.do = do
		w := s.ask("POST", s.path(""), `{"name":"pump"}`)
		if s.wants(w, 500, "internal"); w.Header().Get("Location") != "" || strings.Contains(w.Body.String(), "driver") || strings.Contains(w.Body.String(), "Inner") {
			t.Errorf("%s: %v %s", name, w.Header(), w.Body)
		}
	}
	if log := s.logged(); !strings.Contains(log, "*fmt.wrapError: *errors.errorString") || strings.Contains(log, "driver says no") || !strings.Contains(log, "panic: string") || !strings.Contains(log, "nil pointer") || strings.Contains(log, canary) {
		t.Errorf("the log lacks a cause, or has what was thrown: %s", log)
	}
}

// A stream that fails before its first byte is answered as any other failure; behind it the answer breaks off. What failed is logged.
func TestAStreamThatFailsIsNeverWhole(t *testing.T) {
	s := newStand(t)
	gone := fault.Wrap(errors.New("no"), fault.Unavailable, "store_unavailable", "The store is away.").WithRetry(time.Second)
	s.stream = func(io.Writer) error { return gone }
	if w := s.ask("GET", "/v1/me/file", ""); w.Header().Get("Content-Disposition") != "" {
		t.Errorf("the error is a file: %v", w.Header())
	} else {
		s.wants(w, 503, "store_unavailable")
	}
	s.stream = func(w io.Writer) error { _, _ = io.WriteString(w, "half"); return gone }
	if w := s.ask("GET", "/v1/me/file", ""); w.Code != 0 {
		t.Errorf("an answer that broke off looks whole: %d %s", w.Code, w.Body)
	}
	if log := s.logged(); strings.Count(log, "*errors.errorString") != 2 || strings.Contains(log, "panic") {
		t.Errorf("the log does not say why: %s", log)
	}
	for _, whole := range []string{"", "all"} {
		s.stream = func(w io.Writer) error { _, err := io.WriteString(w, whole); return err }
		if w := s.ask("GET", "/v1/me/file", ""); w.Code != 200 || w.Body.String() != whole || w.Header().Get("Content-Type") != "text/plain" {
			t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
		}
	}
}

// A panic behind huma's adapter is swallowed by it, and one in a Compat handler answers 200 on a bare router: if that changes
// this test says so, and our own recovery can become simpler.
func TestTheRouterAloneWouldAnswer200(t *testing.T) {
	r := bunrouter.New()
	r.GET("/error", func(http.ResponseWriter, bunrouter.Request) error { return errors.New("no") })
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", "/error", nil))
	if w.Code != 200 {
		t.Errorf("bunrouter answers an error with %d now", w.Code)
	}
	s := newStand(t)
	s.router.Compat().GET("/test/compat", func(http.ResponseWriter, *http.Request) { panic("no") })
	s.wants(s.ask("GET", "/test/compat", ""), 500, "internal")
}

func TestEveryAnswerCarriesItsIdAndIsNotKept(t *testing.T) {
	s := newStand(t)
	seen := map[string]bool{}
	for _, path := range []string{"/healthz", "/readyz", "/docs", "/openapi.json", "/openapi.yaml", "/problems/not_found", "/nowhere", "/test/panic", s.path(""), s.path("/x?a=1&a=2")} {
		w := s.ask("GET", path, "", "Request-Id: "+canary)
		h := w.Header()
		if id := h.Get("Request-Id"); !strings.HasPrefix(id, "req_") || seen[id] {
			t.Errorf("%s: request id %q", path, id)
		}
		seen[h.Get("Request-Id")] = true
		for k, v := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if h.Get(k) != v {
				t.Errorf("%s: %s is %q", path, k, h.Get(k))
			}
		}
		if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || strings.Contains(h.Get("Content-Security-Policy"), "script") {
			t.Errorf("%s: policy %q", path, h.Get("Content-Security-Policy"))
		}
	}
}

// H2: whatever a request holds, the log is one JSON object a line, one line a request, and none of it is the query.
func TestLogsCannotBeForged(t *testing.T) {
	s := newStand(t)
	s.do = func(context.Context, *Call) error { return nil }
	evil := []string{"\n", "\r\n", "\x1b[31m", "\u2028", "\u2029", "\x00", "\u0085", "\x7f", `"}` + "\n" + `{"msg":"request","status":200`, "%0a"}
	before := strings.Count(s.logged(), "\n")
	n := 0
	for _, e := range evil {
		for _, field := range []string{"User-Agent", "Traceparent", "X-Forwarded-For", "Idempotency-Key"} {
			r := httptest.NewRequest("GET", "http://iot.example.com"+s.path("?name=q"), nil)
			r.Header[field] = []string{"x" + e + "y"}
			r.Method = "GET" + e
			r.RemoteAddr = "10.0.0.1:1" + e
			s.serve(httptest.NewRecorder(), r)
			n++
		}
	}
	s.ask("GET", s.path("?name="+canary), "")
	n++
	log := s.logged()
	if got := strings.Count(log, "\n") - before; got != n {
		t.Fatalf("%d requests, %d lines", n, got)
	}
	lines := bufio.NewScanner(strings.NewReader(log))
	for lines.Scan() {
		var v map[string]any
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil || v["msg"] != "request" || v["request_id"] == "" || v["status"] == nil {
			t.Errorf("%v: %s", err, lines.Text())
		}
		for _, r := range lines.Text() {
			if control(r) || r == 0x2028 || r == 0x2029 {
				t.Errorf("a control character in %q", lines.Text())
			}
		}
	}
	if strings.Contains(log, canary) || strings.Contains(log, good) {
		t.Errorf("the log has a query's value, or a token: %s", log)
	}
}

func TestTheTraceOfACallerIsTakenIfItIsOne(t *testing.T) {
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{[]string{"00-" + id + "-" + parent + "-01"}, id},
		{[]string{"00-" + id + "-" + parent + "-01", "00-" + id + "-" + parent + "-01"}, ""},
		{[]string{"01-" + id + "-" + parent + "-01"}, ""},
		{[]string{"00-" + strings.ToUpper(id) + "-" + parent + "-01"}, ""},
		{[]string{"00-" + strings.Repeat("0", 32) + "-" + parent + "-01"}, ""},
		{[]string{"00-" + id + "-" + strings.Repeat("0", 16) + "-01"}, ""},
		{[]string{"00-" + id[:31] + "g-" + parent + "-01"}, ""},
		{[]string{"00-" + id + "-" + parent + "-01-"}, ""},
		{[]string{"00-" + id + "x" + parent + "-01"}, ""},
		{[]string{""}, ""}, {nil, ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Traceparent"] = c.fields
		if got := sender(r).ID(); got != c.want {
			t.Errorf("%q: %q", c.fields, got)
		}
	}
}

func TestTheAddressIsTheConnectionsUnlessAProxyIsTrusted(t *testing.T) {
	s := newStand(t)
	for _, c := range []struct {
		remote, want string
		forwarded    []string
	}{
		{"203.0.113.9:1", "203.0.113.9", nil},
		{"203.0.113.9:1", "203.0.113.9", []string{"198.51.100.1"}},
		{"10.0.0.1:1", "10.0.0.1", nil},
		{"10.0.0.1:1", "198.51.100.1", []string{"198.51.100.1"}},
		{"10.0.0.1:1", "198.51.100.1", []string{"1.2.3.4, 198.51.100.1"}},
		{"10.0.0.1:1", "198.51.100.1", []string{"1.2.3.4", "198.51.100.1, 10.9.9.9"}},
		{"10.0.0.1:1", "10.9.9.9", []string{"198.51.100.1, junk, 10.9.9.9"}},
		{"10.0.0.1:1", "10.0.0.1", []string{"198.51.100.1:443"}},
		{"[::ffff:10.0.0.1]:1", "198.51.100.1", []string{"::ffff:198.51.100.1"}},
		{"[2001:db8::1]:1", "2001:db8::1", []string{"10.0.0.1"}},
		{"junk", "", nil},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Header["X-Forwarded-For"] = c.remote, c.forwarded
		if got := s.client(r); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}

func TestHeadIsAGetWithoutItsBody(t *testing.T) {
	s := newStand(t)
	for _, path := range []string{"/healthz", s.path(""), s.path("/junk"), "/nowhere"} {
		get, head := s.ask("GET", path, ""), s.ask("HEAD", path, "")
		if head.Code != get.Code || head.Body.Len() != 0 || head.Header().Get("Content-Type") != get.Header().Get("Content-Type") {
			t.Errorf("%s: %d %q after %d", path, head.Code, head.Body, get.Code)
		}
	}
}

func TestTwoServersInOneProcessDoNotRace(t *testing.T) {
	done := make(chan struct{})
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			s := newStand(t)
			for range 20 {
				if w := s.ask("POST", s.path(""), `{"name":""}`); w.Code != 422 {
					t.Errorf("%d", w.Code)
				}
			}
		}()
	}
	<-done
	<-done
}
