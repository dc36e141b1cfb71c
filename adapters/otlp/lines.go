package otlp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	collectedlogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
)

// Bounds of lines that wait.
const (
	maxLine  = 16 << 10
	maxLines = 8 << 20 // bytes of all
)

// Line queues a line of a log, as slog's JSON handler writes it, if there is room: a collector is told what the log says, and
// nothing that is hidden there.
func (e *Exporter) Line(line []byte) {
	n := int64(len(line))
	if n > maxLine || e.waiting.Add(n) > maxLines {
		if n <= maxLine {
			e.waiting.Add(-n)
		}
		e.lines.dropped.Add(1)
		return
	}
	if !offer(e, e.lined, bytes.Clone(line)) {
		e.waiting.Add(-n)
		e.lines.dropped.Add(1)
	}
}

func (e *Exporter) sendLines() {
	for {
		batch := gather(e, e.lined)
		if len(batch) == 0 {
			return
		}
		records := make([]*logs.LogRecord, 0, len(batch))
		for _, line := range batch {
			if r := record(line); r != nil {
				records = append(records, r)
			} else {
				e.lines.dropped.Add(1)
			}
			e.waiting.Add(-int64(len(line)))
		}
		var answer collectedlogs.ExportLogsServiceResponse
		e.deliver("/v1/logs", &collectedlogs.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
			Resource: e.resource(), ScopeLogs: []*logs.ScopeLogs{{Scope: &common.InstrumentationScope{Name: scope, Version: e.o.Version}, LogRecords: records}},
		}}}, &answer, len(records), &e.lines, func() int64 { return answer.GetPartialSuccess().GetRejectedLogRecords() })
	}
}

var severities = map[string]logs.SeverityNumber{
	slog.LevelDebug.String(): logs.SeverityNumber_SEVERITY_NUMBER_DEBUG, slog.LevelInfo.String(): logs.SeverityNumber_SEVERITY_NUMBER_INFO,
	slog.LevelWarn.String(): logs.SeverityNumber_SEVERITY_NUMBER_WARN, slog.LevelError.String(): logs.SeverityNumber_SEVERITY_NUMBER_ERROR,
}

// record is a line as a message; nil: it is none of slog's. Tenant and event are named as in spans.
func record(line []byte) *logs.LogRecord {
	var said map[string]any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if d.Decode(&said) != nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(said[slog.TimeKey]))
	if err != nil {
		return nil
	}
	level := fmt.Sprint(said[slog.LevelKey])
	r := &logs.LogRecord{
		TimeUnixNano: nanos(at), ObservedTimeUnixNano: nanos(at), SeverityText: level, SeverityNumber: severities[level],
		Body: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: fmt.Sprint(said[slog.MessageKey])}},
	}
	for _, key := range slices.Sorted(maps.Keys(said)) {
		switch v := said[key]; key {
		case slog.TimeKey, slog.LevelKey, slog.MessageKey:
		case "trace_id":
			if id, err := hex.DecodeString(fmt.Sprint(v)); err == nil && len(id) == 16 {
				r.TraceId = id
			}
		case "event_id", "tenant_id":
			r.Attributes = append(r.Attributes, text("ringfence."+key, fmt.Sprint(v)))
		default:
			words, ok := v.(string)
			if !ok {
				inner, _ := json.Marshal(v) // it was read from JSON
				words = string(inner)
			}
			r.Attributes = append(r.Attributes, text(key, words))
		}
	}
	return r
}
