package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Metrics counts, in few series whose number does not grow with tenants. It is served on a listener of its own.
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

// ServeHTTP writes Prometheus' text form.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	counts, buckets, seconds, watched := maps.Clone(m.counts), m.buckets, m.seconds, m.watched
	m.mu.Unlock()
	for _, read := range watched {
		maps.Copy(counts, read())
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	last := ""
	for _, s := range slices.Sorted(maps.Keys(counts)) {
		if name, _, _ := strings.Cut(s, "{"); name != last {
			_, _ = fmt.Fprintf(w, "# TYPE %s counter\n", name)
			last = name
		}
		_, _ = fmt.Fprintf(w, "%s %d\n", s, counts[s])
	}
	const h = "ringfence_http_request_duration_seconds"
	_, _ = fmt.Fprintf(w, "# TYPE %s histogram\n", h)
	all := int64(0)
	for i, n := range buckets {
		all += n
		le := "+Inf"
		if i < len(bounds) {
			le = fmt.Sprint(bounds[i])
		}
		_, _ = fmt.Fprintf(w, "%s_bucket{le=%q} %d\n", h, le, all)
	}
	_, _ = fmt.Fprintf(w, "%s_sum %g\n%s_count %d\n", h, seconds, h, all)
}
