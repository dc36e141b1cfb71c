package memory

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/ports/bus"
)

// member is guarded by its broker's lock.
type member struct {
	b      *Bus
	g      *group
	topics []string
	ended  chan struct{}
	lost   bool
	next   map[place]int64 // of the partitions that are its own: what Fetch answers next
	given  map[place]int64 // the place behind the last one that Fetch ever answered
	turn   int             // which of its partitions is asked first
}

// Fetch answers records of the member's partitions, each of them first in its turn.
func (m *member) Fetch(ctx context.Context, limit int, wait time.Duration) ([]bus.Record, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	k, late := m.b.k, false
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		switch {
		case closed(m.ended):
			return nil, bus.ErrClosed
		case ctx.Err() != nil:
			return nil, away(ctx.Err())
		case m.lost || m.isLost():
			m.lost = true
			return nil, bus.ErrLost
		}
		if rs := m.take(limit); len(rs) > 0 || late || limit <= 0 {
			return rs, nil
		}
		late = k.wait(ctx, m.ended, over.C)
	}
}

// isLost reports whether going on would pass records over.
func (m *member) isLost() bool {
	for _, name := range m.topics {
		t, e := m.b.k.topics[name], m.g.expects[name]
		if t == nil || t.id != e.id || len(t.parts) < e.parts {
			return true
		}
	}
	for at, next := range m.next {
		if p := m.b.k.part(at); next < p.first || next > p.end() {
			return true
		}
	}
	return false
}

func (m *member) take(limit int) (rs []bus.Record) {
	mine := make([]place, 0, len(m.next))
	for at := range m.next {
		mine = append(mine, at)
	}
	slices.SortFunc(mine, func(a, b place) int {
		if a.topic != b.topic {
			return strings.Compare(a.topic, b.topic)
		}
		return a.part - b.part
	})
	m.turn++
	for i := range mine {
		at := mine[(i+m.turn)%len(mine)]
		p := m.b.k.part(at)
		for m.next[at] < p.end() && len(rs) < limit {
			rs = append(rs, own(p.records[m.next[at]-p.first]))
			m.next[at]++
		}
		m.given[at] = max(m.given[at], m.next[at])
	}
	return rs
}

// Commit keeps the marks of partitions that are the member's own.
func (m *member) Commit(ctx context.Context, marks []bus.Mark) error {
	m.b.k.mu.Lock()
	defer m.b.k.mu.Unlock()
	switch {
	case closed(m.ended):
		return bus.ErrClosed
	case ctx.Err() != nil:
		return away(ctx.Err())
	}
	for _, mark := range marks {
		if mark.Next > m.given[place{mark.Topic, mark.Partition}] {
			return bus.ErrMark
		}
	}
	if m.lost || m.isLost() { // the marks are of a topic that is gone
		return bus.ErrLost
	}
	for _, mark := range marks {
		at := place{mark.Topic, mark.Partition}
		if _, own := m.next[at]; own && mark.Next > m.g.marks[at] {
			m.g.marks[at] = mark.Next
			m.next[at] = max(m.next[at], mark.Next) // it had lost the partition in between, and has done this already
		}
	}
	m.b.k.wake()
	return nil
}

// Close leaves the group.
func (m *member) Close() error {
	m.b.k.mu.Lock()
	defer m.b.k.mu.Unlock()
	m.leave()
	return nil
}

func (m *member) leave() {
	if closed(m.ended) {
		return
	}
	close(m.ended)
	is := func(other *member) bool { return other == m }
	m.g.members = slices.DeleteFunc(m.g.members, is)
	m.b.members = slices.DeleteFunc(m.b.members, is)
	m.b.k.share(m.g)
	m.b.k.wake()
}
