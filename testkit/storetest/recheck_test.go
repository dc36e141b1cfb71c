package storetest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// rechecking is a flow that compares what was seen with a bug.
type rechecking struct {
	store.Flow
	change func(*store.Seen)
	answer func(error) error
}

func (r rechecking) Recheck(ctx context.Context, seen store.Seen) error {
	if r.change != nil {
		r.change(&seen)
	}
	err := r.Flow.Recheck(ctx, seen)
	if r.answer != nil {
		return r.answer(err)
	}
	return err
}

func TestEachPlantedBugOfRechecksIsCaughtByTheCheckNamedForIt(t *testing.T) {
	never := func(error) error { return nil }
	for _, m := range []struct {
		bug, check string
		change     func(*store.Seen)
		answer     func(error) error
	}{
		{"nothing is compared", "WhatWasDecidedFromWhatIsOverIsNotFinished", nil, never},
		{"nothing is compared while others write", "NothingIsFinishedUnderAStateThatWasReplaced", nil, never},
		{"the log alone is compared", "WhatWasDecidedFromWhatIsOverIsNotFinished", func(s *store.Seen) {
			if s.Entries > 0 {
				*s = store.Seen{Entries: s.Entries}
			}
		}, nil},
		{"sources are not compared", "WhatWasDecidedFromWhatIsOverIsNotFinished", func(s *store.Seen) { s.Sources = nil }, nil},
		{"keys are not compared", "WhatWasDecidedFromWhatIsOverIsNotFinished", func(s *store.Seen) { s.Keys = nil }, nil},
		{"devices are not compared", "WhatWasDecidedFromWhatIsOverIsNotFinished", func(s *store.Seen) { s.Devices = nil }, nil},
		{"decoders are not compared", "WhatWasDecidedFromWhatIsOverIsNotFinished", func(s *store.Seen) { s.Decoders = nil }, nil},
		{"addresses are not looked for", "WhatWasDecidedFromWhatIsOverIsNotFinished", func(s *store.Seen) { s.Unknown = nil }, nil},
	} {
		t.Run(strings.ReplaceAll(m.bug, " ", "_"), func(t *testing.T) {
			if !caught(t, m.check, func(s store.Store) store.Store {
				return wrapped{Store: s, flow: func(f store.Flow) store.Flow { return rechecking{f, m.change, m.answer} }}
			}, nil) {
				t.Errorf("%s did not catch: %s", m.check, m.bug)
			}
		})
	}
}

// besides is a store where others' are written while a tenant is being changed, and the tenant's own wait.
type besides struct{ store.Store }

func (b besides) Ingest(ctx context.Context, s access.Scope, fn func(context.Context, store.Flow) error) error {
	if s.Tenant() == (ident.Tenant{0xa}) {
		return b.Store.Ingest(ctx, s, fn)
	}
	go func() { _ = b.Store.Ingest(ctx, s, fn) }()
	return nil
}

func TestARecheckThatWaitsForAChangeIsCaughtByTheCheckNamedForIt(t *testing.T) {
	if !caught(t, "WhoRechecksWaitsForNoChange", func(s store.Store) store.Store { return besides{s} }, nil) {
		t.Error("it was not caught")
	}
}
