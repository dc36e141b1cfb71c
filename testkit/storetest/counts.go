package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// counts adds, changes, buries, removes and fails to add, and compares what Count answers with the list each time.
func counts(t testing.TB, w *World) {
	is := func(s access.Scope, devices, roles int, when string) {
		t.Helper()
		w.view(t, s, func(ctx context.Context, r store.Reader) error {
			nd, err := r.Devices().Count(ctx)
			nr, err2 := r.Roles().Count(ctx)
			ld, err3 := r.Devices().List(ctx, store.Query{Reach: access.Everywhere})
			lr, err4 := r.Roles().List(ctx, store.Query{Reach: access.Everywhere})
			if nd != devices || nr != roles || len(ld.Items) != nd || len(lr.Items) != nr {
				t.Errorf("%s: %d devices and %d roles are counted, %d and %d listed, want %d and %d", when, nd, nr, len(ld.Items), len(lr.Items), devices, roles)
			}
			return errors.Join(err, err2, err3, err4)
		})
	}
	is(w.A, 0, 0, "at first")
	first, second := w.device(t, w.A, ident.Node{1}, "1"), w.device(t, w.A, ident.Node{1}, "2")
	w.device(t, w.B, ident.Node{1}, "1")
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { _, err := w.tryRole(ctx, wr); return err })
	is(w.A, 2, 1, "two were made")
	is(w.B, 1, 0, "in another tenant")
	put := func(d *device.Device) func(context.Context, store.Writer) error {
		return func(ctx context.Context, wr store.Writer) (err error) {
			*d, err = wr.Devices().Put(ctx, *d)
			return err
		}
	}
	first.Name = "renamed"
	w.change(t, w.A, put(&first))
	is(w.A, 2, 1, "one was renamed")
	first.DeletedAt = w.now.Add(time.Minute)
	w.change(t, w.A, put(&first))
	is(w.A, 1, 1, "one was buried")
	first.Name = "a tombstone"
	w.change(t, w.A, put(&first))
	is(w.A, 1, 1, "its tombstone was written on")
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error {
		return errors.Join(wr.Devices().Delete(ctx, first.ID, first.Rev), wr.Devices().Delete(ctx, second.ID, second.Rev), wr.Roles().Delete(ctx, ident.Role{7}, 1))
	})
	is(w.A, 0, 0, "all were removed")
	if err := w.try(w.A, func(ctx context.Context, wr store.Writer) error {
		_, err := w.tryRole(ctx, wr)
		return errors.Join(err, errors.New("mine"))
	}); err == nil {
		t.Error("a change that fails succeeded")
	}
	is(w.A, 0, 0, "one was not made after all")
	is(w.B, 1, 0, "in another tenant still")
}

// founded is who has a tree after many first changes at once, of which every second one's caller went away.
func founded(t testing.TB, w *World) {
	var want []ident.Tenant
	var wg sync.WaitGroup
	for n := range 64 {
		id, bad := ident.Tenant{0x40, byte(n)}, n%2 == 1
		if !bad {
			want = append(want, id)
		}
		ev, s := w.event("founded"), w.Scope(id, 0)
		wg.Go(func() {
			ctx, cancel := context.WithCancel(w.ctx)
			defer cancel()
			err := w.Store.Change(ctx, s, func(context.Context, store.Writer) ([]audit.Event, error) {
				if bad {
					cancel()
				}
				return []audit.Event{ev}, nil
			})
			if bad == (err == nil) {
				t.Errorf("tenant %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	got, err := w.Store.Directory().Tenants(w.ctx, ident.Tenant{}, 1000)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d tenants have a tree, want %d: %v", len(got), len(want), err)
	}
}
