package ingest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
)

// What nobody can read has a rate as what can has one: beyond it the bus keeps its beginning, and beyond another nothing but a count.
func TestAFloodOfWhatNobodyCanReadFillsNoBus(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.SourceRate, limits.IngestRate = 20, 40
	checked := func(s *stream) ingest.Connection {
		return ingest.Connection{Name: "own", Format: source.Plain, Owner: ingest.Checked, Topics: []uplink.Template{template(s.t, uplink.CheckedTopic)}}
	}
	ours := func(s *stream) string { return s.up(s.tenant) }
	const sent, most = 600, 2 * uplink.MaxBody / uplink.CutLetter // KiB that may come at once
	for _, c := range []struct {
		name, reason string
		topic        func(s *stream) string
		brought      ingest.Brought
		whole, cut   int // of so many
	}{
		{"unreadable", "unreadable", ours, ingest.Brought{Payload: []byte(`{"device":`)}, most, 10},
		{"unreadable and large", "unreadable", ours, ingest.Brought{Payload: []byte(`{"device":"` + strings.Repeat("x", 4<<10))}, most / 5, 10},
		{"unreadable and as large as can be", "unreadable", ours, ingest.Brought{Payload: []byte(`{"device":"` + strings.Repeat("x", 200<<10))}, 2, 10},
		{"too large", "too_large", ours, ingest.Brought{Bad: "too_large", Payload: make([]byte, uplink.MaxBody), Size: 3 << 20, Hash: [32]byte{7}}, 0, 10},
		{"another topic", "bad_topic", func(*stream) string { return "elsewhere" }, ingest.Brought{Payload: []byte("{}")}, most, 20},
		{"no source's", "no_source", func(s *stream) string {
			return strings.Replace(ours(s), s.way.ID.String(), ident.Source{9, 6: 0x70, 8: 0x80}.String(), 1)
		}, ingest.Brought{Payload: []byte("{}")}, most, 20},
	} {
		s := newStream(t, "x", limits)
		for range sent {
			d := c.brought
			d.Topic = c.topic(s)
			if err := s.events.Receive(t.Context(), checked(s), []ingest.Brought{d})[0]; err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		whole, cut, bytes := 0, 0, 0
		for _, r := range s.all(s.topics.Dead) {
			var fields []uplink.Field
			for _, h := range r.Headers {
				fields = append(fields, uplink.Field{Name: h.Name, Value: string(h.Value)})
			}
			l := uplink.ReadLetter(fields)
			if bytes += len(r.Value); l.Size == len(r.Value) {
				whole++
			} else if cut++; len(r.Value) > uplink.CutLetter || l.Hash == [32]byte{} || l.Size != max(len(c.brought.Payload), c.brought.Size) {
				t.Errorf("%s: %d bytes are kept of %+v", c.name, len(r.Value), l)
			}
			if l.Reason != c.reason {
				t.Errorf("%s: the reason is %s", c.name, l.Reason)
			}
		}
		if small := len(c.brought.Payload) <= uplink.CutLetter; small { // what is cut is whole
			c.whole, c.cut = c.whole+c.cut, 0
		}
		if whole != c.whole || cut != c.cut || s.counted(checked(s), "dead_letter") != int64(whole+cut) || s.counted(checked(s), "dead_dropped") != int64(sent-whole-cut) {
			t.Errorf("%s: %d whole and %d cut, want %d and %d; %v", c.name, whole, cut, c.whole, c.cut, s.events.Counts())
		}
		// It takes nothing of what can be read, and a second later there is room again.
		good := ingest.Brought{Topic: ours(s), Payload: []byte(`{"id":"1","device":"` + known + `","payload":"AA=="}`)}
		if err := s.events.Receive(t.Context(), checked(s), []ingest.Brought{good})[0]; err != nil || s.counted(checked(s), "accepted") != 1 {
			t.Errorf("%s: a good message: %v, %v", c.name, err, s.events.Counts())
		}
		s.now = s.now.Add(time.Second)
		d := c.brought
		d.Topic = c.topic(s)
		if err := s.events.Receive(t.Context(), checked(s), []ingest.Brought{d})[0]; err != nil || s.counted(checked(s), "dead_letter") != int64(whole+cut+1) {
			t.Errorf("%s: a second later: %v, %v", c.name, err, s.events.Counts())
		}
	}
}
