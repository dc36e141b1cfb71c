package enter

import (
	"context"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/label"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// Birth writes what every tenant is born with: its record and one root node.
func (e *Enter) Birth(ctx context.Context, w store.Writer, id ident.Tenant, name string, kind org.Kind) (tenant.Tenant, error) {
	if err := label.Check(name); err != nil {
		return tenant.Tenant{}, err
	}
	if kind == "" {
		kind = org.Customer
	}
	if !kind.Valid() {
		return tenant.Tenant{}, fault.New(fault.Invalid, "unknown_kind", "A node's kind is one of vendor, customer, site, building, floor, zone.").WithField("/kind", "unknown kind")
	}
	now := e.Now()
	root := org.Node{Kind: kind, Name: name, CreatedAt: now, UpdatedAt: now}
	ident.Fresh(e.Mint, &root.ID)
	if _, err := w.Nodes().Put(ctx, root); err != nil {
		return tenant.Tenant{}, err
	}
	return w.Tenants().Put(ctx, tenant.Tenant{ID: id, Name: name, State: tenant.Active, Root: root.ID, CreatedAt: now, UpdatedAt: now})
}

// Join makes a person a member of a tenant, if they are not yet, and gives them a role at a node. The tenant knows them by the
// address that was invited: that of their account is not its business. A membership without an id gets one.
func (e *Enter) Join(ctx context.Context, w store.Writer, p principal.Person, invited string, m access.Membership) (access.Membership, error) {
	now := e.Now()
	_, err := w.Members().Get(ctx, p.ID)
	if fault.Is(err, fault.NotFound) {
		_, err = w.Members().Put(ctx, principal.Member{ID: p.ID, Kind: principal.Human, Name: p.Name, Email: invited, CreatedAt: now, UpdatedAt: now})
	}
	if err != nil {
		return m, err
	}
	if m.ID.IsZero() {
		ident.Fresh(e.Mint, &m.ID)
	}
	m.Principal, m.CreatedAt, m.UpdatedAt = p.ID, now, now
	return w.Memberships().Put(ctx, m)
}
