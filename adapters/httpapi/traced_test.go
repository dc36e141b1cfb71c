package httpapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/otlp"
	"github.com/ringfence/ringfence/adapters/otlp/otlptest"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/trace"
)

func TestARequestIsASpanOfItsCallersTrace(t *testing.T) {
	const id, hidden = "0af7651916cd43dd8448eb211c80319c", "canary-of-a-caller"
	r := otlptest.New(t)
	e, err := otlp.Open(otlp.Options{Endpoint: r.URL, Ratio: 1, Service: "api", Random: func(b []byte) { _, _ = rand.Read(b) }, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := newStand(t, func(o *Options) { o.Tracer = e })
	var at []trace.Place
	s.do = func(ctx context.Context, c *Call) error {
		at = append(at, trace.Of(ctx))
		if at[len(at)-1].ID() != c.Origin.Trace {
			t.Errorf("the origin is of trace %s", c.Origin.Trace)
		}
		if len(at) == 2 {
			return fault.New(fault.Internal, "broken", "%s", hidden)
		}
		return nil
	}
	s.ask("GET", s.path("?name="+hidden), "", "Traceparent: 00-"+id+"-b7ad6b7169203331-00", "User-Agent: "+hidden)
	s.ask("GET", s.path(""), "", "Traceparent: "+hidden)
	s.ask("GET", "/"+hidden, "")
	r.Await(3)
	e.Close(t.Context())
	spans := r.Spans()
	if len(spans) != 3 || len(at) != 2 {
		t.Fatalf("%+v", spans)
	}
	if one := spans[0]; one.Name != "listThings" || one.Trace != id || one.Parent != "b7ad6b7169203331" || one.ID != at[0].String()[36:52] || one.Said["http.response.status_code"] != "200" || one.Failed || one.Kind != "server" {
		t.Errorf("%+v", one)
	}
	if one := spans[1]; one.Trace == id || one.Parent != "" || one.Said["http.response.status_code"] != "500" || !one.Failed {
		t.Errorf("%+v", one)
	}
	if one := spans[2]; one.Name != "request" || one.Said["http.response.status_code"] != "404" || one.Failed {
		t.Errorf("%+v", one)
	}
	if bytes.Contains(r.Raw(), []byte(hidden)) {
		t.Error("a span says what a caller said")
	}
	if log := s.logged(); !strings.Contains(log, `"trace_id":"`+spans[1].Trace+`"`) {
		t.Errorf("the log does not name the trace that began here: %s", log)
	}
}

// What is shown is told as what it is.
func TestWhatGoesUpAndDownIsNoCounter(t *testing.T) {
	m := NewMetrics()
	m.Add("things_total", 1)
	m.Watch(func() map[string]int64 { return map[string]int64{`in_flight{of="x"}`: 2} })
	s := newStand(t, func(o *Options) { o.Metrics = m })
	s.ask("GET", s.path(""), "")
	w := metricsOf(s)
	for _, want := range []string{"# TYPE things_total counter\nthings_total 1\n", "# TYPE in_flight gauge\nin_flight{of=\"x\"} 2\n", "# TYPE ringfence_http_request_duration_seconds histogram\n", `_bucket{le="+Inf"} 1`} {
		if !strings.Contains(w, want) {
			t.Errorf("%q is not in\n%s", want, w)
		}
	}
}

func metricsOf(s *stand) string {
	w := httptest.NewRecorder()
	s.o.Metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}
