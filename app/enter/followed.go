package enter

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// How long what is remembered is good while the store does not answer whether other processes changed it. Beyond blind nothing
// is decided by it; events alone, which would be lost at some senders, are let in for longer.
const (
	blind     = 5 * time.Second
	blindDoor = 15 * time.Minute
)

// followed is when the store last said what other processes had changed, by a clock that only goes forward.
type followed struct {
	now  func() time.Time
	last atomic.Int64 // nanoseconds since epoch; 0: it tells of every change itself
	born time.Time
}

func newFollowed(now func() time.Time) *followed { return &followed{now: now, born: now()} }

// Followed is told by a store that follows other processes' changes each time that it knows of all that there were.
func (c *Cache) Followed() {
	c.followed.last.Store(max(1, int64(c.followed.now().Sub(c.followed.born))))
}

// within reports whether the store said so lately enough.
func (f *followed) within(d time.Duration) bool {
	last := f.last.Load()
	return last == 0 || f.now().Sub(f.born)-time.Duration(last) <= d
}

// Following answers why this process may not decide by what it remembers: the store has not said for a while what others changed.
func (e *Enter) Following() error {
	if !e.cache.followed.within(blind) {
		return fault.New(fault.Unavailable, "store_unavailable", "The database cannot be used at the moment. Try again.")
	}
	return nil
}

// standing is what is known of a tenant, if it may be decided by: else it is read again, which the store may refuse.
func (e *Enter) standing(ctx context.Context, t ident.Tenant) (*standing, error) {
	if !e.cache.followed.within(blind) {
		return e.cache.policies.load(ctx, t)
	}
	return e.cache.policies.get(ctx, t)
}

// door is what is known of a tenant for letting in an event.
func (e *Enter) door(ctx context.Context, t ident.Tenant) (*standing, error) {
	if !e.cache.followed.within(blindDoor) {
		return e.cache.policies.load(ctx, t)
	}
	return e.cache.policies.get(ctx, t)
}
