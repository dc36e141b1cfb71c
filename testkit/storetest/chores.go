package storetest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// chores are the tenants that jobs are told of at a moment, in pages of one.
func (w *World) chores(t testing.TB, now time.Time) (ids []ident.Tenant) {
	t.Helper()
	for after := (store.Waiting{}); ; {
		page, err := w.Store.Directory().Chores(w.ctx, now, after, 1)
		if err != nil || len(page) > 1 {
			t.Fatalf("chores: %v, %v", page, err)
		}
		if len(page) == 0 {
			return ids
		}
		if after = page[0]; len(ids) > 0 && after.Tenant == ids[len(ids)-1] || after.Oldest.After(now) {
			t.Fatalf("chores at %v: %+v", now, after)
		}
		ids = append(ids, after.Tenant)
	}
}

func (w *World) rest(t testing.TB, s access.Scope) {
	t.Helper()
	w.ingest(t, s, func(ctx context.Context, f store.Flow) error { return f.Rest(ctx) })
}

// checked makes a checkpoint of a tenant's tree as it is.
func (w *World) checked(t testing.TB, s access.Scope) {
	t.Helper()
	var head audit.Head
	w.view(t, s, func(ctx context.Context, r store.Reader) (err error) {
		head, err = r.Audit().Head(ctx)
		return err
	})
	w.ingest(t, s, func(ctx context.Context, f store.Flow) error {
		return f.Checkpoint(ctx, audit.StoredCheckpoint{Size: head.Size, Note: []byte("note")})
	})
}

func chores(t testing.TB, w *World) {
	a, b := w.A.Tenant(), w.B.Tenant()
	is := func(what string, at time.Time, want ...ident.Tenant) {
		t.Helper()
		if got := w.chores(t, at); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	// between is when something is due and not a moment before.
	between := func(what string, due time.Time, before, then []ident.Tenant) {
		t.Helper()
		is("before "+what, due.Add(-time.Microsecond), before...)
		is(what, due, then...)
	}
	never := w.now.Add(10 * 365 * 24 * time.Hour)
	none, first, second, both := []ident.Tenant{}, []ident.Tenant{a}, []ident.Tenant{b}, []ident.Tenant{a, b}
	is("of nobody", never)
	write := func(s access.Scope) {
		t.Helper()
		w.change(t, s, func(context.Context, store.Writer) error { return nil })
	}
	write(w.A)
	write(w.B)
	is("trees that grew", w.now, both...)
	w.rest(t, w.A)
	is("a tree that is larger than its last checkpoint", w.now, both...)
	for _, s := range []access.Scope{w.A, w.B} {
		w.checked(t, s)
		w.rest(t, s)
	}
	is("with all done", never)

	hour := w.now.Add(time.Hour)
	counted := store.Fold{Kind: "refusal", Key: "k", Node: ident.Node{1}, Bucket: w.now, Until: hour}
	w.ingest(t, w.B, func(ctx context.Context, f store.Flow) error { return f.Fold(ctx, counted, 1) })
	between("a counter that is over", hour, none, second)
	w.accept(t, w.A, w.uplink(1, "p"))
	key := w.now.Add(store.DedupeWindow)
	between("a key that is over", key, second, []ident.Tenant{b, a})
	w.rest(t, w.A)
	w.rest(t, w.B)
	between("a counter that is over, after a rest", hour, none, second)
	between("a key that is over, after a rest", key, second, []ident.Tenant{b, a})

	w.change(t, w.B, func(ctx context.Context, wr store.Writer) error {
		folds, err := wr.Read().Folds(ctx, hour, 1)
		if err == nil {
			err = wr.DropFolds(ctx, folds)
		}
		return err
	})
	is("after a change", w.now, second...)
	w.checked(t, w.B)
	w.rest(t, w.B)
	between("a key that is over, alone", key, none, first)
	w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error {
		_, err := f.Expire(ctx, key, 100)
		return err
	})
	w.rest(t, w.A)
	is("with all gone", never)

	quarantined := w.held(2, "p")
	quarantined.Uplink.ArrivedAt = w.now.Add(time.Minute)
	w.batch(t, w.A, quarantined)
	w.batch(t, w.B, w.row(ident.Device{}, 3, "p"))
	between("what a batch counted", store.QuarantineFold(quarantined.Uplink, quarantined.Uplink.Reason).Until, none, first)
	between("a key of a batch", key, first, both)

	over := w.now.Add(30 * time.Minute)
	w.mortals(t, over)
	w.checked(t, w.A)
	w.rest(t, w.A)
	between("a record that is over", over, none, first)
}

// choresRace writes what is due before all that was, while jobs rest.
func choresRace(t testing.TB, w *World) {
	w.change(t, w.A, func(context.Context, store.Writer) error { return nil })
	w.checked(t, w.A)
	w.rest(t, w.A)
	due := w.now.Add(1000 * time.Hour)
	for n := range 60 {
		due = due.Add(-time.Hour)
		var wg sync.WaitGroup
		wg.Go(func() { w.rest(t, w.A) })
		wg.Go(func() {
			switch at := due.Add(-store.DedupeWindow); n % 3 {
			case 0:
				fold := store.Fold{Kind: "refusal", Key: "k", Node: ident.Node{1}, Bucket: at, Until: due}
				w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error { return f.Fold(ctx, fold, 1) })
			case 1:
				u := w.uplink(byte(n+1), "p")
				u.ArrivedAt = at
				w.accept(t, w.A, u)
			default:
				f := w.row(ident.Device{}, byte(n+1), "p")
				f.Uplink.ArrivedAt = at
				w.batch(t, w.A, f)
			}
		})
		wg.Wait()
		if got := w.chores(t, due); len(got) != 1 {
			t.Fatalf("turn %d: %v", n, got)
		}
	}
}
