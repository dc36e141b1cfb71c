package signin

import (
	"context"
	"sync"
	"time"
)

// maxTurns bounds who waits for one account's turn.
const maxTurns = 32

// turns let the tries for one account be looked at one after another: each is counted before its password is looked at, so
// that tries at the same time cannot outrun the count, and those that were right have been forgotten before the next is.
type turns struct {
	mu sync.Mutex
	of map[string]*turn
}

type turn struct {
	free chan struct{} // holds the one turn while nobody has it
	in   int           // who has it, and who waits
}

// take waits for a key's turn; done gives it on. Keys that nobody holds cost nothing.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	t.mu.Lock()
	one := t.of[key]
	if one == nil {
		one = &turn{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		t.of[key] = one
	}
	if one.in >= maxTurns {
		t.mu.Unlock()
		return nil, tooMany(time.Second)
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
