package httpapi

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Metrics counts, in few series whose number does not grow with tenants: what ends in _total only grows, the rest goes up and down. It
// is served on a listener of its own.
type Metrics struct {
	mu      sync.Mutex
	counts  map[string]int64
	buckets [len(bounds) + 1]int64
	seconds float64
	watched []func() map[string]int64
}

// bounds are the histogram's, in seconds.
var bounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// NewMetrics returns empty counters.
func NewMetrics() *Metrics { return &Metrics{counts: map[string]int64{}} }

// Add adds to a series, whose labels are constants of ours.
func (m *Metrics) Add(series string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[series] += n
}

// Watch adds series that are counted elsewhere, and asked for when they are served.
func (m *Metrics) Watch(read func() map[string]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched = append(m.watched, read)
}

// Ready shows whether a process is ready, by asking it when that is read. If that panics, it is not: nobody stands above who reads.
func (m *Metrics) Ready(ready func(context.Context) error) {
	m.Watch(func() (series map[string]int64) {
		ctx, end := context.WithTimeout(context.Background(), readyFor)
		defer end()
		series = map[string]int64{"ringfence_ready": 0}
		defer func() { _ = recover() }()
		if ready(ctx) == nil {
			series["ringfence_ready"] = 1
		}
		return series
	})
}

const readyFor = 2 * time.Second

func (m *Metrics) request(status int, gone bool, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	class := classes[min(max(status/100, 0), len(classes)-1)]
	if gone { // not among the 5xx, which somebody is woken for
		class = `ringfence_http_requests_total{class="gone"}`
	}
	m.counts[class]++
	i := 0
	for i < len(bounds) && took.Seconds() > bounds[i] {
		i++
	}
	m.buckets[i]++
	m.seconds += took.Seconds()
}

var classes = [...]string{
	`ringfence_http_requests_total{class="none"}`, `ringfence_http_requests_total{class="1xx"}`, `ringfence_http_requests_total{class="2xx"}`,
	`ringfence_http_requests_total{class="3xx"}`, `ringfence_http_requests_total{class="4xx"}`, `ringfence_http_requests_total{class="5xx"}`,
}

// Handler serves them at /metrics, and nothing else anywhere.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m)
	return mux
}

// Histogram is how long requests took: how many as long as each bound at most, one bound a count, and those beyond all.
type Histogram struct {
	Name   string
	Bounds []float64 // in seconds
	Counts []int64
	Sum    float64
}

// Read is all that is counted, at this moment.
func (m *Metrics) Read() (series map[string]int64, took Histogram) {
	m.mu.Lock()
	series, took = maps.Clone(m.counts), Histogram{"ringfence_http_request_duration_seconds", bounds[:], slices.Clone(m.buckets[:]), m.seconds}
	watched := m.watched
	m.mu.Unlock()
	for _, read := range watched {
		maps.Copy(series, read())
	}
	return series, took
}

// ServeHTTP writes Prometheus' text form.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	series, took := m.Read()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	last := ""
	for _, s := range slices.Sorted(maps.Keys(series)) {
		if name, _, _ := strings.Cut(s, "{"); name != last {
			kind := "gauge"
			if strings.HasSuffix(name, "_total") {
				kind = "counter"
			}
			_, _ = fmt.Fprintf(w, "# TYPE %s %s\n", name, kind)
			last = name
		}
		_, _ = fmt.Fprintf(w, "%s %d\n", s, series[s])
	}
	_, _ = fmt.Fprintf(w, "# TYPE %s histogram\n", took.Name)
	all := int64(0)
	for i, n := range took.Counts {
		all += n
		le := "+Inf"
		if i < len(took.Bounds) {
			le = fmt.Sprint(took.Bounds[i])
		}
		_, _ = fmt.Fprintf(w, "%s_bucket{le=%q} %d\n", took.Name, le, all)
	}
	_, _ = fmt.Fprintf(w, "%s_sum %g\n%s_count %d\n", took.Name, took.Sum, took.Name, all)
}
