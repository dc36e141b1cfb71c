// Package otlptest is a receiver of OpenTelemetry's protocol over HTTP, for tests: it decodes what it is sent, and keeps it as it
// came too.
package otlptest

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	collectedlogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	collectedmetrics "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	collectedspans "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
)

// Span is one that was received.
type Span struct {
	Service, Name, Kind string
	Trace, ID, Parent   string
	Links               []string // TRACE/SPAN
	Began, Ended        time.Time
	Said                map[string]string // its attributes
	Failed              bool
	DroppedLinks        uint32
}

// Line is one of a log.
type Line struct {
	Service, Level, Text, Trace string
	Number                      int
	At                          time.Time
	Said                        map[string]string // its attributes
}

// Receiver receives. Use New.
type Receiver struct {
	URL string

	t       testing.TB
	mu      sync.Mutex
	spans   []Span
	lines   []Line
	metrics map[string]map[string]*metrics.Metric // by service and name, the last that came
	raw     []byte
	headers []http.Header
	answer  func(path string) (status int, body proto.Message)
}

// New is a receiver that takes everything, until the test ends.
func New(t testing.TB) *Receiver {
	r := &Receiver{t: t, metrics: map[string]map[string]*metrics.Metric{}}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.URL = s.URL
	return r
}

// Answer says what is answered from now on, to what it still keeps only if that is 200.
func (r *Receiver) Answer(f func(path string) (status int, body proto.Message)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// ServeHTTP is the receiver.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(io.LimitReader(q.Body, 16<<20))
	if err != nil {
		return // it went away
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = append(r.headers, q.Header.Clone())
	status, answer := http.StatusOK, proto.Message(nil)
	if r.answer != nil {
		status, answer = r.answer(q.URL.Path)
	}
	if status == http.StatusOK && q.Method == http.MethodPost && q.Header.Get("Content-Type") == "application/x-protobuf" {
		r.raw = append(r.raw, body...)
		status = r.take(q.URL.Path, body)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Header().Set("Location", r.URL)
	w.WriteHeader(status)
	if answer != nil {
		text, err := proto.Marshal(answer)
		if err != nil {
			r.t.Error(err)
		}
		_, _ = w.Write(text)
	}
}

func (r *Receiver) take(path string, body []byte) int {
	switch path {
	case "/v1/traces":
		var m collectedspans.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &m); err != nil {
			r.t.Errorf("what was sent to %s is none of its messages: %v", path, err)
			return http.StatusBadRequest
		}
		r.takeSpans(&m)
	case "/v1/logs":
		var m collectedlogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(body, &m); err != nil {
			r.t.Errorf("what was sent to %s is none of its messages: %v", path, err)
			return http.StatusBadRequest
		}
		for _, of := range m.GetResourceLogs() {
			service := said(of.GetResource().GetAttributes())["service.name"]
			for _, s := range of.GetScopeLogs() {
				for _, l := range s.GetLogRecords() {
					r.lines = append(r.lines, Line{
						Service: service, Level: l.GetSeverityText(), Text: l.GetBody().GetStringValue(), Trace: hex.EncodeToString(l.GetTraceId()), Number: int(l.GetSeverityNumber()),
						At: time.Unix(0, int64(l.GetTimeUnixNano())), Said: said(l.GetAttributes()), //nolint:gosec // of this century
					})
				}
			}
		}
	case "/v1/metrics":
		var m collectedmetrics.ExportMetricsServiceRequest
		if err := proto.Unmarshal(body, &m); err != nil {
			r.t.Errorf("what was sent to %s is none of its messages: %v", path, err)
			return http.StatusBadRequest
		}
		for _, of := range m.GetResourceMetrics() {
			service, all := said(of.GetResource().GetAttributes())["service.name"], map[string]*metrics.Metric{}
			for _, s := range of.GetScopeMetrics() {
				for _, one := range s.GetMetrics() {
					all[one.GetName()] = one
				}
			}
			r.metrics[service] = all
		}
	default:
		return http.StatusNotFound
	}
	return http.StatusOK
}

func (r *Receiver) takeSpans(m *collectedspans.ExportTraceServiceRequest) {
	at := func(nanos uint64) time.Time { return time.Unix(0, int64(nanos)) } //nolint:gosec // of this century
	for _, of := range m.GetResourceSpans() {
		service := said(of.GetResource().GetAttributes())["service.name"]
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				got := Span{
					Service: service, Name: s.GetName(), Kind: strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")), Trace: hex.EncodeToString(s.GetTraceId()),
					ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()), Began: at(s.GetStartTimeUnixNano()), Ended: at(s.GetEndTimeUnixNano()),
					Said: said(s.GetAttributes()), Failed: s.GetStatus().GetCode() == 2, DroppedLinks: s.GetDroppedLinksCount(),
				}
				for _, l := range s.GetLinks() {
					got.Links = append(got.Links, hex.EncodeToString(l.GetTraceId())+"/"+hex.EncodeToString(l.GetSpanId()))
				}
				r.spans = append(r.spans, got)
			}
		}
	}
}

// Lines are those of logs that were received.
func (r *Receiver) Lines() []Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// said are attributes as text.
func said(kvs []*common.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range kvs {
		switch v := kv.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[kv.GetKey()] = v.StringValue
		default:
			out[kv.GetKey()] = strings.TrimPrefix(kv.GetValue().String(), "int_value:")
		}
	}
	return out
}

// Spans are all that came, of a trace if one is named.
func (r *Receiver) Spans(traces ...string) (out []Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if len(traces) == 0 || slices.Contains(traces, s.Trace) {
			out = append(out, s)
		}
	}
	return out
}

// Await are all that came, once there are so many: an exporter that is closed has two seconds for what it has not sent yet, which is
// not enough on a machine that does much else.
func (r *Receiver) Await(n int) []Span {
	r.t.Helper()
	tick, late := time.NewTicker(5*time.Millisecond), time.NewTimer(time.Minute)
	defer tick.Stop()
	defer late.Stop()
	for {
		got := r.Spans()
		if len(got) >= n {
			return got
		}
		select {
		case <-tick.C:
		case <-late.C:
			r.t.Fatalf("%d spans within a minute, want %d: %+v", len(got), n, got)
		}
	}
}

// Metric is the last that a service told of a metric; nil: none.
func (r *Receiver) Metric(service, name string) *metrics.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.metrics[service][name]
}

// Raw is all that came, byte for byte.
func (r *Receiver) Raw() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.raw)
}

// Headers are those of all requests.
func (r *Receiver) Headers() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.headers)
}
