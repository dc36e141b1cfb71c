package ingest

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/bus"
)

// Decision 6 of the pipeline: a record that nobody has read for over an hour is an alarm, once, until it is over.
func TestARecordThatNobodyReadsForAnHourIsAnAlarm(t *testing.T) {
	broker := memory.NewBroker(memory.BrokerOptions{})
	if err := broker.Create("rf.uplinks", 2); err != nil {
		t.Fatal(err)
	}
	b := broker.Bus()
	now := time.Now()
	var log bytes.Buffer
	g := &Ingest{
		enter: &enter.Enter{Recorder: enter.Recorder{Mint: ident.Mint{Now: func() time.Time { return now }}}}, durable: &Durable{Bus: b}, log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	look := func(records, atLeast, atMost int64, alarms string) {
		t.Helper()
		n, err := g.seen(t.Context(), "workers", "rf.uplinks")
		out := map[string]int64{}
		g.lagged(out)
		old, told := out[`ringfence_bus_oldest_unread_seconds{group="workers",topic="rf.uplinks"}`]
		if err != nil || n != records || out[`ringfence_bus_lag_records{group="workers",topic="rf.uplinks"}`] != records || !told || old < atLeast || old > atMost {
			t.Errorf("%v %d %v", err, n, out)
		}
		if got := strings.Count(log.String(), "level=ERROR"); strings.Repeat("!", got)+strings.Repeat(".", strings.Count(log.String(), "level=INFO")) != alarms {
			t.Errorf("want %q: %s", alarms, log.String())
		}
	}
	look(0, 0, 0, "")
	for _, err := range b.Publish(t.Context(), []bus.Record{{Topic: "rf.uplinks", Key: "a", Value: []byte("1")}, {Topic: "rf.uplinks", Key: "b", Value: []byte("2")}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	look(2, 0, 60, "")
	now = now.Add(59 * time.Minute)
	look(2, 3_500, 3_600, "")
	now = now.Add(2 * time.Minute)
	look(2, 3_600, 3_700, "!")
	look(2, 3_600, 3_700, "!")
	m, err := b.Join(t.Context(), "workers", "rf.uplinks")
	if err != nil {
		t.Fatal(err)
	}
	var marks []bus.Mark
	for len(marks) < 2 {
		rs, err := m.Fetch(t.Context(), 10, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			marks = append(marks, bus.Mark{Topic: r.Topic, Partition: r.Partition, Next: r.Offset + 1})
		}
	}
	if err := m.Commit(t.Context(), marks); err != nil {
		t.Fatal(err)
	}
	look(0, 0, 0, "!.")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	if _, err := g.seen(t.Context(), "workers", "rf.uplinks"); err == nil {
		t.Error("a closed bus answers")
	}
	if g.lagged(out); len(out) != 0 {
		t.Errorf("what nobody can ask is told: %v", out)
	}
}
