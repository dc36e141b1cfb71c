package storetest

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// counted are rows of one moment of a device. Neither the ids of their readings nor those of their events come as their counters do.
func (w *World) counted(d ident.Device) []store.Finished {
	counters := []uint64{256, 9, 0, 10, 9, 1<<32 - 1, 255}
	rows := make([]store.Finished, len(counters))
	for i, n := range counters {
		rows[i] = w.row(d, 0, "p")
		rows[i].Reading.FCnt, rows[i].Reading.HasFCnt = n, n > 0
	}
	for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
		rows[i].Reading.ID, rows[j].Reading.ID = rows[j].Reading.ID, rows[i].Reading.ID
	}
	return rows
}

// inOrder are the readings of rows, newest first.
func inOrder(rows []store.Finished) (ids []ident.Reading) {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b store.Finished) int {
		return cmp.Or(b.Reading.At.Compare(a.Reading.At), cmp.Compare(b.Reading.FCnt, a.Reading.FCnt), b.Uplink.ID.Compare(a.Uplink.ID))
	})
	for _, f := range rows {
		ids = append(ids, f.Reading.ID)
	}
	return ids
}

func readingOrder(t testing.TB, w *World) {
	d, e := w.device(t, w.A, ident.Node{1}, "x"), w.device(t, w.A, ident.Node{1}, "y")
	rows := w.counted(d.ID)
	rows[3], rows[6] = at(rows[3], -time.Second), at(rows[6], time.Second)
	var there []store.Finished
	for n, i := range []int{1, 3, 0, 4, 2, 5, 6} {
		f := rows[i]
		if there = append(there, f); n%2 == 0 {
			w.batch(t, w.A, f)
		} else {
			u := f.Uplink
			u.State, u.Device = uplink.Accepted, ident.Device{}
			w.accept(t, w.A, u)
			f.Uplink.Rev = 1
			w.ingest(t, w.A, func(ctx context.Context, fl store.Flow) error { return fl.Finish(ctx, f) })
		}
		w.latestIs(t, d.ID, inOrder(there)[0])
	}
	once := w.counted(e.ID)
	w.batch(t, w.A, once...)
	w.latestIs(t, e.ID, inOrder(once)[0])
	w.listed(t, "one device's", store.ReadingFilter{Device: d.ID}, inOrder(rows))
	w.listed(t, "the other's", store.ReadingFilter{Device: e.ID}, inOrder(once))
	w.listed(t, "all", store.ReadingFilter{}, inOrder(append(rows, once...)))
}

func (w *World) latestIs(t testing.TB, d ident.Device, want ident.Reading) {
	t.Helper()
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for _, within := range []access.Reach{access.Everywhere, {Nodes: []ident.Node{{1}}}} {
			if got, err := r.Readings().Latest(ctx, d, within); err != nil || got.ID != want {
				t.Errorf("the latest is %v of counter %d (%v), want %v", got.ID, got.FCnt, err, want)
			}
		}
		return nil
	})
}

// listed compares what is found, in pages of every size.
func (w *World) listed(t testing.TB, whose string, f store.ReadingFilter, want []ident.Reading) {
	t.Helper()
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for limit := 1; limit <= len(want)+1; limit++ {
			var got []ident.Reading
			for q := (store.Query{Reach: access.Reach{Nodes: []ident.Node{{1}}}, Limit: limit}); len(got) <= len(want); {
				page, err := r.Readings().Find(ctx, q, f)
				if err != nil {
					return err
				}
				for _, v := range page.Items {
					got = append(got, v.ID)
				}
				if q.After = page.Next; q.After == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s readings in pages of %d: %v, want %v", whose, limit, got, want)
			}
		}
		return nil
	})
}
