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
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// try runs a change with one event and answers its error.
func (w *World) try(s access.Scope, fn func(context.Context, store.Writer) error) error {
	ev := w.event("try")
	return w.Store.Change(w.ctx, s, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		return []audit.Event{ev}, fn(ctx, wr)
	})
}

func putRevision(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	if d.Rev != 1 {
		t.Errorf("a new record has revision %d", d.Rev)
	}
	put := func(d device.Device) (device.Device, error) {
		var out device.Device
		err := w.try(w.A, func(ctx context.Context, wr store.Writer) error {
			var err error
			out, err = wr.Devices().Put(ctx, d)
			return err
		})
		return out, err
	}
	second, err := put(d)
	if err != nil || second.Rev != 2 {
		t.Errorf("a change of the present revision: %d, %v", second.Rev, err)
	}
	_, err = put(d)
	wantIs(t, err, store.ErrRevision, "a change of an older revision")
	again := d
	again.Rev = 0
	_, err = put(again)
	wantKind(t, err, fault.Conflict, "inserting an id that is taken")
	gone := d
	gone.ID, gone.Rev, gone.Addresses = ident.Device{0xfe}, 3, nil
	_, err = put(gone)
	wantKind(t, err, fault.NotFound, "changing what is not there")
}

func deleteRevision(t testing.TB, w *World) {
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { _, err := w.tryRole(ctx, wr); return err })
	remove := func(rev uint64) error {
		return w.try(w.A, func(ctx context.Context, wr store.Writer) error { return wr.Roles().Delete(ctx, ident.Role{7}, rev) })
	}
	wantIs(t, remove(9), store.ErrRevision, "deleting another revision")
	if err := remove(1); err != nil {
		t.Errorf("deleting the present revision: %v", err)
	}
	wantKind(t, remove(1), fault.NotFound, "deleting it again")
}

func unique(t testing.TB, w *World) {
	role := func(id byte) func(context.Context, store.Writer) error {
		return func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Roles().Put(ctx, access.Role{ID: ident.Role{id}, Name: "technician"})
			return err
		}
	}
	w.change(t, w.A, role(1))
	wantKind(t, w.try(w.A, role(2)), fault.Conflict, "a name that is taken")
	w.change(t, w.B, role(2))
	ev := []audit.Event{w.event("p"), w.event("t")}
	if err := w.Store.Across(w.ctx, w.Platform, w.A, func(ctx context.Context, p, tw store.Writer) ([]audit.Event, []audit.Event, error) {
		_, perr := p.Roles().Put(ctx, access.Role{ID: ident.Role{3}, Name: "of the platform"})
		wantKind(t, role(2)(ctx, tw), fault.Conflict, "a name that is taken, beside another tenant's record")
		_, terr := tw.Roles().Put(ctx, access.Role{ID: ident.Role{4}, Name: "of the tenant"})
		_, gerr := p.Roles().Get(ctx, ident.Role{3})
		return ev[:1], ev[1:], errors.Join(perr, terr, gerr)
	}); err != nil {
		t.Errorf("going on after a refusal: %v", err)
	}
	w.device(t, w.A, ident.Node{1}, "x")
	err := w.try(w.A, func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Devices().Put(ctx, device.Device{ID: ident.Device{9}, Node: ident.Node{1}, Addresses: []device.Address{{Kind: device.Serial, Value: "x"}}})
		return err
	})
	wantKind(t, err, fault.Conflict, "an address that is taken")
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		_, err := r.Devices().Get(ctx, ident.Device{9})
		wantKind(t, err, fault.NotFound, "the device of the taken address")
		return nil
	})
}

func pages(t testing.TB, w *World) {
	var made []ident.Device
	for i := range 7 {
		made = append(made, w.device(t, w.A, ident.Node{1}, fmt.Sprint(i)).ID)
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		var got []ident.Device
		q := store.Query{Reach: access.Everywhere, Limit: 3}
		for n := 0; ; n++ {
			page, err := r.Devices().List(ctx, q)
			if err != nil {
				return err
			}
			if len(page.Items) > 3 || n > 4 {
				t.Fatalf("page %d has %d records", n, len(page.Items))
			}
			for _, d := range page.Items {
				got = append(got, d.ID)
			}
			if page.Next == "" {
				break
			}
			q.After = page.Next
		}
		if len(got) != len(made) {
			t.Fatalf("%d records over the pages, want %d", len(got), len(made))
		}
		for i := range got {
			if got[i] != made[len(made)-1-i] {
				t.Fatalf("record %d is not the newest left", i)
			}
		}
		return nil
	})
}

func reach(t testing.TB, w *World) {
	here, there := ident.Node{1}, ident.Node{2}
	d := w.device(t, w.A, here, "here")
	w.device(t, w.A, there, "there")
	up := w.uplink(0, "x")
	up.Node = there
	w.accept(t, w.A, up)
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		page, err := r.Devices().List(ctx, store.Query{Reach: access.Reach{Nodes: []ident.Node{here}}})
		if err != nil || len(page.Items) != 1 || page.Items[0].ID != d.ID {
			t.Errorf("devices within reach: %d, %v", len(page.Items), err)
		}
		page, err = r.Devices().Find(ctx, store.Query{Reach: access.Reach{Nodes: []ident.Node{here}}}, store.DeviceFilter{Nodes: []ident.Node{there}})
		if err != nil || len(page.Items) != 0 {
			t.Errorf("a filter reached beyond the reach: %d, %v", len(page.Items), err)
		}
		none, err := r.Devices().List(ctx, store.Query{})
		if err != nil || len(none.Items) != 0 {
			t.Errorf("the empty reach answered %d devices, %v", len(none.Items), err)
		}
		ups, err := r.Uplinks().List(ctx, store.Query{Reach: access.Reach{Nodes: []ident.Node{here}}})
		if err != nil || len(ups.Items) != 0 {
			t.Errorf("uplinks beyond reach: %d, %v", len(ups.Items), err)
		}
		return nil
	})
}

func cursor(t testing.TB, w *World) {
	w.device(t, w.A, ident.Node{1}, "x")
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for _, forged := range []string{"x", "zz", "' OR 1=1 --", "0"} {
			q := store.Query{Reach: access.Everywhere, After: forged}
			_, err := r.Devices().List(ctx, q)
			wantIs(t, err, store.ErrCursor, "devices after "+forged)
			_, err = r.Readings().Find(ctx, q, store.ReadingFilter{})
			wantIs(t, err, store.ErrCursor, "readings after "+forged)
			_, err = r.Uplinks().List(ctx, q)
			wantIs(t, err, store.ErrCursor, "uplinks after "+forged)
		}
		return nil
	})
}

func assignments(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	first := w.now
	w.now = w.now.Add(time.Hour)
	d.Node, d.UpdatedAt = ident.Node{2}, w.now
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { _, err := wr.Devices().Put(ctx, d); return err })
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for _, c := range []struct {
			at   time.Time
			want ident.Node
		}{{first, ident.Node{1}}, {first.Add(59 * time.Minute), ident.Node{1}}, {w.now, ident.Node{2}}} {
			if got, err := r.Devices().AssignedAt(ctx, d.ID, c.at); err != nil || got != c.want {
				t.Errorf("at %v the device stood on %v, %v; want %v", c.at, got, err, c.want)
			}
		}
		_, err := r.Devices().AssignedAt(ctx, d.ID, first.Add(-time.Second))
		wantKind(t, err, fault.NotFound, "before its first assignment")
		return nil
	})
}

func tombstones(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	d.DeletedAt, d.UpdatedAt = w.now, w.now
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { _, err := wr.Devices().Put(ctx, d); return err })
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		if got, err := r.Devices().Get(ctx, d.ID); err != nil || got.DeletedAt.IsZero() {
			t.Errorf("a tombstone by its id: %v, %v", got, err)
		}
		page, err := r.Devices().List(ctx, store.Query{Reach: access.Everywhere})
		if err != nil || len(page.Items) != 0 {
			t.Errorf("a tombstone is listed: %v", err)
		}
		_, err = r.Devices().ByAddress(ctx, d.Addresses[0])
		wantKind(t, err, fault.NotFound, "a tombstone by its address")
		return nil
	})
	w.device(t, w.A, ident.Node{1}, "x")
}

func duplicate(t testing.TB, w *World) {
	first := w.uplink(1, "p")
	w.accept(t, w.A, first)
	vs := w.accept(t, w.A, w.uplink(1, "p"), w.uplink(0, "p"))
	if !vs[0].Duplicate || vs[0].ID != first.ID || vs[0].Conflict || vs[1].Duplicate {
		t.Errorf("verdicts %+v", vs)
	}
	if other := w.accept(t, w.B, w.uplink(1, "p")); other[0].Duplicate {
		t.Error("another tenant's key made a duplicate")
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		n, err := r.Uplinks().Backlog(ctx)
		if n != 2 {
			t.Errorf("%d uplinks are kept, want 2", n)
		}
		return err
	})
}

func conflict(t testing.TB, w *World) {
	w.accept(t, w.A, w.uplink(1, "p"))
	second := w.uplink(1, "q")
	vs := w.accept(t, w.A, second)
	if !vs[0].Conflict || vs[0].Duplicate || vs[0].ID != second.ID {
		t.Errorf("verdict %+v", vs[0])
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		page, err := r.Uplinks().Find(ctx, store.Query{Reach: access.Everywhere}, store.UplinkFilter{State: uplink.Quarantined})
		if len(page.Items) != 1 || page.Items[0].Reason != uplink.DedupeConflict {
			t.Errorf("quarantine: %+v", page.Items)
		}
		return err
	})
}

func window(t testing.TB, w *World) {
	w.accept(t, w.A, w.uplink(1, "p"))
	w.now = w.now.Add(store.DedupeWindow - time.Second)
	if vs := w.accept(t, w.A, w.uplink(1, "p")); !vs[0].Duplicate {
		t.Error("within the window it was no duplicate")
	}
	w.now = w.now.Add(time.Second)
	if vs := w.accept(t, w.A, w.uplink(1, "p")); vs[0].Duplicate {
		t.Error("after the window it was a duplicate")
	}
}

func due(t testing.TB, w *World) {
	first, second, later := w.uplink(0, "1"), w.uplink(0, "2"), w.uplink(0, "3")
	second.ArrivedAt = first.ArrivedAt.Add(time.Second)
	later.NotBefore = w.now.Add(time.Minute)
	later.ArrivedAt = first.ArrivedAt.Add(-time.Second)
	w.accept(t, w.A, second, later, first)
	check := func(at time.Time, want ...ident.Uplink) {
		t.Helper()
		w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
			got, err := r.Uplinks().Due(ctx, at, 10)
			if err != nil || len(got) != len(want) {
				t.Errorf("%d are due, %v; want %d", len(got), err, len(want))
				return nil
			}
			for i := range got {
				if got[i].ID != want[i] {
					t.Errorf("due %d is another", i)
				}
			}
			return nil
		})
	}
	check(w.now, first.ID, second.ID)
	check(w.now.Add(time.Minute), later.ID, first.ID, second.ID)
}

// read makes a reading of a new uplink at a time.
func (w *World) read(t testing.TB, d device.Device, at time.Time) ident.Reading {
	t.Helper()
	u := w.uplink(0, "p")
	w.accept(t, w.A, u)
	u.Rev, u.State, u.Device, u.ReceivedAt = 1, uplink.Processed, d.ID, at
	r := uplink.Reading{Uplink: u.ID, Device: d.ID, Node: d.Node, At: at, HasFCnt: at.After(w.now), Data: []byte(`{"n":1}`)}
	set(w, &r.ID)
	o := uplink.Outcome{Uplink: u.ID, Device: d.ID, Node: d.Node, Category: decoder.Success, At: w.now, Fuel: 7}
	set(w, &o.ID)
	w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error {
		return f.Finish(ctx, store.Finished{Uplink: u, Reading: &r, Outcome: &o})
	})
	return r.ID
}

func latest(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	w.read(t, d, w.now.Add(time.Minute))
	newest := w.read(t, d, w.now.Add(2*time.Minute))
	w.read(t, d, w.now) // late
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for _, within := range []access.Reach{access.Everywhere, {Nodes: []ident.Node{{1}}}} {
			got, err := r.Readings().Latest(ctx, d.ID, within)
			if err != nil || got.ID != newest {
				t.Errorf("latest: %v, %v", got.At, err)
			}
		}
		_, err := r.Readings().Latest(ctx, d.ID, access.Reach{Nodes: []ident.Node{{2}}})
		wantKind(t, err, fault.NotFound, "the latest beyond reach")
		page, err := r.Readings().Find(ctx, store.Query{Reach: access.Everywhere, Limit: 2}, store.ReadingFilter{Device: d.ID})
		if err != nil || len(page.Items) != 2 || page.Items[0].ID != newest || page.Next == "" || string(page.Items[0].Data) != `{"n":1}` || !page.Items[0].HasFCnt {
			t.Errorf("first page: %+v, %v", page, err)
		}
		page, err = r.Readings().Find(ctx, store.Query{Reach: access.Everywhere, Limit: 2, After: page.Next}, store.ReadingFilter{Device: d.ID})
		if err != nil || len(page.Items) != 1 || !page.Items[0].At.Equal(w.now) || page.Items[0].HasFCnt {
			t.Errorf("second page: %+v, %v", page, err)
		}
		outs, err := r.Outcomes().Find(ctx, store.Query{Reach: access.Everywhere}, store.OutcomeFilter{Device: d.ID, Category: decoder.Success})
		if err != nil || len(outs.Items) != 3 || outs.Items[0].Fuel != 7 {
			t.Errorf("outcomes: %d, %v", len(outs.Items), err)
		}
		seen, err := r.Devices().Get(ctx, d.ID)
		if err != nil || !seen.LastSeen.Equal(w.now.Add(2*time.Minute)) || seen.Rev != d.Rev {
			t.Errorf("last seen %v at revision %d, %v", seen.LastSeen, seen.Rev, err)
		}
		return nil
	})
}

func finish(t testing.TB, w *World) {
	u := w.uplink(0, "p")
	w.accept(t, w.A, u)
	u.Rev, u.State = 1, uplink.Failed
	w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error { return f.Finish(ctx, store.Finished{Uplink: u}) })
	err := w.Store.Ingest(w.ctx, w.A, func(ctx context.Context, f store.Flow) error { return f.Finish(ctx, store.Finished{Uplink: u}) })
	wantIs(t, err, store.ErrRevision, "finishing it twice")
	err = w.Store.Ingest(w.ctx, w.B, func(ctx context.Context, f store.Flow) error { return f.Finish(ctx, store.Finished{Uplink: u}) })
	wantKind(t, err, fault.NotFound, "finishing another tenant's")
}

func folds(t testing.TB, w *World) {
	f := store.Fold{Kind: "quarantine", Key: "k", Bucket: w.now, Until: w.now.Add(time.Hour)}
	w.ingest(t, w.A, func(ctx context.Context, fl store.Flow) error {
		return errors.Join(fl.Fold(ctx, f, 2), fl.Fold(ctx, f, 3))
	})
	read := func(at time.Time) (got []store.Fold) {
		w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
			var err error
			got, err = r.Folds(ctx, at, 10)
			return err
		})
		return got
	}
	if got := read(w.now); len(got) != 0 {
		t.Error("a counter was due before its bucket had ended")
	}
	got := read(f.Until)
	if len(got) != 1 || got[0].Count != 5 || got[0].Key != "k" {
		t.Fatalf("counters %+v, want one of 5", got)
	}
	w.ingest(t, w.A, func(ctx context.Context, fl store.Flow) error { return fl.Fold(ctx, f, 1) })
	wantIs(t, w.try(w.A, func(ctx context.Context, wr store.Writer) error { return wr.DropFolds(ctx, got) }), store.ErrRevision, "dropping a counter that grew")
	grown := read(f.Until)
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { return wr.DropFolds(ctx, grown) })
	if got := read(f.Until); len(got) != 0 {
		t.Errorf("%d counters are left", len(got))
	}
}

func checkpoints(t testing.TB, w *World) {
	keep := func(size uint64) error {
		return w.Store.Ingest(w.ctx, w.A, func(ctx context.Context, f store.Flow) error {
			return f.Checkpoint(ctx, audit.StoredCheckpoint{Size: size, Note: []byte("note")})
		})
	}
	for _, size := range []uint64{1, 5} {
		if err := keep(size); err != nil {
			t.Fatalf("checkpoint of size %d: %v", size, err)
		}
	}
	for _, size := range []uint64{5, 3} {
		wantKind(t, keep(size), fault.Conflict, fmt.Sprintf("checkpoint of size %d after 5", size))
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		got, err := r.Audit().Checkpoints(ctx, 1, 10)
		if len(got) != 1 || got[0].Size != 5 || string(got[0].Note) != "note" {
			t.Errorf("checkpoints after 1: %+v", got)
		}
		return err
	})
	const callers = 16 // who all signed the same head
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = keep(8) })
	}
	wg.Wait()
	kept := 0
	for _, err := range errs {
		if err == nil {
			kept++
		} else {
			wantKind(t, err, fault.Conflict, "one checkpoint by many at once")
		}
	}
	if kept != 1 {
		t.Errorf("%d of %d kept one checkpoint", kept, callers)
	}
}

func across(t testing.TB, w *World) {
	write := func(fail error) error {
		pe, te := w.event("p"), w.event("t")
		return w.Store.Across(w.ctx, w.Platform, w.A, func(ctx context.Context, p, tw store.Writer) ([]audit.Event, []audit.Event, error) {
			if _, err := p.Roles().Put(ctx, access.Role{ID: ident.Role{7}, Name: "p"}); err != nil {
				return nil, nil, err
			}
			if _, err := tw.Roles().Put(ctx, access.Role{ID: ident.Role{7}, Name: "t"}); err != nil {
				return nil, nil, err
			}
			return []audit.Event{pe}, []audit.Event{te}, fail
		})
	}
	mine := errors.New("mine")
	wantIs(t, write(mine), mine, "a failing Across")
	w.leftNothing(t)
	if err := write(nil); err != nil {
		t.Fatal(err)
	}
	for _, s := range []access.Scope{w.Platform, w.A} {
		w.view(t, s, func(ctx context.Context, r store.Reader) error {
			head, err := r.Audit().Head(ctx)
			if head.Size != 1 {
				t.Errorf("a tree has %d entries", head.Size)
			}
			return err
		})
	}
	err := w.Store.Across(w.ctx, w.Platform, w.A, func(context.Context, store.Writer, store.Writer) ([]audit.Event, []audit.Event, error) {
		return []audit.Event{w.event("x")}, nil, nil
	})
	wantIs(t, err, store.ErrUnaudited, "an event in one tree alone")
}

func directoryCheck(t testing.TB, w *World) {
	dir := w.Store.Directory()
	_, err := dir.Locate(w.ctx, "nobody")
	wantKind(t, err, fault.NotFound, "an accessor that nobody has")
	k := credential.IngestionKey{Source: ident.Source{1}, Stored: credential.Stored{Accessor: "acc", CreatedAt: w.now, UpdatedAt: w.now}}
	set(w, &k.ID)
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { _, err := wr.Keys().Put(ctx, k); return err })
	if at, err := dir.Locate(w.ctx, "acc"); err != nil || at.Tenant != w.A.Tenant() || at.Row != [16]byte(k.ID) || at.Kind != credential.KindIngestion {
		t.Errorf("located %+v, %v", at, err)
	}
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { return wr.Keys().Delete(ctx, k.ID, 1) })
	_, err = dir.Locate(w.ctx, "acc")
	wantKind(t, err, fault.NotFound, "the accessor of a deleted key")

	later := w.uplink(0, "b")
	later.NotBefore = w.now.Add(time.Minute)
	w.accept(t, w.B, later)
	w.accept(t, w.A, w.uplink(0, "a"))
	waiting, err := dir.Waiting(w.ctx, w.now, 10)
	if err != nil || len(waiting) != 1 || waiting[0].Tenant != w.A.Tenant() || !waiting[0].Oldest.Equal(w.now) {
		t.Errorf("waiting %+v, %v", waiting, err)
	}
	if waiting, err = dir.Waiting(w.ctx, w.now.Add(time.Minute), 10); err != nil || len(waiting) != 2 {
		t.Errorf("a minute later %d wait, %v", len(waiting), err)
	}
	tenants, err := dir.Tenants(w.ctx, ident.Tenant{}, 10)
	if err != nil || len(tenants) != 1 || tenants[0] != w.A.Tenant() {
		t.Errorf("tenants with a log: %v, %v", tenants, err)
	}
}

// many64 lets 64 callers write at the same time, of whom one in eight fails in one of three ways: every other's work is
// whole, and nothing of a failed one is there.
func many64(t testing.TB, w *World) {
	const callers, each = 64, 6
	mine := errors.New("mine")
	var mu sync.Mutex
	good := map[ident.Role]bool{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range each {
				id := ident.Role{byte(c + 1), byte(n + 1), 1}
				bad := (c*each+n)%8 == 0
				ctx, cancel := context.WithCancel(w.ctx)
				ev := audit.Event{ID: ident.Entry{byte(c + 1), byte(n + 1)}, Action: audit.RoleCreated, Target: audit.Target{Kind: "role"}, Outcome: audit.OK}
				err := w.Store.Change(ctx, w.A, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
					if _, err := wr.Roles().Put(ctx, access.Role{ID: id, Name: id.String()}); err != nil {
						return nil, err
					}
					if bad {
						switch n % 3 {
						case 0:
							return nil, mine
						case 1:
							panic("mine")
						case 2:
							cancel()
						}
					}
					return []audit.Event{ev}, nil
				})
				cancel()
				if bad == (err == nil) {
					t.Errorf("caller %d, change %d: %v", c, n, err)
				}
				mu.Lock()
				good[id] = !bad
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		want := uint64(0)
		for id, ok := range good {
			_, err := r.Roles().Get(ctx, id)
			if ok != (err == nil) {
				t.Errorf("role %v: %v, written: %v", id, err, ok)
			}
			if ok {
				want++
			}
		}
		head, err := r.Audit().Head(ctx)
		if head.Size != want {
			t.Errorf("%d entries for %d changes", head.Size, want)
		}
		n, err2 := r.Roles().Count(ctx)
		if uint64(n) != want { //nolint:gosec // small
			t.Errorf("%d roles are counted after %d changes", n, want)
		}
		return errors.Join(err, err2)
	})
}

func immutable(t testing.TB, w *World) {
	v := decoder.Version{Decoder: ident.Decoder{1}, Number: 1, Source: "x"}
	set(w, &v.ID)
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { _, err := wr.Versions().Put(ctx, v); return err })
	v.Rev, v.Source = 1, "y"
	wantKind(t, w.try(w.A, func(ctx context.Context, wr store.Writer) error { _, err := wr.Versions().Put(ctx, v); return err }), fault.Conflict, "changing a version")
}

func closed(t testing.TB, w *World) {
	if err := w.Store.Close(); err != nil {
		t.Fatal(err)
	}
	wantIs(t, w.Store.View(w.ctx, w.A, func(context.Context, store.Reader) error { return nil }), store.ErrClosed, "View")
	wantIs(t, w.try(w.A, func(context.Context, store.Writer) error { return nil }), store.ErrClosed, "Change")
}
