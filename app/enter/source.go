package enter

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
)

// ingestion authenticates a source's key. Everything that it asks is in the tenant's standing, which every change of the
// tenant renews: no query a request, and a revoked key is refused at the next one.
func (e *Enter) ingestion(ctx context.Context, t credential.Token, o access.Origin) (Identity, error) {
	home, err := e.Locate(ctx, t)
	if err != nil {
		return Identity{}, err
	}
	st, err := e.cache.policies.get(ctx, home.Tenant)
	if err != nil {
		return Identity{}, known(err)
	}
	key, ok := st.keys[ident.Key(home.Row)]
	if !ok {
		return Identity{}, errCredential
	}
	if err := e.Match(t, key.KID, key.Verifier); err != nil {
		return Identity{}, err
	}
	src, ok := st.sources[key.Source]
	now := e.Now()
	if !ok || src.State != source.Active || !key.Live(now) {
		return Identity{}, errCredential
	}
	if last := key.used.Load(); now.UnixMicro()-last >= credential.TouchEvery.Microseconds() && key.used.CompareAndSwap(last, now.UnixMicro()) { // one caller notes it
		if err := e.touch(ctx, home.Tenant, t.Accessor, time.UnixMicro(last), now, o); err != nil {
			return Identity{}, err
		}
	}
	return Identity{
		Actor:   access.Actor{Kind: access.Service, ID: src.Account, Accessor: t.Accessor, AMR: "key"},
		Subject: access.Subject{Principal: src.Account}, Kind: t.Kind, Tenant: home.Tenant, Source: src.ID, Accessor: t.Accessor,
	}, nil
}

// Source lets a source submit events: the credential decides the tenant. The answer holds the source as it is now, and the
// tenant's limits.
func (e *Enter) Source(ctx context.Context, id Identity, o access.Origin) (access.Scope, source.Source, tenant.Limits, error) {
	if id.Kind != credential.KindIngestion {
		return access.Scope{}, source.Source{}, tenant.Limits{}, fault.New(fault.Denied, "ingestion_key_needed", "Events are submitted with a source's ingestion key. Create one for the source and use it here.").WithPermission(access.UplinkSubmit.String())
	}
	st, err := e.cache.policies.get(ctx, id.Tenant)
	if err != nil {
		return access.Scope{}, source.Source{}, tenant.Limits{}, known(err)
	}
	src := st.sources[id.Source]
	if err := st.admit(true); err != nil {
		return access.Scope{}, src, tenant.Limits{}, e.refuse(ctx, id, id.Tenant, true, st.closed(access.UplinkSubmit), o, err)
	}
	now := e.Now()
	d := st.policy.Decide(id.Subject, access.UplinkSubmit, src.Node, now)
	if !d.Allowed {
		return access.Scope{}, src, tenant.Limits{}, e.refuse(ctx, id, id.Tenant, true, d, o, access.Refuse(access.UplinkSubmit))
	}
	return access.Grant(id.Tenant, id.Actor, o, d, &st.policy, id.Subject, now), src, st.limits, nil
}
