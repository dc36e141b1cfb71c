package kafkabus

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ringfence/ringfence/ports/bus"
)

// member is one reader of a group: its goroutine (group.go) joins, reads ahead and notices what is lost; Fetch hands out what
// was read ahead.
type member struct {
	b      *Bus
	group  string
	topics []string
	want   map[string]expectation

	context context.Context
	cancel  context.CancelFunc
	ended   chan struct{} // the goroutine has left the group
	turn    chan struct{} // holds one token: commits follow one another
	losing  chan struct{} // closed when something is lost

	mu      sync.Mutex
	changed chan struct{} // closed, and another one, when Fetch may have something to say
	lost    bool
	trouble error           // of the last try to join
	gen     *generation     // nil: none yet, or lost
	given   map[place]int64 // the place behind the last record that Fetch ever answered
	first   int             // which partition is asked first
	seen    seen
}

// generation is a time in which nothing changes hands.
type generation struct {
	id       int
	memberID string
	alive    time.Time // when the coordinator last said that it goes on
	paused   bool      // it is over; what is read ahead may be another's by now
	shares   map[place]*share
	context  context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// share is a partition that is ours.
type share struct {
	ready  []bus.Record
	bytes  int
	next   int64         // what Fetch answers next
	read   int64         // what is read next
	mark   int64         // that is kept; 0: none
	end    int64         // as of the last look
	moved  time.Time     // when there was last something new, or nothing to be had
	looked time.Time     // when a broker last answered
	room   chan struct{} // told when something was taken from ready
	behind int           // looks in a row that found the place behind the end of the partition
}

// Join adds a member to a group.
func (b *Bus) Join(ctx context.Context, group string, topics ...string) (bus.Member, error) {
	switch {
	case b.ended():
		return nil, bus.ErrClosed
	case ctx.Err() != nil:
		return nil, away(ctx.Err())
	case !bus.Named(group), len(topics) == 0, slices.ContainsFunc(topics, func(t string) bool { return !bus.Named(t) }):
		return nil, bus.ErrName
	}
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	all, seen, err := b.places(ctx, topics...)
	if err != nil {
		return nil, err
	}
	want, err := b.expectedOf(ctx, topics, seen)
	if err != nil {
		return nil, err
	}
	m := &member{
		b: b, group: group, topics: topics, want: want, ended: make(chan struct{}), turn: make(chan struct{}, 1), losing: make(chan struct{}), changed: make(chan struct{}),
		given: map[place]int64{},
	}
	m.turn <- struct{}{}
	m.context, m.cancel = context.WithCancel(b.context)
	if b.missed(ctx, group, all, seen, want) {
		m.lose()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		m.cancel()
		return nil, bus.ErrClosed
	}
	b.members = append(b.members, m)
	b.work.Add(1)
	go m.run()
	return m, nil
}

// missed reports whether a group has lost something already, so that who joins it says so at once and changes nothing in it. What
// cannot be asked is asked again by who enters it.
func (b *Bus) missed(ctx context.Context, group string, all []place, seen map[string]described, want map[string]expectation) bool {
	for name, e := range want {
		if !e.holds(seen[name]) {
			return true
		}
	}
	marks, err := b.committed(ctx, group, all)
	if err != nil {
		return false
	}
	first, end, err := b.ends(ctx, all)
	return err == nil && slices.ContainsFunc(all, func(at place) bool { return marks[at] >= 0 && (marks[at] < first[at] || marks[at] > end[at]) })
}

// wake is called with the lock held.
func (m *member) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Fetch hands out what was read ahead, each partition in its turn.
func (m *member) Fetch(ctx context.Context, limit int, wait time.Duration) ([]bus.Record, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	for late := false; ; {
		m.mu.Lock()
		changed := m.changed
		switch {
		case m.context.Err() != nil:
			m.mu.Unlock()
			return nil, bus.ErrClosed
		case ctx.Err() != nil:
			m.mu.Unlock()
			return nil, away(ctx.Err())
		case m.lost:
			m.mu.Unlock()
			return nil, bus.ErrLost
		}
		rs := m.take(limit)
		trouble := m.trouble
		m.mu.Unlock()
		switch {
		case len(rs) > 0:
			m.b.counts.fetched.Add(int64(len(rs)))
			return rs, nil
		case late || limit <= 0:
			return nil, trouble // nil while all is well and there is nothing
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-m.context.Done():
		case <-over.C:
			late = true
		}
	}
}

func (m *member) take(limit int) (rs []bus.Record) {
	g := m.gen
	if g == nil || g.paused || time.Since(g.alive) > m.b.o.Session { // who was frozen asks before it goes on
		return nil
	}
	mine := slices.SortedFunc(maps.Keys(g.shares), func(a, b place) int {
		if a.topic != b.topic {
			return strings.Compare(a.topic, b.topic)
		}
		return a.part - b.part
	})
	m.first++
	for i := range mine {
		at := mine[(i+m.first)%len(mine)]
		s := g.shares[at]
		n := min(limit-len(rs), len(s.ready))
		if n <= 0 {
			continue
		}
		for _, r := range s.ready[:n] {
			s.bytes -= r.Size() + recordOverhead
		}
		rs = append(rs, s.ready[:n]...)
		clear(s.ready[:n])
		s.ready = s.ready[n:]
		s.next = rs[len(rs)-1].Offset + 1
		m.given[at] = max(m.given[at], s.next)
		select {
		case s.room <- struct{}{}:
		default:
		}
	}
	return rs
}

// Commit keeps marks, those of one call after those of another.
func (m *member) Commit(ctx context.Context, marks []bus.Mark) error {
	select {
	case <-m.turn:
		defer func() { m.turn <- struct{}{} }()
	case <-ctx.Done():
		return away(ctx.Err())
	case <-m.context.Done():
		return bus.ErrClosed
	}
	g, due, err := m.due(ctx, marks)
	if err != nil || len(due) == 0 {
		return err
	}
	ask := map[string][]kafka.OffsetCommit{}
	for at, next := range due {
		ask[at.topic] = append(ask[at.topic], kafka.OffsetCommit{Partition: at.part, Offset: next})
	}
	short, cancel := context.WithTimeout(ctx, commits)
	defer cancel()
	answer, err := m.b.kafka().OffsetCommit(short, &kafka.OffsetCommitRequest{GroupID: m.group, GenerationID: g.id, MemberID: g.memberID, Topics: ask})
	kept := 0
	m.mu.Lock()
	if err == nil {
		for topic, ps := range answer.Topics {
			for _, p := range ps {
				at := place{topic, p.Partition}
				if p.Error != nil {
					err = p.Error
				} else if s := g.shares[at]; s != nil {
					s.mark = max(s.mark, due[at])
					kept++
				}
			}
		}
		if kept < len(due) && err == nil {
			err = kafka.UnknownTopicOrPartition
		}
	}
	m.mu.Unlock()
	m.b.counts.committed.Add(int64(kept))
	if err != nil {
		m.b.counts.uncommitted.Add(1)
		if isDenied(err) {
			return errDenied
		}
		return away(err) // a group that settles, or a coordinator that moves
	}
	return nil
}

// due are the marks that change something.
func (m *member) due(ctx context.Context, marks []bus.Mark) (*generation, map[place]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.context.Err() != nil:
		return nil, nil, bus.ErrClosed
	case ctx.Err() != nil:
		return nil, nil, away(ctx.Err())
	case m.lost:
		return nil, nil, bus.ErrLost
	}
	due := map[place]int64{}
	for _, mark := range marks {
		at := place{mark.Topic, mark.Partition}
		if mark.Next > m.given[at] {
			return nil, nil, bus.ErrMark
		}
		if mark.Next > 0 {
			due[at] = max(due[at], mark.Next)
		}
	}
	if m.gen == nil {
		if len(due) == 0 {
			return nil, nil, nil
		}
		return nil, nil, away(errors.New("no generation"))
	}
	for at, next := range due {
		if s := m.gen.shares[at]; s == nil || next <= s.mark {
			delete(due, at)
		}
	}
	return m.gen, due, nil
}

// Close leaves the group.
func (m *member) Close() error {
	m.cancel()
	<-m.ended
	b := m.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members = slices.DeleteFunc(b.members, func(other *member) bool { return other == m })
	return nil
}
