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
	st, err := e.door(ctx, home.Tenant)
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
	if last := key.used.Load(); now.UnixMicro()-last >= credential.NoteEvery.Microseconds() && key.used.CompareAndSwap(last, now.UnixMicro()) { // one caller notes it
		// While the store is away a use is not noted: events are let in by what is known.
		if err := e.touch(ctx, home.Tenant, t.Accessor, time.UnixMicro(last), credential.NoteEvery, now, o); err != nil && !fault.Is(err, fault.Unavailable) {
			return Identity{}, err
		}
	}
	return keyOf(src, home.Tenant, t.Accessor), nil
}

// keyOf is who acts by a source's key.
func keyOf(src source.Source, home ident.Tenant, accessor string) Identity {
	return Identity{
		Actor:   access.Actor{Kind: access.Service, ID: src.Account, Accessor: accessor, AMR: "key"},
		Subject: access.Subject{Principal: src.Account}, Kind: credential.KindIngestion, Tenant: home, Source: src.ID, Accessor: accessor,
	}
}

// Source lets a source submit events: the credential decides the tenant. The answer holds the source as it is now, and the
// tenant's limits.
func (e *Enter) Source(ctx context.Context, id Identity, o access.Origin) (access.Scope, source.Source, tenant.Limits, error) {
	if id.Kind != credential.KindIngestion {
		return access.Scope{}, source.Source{}, tenant.Limits{}, fault.New(fault.Denied, "ingestion_key_needed", "Events are submitted with a source's ingestion key. Create one for the source and use it here.").WithPermission(access.UplinkSubmit.String())
	}
	st, err := e.door(ctx, id.Tenant)
	if err != nil {
		return access.Scope{}, source.Source{}, tenant.Limits{}, known(err)
	}
	src, now := st.sources[id.Source], e.Now()
	d, err := st.submits(id.Subject, src, now)
	if err != nil {
		return access.Scope{}, src, tenant.Limits{}, e.refuse(ctx, id, id.Tenant, true, d, o, err)
	}
	return access.Grant(id.Tenant, id.Actor, o, d, &st.policy, id.Subject, now), src, st.limits, nil
}

// Through judges a message of a source's that a connection of the operator's brought, without a key: whose it is was told by
// Mapped or by the connection's configuration. A tenant or source that is not there is fault.Missing(). One that is not in force is
// a fault of kind Denied, beside which source and limits are answered: it is not recorded here, since who asks may not write, but
// where the message is put.
func (e *Enter) Through(ctx context.Context, t ident.Tenant, src ident.Source) (source.Source, tenant.Limits, error) {
	st, err := e.door(ctx, t)
	if err != nil {
		return source.Source{}, tenant.Limits{}, err
	}
	way, ok := st.sources[src]
	if !ok {
		return source.Source{}, tenant.Limits{}, fault.Missing()
	}
	_, err = st.submits(access.Subject{Principal: way.Account}, way, e.Now())
	if err == nil && way.State != source.Active {
		err = fault.New(fault.Denied, "source_disabled", "The source is disabled. Ask an administrator of the tenant to enable it.")
	}
	return way, st.limits, err
}

// submits decides whether a source's account may submit events, and answers the refusal if not.
func (s *standing) submits(who access.Subject, src source.Source, now time.Time) (access.Decision, error) {
	if err := s.admit(true); err != nil {
		return s.closed(access.UplinkSubmit), err
	}
	d := s.policy.Decide(who, access.UplinkSubmit, src.Node, now)
	if !d.Allowed {
		return d, access.Refuse(access.UplinkSubmit)
	}
	return d, nil
}
