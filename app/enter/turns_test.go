package enter

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestTurnsAreOneAtATimeAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 32
		ts := NewTurns[string](most)
		first, err := ts.Take(t.Context(), "ana")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var gone atomic.Int64
		for range most - 1 {
			go func() {
				if _, err := ts.Take(ctx, "ana"); !errors.Is(err, context.Canceled) {
					t.Errorf("two have one turn: %v", err)
				}
				gone.Add(1)
			}()
			synctest.Wait()
		}
		if _, err := ts.Take(t.Context(), "ana"); !errors.Is(err, ErrTurns) {
			t.Errorf("beyond the bound: %v", err)
		}
		other, err := ts.Take(t.Context(), "ben")
		if err != nil {
			t.Errorf("another account waits: %v", err)
		}
		if !ts.Taken("ana") || !ts.Taken("ben") {
			t.Error("a turn that somebody has is free")
		}
		other()
		if ts.Taken("ben") {
			t.Error("a turn that was given back is taken")
		}
		cancel()
		synctest.Wait()
		if n := gone.Load(); n != most-1 {
			t.Errorf("%d of %d went away", n, most-1)
		}
		first()
		again, err := ts.Take(t.Context(), "ana")
		if err != nil {
			t.Fatal(err)
		}
		again()
		if len(ts.of) != 0 {
			t.Errorf("%d accounts are remembered", len(ts.of))
		}
	})
}
