package enter

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
)

// Known is what the gate knows of one tenant: its state, limits, sources and keys in one snapshot. It is for who finishes
// events that were let in before, by another process; nobody is let in by it.
type Known struct{ st *standing }

// Known answers it without a query while nothing changes.
func (e *Enter) Known(ctx context.Context, t ident.Tenant) (Known, error) {
	st, err := e.standing(ctx, t)
	return Known{st}, err
}

// Still reports whether nothing was announced to have changed since.
func (k Known) Still() bool { return k.st != nil && !k.st.stale.Load() }

// Tenant is the tenant's record.
func (k Known) Tenant() tenant.Tenant { return k.st.tenant }

// Limits is what the platform granted it.
func (k Known) Limits() tenant.Limits { return k.st.limits }

// Key is the ingestion key with an accessor, and its revision.
func (k Known) Key(via string) (ident.Key, uint64, bool) {
	for id, key := range k.st.keys {
		if key.Accessor == via {
			return id, key.Rev, true
		}
	}
	return ident.Key{}, 0, false
}

// late is for how long after a revocation another process may have let something in, not knowing of it.
const late = time.Second

// Revoked reports whether what a source sent by a key was let in although key or source were revoked by then: by a process
// that did not know yet, for longer than it may not know.
func (k Known) Revoked(s ident.Source, via string, arrived time.Time) bool {
	src := k.st.sources[s]
	if src.Closed(arrived, late) {
		return true
	}
	for _, e := range src.Ended {
		if e.Accessor == via {
			return arrived.After(e.At.Add(late))
		}
	}
	for _, key := range k.st.keys {
		if key.Accessor == via {
			return arrived.After(key.ExpiresAt.Add(late))
		}
	}
	return false // a connection's, or a key that went with its source
}
