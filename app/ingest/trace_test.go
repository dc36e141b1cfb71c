package ingest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/otlp"
	"github.com/ringfence/ringfence/adapters/otlp/otlptest"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// traced is a stream whose events are traced, all of them or none.
func (s *stream) traced(ratio float64) (*otlptest.Receiver, *otlp.Exporter) {
	s.t.Helper()
	r := otlptest.New(s.t)
	e := must[*otlp.Exporter](s.t)(otlp.Open(otlp.Options{
		Endpoint: r.URL, Ratio: ratio, Service: "worker", Random: func(b []byte) { _, _ = rand.Read(b) }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}))
	s.t.Cleanup(func() { e.Close(context.WithoutCancel(s.t.Context())) })
	s.events.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", Tracer: e})
	return r, e
}

func (s *stream) fixed() ingest.Connection {
	return ingest.Connection{Name: "fixed", Format: source.Plain, Owner: ingest.Fixed, Tenant: s.tenant, Source: s.way.ID, Topics: []uplink.Template{template(s.t, "up/{device}")}}
}

const (
	sendersTrace = "0af7651916cd43dd8448eb211c80319c"
	senders      = "00-" + sendersTrace + "-b7ad6b7169203331-00"
)

func TestOneTraceRunsFromAMessageToItsReading(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	r, e := s.traced(1)
	const hidden = "canary-of-a-sender"
	for _, err := range s.events.Receive(t.Context(), s.fixed(), []ingest.Brought{
		{Topic: "up/" + known, Payload: []byte(`{"id":"1","device":"` + known + `","payload_hex":"00"}`), Trace: trace.Parse(senders)},
		{Topic: "up/" + known, Payload: []byte(`{"id":"2","device":"` + known + `","payload_hex":"00"}`)},
		{Topic: hidden, Payload: []byte(hidden)},
		{Topic: "up/" + known, Payload: []byte(`{"id":"` + hidden + `","device":"` + stranger + `","payload_hex":"01"}`), Trace: trace.Parse(senders)},
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.consume()
	r.Await(15)
	e.Close(t.Context())
	if len(s.readings()) != 2 {
		t.Fatalf("%d readings", len(s.readings()))
	}
	event := ""
	for _, record := range s.all(s.topics.Uplinks) {
		if e := must[uplink.Event](t)(uplink.ParseEvent(record.Value)); e.Message.DedupeID == "1" {
			event = e.ID.String()
			if at := trace.Parse(string(record.Headers[len(record.Headers)-1].Value)); at.ID() != sendersTrace || !at.Kept || record.Headers[len(record.Headers)-1].Name != bus.TraceHeader {
				t.Errorf("the record says %s", record.Headers)
			}
		}
	}
	of, batches := map[string]otlptest.Span{}, []otlptest.Span{}
	for _, span := range r.Spans() {
		switch {
		case span.Name == "consume":
			batches = append(batches, span)
		case span.Said["ringfence.event_id"] == event:
			of[span.Name] = span
			if span.Trace != sendersTrace || span.Said["ringfence.tenant_id"] != s.tenant.String() || span.Failed {
				t.Errorf("%+v", span)
			}
		}
	}
	if len(of) != 4 || of["receive"].Parent != "b7ad6b7169203331" || of["publish"].Parent != of["receive"].ID || of["decode"].Parent != of["publish"].ID || of["write"].Parent != of["publish"].ID {
		t.Errorf("%+v", of)
	}
	if of["receive"].Said["ringfence.result"] != "accepted" || of["publish"].Said["messaging.destination.name"] != s.topics.Uplinks || of["write"].Said["ringfence.result"] != "processed" {
		t.Errorf("%+v", of)
	}
	linked := slices.ContainsFunc(batches, func(b otlptest.Span) bool {
		return b.Trace != sendersTrace && slices.Contains(b.Links, sendersTrace+"/"+of["publish"].ID)
	})
	if !linked {
		t.Errorf("no batch is linked to the event: %+v", batches)
	}
	// What becomes of it or not: a dead letter stands in its message's trace.
	letters := s.all(s.topics.Dead)
	if len(letters) != 1 {
		t.Fatalf("%d dead letters", len(letters))
	}
	last := letters[0].Headers[len(letters[0].Headers)-1]
	if at := trace.Parse(string(last.Value)); last.Name != bus.TraceHeader || !slices.ContainsFunc(r.Spans(), func(span otlptest.Span) bool {
		return span.Name == "publish" && span.Trace == at.ID() && span.ID == string(last.Value[36:52]) && span.Said["messaging.destination.name"] == s.topics.Dead
	}) {
		t.Errorf("the dead letter says %s", letters[0].Headers)
	}
	traces := map[string]int{}
	for _, span := range r.Spans() {
		if span.Name == "receive" {
			traces[span.Trace]++
		}
	}
	if len(traces) != 3 || traces[sendersTrace] != 2 { // those who sent none have one each
		t.Errorf("%v", traces)
	}
	if bytes.Contains(r.Raw(), []byte(hidden)) || bytes.Contains(r.Raw(), []byte(known)) {
		t.Error("a span says what a sender said")
	}
}

func TestWithoutATracerARecordSaysWhatItsSenderSaid(t *testing.T) {
	for what, ratio := range map[string]float64{"nobody is told": -1, "nothing is kept": 0} {
		t.Run(what, func(t *testing.T) {
			s := newStream(t, "x", tenant.DefaultLimits)
			var told func() int
			if ratio >= 0 {
				r, e := s.traced(ratio)
				told = func() int { e.Close(t.Context()); return len(r.Spans()) }
			}
			forced := trace.Parse(strings.TrimSuffix(senders, "0") + "1")
			if !forced.Kept {
				t.Fatal("the sender asks for nothing")
			}
			if err := s.events.Receive(t.Context(), s.fixed(), []ingest.Brought{{Topic: "up/" + known, Payload: []byte(`{"id":"1","device":"` + known + `","payload_hex":"00"}`), Trace: forced}})[0]; err != nil {
				t.Fatal(err)
			}
			headers := s.all(s.topics.Uplinks)[0].Headers
			if h := headers[len(headers)-1]; h.Name != bus.TraceHeader || string(h.Value) != senders {
				t.Errorf("%s", headers)
			}
			s.consume()
			if len(s.readings()) != 1 || told != nil && told() != 0 {
				t.Error("something is told, or nothing is made of it")
			}
		})
	}
}

func TestHowFarAGroupIsBehindIsTold(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	s.says(s.scope, s.way, "1", known, 0)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: 5 * time.Second})
	}()
	labels := `{group="workers",topic="rf.uplinks"}`
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(20 * time.Second); ; <-tick.C {
		counts := s.events.Counts()
		_, later := counts[`ringfence_bus_oldest_unread_seconds{group="workers-later",topic="rf.uplinks.later"}`]
		if n, ok := counts["ringfence_bus_lag_records"+labels]; ok && n == 0 && later && len(s.readings()) == 1 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("%v", counts)
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for series := range s.events.Counts() {
		if strings.HasPrefix(series, "ringfence_bus_lag") {
			t.Errorf("%s is told, though nobody looks any more", series)
		}
	}
}

func TestOneTraceRunsFromARequestToItsReadingWithoutABus(t *testing.T) {
	b := newBench(t, scripted{[]decoder.Category{decoder.Success}}, "x", tenant.DefaultLimits)
	r := otlptest.New(t)
	e := must[*otlp.Exporter](t)(otlp.Open(otlp.Options{
		Endpoint: r.URL, Ratio: 1, Service: "ringfence", Random: func(b []byte) { _, _ = rand.Read(b) }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}))
	b.events.Traced(e)
	request := e.Enter(trace.Parse(senders))
	ctx := trace.With(t.Context(), request)
	m := must[uplink.Message](t)(uplink.Parse("plain", []byte(`{"id":"first","device":"`+known+`","payload_hex":"00"}`), ""))
	first := must[store.Verdict](t)(b.events.Accept(ctx, b.scope, b.way, m))
	if again := must[store.Verdict](t)(b.events.Accept(ctx, b.scope, b.way, m)); !again.Duplicate {
		t.Fatal("the same is no duplicate")
	}
	b.send(0, 0) // that nobody traces
	if readings, _ := b.process(); readings != 2 {
		t.Fatalf("%d readings", readings)
	}
	r.Await(4)
	e.Close(t.Context())
	of := map[string]otlptest.Span{}
	for _, span := range r.Spans() {
		name := span.Name
		if span.Said["ringfence.event_id"] != first.ID.String() {
			name += " of another"
		}
		if of[name] = span; span.Trace != sendersTrace || span.Said["ringfence.tenant_id"] != b.tenant.String() || span.Failed {
			t.Errorf("%+v", span)
		}
	}
	parent := request.String()[36:52]
	if len(of) != 4 || of["accept"].Parent != parent || of["accept"].ID == parent || of["accept of another"].Said["ringfence.result"] != "duplicate" || of["decode"].Parent != of["accept"].ID || of["write"].Parent != of["accept"].ID {
		t.Errorf("%+v", of)
	}
	if of["accept"].Said["ringfence.result"] != "accepted" || of["write"].Said["ringfence.result"] != "processed" {
		t.Errorf("%+v", of)
	}
}
