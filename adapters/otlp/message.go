package otlp

import (
	"maps"
	"slices"
	"strings"
	"time"

	collectedmetrics "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	collectedspans "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	spans "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/ringfence/ringfence/ports/trace"
)

// scope says who measured.
const scope = "github.com/ringfence/ringfence"

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, value int) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(value)}}}
}

func nanos(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) } //nolint:gosec // not below 0

func (e *Exporter) resource() *resource.Resource {
	return &resource.Resource{Attributes: []*common.KeyValue{
		text("service.namespace", "ringfence"), text("service.name", e.o.Service), text("service.version", e.o.Version), text("service.instance.id", e.o.Instance),
	}}
}

var kinds = [...]spans.Span_SpanKind{
	trace.Internal: spans.Span_SPAN_KIND_INTERNAL, trace.Server: spans.Span_SPAN_KIND_SERVER, trace.Client: spans.Span_SPAN_KIND_CLIENT,
	trace.Producer: spans.Span_SPAN_KIND_PRODUCER, trace.Consumer: spans.Span_SPAN_KIND_CONSUMER,
}

// flags of OTLP: W3C's in the lowest byte.
func flags(p trace.Place) uint32 {
	if p.Kept {
		return 1
	}
	return 0
}

// spans is a batch as a message. All that a span can say stands here: nothing of it is anybody's text but ours.
func (e *Exporter) spans(batch []trace.Span) *collectedspans.ExportTraceServiceRequest {
	out := make([]*spans.Span, len(batch))
	for i := range batch {
		s := &batch[i]
		to := &spans.Span{
			TraceId: s.Place.Trace[:], SpanId: s.Place.Span[:], Flags: flags(s.Place), Name: s.Name, Kind: kinds[s.Kind], StartTimeUnixNano: nanos(s.Began), EndTimeUnixNano: nanos(s.Ended),
		}
		if s.Parent.Span != ([8]byte{}) {
			to.ParentSpanId = s.Parent.Span[:]
		}
		for k := range min(len(s.Links), trace.MaxLinks) {
			l := &s.Links[k]
			to.Links = append(to.Links, &spans.Span_Link{TraceId: l.Trace[:], SpanId: l.Span[:], Flags: flags(*l)})
		}
		if over := len(s.Links) - trace.MaxLinks; over > 0 {
			to.DroppedLinksCount = uint32(over) //nolint:gosec // no batch is as long
		}
		if !s.Tenant.IsZero() {
			to.Attributes = append(to.Attributes, text("ringfence.tenant_id", s.Tenant.String()))
		}
		if !s.Event.IsZero() {
			to.Attributes = append(to.Attributes, text("ringfence.event_id", s.Event.String()))
		}
		if s.Topic != "" {
			to.Attributes = append(to.Attributes, text("messaging.system", "kafka"), text("messaging.destination.name", s.Topic))
		}
		if s.Count > 0 {
			to.Attributes = append(to.Attributes, number("messaging.batch.message_count", s.Count))
		}
		if s.Status > 0 {
			to.Attributes = append(to.Attributes, number("http.response.status_code", s.Status))
		}
		if s.Result != "" {
			to.Attributes = append(to.Attributes, text("ringfence.result", s.Result))
		}
		if s.Failed {
			to.Status = &spans.Status{Code: spans.Status_STATUS_CODE_ERROR}
		}
		out[i] = to
	}
	return &collectedspans.ExportTraceServiceRequest{ResourceSpans: []*spans.ResourceSpans{{
		Resource: e.resource(), ScopeSpans: []*spans.ScopeSpans{{Scope: &common.InstrumentationScope{Name: scope, Version: e.o.Version}, Spans: out}},
	}}}
}

// metrics is what metrics show as a message: the names are Prometheus' own, so that a dashboard asks for the same whichever way
// they came.
func (e *Exporter) metrics(m Metrics) *collectedmetrics.ExportMetricsServiceRequest {
	began, now := nanos(e.began), nanos(e.o.Now())
	var out []*metrics.Metric
	points := map[string][]*metrics.NumberDataPoint{}
	for series, n := range m.Series {
		name, labels := labelled(series)
		points[name] = append(points[name], &metrics.NumberDataPoint{Attributes: labels, StartTimeUnixNano: began, TimeUnixNano: now, Value: &metrics.NumberDataPoint_AsInt{AsInt: n}})
	}
	for _, name := range slices.Sorted(maps.Keys(points)) {
		one := &metrics.Metric{Name: name, Data: &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: points[name]}}}
		if strings.HasSuffix(name, "_total") {
			one.Data = &metrics.Metric_Sum{Sum: &metrics.Sum{DataPoints: points[name], IsMonotonic: true, AggregationTemporality: metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE}}
		}
		out = append(out, one)
	}
	for _, h := range m.Histograms {
		p := &metrics.HistogramDataPoint{StartTimeUnixNano: began, TimeUnixNano: now, ExplicitBounds: h.Bounds, Sum: &h.Sum}
		for _, n := range h.Counts {
			p.BucketCounts = append(p.BucketCounts, uint64(max(n, 0))) //nolint:gosec // not below 0
			p.Count += uint64(max(n, 0))                               //nolint:gosec // not below 0
		}
		out = append(out, &metrics.Metric{Name: h.Name, Data: &metrics.Metric_Histogram{Histogram: &metrics.Histogram{
			DataPoints: []*metrics.HistogramDataPoint{p}, AggregationTemporality: metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE,
		}}})
	}
	return &collectedmetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{{
		Resource: e.resource(), ScopeMetrics: []*metrics.ScopeMetrics{{Scope: &common.InstrumentationScope{Name: scope, Version: e.o.Version}, Metrics: out}},
	}}}
}

// labelled is a series' name and labels. Their values are words of ours, in which nothing is escaped.
func labelled(series string) (name string, labels []*common.KeyValue) {
	name, rest, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	for rest != "" {
		key, after, ok := strings.Cut(rest, `="`)
		value, more, ok2 := strings.Cut(after, `"`)
		if !ok || !ok2 {
			return series, nil
		}
		labels = append(labels, text(key, value))
		rest = strings.TrimPrefix(more, ",")
	}
	return name, labels
}
