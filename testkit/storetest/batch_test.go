package storetest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// batching is a store that writes batches with a bug.
type batching struct {
	store.Store
	batch func(s store.Store, ctx context.Context, parts []store.Part) []error
}

func (b batching) IngestBatch(ctx context.Context, parts []store.Part) []error {
	return b.batch(b.Store, ctx, parts)
}

// byParts changes each part before it is written.
func byParts(change func(s store.Store, ctx context.Context, p *store.Part)) func(store.Store, context.Context, []store.Part) []error {
	return func(s store.Store, ctx context.Context, parts []store.Part) []error {
		parts = slices.Clone(parts)
		for i := range parts {
			parts[i].Rows = slices.Clone(parts[i].Rows)
			change(s, ctx, &parts[i])
		}
		return s.IngestBatch(ctx, parts)
	}
}

// byRows changes each row before it is written.
func byRows(change func(f *store.Finished)) func(store.Store, context.Context, []store.Part) []error {
	return byParts(func(_ store.Store, _ context.Context, p *store.Part) {
		for i := range p.Rows {
			change(&p.Rows[i])
		}
	})
}

// anew looks again at what a part was decided from, as if that could not have been otherwise.
func anew(s store.Store, ctx context.Context, p *store.Part) {
	if p.Scope.IsZero() {
		return
	}
	_ = s.View(ctx, p.Scope, func(ctx context.Context, r store.Reader) error {
		now := store.Seen{Sources: map[ident.Source]uint64{}, Keys: map[ident.Key]uint64{}, Devices: map[ident.Device]uint64{}, Decoders: map[ident.Decoder]uint64{}}
		now.Revision, _ = r.Revision(ctx)
		for id := range p.Seen.Sources {
			v, _ := r.Sources().Get(ctx, id)
			now.Sources[id] = v.Rev
		}
		for id := range p.Seen.Keys {
			v, _ := r.Keys().Get(ctx, id)
			now.Keys[id] = v.Rev
		}
		for id := range p.Seen.Devices {
			v, _ := r.Devices().Get(ctx, id)
			now.Devices[id] = v.Rev
		}
		for id := range p.Seen.Decoders {
			v, _ := r.Decoders().Get(ctx, id)
			now.Decoders[id] = v.Rev
		}
		p.Seen = now
		return nil
	})
}

// aged is a row whose reading is of its turn's time, whatever the row says.
func aged(f store.Finished, turn uint64) store.Finished {
	f.Uplink.ReceivedAt = f.Uplink.ArrivedAt.Add(time.Duration(turn) * time.Second) //nolint:gosec // small
	if f.Reading != nil {
		r := *f.Reading
		r.At = f.Uplink.ReceivedAt
		f.Reading = &r
	}
	return f
}

// hurried refuses a batch while another is under way.
func hurried() func(store.Store, context.Context, []store.Part) []error {
	var one sync.Mutex
	return func(s store.Store, ctx context.Context, parts []store.Part) []error {
		if !one.TryLock() {
			errs := make([]error, len(parts))
			for i := range errs {
				errs[i] = fault.New(fault.Unavailable, "busy", "Busy.")
			}
			return errs
		}
		defer one.Unlock()
		return s.IngestBatch(ctx, parts)
	}
}

// ignorant are batches in which one thing of what was seen is not looked at.
func ignorant(forget func(*store.Seen)) func(store.Store, context.Context, []store.Part) []error {
	return byParts(func(_ store.Store, _ context.Context, p *store.Part) { forget(&p.Seen) })
}

func TestEachPlantedBugOfBatchesIsCaughtByTheCheckNamedForIt(t *testing.T) {
	fresh := uint64(0)
	again := map[ident.Uplink]bool{}
	for _, m := range []struct {
		bug, check string
		batch      func(store.Store, context.Context, []store.Part) []error
	}{
		{"a reading is lost", "RowsOfABatchAreWrittenAsTheySay", byRows(func(f *store.Finished) { f.Reading = nil })},
		{"an outcome is lost", "RowsOfABatchAreWrittenAsTheySay", byRows(func(f *store.Finished) { f.Outcome = nil })},
		{"quarantine is not counted", "RowsOfABatchAreWrittenAsTheySay", byRows(func(f *store.Finished) {
			if f.Uplink.State == uplink.Quarantined {
				f.Uplink.State = uplink.Discarded
			}
		})},
		{"what waits is a sign of life", "RowThatWaitsIsDueLater", byRows(func(f *store.Finished) {
			if f.Uplink.State == uplink.Accepted {
				f.Uplink.State = uplink.Failed
			}
		})},
		{"what waits is due at once", "RowThatWaitsIsDueLater", byRows(func(f *store.Finished) { f.Uplink.NotBefore = f.Uplink.ArrivedAt })},
		{"what comes again is another event", "RowThatCameAgainLeavesNoTrace", byRows(func(f *store.Finished) {
			if again[f.Uplink.ID] {
				fresh++
				f.Uplink.ID[15], f.Uplink.ID[14] = byte(fresh), 0xff
			}
			again[f.Uplink.ID] = true
		})},
		{"what comes again is a duplicate", "RowThatCameAgainLeavesNoTrace", byRows(func(f *store.Finished) {
			if f.Uplink.ID[15]++; f.Uplink.DedupeKey == [32]byte{} {
				f.Uplink.DedupeKey = [32]byte{0xee}
			}
			f.Uplink.ID[13] = byte(len(again))
			again[f.Uplink.ID] = true
		})},
		{"duplicates are not known", "DuplicateInABatchIsToldWithTheFirst", byRows(func(f *store.Finished) { f.Uplink.DedupeKey = [32]byte{} })},
		{"a key is all tenants'", "DuplicateInABatchIsToldWithTheFirst", byParts(func(_ store.Store, _ context.Context, p *store.Part) { p.Scope = grant(ident.Tenant{0xa}, true, 0) })},
		{"the payload is not compared", "ConflictInABatchIsQuarantinedAndCounted", byRows(func(f *store.Finished) { f.Uplink.PayloadHash = uplink.Message{Payload: []byte("p")}.PayloadHash() })},
		{"the last row takes the key", "FirstRowOfABatchTakesTheKey", byParts(func(_ store.Store, _ context.Context, p *store.Part) { slices.Reverse(p.Rows) })},
		{"parts in another order", "FirstRowOfABatchTakesTheKey", func(s store.Store, ctx context.Context, parts []store.Part) []error {
			parts = slices.Clone(parts)
			slices.Reverse(parts)
			errs := s.IngestBatch(ctx, parts)
			slices.Reverse(errs)
			return errs
		}},
		{"keys hold for ever", "KeysOfBatchesExpireWithTheirWindow", byRows(func(f *store.Finished) { f.Uplink.ArrivedAt = f.Uplink.ArrivedAt.Truncate(100 * store.DedupeWindow) })},
		{"the last one is the latest", "NoBatchSetsADeviceBack", func(s store.Store, ctx context.Context, parts []store.Part) []error {
			parts = slices.Clone(parts)
			for i := range parts {
				parts[i].Rows = slices.Clone(parts[i].Rows)
				for j := range parts[i].Rows {
					fresh++
					parts[i].Rows[j] = aged(parts[i].Rows[j], fresh)
				}
			}
			return s.IngestBatch(ctx, parts)
		}},
		{"a part goes to another tenant", "PartWritesItsOwnTenantAlone", byParts(func(_ store.Store, _ context.Context, p *store.Part) { p.Scope = grant(ident.Tenant{0xa}, true, 0) })},
		{"what was seen is not compared", "PartDecidedFromWhatIsOverIsStale", byParts(anew)},
		{"the policy is not compared", "PartDecidedFromWhatIsOverIsStale", byParts(func(s store.Store, ctx context.Context, p *store.Part) {
			was := p.Seen
			anew(s, ctx, p)
			was.Revision = p.Seen.Revision
			p.Seen = was
		})},
		{"sources are not compared", "PartDecidedFromWhatIsOverIsStale", ignorant(func(s *store.Seen) { s.Sources = nil })},
		{"keys are not compared", "PartDecidedFromWhatIsOverIsStale", ignorant(func(s *store.Seen) { s.Keys = nil })},
		{"devices are not compared", "PartDecidedFromWhatIsOverIsStale", ignorant(func(s *store.Seen) { s.Devices = nil })},
		{"decoders are not compared", "PartDecidedFromWhatIsOverIsStale", ignorant(func(s *store.Seen) { s.Decoders = nil })},
		{"addresses are not looked for", "PartDecidedFromWhatIsOverIsStale", ignorant(func(s *store.Seen) { s.Unknown = nil })},
		{"a stale part is an outage", "PartDecidedFromWhatIsOverIsStale", func(s store.Store, ctx context.Context, parts []store.Part) []error {
			errs := s.IngestBatch(ctx, parts)
			for i := range errs {
				if errors.Is(errs[i], store.ErrStale) {
					errs[i] = fault.New(fault.Unavailable, "x", "X.")
				}
			}
			return errs
		}},
		{"one fails for all", "BadPartHarmsNoOther", func(s store.Store, ctx context.Context, parts []store.Part) []error {
			errs := s.IngestBatch(ctx, parts)
			for i := range errs {
				errs[i] = errors.Join(errs...)
			}
			return errs
		}},
		{"what failed is written row by row", "BadPartHarmsNoOther", func(s store.Store, ctx context.Context, parts []store.Part) []error {
			errs := s.IngestBatch(ctx, parts)
			for i, p := range parts {
				for n := range p.Rows {
					if errs[i] != nil && len(p.Rows) == 3 {
						_ = s.IngestBatch(ctx, []store.Part{{Scope: p.Scope, Seen: p.Seen, Rows: p.Rows[n : n+1]}})
					}
				}
			}
			return errs
		}},
		{"a part may have any number of rows", "BadPartHarmsNoOther", func(s store.Store, ctx context.Context, parts []store.Part) []error {
			errs := s.IngestBatch(ctx, parts)
			for i := range parts {
				if fault.Is(errs[i], fault.Invalid) {
					errs[i] = nil
				}
			}
			return errs
		}},
		{"a batch may have any number of parts", "BatchKeepsItsBounds", func(s store.Store, ctx context.Context, parts []store.Part) (errs []error) {
			for part := range slices.Chunk(parts, store.MaxParts) {
				errs = append(errs, s.IngestBatch(ctx, part)...)
			}
			return errs
		}},
		{"nesting is not noticed", "BatchKeepsItsBounds", func(s store.Store, _ context.Context, parts []store.Part) []error {
			return s.IngestBatch(context.Background(), parts)
		}},
		{"what was seen is looked at once more before it is compared", "NothingIsWrittenUnderAStateThatWasReplaced", byParts(anew)},
		{"who would wait is refused", "BatchesThatOverlapAllComeThrough", hurried()},
		{"who asked to wait is refused", "OnlyWhoAskedToWaitsForAChange", func(s store.Store, ctx context.Context, parts []store.Part) []error {
			errs := s.IngestBatch(ctx, parts)
			for i := range errs {
				if parts[i].Wait {
					errs[i] = store.ErrBusy
				}
			}
			return errs
		}},
		{"whoever is alone in a batch waits", "OnlyWhoAskedToWaitsForAChange", func(s store.Store, ctx context.Context, parts []store.Part) []error {
			if parts[0].Scope.Tenant() == (ident.Tenant{0xa}) {
				return s.IngestBatch(ctx, parts)
			}
			go s.IngestBatch(ctx, parts) // another's goes through
			return make([]error, len(parts))
		}},
		{"a key is taken twice", "BatchesThatOverlapAllComeThrough", byRows(func(f *store.Finished) {
			if f.Uplink.DedupeKey[2] == 3 {
				f.Uplink.DedupeKey = [32]byte{}
			}
		})},
	} {
		t.Run(strings.ReplaceAll(m.bug, " ", "_"), func(t *testing.T) {
			clear(again)
			if !caught(t, m.check, func(s store.Store) store.Store { return batching{s, m.batch} }, nil) {
				t.Errorf("%s did not catch: %s", m.check, m.bug)
			}
		})
	}
}
