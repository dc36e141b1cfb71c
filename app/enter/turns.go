package enter

import (
	"context"
	"errors"
	"sync"
)

// ErrTurns is that as many as may wait for a key's turn do.
var ErrTurns = errors.New("too many wait for this turn")

// Turns let those who name the same key go one after another. A key that nobody names costs nothing.
type Turns[K comparable] struct {
	most int
	mu   sync.Mutex
	of   map[K]*turn
}

type turn struct {
	free chan struct{} // holds the one turn while nobody has it
	in   int           // who has it, and who waits
}

// NewTurns bounds who has or waits for one key's turn.
func NewTurns[K comparable](most int) *Turns[K] { return &Turns[K]{most: most, of: map[K]*turn{}} }

// Take waits for a key's turn; done gives it on.
func (t *Turns[K]) Take(ctx context.Context, key K) (done func(), err error) {
	t.mu.Lock()
	one := t.of[key]
	if one == nil {
		one = &turn{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		t.of[key] = one
	}
	if one.in >= t.most {
		t.mu.Unlock()
		return nil, ErrTurns
	}
	one.in++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.in--; one.in == 0 {
			delete(t.of, key)
		}
	}
	select {
	case <-one.free:
		return func() { one.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// Taken reports that somebody has a key's turn, or waits for it.
func (t *Turns[K]) Taken(key K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of[key] != nil
}
