package memory

import (
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/bus"
)

// errThere is of an operator's mistake.
var errThere = fault.New(fault.Conflict, "topic_exists", "There is a topic of this name. Choose another, or delete it first.")

const (
	defaultRoom = 64 << 20
	overhead    = 128 // of a record in bytes, beside what it holds
	maxParts    = 1 << 10
)

// Broker keeps records within a process, which Buses put in and read. What all groups that ever joined have read makes room
// when room is needed; what one of them has yet to read is never let go, and Publish waits. Of a topic without a group the
// oldest records make room.
type Broker struct {
	now func() time.Time

	mu      sync.Mutex
	room    int
	used    int
	ids     int
	topics  map[string]*topic
	groups  map[string]*group
	changed chan struct{} // closed, and another one, whenever somebody who waits may have what they wait for
}

// BrokerOptions of a broker.
type BrokerOptions struct {
	Now  func() time.Time
	Room int // in bytes, for all records; 64 MiB if zero
}

type topic struct {
	id    int
	parts []*partition
}

type partition struct {
	first   int64
	records []bus.Record
}

func (p *partition) end() int64 { return p.first + int64(len(p.records)) }

// place is one partition of a topic.
type place struct {
	topic string
	part  int
}

// group is all that is known of a group's readers.
type group struct {
	marks   map[place]int64
	expects map[string]*expected
	members []*member
}

// expected is what a topic was when the group first read it, or when what was lost of it was accepted.
type expected struct{ id, parts int }

// NewBroker returns one without topics.
func NewBroker(o BrokerOptions) *Broker {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Room <= 0 {
		o.Room = defaultRoom
	}
	return &Broker{now: o.Now, room: o.Room, topics: map[string]*topic{}, groups: map[string]*group{}, changed: make(chan struct{})}
}

// wake is called with the lock held.
func (k *Broker) wake() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// Create makes a topic.
func (k *Broker) Create(name string, partitions int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !bus.Named(name) || partitions < 1 || partitions > maxParts {
		return bus.ErrName
	}
	if k.topics[name] != nil {
		return errThere
	}
	k.ids++
	k.topics[name] = &topic{id: k.ids}
	k.grow(name, partitions)
	return nil
}

// Grow adds partitions to a topic. It never takes any away.
func (k *Broker) Grow(name string, partitions int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.topics[name] == nil {
		return bus.ErrTopic
	}
	k.grow(name, min(partitions, maxParts))
	return nil
}

func (k *Broker) grow(name string, partitions int) {
	t := k.topics[name]
	for len(t.parts) < partitions {
		t.parts = append(t.parts, &partition{})
	}
	for _, g := range k.groups {
		if e := g.expects[name]; e != nil && e.id == t.id {
			e.parts = len(t.parts)
		}
		k.share(g)
	}
	k.wake()
}

// Delete takes a topic away with all its records, read or not.
func (k *Broker) Delete(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.topics[name]
	if t == nil {
		return bus.ErrTopic
	}
	for _, p := range t.parts {
		k.cut(p, p.end())
	}
	delete(k.topics, name)
	k.wake()
	return nil
}

// Trim lets go of what stands below a place in a partition, read or not.
func (k *Broker) Trim(name string, part int, below int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.part(place{name, part})
	if p == nil {
		return bus.ErrTopic
	}
	k.cut(p, min(below, p.end()))
	k.wake()
	return nil
}

// Accept says that what was lost of a topic is known: its groups go on with what is kept.
func (k *Broker) Accept(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.topics[name]
	if t == nil {
		return bus.ErrTopic
	}
	for _, g := range k.groups {
		e := g.expects[name]
		if e == nil {
			continue
		}
		anew := e.id != t.id
		*e = expected{t.id, len(t.parts)}
		for at, mark := range g.marks {
			if p := k.part(at); at.topic == name && (anew || p == nil || mark < p.first || mark > p.end()) {
				delete(g.marks, at)
			}
		}
		k.share(g)
	}
	k.wake()
	return nil
}

// Forget takes a group away that nobody will read for again, so that it holds no records.
func (k *Broker) Forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if g := k.groups[name]; g != nil && len(g.members) == 0 {
		delete(k.groups, name)
		k.wake()
	}
}

func (k *Broker) part(at place) *partition {
	if t := k.topics[at.topic]; t != nil && at.part >= 0 && at.part < len(t.parts) {
		return t.parts[at.part]
	}
	return nil
}

// cut lets go of the records of a partition below a place.
func (k *Broker) cut(p *partition, below int64) {
	n := max(int(below-p.first), 0)
	for _, r := range p.records[:n] {
		k.used -= r.Size() + overhead
	}
	p.records = slices.Clone(p.records[n:])
	p.first += int64(n)
}

// fits makes room for so many bytes, if it can.
func (k *Broker) fits(size int) bool {
	if k.used+size <= k.room {
		return true
	}
	var unread []*partition
	for name, t := range k.topics {
		for i, p := range t.parts {
			read, groups := p.end(), 0
			for _, g := range k.groups {
				if e := g.expects[name]; e != nil && e.id == t.id {
					groups++
					read = min(read, g.marks[place{name, i}]) // none: 0
				}
			}
			if groups == 0 {
				unread = append(unread, p)
			} else if read > p.first {
				k.cut(p, read)
			}
		}
	}
	for _, p := range unread {
		if over := k.used + size - k.room; over > 0 {
			n, freed := 0, 0
			for freed < over && n < len(p.records) {
				freed += p.records[n].Size() + overhead
				n++
			}
			k.cut(p, p.first+int64(n))
		}
	}
	return k.used+size <= k.room
}

// share deals the partitions out anew, each to the member that has it if that is its turn.
func (k *Broker) share(g *group) {
	owners := map[place]*member{}
	for _, name := range g.topics() {
		var readers []*member
		for _, m := range g.members {
			if slices.Contains(m.topics, name) {
				readers = append(readers, m)
			}
		}
		if t := k.topics[name]; t != nil {
			for i := range t.parts {
				if len(readers) > 0 {
					owners[place{name, i}] = readers[i%len(readers)]
				}
			}
		}
	}
	for _, m := range g.members {
		for at := range m.next {
			if owners[at] != m {
				delete(m.next, at)
			}
		}
	}
	for at, m := range owners {
		if _, kept := m.next[at]; !kept {
			next, marked := g.marks[at]
			if !marked {
				next = k.part(at).first
			}
			m.next[at] = next
		}
	}
}

// topics are those that the group's members read.
func (g *group) topics() (all []string) {
	for _, m := range g.members {
		all = append(all, m.topics...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Bus fills ports/bus with a broker of the same process.
type Bus struct {
	k       *Broker
	ended   chan struct{}
	members []*member // guarded by the broker's lock, as is closing ended
}

var _ bus.Bus = (*Bus)(nil)

// Bus returns another bus to the same records, which is closed by itself.
func (k *Broker) Bus() *Bus { return &Bus{k: k, ended: make(chan struct{})} }

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Close ends the bus and its members.
func (b *Bus) Close() error {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	if !closed(b.ended) {
		close(b.ended)
		for _, m := range slices.Clone(b.members) {
			m.leave()
		}
	}
	return nil
}

// Publish appends records.
func (b *Bus) Publish(ctx context.Context, rs []bus.Record) []error {
	errs := make([]error, len(rs))
	failed := map[[2]string]error{} // by topic and key: those behind a record that failed must not be there before it
	for i, r := range rs {
		if errs[i] = r.Check(); errs[i] != nil {
			continue
		}
		key := [2]string{r.Topic, r.Key}
		if errs[i] = failed[key]; errs[i] != nil {
			continue
		}
		if errs[i] = b.append(ctx, r); errs[i] != nil {
			failed[key] = errs[i]
		}
	}
	return errs
}

func (b *Bus) append(ctx context.Context, r bus.Record) error {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	size := r.Size() + overhead
	for {
		t := b.k.topics[r.Topic]
		switch {
		case closed(b.ended):
			return bus.ErrClosed
		case ctx.Err() != nil:
			return away(ctx.Err())
		case t == nil:
			return bus.ErrTopic
		case b.k.fits(size):
			h := fnv.New32a()
			_, _ = h.Write([]byte(r.Key))
			r = own(r)
			r.Partition = int(h.Sum32() % uint32(len(t.parts)))
			p := t.parts[r.Partition]
			r.Offset, r.Time = p.end(), b.k.now()
			p.records = append(p.records, r)
			b.k.used += size
			b.k.wake()
			return nil
		}
		b.k.wait(ctx, b.ended, nil)
	}
}

// wait gives the lock away until something has changed, the context or the bus has ended, or the time is over, which it tells.
func (k *Broker) wait(ctx context.Context, ended <-chan struct{}, over <-chan time.Time) bool {
	changed := k.changed
	k.mu.Unlock()
	defer k.mu.Lock()
	select {
	case <-changed:
	case <-ctx.Done():
	case <-ended:
	case <-over:
		return true
	}
	return false
}

func away(cause error) error {
	return fault.Wrap(cause, bus.ErrAway.Kind, bus.ErrAway.Code, "%s", bus.ErrAway.Message)
}

// own is a record that shares no bytes with another.
func own(r bus.Record) bus.Record {
	r.Value = append([]byte{}, r.Value...)
	r.Headers = slices.Clone(r.Headers)
	for i, h := range r.Headers {
		r.Headers[i].Value = append([]byte{}, h.Value...)
	}
	return r
}

// asked is what Browse, Join and Lags answer before they look.
func (b *Bus) asked(ctx context.Context, group string, topics ...string) error {
	switch {
	case closed(b.ended):
		return bus.ErrClosed
	case ctx.Err() != nil:
		return away(ctx.Err())
	case !bus.Named(group), len(topics) == 0, slices.ContainsFunc(topics, func(t string) bool { return !bus.Named(t) }):
		return bus.ErrName
	case slices.ContainsFunc(topics, func(t string) bool { return b.k.topics[t] == nil }):
		return bus.ErrTopic
	}
	return nil
}

// Browse reads without a group.
func (b *Bus) Browse(ctx context.Context, name string, part int, from int64, limit int) ([]bus.Record, error) {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	if err := b.asked(ctx, "browse", name); err != nil {
		return nil, err
	}
	p := b.k.part(place{name, part})
	if p == nil {
		return nil, bus.ErrTopic
	}
	var rs []bus.Record
	for i := max(from-p.first, 0); i < int64(len(p.records)) && len(rs) < limit; i++ {
		rs = append(rs, own(p.records[i]))
	}
	return rs, nil
}

// Lags says how far a group has come.
func (b *Bus) Lags(ctx context.Context, group string, topics ...string) ([]bus.Lag, error) {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	if err := b.asked(ctx, group, topics...); err != nil {
		return nil, err
	}
	var lags []bus.Lag
	for _, name := range topics {
		for i, p := range b.k.topics[name].parts {
			l := bus.Lag{Topic: name, Partition: i, Committed: -1, First: p.first, End: p.end()}
			if g := b.k.groups[group]; g != nil {
				if mark, ok := g.marks[place{name, i}]; ok {
					l.Committed = mark
				}
			}
			if at := max(l.Committed-p.first, 0); at < int64(len(p.records)) {
				l.Oldest = p.records[at].Time
			}
			lags = append(lags, l)
		}
	}
	return lags, nil
}

// Join adds a member to a group.
func (b *Bus) Join(ctx context.Context, name string, topics ...string) (bus.Member, error) {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	if err := b.asked(ctx, name, topics...); err != nil {
		return nil, err
	}
	g := b.k.groups[name]
	if g == nil {
		g = &group{marks: map[place]int64{}, expects: map[string]*expected{}}
		b.k.groups[name] = g
	}
	for _, name := range topics {
		if t := b.k.topics[name]; g.expects[name] == nil {
			g.expects[name] = &expected{t.id, len(t.parts)}
		}
	}
	m := &member{b: b, g: g, topics: slices.Clone(topics), ended: make(chan struct{}), next: map[place]int64{}, given: map[place]int64{}}
	g.members = append(g.members, m)
	b.members = append(b.members, m)
	b.k.share(g)
	b.k.wake()
	return m, nil
}
