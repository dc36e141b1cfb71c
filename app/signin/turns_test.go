package signin

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ringfence/ringfence/core/fault"
)

func TestTurnsAreOneAtATimeAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := turns{of: map[string]*turn{}}
		first, err := ts.take(t.Context(), "ana")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var gone atomic.Int64
		for range maxTurns - 1 {
			go func() {
				if _, err := ts.take(ctx, "ana"); !errors.Is(err, context.Canceled) {
					t.Errorf("two have one turn: %v", err)
				}
				gone.Add(1)
			}()
			synctest.Wait()
		}
		if _, err := ts.take(t.Context(), "ana"); !fault.Is(err, fault.Exhausted) {
			t.Errorf("beyond the bound: %v", err)
		}
		other, err := ts.take(t.Context(), "ben")
		if err != nil {
			t.Errorf("another account waits: %v", err)
		}
		other()
		cancel()
		synctest.Wait()
		if n := gone.Load(); n != maxTurns-1 {
			t.Errorf("%d of %d went away", n, maxTurns-1)
		}
		first()
		again, err := ts.take(t.Context(), "ana")
		if err != nil {
			t.Fatal(err)
		}
		again()
		if len(ts.of) != 0 {
			t.Errorf("%d accounts are remembered", len(ts.of))
		}
	})
}
