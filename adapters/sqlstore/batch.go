package sqlstore

import (
	"context"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// IngestBatch writes parts, each in a transaction of its own or in a group's.
func (s *Store) IngestBatch(ctx context.Context, parts []store.Part) []error {
	order, errs := store.CheckBatch(parts, enter(ctx))
	runs := make([]func(context.Context, *session) error, len(order))
	for n, i := range order {
		runs[n] = func(ctx context.Context, db *session) error {
			h := &handle{session: db, tenant: parts[i].Scope.Tenant()}
			defer h.kill()
			return h.part(ctx, &parts[i])
		}
	}
	for n, err := range s.writer.each(ctx, runs) {
		errs[order[n]] = err
	}
	store.TellStale(s.o.Revised, parts, errs)
	return errs
}

// part writes one tenant's part, row by row.
func (h *handle) part(ctx context.Context, p *store.Part) error {
	if err := h.session.show(ctx, h.tenant, h.session.d.ShowAlone); err != nil {
		return err
	}
	if stale, err := h.stale(ctx, &p.Seen); err != nil || stale {
		if err == nil {
			err = store.ErrStale
		}
		return err
	}
	for i := range p.Rows {
		if err := h.arrive(ctx, &p.Rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// stale reports whether anything that was seen is otherwise now. A record that is not there has revision 0.
func (h *handle) stale(ctx context.Context, seen *store.Seen) (bool, error) {
	k, err := h.kept(ctx)
	if err != nil || k.revision != seen.Revision {
		return true, err
	}
	for _, otherwise := range []func(context.Context) (bool, error){
		func(ctx context.Context) (bool, error) { return otherwise(ctx, h, "sources", seen.Sources) },
		func(ctx context.Context) (bool, error) { return otherwise(ctx, h, "source_keys", seen.Keys) },
		func(ctx context.Context) (bool, error) { return otherwise(ctx, h, "devices", seen.Devices) },
		func(ctx context.Context) (bool, error) { return otherwise(ctx, h, "decoders", seen.Decoders) },
		func(ctx context.Context) (bool, error) { return h.living(ctx, seen.Unknown) },
	} {
		if stale, err := otherwise(ctx); err != nil || stale {
			return true, err
		}
	}
	return false, nil
}

func otherwise[K ident.Kind](ctx context.Context, h *handle, table string, seen map[ident.ID[K]]uint64) (bool, error) {
	for id, rev := range seen {
		var now uint64
		err := h.one(ctx, "SELECT rev FROM "+table+" WHERE tenant = ? AND id = ?", []any{h.tenant[:], id[:]}, &now)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return true, err
		}
		if now != rev {
			return true, nil
		}
	}
	return false, nil
}

// living reports whether a living device has one of these addresses.
func (h *handle) living(ctx context.Context, unknown []device.Address) (bool, error) {
	for _, a := range unknown {
		var n int
		err := h.one(ctx, "SELECT count(*) FROM device_addresses WHERE tenant = ? AND kind = ? AND value = ?", []any{h.tenant[:], string(a.Kind), a.Value}, &n)
		if err != nil || n > 0 {
			return true, err
		}
	}
	return false, nil
}

// arrive writes one row.
func (h *handle) arrive(ctx context.Context, f *store.Finished) error {
	u := &f.Uplink
	var n int
	if err := h.one(ctx, "SELECT (SELECT count(*) FROM uplinks WHERE tenant = ? AND id = ?) + (SELECT count(*) FROM outcomes WHERE tenant = ? AND id = ? AND uplink = ?)",
		[]any{h.tenant[:], u.ID[:], h.tenant[:], u.ID[:], u.ID[:]}, &n); err != nil || n > 0 {
		return err // it came again
	}
	v, err := h.accept(ctx, *u)
	switch {
	case err != nil:
		return err
	case v.Duplicate:
		o := store.DuplicateOutcome(*u, v.ID)
		return h.outcome(ctx, &o)
	case v.Conflict:
		return flow{h}.Fold(ctx, store.QuarantineFold(*u, uplink.DedupeConflict), 1)
	case u.State == uplink.Quarantined:
		err = flow{h}.Fold(ctx, store.QuarantineFold(*u, u.Reason), 1)
	case u.State != uplink.Accepted:
		err = h.saw(ctx, u)
	}
	if err != nil {
		return err
	}
	return h.told(ctx, f)
}
