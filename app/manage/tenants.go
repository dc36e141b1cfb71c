package manage

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

func tenantShelf(r store.Reader) store.Shelf[ident.Tenant, tenant.Tenant] { return r.Tenants() }

// Tenant answers the tenant of the scope.
func (m *Manage) Tenant(ctx context.Context, s access.Scope) (tenant.Tenant, error) {
	return get(ctx, m, s, tenantShelf, s.Tenant())
}

// TenantPatch is what changes of a tenant; what is nil stays.
type TenantPatch struct {
	Name        *string
	KafkaOutput *bool
}

// UpdateTenant changes the tenant's own record and the platform's register, so that the operator sees what it is called and
// whether it wants a topic.
func (m *Manage) UpdateTenant(ctx context.Context, c *Call, rev uint64, patch TenantPatch) (tenant.Tenant, error) {
	if patch.Name != nil {
		if err := name(*patch.Name); err != nil {
			return tenant.Tenant{}, err
		}
	}
	ps := m.enter.As(ident.Platform, c.Scope.Actor(), "rename tenant", c.Scope.Origin())
	var out tenant.Tenant
	err := m.store.Across(ctx, ps, c.Scope, func(ctx context.Context, p, w store.Writer) ([]audit.Event, []audit.Event, error) {
		t, err := w.Tenants().Get(ctx, c.Scope.Tenant())
		if err == nil && t.Rev != rev {
			err = store.ErrRevision
		}
		if err != nil {
			return nil, nil, err
		}
		register, err := p.Tenants().Get(ctx, t.ID)
		if err != nil {
			return nil, nil, err
		}
		target, set, known := enter.Target("tenant", t.ID), patch.on(&t), patch.on(&register)
		if len(real(set)) == 0 && len(real(known)) == 0 {
			out = t
			return nil, nil, errUnchanged
		}
		t.UpdatedAt, register.UpdatedAt = m.now(), m.now()
		if _, err := p.Tenants().Put(ctx, register); err != nil {
			return nil, nil, err
		}
		if out, err = w.Tenants().Put(ctx, t); err != nil {
			return nil, nil, err
		}
		c.Revision = w.Revision()
		pe, err := m.enter.Event(ctx, ps, audit.TenantUpdated, target, real(known)...)
		if err != nil {
			return nil, nil, err
		}
		te, err := m.event(ctx, c, audit.TenantUpdated, target, real(set)...)
		return []audit.Event{pe}, []audit.Event{te}, err
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return out, err
}

// on changes one of the two records, and answers what of it.
func (p TenantPatch) on(t *tenant.Tenant) (changes []audit.Change) {
	if p.Name != nil {
		changes = append(changes, audit.Set("name", t.Name, *p.Name))
		t.Name = *p.Name
	}
	if p.KafkaOutput != nil {
		changes = append(changes, audit.Set("kafka_output", strconv.FormatBool(t.KafkaOutput), strconv.FormatBool(*p.KafkaOutput)))
		t.KafkaOutput = *p.KafkaOutput
	}
	return changes
}

// PlatformTenants lists the register of all tenants, for the platform alone.
func (m *Manage) PlatformTenants(ctx context.Context, s access.Scope, q store.Query) (store.Page[tenant.Tenant], error) {
	page, err := list(ctx, m, s, access.PlatformTenantRead, q, tenantShelf)
	kept := page.Items[:0]
	for _, t := range page.Items {
		if t.ID != ident.Platform {
			kept = append(kept, t)
		}
	}
	page.Items = kept
	return page, err
}

// PlatformTenant answers one tenant of the register.
func (m *Manage) PlatformTenant(ctx context.Context, s access.Scope, id ident.Tenant) (tenant.Tenant, error) {
	if id == ident.Platform {
		return tenant.Tenant{}, fault.Missing()
	}
	return get(ctx, m, s, tenantShelf, id)
}

// CreateTenant makes a tenant and an invitation for its first owner, whose link is answered once. The platform has no
// standing right in it.
func (m *Manage) CreateTenant(ctx context.Context, c *Call, title string, kind org.Kind, owner string) (tenant.Tenant, secret.Text, error) {
	address, err := principal.NormalizeEmail(owner)
	if err != nil {
		return tenant.Tenant{}, secret.Text{}, err
	}
	var id ident.Tenant
	ident.Fresh(m.enter.Mint, &id)
	ts := m.enter.As(id, c.Scope.Actor(), "create tenant", c.Scope.Origin().Abroad())
	whole, inv := m.firstOwner(address)
	pe, err := m.event(ctx, c, audit.TenantCreated, enter.Target("tenant", id), audit.Set("name", "", title))
	if err != nil {
		return tenant.Tenant{}, secret.Text{}, err
	}
	te, err := m.enter.Event(ctx, ts, audit.TenantCreated, enter.Target("tenant", id), audit.Set("name", "", title), audit.Set("email", "", address))
	if err != nil {
		return tenant.Tenant{}, secret.Text{}, err
	}
	var t tenant.Tenant
	err = m.store.Across(ctx, c.Scope, ts, func(ctx context.Context, p, w store.Writer) ([]audit.Event, []audit.Event, error) {
		err := m.enter.Once(ctx, c.Scope, p, c.Once, func() (string, error) {
			if t, err = m.enter.Birth(ctx, w, id, title, kind); err != nil {
				return "", err
			}
			own := inv
			own.Node = t.Root
			if _, err := w.Invitations().Put(ctx, own); err != nil {
				return "", err
			}
			register := t
			register.Rev = 0
			_, err := p.Tenants().Put(ctx, register)
			return id.String(), err
		})
		return []audit.Event{pe}, []audit.Event{te}, err
	})
	return t, whole, err
}

func (m *Manage) firstOwner(address string) (secret.Text, principal.Invitation) {
	whole, stored := m.enter.Issue(credential.KindInvite, credential.InviteLife)
	inv := principal.Invitation{
		Accessor: stored.Accessor, Verifier: stored.Verifier, KID: stored.KID, Email: address, Role: access.Owner, Recursive: true,
		ExpiresAt: stored.ExpiresAt, CreatedAt: stored.CreatedAt, UpdatedAt: stored.UpdatedAt,
	}
	ident.Fresh(m.enter.Mint, &inv.ID)
	return whole, inv
}

// SetTenantState suspends, resumes or deletes a tenant. Deleted is for ever.
func (m *Manage) SetTenantState(ctx context.Context, c *Call, id ident.Tenant, state tenant.State) (tenant.Tenant, error) {
	if id == ident.Platform {
		return tenant.Tenant{}, fault.Missing()
	}
	action := map[tenant.State]audit.Action{tenant.Suspended: audit.TenantSuspended, tenant.Active: audit.TenantResumed, tenant.Deleted: audit.TenantDeleted}[state]
	ps, ts := c.Scope, c.Scope // of which one is the gate's, and stale once the rights behind it have changed
	if c.Scope.Tenant() == ident.Platform {
		ts = m.enter.As(id, c.Scope.Actor(), "tenant lifecycle", c.Scope.Origin().Abroad())
	} else { // the owner closes it
		ps = m.enter.As(ident.Platform, c.Scope.Actor(), "close tenant", c.Scope.Origin())
	}
	pe, err := m.enter.Event(ctx, ps, action, enter.Target("tenant", id))
	if err != nil {
		return tenant.Tenant{}, err
	}
	te, err := m.enter.Event(ctx, ts, action, enter.Target("tenant", id), audit.Set("state", "", string(state)))
	if err != nil {
		return tenant.Tenant{}, err
	}
	var out tenant.Tenant
	err = m.store.Across(ctx, ps, ts, func(ctx context.Context, p, w store.Writer) ([]audit.Event, []audit.Event, error) {
		err := m.enter.Once(ctx, ps, p, c.Once, func() (string, error) {
			register, err := p.Tenants().Get(ctx, id)
			if err != nil {
				return "", err
			}
			if err := register.MayBecome(state); err != nil {
				return "", err
			}
			own, err := w.Tenants().Get(ctx, id)
			if err != nil {
				return "", err
			}
			register.State, register.UpdatedAt, own.State, own.UpdatedAt = state, m.now(), state, m.now()
			if out, err = p.Tenants().Put(ctx, register); err != nil {
				return "", err
			}
			_, err = w.Tenants().Put(ctx, own)
			return "", err
		})
		return []audit.Event{pe}, []audit.Event{te}, err
	})
	return out, err
}

// DisablePerson stops a person from signing in, and every credential they have; enabling revives no session.
func (m *Manage) DisablePerson(ctx context.Context, c *Call, id ident.Principal, disabled bool) (principal.Person, error) {
	var out principal.Person
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		p, err := w.Persons().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if disabled == p.Disabled() {
			return nil, fault.New(fault.Conflict, "person_state", "The person is in this state already.")
		}
		if disabled && id == c.Scope.Actor().ID {
			return nil, fault.New(fault.Conflict, "not_yourself", "You cannot disable yourself. Ask another administrator.")
		}
		action := audit.PersonEnabled
		p.DisabledAt, p.UpdatedAt = time.Time{}, m.now()
		if disabled {
			action, p.DisabledAt, p.VoidBefore = audit.PersonDisabled, m.now(), m.now()
		}
		open, err := w.Read().Sessions().Of(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, s := range open {
			family, err := w.Read().Bearers().Family(ctx, s.ID)
			if err != nil {
				return nil, err
			}
			for _, b := range family {
				if err := w.Bearers().Delete(ctx, b.ID, b.Rev); err != nil {
					return nil, err
				}
			}
			if err := w.Sessions().Delete(ctx, s.ID, s.Rev); err != nil {
				return nil, err
			}
		}
		if out, err = w.Persons().Put(ctx, p); err != nil {
			return nil, err
		}
		if disabled {
			if err := stillRunWithout(ctx, w, id); err != nil {
				return nil, err
			}
		}
		return one(m.event(ctx, c, action, enter.Target("user", id)))
	})
	return out, err
}

// Person answers a person of the platform.
func (m *Manage) Person(ctx context.Context, s access.Scope, id ident.Principal) (principal.Person, error) {
	return get(ctx, m, s, func(r store.Reader) store.Shelf[ident.Principal, principal.Person] { return r.Persons() }, id)
}

// Persons lists the people of the platform.
func (m *Manage) Persons(ctx context.Context, s access.Scope, q store.Query) (store.Page[principal.Person], error) {
	return list(ctx, m, s, access.PlatformPersonRead, q, func(r store.Reader) store.Shelf[ident.Principal, principal.Person] { return r.Persons() })
}
