package manage

import (
	"context"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// Mapping answers whose an application of a connection is.
func (m *Manage) Mapping(ctx context.Context, s access.Scope, id ident.Mapping) (source.Mapping, error) {
	return get(ctx, m, s, func(r store.Reader) store.Shelf[ident.Mapping, source.Mapping] { return r.Mappings() }, id)
}

// Mappings lists whose the applications are, of one connection or one tenant if the filter says so.
func (m *Manage) Mappings(ctx context.Context, s access.Scope, q store.Query, f store.MappingFilter) (page store.Page[source.Mapping], err error) {
	q.Reach = s.Reach(access.PlatformConnectionRead)
	err = m.store.View(ctx, s, func(ctx context.Context, r store.Reader) (err error) {
		page, err = r.Mappings().Find(ctx, q, f)
		return err
	})
	return page, err
}

// MapApplication gives the messages that a connection brings of an application to a tenant's source. The platform has no
// standing right in the tenant, and of it learns one thing: whether the source is there. Both logs tell of it, so that the
// tenant sees what feeds its source.
func (m *Manage) MapApplication(ctx context.Context, c *Call, in source.Mapping) (source.Mapping, error) {
	if err := in.Check(); err != nil {
		return in, err
	}
	if err := m.store.View(ctx, c.Scope, func(ctx context.Context, r store.Reader) error { return served(ctx, r.Tenants(), in.Tenant) }); err != nil {
		return in, err // before a tenant that is none is asked
	}
	ident.Fresh(m.enter.Mint, &in.ID)
	made := in
	err := m.besides(ctx, c, in, audit.MappingCreated, func(ctx context.Context, p, w store.Writer) error {
		return m.enter.Once(ctx, c.Scope, p, c.Once, func() (string, error) {
			if err := served(ctx, p.Tenants(), in.Tenant); err != nil {
				return "", err
			}
			if _, err := w.Sources().Get(ctx, in.Source); err != nil {
				return "", refer(err, "/source_id", "source")
			}
			n, err := p.Read().Mappings().Count(ctx)
			if err == nil && n >= source.MaxMappings {
				err = fault.New(fault.Conflict, "quota_exceeded", "There are as many mappings as there may be. Remove those that nobody needs.").WithUse(source.MaxMappings, int64(n))
			}
			if err != nil {
				return "", err
			}
			was, err := tenure(ctx, p.Read(), in)
			if err != nil {
				return "", err
			}
			in.CreatedAt = m.now()
			switch ahead := was.Until.Sub(in.CreatedAt); { // by another process' clock: no two had it at one moment
			case ahead > enter.Late:
				return "", errAhead.WithRetry(ahead)
			case ahead > 0:
				in.CreatedAt = was.Until
			}
			in.UpdatedAt = in.CreatedAt
			made, err = p.Mappings().Put(ctx, in)
			if f := fault.As(err); f != nil && f.Code == "taken" {
				err = fault.New(fault.Conflict, "taken", "The connection's application is somebody's already. Remove that mapping first.").WithField("/application_id", "has a mapping")
			}
			return in.ID.String(), err
		})
	})
	return made, err
}

// errAhead is said instead of a mapping that begins later than now: what came until then would be nobody's for ever.
var errAhead = fault.New(fault.Unavailable, "clock_ahead", "The application's last mapping ended by a clock that is ahead of this process'. Until it ended by this one as well, nobody can be given the application.")

// tenure is who had a mapping's application last, the zero one if no mapping of it ever ended.
func tenure(ctx context.Context, r store.Reader, of source.Mapping) (source.Tenure, error) {
	was, err := r.Tenures().Get(ctx, source.TenureID(of.Claim()))
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return was, err
}

// served refuses a tenant that no connection can bring anything, by the platform's register.
func served(ctx context.Context, register store.Shelf[ident.Tenant, tenant.Tenant], id ident.Tenant) error {
	t, err := register.Get(ctx, id)
	switch {
	case id == ident.Platform || fault.Is(err, fault.NotFound):
		return fault.New(fault.Invalid, "unknown_reference", "The tenant that the request refers to does not exist.").WithField("/tenant_id", "no such tenant")
	case err != nil:
		return err
	case t.State == tenant.Deleted:
		return fault.New(fault.Conflict, "tenant_state", "The tenant is %s; this change does not apply to it.", t.State)
	}
	return nil
}

// UnmapApplication takes a mapping away: what the connection brings of its application is nobody's from the next message on. Who
// had it is kept. The source and the tenant may be gone.
func (m *Manage) UnmapApplication(ctx context.Context, c *Call, id ident.Mapping, rev uint64) error {
	was, err := m.Mapping(ctx, c.Scope, id)
	if err != nil {
		return err
	}
	return m.besides(ctx, c, was, audit.MappingDeleted, func(ctx context.Context, p, w store.Writer) error {
		if err := p.Mappings().Delete(ctx, id, rev); err != nil {
			return err
		}
		past, err := tenure(ctx, p.Read(), was)
		if err != nil {
			return err
		}
		past = past.After(was, m.now())
		if _, err := p.Tenures().Put(ctx, past); err != nil {
			return err
		}
		src, err := w.Sources().Get(ctx, was.Source)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		src.Unmap(was, past.Until) // which makes all that was decided by the mapping stale, too
		_, err = w.Sources().Put(ctx, src)
		return err
	})
}

// besides changes a mapping, of which both logs tell.
func (m *Manage) besides(ctx context.Context, c *Call, of source.Mapping, a audit.Action, fn func(ctx context.Context, p, w store.Writer) error) error {
	ts := m.enter.As(of.Tenant, c.Scope.Actor(), "map application", c.Scope.Origin().Abroad())
	changes := func(more ...audit.Change) []audit.Change {
		all := append(more, audit.Set("connection", "", of.Connection), audit.Set("application", "", of.Application), audit.Set("source", "", of.Source.String()))
		for i := range all {
			if a == audit.MappingDeleted {
				all[i].Old, all[i].New = all[i].New, all[i].Old
			}
		}
		return all
	}
	pe, err := m.event(ctx, c, a, enter.Target("mapping", of.ID), changes(audit.Set("tenant", "", of.Tenant.String()))...)
	if err != nil {
		return err
	}
	te, err := m.enter.Event(ctx, ts, a, enter.Target("mapping", of.ID), changes()...)
	if err != nil {
		return err
	}
	return m.store.Across(ctx, c.Scope, ts, func(ctx context.Context, p, w store.Writer) ([]audit.Event, []audit.Event, error) {
		return []audit.Event{pe}, []audit.Event{te}, fn(ctx, p, w)
	})
}
