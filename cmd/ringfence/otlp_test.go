package main

import (
	"testing"

	"github.com/ringfence/ringfence/adapters/otlp/otlptest"
)

// A server of one process tells a collector of its requests, the events that they bring named, and as it ends what its metrics show:
// for that it has two seconds, once in three times enough on a machine that does much else.
func TestAServerTellsACollector(t *testing.T) {
	for range 3 {
		var r *otlptest.Receiver
		t.Run("a server", func(t *testing.T) { r = tells(t) })
		if t.Failed() || r.Metric("ringfence", "ringfence_ingest_accepted_total").GetSum() != nil && r.Metric("ringfence", "ringfence_http_request_duration_seconds").GetHistogram() != nil {
			return
		}
	}
	t.Error("the collector was not told what the metrics show")
}

// tells runs a server that ends with the test, and answers what it told.
func tells(t *testing.T) *otlptest.Receiver {
	t.Helper()
	r := otlptest.New(t)
	s, setup := servedTo(t, &output{}, "otlp_endpoint="+r.URL, "otlp_ratio=1", "otlp_logs=true", "log_level=debug")
	s, _, ten := begun(t, s, setup)
	s.newDevice(t, ten, "70b3d57ed0000777", ten.site, ten.decoder)
	event := s.post(s.door(t, ten, "gateway", ten.root), "/v1/ingest/plain", obj{"device": "70b3d57ed0000777", "payload": "CL4u"}).str("event_id")
	s.becomes(t, ten, event, "processed")
	of := map[string]otlptest.Span{}
	n, err := s.wait(4, func() (int, error) {
		for _, span := range r.Spans() {
			if span.Service == "ringfence" && span.Said["ringfence.event_id"] == event && span.Said["ringfence.tenant_id"] == ten.id {
				of[span.Name] = span
			}
		}
		return len(of), nil
	})
	door := of["ingestPlain"]
	if n != 4 || err != nil || of["accept"].Parent != door.ID || of["decode"].Parent != of["accept"].ID || of["write"].Parent != of["accept"].ID || of["write"].Trace != door.Trace || of["write"].Said["ringfence.result"] != "processed" {
		t.Errorf("%+v %v", of, err)
	}
	if n, err := s.wait(1, func() (told int, err error) {
		for _, line := range r.Lines() {
			if line.Service == "ringfence" && line.Said["ringfence.event_id"] == event && line.Trace == door.Trace {
				told = 1
			}
		}
		return told, nil
	}); n != 1 || err != nil {
		t.Errorf("no line names event and trace: %+v %v", r.Lines(), err)
	}
	return r
}
