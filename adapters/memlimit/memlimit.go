// Package memlimit fills ports/limit in the process's own memory, by GCRA: one moment a key is all there is to remember. It
// shares nothing with other processes.
package memlimit

import (
	"container/heap"
	"math"
	"sync"
	"time"

	"github.com/ringfence/ringfence/ports/limit"
)

// Limiter is the adapter. Use New.
//
// A key's state is the moment when its burst will be whole again. When the table is full, the key that is nearest to it is
// let go, which costs nothing if that moment has passed; otherwise every key that is not in the table is taken to be as far
// from it as the furthest that was let go. So nobody gains by being forgotten, however many keys they invent. The price
// falls on new keys, while more keys than the table holds are in debt at once: their bursts are smaller for that long.
type Limiter struct {
	now   func() time.Time
	start time.Time
	max   int

	mu        sync.Mutex
	byKey     map[string]*debt
	least     queue         // the one nearest to a whole burst first
	forgotten time.Duration // no key outside the table is whole later than this
	holders   map[string]int
}

// debt is what is kept of a key.
type debt struct {
	key   string
	whole time.Duration // since start
	place int           // in the queue
}

var _ limit.Limiter = (*Limiter)(nil)

// New returns a limiter that remembers at most keys keys: more than can be in debt at the same time. An idle key is in no
// debt, so that is the number of requests that can come in the time in which the slowest rate forgives its burst, at most.
func New(now func() time.Time, keys int) *Limiter {
	return &Limiter{now: now, start: now(), max: max(keys, 1), byKey: map[string]*debt{}, holders: map[string]int{}}
}

// never is told to who asks for what no waiting brings.
const never = time.Minute

// Take counts n things.
func (l *Limiter) Take(key string, n int, r limit.Rate) limit.Verdict {
	if r.Every <= 0 || r.Burst <= 0 || n < 0 || n > r.Burst {
		return limit.Verdict{Limit: max(r.Burst, 0), RetryAfter: never}
	}
	burst := min(int64(r.Burst), math.MaxInt64/4/int64(r.Every)) // no overflow below
	window := r.Every * time.Duration(burst)
	cost := r.Every * time.Duration(min(int64(n), burst))

	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now().Sub(l.start) // under the lock, so that it never goes back
	d := l.byKey[key]
	whole := l.forgotten
	if d != nil {
		whole = d.whole
	}
	whole = max(whole, now)
	v := limit.Verdict{Limit: r.Burst}
	if over := whole + cost - now - window; over > 0 {
		v.RetryAfter = over
	} else {
		v.OK = true
		whole += cost
		if whole > now { // without a debt there is nothing to remember
			l.keep(key, d, whole, now)
		}
	}
	v.Reset = whole - now
	v.Remaining = int(max(window-v.Reset, 0) / r.Every)
	return v
}

// keep notes a key's debt, for which another may have to be let go.
func (l *Limiter) keep(key string, d *debt, whole, now time.Duration) {
	if d != nil {
		d.whole = whole
		heap.Fix(&l.least, d.place)
		return
	}
	if len(l.least) >= l.max {
		old := l.least[0]
		if old.whole > now {
			l.forgotten = max(l.forgotten, old.whole)
		}
		delete(l.byKey, old.key)
		heap.Pop(&l.least)
	}
	d = &debt{key: key, whole: whole}
	l.byKey[key] = d
	heap.Push(&l.least, d)
}

// Enter counts callers. A key costs memory only while it is held.
func (l *Limiter) Enter(key string, maximum int) (func(), bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders[key] >= maximum {
		return nil, false
	}
	l.holders[key]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.holders[key]--; l.holders[key] == 0 {
			delete(l.holders, key)
		}
	}), true
}

// queue is a heap of debts, as container/heap wants it.
type queue []*debt

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].whole < q[j].whole }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *queue) Push(x any) {
	d := x.(*debt) //nolint:forcetypeassert // only keep pushes
	d.place = len(*q)
	*q = append(*q, d)
}

func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil // let the collector have it
	*q = old[:len(old)-1]
	return last
}
