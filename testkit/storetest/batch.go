package storetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// row is a new uplink of a device that was decoded.
func (w *World) row(d ident.Device, key byte, payload string) store.Finished {
	u := w.uplink(key, payload)
	u.State, u.Device = uplink.Processed, d
	r := &uplink.Reading{Uplink: u.ID, Device: d, Node: u.Node, At: u.ReceivedAt, Data: []byte(`{"n":1}`), Session: "s", FCnt: 7, HasFCnt: true, Warnings: []string{"low"}}
	o := &uplink.Outcome{Uplink: u.ID, Device: d, Node: u.Node, Category: decoder.Success, Engine: "e", Fuel: 7, Duration: time.Millisecond, Message: "m", Hash: [32]byte{3}, At: w.now}
	set(w, &r.ID)
	set(w, &o.ID)
	return store.Finished{Uplink: u, Reading: r, Outcome: o}
}

// held is a new uplink without a device, in quarantine.
func (w *World) held(key byte, payload string) store.Finished {
	u := w.uplink(key, payload)
	u.State, u.Reason = uplink.Quarantined, uplink.UnknownDevice
	return store.Finished{Uplink: u}
}

// at moves a row to another time by the network's clock.
func at(f store.Finished, later time.Duration) store.Finished {
	f.Uplink.ReceivedAt = f.Uplink.ReceivedAt.Add(later)
	r := *f.Reading
	r.At = f.Uplink.ReceivedAt
	f.Reading = &r
	return f
}

// seen is the tenant's revision and nothing else.
func (w *World) seen(t testing.TB, s access.Scope) (seen store.Seen) {
	t.Helper()
	w.view(t, s, func(ctx context.Context, r store.Reader) (err error) {
		seen.Revision, err = r.Revision(ctx)
		return err
	})
	return seen
}

// batch writes one part, which must succeed.
func (w *World) batch(t testing.TB, s access.Scope, rows ...store.Finished) {
	t.Helper()
	for _, err := range w.Store.IngestBatch(w.ctx, []store.Part{{Scope: s, Seen: w.seen(t, s), Rows: rows, Wait: true}}) {
		if err != nil {
			t.Fatalf("batch: %v", err)
		}
	}
}

// trace is all that batches leave of a tenant's uplinks.
type trace struct {
	uplinks  []uplink.Uplink
	readings []uplink.Reading
	outcomes []uplink.Outcome
	folds    []store.Fold
	due      int
}

func (w *World) trace(t testing.TB, s access.Scope) (tr trace) {
	t.Helper()
	w.view(t, s, func(ctx context.Context, r store.Reader) error {
		all := store.Query{Reach: access.Everywhere}
		us, err := r.Uplinks().List(ctx, all)
		if err != nil {
			return err
		}
		rs, err := r.Readings().Find(ctx, all, store.ReadingFilter{})
		if err != nil {
			return err
		}
		outs, err := r.Outcomes().List(ctx, all)
		if err != nil {
			return err
		}
		tr = trace{uplinks: us.Items, readings: rs.Items, outcomes: outs.Items}
		if tr.due, err = r.Uplinks().Backlog(ctx); err != nil {
			return err
		}
		tr.folds, err = r.Folds(ctx, w.now.Add(100*time.Hour), 100)
		return err
	})
	return tr
}

// is compares how much there is.
func (tr trace) is(t testing.TB, what string, uplinks, readings, outcomes, folds int) {
	t.Helper()
	if len(tr.uplinks) != uplinks || len(tr.readings) != readings || len(tr.outcomes) != outcomes || len(tr.folds) != folds {
		t.Errorf("%s: %d uplinks, %d readings, %d outcomes, %d counters; want %d, %d, %d, %d", what, len(tr.uplinks), len(tr.readings), len(tr.outcomes), len(tr.folds), uplinks, readings, outcomes, folds)
	}
}

func (w *World) sameDevice(t testing.TB, s access.Scope, d ident.Device) (seen time.Time, latest ident.Reading) {
	t.Helper()
	w.view(t, s, func(ctx context.Context, r store.Reader) error {
		v, err := r.Devices().Get(ctx, d)
		if err != nil {
			return err
		}
		newest, err := r.Readings().Latest(ctx, d, access.Everywhere)
		if fault.Is(err, fault.NotFound) {
			err = nil
		}
		seen, latest = v.LastSeen, newest.ID
		return err
	})
	return seen, latest
}

func batchRows(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	ok, failed, held := w.row(d.ID, 1, "p"), w.row(d.ID, 2, "q"), w.held(3, "r")
	failed.Uplink.State, failed.Reading, failed.Outcome.Category = uplink.Failed, nil, decoder.Exception
	failed.Uplink.ReceivedAt = failed.Uplink.ReceivedAt.Add(time.Second)
	ok.Uplink.FPort, ok.Uplink.FCnt, ok.Uplink.HasFCnt, ok.Uplink.Application, ok.Uplink.Session, ok.Uplink.NetworkTime = 2, 7, true, "app", "s", w.now.Add(-time.Second)
	held.Uplink.Payload = nil
	w.batch(t, w.A, ok, failed, held)
	tr := w.trace(t, w.A)
	tr.is(t, "after a batch", 3, 1, 2, 1)
	if tr.due != 0 || len(tr.folds) == 1 && tr.folds[0] != func() store.Fold {
		f := store.QuarantineFold(held.Uplink, uplink.UnknownDevice)
		f.Count = 1
		return f
	}() {
		t.Errorf("%d are due, counters %+v", tr.due, tr.folds)
	}
	for _, want := range []store.Finished{ok, failed, held} {
		want.Uplink.Rev = 1
		if got := w.stored(t, want.Uplink); !alike(got, want.Uplink) {
			t.Errorf("an uplink is %+v, want %+v", got, want.Uplink)
		}
	}
	if len(tr.readings) == 1 && !alike(tr.readings[0], *ok.Reading) {
		t.Errorf("the reading is %+v, want %+v", tr.readings[0], *ok.Reading)
	}
	if len(tr.outcomes) == 2 && (!alike(tr.outcomes[1], *ok.Outcome) || !alike(tr.outcomes[0], *failed.Outcome)) {
		t.Errorf("the outcomes are %+v", tr.outcomes)
	}
	if seen, latest := w.sameDevice(t, w.A, d.ID); !seen.Equal(w.now.Add(time.Second)) || latest != ok.Reading.ID {
		t.Errorf("last seen at %v, latest %v", seen, latest)
	}
	w.now = w.now.Add(time.Minute)
	w.batch(t, w.A, w.held(0, "s"), w.held(0, "s"))
	if tr := w.trace(t, w.A); len(tr.folds) != 1 || tr.folds[0].Count != 3 {
		t.Errorf("after three quarantined: counters %+v", tr.folds)
	}
}

func redelivered(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	first, plain, held := w.row(d.ID, 1, "p"), w.row(d.ID, 0, "p"), w.held(2, "q")
	double, conflict := w.row(d.ID, 1, "p"), w.row(d.ID, 1, "other")
	all := []store.Finished{first, plain, held, double, conflict}
	w.batch(t, w.A, all...)
	before := w.trace(t, w.A)
	before.is(t, "at first", 4, 2, 3, 2)
	again := func(what string, rows ...store.Finished) {
		t.Helper()
		for i := range rows { // decided once more, later and otherwise
			rows[i].Uplink.ID = all[i%len(all)].Uplink.ID
			if rows[i].Reading != nil {
				rows[i].Reading.Uplink, rows[i].Outcome.Uplink = rows[i].Uplink.ID, rows[i].Uplink.ID
				set(w, &rows[i].Reading.ID)
				set(w, &rows[i].Outcome.ID)
			}
		}
		seen, latest := w.sameDevice(t, w.A, d.ID)
		w.batch(t, w.A, rows...)
		if tr := w.trace(t, w.A); !alike(tr, before) {
			t.Errorf("%s: there are\n%+v\nwant\n%+v", what, tr, before)
		}
		if s, l := w.sameDevice(t, w.A, d.ID); s != seen || l != latest {
			t.Errorf("%s: last seen %v and latest %v became %v and %v", what, seen, latest, s, l)
		}
	}
	late := func() []store.Finished {
		rows := []store.Finished{at(w.row(d.ID, 1, "p"), time.Hour), at(w.row(d.ID, 0, "p"), time.Hour), w.held(2, "q"), at(w.row(d.ID, 1, "p"), time.Hour), at(w.row(d.ID, 1, "other"), time.Hour)}
		for i := range rows {
			rows[i].Uplink.ArrivedAt = all[i].Uplink.ArrivedAt
		}
		return rows
	}
	again("the same events", late()...)
	again("the same events twice in one part", append(late(), late()...)...)
	done := w.stored(t, held.Uplink)
	done.State = uplink.Discarded
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { _, err := wr.Settle(ctx, done); return err })
	w.now = w.now.Add(2 * store.DedupeWindow)
	w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error { _, err := f.Expire(ctx, w.now, 100); return err })
	before = w.trace(t, w.A)
	again("after their keys were over", late()...)
	w.batch(t, w.A, w.row(d.ID, 1, "third"))
	if before = w.trace(t, w.A); len(before.readings) != 3 {
		t.Error("what came again took its key again")
	}
	again("when another has their key", late()...)
}

func batchDuplicate(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	first := w.row(d.ID, 1, "p")
	w.batch(t, w.A, first)
	second, unknown := at(w.row(d.ID, 1, "p"), time.Hour), w.held(1, "p")
	w.batch(t, w.A, second, unknown)
	tr := w.trace(t, w.A)
	tr.is(t, "with two duplicates", 1, 1, 3, 0)
	told := 0
	for _, o := range tr.outcomes {
		if o.Uplink != first.Uplink.ID {
			told++
			if o.Category != decoder.Duplicate || !strings.Contains(o.Message, first.Uplink.ID.String()) || o.Node != second.Uplink.Node || !o.At.Equal(second.Uplink.ArrivedAt) || o.Fuel != 0 {
				t.Errorf("a duplicate's outcome is %+v", o)
			}
		}
	}
	if told != 2 {
		t.Errorf("%d duplicates are told of", told)
	}
	if seen, latest := w.sameDevice(t, w.A, d.ID); !seen.Equal(w.now) || latest != first.Reading.ID {
		t.Errorf("a duplicate is a sign of life: last seen %v, latest %v", seen, latest)
	}
	if v := w.accept(t, w.A, w.uplink(1, "p")); !v[0].Duplicate || v[0].ID != first.Uplink.ID {
		t.Errorf("Accept does not know the key of a batch: %+v", v)
	}
	b := w.device(t, w.B, ident.Node{1}, "x")
	w.batch(t, w.B, w.row(b.ID, 1, "p"))
	w.trace(t, w.B).is(t, "of another tenant with that key", 1, 1, 1, 0)
}

func batchConflict(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	w.accept(t, w.A, w.uplink(1, "p"))
	other, waits := w.row(d.ID, 1, "q"), w.row(d.ID, 1, "r")
	waits.Uplink.State, waits.Reading, waits.Outcome = uplink.Accepted, nil, nil
	w.batch(t, w.A, other, waits)
	tr := w.trace(t, w.A)
	tr.is(t, "with two conflicts", 3, 0, 0, 1)
	if tr.due != 1 || len(tr.folds) == 1 && (tr.folds[0].Count != 2 || tr.folds[0].Key != store.QuarantineFold(other.Uplink, uplink.DedupeConflict).Key) {
		t.Errorf("%d are due, counters %+v", tr.due, tr.folds)
	}
	if u := w.stored(t, other.Uplink); u.State != uplink.Quarantined || u.Reason != uplink.DedupeConflict || !u.Device.IsZero() || u.Node != other.Uplink.Node || u.Rev != 1 {
		t.Errorf("a conflict is %+v", u)
	}
	if seen, _ := w.sameDevice(t, w.A, d.ID); !seen.IsZero() {
		t.Error("a conflict is a sign of life")
	}
}

func batchOrder(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	rows := make([]store.Finished, 40)
	for i := range rows {
		rows[i] = w.row(d.ID, 1, "p")
	}
	other := w.row(d.ID, 1, "q")
	seen := w.seen(t, w.A)
	part := func(rows ...store.Finished) store.Part { return store.Part{Scope: w.A, Seen: seen, Rows: rows} }
	for i, err := range w.Store.IngestBatch(w.ctx, []store.Part{part(rows[39], rows[0], rows[1]), part(rows[2:]...), part(other)}) {
		if err != nil {
			t.Errorf("part %d: %v", i, err)
		}
	}
	tr := w.trace(t, w.A)
	tr.is(t, "of forty rows with one key", 2, 1, 40, 1)
	if len(tr.readings) == 1 && tr.readings[0].Uplink != rows[39].Uplink.ID {
		t.Error("not the first one took the key")
	}
	for _, o := range tr.outcomes {
		if o.Category == decoder.Duplicate && !strings.Contains(o.Message, rows[39].Uplink.ID.String()) {
			t.Errorf("a duplicate names another than the first: %s", o.Message)
		}
	}
}

func batchWindow(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	later := func(f store.Finished, by time.Duration) store.Finished {
		f.Uplink.ArrivedAt = f.Uplink.ArrivedAt.Add(by)
		return f
	}
	w.batch(t, w.A, w.row(d.ID, 1, "p"))
	w.batch(t, w.A, later(w.row(d.ID, 1, "p"), store.DedupeWindow-time.Microsecond))
	w.trace(t, w.A).is(t, "within the window", 1, 1, 2, 0)
	// The third takes the key anew; the fourth is its duplicate, the fifth takes it once more.
	third := later(w.row(d.ID, 1, "p"), store.DedupeWindow)
	w.batch(t, w.A, third, later(w.row(d.ID, 1, "p"), store.DedupeWindow), later(w.row(d.ID, 1, "p"), 2*store.DedupeWindow))
	tr := w.trace(t, w.A)
	tr.is(t, "after the window", 3, 3, 5, 0)
	named := 0
	for _, o := range tr.outcomes {
		if strings.Contains(o.Message, third.Uplink.ID.String()) {
			named++
		}
	}
	if named != 1 {
		t.Errorf("%d duplicates name the one that took the key anew", named)
	}
}

func batchWaits(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	wait := w.row(d.ID, 1, "p")
	wait.Uplink.State, wait.Uplink.NotBefore, wait.Reading, wait.Outcome = uplink.Accepted, w.now.Add(time.Minute), nil, nil
	w.batch(t, w.A, wait, w.row(d.ID, 1, "p"))
	w.trace(t, w.A).is(t, "one waits, with a duplicate", 1, 0, 1, 0)
	if seen, _ := w.sameDevice(t, w.A, d.ID); !seen.IsZero() {
		t.Error("what waits is a sign of life already")
	}
	for _, c := range []struct {
		at   time.Time
		want int
	}{{w.now, 0}, {w.now.Add(time.Minute), 1}} {
		who, err := w.Store.Directory().Waiting(w.ctx, c.at, 10)
		if err != nil || len(who) != c.want {
			t.Errorf("waiting at %v: %v, %v", c.at, who, err)
		}
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		due, err := r.Uplinks().Due(ctx, w.now.Add(time.Minute), 10)
		if err != nil || len(due) != 1 || due[0].Rev != 1 || due[0].ID != wait.Uplink.ID || !due[0].NotBefore.Equal(wait.Uplink.NotBefore) {
			t.Errorf("due: %+v, %v", due, err)
		}
		return err
	})
	done := w.row(d.ID, 0, "p")
	done.Uplink, done.Reading.Uplink, done.Outcome.Uplink = wait.Uplink, wait.Uplink.ID, wait.Uplink.ID
	done.Uplink.Rev, done.Uplink.State = 1, uplink.Processed
	w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error { return f.Finish(ctx, done) })
	if tr := w.trace(t, w.A); tr.due != 0 || len(tr.readings) != 1 {
		t.Errorf("when it is finished: %d wait, %d readings", tr.due, len(tr.readings))
	}
	if who, err := w.Store.Directory().Waiting(w.ctx, w.now.Add(time.Hour), 10); err != nil || len(who) != 0 {
		t.Errorf("then there wait %v, %v", who, err)
	}
}

func batchLatest(t testing.TB, w *World) {
	d, e := w.device(t, w.A, ident.Node{1}, "x"), w.device(t, w.A, ident.Node{1}, "y")
	newest := at(w.row(d.ID, 0, "p"), time.Minute)
	w.batch(t, w.A, w.row(d.ID, 0, "p"), newest, at(w.row(e.ID, 0, "p"), time.Second), at(w.row(d.ID, 0, "p"), time.Second))
	w.batch(t, w.A, at(w.row(d.ID, 0, "p"), 59*time.Second))
	if seen, latest := w.sameDevice(t, w.A, d.ID); !seen.Equal(w.now.Add(time.Minute)) || latest != newest.Reading.ID {
		t.Errorf("last seen %v, latest %v", seen, latest)
	}
	if seen, _ := w.sameDevice(t, w.A, e.ID); !seen.Equal(w.now.Add(time.Second)) {
		t.Errorf("the other device was last seen %v", seen)
	}
	after := at(w.row(d.ID, 0, "p"), 2*time.Minute)
	w.batch(t, w.A, after)
	if seen, latest := w.sameDevice(t, w.A, d.ID); !seen.Equal(w.now.Add(2*time.Minute)) || latest != after.Reading.ID {
		t.Errorf("then last seen %v, latest %v", seen, latest)
	}
}

// batchApart is a part that names all that is another tenant's.
func batchApart(t testing.TB, w *World) {
	a := w.device(t, w.A, ident.Node{1}, "x")
	mine := w.row(a.ID, 1, "p")
	w.batch(t, w.A, mine)
	before := w.trace(t, w.A)
	seen, latest := w.sameDevice(t, w.A, a.ID)
	theirs := at(mine, time.Hour)
	theirs.Uplink.Payload = []byte("theirs")
	part := store.Part{Scope: w.B, Seen: w.seen(t, w.B), Rows: []store.Finished{theirs, at(w.row(a.ID, 1, "p"), time.Hour)}}
	for _, err := range w.Store.IngestBatch(w.ctx, []store.Part{{Scope: w.A, Seen: w.seen(t, w.A)}, part}) {
		if err != nil {
			t.Errorf("part: %v", err)
		}
	}
	if after := w.trace(t, w.A); !alike(after, before) {
		t.Errorf("another tenant's part changed %+v to %+v", before, after)
	}
	if s, l := w.sameDevice(t, w.A, a.ID); s != seen || l != latest {
		t.Errorf("another tenant's part changed last seen %v and latest %v to %v and %v", seen, latest, s, l)
	}
	w.trace(t, w.B).is(t, "of the other tenant", 1, 1, 2, 0)
	known := store.Part{Scope: w.B, Seen: store.Seen{Devices: map[ident.Device]uint64{a.ID: a.Rev}}}
	wantIs(t, w.Store.IngestBatch(w.ctx, []store.Part{known})[0], store.ErrStale, "a part that saw another tenant's device")
	known.Seen = store.Seen{Devices: map[ident.Device]uint64{a.ID: 0}, Unknown: []device.Address{{Kind: device.Serial, Value: "x"}}}
	if err := w.Store.IngestBatch(w.ctx, []store.Part{known})[0]; err != nil {
		t.Errorf("a part that saw none: %v", err)
	}
}
