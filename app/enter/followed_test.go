package enter

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

func TestWhatIsRememberedIsUsedForAsLongAsItMayBeWhileTheStoreIsAway(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	c := NewCache(10)
	c.followed = newFollowed(func() time.Time { return now })
	away, loads := errors.New("away"), 0
	e := &Enter{cache: c}
	c.policies.load = func(context.Context, ident.Tenant) (*standing, error) {
		if loads++; loads > 1 {
			return nil, away
		}
		return &standing{}, nil
	}
	if _, err := e.standing(t.Context(), ident.Tenant{1}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if _, err := e.standing(t.Context(), ident.Tenant{1}); err != nil {
		t.Fatalf("a store that tells of every change itself is never asked again: %v", err)
	}
	c.Followed()
	for _, at := range []struct {
		since            time.Duration
		anything, events bool
	}{{5 * time.Second, true, true}, {5*time.Second + 1, false, true}, {15 * time.Minute, false, true}, {15*time.Minute + 1, false, false}} {
		began := now
		now = now.Add(at.since)
		_, err := e.standing(t.Context(), ident.Tenant{1})
		_, derr := e.door(t.Context(), ident.Tenant{1})
		if (err == nil) != at.anything || (derr == nil) != at.events {
			t.Errorf("%v without an answer: %v; events %v", at.since, err, derr)
		}
		now = began
	}
	now = now.Add(time.Hour)
	c.Followed()
	if _, err := e.standing(t.Context(), ident.Tenant{1}); err != nil {
		t.Errorf("the store answers again: %v", err)
	}
}
