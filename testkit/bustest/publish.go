package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/bus"
)

func content(t testing.TB, s *Server) {
	b, name := topic(t, s, 3)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	sent := []bus.Record{
		{Key: "a", Value: []byte("one")},
		{Key: "b"},
		{Key: "c", Value: []byte{}},
		{Key: "ключ \x00 key", Value: all, Headers: []bus.Header{{Name: "id", Value: all}, {Name: "id", Value: []byte("again")}, {Name: "none"}}},
		{Key: strings.Repeat("k", bus.MaxKey), Value: bytes.Repeat([]byte{0xff}, bus.MaxValue)},
		// What the bus says of a record is not the publisher's.
		{Key: "e", Value: []byte("x"), Partition: 77, Offset: 99, Time: time.Unix(1, 0)},
	}
	for i := range sent {
		sent[i].Topic = name
	}
	began := time.Now().Add(-5 * time.Minute)
	published(t, b, sent)
	read := map[string]bus.Record{}
	for _, r := range fetched(t, joined(t, b, named("group"), name), len(sent)) {
		read[r.Key] = r
	}
	for _, want := range sent {
		got, ok := read[want.Key]
		if !ok || got.Topic != name || !bytes.Equal(got.Value, want.Value) || len(got.Headers) != len(want.Headers) {
			t.Fatalf("%.20q: got %.40v", want.Key, got)
		}
		for i, h := range want.Headers {
			if got.Headers[i].Name != h.Name || !bytes.Equal(got.Headers[i].Value, h.Value) {
				t.Errorf("header %d is %v, want %v", i, got.Headers[i], h)
			}
		}
		if got.Partition < 0 || got.Partition > 2 || got.Offset < 0 || got.Offset >= int64(len(sent)) || got.Time.Before(began) || got.Time.After(time.Now().Add(5*time.Minute)) {
			t.Errorf("%.20q: partition %d, offset %d, time %v", got.Key, got.Partition, got.Offset, got.Time)
		}
	}
}

func ordered(t testing.TB, s *Server) {
	b, name := topic(t, s, 4)
	const keys, n = 37, 1500
	for from := 0; from < n; from += 100 {
		published(t, b, numbered(name, keys, from, 100))
	}
	inOrder(t, fetched(t, joined(t, b, named("group"), name), n), keys, n)
}

// inOrder fails unless the records are all of those that numbered made, each once: those of a key on one partition and in
// their order, those of a partition without a gap.
func inOrder(t testing.TB, rs []bus.Record, keys, n int) {
	t.Helper()
	if got := len(values(rs)); got != n || len(rs) != n {
		t.Fatalf("%d records, %d of them different, want %d", len(rs), got, n)
	}
	at, last, next := map[string]int{}, map[string]string{}, map[int]int64{}
	for _, r := range rs {
		if p, seen := at[r.Key]; seen && p != r.Partition {
			t.Fatalf("key %s is on partitions %d and %d", r.Key, p, r.Partition)
		}
		at[r.Key] = r.Partition
		if last[r.Key] >= string(r.Value) {
			t.Fatalf("of key %s %s comes after %s", r.Key, r.Value, last[r.Key])
		}
		last[r.Key] = string(r.Value)
		if r.Offset != next[r.Partition] {
			t.Fatalf("of partition %d %d comes, want %d", r.Partition, r.Offset, next[r.Partition])
		}
		next[r.Partition]++
	}
	if len(at) != keys || keys > 10 && len(next) < 2 {
		t.Errorf("%d keys on %d partitions", len(at), len(next))
	}
}

func alone(t testing.TB, s *Server) {
	b, name := topic(t, s, 2)
	rs := numbered(name, 3, 0, 60)
	want := map[int]error{}
	spoil := func(i int, err error, how func(*bus.Record)) {
		how(&rs[i])
		want[i] = err
	}
	spoil(5, bus.ErrTooLarge, func(r *bus.Record) { r.Value = make([]byte, bus.MaxValue+1) })
	spoil(11, bus.ErrTopic, func(r *bus.Record) { r.Topic = named("nowhere") })
	spoil(12, bus.ErrTopic, func(r *bus.Record) { r.Topic = "no/name" })
	spoil(20, bus.ErrKey, func(r *bus.Record) { r.Key = "" })
	spoil(59, bus.ErrTooLarge, func(r *bus.Record) { r.Headers = make([]bus.Header, bus.MaxHeaders+1) })
	errs := b.Publish(soon(t), rs)
	for i := range rs {
		if i >= len(errs) || !errors.Is(errs[i], want[i]) || want[i] == nil && errs[i] != nil {
			t.Fatalf("record %d: %v, want %v", i, errs[i], want[i])
		}
	}
	got := fetched(t, joined(t, b, named("group"), name), 55)
	last := map[string]string{}
	for _, r := range got {
		if last[r.Key] >= string(r.Value) {
			t.Errorf("of key %s %s comes after %s", r.Key, r.Value, last[r.Key])
		}
		last[r.Key] = string(r.Value)
	}
	if n := len(values(got)); n != 55 {
		t.Errorf("%d of the 55 others are there", n)
	}
}

func bounds(t testing.TB, s *Server) {
	b, name := topic(t, s, 1)
	header := func(n int) []bus.Header {
		return []bus.Header{{Name: "n", Value: make([]byte, n-1)}}
	}
	good := []bus.Record{
		{Key: "k", Value: make([]byte, bus.MaxValue), Headers: header(bus.MaxHeaderBytes)},
		{Key: strings.Repeat("k", bus.MaxKey), Headers: make([]bus.Header, bus.MaxHeaders)},
	}
	bad := []bus.Record{
		{Key: "k", Value: make([]byte, bus.MaxValue+1)}, {Key: strings.Repeat("k", bus.MaxKey+1)}, {Key: "k", Headers: make([]bus.Header, bus.MaxHeaders+1)},
		{Key: "k", Headers: header(bus.MaxHeaderBytes + 1)},
	}
	for i := range good {
		good[i].Topic = name
	}
	for i := range bad {
		bad[i].Topic = name
	}
	published(t, b, good)
	for i, err := range b.Publish(soon(t), bad) {
		if !errors.Is(err, bus.ErrTooLarge) {
			t.Errorf("bad record %d: %v", i, err)
		}
	}
	if errs := b.Publish(soon(t), nil); len(errs) != 0 {
		t.Errorf("nothing was answered with %v", errs)
	}
	if got, err := b.Browse(soon(t), name, 0, 0, 10); err != nil || len(got) < 1 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	m := joined(t, b, named("group"), name)
	if got := fetched(t, m, len(good)); len(got) != len(good) || len(got[0].Value) != bus.MaxValue || len(got[0].Headers) != 1 || len(got[1].Headers) != bus.MaxHeaders {
		t.Errorf("%d records are not those that were sent", len(got))
	}
	for _, group := range []string{"", "a b", "a/b", strings.Repeat("x", 250), "."} {
		if _, err := b.Join(soon(t), group, name); !errors.Is(err, bus.ErrName) {
			t.Errorf("group %.20q: %v", group, err)
		}
	}
	if _, err := b.Join(soon(t), named("group")); !errors.Is(err, bus.ErrName) {
		t.Errorf("a group that reads nothing: %v", err)
	}
}

func missing(t testing.TB, s *Server) {
	b, there := topic(t, s, 1)
	name := named("missing")
	for range 2 {
		for _, err := range b.Publish(soon(t), numbered(name, 2, 0, 2)) {
			if !errors.Is(err, bus.ErrTopic) {
				t.Fatalf("publishing: %v", err)
			}
		}
		if m, err := b.Join(soon(t), named("group"), there, name); !errors.Is(err, bus.ErrTopic) {
			t.Fatalf("joining: %v, %v", m, err)
		}
		if rs, err := b.Browse(soon(t), name, 0, 0, 1); !errors.Is(err, bus.ErrTopic) {
			t.Fatalf("browsing: %v, %v", rs, err)
		}
		if _, err := b.Lags(soon(t), named("group"), there, name); !errors.Is(err, bus.ErrTopic) {
			t.Fatalf("lags: %v", err)
		}
	}
	if _, err := b.Browse(soon(t), there, 1, 0, 1); !errors.Is(err, bus.ErrTopic) {
		t.Errorf("browsing a partition that is not there: %v", err)
	}
	s.Create(t, name, 3)
	eventually(t, "the topic is found once it is made", func() bool { return b.Publish(soon(t), numbered(name, 1, 0, 1))[0] == nil })
	if ls := lagsOf(t, b, named("group"), name); len(ls) != 3 {
		t.Errorf("%v", ls)
	}
}

func publishers(t testing.TB, s *Server) {
	b, name := topic(t, s, 3)
	const callers, calls, each = 12, 8, 20
	var wg sync.WaitGroup
	failed := make(chan error, callers*calls*each)
	for c := range callers {
		wg.Go(func() {
			for n := range calls {
				rs := make([]bus.Record, each)
				for i := range rs {
					rs[i] = bus.Record{Topic: name, Key: fmt.Sprint("c", c, "-", i%2), Value: fmt.Appendf(nil, "%02d-%06d", c, n*each+i)}
				}
				for _, err := range b.Publish(soon(t), rs) {
					if err != nil {
						failed <- err
					}
				}
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 {
		t.Fatalf("%d records failed: %v", len(failed), <-failed)
	}
	last := map[string]string{}
	got := fetched(t, joined(t, b, named("group"), name), callers*calls*each)
	for _, r := range got {
		if last[r.Key] >= string(r.Value) {
			t.Fatalf("of key %s %s comes after %s", r.Key, r.Value, last[r.Key])
		}
		last[r.Key] = string(r.Value)
	}
	if n := len(values(got)); n != callers*calls*each {
		t.Errorf("%d different records, want %d", n, callers*calls*each)
	}
}

// owned: callers use their buffers again, whether the call went well or ended early.
func owned(t testing.TB, s *Server) {
	b, name := topic(t, s, 1)
	buffer, head := []byte("right"), []byte("right")
	for n := range 50 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n%5)*200*time.Microsecond)
		if n%2 == 0 {
			ctx = soon(t)
		}
		b.Publish(ctx, []bus.Record{{Topic: name, Key: "k", Value: buffer, Headers: []bus.Header{{Name: "h", Value: head}}}})
		cancel()
		copy(buffer, "wrong")
		copy(head, "wrong")
		copy(buffer, "right")
		copy(head, "right")
	}
	copy(buffer, "wrong")
	copy(head, "wrong")
	for range 2 {
		rs := fetched(t, joined(t, b, named("group"), name), 25)
		for _, r := range rs {
			if string(r.Value) != "right" || string(r.Headers[0].Value) != "right" {
				t.Fatal("a record has bytes that were its caller's")
			}
			copy(r.Value, "wrong")
			copy(r.Headers[0].Value, "wrong")
		}
		browsed, err := b.Browse(soon(t), name, 0, 0, 5)
		if err != nil || len(browsed) != 5 {
			t.Fatalf("%d records, %v", len(browsed), err)
		}
		for _, r := range browsed {
			copy(r.Value, "wrong")
		}
	}
}

func contexts(t testing.TB, s *Server) {
	b, name := topic(t, s, 1)
	published(t, b, numbered(name, 1, 0, 3))
	m := joined(t, b, named("group"), name)
	read := fetched(t, m, 3)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for what, call := range map[string]func() error{
		"publish": func() error { return b.Publish(over, numbered(name, 1, 0, 1))[0] },
		"join":    func() error { _, err := b.Join(over, named("group"), name); return err },
		"browse":  func() error { _, err := b.Browse(over, name, 0, 0, 1); return err },
		"lags":    func() error { _, err := b.Lags(over, named("group"), name); return err },
		"fetch":   func() error { _, err := m.Fetch(over, 1, time.Minute); return err },
		"commit":  func() error { return m.Commit(over, marks(read)) },
	} {
		if err := ends(t, 5*time.Second, call); !errors.Is(err, bus.ErrAway) || !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s with a context that is over: %v", what, err)
		}
	}
	waiting, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := ends(t, 5*time.Second, func() error { _, err := m.Fetch(waiting, 1, time.Minute); return err }); !errors.Is(err, bus.ErrAway) {
		t.Errorf("fetching while the context ends: %v", err)
	}
	// None of this has broken anything.
	published(t, b, numbered(name, 1, 3, 1))
	if rs := fetched(t, m, 1); string(rs[len(rs)-1].Value) != "00000003" {
		t.Errorf("%s", rs[0].Value)
	}
}

// ends fails if a call does not end in time.
func ends(t testing.TB, within time.Duration, call func() error) error {
	t.Helper()
	answer := make(chan error, 1)
	go func() { answer <- call() }()
	select {
	case err := <-answer:
		return err
	case <-time.After(within):
		t.Fatalf("a call went on for %v", within)
		return nil
	}
}

func closing(t testing.TB, s *Server) {
	b, name := topic(t, s, 2)
	published(t, b, numbered(name, 5, 0, 10))
	group := named("group")
	m, left := joined(t, b, group, name), joined(t, b, named("group"), name)
	read := fetched(t, m, 10)
	if err := left.Close(); err != nil {
		t.Error(err)
	}
	if _, err := left.Fetch(soon(t), 1, time.Minute); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("fetching after leaving: %v", err)
	}
	if err := left.Commit(soon(t), nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("committing after leaving: %v", err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := m.Fetch(soon(t), 1, time.Minute)
		waits <- err
	}()
	for range 2 {
		if err := ends(t, 15*time.Second, b.Close); err != nil {
			t.Error(err)
		}
	}
	if err := ends(t, 5*time.Second, func() error { return <-waits }); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("who waits is told %v", err)
	}
	_, joins := b.Join(soon(t), group, name)
	_, browses := b.Browse(soon(t), name, 0, 0, 1)
	_, lags := b.Lags(soon(t), group, name)
	_, fetches := m.Fetch(soon(t), 1, time.Minute)
	for what, err := range map[string]error{
		"join": joins, "browse": browses, "lags": lags, "fetch": fetches, "publish": b.Publish(soon(t), numbered(name, 1, 0, 1))[0], "commit": m.Commit(soon(t), marks(read)),
	} {
		if !errors.Is(err, bus.ErrClosed) {
			t.Errorf("%s after the end: %v", what, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	// The members left: another gets everything at once, and it is all there.
	if got := fetched(t, joined(t, opened(t, s), group, name), 10); len(got) != 10 {
		t.Errorf("%d records", len(got))
	}
}
