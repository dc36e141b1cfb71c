package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// tallied counts one key up by many callers at once, who each read the count that they set.
func tallied(t testing.TB, w *World) {
	const callers, each = 16, 8
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if err := w.Store.Ingest(w.ctx, w.A, func(ctx context.Context, f store.Flow) error {
					seen, err := f.Read().Failures(ctx, "key")
					if err != nil {
						return err
					}
					return f.SetFailures(ctx, principal.Failure{Key: "key", Count: seen.Count + 1, Last: w.now})
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		f, err := r.Failures(ctx, "key")
		if f.Count != callers*each {
			t.Errorf("%d counts, want %d", f.Count, callers*each)
		}
		return err
	})
}

// stored reads an uplink.
func (w *World) stored(t testing.TB, u uplink.Uplink) uplink.Uplink {
	t.Helper()
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		var err error
		u, err = r.Uplinks().Get(ctx, u.ID)
		return err
	})
	return u
}

func settled(t testing.TB, w *World) {
	u := w.uplink(0, "p")
	u.State, u.Reason = uplink.Quarantined, uplink.UnknownDevice
	w.accept(t, w.A, u)
	if got := w.stored(t, u); !got.ReleasedAt.IsZero() || got.State != uplink.Quarantined {
		t.Errorf("before anybody released it: %s, released at %v", got.State, got.ReleasedAt)
	}
	at := w.now.Add(time.Hour + time.Microsecond)
	u.Rev, u.State, u.Reason, u.ReleasedAt = 1, uplink.Accepted, "", at
	settle := func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Settle(ctx, u)
		return err
	}
	wantKind(t, w.try(w.B, settle), fault.NotFound, "settling another tenant's")
	w.change(t, w.A, settle)
	wantIs(t, w.try(w.A, settle), store.ErrRevision, "settling it twice")
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		due, err := r.Uplinks().Due(ctx, w.now, 10)
		if err != nil || len(due) != 1 || !due[0].ReleasedAt.Equal(at) || due[0].Reason != "" || due[0].Rev != 2 {
			t.Errorf("released at %v, due: %+v, %v", at, due, err)
		}
		return nil
	})
	u = w.stored(t, u)
	u.State = uplink.Failed
	w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error { return f.Finish(ctx, store.Finished{Uplink: u}) })
	if got := w.stored(t, u); !got.ReleasedAt.Equal(at) || got.State != uplink.Failed {
		t.Errorf("when it is finished: %s, released at %v, want %v", got.State, got.ReleasedAt, at)
	}
}

func lifeless(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	u := w.uplink(0, "p")
	w.accept(t, w.A, u)
	u.Rev, u.State, u.Reason, u.Device = 1, uplink.Quarantined, uplink.OutsideSource, d.ID
	w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error { return f.Finish(ctx, store.Finished{Uplink: u}) })
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		page, err := r.Uplinks().Find(ctx, store.Query{Reach: access.Everywhere}, store.UplinkFilter{State: uplink.Quarantined, Device: d.ID})
		if err != nil || len(page.Items) != 1 || page.Items[0].Node != u.Node {
			t.Errorf("of the device: %+v, %v", page, err)
		}
		if seen, err := r.Devices().Get(ctx, d.ID); err != nil || !seen.LastSeen.IsZero() {
			t.Errorf("last seen %v, %v", seen.LastSeen, err)
		}
		return nil
	})
}

func hastened(t testing.TB, w *World) {
	until := w.now.Add(time.Minute + time.Microsecond)
	var us []uplink.Uplink
	for _, at := range []time.Time{until, until, until, until.Add(time.Microsecond), until} {
		u := w.uplink(0, "p")
		u.NotBefore = at
		us = append(us, u)
	}
	us[4].State = uplink.Quarantined // waits for nothing
	w.accept(t, w.A, us...)
	hasten := func(limit int) (n int) {
		w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error {
			var err error
			n, err = f.Hasten(ctx, until, limit)
			return err
		})
		return n
	}
	w.ingest(t, w.B, func(ctx context.Context, f store.Flow) error {
		if n, err := f.Hasten(ctx, until, 10); n != 0 || err != nil {
			t.Errorf("another tenant hastened %d, %v", n, err)
		}
		return nil
	})
	for _, want := range []int{2, 1, 0} {
		if n := hasten(2); n != want {
			t.Errorf("hastened %d, want %d", n, want)
		}
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		due, err := r.Uplinks().Due(ctx, w.now, 10)
		if err != nil || len(due) != 3 {
			t.Errorf("%d are due, %v; want 3", len(due), err)
		}
		for _, u := range due {
			if u.Rev != 2 || !u.NotBefore.IsZero() {
				t.Errorf("at revision %d it waits until %v", u.Rev, u.NotBefore)
			}
		}
		return nil
	})
	if got := w.stored(t, us[4]); got.Rev != 1 || !got.NotBefore.Equal(until) {
		t.Error("one that is not accepted was changed")
	}
}
