package memory

import (
	"context"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// IngestBatch writes each part by itself.
func (s *Store) IngestBatch(ctx context.Context, parts []store.Part) []error {
	order, errs := store.CheckBatch(parts, s.enter(ctx))
	for _, i := range order {
		errs[i] = s.write(ctx, func(w *world) error {
			h := open(w, parts[i].Scope.Tenant())
			if h.otherwise(parts[i].Seen) {
				return store.ErrStale
			}
			for _, f := range parts[i].Rows {
				if err := h.arrive(f); err != nil {
					return fault.Wrap(err, fault.Invalid, "refused_part", "The store cannot keep this part: an id in it is taken.")
				}
			}
			h.keep(w)
			return nil
		})
	}
	store.TellStale(s.o.Revised, parts, errs)
	return errs
}

// otherwise reports whether anything that was seen is otherwise now. A record that is not there has revision 0.
func (h *handle) otherwise(seen store.Seen) bool {
	if h.book.revision != seen.Revision || otherwise(h, sources, seen.Sources) || otherwise(h, keys, seen.Keys) || otherwise(h, devices, seen.Devices) || otherwise(h, decoders, seen.Decoders) {
		return true
	}
	for _, a := range seen.Unknown {
		if _, known := h.book.addresses.get(addressKey(a)); known {
			return true
		}
	}
	return false
}

func otherwise[K comparable, V any](h *handle, n *noun[K, V], seen map[K]uint64) bool {
	for id, rev := range seen {
		if now, _ := on(h, n).rows().get(n.key(id)); now.rev != rev {
			return true
		}
	}
	return false
}

// arrive is one row of a part.
func (h *handle) arrive(f store.Finished) error {
	u := f.Uplink
	_, kept := h.book.uplinks.get(idKey(u.ID))
	if o, told := h.book.outcomes.get(idKey(u.ID)); kept || told && o.Uplink == u.ID {
		return nil // it came again
	}
	v := h.accept(u)
	switch {
	case v.Duplicate:
		o := store.DuplicateOutcome(u, v.ID)
		return h.told(store.Finished{Outcome: &o})
	case v.Conflict:
		h.count(store.QuarantineFold(u, uplink.DedupeConflict), 1)
		return nil
	case u.State == uplink.Quarantined:
		h.count(store.QuarantineFold(u, u.Reason), 1)
	case u.State != uplink.Accepted && !u.Device.IsZero():
		h.sawDevice(u)
	}
	return h.told(f)
}
