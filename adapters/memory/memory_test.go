package memory_test

import (
	"testing"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

func TestMemoryFillsThePort(t *testing.T) {
	storetest.Run(t, func(_ testing.TB, o storetest.Options) store.Store {
		return memory.New(memory.Options{Now: o.Now, Revised: o.Revised})
	})
}

func TestMemoryHasAnOutbox(t *testing.T) {
	storetest.RunOutbox(t, func(_ testing.TB, o storetest.Options) (store.Store, store.Outbox) {
		s := memory.New(memory.Options{Now: o.Now, Revised: o.Revised})
		return s, s
	})
}
