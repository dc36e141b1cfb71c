package bustest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/bus"
)

func dead(t testing.TB, s *Server) {
	b, name := topic(t, s, 3)
	group := named("group")
	published(t, b, numbered(name, 30, 0, 90))
	doomed := opened(t, s)
	m := joined(t, doomed, group, name)
	done := slices.DeleteFunc(fetched(t, m, 90), func(r bus.Record) bool { return r.Offset >= 10 })
	committed(t, m, marks(done))
	s.Cut(t, doomed)
	heir := joined(t, b, group, name)
	rest := fetched(t, heir, 90-len(done))
	for _, r := range rest {
		if r.Offset < 10 {
			t.Errorf("%d of partition %d was committed and comes again", r.Offset, r.Partition)
		}
	}
	if n := len(values(rest)); n != 90-len(done) {
		t.Errorf("%d different records came, want %d", n, 90-len(done))
	}
	// What the dead one does late harms nobody.
	committed(t, heir, marks(rest))
	_ = m.Commit(soon(t), marks(done))
	if n := behind(t, b, group, name); n != 0 {
		t.Errorf("%d are behind", n)
	}
}

func grown(t testing.TB, s *Server) {
	b, name := topic(t, s, 1)
	group := named("group")
	published(t, b, numbered(name, 20, 0, 20))
	m := joined(t, b, group, name)
	read := fetched(t, m, 20)
	s.Grow(t, name, 3)
	sent := 20
	eventually(t, "all partitions are written to", func() bool {
		published(t, b, numbered(name, 20, sent, 20))
		sent += 20
		ls, err := b.Lags(soon(t), group, name)
		return err == nil && len(ls) == 3 && ls[1].End > 0 && ls[2].End > 0
	})
	for len(values(read)) < sent {
		read = append(read, fetched(t, m, 1)...)
	}
	committed(t, m, marks(read))
	if n := behind(t, b, group, name); n != 0 {
		t.Errorf("%d are behind", n)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	quiet(t, joined(t, b, group, name))
}

// lost fails unless a member answers ErrLost and then nothing else, having answered no record. The member leaves then.
func lost(t testing.TB, m bus.Member) {
	t.Helper()
	eventually(t, "the loss is told", func() bool {
		rs, err := m.Fetch(soon(t), 100, 100*time.Millisecond)
		if len(rs) > 0 || err != nil && !errors.Is(err, bus.ErrLost) && !errors.Is(err, bus.ErrAway) {
			t.Fatalf("%d records, %v", len(rs), err)
		}
		return errors.Is(err, bus.ErrLost)
	})
	for range 3 {
		if rs, err := m.Fetch(soon(t), 100, 10*time.Millisecond); !errors.Is(err, bus.ErrLost) || len(rs) > 0 {
			t.Fatalf("after a loss: %d records, %v", len(rs), err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// loses has a group that has read and committed part of a topic, which something then happens to: the member that was there
// and a new one must both tell.
func loses(t testing.TB, s *Server, partitions int, happens func(b bus.Bus, name string)) (b bus.Bus, name, group string) {
	t.Helper()
	b, name = topic(t, s, partitions)
	group = named("group")
	published(t, b, numbered(name, 30, 0, 60))
	m := joined(t, b, group, name)
	committed(t, m, marks(fetched(t, m, 60)))
	happens(b, name)
	lost(t, m)
	return b, name, group
}

func gone(t testing.TB, s *Server) {
	b, name, group := loses(t, s, 2, func(_ bus.Bus, name string) { s.Delete(t, name) })
	eventually(t, "the topic is missing", func() bool {
		m, err := b.Join(soon(t), group, name)
		if err == nil {
			_ = m.Close()
		}
		return errors.Is(err, bus.ErrTopic)
	})
	s.Create(t, name, 2)
	lost(t, joinedSoon(t, b, group, name))
}

// joinedSoon is joined for a topic that has just been made.
func joinedSoon(t testing.TB, b bus.Bus, group, name string) (m bus.Member) {
	t.Helper()
	eventually(t, "the topic is there", func() bool {
		var err error
		m, err = b.Join(soon(t), group, name)
		return err == nil
	})
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// publishedSoon is published for a topic that has just been made.
func publishedSoon(t testing.TB, b bus.Bus, rs []bus.Record) {
	t.Helper()
	eventually(t, "the topic is there", func() bool { return b.Publish(soon(t), rs[:1])[0] == nil })
	published(t, b, rs[1:])
}

func anew(t testing.TB, s *Server) {
	remade := func(partitions int) func(bus.Bus, string) {
		return func(b bus.Bus, name string) {
			s.Delete(t, name)
			s.Create(t, name, partitions)
			publishedSoon(t, b, numbered(name, 40, 1000, 200)) // more than there were, so that no mark lies outside
		}
	}
	b, name, group := loses(t, s, 2, remade(2))
	lost(t, joined(t, b, group, name))
	if n := behind(t, b, group, name); n < 140 {
		t.Errorf("%d behind", n)
	}
	accepted(t, s, b, group, name, 200)
}

// accepted: the group goes on with the oldest, after an operator has said so and not before.
func accepted(t testing.TB, s *Server, b bus.Bus, group, name string, n int) {
	t.Helper()
	s.Accept(t, name)
	m := joined(t, b, group, name)
	rs := fetched(t, m, n)
	if got := len(values(rs)); got != n {
		t.Fatalf("%d different records after the loss was accepted, want %d", got, n)
	}
	committed(t, m, marks(rs))
	if n := behind(t, b, group, name); n != 0 {
		t.Errorf("%d behind", n)
	}
}

func fewer(t testing.TB, s *Server) {
	b, name, group := loses(t, s, 4, func(b bus.Bus, name string) {
		s.Delete(t, name)
		s.Create(t, name, 2)
		publishedSoon(t, b, numbered(name, 40, 1000, 200))
	})
	lost(t, joined(t, b, group, name))
	accepted(t, s, b, group, name, 200)
}

func trimmed(t testing.TB, s *Server) {
	b, name := topic(t, s, 1)
	group := named("group")
	published(t, b, numbered(name, 5, 0, 50))
	m := joined(t, b, group, name)
	committed(t, m, marks(fetched(t, m, 50)[:10]))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	s.Trim(t, name, 0, 30)
	lost(t, joined(t, b, group, name))
	rs, err := b.Browse(soon(t), name, 0, 0, 3)
	if err != nil || len(rs) != 3 || rs[0].Offset != 30 {
		t.Errorf("browsing from what is no longer kept: %d records, %v", len(rs), err)
	}
	ls, err := b.Lags(soon(t), group, name)
	if err != nil || ls[0].First != 30 || ls[0].Committed != 10 || ls[0].Behind() != 20 || !ls[0].Oldest.Equal(rs[0].Time) {
		t.Errorf("%+v, %v", ls, err)
	}
	if rs := fetched(t, joined(t, b, named("group"), name), 20); rs[0].Offset != 30 || len(rs) != 20 {
		t.Errorf("a new group begins at %d", rs[0].Offset)
	}
	accepted(t, s, b, group, name, 20)
}

// overtaken: a slow reader goes on without a gap for as long as it can, and then tells.
func overtaken(t testing.TB, s *Server) {
	b, name := topic(t, s, 1)
	published(t, b, numbered(name, 5, 0, 3000))
	m := joined(t, b, named("group"), name)
	rs, err := m.Fetch(soon(t), 5, patience(t))
	if err != nil || len(rs) == 0 {
		t.Fatalf("%d records, %v", len(rs), err)
	}
	s.Trim(t, name, 0, 2900)
	for next := rs[len(rs)-1].Offset + 1; next < 3000; {
		rs, err := m.Fetch(soon(t), 50, time.Second)
		if errors.Is(err, bus.ErrLost) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Offset != next {
				t.Fatalf("%d comes, want %d or to be told of the loss", r.Offset, next)
			}
			next++
		}
	}
}

func outlives(t testing.TB, s *Server) {
	b, name := topic(t, s, 3)
	group := named("group")
	published(t, b, numbered(name, 30, 0, 300))
	m := joined(t, b, group, name)
	read := fetched(t, m, 300)
	done := slices.DeleteFunc(slices.Clone(read), func(r bus.Record) bool { return r.Offset >= 40 })
	committed(t, m, marks(done))
	s.Restart(t)
	eventually(t, "the old bus takes records again", func() bool { return b.Publish(soon(t), numbered(name, 1, 300, 1))[0] == nil })
	published(t, b, numbered(name, 30, 301, 49))
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	m = joinedSoon(t, opened(t, s), group, name)
	left := map[string]bool{}
	for n := range 350 {
		left[string(numbered(name, 1, n, 1)[0].Value)] = true
	}
	for _, r := range done {
		delete(left, string(r.Value))
	}
	for deadline := soon(t); len(left) > 0; {
		rs, err := m.Fetch(deadline, 1000, time.Second)
		if err != nil && !errors.Is(err, bus.ErrAway) || deadline.Err() != nil {
			t.Fatalf("%d records are lost, such as %v; %v", len(left), left, err)
		}
		for _, r := range rs {
			if r.Offset < 40 {
				t.Fatalf("%d of partition %d was committed before the end and comes again", r.Offset, r.Partition)
			}
			delete(left, string(r.Value))
		}
	}
}
