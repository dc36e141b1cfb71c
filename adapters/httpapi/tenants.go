package httpapi

import (
	"context"
	"net/http"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
)

type tenantJSON struct {
	Common
	Name      string    `json:"name"`
	State     string    `json:"state" enum:"active,suspended,deleted"`
	RootID    string    `json:"root_node_id"`
	Kafka     bool      `json:"kafka_output" doc:"Whether the tenant wants its decoded events in a Kafka topic of its own. It gets them from when the operator has made the topic"`
	OwnerLink *linkJSON `json:"owner_invitation,omitempty" doc:"The first owner's link, shown once"`
}

func tenantShape(t tenant.Tenant) tenantJSON {
	return tenantJSON{Common: Common{t.ID.String(), t.Rev, stamp(t.CreatedAt), stamp(t.UpdatedAt)}, Name: t.Name, State: string(t.State), RootID: t.Root.String(), Kafka: t.KafkaOutput}
}

// linkJSON is a one-time link, shown once.
type linkJSON struct {
	Secret string `json:"secret,omitempty" doc:"The link's token, shown once"`
	Link   string `json:"link,omitempty" doc:"The page that takes it, shown once"`
	Hint   string `json:"hint,omitempty"`
}

// What an answer that repeats one with a link says in its place.
const (
	lostLink       = "The link was shown when this was first asked for. If it is lost, ask for another one under a new Idempotency-Key."
	lostOwnerLink  = "The link was shown when this was first made. If it is lost, POST to the tenant's invite-owner under a new Idempotency-Key makes another one and voids it."
	lostInvitation = "The link was shown when this was first made. If it is lost, revoke this invitation and make another one."
)

// link makes a link of the configured origin: no header of a request has a say in it.
func (a *API) link(page string, token secret.Text) linkJSON {
	return linkJSON{Secret: token.Reveal(), Link: a.o.PublicURL + page + "?token=" + token.Reveal()}
}

func (a *API) tenantRoutes() {
	m := a.o.Manage
	const at = "/v1/tenants/{tenant}"
	answer := func(c *Call, t tenant.Tenant, err error) (*one[tenantJSON], error) {
		if err != nil {
			return nil, err
		}
		return &one[tenantJSON]{ETag: etag(t.Rev), Authz: c.authz(), Body: tenantShape(t)}, nil
	}
	Register(a, Declaration{Operation: "getTenant", Method: http.MethodGet, Path: at, Summary: "Read the tenant", Tag: "tenants", Permission: access.TenantRead, Object: "tenant", Tenant: FromPath, At: enter.Root},
		func(ctx context.Context, c *Call, _ *TenantIn) (*one[tenantJSON], error) {
			t, err := m.Tenant(ctx, c.Scope)
			return answer(c, t, err)
		})
	Register(a, Declaration{Operation: "updateTenant", Method: http.MethodPatch, Path: at, Summary: "Change the tenant", Tag: "tenants", Permission: access.TenantUpdate, Object: "tenant", Tenant: FromPath, At: enter.Root, Audit: []audit.Action{audit.TenantUpdated}},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			MatchIn
			Body struct {
				Name        *string `json:"name,omitempty" minLength:"1" maxLength:"200" example:"Acme Water"`
				KafkaOutput *bool   `json:"kafka_output,omitempty" doc:"Whether decoded events go to a Kafka topic of the tenant's own, once the operator has made it; 409 no_kafka where there is no Kafka"`
			}
		}) (*one[tenantJSON], error) {
			rev, err := revision(in.IfMatch)
			if err != nil {
				return nil, err
			}
			if in.Body.KafkaOutput != nil && *in.Body.KafkaOutput && !a.o.Ingest.OverBus() {
				return nil, fault.New(fault.Conflict, "no_kafka", "This deployment has no Kafka to send decoded events to. Read them from the API.")
			}
			t, err := m.UpdateTenant(ctx, &c.Call, rev, manage.TenantPatch{Name: in.Body.Name, KafkaOutput: in.Body.KafkaOutput})
			return answer(c, t, err)
		})
	Register(a, Declaration{Operation: "closeTenant", Method: http.MethodPost, Path: at + "/close", Summary: "Close the tenant for ever", Tag: "tenants", Permission: access.TenantClose, Object: "tenant", Tenant: FromPath, At: enter.Root, Audit: []audit.Action{audit.TenantDeleted}},
		func(ctx context.Context, c *Call, _ *TenantIn) (*one[tenantJSON], error) {
			t, err := m.SetTenantState(ctx, &c.Call, c.Tenant, tenant.Deleted)
			return answer(c, t, err) // a repeat finds the gate shut
		})
}

type personJSON struct {
	Common
	Email      string  `json:"email"`
	Name       string  `json:"name"`
	DisabledAt *string `json:"disabled_at" format:"date-time"`
}

func personShape(p principal.Person) personJSON {
	return personJSON{Common{p.ID.String(), p.Rev, stamp(p.CreatedAt), stamp(p.UpdatedAt)}, p.Email, p.Name, maybe(p.DisabledAt)}
}

func (a *API) platformRoutes() {
	m := a.o.Manage
	const at = "/v1/platform/tenants"
	type IdIn struct {
		ID string `path:"id"`
	}
	Register(a, Declaration{Operation: "listPlatformTenants", Method: http.MethodGet, Path: at, Summary: "List all tenants", Tag: "platform", Permission: access.PlatformTenantRead, Object: "platform-tenant", Tenant: FromPlatform, At: enter.Root},
		func(ctx context.Context, c *Call, in *ListIn) (*many[tenantJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.PlatformTenants(ctx, c.Scope, q)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, tenantShape), nil
		})
	Register(a, Declaration{Operation: "createPlatformTenant", Method: http.MethodPost, Path: at, Summary: "Create a tenant; the answer holds its first owner's link", Tag: "platform", Permission: access.PlatformTenantCreate, Object: "platform-tenant", Tenant: FromPlatform, At: enter.Root, Audit: []audit.Action{audit.TenantCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				Name       string `json:"name" minLength:"1" maxLength:"200" example:"Acme Water"`
				Kind       string `json:"kind,omitempty" enum:"vendor,customer,site,building,floor,zone" doc:"Of the root node; absent: customer"`
				OwnerEmail string `json:"owner_email" maxLength:"254" example:"ana@example.com"`
			}
		}) (*one[tenantJSON], error) {
			t, token, err := m.CreateTenant(ctx, &c.Call, in.Body.Name, org.Kind(in.Body.Kind), in.Body.OwnerEmail)
			t, replayed, err := made(err, t, func(s string) (t tenant.Tenant, err error) {
				var id ident.Tenant
				if err = path(s, &id); err == nil {
					t, err = m.PlatformTenant(ctx, c.Scope, id)
				}
				return t, err
			})
			if err != nil {
				return nil, err
			}
			out := &one[tenantJSON]{ETag: etag(t.Rev), Replayed: replayed, Location: at + "/" + t.ID.String(), Body: tenantShape(t)}
			l := a.link("/invite", token)
			if replayed != "" {
				l = linkJSON{Hint: lostOwnerLink}
			}
			out.Body.OwnerLink = &l
			return out, nil
		})
	Register(a, Declaration{Operation: "getPlatformTenant", Method: http.MethodGet, Path: at + "/{id}", Summary: "Read a tenant of the register", Tag: "platform", Permission: access.PlatformTenantRead, Object: "platform-tenant", Tenant: FromPlatform, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *IdIn) (*one[tenantJSON], error) {
			var id ident.Tenant
			if err := path(in.ID, &id); err != nil {
				return nil, err
			}
			t, err := m.PlatformTenant(ctx, c.Scope, id)
			if err != nil {
				return nil, err
			}
			return &one[tenantJSON]{ETag: etag(t.Rev), Body: tenantShape(t)}, nil
		})
	for _, l := range []struct {
		operation, verb, summary string
		permission               access.Permission
		state                    tenant.State
		action                   audit.Action
	}{
		{"suspendPlatformTenant", "suspend", "Suspend a tenant: nobody enters it", access.PlatformTenantSuspend, tenant.Suspended, audit.TenantSuspended},
		{"resumePlatformTenant", "resume", "Resume a suspended tenant", access.PlatformTenantResume, tenant.Active, audit.TenantResumed},
		{"closePlatformTenant", "close", "Close a tenant for ever", access.PlatformTenantClose, tenant.Deleted, audit.TenantDeleted},
	} {
		Register(a, Declaration{Operation: l.operation, Method: http.MethodPost, Path: at + "/{id}/" + l.verb, Summary: l.summary, Tag: "platform", Permission: l.permission, Object: "platform-tenant", Tenant: FromPlatform, At: enter.RootObject, Audit: []audit.Action{l.action}},
			func(ctx context.Context, c *Call, in *IdIn) (*one[tenantJSON], error) {
				var id ident.Tenant
				if err := path(in.ID, &id); err != nil {
					return nil, err
				}
				t, err := m.SetTenantState(ctx, &c.Call, id, l.state)
				t, replayed, err := made(err, t, func(string) (tenant.Tenant, error) { return m.PlatformTenant(ctx, c.Scope, id) })
				if err != nil {
					return nil, err
				}
				return &one[tenantJSON]{ETag: etag(t.Rev), Replayed: replayed, Body: tenantShape(t)}, nil
			})
	}
	a.limitRoutes()
	a.mappingRoutes()
	a.deadRoutes()
	a.platformRoleRoutes()
	a.personRoutes()
}

func (a *API) personRoutes() {
	m := a.o.Manage
	const at = "/v1/platform/persons"
	type IdIn struct {
		ID string `path:"id"`
	}
	Register(a, Declaration{Operation: "listPersons", Method: http.MethodGet, Path: at, Summary: "List the people of the platform", Tag: "platform", Permission: access.PlatformPersonRead, Object: "person", Tenant: FromPlatform, At: enter.Root},
		func(ctx context.Context, c *Call, in *ListIn) (*many[personJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Persons(ctx, c.Scope, q)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, personShape), nil
		})
	for _, l := range []struct {
		operation, verb, summary string
		disabled                 bool
		action                   audit.Action
	}{
		{"disablePerson", "disable", "Stop a person from signing in, and all they signed in with", true, audit.PersonDisabled},
		{"enablePerson", "enable", "Let a person sign in again; nothing old is revived", false, audit.PersonEnabled},
	} {
		Register(a, Declaration{Operation: l.operation, Method: http.MethodPost, Path: at + "/{id}/" + l.verb, Summary: l.summary, Tag: "platform", Permission: access.PlatformPersonDisable, Object: "person", Tenant: FromPlatform, At: enter.RootObject, Audit: []audit.Action{l.action}},
			func(ctx context.Context, c *Call, in *IdIn) (*one[personJSON], error) {
				var id ident.Principal
				if err := path(in.ID, &id); err != nil {
					return nil, err
				}
				p, err := m.DisablePerson(ctx, &c.Call, id, l.disabled)
				p, replayed, err := made(err, p, func(string) (principal.Person, error) { return m.Person(ctx, c.Scope, id) })
				if err != nil {
					return nil, err
				}
				return &one[personJSON]{ETag: etag(p.Rev), Replayed: replayed, Body: personShape(p)}, nil
			})
	}
	Register(a, Declaration{Operation: "resetPerson", Method: http.MethodPost, Path: at + "/{id}/reset", Summary: "Make a link by which a person sets a new password", Tag: "platform", Permission: access.PlatformPersonReset, Object: "person", Tenant: FromPlatform, At: enter.RootObject, Audit: []audit.Action{audit.ResetStarted}},
		func(ctx context.Context, c *Call, in *IdIn) (*one[linkJSON], error) {
			var id ident.Principal
			if err := path(in.ID, &id); err != nil {
				return nil, err
			}
			return a.reset(ctx, c, id, func() error {
				_, err := m.Person(ctx, c.Scope, id)
				return err
			})
		})
}

// reset answers a link that sets somebody's password, or a hint if this was asked before and they are still there.
func (a *API) reset(ctx context.Context, c *Call, id ident.Principal, there func() error) (*one[linkJSON], error) {
	token, err := a.o.SignIn.ResetLink(ctx, c.Scope, id, c.Once)
	out, replayed, err := made(err, a.link("/reset", token), func(string) (linkJSON, error) { return linkJSON{Hint: lostLink}, there() })
	if err != nil {
		return nil, err
	}
	return &one[linkJSON]{Replayed: replayed, Body: out}, nil
}
