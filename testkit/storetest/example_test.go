package storetest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// counted is an adapter of one's own: a store that counts how often it is read. What it does not say itself it leaves to the
// store inside, but it has to keep every promise of the port all the same.
type counted struct {
	store.Store
	views atomic.Int64
}

func (c *counted) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	c.views.Add(1)
	return c.Store.View(ctx, s, fn)
}

// This one line in a test of one's own proves it. The suite opens a store for each check, moves its clock, and closes it.
func TestCountedFillsThePort(t *testing.T) {
	storetest.Run(t, func(_ testing.TB, o storetest.Options) store.Store {
		return &counted{Store: memory.New(memory.Options{Now: o.Now, Revised: o.Revised})}
	})
}

// Each check is one promise of ports/store, named by a sentence.
func ExampleRun() {
	for _, c := range storetest.Checks()[:3] {
		fmt.Println(c.Name)
	}

	// Output:
	// ZeroScopeIsRefusedBeforeAnythingIsRead
	// StoreCallInsideAFunctionIsRefused
	// HandleIsDeadOnceItsFunctionReturned
}
