package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/tenant"
)

// grantable is a limit that the platform may grant; null is the server's own setting.
type grantable struct {
	Named bool // in the patch, be it with null
	Value int64
}

// UnmarshalJSON is called for a limit that the patch names.
func (g *grantable) UnmarshalJSON(b []byte) error {
	*g = grantable{Named: true}
	return json.Unmarshal(b, &g.Value)
}

// MarshalJSON writes null for what was not granted.
func (g grantable) MarshalJSON() ([]byte, error) {
	if g.Value == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, g.Value, 10), nil
}

// Schema describes it.
func (grantable) Schema(huma.Registry) *huma.Schema {
	least, most := 1.0, float64(tenant.MaxLimits.FuelPerMinute) // which is the largest of them
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Nullable: true, Minimum: &least, Maximum: &most, Extensions: map[string]any{nullRemoves: true}}
}

// LimitFields are the fields of tenant.Limits by the names that the API gives them.
type LimitFields[N any] struct {
	SourceRate      N `json:"source_rate,omitempty" doc:"Events a second, per source"`
	SourceBurst     N `json:"source_burst,omitempty" doc:"Events at once, per source"`
	IngestRate      N `json:"ingest_rate,omitempty" doc:"Events a second"`
	IngestBurst     N `json:"ingest_burst,omitempty" doc:"Events at once"`
	InFlight        N `json:"in_flight,omitempty" doc:"Ingest requests at the same time"`
	Backlog         N `json:"backlog,omitempty" doc:"Uplinks that may wait to be decoded"`
	FuelPerMinute   N `json:"fuel_per_minute,omitempty" doc:"Decoder fuel a minute"`
	PrincipalRate   N `json:"principal_rate,omitempty" doc:"API requests a second, per token of the tenant"`
	PrincipalBurst  N `json:"principal_burst,omitempty" doc:"API requests at once, per token of the tenant"`
	TenantRate      N `json:"tenant_rate,omitempty" doc:"API requests a second"`
	Devices         N `json:"devices,omitempty"`
	Nodes           N `json:"nodes,omitempty"`
	Members         N `json:"members,omitempty"`
	Groups          N `json:"groups,omitempty"`
	Roles           N `json:"roles,omitempty"`
	Memberships     N `json:"memberships,omitempty"`
	Decoders        N `json:"decoders,omitempty"`
	Versions        N `json:"versions,omitempty" doc:"Kept per decoder"`
	Sources         N `json:"sources,omitempty"`
	KeysPerSource   N `json:"keys_per_source,omitempty"`
	TokensPerPerson N `json:"tokens_per_person,omitempty"`
	Invitations     N `json:"invitations,omitempty" doc:"Open ones"`
}

type limitsJSON struct {
	Common
	LimitFields[grantable]
	Effective LimitFields[int64] `json:"effective" doc:"What holds: what was granted, or else the server's own setting"`
}

// eachLimit hands out the fields of limits and of their JSON in pairs: they have the same names, which a test holds.
func eachLimit(limits, fields any, do func(limit, field reflect.Value)) {
	l, f := reflect.ValueOf(limits).Elem(), reflect.ValueOf(fields).Elem()
	for i := range l.NumField() {
		do(l.Field(i), f.FieldByName(l.Type().Field(i).Name))
	}
}

// limitsShape is one revision ahead of the record, which does not exist before something was granted.
func limitsShape(g manage.Granted) limitsJSON {
	out := limitsJSON{Common: Common{g.ID.String(), g.Rev + 1, stamp(g.CreatedAt), stamp(g.UpdatedAt)}}
	eachLimit(&g.Limits.Limits, &out.LimitFields, func(l, f reflect.Value) { f.Set(reflect.ValueOf(grantable{Value: l.Int()})) })
	eachLimit(&g.Effective, &out.Effective, func(l, f reflect.Value) { f.SetInt(l.Int()) })
	return out
}

// limitRoutes are what a tenant may use beyond, or below, the server's settings.
func (a *API) limitRoutes() {
	m := a.o.Manage
	const at = "/v1/platform/tenants/{id}/limits"
	type IdIn struct {
		ID string `path:"id"`
	}
	Register(a, Declaration{Operation: "getTenantLimits", Method: http.MethodGet, Path: at, Summary: "Read what a tenant may use", Tag: "platform", Permission: access.PlatformSettingRead, Object: "limits", Tenant: FromPlatform, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *IdIn) (*one[limitsJSON], error) {
			var id ident.Tenant
			if err := path(in.ID, &id); err != nil {
				return nil, err
			}
			g, err := m.Limits(ctx, c.Scope, id)
			if err != nil {
				return nil, err
			}
			return &one[limitsJSON]{ETag: etag(g.Rev + 1), Body: limitsShape(g)}, nil
		})
	Register(a, Declaration{Operation: "updateTenantLimits", Method: http.MethodPatch, Path: at, Summary: "Change what a tenant may use; null is the server's own setting", Tag: "platform", Permission: access.PlatformSettingWrite, Object: "limits", Tenant: FromPlatform, At: enter.RootObject, Audit: []audit.Action{audit.LimitsChanged}},
		func(ctx context.Context, c *Call, in *struct {
			IdIn
			MatchIn
			Body struct{ LimitFields[grantable] }
		}) (*one[limitsJSON], error) {
			var id ident.Tenant
			rev, err := target(in.ID, in.IfMatch, &id)
			if err != nil {
				return nil, err
			}
			g, err := m.SetLimits(ctx, &c.Call, id, rev-1, func(l *tenant.Limits) {
				eachLimit(l, &in.Body.LimitFields, func(l, f reflect.Value) {
					if got, ok := f.Interface().(grantable); ok && got.Named {
						l.SetInt(got.Value)
					}
				})
			})
			if err != nil {
				return nil, err
			}
			return &one[limitsJSON]{ETag: etag(g.Rev + 1), Body: limitsShape(g)}, nil
		})
	Register(a, Declaration{Operation: "inviteOwner", Method: http.MethodPost, Path: "/v1/platform/tenants/{id}/invite-owner", Summary: "Invite a tenant's first owner anew, while it has none; earlier links are void", Tag: "platform", Permission: access.PlatformTenantInviteOwner, Object: "platform-tenant", Tenant: FromPlatform, At: enter.RootObject, Audit: []audit.Action{audit.MemberInvited}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			IdIn
			Body struct {
				OwnerEmail string `json:"owner_email" maxLength:"254" example:"ana@example.com"`
			}
		}) (*one[invitationJSON], error) {
			var id ident.Tenant
			if err := path(in.ID, &id); err != nil {
				return nil, err
			}
			inv, token, err := m.InviteOwner(ctx, &c.Call, id, in.Body.OwnerEmail)
			if err != nil {
				return nil, err
			}
			return a.invited(inv, token, id.String(), lostOwnerLink), nil
		})
}

// platformRoleRoutes are who administers the platform.
func (a *API) platformRoleRoutes() {
	m := a.o.Manage
	const at = "/v1/platform/memberships"
	type MembershipIn struct {
		Membership string `path:"membership"`
	}
	get := func(ctx context.Context, c *Call, text string) (v access.Membership, err error) {
		var id ident.Membership
		if err = path(text, &id); err == nil {
			v, err = m.PlatformMembership(ctx, c.Scope, id)
		}
		return v, err
	}
	Register(a, Declaration{Operation: "listPlatformMemberships", Method: http.MethodGet, Path: at, Summary: "List who administers the platform", Tag: "platform", Permission: access.PlatformRoleRead, Object: "membership", Tenant: FromPlatform, At: enter.Root},
		func(ctx context.Context, c *Call, in *ListIn) (*many[membershipJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.PlatformMemberships(ctx, c.Scope, q)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, membershipShape), nil
		})
	Register(a, Declaration{Operation: "grantPlatformMembership", Method: http.MethodPost, Path: at, Summary: "Make a person a platform administrator", Tag: "platform", Permission: access.PlatformRoleGrant, Object: "membership", Tenant: FromPlatform, At: enter.Root, Audit: []audit.Action{audit.MembershipGranted}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				PrincipalID string `json:"principal_id" doc:"A person, as listPersons names them"`
				ExpiresAt   string `json:"expires_at,omitempty" format:"date-time"`
			}
		}) (*one[membershipJSON], error) {
			var to ident.Principal
			var expires time.Time
			for _, err := range []error{body(in.Body.PrincipalID, "/principal_id", &to), moment(in.Body.ExpiresAt, "/expires_at", &expires)} {
				if err != nil {
					return nil, err
				}
			}
			v, err := m.GrantPlatform(ctx, &c.Call, to, expires)
			v, replayed, err := made(err, v, func(s string) (access.Membership, error) { return get(ctx, c, s) })
			if err != nil {
				return nil, err
			}
			return &one[membershipJSON]{ETag: etag(v.Rev), Authz: c.authz(), Replayed: replayed, Location: at + "/" + v.ID.String(), Body: membershipShape(v)}, nil
		})
	Register(a, Declaration{Operation: "getPlatformMembership", Method: http.MethodGet, Path: at + "/{membership}", Summary: "Read a platform administrator's membership", Tag: "platform", Permission: access.PlatformRoleRead, Object: "membership", Tenant: FromPlatform, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *MembershipIn) (*one[membershipJSON], error) {
			v, err := get(ctx, c, in.Membership)
			if err != nil {
				return nil, err
			}
			return &one[membershipJSON]{ETag: etag(v.Rev), Body: membershipShape(v)}, nil
		})
	Register(a, Declaration{Operation: "revokePlatformMembership", Method: http.MethodDelete, Path: at + "/{membership}", Summary: "Take a platform role away; the last one stays", Tag: "platform", Permission: access.PlatformRoleRevoke, Object: "membership", Tenant: FromPlatform, At: enter.RootObject, Audit: []audit.Action{audit.MembershipRevoked}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			MembershipIn
			MatchIn
		}) (*none, error) {
			var id ident.Membership
			rev, err := target(in.Membership, in.IfMatch, &id)
			if err == nil {
				err = m.RevokePlatform(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
	Register(a, Declaration{Operation: "getPerson", Method: http.MethodGet, Path: "/v1/platform/persons/{id}", Summary: "Read a person of the platform", Tag: "platform", Permission: access.PlatformPersonRead, Object: "person", Tenant: FromPlatform, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *struct {
			ID string `path:"id"`
		}) (*one[personJSON], error) {
			var id ident.Principal
			var p principal.Person
			err := path(in.ID, &id)
			if err == nil {
				p, err = m.Person(ctx, c.Scope, id)
			}
			if err != nil {
				return nil, err
			}
			return &one[personJSON]{ETag: etag(p.Rev), Body: personShape(p)}, nil
		})
}
