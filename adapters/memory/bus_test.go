package memory_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/bustest"
)

func server(t testing.TB) *bustest.Server {
	k := memory.NewBroker(memory.BrokerOptions{})
	done := func(t testing.TB, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	return &bustest.Server{
		Open:   func(testing.TB) bus.Bus { return k.Bus() },
		Create: func(t testing.TB, topic string, n int) { done(t, k.Create(topic, n)) },
		Delete: func(t testing.TB, topic string) { done(t, k.Delete(topic)) },
		Trim:   func(t testing.TB, topic string, p int, below int64) { done(t, k.Trim(topic, p, below)) },
		Grow:   func(t testing.TB, topic string, n int) { done(t, k.Grow(topic, n)) },
		Accept: func(t testing.TB, topic string) { done(t, k.Accept(topic)) },
	}
}

func TestTheBusFillsThePort(t *testing.T) {
	bustest.Run(t, server, bustest.Losing, bustest.Growing)
}

func records(topic string, n, size int) []bus.Record {
	rs := make([]bus.Record, n)
	for i := range rs {
		rs[i] = bus.Record{Topic: topic, Key: "k", Value: make([]byte, size)}
	}
	return rs
}

// What a group has yet to read holds its room: who publishes waits until it is read, or the context ends.
func TestAFullBusWaitsForItsReadersAndForgetsNothing(t *testing.T) {
	k := memory.NewBroker(memory.BrokerOptions{Room: 100 << 10})
	b := k.Bus()
	defer b.Close()
	for _, name := range []string{"read", "dead"} {
		if err := k.Create(name, 1); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.Join(t.Context(), "g", "read")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Publish(t.Context(), records("read", 9, 10<<10))...); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	errs := b.Publish(short, records("read", 11, 10<<10))
	if !errors.Is(errs[0], bus.ErrAway) || !errors.Is(errs[10], bus.ErrAway) {
		t.Fatalf("%v", errs)
	}
	published := make(chan error, 1)
	go func() { published <- b.Publish(t.Context(), records("read", 1, 10<<10))[0] }()
	rs, err := m.Fetch(t.Context(), 100, time.Second)
	if err != nil || len(rs) != 9 {
		t.Fatalf("%d records, %v", len(rs), err)
	}
	select {
	case err := <-published:
		t.Fatalf("there was room before anything was committed: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := m.Commit(t.Context(), []bus.Mark{{Topic: "read", Next: 9}}); err != nil {
		t.Fatal(err)
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	// A topic that no group reads forgets its oldest.
	for _, err := range b.Publish(t.Context(), records("dead", 30, 10<<10)) {
		if err != nil {
			t.Fatal(err)
		}
	}
	ls, err := b.Lags(t.Context(), "g", "dead", "read")
	if err != nil || ls[0].End != 30 || ls[0].First < 20 || ls[1].Behind() != 1 {
		t.Fatalf("%+v, %v", ls, err)
	}
	if rs, err = m.Fetch(t.Context(), 100, time.Second); err != nil || len(rs) != 1 || rs[0].Offset != 9 {
		t.Fatalf("%d records, %v", len(rs), err)
	}
	// A group that nobody will join again holds its topic until it is forgotten.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	short, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if errs := b.Publish(short, records("read", 20, 10<<10)); errs[19] == nil {
		t.Fatal("what the group has yet to read was let go")
	}
	k.Forget("g")
	for _, err := range b.Publish(t.Context(), records("read", 20, 10<<10)) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkBusPublishAndFetch(b *testing.B) {
	k := memory.NewBroker(memory.BrokerOptions{})
	if err := k.Create("t", 4); err != nil {
		b.Fatal(err)
	}
	c := k.Bus()
	defer c.Close()
	m, err := c.Join(b.Context(), "g", "t")
	if err != nil {
		b.Fatal(err)
	}
	rs := records("t", 100, 300)
	b.ReportAllocs()
	for b.Loop() {
		c.Publish(b.Context(), rs)
		got, err := m.Fetch(b.Context(), 100, time.Second)
		if err != nil || len(got) != 100 {
			b.Fatalf("%d records, %v", len(got), err)
		}
		if err := m.Commit(b.Context(), []bus.Mark{{Topic: "t", Partition: got[99].Partition, Next: got[99].Offset + 1}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "records/s")
}
