// Package memlimit fills ports/limit in the process's own memory, by GCRA: one moment a key is all there is to remember.
package memlimit

import (
	"container/list"
	"sync"
	"time"

	"github.com/ringfence/ringfence/ports/limit"
)

// Limiter is the adapter. Use New.
type Limiter struct {
	now func() time.Time
	max int

	mu      sync.Mutex
	order   *list.List
	byKey   map[string]*list.Element
	holders map[string]int
}

type state struct {
	key string
	tat time.Time // theoretical arrival time: when the burst would be whole again
}

var _ limit.Limiter = (*Limiter)(nil)

// New returns a limiter that remembers at most keys keys. A key that was forgotten begins with a whole burst: with room for
// a hundred thousand, forcing one out costs more requests than its burst gives.
func New(now func() time.Time, keys int) *Limiter {
	return &Limiter{now: now, max: keys, order: list.New(), byKey: map[string]*list.Element{}, holders: map[string]int{}}
}

// Take counts n things.
func (l *Limiter) Take(key string, n int, r limit.Rate) limit.Verdict {
	if r.Every <= 0 || r.Burst <= 0 {
		return limit.Verdict{RetryAfter: time.Minute}
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(key, now)
	step := r.Every
	window := step * time.Duration(r.Burst)
	tat := s.tat
	if tat.Before(now) {
		tat = now
	}
	next := tat.Add(step * time.Duration(n))
	v := limit.Verdict{Limit: r.Burst}
	if over := next.Sub(now) - window; over > 0 {
		v.RetryAfter, v.Remaining = over, int((window-tat.Sub(now))/step)
		return v
	}
	s.tat = next
	v.OK, v.Remaining = true, int((window-next.Sub(now))/step)
	return v
}

func (l *Limiter) state(key string, now time.Time) *state {
	if el := l.byKey[key]; el != nil {
		l.order.MoveToFront(el)
		return el.Value.(*state) //nolint:forcetypeassert // the list holds nothing else
	}
	if l.order.Len() >= l.max {
		last := l.order.Back()
		delete(l.byKey, l.order.Remove(last).(*state).key) //nolint:forcetypeassert // as above
	}
	s := &state{key: key, tat: now}
	l.byKey[key] = l.order.PushFront(s)
	return s
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
