package storetest_test

import (
	"context"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// recorder is a test that a check may fail without failing ours.
type recorder struct {
	testing.TB
	ctx      context.Context //nolint:containedctx // a test's own
	mu       sync.Mutex
	failed   bool
	cleanups []func()
}

func (r *recorder) fail() { r.mu.Lock(); r.failed = true; r.mu.Unlock() }

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Error(...any)             { r.fail() }
func (r *recorder) Errorf(string, ...any)    { r.fail() }
func (r *recorder) Fatal(...any)             { r.fail(); runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any)    { r.fail(); runtime.Goexit() }

// caught runs one check against a faulty store and answers whether it noticed.
func caught(t *testing.T, name string, faulty func(store.Store) store.Store, o func(*storetest.Options)) bool {
	t.Helper()
	for _, c := range storetest.Checks() {
		if c.Name != name {
			continue
		}
		r := &recorder{TB: t, ctx: t.Context()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run(r, storetest.NewWorld(r, func(_ testing.TB, opts storetest.Options) store.Store {
				if o != nil {
					o(&opts)
				}
				s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "m.db"), Now: opts.Now, Revised: opts.Revised})
				if err != nil {
					r.Fatal(err)
				}
				return faulty(s)
			}))
		}()
		<-done
		for _, f := range r.cleanups {
			f()
		}
		return r.failed
	}
	t.Fatalf("there is no check %s", name)
	return false
}

// The faulty stores wrap a good one. Each breaks one promise.

type wrapped struct {
	store.Store
	scope  func(access.Scope) access.Scope
	ctx    func(context.Context) context.Context
	reader func(store.Reader) store.Reader
	writer func(store.Writer) store.Writer
	flow   func(store.Flow) store.Flow
	events func([]audit.Event, error) ([]audit.Event, error)
	answer func(error) error
	dir    func(store.Directory) store.Directory
}

func (w wrapped) in(ctx context.Context, s access.Scope) (context.Context, access.Scope) {
	if w.ctx != nil {
		ctx = w.ctx(ctx)
	}
	if w.scope != nil {
		s = w.scope(s)
	}
	return ctx, s
}

func (w wrapped) out(err error) error {
	if w.answer != nil {
		return w.answer(err)
	}
	return err
}

func (w wrapped) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	ctx, s = w.in(ctx, s)
	return w.Store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		if w.reader != nil {
			r = w.reader(r)
		}
		return fn(ctx, r)
	})
}

func (w wrapped) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	ctx, s = w.in(ctx, s)
	return w.out(w.Store.Change(ctx, s, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		if w.writer != nil {
			wr = w.writer(wr)
		}
		ev, err := fn(ctx, wr)
		if w.events != nil {
			return w.events(ev, err)
		}
		return ev, err
	}))
}

func (w wrapped) Ingest(ctx context.Context, s access.Scope, fn func(context.Context, store.Flow) error) error {
	ctx, s = w.in(ctx, s)
	return w.out(w.Store.Ingest(ctx, s, func(ctx context.Context, f store.Flow) error {
		if w.flow != nil {
			f = w.flow(f)
		}
		return fn(ctx, f)
	}))
}

func (w wrapped) Directory() store.Directory {
	if w.dir != nil {
		return w.dir(w.Store.Directory())
	}
	return w.Store.Directory()
}

func grant(t ident.Tenant, allowed bool, rev uint64) access.Scope {
	return access.Grant(t, access.Actor{Kind: access.System, System: "storetest"}, access.Origin{}, access.Decision{Allowed: allowed, Revision: rev}, nil, access.Subject{}, time.Time{})
}

type reading struct {
	store.Reader
	devices func(store.Devices) store.Devices
	uplinks func(store.Uplinks) store.Uplinks
	read    func(store.Readings) store.Readings
	audit   func(store.Audit) store.Audit
	members func(people) people
	sources func(doors) doors
	links   func(store.Owned[ident.Link, credential.Link]) store.Owned[ident.Link, credential.Link]
}

func (r reading) Links() store.Owned[ident.Link, credential.Link] {
	if r.links != nil {
		return r.links(r.Reader.Links())
	}
	return r.Reader.Links()
}

// everybodys answers whatever there is, whoever is asked for.
type everybodys struct {
	store.Owned[ident.Link, credential.Link]
}

func (e everybodys) Of(ctx context.Context, _ ident.Principal) ([]credential.Link, error) {
	page, err := e.List(ctx, store.Query{Reach: access.Everywhere})
	return page.Items, err
}

func (r reading) Audit() store.Audit {
	if r.audit != nil {
		return r.audit(r.Reader.Audit())
	}
	return r.Reader.Audit()
}

// shifted answers the hash beside the one that was asked for.
type shifted struct{ store.Audit }

func (s shifted) Hashes(ctx context.Context, indexes []int64) ([]audit.Hash, error) {
	hashes, err := s.Audit.Hashes(ctx, indexes)
	if len(hashes) > 1 {
		hashes[0], hashes[1] = hashes[1], hashes[0]
	}
	return hashes, err
}

// barren answers private values without what opens their commitments.
type barren struct{ store.Audit }

func (b barren) Find(ctx context.Context, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	page, err := b.Audit.Find(ctx, q, f)
	for _, e := range page.Items {
		for i := range e.Private {
			e.Private[i].Nonce = [16]byte{}
		}
	}
	return page, err
}

func (r reading) Devices() store.Devices {
	if r.devices != nil {
		return r.devices(r.Reader.Devices())
	}
	return r.Reader.Devices()
}

func (r reading) Uplinks() store.Uplinks {
	if r.uplinks != nil {
		return r.uplinks(r.Reader.Uplinks())
	}
	return r.Reader.Uplinks()
}

func (r reading) Readings() store.Readings {
	if r.read != nil {
		return r.read(r.Reader.Readings())
	}
	return r.Reader.Readings()
}

type queue struct{ store.Uplinks }

func (q queue) Due(ctx context.Context, now time.Time, n int) ([]uplink.Uplink, error) {
	return q.Uplinks.Due(ctx, now.Add(time.Hour), n) // looks at no NotBefore
}

type writing struct {
	store.Writer
	devices store.Records[ident.Device, device.Device]
	roles   func(store.Records[ident.Role, access.Role]) store.Records[ident.Role, access.Role]
	drop    bool
	forget  bool
}

func (w writing) Settle(ctx context.Context, u uplink.Uplink) (uplink.Uplink, error) {
	if w.forget {
		u.ReleasedAt = time.Time{}
	}
	return w.Writer.Settle(ctx, u)
}

func (w writing) Devices() store.Records[ident.Device, device.Device] {
	if w.devices != nil {
		return w.devices
	}
	return w.Writer.Devices()
}

func (w writing) Roles() store.Records[ident.Role, access.Role] {
	if w.roles != nil {
		return w.roles(w.Writer.Roles())
	}
	return w.Writer.Roles()
}

func (w writing) DropFolds(ctx context.Context, f []store.Fold) error {
	if err := w.Writer.DropFolds(ctx, f); err != nil && w.drop {
		return nil // a counter that grew is thrown away with what grew
	} else if err != nil {
		return err
	}
	return nil
}

// blind writes over whatever revision is there.
type blind struct {
	store.Records[ident.Device, device.Device]
}

func (b blind) Put(ctx context.Context, d device.Device) (device.Device, error) {
	if now, err := b.Get(ctx, d.ID); err == nil {
		d.Rev = now.Rev
	}
	return b.Records.Put(ctx, d)
}

type blindRoles struct {
	store.Records[ident.Role, access.Role]
}

func (b blindRoles) Delete(ctx context.Context, id ident.Role, _ uint64) error {
	now, err := b.Get(ctx, id)
	if err != nil {
		return err
	}
	return b.Records.Delete(ctx, id, now.Rev)
}

// renamed makes every name its own, so that nothing is ever taken.
type renamed struct {
	store.Records[ident.Role, access.Role]
}

func (r renamed) Put(ctx context.Context, v access.Role) (access.Role, error) {
	v.Name += v.ID.String()
	return r.Records.Put(ctx, v)
}

type flowing struct {
	store.Flow
	accept     func(store.Flow, context.Context, []uplink.Uplink) ([]store.Verdict, error)
	fold       int64
	marks      bool
	most       int // that a failure count reaches; 0: any
	checkpoint bool
	rewrite    bool
	finish     bool
	lively     bool
	hasten     func(store.Flow, context.Context, time.Time, int) (int, error)
	expire     func(store.Flow, context.Context, time.Time, int) (int, error)
}

func (f flowing) Hasten(ctx context.Context, until time.Time, limit int) (int, error) {
	if f.hasten != nil {
		return f.hasten(f.Flow, ctx, until, limit)
	}
	return f.Flow.Hasten(ctx, until, limit)
}

func (f flowing) Expire(ctx context.Context, now time.Time, limit int) (int, error) {
	if f.expire != nil {
		return f.expire(f.Flow, ctx, now, limit)
	}
	return f.Flow.Expire(ctx, now, limit)
}

func (f flowing) Accept(ctx context.Context, us []uplink.Uplink) ([]store.Verdict, error) {
	if f.accept != nil {
		return f.accept(f.Flow, ctx, us)
	}
	return f.Flow.Accept(ctx, us)
}

func (f flowing) Fold(ctx context.Context, c store.Fold, n int64) error {
	return f.Flow.Fold(ctx, c, n+f.fold)
}

func (f flowing) Checkpoint(ctx context.Context, c audit.StoredCheckpoint) error {
	if f.rewrite {
		c.Note = append(slices.Clone(c.Note), '\n')
	}
	if err := f.Flow.Checkpoint(ctx, c); err != nil && !f.checkpoint {
		return err
	}
	return nil
}

func (f flowing) Finish(ctx context.Context, done store.Finished) error {
	if alive := done; f.lively {
		alive.Uplink.State = uplink.Failed
		if err := f.Flow.Finish(ctx, alive); err != nil {
			return err
		}
		done.Uplink.Rev++
	}
	if err := f.Flow.Finish(ctx, done); err != nil && !f.finish {
		return err
	}
	return nil
}

type lost struct{ store.Directory }

func (l lost) Locate(context.Context, string) (store.Location, error) {
	return store.Location{}, fault.Missing()
}

func (l lost) Waiting(ctx context.Context, now time.Time, n int) ([]store.Waiting, error) {
	return l.Directory.Waiting(ctx, now.Add(time.Hour), n)
}

func byReader(r reading) func(store.Store) store.Store {
	return func(s store.Store) store.Store {
		return wrapped{Store: s, reader: func(in store.Reader) store.Reader { r.Reader = in; return r }}
	}
}

func byDevices(d devices) func(store.Store) store.Store {
	return byReader(reading{devices: func(in store.Devices) store.Devices { d.Devices = in; return d }})
}

func byWriter(change func(*writing)) func(store.Store) store.Store {
	return func(s store.Store) store.Store {
		return wrapped{Store: s, writer: func(in store.Writer) store.Writer { w := writing{Writer: in}; change(&w); return w }}
	}
}

func byFlow(f flowing) func(store.Store) store.Store {
	return func(s store.Store) store.Store {
		return wrapped{Store: s, flow: func(in store.Flow) store.Flow { f.Flow = in; return f }}
	}
}

func byScope(change func(access.Scope) access.Scope) func(store.Store) store.Store {
	return func(s store.Store) store.Store { return wrapped{Store: s, scope: change} }
}

func TestEachPlantedBugIsCaughtByTheCheckNamedForIt(t *testing.T) {
	some := []audit.Event{{ID: ident.Entry{9}, Action: audit.DeviceCreated, Target: audit.Target{Kind: "x"}, Outcome: audit.OK}}
	for _, m := range []struct {
		bug, check string
		faulty     func(store.Store) store.Store
		options    func(*storetest.Options)
	}{
		{"the zero scope opens a tenant", "ZeroScopeIsRefusedBeforeAnythingIsRead", byScope(func(s access.Scope) access.Scope {
			if s.IsZero() {
				return grant(ident.Tenant{1}, true, 0)
			}
			return s
		}), nil},
		{"nesting is not noticed", "StoreCallInsideAFunctionIsRefused", func(s store.Store) store.Store {
			return wrapped{Store: s, ctx: func(context.Context) context.Context { return context.Background() }}
		}, nil},
		{"all tenants are one", "TenantSeesItsOwnRecordsAlone", byScope(func(s access.Scope) access.Scope { return grant(ident.Tenant{1}, s.Allowed(), s.Revision()) }), nil},
		{"a foreign id opens its record", "ForeignRecordIsAnsweredLikeAMissingOne", byScope(func(s access.Scope) access.Scope {
			if s.Tenant() == (ident.Tenant{0xb}) {
				return grant(ident.Tenant{0xa}, s.Allowed(), s.Revision())
			}
			return s
		}), nil},
		{"a missing record is an empty one", "ForeignRecordIsAnsweredLikeAMissingOne", byDevices(devices{get: func(d device.Device, _ error) (device.Device, error) { return d, nil }}), nil},
		{"an event is made up", "UnauditedChangeIsRefused", func(s store.Store) store.Store {
			return wrapped{Store: s, events: func(ev []audit.Event, err error) ([]audit.Event, error) {
				if len(ev) == 0 {
					ev = some
				}
				return ev, err
			}}
		}, nil},
		{"an error commits", "FailedChangeLeavesNothing", func(s store.Store) store.Store {
			return wrapped{Store: s, events: func(ev []audit.Event, _ error) ([]audit.Event, error) { return ev, nil }}
		}, nil},
		{"an error is swallowed", "FailedChangeLeavesNothing", func(s store.Store) store.Store {
			return wrapped{Store: s, answer: func(error) error { return nil }}
		}, nil},
		{"the caller's going away is not seen", "CancelledCallerLeavesNothing", func(s store.Store) store.Store {
			return wrapped{Store: s, ctx: context.WithoutCancel}
		}, nil},
		{"a refusal may write", "ScopeOfARefusalMayOnlyRecordIt", byScope(func(s access.Scope) access.Scope {
			if s.IsZero() {
				return s
			}
			return grant(s.Tenant(), true, s.Revision())
		}), nil},
		{"an old decision is good for ever", "StaleScopeIsRefused", byScope(func(s access.Scope) access.Scope { return grant(s.Tenant(), s.Allowed(), 0) }), nil},
		{"a reader's old decision is good for ever", "StaleScopeIsRefused", func(s store.Store) store.Store { return lasting{s} }, nil},
		{"a decision does not outlive what is new", "StaleScopeIsRefused", func(s store.Store) store.Store { return hasty{s} }, nil},
		{"who decided by what is over is not told", "StaleScopeIsRefused", func(s store.Store) store.Store { return s }, telling(func(rev, _ uint64) bool { return rev != 0 })},
		{"only what changes the policy is told", "RevisedIsToldAfterEveryChange", func(s store.Store) store.Store { return s }, telling(func(rev, last uint64) bool { return rev != last })},
		{"nobody is told", "RevisedIsToldAfterEveryChange", func(s store.Store) store.Store { return s }, func(o *storetest.Options) { o.Revised = nil }},
		{"a lost update", "PutComparesTheRevision", byWriter(func(w *writing) { w.devices = blind{w.Writer.Devices()} }), nil},
		{"a lost delete", "DeleteComparesTheRevision", byWriter(func(w *writing) {
			w.roles = func(r store.Records[ident.Role, access.Role]) store.Records[ident.Role, access.Role] {
				return blindRoles{r}
			}
		}), nil},
		{"names may repeat", "UniqueTextsAreUniqueInTheTenantAlone", byWriter(func(w *writing) {
			w.roles = func(r store.Records[ident.Role, access.Role]) store.Records[ident.Role, access.Role] {
				return renamed{r}
			}
		}), nil},
		{"a page is never the last", "ListsPageNewestFirstWithoutRepeating", byDevices(devices{list: func(d store.Devices, ctx context.Context, q store.Query) (store.Page[device.Device], error) {
			q.After = ""
			return d.List(ctx, q)
		}}), nil},
		{"a page too large", "ListsPageNewestFirstWithoutRepeating", byDevices(devices{list: func(d store.Devices, ctx context.Context, q store.Query) (store.Page[device.Device], error) {
			q.Limit = 0
			return d.List(ctx, q)
		}}), nil},
		{"the rest of a list is forgotten", "ListsPageNewestFirstWithoutRepeating", byDevices(devices{list: func(d store.Devices, ctx context.Context, q store.Query) (store.Page[device.Device], error) {
			p, err := d.List(ctx, q)
			p.Next = ""
			return p, err
		}}), nil},
		{"reach is not looked at", "ListAnswersWithinReachAlone", byDevices(devices{list: func(d store.Devices, ctx context.Context, q store.Query) (store.Page[device.Device], error) {
			q.Reach = access.Everywhere
			return d.List(ctx, q)
		}}), nil},
		{"an owner is answered others' links", "OwnersRecordsAreFoundNewestFirst", byReader(reading{links: func(l store.Owned[ident.Link, credential.Link]) store.Owned[ident.Link, credential.Link] {
			return everybodys{l}
		}}), nil},
		{"a forged cursor is an empty page", "ForgedCursorIsRefused", byDevices(devices{list: func(d store.Devices, ctx context.Context, q store.Query) (store.Page[device.Device], error) {
			p, err := d.List(ctx, q)
			if err != nil {
				err = nil
			}
			return p, err
		}}), nil},
		{"a device takes its history along", "AssignmentsAreRememberedByTime", byDevices(devices{assigned: func(d store.Devices, ctx context.Context, id ident.Device, _ time.Time) (ident.Node, error) {
			v, err := d.Get(ctx, id)
			return v.Node, err
		}}), nil},
		{"duplicates are not remembered", "DuplicateIsAnsweredWithTheFirstEvent", byFlow(flowing{accept: func(f store.Flow, ctx context.Context, us []uplink.Uplink) ([]store.Verdict, error) {
			own := append([]uplink.Uplink(nil), us...)
			for i := range own {
				own[i].DedupeKey = [32]byte{}
			}
			return f.Accept(ctx, own)
		}}), nil},
		{"the payload is not compared", "SameKeyWithAnotherPayloadIsQuarantined", byFlow(flowing{accept: func(f store.Flow, ctx context.Context, us []uplink.Uplink) ([]store.Verdict, error) {
			own := append([]uplink.Uplink(nil), us...)
			for i := range own {
				own[i].PayloadHash = [32]byte{}
			}
			return f.Accept(ctx, own)
		}}), nil},
		{"what must wait is due", "DueIsOldestFirstAndWaitsForNotBefore", byReader(reading{uplinks: func(u store.Uplinks) store.Uplinks { return queue{u} }}), nil},
		{"nobody is hastened", "HastenedUplinksAreDueAtOnce", byFlow(flowing{hasten: func(store.Flow, context.Context, time.Time, int) (int, error) { return 0, nil }}), nil},
		{"who waits for something else is hastened too", "HastenedUplinksAreDueAtOnce", byFlow(flowing{hasten: func(f store.Flow, ctx context.Context, until time.Time, n int) (int, error) {
			_, err := f.Hasten(ctx, until.Add(time.Microsecond), n)
			if err != nil {
				return 0, err
			}
			return f.Hasten(ctx, until, n)
		}}), nil},
		{"a release is forgotten", "SettledUplinkRemembersItsRelease", byWriter(func(w *writing) { w.forget = true }), nil},
		{"what is refused is a sign of life", "QuarantinedUplinkIsNoSignOfLife", byFlow(flowing{lively: true}), nil},
		{"the latest is what came last", "LatestReadingNeverGoesBack", byReader(reading{read: func(r store.Readings) store.Readings { return lateReadings{r} }}), nil},
		{"finishing twice is fine", "FinishComparesTheRevision", byFlow(flowing{finish: true}), nil},
		{"another key's mark takes the first one's place", "KeysMarksStay", byFlow(flowing{marks: true}), nil},
		{"somebody's count is missed", "CountsOfManyAtOnceMissNobody", byFlow(flowing{most: 100}), nil},
		{"a counter is off by one", "CountersAreExact", byFlow(flowing{fold: 1}), nil},
		{"a counter is dropped with what it grew by", "CountersAreExact", byWriter(func(w *writing) { w.drop = true }), nil},
		{"events are kept in another order", "TheSameScriptLeavesTheSameLog", func(s store.Store) store.Store {
			return wrapped{Store: s, events: func(evs []audit.Event, err error) ([]audit.Event, error) {
				evs = slices.Clone(evs)
				slices.Reverse(evs)
				return evs, err
			}}
		}, nil},
		{"a clock of its own", "TheSameScriptLeavesTheSameLog", func(s store.Store) store.Store { return s }, func(o *storetest.Options) {
			now := o.Now
			o.Now = func() time.Time { return now().Add(time.Microsecond) }
		}},
		{"a checkpoint is kept as something else", "TheSameScriptLeavesTheSameLog", byFlow(flowing{rewrite: true}), nil},
		{"private values lose their nonces", "AuditIsWhatAppendMakesOfIt", byReader(reading{audit: func(a store.Audit) store.Audit { return barren{a} }}), nil},
		{"a hash of the tree is answered for another", "TheSameScriptLeavesTheSameLog", byReader(reading{audit: func(a store.Audit) store.Audit { return shifted{a} }}), nil},
		{"a page in another order", "TheSameScriptLeavesTheSameLog", byDevices(devices{list: func(d store.Devices, ctx context.Context, q store.Query) (store.Page[device.Device], error) {
			p, err := d.List(ctx, q)
			slices.Reverse(p.Items)
			return p, err
		}}), nil},
		{"nothing ever goes", "ExpiryTakesWhatIsOverAndNothingElse", byFlow(flowing{expire: func(store.Flow, context.Context, time.Time, int) (int, error) { return 0, nil }}), nil},
		{"what is in force goes too", "ExpiryTakesWhatIsOverAndNothingElse", byFlow(flowing{expire: func(f store.Flow, ctx context.Context, now time.Time, limit int) (int, error) {
			return f.Expire(ctx, now.Add(time.Minute), limit)
		}}), nil},
		{"the limit is not kept", "ExpiryTakesWhatIsOverAndNothingElse", byFlow(flowing{expire: func(f store.Flow, ctx context.Context, now time.Time, _ int) (int, error) {
			return f.Expire(ctx, now, 1000)
		}}), nil},
		{"a place is overlooked", "EntriesAreFoundByTheirPlace", byReader(reading{audit: func(a store.Audit) store.Audit { return placeless{a} }}), nil},
		{"a name is anybody's", "MembersAreFoundByName", byReader(reading{members: func(m people) people { return nameless[ident.Principal, principal.Member]{m} }}), nil},
		{"a name opens what is beyond reach", "RecordsAreFoundByName", byReader(reading{sources: func(d doors) doors { return farReaching{d} }}), nil},
		{"a name is any source's", "RecordsAreFoundByName", byReader(reading{sources: func(d doors) doors { return nameless[ident.Source, source.Source]{d} }}), nil},
		{"who is gone counts", "CountIsWhatAListAnswers", byDevices(devices{most: new(int)}), nil},
		{"who failed is a tenant", "FailedFirstChangeFoundsNoTenant", func(s store.Store) store.Store {
			return wrapped{Store: s, dir: func(d store.Directory) store.Directory { return ghost{d} }}
		}, nil},
		{"an older checkpoint is taken", "CheckpointsGrow", byFlow(flowing{checkpoint: true}), nil},
		{"the directory knows nobody", "DirectoryLocatesCredentialsAndWork", func(s store.Store) store.Store {
			return wrapped{Store: s, dir: func(d store.Directory) store.Directory { return lost{d} }}
		}, nil},
	} {
		t.Run(strings.ReplaceAll(m.bug, " ", "_"), func(t *testing.T) {
			if !caught(t, m.check, m.faulty, m.options) {
				t.Errorf("%s did not catch: %s", m.check, m.bug)
			}
		})
	}
}

func TestARightStoreFailsNoCheckOfTheRecorder(t *testing.T) {
	for _, c := range storetest.Checks() {
		if caught(t, c.Name, func(s store.Store) store.Store { return s }, nil) {
			t.Errorf("%s fails on a right store", c.Name)
		}
	}
}
