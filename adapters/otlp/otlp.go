// Package otlp fills ports/trace by OpenTelemetry's protocol over HTTP, and sends what metrics show the same way. Of
// OpenTelemetry it takes the messages; what is kept, what waits and what is dropped is its own business. A collector that is slow
// or away costs spans, which are counted, and delays nobody.
package otlp

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	metricspb "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/trace"
)

// Options of an exporter. Endpoint, Random, Now and Log are needed.
type Options struct {
	Endpoint string      // such as https://collector:4318: traces go to /v1/traces behind it, metrics to /v1/metrics, lines to /v1/logs
	Headers  secret.Text // NAME=VALUE, several separated by commas, values percent-encoded: as in OTEL_EXPORTER_OTLP_HEADERS
	TLS      *tls.Config // nil: the system's authorities
	Ratio    float64     // of the traces that are kept, from 0 to 1

	Service, Version, Instance string

	Logs    bool           // lines are sent
	Metrics func() Metrics // nil: none are sent
	Every   time.Duration  // metrics; 15 s

	Random func([]byte)
	Now    func() time.Time
	Log    *slog.Logger
}

// Metrics are what metrics show at one moment.
type Metrics struct {
	Series     map[string]int64 // as Prometheus names them; what ends in _total only grows
	Histograms []Histogram
}

// Histogram has one count more than bounds.
type Histogram struct {
	Name   string
	Bounds []float64
	Counts []int64
	Sum    float64
}

// What waits, and for how long.
const (
	queued      = 4_096 // spans, and lines
	batchMost   = 512
	gatherFor   = time.Second
	sendFor     = 5 * time.Second
	retryFirst  = time.Second
	retryMost   = 8 * time.Second
	tries       = 4 // of a batch; what comes meanwhile waits, and is dropped once too much does
	flushFor    = 2 * time.Second
	answerBytes = 64 << 10
)

// Exporter tells a collector. Use Open.
type Exporter struct {
	o       Options
	at      string
	headers http.Header
	client  *http.Client
	began   time.Time
	most    uint64 // a lot below it is kept

	queue    chan trace.Span
	lined    chan []byte
	waiting  atomic.Int64 // bytes of lines
	stopping chan struct{}
	once     sync.Once
	life     context.Context // of all requests
	end      context.CancelFunc
	work     sync.WaitGroup

	spanned, lines delivered
	failures       atomic.Int64
	failing        atomic.Bool
}

// delivered counts.
type delivered struct{ sent, dropped atomic.Int64 }

var _ trace.Tracer = (*Exporter)(nil)

// Open begins to send. That nobody answers is no error; what is wrong with the options is.
func Open(o Options) (*Exporter, error) {
	at, err := ParseEndpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	headers, err := ParseHeaders(o.Headers)
	if err != nil {
		return nil, err
	}
	if o.Every <= 0 {
		o.Every = 15 * time.Second
	}
	e := &Exporter{
		o: o, at: strings.TrimSuffix(at.String(), "/"), headers: headers, began: o.Now(), most: share(o.Ratio), queue: make(chan trace.Span, queued), lined: make(chan []byte, queued), stopping: make(chan struct{}),
		client: &http.Client{
			Timeout:       sendFor,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // headers are for this collector
			Transport: &http.Transport{
				DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext, TLSClientConfig: o.TLS, TLSHandshakeTimeout: 2 * time.Second, MaxConnsPerHost: 2, IdleConnTimeout: time.Minute,
				MaxResponseHeaderBytes: answerBytes,
			},
		},
	}
	e.life, e.end = context.WithCancel(context.Background())
	e.work.Go(e.sendSpans)
	if o.Logs {
		e.work.Go(e.sendLines)
	}
	if o.Metrics != nil {
		e.work.Go(e.sendMetrics)
	}
	return e, nil
}

// share is a ratio as a part of all numbers of 64 bits.
func share(ratio float64) uint64 {
	if ratio >= 1 {
		return 1<<64 - 1
	}
	return uint64(max(ratio, 0) * (1 << 64))
}

// Enter draws whether a trace is kept.
func (e *Exporter) Enter(sender trace.Place) trace.Place {
	sender.Kept = e.most > 0 && e.random() <= e.most
	return e.Below(sender)
}

// Below gives a span its id. In a trace that nobody is told of, all is one place.
func (e *Exporter) Below(parent trace.Place) trace.Place {
	if parent.IsZero() {
		binary.BigEndian.PutUint64(parent.Trace[:8], e.random())
		binary.BigEndian.PutUint64(parent.Trace[8:], e.random())
	} else if !parent.Kept {
		return parent
	}
	binary.BigEndian.PutUint64(parent.Span[:], e.random())
	return parent
}

func (e *Exporter) random() uint64 {
	var b [8]byte
	e.o.Random(b[:])
	return max(binary.BigEndian.Uint64(b[:]), 1) // no id is zero
}

// Tell queues a span if there is room.
func (e *Exporter) Tell(s trace.Span) {
	if !s.Place.Kept {
		return
	}
	if !offer(e, e.queue, s) {
		e.spanned.dropped.Add(1)
	}
}

// offer queues something if there is room, unless the end has begun.
func offer[T any](e *Exporter, queue chan T, one T) bool {
	select {
	case <-e.stopping:
		return false
	default:
	}
	select {
	case queue <- one:
		return true
	default:
		return false
	}
}

// Counts are series for metrics.
func (e *Exporter) Counts() map[string]int64 {
	return map[string]int64{
		"ringfence_otlp_spans_sent_total": e.spanned.sent.Load(), "ringfence_otlp_spans_dropped_total": e.spanned.dropped.Load(), "ringfence_otlp_failures_total": e.failures.Load(),
		"ringfence_otlp_lines_sent_total": e.lines.sent.Load(), "ringfence_otlp_lines_dropped_total": e.lines.dropped.Load(),
	}
}

// Close sends what waits, for two seconds at most, and ends.
func (e *Exporter) Close(ctx context.Context) {
	e.once.Do(func() { close(e.stopping) })
	late := time.AfterFunc(flushFor, e.end)
	defer late.Stop()
	stop := context.AfterFunc(ctx, e.end)
	defer stop()
	e.work.Wait()
	e.end()
	for { // what came while it ended
		select {
		case <-e.queue:
			e.spanned.dropped.Add(1)
			continue
		case <-e.lined:
			e.lines.dropped.Add(1)
			continue
		default:
		}
		break
	}
	e.client.CloseIdleConnections()
}

// sendSpans sends batch after batch until it is told to stop and nothing waits.
func (e *Exporter) sendSpans() {
	for {
		batch := gather(e, e.queue)
		if len(batch) == 0 {
			return
		}
		var answer tracepb.ExportTraceServiceResponse
		e.deliver("/v1/traces", e.spans(batch), &answer, len(batch), &e.spanned, func() int64 { return answer.GetPartialSuccess().GetRejectedSpans() })
	}
}

// gather waits for something, and a moment for more.
func gather[T any](e *Exporter, queue chan T) (batch []T) {
	select {
	case s := <-queue:
		batch = append(batch, s)
	case <-e.stopping:
	}
	late := time.NewTimer(gatherFor)
	defer late.Stop()
	stopping := e.stopping
	for len(batch) < batchMost {
		select {
		case s := <-queue:
			batch = append(batch, s)
			continue
		default:
		}
		if stopping == nil {
			return batch
		}
		select {
		case s := <-queue:
			batch = append(batch, s)
		case <-late.C:
			return batch
		case <-stopping:
			stopping = nil // and what is there already
		}
	}
	return batch
}

// deliver tries a batch for a while. Rejected is what an answer says of it.
func (e *Exporter) deliver(path string, m, answer proto.Message, size int, count *delivered, rejected func() int64) {
	pause := retryFirst
	for n := 1; ; n++ {
		err := e.post(path, m, answer)
		if err == nil {
			lost := min(max(rejected(), 0), int64(size))
			count.dropped.Add(lost)
			count.sent.Add(int64(size) - lost)
			return
		}
		if n == tries || !worthAgain(err) || !e.pause(pause) {
			count.dropped.Add(int64(size))
			return
		}
		pause = min(2*pause, retryMost)
	}
}

// pause answers whether it was not told to stop.
func (e *Exporter) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.stopping:
		return false
	}
}

// sendMetrics sends what metrics show, now and then and at the end. What could not be sent is in what is sent next.
func (e *Exporter) sendMetrics() {
	for going := true; going; {
		going = e.pause(e.o.Every)
		var answer metricspb.ExportMetricsServiceResponse
		_ = e.post("/v1/metrics", e.metrics(e.o.Metrics()), &answer) // counted and logged there
	}
}

// post sends a message and reads the answer; what goes wrong is counted, and logged when it begins and ends.
func (e *Exporter) post(path string, m, answer proto.Message) error {
	err := e.ask(path, m, answer)
	switch {
	case err != nil:
		if e.failures.Add(1); e.failing.CompareAndSwap(false, true) {
			e.o.Log.Warn("telemetry cannot be sent", slog.String("cause", fault.Cause(err)))
		}
	case e.failing.CompareAndSwap(true, false):
		e.o.Log.Info("telemetry is sent again")
	}
	return err
}
