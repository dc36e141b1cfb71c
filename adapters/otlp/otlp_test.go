package otlp_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	collectedspans "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"

	"github.com/ringfence/ringfence/adapters/otlp"
	"github.com/ringfence/ringfence/adapters/otlp/otlptest"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o otlp.Options) *otlp.Exporter {
	t.Helper()
	o.Service, o.Version, o.Instance = "worker", "v1", "n1"
	o.Random, o.Now = func(b []byte) { _, _ = rand.Read(b) }, time.Now
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e, err := otlp.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.WithoutCancel(t.Context())) })
	return e
}

// until waits for something to hold.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick, late := time.NewTicker(5*time.Millisecond), time.NewTimer(20*time.Second)
	defer tick.Stop()
	defer late.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

const foreign = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestASpanArrivesAsItWasTold(t *testing.T) {
	r := otlptest.New(t)
	e := open(t, otlp.Options{Endpoint: r.URL, Ratio: 1, Headers: secret.New("Authorization=Bearer%20once,x-scope=a")})
	sender := trace.Parse(foreign)
	at := e.Enter(sender)
	below := e.Below(at)
	if at.Trace != sender.Trace || at.Span == sender.Span || below.Trace != at.Trace || below.Span == at.Span || !below.Kept {
		t.Fatalf("%s and %s below %s", at, below, sender)
	}
	began := time.Unix(1_800_000_000, 123)
	links := make([]trace.Place, trace.MaxLinks+3)
	for i := range links {
		links[i] = e.Enter(trace.Place{})
	}
	tenant, event := ident.Tenant{1, 6: 0x70, 8: 0x80}, ident.Uplink{2, 6: 0x70, 8: 0x80}
	e.Tell(trace.Span{Name: "request", Kind: trace.Server, Place: at, Parent: sender, Began: began, Ended: began.Add(time.Second), Tenant: tenant, Event: event, Topic: "rf.uplinks", Count: 7, Status: 503, Result: "bus_away", Failed: true})
	e.Tell(trace.Span{Name: "consume", Kind: trace.Consumer, Place: below, Parent: at, Links: links, Began: began, Ended: began})
	e.Tell(trace.Span{Name: "not kept", Place: trace.Place{Trace: at.Trace, Span: at.Span}})
	r.Await(2)
	e.Close(t.Context())
	got := r.Spans()
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	want := map[string]string{
		"ringfence.tenant_id": tenant.String(), "ringfence.event_id": event.String(), "messaging.system": "kafka", "messaging.destination.name": "rf.uplinks",
		"messaging.batch.message_count": "7", "http.response.status_code": "503", "ringfence.result": "bus_away",
	}
	if s := got[0]; s.Service != "worker" || s.Kind != "server" || s.Trace != sender.ID() || s.Parent != foreign[36:52] || !s.Began.Equal(began) || s.Ended.Sub(s.Began) != time.Second || !s.Failed || !maps.Equal(s.Said, want) {
		t.Errorf("%+v", s)
	}
	if s := got[1]; s.Parent != got[0].ID || len(s.Links) != trace.MaxLinks || s.DroppedLinks != 3 || len(s.Said) != 0 || s.Failed || s.Links[0] != links[0].ID()+"/"+links[0].String()[36:52] {
		t.Errorf("%+v", s)
	}
	if h := r.Headers()[0]; h.Get("Authorization") != "Bearer once" || h.Get("X-Scope") != "a" {
		t.Errorf("%v", h)
	}
	if n := e.Counts(); n["ringfence_otlp_spans_sent_total"] != 2 || n["ringfence_otlp_spans_dropped_total"] != 0 {
		t.Errorf("%v", n)
	}
}

// Close sends what waits, for as long as it may take: once in three times, on a machine that does much else.
func TestWhatWaitsIsSentAtTheEnd(t *testing.T) {
	r, tries := otlptest.New(t), 0
	for len(r.Spans()) == 0 && tries < 3 {
		tries++
		e := open(t, otlp.Options{Endpoint: r.URL, Ratio: 1})
		e.Tell(trace.Span{Name: "request", Place: e.Enter(trace.Place{})})
		e.Close(t.Context())
	}
	if len(r.Spans()) != 1 {
		t.Errorf("%d spans after %d ends", len(r.Spans()), tries)
	}
}

// A sender says what its trace is, and has no say in whether we keep it: neither by its flag nor by an id of its choice.
func TestNoSenderForcesATraceToBeKept(t *testing.T) {
	r := otlptest.New(t)
	never, half := open(t, otlp.Options{Endpoint: r.URL}), open(t, otlp.Options{Endpoint: r.URL, Ratio: .5})
	kept := 0
	for i := range 4_000 {
		p := trace.Parse(foreign)
		if i%2 == 0 {
			p = trace.Place{Trace: [16]byte{15: 1}, Span: [8]byte{1}, Kept: true} // the lowest id of all
		}
		if never.Enter(p).Kept || never.Enter(trace.Place{}).Kept {
			t.Fatal("kept, though nothing is")
		}
		if half.Enter(p).Kept {
			kept++
		}
	}
	if kept < 1_700 || kept > 2_300 {
		t.Errorf("%d of 4,000 are kept, want half", kept)
	}
	if p := never.Enter(trace.Parse(foreign)); p.String() != foreign[:53]+"00" {
		t.Errorf("one that is not kept is %s", p)
	}
}

func TestNothingWaitsForACollectorThatIsAway(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for what, at := range map[string]string{"nobody listens": "http://127.0.0.1:1", "nobody answers": "http://" + silent.Addr().String()} {
		t.Run(what, func(t *testing.T) {
			var took []time.Duration
			for len(took) < 3 && (len(took) == 0 || slices.Min(took) > 4*time.Second) { // what the machine does beside it slows one down
				took = append(took, dropsAll(t, at))
			}
			if slices.Min(took) > 4*time.Second {
				t.Errorf("closing took %v", took)
			}
		})
	}
}

// dropsAll tells more than may wait to a collector that takes nothing, and answers how long the end took. That most is dropped by then
// shows that nobody who told of it waited.
func dropsAll(t *testing.T, at string) (closing time.Duration) {
	t.Helper()
	log := &counting{}
	e := open(t, otlp.Options{Endpoint: at, Ratio: 1, Metrics: func() otlp.Metrics { return otlp.Metrics{} }, Log: slog.New(log)})
	began := time.Now()
	const told = 20_000
	for range told {
		p := e.Enter(trace.Place{})
		e.Tell(trace.Span{Name: "receive", Place: p, Began: began, Ended: began})
	}
	if n := e.Counts()["ringfence_otlp_spans_dropped_total"]; n < told-6_000 {
		t.Errorf("%d of %d are dropped: the others wait somewhere", n, told)
	}
	began = time.Now()
	e.Close(t.Context())
	closing = time.Since(began)
	if n := e.Counts(); n["ringfence_otlp_spans_dropped_total"] != told || n["ringfence_otlp_failures_total"] == 0 || log.n.Load() != 1 {
		t.Errorf("%v, %d lines", n, log.n.Load())
	}
	e.Tell(trace.Span{Place: e.Enter(trace.Place{})})
	if n := e.Counts()["ringfence_otlp_spans_dropped_total"]; n != told+1 {
		t.Errorf("told after the end: %d dropped", n)
	}
	return closing
}

// counting counts what is logged.
type counting struct {
	slog.Handler
	n atomic.Int64
}

func (c *counting) Enabled(context.Context, slog.Level) bool      { return true }
func (c *counting) Handle(_ context.Context, _ slog.Record) error { c.n.Add(1); return nil }

func TestWhatACollectorAnswersIsHeeded(t *testing.T) {
	for _, c := range []struct {
		what                    string
		status                  int
		body                    proto.Message
		requests, sent, dropped int64
	}{
		{"try again", 503, nil, 2, 1, 0},
		{"never again", 400, nil, 1, 0, 1},
		{"elsewhere", 307, nil, 1, 0, 1},
		{"some of it", 200, &collectedspans.ExportTraceServiceResponse{PartialSuccess: &collectedspans.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "no"}}, 1, 0, 1},
		{"more than all", 200, &collectedspans.ExportTraceServiceResponse{PartialSuccess: &collectedspans.ExportTracePartialSuccess{RejectedSpans: 1 << 40}}, 1, 0, 1},
		{"all of it", 200, nil, 1, 1, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := otlptest.New(t)
			var asked atomic.Int64
			r.Answer(func(path string) (int, proto.Message) {
				if path != "/v1/traces" {
					t.Errorf("asked for %s", path)
				}
				if asked.Add(1) > 1 {
					return 200, nil
				}
				return c.status, c.body
			})
			e := open(t, otlp.Options{Endpoint: r.URL, Ratio: 1})
			e.Tell(trace.Span{Name: "receive", Place: e.Enter(trace.Place{})})
			until(t, "the span's end", func() bool {
				n := e.Counts()
				return n["ringfence_otlp_spans_sent_total"]+n["ringfence_otlp_spans_dropped_total"] == 1
			})
			if n := e.Counts(); asked.Load() != c.requests || n["ringfence_otlp_spans_sent_total"] != c.sent || n["ringfence_otlp_spans_dropped_total"] != c.dropped {
				t.Errorf("%d requests, %v", asked.Load(), n)
			}
		})
	}
}

func TestMetricsAreSentAsTheyAreShown(t *testing.T) {
	r := otlptest.New(t)
	e := open(t, otlp.Options{Endpoint: r.URL + "/", Every: 10 * time.Millisecond, Metrics: func() otlp.Metrics {
		return otlp.Metrics{
			Series:     map[string]int64{`messages_total{connection="lab",result="accepted"}`: 3, `messages_total{connection="lab",result="later"}`: 4, "in_flight": 5},
			Histograms: []otlp.Histogram{{Name: "duration_seconds", Bounds: []float64{1, 2}, Counts: []int64{1, 0, 2}, Sum: 9.5}},
		}
	}})
	until(t, "metrics", func() bool { return r.Metric("worker", "in_flight") != nil })
	e.Close(t.Context())
	if g := r.Metric("worker", "in_flight").GetGauge().GetDataPoints(); len(g) != 1 || g[0].GetAsInt() != 5 {
		t.Errorf("%v", g)
	}
	sum := r.Metric("worker", "messages_total").GetSum()
	var got []string
	for _, p := range sum.GetDataPoints() {
		at := fmt.Sprint(p.GetAsInt())
		for _, l := range p.GetAttributes() {
			at += " " + l.GetKey() + "=" + l.GetValue().GetStringValue()
		}
		got = append(got, at)
	}
	slices.Sort(got)
	if !sum.GetIsMonotonic() || sum.GetAggregationTemporality() != 2 || !slices.Equal(got, []string{"3 connection=lab result=accepted", "4 connection=lab result=later"}) {
		t.Errorf("%v: %q", sum, got)
	}
	if h := r.Metric("worker", "duration_seconds").GetHistogram().GetDataPoints(); len(h) != 1 || h[0].GetCount() != 3 || h[0].GetSum() != 9.5 || !slices.Equal(h[0].GetBucketCounts(), []uint64{1, 0, 2}) || !slices.Equal(h[0].GetExplicitBounds(), []float64{1, 2}) {
		t.Errorf("%v", h)
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	for _, endpoint := range []string{"", "collector:4318", "grpc://collector:4317", "https://", "https://user:word@collector", "https://collector/?key=1", "https://collector/#a", "https://:4318", "https://collector:port"} {
		if _, err := otlp.ParseEndpoint(endpoint); err == nil || strings.Contains(err.Error(), "word") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	for _, headers := range []string{"canary", "a=", "=canary", "a b=canary", "a=canary%0d%0aB: c", "a=%zzcanary", "a=canary,", "a=canaryé", strings.Repeat("x", 65) + "=canary", strings.Repeat("a=b,", 1) + manyHeaders(17)} {
		if _, err := otlp.ParseHeaders(secret.New(headers)); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", headers, err)
		}
	}
	h, err := otlp.ParseHeaders(secret.New(" Authorization = Basic%20YTpi== , x-y=1"))
	if err != nil || !maps.EqualFunc(h, http.Header{"Authorization": {"Basic YTpi=="}, "X-Y": {"1"}}, slices.Equal) {
		t.Errorf("%v %v", h, err)
	}
}

func manyHeaders(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("x%d=1", i))
	}
	return strings.Join(all, ",")
}

// What each message costs whose trace is not kept.
func TestATraceThatIsNotKeptAllocatesNothing(t *testing.T) {
	e := open(t, otlp.Options{Endpoint: otlptest.New(t).URL})
	var tracer trace.Tracer = e
	sender := trace.Parse(foreign)
	if n := testing.AllocsPerRun(1_000, func() {
		p := tracer.Below(tracer.Enter(sender))
		tracer.Tell(trace.Span{Name: "receive", Place: p, Parent: sender})
	}); n > 1 { // the random bytes, which go through a function that is passed in
		t.Errorf("%v allocations", n)
	}
}

// A collector has a log's lines as they stand on standard error, with what is hidden there hidden; what is too long for a line or
// too much is dropped and counted, and who logs waits for nobody.
func TestALineOfALogArrivesAsItStands(t *testing.T) {
	const hidden = "canary-of-a-secret"
	r := otlptest.New(t)
	e := open(t, otlp.Options{Endpoint: r.URL, Logs: true})
	log := slog.New(slog.NewJSONHandler(lines{e}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	log.With(slog.Int("n", 7)).Warn("an event could not be published", slog.String("trace_id", foreign[3:35]), slog.String("event_id", "evt_1"), slog.String("tenant_id", "ten_1"), slog.Any("password", secret.New(hidden)),
		slog.Group("of", slog.Bool("it", true)))
	log.Debug("later", slog.String("trace_id", "none"))
	log.Info(strings.Repeat("x", 20<<10))
	e.Line([]byte("no line of ours"))
	until(t, "both lines are there", func() bool { return len(r.Lines()) == 2 && e.Counts()["ringfence_otlp_lines_sent_total"] == 2 })
	one := r.Lines()[0]
	want := map[string]string{"ringfence.event_id": "evt_1", "ringfence.tenant_id": "ten_1", "n": "7", "password": "[redacted]", "of": `{"it":true}`}
	if one.Service != "worker" || one.Level != "WARN" || one.Number != 13 || one.Text != "an event could not be published" || one.Trace != foreign[3:35] || !maps.Equal(one.Said, want) || time.Since(one.At).Abs() > time.Minute {
		t.Errorf("%+v", one)
	}
	if r.Lines()[1].Trace != "" || strings.Contains(string(r.Raw()), hidden) {
		t.Error("what is hidden is told, or what is no trace is one")
	}
	if n := e.Counts()["ringfence_otlp_lines_dropped_total"]; n != 2 {
		t.Errorf("%d are dropped, want the long one and the one that is none", n)
	}
}

type lines struct{ e *otlp.Exporter }

func (l lines) Write(line []byte) (int, error) { l.e.Line(line); return len(line), nil }

func TestNoLogWaitsForACollectorThatIsAway(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = gone.Close() }() // it takes connections and says nothing
	e := open(t, otlp.Options{Endpoint: "http://" + gone.Addr().String(), Logs: true})
	line := []byte(`{"time":"2026-11-27T12:00:00Z","level":"INFO","msg":"` + strings.Repeat("x", 10<<10) + `"}`)
	const all = 2_000 // of which 8 MiB wait at most
	for range all {
		e.Line(line)
	}
	if n := e.Counts()["ringfence_otlp_lines_dropped_total"]; n < all-(8<<20)/int64(len(line))-512 {
		t.Errorf("%d of %d are dropped", n, all)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.Close(ctx)
	if n := e.Counts(); n["ringfence_otlp_lines_dropped_total"]+n["ringfence_otlp_lines_sent_total"] != all {
		t.Errorf("%v, of %d", n, all)
	}
}
