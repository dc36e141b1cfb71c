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
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// overs tries to write what was decided from what is still so, and from what is not.
func (w *World) overs(t testing.TB, h *home, try func(what string, seen store.Seen, stale bool)) {
	t.Helper()
	for n := range homeKinds {
		seen, _ := w.seenOf(t, w.A, *h)
		try(fmt.Sprintf("what is as it was (%d)", n), seen, false)
		w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { return h.put(ctx, wr, n) })
		try(fmt.Sprintf("a record of kind %d that was changed", n), seen, true)
	}
	seen, _ := w.seenOf(t, w.A, *h)
	gone := seen
	gone.Devices = map[ident.Device]uint64{h.device.ID: 0}
	try("a device that was not there, and is", gone, true)
	gone.Devices = map[ident.Device]uint64{{9}: 1}
	try("a device that was there, and is not", gone, true)
	gone.Devices = map[ident.Device]uint64{{9}: 0}
	try("a device that was not there, and is not", gone, false)
	gone.Unknown = []device.Address{{Kind: device.Serial, Value: "b"}, {Kind: device.DevEUI, Value: "a"}}
	try("addresses that nobody has", gone, false)
	gone.Unknown = append(gone.Unknown, h.device.Addresses[0])
	try("an address that was nobody's, and is a device's", gone, true)
	h.device.DeletedAt = w.now.Add(time.Minute)
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { return h.put(ctx, wr, 3) })
	try("an address whose device is buried", gone, false)
	gone.Revision++
	try("a revision that is not there yet", gone, true)
	try("nothing", store.Seen{}, true)
}

// finished accepts an uplink and writes what became of it, rechecked.
func (w *World) finished(seen store.Seen, row store.Finished) error {
	return w.Store.Ingest(w.ctx, w.A, func(ctx context.Context, f store.Flow) error {
		if err := f.Recheck(ctx, seen); err != nil {
			return err
		}
		u := row.Uplink
		u.State = uplink.Accepted
		_, err := f.Accept(ctx, []uplink.Uplink{u})
		row.Uplink.Rev = 1
		return errors.Join(err, f.Finish(ctx, row))
	})
}

func recheckStale(t testing.TB, w *World) {
	h, written := w.home(t, w.A), 0
	try := func(what string, seen store.Seen, stale bool) {
		t.Helper()
		err := w.finished(seen, w.row(h.device.ID, 0, "p"))
		if stale {
			wantIs(t, err, store.ErrStale, what)
		} else if written++; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		w.trace(t, w.A).is(t, what, written, written, written, 0)
	}
	looked := func() store.Seen {
		seen, _ := w.seenOf(t, w.A, h)
		w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
			head, err := r.Audit().Head(ctx)
			seen.Entries = head.Size
			return err
		})
		return seen
	}
	for n := range homeKinds {
		seen := looked()
		try(fmt.Sprintf("what is as it was, its log too (%d)", n), seen, false)
		w.device(t, w.A, h.node.ID, fmt.Sprint("another ", n))
		try("what is as it was, after a change of something else", seen, false)
		seen = looked()
		w.change(t, w.A, func(ctx context.Context, wr store.Writer) error { return h.put(ctx, wr, n) })
		try(fmt.Sprintf("a record of kind %d that was changed, as the log shows", n), seen, true)
	}
	w.overs(t, &h, try)
}

func recheckRace(t testing.TB, w *World) {
	w.race(t, func(n int, seen store.Seen, row store.Finished) error {
		if n%2 == 0 { // who has not looked at the log
			seen.Entries = 0
		}
		if err := w.finished(seen, row); !errors.Is(err, store.ErrBusy) {
			return err
		}
		return nil
	})
}

// recheckFree rechecks while a tenant is being changed. If another's is meanwhile, so that it could be, whose is being changed is told
// so at once.
func recheckFree(t testing.TB, w *World) {
	recheck := func(s access.Scope) chan error {
		seen, done := w.seen(t, s), make(chan error, 1)
		go func() {
			done <- w.Store.Ingest(w.ctx, s, func(ctx context.Context, f store.Flow) error { return f.Recheck(ctx, seen) })
		}()
		return done
	}
	wantIs(t, <-recheck(w.A), nil, "before the change")
	end, changed := w.changing()
	defer end()
	free, busy := recheck(w.B), recheck(w.A)
	select {
	case err := <-free:
		wantIs(t, err, nil, "another tenant's")
		select {
		case err := <-busy:
			wantIs(t, err, store.ErrBusy, "of a tenant that is being changed")
		case <-time.After(atOnce):
			t.Error("it waits for a change")
		}
		end()
	case <-time.After(meanwhile): // nothing can be written meanwhile
		end()
		wantIs(t, <-free, nil, "another tenant's")
		if err := <-busy; err != nil && !errors.Is(err, store.ErrStale) && !errors.Is(err, store.ErrBusy) { // a free one may have been slow
			t.Errorf("after the change: %v", err)
		}
	}
	wantIs(t, <-changed, nil, "the change")
	wantIs(t, <-recheck(w.A), nil, "after the change")
}

// race changes what rows are decided from, a thousand times, while some are written: what is counted of a state's readings when the
// Change that replaced it has returned is all that there ever is of it. A reading's time says what it was decided from.
func (w *World) race(t testing.TB, write func(n int, seen store.Seen, row store.Finished) error) {
	t.Helper()
	const tries, writers = 1_000, 3
	h := w.home(t, w.A)
	_, begun := w.seenOf(t, w.A, h)
	moment := func(times uint64) time.Time { return w.now.Add(time.Duration(times) * time.Second) } //nolint:gosec // thousands
	of := func(times uint64) (n int) {
		w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
			page, err := r.Readings().Find(ctx, store.Query{Reach: access.Everywhere}, store.ReadingFilter{From: moment(times), To: moment(times + 1)})
			n = len(page.Items)
			return err
		})
		return n
	}
	var ids sync.Mutex
	row := func(times uint64) (f store.Finished) {
		ids.Lock()
		f = w.row(h.device.ID, 0, "p")
		ids.Unlock()
		f.Uplink.ReceivedAt, f.Reading.At = moment(times), moment(times)
		return f
	}
	try := func(n int) error {
		var seen store.Seen
		var times uint64
		if err := w.Store.View(w.ctx, w.A, func(ctx context.Context, r store.Reader) (err error) {
			if seen, times, err = h.seen(ctx, r); err != nil {
				return err
			}
			head, err := r.Audit().Head(ctx)
			seen.Entries = head.Size
			return err
		}); err != nil {
			return err
		}
		if err := write(n, seen, row(times)); !errors.Is(err, store.ErrStale) {
			return err
		}
		return nil
	}
	counted, now := make([]int, tries), h
	for i := range tries {
		ev := w.event("x") // before anybody else takes ids
		var wg sync.WaitGroup
		for n := range writers {
			wg.Go(func() {
				if err := try(n); err != nil {
					t.Error(err)
				}
			})
		}
		next := now
		err := w.Store.Change(w.ctx, w.A, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
			next = now // this may run again
			return []audit.Event{ev}, next.put(ctx, wr, i%homeKinds)
		})
		counted[i], now = of(begun+uint64(i)), next //nolint:gosec // counts up
		wg.Wait()
		if err != nil {
			t.Errorf("change %d: %v", i, err)
			return
		}
	}
	all := 0
	for i, n := range counted {
		if now := of(begun + uint64(i)); now != n { //nolint:gosec // counts up
			t.Errorf("of state %d there were %d readings when it was over, and then %d", i, n, now)
			return
		}
		all += n
	}
	if all == 0 {
		t.Error("nothing was written meanwhile")
	}
}
