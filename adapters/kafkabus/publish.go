package kafkabus

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/bus"
)

// Each partition has a lane: records wait there in their order, one batch is on its way, and it is sent again until it is
// durable or nobody wants it any more. So nothing overtakes what failed. While a batch is on its way the next one gathers.

// entry is a record on its way.
type entry struct {
	record kafka.Record
	key    []byte
	value  []byte
	size   int
	call   *call
	at     int // in its call
}

// call is a part of one Publish.
type call struct {
	done chan struct{} // closed when nothing is left

	mu     sync.Mutex
	errs   []error
	left   int
	over   bool            // nobody waits for the answers any more
	failed map[place]error // why what stands behind it there must fail, too
}

// lane is guarded by its own lock.
type lane struct {
	at place

	mu      sync.Mutex
	waiting []entry
	running bool
}

const (
	recordOverhead = 64
	maxCall        = 4 << 20 // of a Publish at once: a larger one is several, one after another
)

// Publish appends records.
func (b *Bus) Publish(ctx context.Context, rs []bus.Record) []error {
	errs := make([]error, len(rs))
	failed := map[place]error{} // of earlier parts
	for from := 0; from < len(rs); {
		to, size := from, 0
		for to < len(rs) && (to == from || size+rs[to].Size()+recordOverhead <= maxCall) {
			if rs[to].Check() == nil { // else it is not sent
				size += rs[to].Size() + recordOverhead
			}
			to++
		}
		b.part(ctx, rs[from:to], errs[from:to], size, failed)
		from = to
	}
	for i := range errs {
		if errs[i] == nil {
			b.counts.published.Add(1)
		} else {
			b.counts.refused.Add(1)
		}
	}
	return errs
}

func (b *Bus) part(ctx context.Context, rs []bus.Record, errs []error, size int, failed map[place]error) {
	all := func(err error) {
		for i := range rs {
			if errs[i] = rs[i].Check(); errs[i] == nil {
				errs[i] = err
			}
		}
	}
	switch {
	case b.ended():
		all(bus.ErrClosed)
		return
	case ctx.Err() != nil:
		all(away(ctx.Err()))
		return
	}
	if !b.room.enter(ctx, b.context, size) {
		if b.ended() {
			all(bus.ErrClosed)
		} else {
			all(away(ctx.Err()))
		}
		return
	}
	c := &call{done: make(chan struct{}), errs: errs, failed: failed}
	lanes := map[place][]entry{}
	var order []place
	bytes := make([]byte, 0, size) // callers use theirs again
	own := func(s []byte) []byte {
		bytes = append(bytes, s...)
		return bytes[len(bytes)-len(s) : len(bytes) : len(bytes)]
	}
	released := 0
	for i, r := range rs {
		n := r.Size() + recordOverhead
		if errs[i] = r.Check(); errs[i] != nil {
			continue
		}
		whole := place{r.Topic, -1}
		at, err := whole, failed[whole]
		if err == nil {
			if at, err = b.placed(ctx, r); err != nil { // it may be there for the next of its records, which must not overtake
				failed[whole] = err
			} else {
				err = failed[at]
			}
		}
		if errs[i] = err; err != nil {
			released += n
			continue
		}
		e := entry{key: own([]byte(r.Key)), value: own(r.Value), size: n, call: c, at: i}
		for _, h := range r.Headers {
			e.record.Headers = append(e.record.Headers, kafka.Header{Key: h.Name, Value: own(h.Value)})
		}
		if lanes[at] == nil {
			order = append(order, at)
		}
		lanes[at] = append(lanes[at], e)
		c.left++
	}
	b.room.leave(released)
	if c.left == 0 {
		return
	}
	for _, at := range order {
		b.enqueue(at, lanes[at])
	}
	select {
	case <-c.done:
		return
	case <-ctx.Done():
	case <-b.context.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	select {
	case <-c.done: // meanwhile
		return
	default:
	}
	late := away(ctx.Err())
	if b.ended() {
		late = bus.ErrClosed
	}
	for _, at := range order {
		for _, e := range lanes[at] {
			if errors.Is(errs[e.at], errPending) {
				errs[e.at] = late
				failed[at] = late
			}
		}
	}
}

// errPending stands where there is no answer yet.
var errPending = errors.New("pending")

func (b *Bus) enqueue(at place, es []entry) {
	c := es[0].call
	c.mu.Lock()
	for _, e := range es {
		c.errs[e.at] = errPending
	}
	c.mu.Unlock()
	b.mu.Lock()
	l := b.lanes[at]
	if l == nil {
		l = &lane{at: at}
		b.lanes[at] = l
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, es...)
	start := !l.running && !b.closed
	if start {
		l.running = true
		b.work.Add(1) //nolint:govet // under the lock that Close takes before it waits
	}
	closed := b.closed
	l.mu.Unlock()
	b.mu.Unlock()
	if start {
		go b.drive(l)
	} else if closed {
		b.flush(l)
	}
}

// flush fails what waits on a bus that has ended.
func (b *Bus) flush(l *lane) {
	l.mu.Lock()
	es := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	for _, e := range es {
		b.settle(e, bus.ErrClosed)
	}
}

// settle answers for one record and gives its room back.
func (b *Bus) settle(e entry, err error) {
	c := e.call
	c.mu.Lock()
	if !c.over {
		c.errs[e.at] = err
	}
	c.left--
	last := c.left == 0
	c.mu.Unlock()
	b.room.leave(e.size)
	if last {
		close(c.done)
	}
}

// failedAt is why an entry must not be sent: its call is over, or one of its call that stood before it failed.
func (e entry) failedAt(at place) error {
	c := e.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return bus.ErrAway
	}
	return c.failed[at]
}

// fail settles an entry, and with it what stands behind it in its call on the lane.
func (b *Bus) fail(e entry, at place, err error) {
	e.call.mu.Lock()
	if !e.call.over && e.call.failed[at] == nil {
		e.call.failed[at] = err
	}
	e.call.mu.Unlock()
	b.settle(e, err)
}

// drive sends what waits on a lane until nothing does.
func (b *Bus) drive(l *lane) {
	defer b.work.Done()
	for {
		l.mu.Lock()
		var batch []entry
		size := 0
		for len(l.waiting) > 0 && len(batch) < maxBatch && (len(batch) == 0 || size+l.waiting[0].size <= maxBytes) {
			batch = append(batch, l.waiting[0])
			size += l.waiting[0].size
			l.waiting[0] = entry{}
			l.waiting = l.waiting[1:]
		}
		if len(batch) == 0 {
			l.waiting, l.running = nil, false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		b.send(l.at, batch)
	}
}

// send keeps at a batch until each of its records has an answer.
func (b *Bus) send(at place, batch []entry) {
	for n := 0; ; n++ {
		kept := batch[:0]
		for _, e := range batch {
			if err := e.failedAt(at); err != nil {
				b.settle(e, err)
			} else {
				kept = append(kept, e)
			}
		}
		if batch = kept; len(batch) == 0 {
			return
		}
		err := b.produce(at, batch)
		switch {
		case err == nil:
			for _, e := range batch {
				b.settle(e, nil)
			}
			return
		case errors.Is(err, kafka.MessageSizeTooLarge), errors.Is(err, kafka.RecordListTooLarge):
			if len(batch) == 1 { // its own fault: those behind it may go
				b.settle(batch[0], bus.ErrTooLarge)
				return
			}
			half := len(batch) / 2
			b.send(at, batch[:half:half])
			batch = batch[half:]
			continue
		case b.ended():
			for _, e := range batch {
				b.settle(e, bus.ErrClosed)
			}
			return
		case b.refused(err), isMissing(err) && b.isGone(at):
			for _, e := range batch {
				b.fail(e, at, told(err))
			}
			return
		}
		b.counts.retried.Add(1)
		b.pause(b.context, n)
	}
}

// refused reports whether trying again is for the caller to decide, since somebody must mend something.
func (b *Bus) refused(err error) bool {
	return isDenied(err) || errors.Is(err, kafka.SASLAuthenticationFailed) || errors.Is(err, kafka.UnsupportedSASLMechanism) || errors.Is(err, errPlain)
}

// isGone asks whether a partition is missing, or only not known yet to who was asked.
func (b *Bus) isGone(at place) bool {
	ctx, cancel := context.WithTimeout(b.context, wait)
	defer cancel()
	seen, err := b.describe(ctx, []string{at.topic})
	if err != nil || !errors.Is(seen[at.topic].err(), bus.ErrTopic) && seen[at.topic].partitions > at.part {
		return false
	}
	b.mu.Lock()
	delete(b.sizes, at.topic)
	b.mu.Unlock()
	return true
}

// produce sends a batch once.
func (b *Bus) produce(at place, batch []entry) error {
	records := make([]kafka.Record, len(batch))
	now := time.Now()
	for i, e := range batch {
		records[i] = kafka.Record{Time: now, Key: kafka.NewBytes(e.key), Value: kafka.NewBytes(e.value), Headers: e.record.Headers}
	}
	ctx, cancel := context.WithTimeout(b.context, wait)
	defer cancel()
	answer, err := b.kafka().Produce(ctx, &kafka.ProduceRequest{
		Topic: at.topic, Partition: at.part, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
	})
	switch {
	case err != nil:
		return err
	case answer.Error != nil:
		return answer.Error
	}
	for _, err := range answer.RecordErrors {
		return err
	}
	return nil
}

// pause waits a little longer each time; it reports false if there is nothing to wait for any more.
func (b *Bus) pause(ctx context.Context, n int) bool {
	timer := time.NewTimer(min(20*time.Millisecond<<min(n, 5), 500*time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-b.context.Done():
	}
	return false
}

// sized is how many partitions a topic has, as of a moment.
type sized struct {
	n  int
	at time.Time
}

// size is how many partitions a topic has. While nobody can be asked it is what it was.
func (b *Bus) size(ctx context.Context, topic string) (int, error) {
	b.mu.Lock()
	known := b.sizes[topic]
	if known.n > 0 && time.Since(known.at) < refresh {
		b.mu.Unlock()
		return known.n, nil
	}
	if known.n > 0 { // one asks, the others go on with what it was
		b.sizes[topic] = sized{known.n, time.Now()}
	}
	b.mu.Unlock()
	seen, err := b.describe(ctx, []string{topic})
	if err == nil {
		err = seen[topic].err()
	}
	if err != nil {
		if known.n > 0 && fault.Is(err, fault.Unavailable) && !errors.Is(err, bus.ErrTopic) && !errors.Is(err, bus.ErrClosed) {
			return known.n, nil
		}
		b.mu.Lock()
		delete(b.sizes, topic)
		b.mu.Unlock()
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.sizes) >= 1<<16 { // of tenants that are gone
		clear(b.sizes)
	}
	b.sizes[topic] = sized{seen[topic].partitions, time.Now()}
	return seen[topic].partitions, nil
}

// placed is where a record goes: by FNV-1a of its key, as kafka-go's Hash and Sarama do.
func (b *Bus) placed(ctx context.Context, r bus.Record) (place, error) {
	n, err := b.size(ctx, r.Topic)
	if err != nil {
		return place{r.Topic, 0}, err
	}
	return place{r.Topic, partitionOf(r.Key, n)}, nil
}

func partitionOf(key string, n int) int {
	h := uint32(2166136261)
	for i := range len(key) {
		h ^= uint32(key[i])
		h *= 16777619
	}
	p := int32(h) % int32(n)
	return int(max(p, -p))
}

// room is how many bytes may be on their way. Who came first enters first.
type room struct {
	mu    sync.Mutex
	size  int
	taken int
	queue []*guest
}

type guest struct {
	n  int
	in chan struct{}
}

func newRoom(size int) *room { return &room{size: max(size, maxCall+maxBytes)} }

func (r *room) used() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// enter waits until there is room.
func (r *room) enter(ctx, other context.Context, n int) bool {
	r.mu.Lock()
	g := &guest{n, make(chan struct{})}
	r.queue = append(r.queue, g)
	r.admit()
	r.mu.Unlock()
	select {
	case <-g.in:
		return true
	case <-ctx.Done():
	case <-other.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-g.in: // meanwhile
		r.taken -= n
	default:
		for i, q := range r.queue {
			if q == g {
				r.queue = append(r.queue[:i:i], r.queue[i+1:]...)
				break
			}
		}
	}
	r.admit()
	return false
}

func (r *room) leave(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken -= n
	r.admit()
}

func (r *room) admit() {
	for len(r.queue) > 0 && r.taken+r.queue[0].n <= r.size {
		r.taken += r.queue[0].n
		close(r.queue[0].in)
		r.queue = r.queue[1:]
	}
}

// drained reads a stream of records to its end, which nobody else does.
func drained(r kafka.RecordReader) {
	for {
		rec, err := r.ReadRecord()
		if err != nil {
			return
		}
		release(rec)
	}
}

func release(rec *kafka.Record) {
	for _, c := range []io.Closer{rec.Key, rec.Value} {
		if c != nil {
			_ = c.Close()
		}
	}
}
