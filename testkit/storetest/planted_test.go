package storetest_test

import (
	"context"
	"maps"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// devices is a shelf with bugs.
type devices struct {
	store.Devices
	list     func(store.Devices, context.Context, store.Query) (store.Page[device.Device], error)
	get      func(device.Device, error) (device.Device, error)
	assigned func(store.Devices, context.Context, ident.Device, time.Time) (ident.Node, error)
	most     *int // tombstones are counted: how many there were
}

func (d devices) Count(ctx context.Context) (int, error) {
	n, err := d.Devices.Count(ctx)
	if d.most == nil {
		return n, err
	}
	if n == 1 && *d.most == 2 { // of the two that there were, one was buried
		return 2, err
	}
	*d.most = n
	return n, err
}

func (d devices) List(ctx context.Context, q store.Query) (store.Page[device.Device], error) {
	if d.list != nil {
		return d.list(d.Devices, ctx, q)
	}
	return d.Devices.List(ctx, q)
}

func (d devices) Get(ctx context.Context, id ident.Device) (device.Device, error) {
	v, err := d.Devices.Get(ctx, id)
	if d.get != nil {
		return d.get(v, err)
	}
	return v, err
}

func (d devices) AssignedAt(ctx context.Context, id ident.Device, at time.Time) (ident.Node, error) {
	if d.assigned != nil {
		return d.assigned(d.Devices, ctx, id, at)
	}
	return d.Devices.AssignedAt(ctx, id, at)
}

// ghost lists a tenant that never was.
type ghost struct{ store.Directory }

func (g ghost) Tenants(ctx context.Context, after ident.Tenant, limit int) ([]ident.Tenant, error) {
	ids, err := g.Directory.Tenants(ctx, after, limit)
	return append(ids, ident.Tenant{0x40, 63}), err
}

func (f flowing) Marks(ctx context.Context, keys map[string][32]byte) (map[string][32]byte, error) {
	kept, err := f.Flow.Marks(ctx, keys)
	if f.marks {
		maps.Copy(kept, keys)
	}
	return kept, err
}

// lasting lets everybody read who once might.
type lasting struct{ store.Store }

func (l lasting) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	if !s.IsZero() {
		s = grant(s.Tenant(), s.Allowed(), 0)
	}
	return l.Store.View(ctx, s, fn)
}

// hasty refuses every scope that is not of the newest revision.
type hasty struct{ store.Store }

func (h hasty) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	var now uint64
	err := h.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		now, err = r.Revision(ctx)
		return err
	})
	if err == nil && s.Revision() != 0 && s.Revision() < now {
		err = store.ErrStale
	}
	if err != nil {
		return err
	}
	return h.Store.Change(ctx, s, fn)
}

type lateReadings struct{ store.Readings }

func (l lateReadings) Latest(ctx context.Context, d ident.Device, r access.Reach) (uplink.Reading, error) {
	page, err := l.Find(ctx, store.Query{Reach: r}, store.ReadingFilter{Device: d})
	if err != nil || len(page.Items) == 0 {
		return uplink.Reading{}, fault.Missing()
	}
	newest := page.Items[0] // the one that came last
	for _, v := range page.Items {
		if v.ID.Compare(newest.ID) > 0 {
			newest = v
		}
	}
	return newest, nil
}

func (f flowing) SetFailures(ctx context.Context, p principal.Failure) error {
	if f.most > 0 {
		p.Count = min(p.Count, f.most)
	}
	return f.Flow.SetFailures(ctx, p)
}

// telling leaves out what is not to be told, by its revision and the greatest before.
func telling(what func(rev, last uint64) bool) func(*storetest.Options) {
	return func(o *storetest.Options) {
		tell, last := o.Revised, uint64(0)
		o.Revised = func(id ident.Tenant, rev uint64) {
			if what(rev, last) {
				tell(id, rev)
			}
			last = max(last, rev)
		}
	}
}
