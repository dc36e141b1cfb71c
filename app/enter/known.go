package enter

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
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

// Source is one of the tenant's sources; zero: there is none.
func (k Known) Source(id ident.Source) source.Source { return k.st.sources[id] }

// Late is for how long after a revocation another process may have let something in, not knowing of it, and how far its clock may be off.
const Late = time.Second

// Revoked reports whether what a source sent by a key was let in although key or source were revoked by then: by a process
// that did not know yet, for longer than it may not know.
func (k Known) Revoked(s ident.Source, via string, arrived time.Time) bool {
	src := k.st.sources[s]
	if src.Closed(arrived, Late) {
		return true
	}
	for _, e := range src.Ended {
		if e.Accessor == via {
			return arrived.After(e.At.Add(Late))
		}
	}
	for _, key := range k.st.keys {
		if key.Accessor == via {
			return arrived.After(key.ExpiresAt.Add(Late))
		}
	}
	return false // a connection's, or a key that went with its source
}

// Fresh is Known, as it is now and whatever is remembered.
func (e *Enter) Fresh(ctx context.Context, t ident.Tenant) (Known, error) {
	st, err := e.cache.policies.load(ctx, t)
	return Known{st}, err
}

// Owned reports whether what a connection brought of an application was a source's when it was let in, by the mapping that there
// is now or by one that ended since, and when that mapping began: whoever let it in may have gone on by what it remembered, and the
// application may be another tenant's by then. What is known of the tenant and what is of mappings may be of different moments; the answer
// is no where only what is newer says so.
func (e *Enter) Owned(ctx context.Context, k Known, s ident.Source, connection, application string, arrived time.Time) (began time.Time, its bool, err error) {
	src, claim := k.st.sources[s], source.Claim(connection, application)
	if began, its = src.Had(claim, arrived, Late); its {
		return began, true, nil
	}
	o, err := e.owner(ctx, claimed{connection, application})
	return o.made, err == nil && o.tenant == k.st.tenant.ID && o.source == s && !o.made.After(arrived.Add(Late)) && !src.Lost(claim, o.made), err
}

// Tenure is who had an application of a connection before, the zero one if no mapping of it ever ended.
func (e *Enter) Tenure(ctx context.Context, connection, application string) (past source.Tenure, err error) {
	err = e.platform(ctx, lookWait, func(ctx context.Context, r store.Reader) error {
		past, err = tenure(ctx, r, source.Claim(connection, application))
		return err
	})
	return past, err
}

func tenure(ctx context.Context, r store.Reader, claim string) (source.Tenure, error) {
	past, err := r.Tenures().Get(ctx, source.TenureID(claim))
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return past, err
}

// Heir answers whose what a connection brought of an application earlier is to be, by the mapping that there is now: nobody's,
// fault.Missing(). What came before that mapping began goes to its tenant if nobody else ever had the application, or none since the
// tenant had it by then. Else it was or may have been another's: ErrHeir; or the application was nobody's, and what sent it may be
// another's still: ErrNoHeir, unless the tenant is named by who answers for it. So it is where no tenure was kept, since an older program
// keeps none, of what was taken for the tenant's when none of its sources had the application. Who is named and does not have the
// application now gets nothing, ErrOtherHeir, and nobody gets what was taken for another's.
func (e *Enter) Heir(ctx context.Context, connection, application string, was ident.Tenant, arrived time.Time, named ident.Tenant) (t ident.Tenant, s ident.Source, err error) {
	if source.CheckConnection(connection) != nil || source.CheckApplication(application) != nil {
		return t, s, fault.Missing()
	}
	var now source.Mapping
	var past source.Tenure
	claim := source.Claim(connection, application)
	if err := e.platform(ctx, lookWait, func(ctx context.Context, r store.Reader) (err error) {
		if now, err = r.Mappings().ByApplication(ctx, connection, application); err != nil {
			return err
		}
		past, err = tenure(ctx, r, claim)
		return err
	}); err != nil {
		return t, s, err
	}
	mine := was.IsZero() || was == now.Tenant
	kept := was.IsZero() || !past.Tenant.IsZero()
	switch {
	case !named.IsZero() && named != now.Tenant:
		return t, s, ErrOtherHeir
	case !now.CreatedAt.After(arrived), mine && kept && past.Alone(now.Tenant, arrived), mine && past.Nobodys(arrived) && !named.IsZero():
		return now.Tenant, now.Source, nil
	case was == now.Tenant:
		k, err := e.Fresh(ctx, was)
		if err != nil {
			return t, s, err
		}
		for _, src := range k.st.sources {
			if _, its := src.Had(claim, arrived, 0); its {
				return now.Tenant, now.Source, nil
			}
		}
	}
	if mine && past.Nobodys(arrived) {
		return t, s, ErrNoHeir
	}
	return t, s, ErrHeir
}

// The answers for what came before its application was mapped to whose it is now, and for who is named and does not have it.
var (
	ErrHeir      = fault.New(fault.Conflict, "letter_before_mapping", "The message came before its application was mapped to the tenant's source whose it is now, and was another's then or may have been. To show it to either might show one tenant's data to the other, so that it stays a dead letter.")
	ErrNoHeir    = fault.New(fault.Conflict, "letter_without_heir", "The message came when its application was nobody's, and another tenant than whose it is now had it before or may have, so that it may be of that one's devices. If it is not, name whose it is to be.")
	ErrOtherHeir = fault.New(fault.Conflict, "letter_not_heirs", "The message would not become the named tenant's: its application is mapped to another one, or it was another's.")
)

// owner is whose an application is, as the store says or as nobody is known to have changed since. It is not let in by: a gate
// that was told of no changes for long asks.
func (e *Enter) owner(ctx context.Context, c claimed) (owner, error) {
	if source.CheckConnection(c.connection) != nil || source.CheckApplication(c.name) != nil {
		return owner{}, nil
	}
	if !e.cache.followed.within(blind) {
		return e.cache.mapped.load(ctx, c)
	}
	return e.cache.mapped.ask(ctx, c, true)
}
