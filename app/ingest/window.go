package ingest

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/trace"
)

// Sizes of a window: what one process has read of the bus and not finished.
const (
	windowRecords = 20_000
	windowBytes   = 32 << 20
	quantum       = 10 // events of one tenant in turn
	fullBatch     = 1_000
	fairBatch     = 100 // while one tenant has more queued than all others
	gather        = 5 * time.Millisecond
	crowded       = 250 * time.Millisecond // full for so long, or nearly: who takes up too much of it waits in the store
)

// place is where a record stands.
type place struct {
	topic     string
	partition int
	offset    int64
}

// pending is one event that was read and is not finished.
type pending struct {
	place
	event uplink.Event
	at    trace.Place // where it stands in its trace
	size  int
	put   bool // is to wait in the store: its tenant takes up too much of the window, or it was stale too often
	stale int  // so often was it decided from what was otherwise when it was written
}

// queue is one tenant's pending events, oldest first.
type queue struct {
	tenant ident.Tenant
	events []*pending
	ringed bool
	apart  bool // is in no ring: whoever takes from it takes from no other
	held   int  // events of it in the window, queued or being worked on
	bytes  int  // of them
}

// track knows what of a partition is not finished.
type track struct {
	open  offsets
	count map[int64]int // an offset that was read again after a rebalance is open twice
	next  int64         // behind the last one read
}

type offsets []int64

func (o offsets) Len() int           { return len(o) }
func (o offsets) Less(i, j int) bool { return o[i] < o[j] }
func (o offsets) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }
func (o *offsets) Push(v any)        { *o = append(*o, v.(int64)) } //nolint:forcetypeassert // offsets alone
func (o *offsets) Pop() any {
	v := (*o)[len(*o)-1]
	*o = (*o)[:len(*o)-1]
	return v
}

func (t *track) add(offset int64) {
	heap.Push(&t.open, offset)
	t.count[offset]++
	t.next = max(t.next, offset+1)
}

// finish answers the offset below which everything is finished.
func (t *track) finish(offset int64) int64 {
	if t.count[offset]--; t.count[offset] <= 0 {
		delete(t.count, offset)
	}
	for len(t.open) > 0 && t.count[t.open[0]] == 0 {
		heap.Pop(&t.open)
	}
	// An offset that is open twice stands in the heap twice: one of them is passed over when the other is.
	if len(t.open) > 0 {
		return t.open[0]
	}
	return t.next
}

// window holds what was read and is not finished, in a queue for each tenant, and hands it out fairly: tenants in turn, a
// quantum each, so that one that sends much or decodes slowly takes no more than its turns. It is bounded; who fills it waits.
type window struct {
	maxRecords, maxBytes int
	now                  func() time.Time

	mu     sync.Mutex
	queues map[ident.Tenant]*queue
	ring   []*queue   // with something queued, in turn
	puts   []*pending // that are to wait in the store
	queued int        // in the ring's queues and among these
	held   int
	bytes  int
	tracks map[string]map[int]*track
	full   time.Time // since when; zero: it has room
	tight  time.Time // since when it is nearly full; zero: it is not
	room   chan struct{}
	work   chan struct{}
}

func newWindow(records, bytes int, now func() time.Time) *window {
	return &window{
		now: now, maxRecords: records, maxBytes: bytes, queues: map[ident.Tenant]*queue{}, tracks: map[string]map[int]*track{}, room: make(chan struct{}), work: make(chan struct{}, 1),
	}
}

// begin notes that a record was read; finish that nothing is to be done about it any more.
func (w *window) begin(at place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	parts := w.tracks[at.topic]
	if parts == nil {
		parts = map[int]*track{}
		w.tracks[at.topic] = parts
	}
	t := parts[at.partition]
	if t == nil {
		t = &track{count: map[int64]int{}}
		parts[at.partition] = t
	}
	t.add(at.offset)
}

// done finishes records that were never queued and answers the marks that follow.
func (w *window) done(places ...place) []bus.Mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.finished(places)
}

func (w *window) finished(places []place) []bus.Mark {
	marks := make([]bus.Mark, 0, 4)
next:
	for _, at := range places {
		low := w.tracks[at.topic][at.partition].finish(at.offset)
		for i := range marks {
			if m := &marks[i]; m.Topic == at.topic && m.Partition == at.partition {
				m.Next = low
				continue next
			}
		}
		marks = append(marks, bus.Mark{Topic: at.topic, Partition: at.partition, Next: low})
	}
	return marks
}

// put queues an event, once there is room.
func (w *window) put(ctx context.Context, p *pending) error {
	for {
		w.mu.Lock()
		if w.held == 0 || w.held < w.maxRecords && w.bytes+p.size <= w.maxBytes {
			break
		}
		room := w.room
		if w.full.IsZero() {
			w.full = w.now()
		} else if w.now().Sub(w.full) > crowded {
			w.crowd(p.event.Tenant, false)
		}
		w.mu.Unlock()
		timer := time.NewTimer(crowded)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-room:
		case <-timer.C:
		}
		timer.Stop()
	}
	defer w.mu.Unlock()
	w.full = time.Time{}
	q := w.queues[p.event.Tenant]
	if q == nil {
		q = &queue{tenant: p.event.Tenant}
		w.queues[q.tenant] = q
	}
	q.events = append(q.events, p)
	q.held++
	q.bytes += p.size
	w.held++
	w.bytes += p.size
	w.waits(q, 1)
	if w.held < w.maxRecords/20*19 && w.bytes < w.maxBytes/20*19 {
		w.tight = time.Time{}
	} else if now := w.now(); w.tight.IsZero() {
		w.tight = now
	} else if now.Sub(w.tight) > crowded {
		w.tight = now
		w.crowd(q.tenant, true)
	}
	return nil
}

// waits notes that so many more events are queued.
func (w *window) waits(q *queue, n int) {
	if q.apart {
		return
	}
	w.queued += n
	if !q.ringed {
		q.ringed = true
		w.ring = append(w.ring, q)
	}
	w.wake()
}

func (w *window) wake() {
	select {
	case w.work <- struct{}{}:
	default:
	}
}

// crowd lets tenants that hold over a quarter of a window that stays full, in events or in bytes, wait in the store, their newest
// events first, if there is anybody else here, or for whom there is no room: those that come behind must not wait for what one
// tenant's decoders take. In one that stays nearly full, but moves, these are who decodes slowly: others are written as they are.
func (w *window) crowd(comes ident.Tenant, slow bool) {
	if len(w.puts) > 0 || len(w.queues) < 2 && w.queues[comes] != nil { // those that wait already are not written yet, or it is alone
		return
	}
	for _, q := range w.queues {
		if slow && !q.apart {
			continue
		}
		held, bytes, k := q.held, q.bytes, len(q.events)
		for ; k > 0 && (held > w.maxRecords/4 || bytes > w.maxBytes/4); k-- {
			held--
			bytes -= q.events[k-1].size
		}
		if !q.apart {
			w.queued -= len(q.events) - k
		}
		w.toStore(q.events[k:])
		q.events = q.events[:k]
	}
}

// toStore has events wait in the store.
func (w *window) toStore(ps []*pending) {
	for _, p := range ps {
		p.put = true
	}
	w.puts = append(w.puts, ps...)
	w.queued += len(ps)
	w.wake()
}

// take hands out a batch: what waits, or what has come a moment after the first of it. What is to wait in the store is handed
// out first of all, being quick. When the context has ended it hands out nothing, whatever waits.
func (w *window) take(ctx context.Context) ([]*pending, error) {
	for ctx.Err() == nil {
		w.mu.Lock()
		n := w.queued
		w.mu.Unlock()
		if n > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.work:
		}
	}
	if w.few() {
		timer := time.NewTimer(gather)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.batch()
	if w.queued > 0 {
		w.wake() // there is work for another one
	}
	return batch, nil
}

func (w *window) few() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queued < fullBatch
}

// batch takes in turns.
func (w *window) batch() []*pending {
	most, longest := fullBatch, 0
	for _, q := range w.ring {
		longest = max(longest, len(q.events))
	}
	if len(w.ring) > 1 && longest > w.queued/2 && w.queued > fairBatch {
		most = fairBatch
	}
	n := min(len(w.puts), fullBatch)
	out := w.puts[:n:n]
	w.puts = w.puts[n:]
	most = min(most+n, fullBatch) // the store takes no more at once
	for len(out) < most && len(w.ring) > 0 {
		q := w.ring[0]
		w.ring = w.ring[1:]
		n := min(quantum, len(q.events), most-len(out))
		out = append(out, q.events[:n]...)
		q.events = q.events[n:]
		if q.ringed = len(q.events) > 0; q.ringed {
			w.ring = append(w.ring, q)
		}
	}
	w.queued -= len(out)
	return out
}

// finish lets go of events and answers the marks that follow.
func (w *window) finish(ps []*pending) []bus.Mark {
	places := make([]place, len(ps))
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, p := range ps {
		places[i] = p.place
		w.held--
		w.bytes -= p.size
		q := w.queues[p.event.Tenant]
		q.bytes -= p.size
		if q.held--; q.held == 0 && !q.apart { // whoever takes it apart comes for it still
			delete(w.queues, q.tenant)
		}
	}
	close(w.room)
	w.room = make(chan struct{})
	return w.finished(places)
}

// load is how much of the window is taken, from 0 to 1.
func (w *window) load() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(float64(w.held)/float64(w.maxRecords), float64(w.bytes)/float64(w.maxBytes))
}
