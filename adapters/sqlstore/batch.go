package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// IngestBatch writes all parts together, where the database has a way to, or each in a transaction of its own or of a group's.
func (s *Store) IngestBatch(ctx context.Context, parts []store.Part) []error {
	order, errs := store.CheckBatch(parts, enter(ctx))
	written := make([]*store.Part, len(order))
	for n, i := range order {
		written[n] = &parts[i]
	}
	for n, err := range s.write(ctx, written) {
		errs[order[n]] = err
	}
	store.TellStale(s.o.Revised, parts, errs)
	return errs
}

func (s *Store) write(ctx context.Context, parts []*store.Part) []error {
	if p, ok := s.writer.(*pooled); ok && s.o.Dialect.Batch != nil {
		return p.batch(ctx, parts)
	}
	runs := make([]func(context.Context, *session) error, len(parts))
	for i, p := range parts {
		runs[i] = func(ctx context.Context, db *session) error {
			h := &handle{session: db, tenant: p.Scope.Tenant()}
			defer h.kill()
			return db.d.refused(h.part(ctx, p))
		}
	}
	return s.writer.each(ctx, runs)
}

// refused is why a part was not written: for what it says, or because the store cannot be reached.
func (d *Dialect) refused(err error) error {
	if f := fault.As(err); f != nil && f.Kind != fault.Unavailable || f != nil && f.Code != "store_unavailable" {
		return err
	}
	if err != nil && d.Refused != nil {
		if _, always := d.Refused(err); always {
			return fault.Wrap(err, fault.Invalid, "refused_part", "The store cannot keep this part: an id in it is taken, or a value is none that it knows.")
		}
	}
	return away(err)
}

// ErrApart is of a part that Dialect.Batch left out: it is to be written with more care, in a transaction of its own or of others
// that were left out.
var ErrApart = errors.New("a part that is to be written apart")

// batch writes parts together as if no key of theirs were taken. Those that have one, or all if that was refused, are written once
// more with care, and each alone if that was refused too: whose fault it was shows then.
func (p *pooled) batch(ctx context.Context, parts []*store.Part) []error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	errs := make([]error, len(parts))
	if p.shut {
		return all(errs, store.ErrClosed)
	}
	wait := !slices.ContainsFunc(parts, func(p *store.Part) bool { return !p.Wait })
	together, err := p.together(ctx, parts, Manner{Plain: true, Wait: wait})
	if asked, _ := p.d.Refused(err); err != nil && (!asked || ctx.Err() != nil) {
		return all(errs, p.d.refused(err))
	}
	var apart []*store.Part
	var places []int
	for i := range parts {
		if err == nil && !errors.Is(together[i], ErrApart) {
			errs[i] = together[i]
			continue
		}
		apart, places = append(apart, parts[i]), append(places, i)
	}
	for n, err := range p.careful(ctx, apart, Manner{Wait: wait}) {
		errs[places[n]] = err
	}
	return errs
}

// careful writes parts whatever is there, together or each alone.
func (p *pooled) careful(ctx context.Context, parts []*store.Part, how Manner) []error {
	errs := make([]error, len(parts))
	together, err := p.together(ctx, parts, how)
	if err == nil {
		return together
	}
	if asked, _ := p.d.Refused(err); !asked || len(parts) < 2 || ctx.Err() != nil {
		return all(errs, p.d.refused(err))
	}
	for i := range parts {
		if i > 0 && errors.Is(errs[i-1], store.ErrBusy) && parts[i].Scope.Tenant() == parts[i-1].Scope.Tenant() {
			errs[i] = store.ErrBusy // it stays behind the one before
		} else if alone, err := p.together(ctx, parts[i:i+1], how); err == nil {
			errs[i] = alone[0]
		} else {
			errs[i] = p.d.refused(err)
		}
	}
	return errs
}

func all(errs []error, err error) []error {
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func (p *pooled) together(ctx context.Context, parts []*store.Part, how Manner) (errs []error, err error) {
	if len(parts) == 0 {
		return nil, nil
	}
	err = p.d.again(func() error {
		errs, err = p.onConn(ctx, parts, how)
		return err
	})
	return errs, err
}

// onConn writes parts in one transaction of a connection that is had for it.
func (p *pooled) onConn(ctx context.Context, parts []*store.Part, how Manner) (errs []error, err error) {
	conn, err := p.db.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // nothing, once it is committed
	if err := protect(func() error {
		errs, err = p.d.Batch(ctx, conn, parts, how)
		return err
	}); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return errs, tx.Commit()
}

// part writes one tenant's part, row by row.
func (h *handle) part(ctx context.Context, p *store.Part) error {
	if err := h.recheck(ctx, &p.Seen); err != nil {
		return err
	}
	for i := range p.Rows {
		if err := h.arrive(ctx, &p.Rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// recheck refuses what was decided from anything that is otherwise now.
func (h *handle) recheck(ctx context.Context, seen *store.Seen) error {
	stale, err := h.stale(ctx, seen)
	if err == nil && stale {
		err = store.ErrStale
	}
	return err
}

// stale reports whether anything that was seen is otherwise now. A record that is not there has revision 0.
func (h *handle) stale(ctx context.Context, seen *store.Seen) (bool, error) {
	k, err := h.kept(ctx)
	if err != nil || k.revision != seen.Revision {
		return true, err
	}
	if seen.Entries > 0 && k.head.Size == seen.Entries { // each Change leaves an entry
		return false, nil
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
