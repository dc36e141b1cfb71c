package kafkabus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ringfence/ringfence/ports/bus"
)

// seen is the last look at a member's topics, shared by all who want one that began after they asked.
type seen struct {
	turn    sync.Mutex
	began   time.Time
	grown   bool
	missing time.Time // since when a topic is missing; a broker that starts may not know it yet
	err     error
}

// missingFor is how long a topic must be missing to be gone.
const missingFor = time.Second

// verify compares the topics as they are now with what is expected: nil, ErrLost, or why nobody can tell.
func (m *member) verify(ctx context.Context) error {
	asked := time.Now()
	v := &m.seen
	v.turn.Lock()
	defer v.turn.Unlock()
	if v.began.After(asked) {
		return v.err
	}
	v.began = time.Now()
	topics, err := m.b.describe(ctx, m.topics)
	if v.err = err; err != nil {
		return err
	}
	missing := false
	v.grown = false
	for _, name := range m.topics {
		d, want := topics[name], m.want[name]
		err := d.err()
		switch {
		case errors.Is(err, bus.ErrTopic):
			missing = true
			v.err = err
		case err != nil:
			v.err = err
		case !want.holds(d):
			v.err = bus.ErrLost
			return v.err
		}
		v.grown = v.grown || d.partitions > want.Partitions
	}
	switch {
	case !missing:
		v.missing = time.Time{}
	case v.missing.IsZero():
		v.missing = time.Now()
	case time.Since(v.missing) > missingFor:
		v.err = bus.ErrLost
	}
	return v.err
}

// hasGrown reports whether a topic has partitions that were not dealt out. It asks only who has seen more than expected.
func (m *member) hasGrown() bool {
	m.seen.turn.Lock()
	defer m.seen.turn.Unlock()
	return m.seen.grown && m.undealt()
}

// undealt reports whether there is a partition that the group's last deal cannot have known, and takes it for known then.
func (m *member) undealt() bool {
	ctx, cancel := context.WithTimeout(m.context, wait)
	defer cancel()
	topics, err := m.b.describe(ctx, m.topics)
	grown := false
	for name, d := range topics {
		if want := m.want[name]; err == nil && d.partitions > want.Partitions && d.id == want.ID {
			m.want[name] = expectation{want.ID, d.partitions}
			grown = true
		}
	}
	return grown
}

// ahead reads a partition ahead of Fetch for as long as the generation lasts.
func (m *member) ahead(g *generation, at place, s *share) {
	defer g.work.Done()
	for n := 0; g.context.Err() == nil; {
		m.mu.Lock()
		full := len(s.ready) >= maxReady/2 || s.bytes >= maxAhead/2
		from := s.read
		m.mu.Unlock()
		if full {
			select {
			case <-s.room:
			case <-g.context.Done():
			}
			continue
		}
		err := m.more(g, at, s, from)
		switch {
		case errors.Is(err, bus.ErrLost):
			m.lose()
			return
		case err != nil:
			m.b.pause(g.context, n)
			n = min(n+1, 5)
		default:
			n = 0
		}
	}
}

// more reads once. What it answers is only what stands where it should: without a hole, in a topic that is what it was.
func (m *member) more(g *generation, at place, s *share, from int64) error {
	ctx, cancel := context.WithTimeout(g.context, wait)
	defer cancel()
	f, err := m.b.fetch(ctx, at, from, maxReady, maxAhead)
	if errors.Is(err, kafka.OffsetOutOfRange) {
		return m.outside(ctx, at, s, from)
	}
	if err != nil {
		return err
	}
	if len(f.records) > 0 || f.next > from {
		if f.first > from { // the oldest kept passed us; what came may begin behind a hole
			return bus.ErrLost
		}
		if err := m.verify(ctx); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.behind, s.end, s.looked = 0, max(s.end, f.end), time.Now()
	if f.next == from {
		return nil
	}
	s.read, s.moved = f.next, time.Now()
	s.ready = append(s.ready, f.records...)
	for _, r := range f.records {
		s.bytes += r.Size() + recordOverhead
	}
	m.wake()
	return nil
}

// outside: a place is not in the partition. Below the oldest is a loss; beyond the end may pass, as a broker that has just
// started tells an end that is too low.
func (m *member) outside(ctx context.Context, at place, s *share, from int64) error {
	first, end, err := m.b.ends(ctx, []place{at})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if from < first[at] {
		return bus.ErrLost
	}
	if from > end[at] {
		if s.behind++; s.behind > 10 {
			return bus.ErrLost
		}
	}
	return kafka.OffsetOutOfRange
}
