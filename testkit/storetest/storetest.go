// Package storetest proves that an adapter fills ports/store: every must of the port is a check with a sentence for its name.
// Adapters outside this repository run it the same way as ours.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// Options are what a store is opened with: a clock that the suite moves, and who is to be told of changes.
type Options struct {
	Now     func() time.Time
	Revised store.Revised
}

// Open opens an empty store; the suite closes it.
type Open func(t testing.TB, o Options) store.Store

// Check is one promise of the port.
type Check struct {
	Name string
	Run  func(t testing.TB, w *World)
}

// Run runs every check on stores of their own.
func Run(t *testing.T, open Open) {
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, NewWorld(t, open)) })
	}
}

// World is an empty store with two tenants' scopes and sources of ids and time.
type World struct {
	Store    store.Store
	A, B     access.Scope // two tenants; neither was decided by a policy, so neither is ever stale
	Platform access.Scope
	ctx      context.Context //nolint:containedctx // the test's own
	now      time.Time
	ids      uint64

	mu   sync.Mutex // Revised may be called from anywhere
	told []ident.Tenant
	revs []uint64 // with each
}

// NewWorld opens a store for one check.
func NewWorld(t testing.TB, open Open) *World {
	w := &World{ctx: t.Context(), now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	w.Store = open(t, Options{Now: func() time.Time { return w.now }, Revised: func(id ident.Tenant, rev uint64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !id.IsZero() {
			w.told = append(w.told, id)
			w.revs = append(w.revs, rev)
		}
	}})
	t.Cleanup(func() { _ = w.Store.Close() })
	w.A, w.B, w.Platform = w.Scope(ident.Tenant{0xa}, 0), w.Scope(ident.Tenant{0xb}, 0), w.Scope(ident.Platform, 0)
	return w
}

// Scope grants a scope of a tenant that was decided at a policy revision; 0 is a system's own.
func (w *World) Scope(t ident.Tenant, rev uint64) access.Scope {
	return access.Grant(t, access.Actor{Kind: access.System, System: "storetest"}, access.Origin{}, access.Decision{Allowed: true, Revision: rev}, nil, access.Subject{}, w.now)
}

// fresh returns ids that grow, the same in every run.
func fresh[K ident.Kind](w *World) ident.ID[K] {
	w.ids++
	n := w.ids
	return ident.Make[K](w.now.Add(time.Duration(n)*time.Millisecond), [10]byte{byte(n >> 8), byte(n)})
}

func (w *World) event(id string) audit.Event {
	return audit.Event{ID: freshEntry(w), Action: audit.DeviceCreated, Target: audit.Target{Kind: "test", ID: id}, Outcome: audit.OK}
}

func freshEntry(w *World) (e ident.Entry) {
	set(w, &e)
	return e
}

func set[K ident.Kind](w *World, id *ident.ID[K]) { *id = fresh[K](w) }

// change writes with one event and must succeed.
func (w *World) change(t testing.TB, s access.Scope, fn func(context.Context, store.Writer) error) {
	t.Helper()
	ev := w.event("change")
	if err := w.Store.Change(w.ctx, s, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		return []audit.Event{ev}, fn(ctx, wr)
	}); err != nil {
		t.Fatalf("change: %v", err)
	}
}

func (w *World) view(t testing.TB, s access.Scope, fn func(context.Context, store.Reader) error) {
	t.Helper()
	if err := w.Store.View(w.ctx, s, fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

func (w *World) ingest(t testing.TB, s access.Scope, fn func(context.Context, store.Flow) error) {
	t.Helper()
	if err := w.Store.Ingest(w.ctx, s, fn); err != nil {
		t.Fatalf("ingest: %v", err)
	}
}

// device puts a device at a node.
func (w *World) device(t testing.TB, s access.Scope, node ident.Node, address string) device.Device {
	t.Helper()
	d := device.Device{Name: "pump", Node: node, State: device.Active, Addresses: []device.Address{{Kind: device.Serial, Value: address}}, CreatedAt: w.now, UpdatedAt: w.now}
	set(w, &d.ID)
	w.change(t, s, func(ctx context.Context, wr store.Writer) error {
		var err error
		d, err = wr.Devices().Put(ctx, d)
		return err
	})
	return d
}

func (w *World) uplink(key byte, payload string) uplink.Uplink {
	u := uplink.Uplink{State: uplink.Accepted, Address: device.Address{Kind: device.Serial, Value: "a"}, Payload: []byte(payload), Node: ident.Node{1}, Source: ident.Source{1},
		ArrivedAt: w.now, ReceivedAt: w.now, UpdatedAt: w.now, PayloadHash: uplink.Message{Payload: []byte(payload)}.PayloadHash()}
	if key != 0 {
		u.DedupeKey = [32]byte{key}
	}
	set(w, &u.ID)
	return u
}

func (w *World) accept(t testing.TB, s access.Scope, us ...uplink.Uplink) []store.Verdict {
	t.Helper()
	var vs []store.Verdict
	w.ingest(t, s, func(ctx context.Context, f store.Flow) error {
		var err error
		vs, err = f.Accept(ctx, us)
		return err
	})
	return vs
}

func wantKind(t testing.TB, err error, k fault.Kind, what string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != k {
		t.Errorf("%s: %v, want a fault of kind %s", what, err, k)
	}
}

func wantIs(t testing.TB, err, want error, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// Checks are all promises.
func Checks() []Check {
	return []Check{
		{"ZeroScopeIsRefusedBeforeAnythingIsRead", zeroScope},
		{"StoreCallInsideAFunctionIsRefused", nested},
		{"HandleIsDeadOnceItsFunctionReturned", dead},
		{"TenantSeesItsOwnRecordsAlone", ownAlone},
		{"ForeignRecordIsAnsweredLikeAMissingOne", foreignIsMissing},
		{"ViewIsOneSnapshot", snapshot},
		{"UnauditedChangeIsRefused", unaudited},
		{"FailedChangeLeavesNothing", failedChange},
		{"PanicLeavesNothingAndIsAFault", panicked},
		{"CancelledCallerLeavesNothing", cancelled},
		{"ScopeOfARefusalMayOnlyRecordIt", denied},
		{"StaleScopeIsRefused", stale},
		{"PolicyWriteBumpsTheRevisionOnce", bumps},
		{"RevisedIsToldAfterEveryChange", told},
		{"PutComparesTheRevision", putRevision},
		{"DeleteComparesTheRevision", deleteRevision},
		{"UniqueTextsAreUniqueInTheTenantAlone", unique},
		{"ListsPageNewestFirstWithoutRepeating", pages},
		{"ListAnswersWithinReachAlone", reach},
		{"OwnersRecordsAreFoundNewestFirst", owned},
		{"ForgedCursorIsRefused", cursor},
		{"AssignmentsAreRememberedByTime", assignments},
		{"TombstonesAreReadableAndTheirAddressIsFree", tombstones},
		{"DuplicateIsAnsweredWithTheFirstEvent", duplicate},
		{"SameKeyWithAnotherPayloadIsQuarantined", conflict},
		{"DedupeKeyExpiresWithItsWindow", window},
		{"ExpiryTakesWhatIsOverAndNothingElse", expiry},
		{"JobsAreToldOfTenantsWithSomethingDueAlone", chores},
		{"NothingDueIsMissedWhileJobsRest", choresRace},
		{"DueIsOldestFirstAndWaitsForNotBefore", due},
		{"HastenedUplinksAreDueAtOnce", hastened},
		{"SettledUplinkRemembersItsRelease", settled},
		{"QuarantinedUplinkIsNoSignOfLife", lifeless},
		{"LatestReadingNeverGoesBack", latest},
		{"ReadingsAreInTheOrderOfTheirDevice", readingOrder},
		{"FinishComparesTheRevision", finish},
		{"WhatWasDecidedFromWhatIsOverIsNotFinished", recheckStale},
		{"NothingIsFinishedUnderAStateThatWasReplaced", recheckRace},
		{"WhoRechecksWaitsForNoChange", recheckFree},
		{"RowsOfABatchAreWrittenAsTheySay", batchRows},
		{"RowThatCameAgainLeavesNoTrace", redelivered},
		{"DuplicateInABatchIsToldWithTheFirst", batchDuplicate},
		{"ConflictInABatchIsQuarantinedAndCounted", batchConflict},
		{"FirstRowOfABatchTakesTheKey", batchOrder},
		{"KeysOfBatchesExpireWithTheirWindow", batchWindow},
		{"RowThatWaitsIsDueLater", batchWaits},
		{"NoBatchSetsADeviceBack", batchLatest},
		{"PartWritesItsOwnTenantAlone", batchApart},
		{"PartDecidedFromWhatIsOverIsStale", batchStale},
		{"BadPartHarmsNoOther", batchFails},
		{"BatchKeepsItsBounds", batchBounds},
		{"NothingIsWrittenUnderAStateThatWasReplaced", batchRace},
		{"BatchesThatOverlapAllComeThrough", batchOverlap},
		{"OnlyWhoAskedToWaitsForAChange", batchAsked},
		{"CountsOfManyAtOnceMissNobody", tallied},
		{"CountersAreExact", folds},
		{"KeysMarksStay", marks},
		{"CheckpointsGrow", checkpoints},
		{"AuditIsWhatAppendMakesOfIt", auditRows},
		{"EntriesAreFoundByTheirPlace", entriesByPlace},
		{"MembersAreFoundByName", membersByName},
		{"RecordsAreFoundByName", recordsByName},
		{"CountIsWhatAListAnswers", counts},
		{"AnApplicationIsMappedOnce", mappings},
		{"WhoHadAnApplicationIsKept", tenures},
		{"TheSameScriptLeavesTheSameLog", golden},
		{"AcrossIsOneTransactionOverTwoTrees", across},
		{"DirectoryLocatesCredentialsAndWork", directoryCheck},
		{"OneBadCallerInManyHarmsNobodyElse", many64},
		{"FailedFirstChangeFoundsNoTenant", founded},
		{"VersionsAreImmutable", immutable},
		{"ClosedStoreRefuses", closed},
	}
}

func zeroScope(t testing.TB, w *World) {
	var none access.Scope
	ran := false
	wantIs(t, w.Store.View(w.ctx, none, func(context.Context, store.Reader) error { ran = true; return nil }), store.ErrScope, "View")
	wantIs(t, w.Store.Ingest(w.ctx, none, func(context.Context, store.Flow) error { ran = true; return nil }), store.ErrScope, "Ingest")
	write := func(context.Context, store.Writer) ([]audit.Event, error) {
		ran = true
		return []audit.Event{w.event("x")}, nil
	}
	wantIs(t, w.Store.Change(w.ctx, none, write), store.ErrScope, "Change")
	wantIs(t, w.Store.Across(w.ctx, none, w.A, func(context.Context, store.Writer, store.Writer) ([]audit.Event, []audit.Event, error) {
		ran = true
		return nil, nil, nil
	}), store.ErrScope, "Across")
	if ran {
		t.Error("a function ran under the zero scope")
	}
}

func nested(t testing.TB, w *World) {
	err := w.Store.View(w.ctx, w.A, func(ctx context.Context, _ store.Reader) error {
		return w.Store.View(ctx, w.A, func(context.Context, store.Reader) error { return nil })
	})
	wantIs(t, err, store.ErrNested, "View in View")
	err = w.Store.View(w.ctx, w.A, func(ctx context.Context, _ store.Reader) error {
		return w.Store.Ingest(ctx, w.A, func(context.Context, store.Flow) error { return nil })
	})
	wantIs(t, err, store.ErrNested, "Ingest in View")
}

func dead(t testing.TB, w *World) {
	var r store.Reader
	w.view(t, w.A, func(_ context.Context, got store.Reader) error { r = got; return nil })
	_, err := r.Devices().Count(w.ctx)
	wantIs(t, err, store.ErrDead, "a reader after its View")
	var wr store.Writer
	w.change(t, w.A, func(_ context.Context, got store.Writer) error { wr = got; return nil })
	_, err = wr.Roles().Get(w.ctx, ident.Role{1})
	wantIs(t, err, store.ErrDead, "a writer after its Change")
}

func ownAlone(t testing.TB, w *World) {
	node := ident.Node{1}
	a := w.device(t, w.A, node, "same")
	b := w.device(t, w.B, node, "same") // the same address in another tenant
	w.accept(t, w.A, w.uplink(0, "a"))
	for _, c := range []struct {
		s    access.Scope
		want ident.Device
	}{{w.A, a.ID}, {w.B, b.ID}} {
		w.view(t, c.s, func(ctx context.Context, r store.Reader) error {
			page, err := r.Devices().List(ctx, store.Query{Reach: access.Everywhere})
			if err != nil || len(page.Items) != 1 || page.Items[0].ID != c.want {
				t.Errorf("list: %d devices, %v", len(page.Items), err)
			}
			got, err := r.Devices().ByAddress(ctx, device.Address{Kind: device.Serial, Value: "same"})
			if err != nil || got.ID != c.want {
				t.Errorf("by address: %v, %v", got.ID, err)
			}
			ups, err := r.Uplinks().List(ctx, store.Query{Reach: access.Everywhere})
			if want := map[ident.Tenant]int{w.A.Tenant(): 1}[c.s.Tenant()]; err != nil || len(ups.Items) != want {
				t.Errorf("uplinks: %d, %v, want %d", len(ups.Items), err, want)
			}
			entries, err := r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, store.AuditFilter{})
			if err != nil || len(entries.Items) != 1 {
				t.Errorf("audit: %d entries, %v", len(entries.Items), err)
			}
			return err
		})
	}
}

func foreignIsMissing(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	u := w.uplink(0, "p")
	w.accept(t, w.A, u)
	w.view(t, w.B, func(ctx context.Context, r store.Reader) error {
		_, foreign := r.Devices().Get(ctx, d.ID)
		_, never := r.Devices().Get(ctx, ident.Device{0xff})
		if !fault.Is(foreign, fault.NotFound) || fmt.Sprint(foreign) != fmt.Sprint(never) {
			t.Errorf("a foreign device: %v; one that never was: %v", foreign, never)
		}
		_, foreign = r.Uplinks().Get(ctx, u.ID)
		wantKind(t, foreign, fault.NotFound, "a foreign uplink")
		_, foreign = r.Audit().Entry(ctx, 0)
		wantKind(t, foreign, fault.NotFound, "an entry of another's log")
		_, foreign = r.Devices().AssignedAt(ctx, d.ID, w.now)
		wantKind(t, foreign, fault.NotFound, "a foreign device's assignment")
		_, foreign = r.Nodes().Get(ctx, ident.Node{1})
		wantKind(t, foreign, fault.NotFound, "a missing node")
		return nil
	})
	err := w.Store.Change(w.ctx, w.B, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		d.Name = "stolen"
		_, err := wr.Devices().Put(ctx, d)
		return []audit.Event{w.event("x")}, err
	})
	wantKind(t, err, fault.NotFound, "changing a foreign device")
	err = w.Store.Change(w.ctx, w.B, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		return []audit.Event{w.event("x")}, wr.Devices().Delete(ctx, d.ID, d.Rev)
	})
	wantKind(t, err, fault.NotFound, "deleting a foreign device")
}

func snapshot(t testing.TB, w *World) {
	w.device(t, w.A, ident.Node{1}, "first")
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		before, err := r.Devices().Count(ctx)
		if err != nil {
			return err
		}
		done := make(chan struct{})
		go func() { defer close(done); w.device(t, w.A, ident.Node{1}, "second") }()
		<-done
		after, err := r.Devices().Count(ctx)
		if before != 1 || after != 1 {
			t.Errorf("a view saw %d devices, then %d", before, after)
		}
		return err
	})
}

func unaudited(t testing.TB, w *World) {
	role := access.Role{ID: ident.Role{7}, Name: "r", Permissions: access.SetOf(access.NodeRead)}
	err := w.Store.Change(w.ctx, w.A, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		_, err := wr.Roles().Put(ctx, role)
		return nil, err
	})
	wantIs(t, err, store.ErrUnaudited, "a change without an event")
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		_, err := r.Roles().Get(ctx, role.ID)
		wantKind(t, err, fault.NotFound, "what it wrote")
		return nil
	})
}

// leftNothing checks that neither the role that was tried nor an entry is there.
func (w *World) leftNothing(t testing.TB) {
	t.Helper()
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		_, err := r.Roles().Get(ctx, ident.Role{7})
		wantKind(t, err, fault.NotFound, "the record")
		head, err := r.Audit().Head(ctx)
		if head.Size != 0 {
			t.Errorf("the audit log has %d entries", head.Size)
		}
		return err
	})
}

func (w *World) tryRole(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
	_, err := wr.Roles().Put(ctx, access.Role{ID: ident.Role{7}, Name: "r", Permissions: access.SetOf(access.NodeRead)})
	return []audit.Event{w.event("x")}, err
}

func failedChange(t testing.TB, w *World) {
	mine := errors.New("mine")
	err := w.Store.Change(w.ctx, w.A, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		if _, err := w.tryRole(ctx, wr); err != nil {
			return nil, err
		}
		return []audit.Event{w.event("x")}, mine
	})
	wantIs(t, err, mine, "the function's own error")
	w.leftNothing(t)
}

func panicked(t testing.TB, w *World) {
	err := w.Store.Change(w.ctx, w.A, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		if _, err := w.tryRole(ctx, wr); err != nil {
			return nil, err
		}
		panic("mine")
	})
	wantKind(t, err, fault.Internal, "a panic")
	w.leftNothing(t)
}

func cancelled(t testing.TB, w *World) {
	ctx, cancel := context.WithCancel(w.ctx)
	err := w.Store.Change(ctx, w.A, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		ev, err := w.tryRole(ctx, wr)
		cancel()
		return ev, err
	})
	wantIs(t, err, context.Canceled, "a caller that went away")
	w.leftNothing(t)
}

func denied(t testing.TB, w *World) {
	s := access.Grant(w.A.Tenant(), access.Actor{Kind: access.Anonymous}, access.Origin{}, access.Decision{Reason: "no"}, nil, access.Subject{}, w.now)
	wantIs(t, w.Store.Change(w.ctx, s, w.tryRole), store.ErrDenied, "a refusal that writes")
	w.leftNothing(t)
	err := w.Store.Change(w.ctx, s, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{w.event("x")}, nil })
	if err != nil {
		t.Errorf("a refusal that is recorded: %v", err)
	}
	wantIs(t, w.Store.Ingest(w.ctx, s, func(context.Context, store.Flow) error { return nil }), store.ErrDenied, "a refusal that ingests")
}

func bumps(t testing.TB, w *World) {
	revision := func() (rev uint64) {
		w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
			var err error
			rev, err = r.Revision(ctx)
			return err
		})
		return rev
	}
	if rev := revision(); rev != 0 {
		t.Errorf("an empty tenant has revision %d", rev)
	}
	var during uint64
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error {
		for i := range 3 {
			if _, err := wr.Nodes().Put(ctx, org.Node{ID: ident.Node{byte(i + 1)}, Kind: org.Site, Name: "n"}); err != nil {
				return err
			}
		}
		_, err := wr.Members().Put(ctx, principal.Member{ID: ident.Principal{1}, Kind: principal.Human})
		during = wr.Revision()
		return err
	})
	if rev := revision(); rev != 1 || during != 1 {
		t.Errorf("after one change of policy records: revision %d, during it %d, want 1", rev, during)
	}
	w.device(t, w.A, ident.Node{1}, "x")
	if rev := revision(); rev != 1 {
		t.Errorf("a device changed the revision to %d", rev)
	}
	for i, put := range []func(context.Context, store.Writer) error{
		func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Tenants().Put(ctx, tenant.Tenant{ID: w.A.Tenant(), Name: "a", State: tenant.Active})
			return err
		},
		func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Memberships().Put(ctx, access.Membership{ID: ident.Membership{1}, Node: ident.Node{1}, Principal: ident.Principal{1}})
			return err
		},
	} {
		w.change(t, w.A, put)
		if rev := revision(); rev != uint64(i+2) { //nolint:gosec // a small count
			t.Errorf("after change %d: revision %d", i, rev)
		}
	}
}

func told(t testing.TB, w *World) {
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { _, err := w.tryRole(ctx, wr); return err })
	w.device(t, w.A, ident.Node{1}, "x")
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for i, rev := range w.revs { // a store that also tells what it finds changed in its database says 0 there
		if rev != 0 {
			n++
		}
		if w.told[i] != w.A.Tenant() || rev > 1 {
			n = -len(w.revs)
		}
	}
	if n != 2 {
		t.Errorf("told of %v, revisions %v; want two changes of tenant A, each with revision 1", w.told, w.revs)
	}
}
