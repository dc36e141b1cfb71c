package httpapi

import (
	"fmt"
	"net/http"
	"sort"
	"sync"
)

// Metrics counts, in few series whose number does not grow with tenants. It is served on a listener of its own.
type Metrics struct {
	mu     sync.Mutex
	counts map[string]int64
}

// NewMetrics returns empty counters.
func NewMetrics() *Metrics { return &Metrics{counts: map[string]int64{}} }

// Add adds to a series, whose labels are constants of ours.
func (m *Metrics) Add(series string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[series] += n
}

func (m *Metrics) request(status int) {
	m.Add(fmt.Sprintf(`ringfence_http_requests_total{class="%dxx"}`, status/100), 1)
}

// ServeHTTP writes Prometheus' text form.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	series := make([]string, 0, len(m.counts))
	for s := range m.counts {
		series = append(series, s)
	}
	sort.Strings(series)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, s := range series {
		_, _ = fmt.Fprintf(w, "%s %d\n", s, m.counts[s])
	}
}
