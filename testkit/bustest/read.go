package bustest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/bus"
)

func oldest(t testing.TB, s *Server) {
	b, name := topic(t, s, 2)
	published(t, b, numbered(name, 11, 0, 40))
	m := joined(t, b, named("group"), name)
	inOrder(t, fetched(t, m, 40), 11, 40)
	published(t, b, numbered(name, 11, 40, 5))
	if got := values(fetched(t, m, 5)); len(got) != 5 || got[0] != "00000040" {
		t.Errorf("then came %v", got)
	}
	quiet(t, m)
}

func again(t testing.TB, s *Server) {
	b, name := topic(t, s, 3)
	group := named("group")
	published(t, b, numbered(name, 30, 0, 90))
	m := joined(t, b, group, name)
	read := fetched(t, m, 90)
	done := slices.DeleteFunc(slices.Clone(read), func(r bus.Record) bool { return r.Offset >= 10 })
	committed(t, m, marks(done))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = joined(t, b, group, name)
	rest := fetched(t, m, 90-len(done))
	next := map[int]int64{}
	for _, mark := range marks(done) {
		next[mark.Partition] = mark.Next
	}
	for _, r := range rest {
		if r.Offset != next[r.Partition] {
			t.Fatalf("of partition %d %d comes again, want %d", r.Partition, r.Offset, next[r.Partition])
		}
		next[r.Partition]++
	}
	committed(t, m, marks(rest))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	quiet(t, joined(t, b, group, name))
}

func apart(t testing.TB, s *Server) {
	b, name := topic(t, s, 1)
	other := named("topic")
	s.Create(t, other, 2)
	published(t, b, numbered(name, 3, 0, 20))
	eventually(t, "the second topic is there", func() bool { return b.Publish(soon(t), numbered(other, 3, 100, 1))[0] == nil })
	one, two := named("group"), named("group")
	m := joined(t, b, one, name)
	committed(t, m, marks(fetched(t, m, 20)))
	both := joined(t, b, two, name, other)
	if got := fetched(t, both, 21); len(values(got)) != 21 {
		t.Errorf("%d records of two topics", len(values(got)))
	}
	if n := behind(t, b, one, name); n != 0 {
		t.Errorf("the first group is %d behind", n)
	}
	if n := behind(t, b, two, name, other); n < 21 {
		t.Errorf("the second group is %d behind before it commits", n)
	}
}

// shared lets two members settle, then each partition must be one member's alone.
func shared(t testing.TB, s *Server) {
	b, name := topic(t, s, 4)
	group := named("group")
	members := []bus.Member{joined(t, b, group, name), joined(t, opened(t, s), group, name)}
	sent := 0
	round := func() (got [2][]bus.Record) {
		published(t, b, numbered(name, 40, sent, 80))
		sent += 80
		eventually(t, "a round is read", func() bool {
			for i, m := range members {
				rs, err := m.Fetch(soon(t), 1000, 50*time.Millisecond)
				if err != nil && !errors.Is(err, bus.ErrAway) {
					t.Fatal(err)
				}
				got[i] = append(got[i], rs...)
				if len(rs) > 0 {
					committed(t, m, marks(rs))
				}
			}
			return behind(t, b, group, name) == 0
		})
		return got
	}
	eventually(t, "both members have something to read", func() bool {
		got := round()
		return len(got[0]) > 0 && len(got[1]) > 0
	})
	got := round()
	owners := map[int]int{}
	for i, rs := range got {
		for _, r := range rs {
			if owner, seen := owners[r.Partition]; seen && owner != i {
				t.Fatalf("partition %d is read by both", r.Partition)
			}
			owners[r.Partition] = i
		}
	}
	if all := append(got[0], got[1]...); len(all) != 80 || len(values(all)) != 80 || len(got[0]) == 0 || len(got[1]) == 0 {
		t.Errorf("80 records came as %d and %d", len(got[0]), len(got[1]))
	}
	// One leaves, and the other has all.
	if err := members[0].Close(); err != nil {
		t.Fatal(err)
	}
	published(t, b, numbered(name, 40, sent, 80))
	if all := fetched(t, members[1], 80); len(values(all)) != 80 {
		t.Errorf("%d of 80 records came to who stayed", len(values(all)))
	}
}

// comings has members that join, read a little, commit some of it and leave, while others publish.
func comings(t testing.TB, s *Server) {
	b, name := topic(t, s, 3)
	group := named("group")
	const n, slots = 1200, 2
	var mu sync.Mutex
	next, seen := map[int]int64{}, map[string]bool{}
	var wrong string
	ctx := soon(t)
	live := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) < n && wrong == "" && ctx.Err() == nil
	}
	fail := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		wrong = fmt.Sprintf(format, args...)
	}
	take := func(rs []bus.Record) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range rs {
			if r.Offset > next[r.Partition] {
				wrong = fmt.Sprintf("of partition %d %d came before %d", r.Partition, r.Offset, next[r.Partition])
			}
			next[r.Partition] = max(next[r.Partition], r.Offset+1)
			seen[string(r.Value)] = true
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for from := 0; from < n; from += 60 {
			for _, err := range b.Publish(ctx, numbered(name, 17, from, 60)) {
				if err != nil {
					fail("publishing: %v", err)
				}
			}
		}
	})
	for slot := range slots {
		wg.Go(func() {
			for life := 0; live(); life++ {
				m, err := b.Join(ctx, group, name)
				if err != nil {
					fail("joining: %v", err)
					return
				}
				for mine := 0; live() && mine < 100+slot*60; {
					rs, err := m.Fetch(ctx, 25, 200*time.Millisecond)
					if err != nil && !errors.Is(err, bus.ErrAway) {
						fail("fetching: %v", err)
					}
					take(rs)
					mine += len(rs)
					if mine%4 != 3 && len(rs) > 1 { // all but the last
						_ = m.Commit(ctx, marks(rs[:len(rs)-1]))
					}
				}
				if err := m.Close(); err != nil {
					fail("leaving: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if wrong != "" || len(seen) < n {
		t.Fatalf("%d of %d records came; %s", len(seen), n, wrong)
	}
}

func committedOf(t testing.TB, b bus.Bus, group, topic string, partition int) int64 {
	t.Helper()
	ls, err := b.Lags(soon(t), group, topic)
	if err != nil || len(ls) <= partition {
		t.Fatalf("%v, %v", ls, err)
	}
	return ls[partition].Committed
}

func monotone(t testing.TB, s *Server) {
	b, name := topic(t, s, 1)
	group := named("group")
	published(t, b, numbered(name, 3, 0, 50))
	m := joined(t, b, group, name)
	fetched(t, m, 50)
	for _, c := range []struct{ next, want int64 }{{30, 30}, {20, 30}, {0, 30}, {-5, 30}, {31, 31}, {30, 31}} {
		committed(t, m, []bus.Mark{{Topic: name, Next: c.next}})
		if got := committedOf(t, b, group, name, 0); got != c.want {
			t.Fatalf("after a mark at %d it is %d, want %d", c.next, got, c.want)
		}
	}
	// Many at once, in any order.
	var wg sync.WaitGroup
	for next := int64(50); next > 31; next-- {
		wg.Go(func() { _ = m.Commit(soon(t), []bus.Mark{{Topic: name, Next: next}, {Topic: name, Next: next - 15}}) })
	}
	wg.Wait()
	committed(t, m, []bus.Mark{{Topic: name, Next: 50}})
	committed(t, m, []bus.Mark{{Topic: name, Next: 33}})
	if got := committedOf(t, b, group, name, 0); got != 50 {
		t.Fatalf("after many marks it is %d, want 50", got)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	quiet(t, joined(t, b, group, name))
}

func ahead(t testing.TB, s *Server) {
	b, name := topic(t, s, 2)
	group := named("group")
	published(t, b, numbered(name, 30, 0, 60))
	m := joined(t, b, group, name)
	before := marks(fetched(t, m, 60))
	for _, mark := range before {
		mark.Next++
		if err := m.Commit(soon(t), append(slices.Clone(before), mark)); err == nil {
			t.Fatalf("a mark at %d of partition %d is kept", mark.Next, mark.Partition)
		}
	}
	if err := m.Commit(soon(t), []bus.Mark{{Topic: name, Partition: 9, Next: 1}}); err == nil {
		t.Error("a mark of a partition that is not there is kept")
	}
	if n := behind(t, b, group, name); n != 60 {
		t.Errorf("%d records are behind, want all: nothing was committed", n)
	}
	committed(t, m, before)
}

func anothers(t testing.TB, s *Server) {
	b, name := topic(t, s, 2)
	group := named("group")
	published(t, b, numbered(name, 30, 0, 60))
	m := joined(t, b, group, name)
	before := marks(fetched(t, m, 60))
	other := joined(t, opened(t, s), group, name)
	theirs := fetched(t, other, 5) // of the one that it took over, from the beginning
	p := theirs[0].Partition
	size := before[slices.IndexFunc(before, func(m bus.Mark) bool { return m.Partition == p })].Next
	for int64(len(theirs)) < size {
		theirs = append(theirs, fetched(t, other, 1)...)
	}
	if theirs[0].Offset != 0 || int64(len(theirs)) != size {
		t.Fatalf("%d records from %d on, want %d from 0 on", len(theirs), theirs[0].Offset, size)
	}
	committed(t, other, []bus.Mark{{Topic: name, Partition: p, Next: 4}})
	for _, next := range []int64{1, 2, 6} {
		_ = m.Commit(soon(t), []bus.Mark{{Topic: name, Partition: p, Next: next}})
		if got := committedOf(t, b, group, name, p); got != 4 {
			t.Fatalf("another's mark at %d made 4 into %d", next, got)
		}
	}
	committed(t, m, []bus.Mark{{Topic: name, Partition: 1 - p, Next: 2}})
	if got := committedOf(t, b, group, name, 1-p); got != 2 {
		t.Errorf("a member's own mark is %d, want 2", got)
	}
}

// fair: a flood of one key is on one partition, and a single record on another.
func fair(t testing.TB, s *Server) {
	b, name := topic(t, s, 2)
	const flood = 6000
	rs := make([]bus.Record, 0, flood+20)
	for i := range flood {
		rs = append(rs, bus.Record{Topic: name, Key: "flood", Value: fmt.Appendf(nil, "f%d", i)})
	}
	for i := range 20 { // on either of them
		rs = append(rs, bus.Record{Topic: name, Key: fmt.Sprint("quiet", i), Value: []byte("q")})
	}
	published(t, b, rs)
	ls, err := b.Lags(soon(t), named("group"), name)
	if err != nil || len(ls) != 2 || ls[0].End+ls[1].End != flood+20 || min(ls[0].End, ls[1].End) == 0 {
		t.Fatalf("%+v, %v", ls, err)
	}
	quiet := 0
	if ls[1].End < ls[0].End {
		quiet = 1
	}
	m := joined(t, b, named("group"), name)
	for read := 0; read < flood*3/4; {
		got, err := m.Fetch(soon(t), 10, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		read += len(got)
		if slices.ContainsFunc(got, func(r bus.Record) bool { return r.Partition == quiet }) {
			return
		}
	}
	t.Error("three quarters of the flood came before anything of the quiet partition")
}

func limits(t testing.TB, s *Server) {
	b, name := topic(t, s, 2)
	m := joined(t, b, named("group"), name)
	began := time.Now()
	rs, err := m.Fetch(soon(t), 10, 200*time.Millisecond)
	if took := time.Since(began); err != nil || len(rs) != 0 || took < 190*time.Millisecond || took > 5*time.Second {
		t.Fatalf("%d records of an empty topic after %v, %v", len(rs), took, err)
	}
	published(t, b, numbered(name, 7, 0, 40))
	for read := 0; read < 40; {
		rs, err := m.Fetch(soon(t), 3, time.Second)
		if err != nil || len(rs) > 3 {
			t.Fatalf("%d records, at most 3; %v", len(rs), err)
		}
		read += len(rs)
	}
	// Who waits is told at once.
	got := make(chan int, 1)
	go func() {
		rs, _ := m.Fetch(soon(t), 10, patience(t))
		got <- len(rs)
	}()
	published(t, b, numbered(name, 1, 40, 1))
	if err := ends(t, patience(t)/2, func() error {
		if n := <-got; n != 1 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func browsing(t testing.TB, s *Server) {
	b, name := topic(t, s, 2)
	group := named("group")
	published(t, b, numbered(name, 30, 0, 60))
	m := joined(t, b, group, name)
	read := fetched(t, m, 60)
	committed(t, m, []bus.Mark{{Topic: name, Partition: 1, Next: 3}})
	for p := range 2 {
		want := slices.DeleteFunc(slices.Clone(read), func(r bus.Record) bool { return r.Partition != p })
		for _, c := range []struct {
			from        int64
			limit       int
			first, size int
		}{{0, 1000, 0, len(want)}, {-3, 4, 0, 4}, {5, 2, 5, 2}, {int64(len(want)), 5, 0, 0}, {int64(len(want)) + 100, 5, 0, 0}, {1, 0, 0, 0}} {
			got, err := b.Browse(soon(t), name, p, c.from, c.limit)
			if err != nil || len(got) != c.size {
				t.Fatalf("%d of partition %d from %d on: %d records, %v", c.limit, p, c.from, len(got), err)
			}
			for i, r := range got {
				w := want[c.first+i]
				if r.Offset != w.Offset || string(r.Value) != string(w.Value) || r.Key != w.Key || r.Partition != p || r.Topic != name || !r.Time.Equal(w.Time) {
					t.Fatalf("browsed %v, fetched %v", r, w)
				}
			}
		}
	}
	if a, z := committedOf(t, b, group, name, 0), committedOf(t, b, group, name, 1); a != -1 || z != 3 {
		t.Errorf("the marks are %d and %d, want -1 and 3", a, z)
	}
	quiet(t, m)
}

func lags(t testing.TB, s *Server) {
	b, name := topic(t, s, 3)
	group := named("group")
	rs := numbered(name, 1, 0, 10) // one key: two partitions stay empty
	published(t, b, rs)
	told := func() map[int]bus.Lag {
		ls := lagsOf(t, b, group, name)
		if len(ls) != 3 {
			t.Fatalf("%v", ls)
		}
		all := map[int]bus.Lag{}
		for _, l := range ls {
			if l.Topic != name {
				t.Errorf("a lag of %s", l.Topic)
			}
			all[l.Partition] = l
		}
		return all
	}
	before := told()
	m := joined(t, b, group, name)
	read := fetched(t, m, 10)
	full := read[0].Partition
	for p, l := range before {
		want := bus.Lag{Topic: name, Partition: p, Committed: -1}
		if p == full {
			want.End, want.Oldest = 10, read[0].Time
		}
		if !l.Oldest.Equal(want.Oldest) || l.Committed != -1 || l.First != 0 || l.End != want.End || l.Behind() != want.End {
			t.Errorf("nothing read: %+v, want %+v", l, want)
		}
	}
	committed(t, m, marks(read[:4]))
	if l := told()[full]; l.Committed != 4 || l.Behind() != 6 || !l.Oldest.Equal(read[4].Time) {
		t.Errorf("four read: %+v", l)
	}
	committed(t, m, marks(read))
	if l := told()[full]; l.Committed != 10 || l.Behind() != 0 || !l.Oldest.IsZero() {
		t.Errorf("all read: %+v", l)
	}
}
