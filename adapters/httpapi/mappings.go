package httpapi

import (
	"context"
	"net/http"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

type mappingJSON struct {
	Common
	Connection    string `json:"connection" example:"chirpstack-eu"`
	ApplicationID string `json:"application_id" example:"52f14cd4-c6f1-4fbd-8f87-4025e1d49242"`
	TenantID      string `json:"tenant_id"`
	SourceID      string `json:"source_id"`
}

func mappingShape(m source.Mapping) mappingJSON {
	return mappingJSON{Common{m.ID.String(), m.Rev, stamp(m.CreatedAt), stamp(m.UpdatedAt)}, m.Connection, m.Application, m.Tenant.String(), m.Source.String()}
}

// mappingRoutes are whose the messages are that the operator's connections bring.
func (a *API) mappingRoutes() {
	m := a.o.Manage
	const at = "/v1/platform/mappings"
	type MappingIn struct {
		Mapping string `path:"mapping"`
	}
	get := func(ctx context.Context, c *Call, text string) (v source.Mapping, err error) {
		var id ident.Mapping
		if err = path(text, &id); err == nil {
			v, err = m.Mapping(ctx, c.Scope, id)
		}
		return v, err
	}
	Register(a, Declaration{Operation: "listMappings", Method: http.MethodGet, Path: at, Summary: "List whose the applications of the connections to network servers are", Tag: "platform", Permission: access.PlatformConnectionRead, Object: "mapping", Tenant: FromPlatform, At: enter.Root},
		func(ctx context.Context, c *Call, in *struct {
			ListIn
			Connection string `query:"connection" maxLength:"64" doc:"Of this connection alone"`
			TenantID   string `query:"tenant_id" doc:"To this tenant alone"`
		}) (*many[mappingJSON], error) {
			f := store.MappingFilter{Connection: in.Connection}
			if err := body(in.TenantID, "/query/tenant_id", &f.Tenant); err != nil {
				return nil, err
			}
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Mappings(ctx, c.Scope, q, f)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, mappingShape), nil
		})
	Register(a, Declaration{Operation: "createMapping", Method: http.MethodPost, Path: at, Summary: "Give the messages of a connection's application to a tenant's source", Tag: "platform", Permission: access.PlatformConnectionWrite, Object: "mapping", Tenant: FromPlatform, At: enter.Root, Audit: []audit.Action{audit.MappingCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				Connection    string `json:"connection" maxLength:"64" doc:"As the configuration of the MQTT workers names it" example:"chirpstack-eu"`
				ApplicationID string `json:"application_id" maxLength:"128" doc:"As the network server names it in its topics" example:"52f14cd4-c6f1-4fbd-8f87-4025e1d49242"`
				TenantID      string `json:"tenant_id"`
				SourceID      string `json:"source_id" doc:"A source of that tenant; several applications may have the same one"`
			}
		}) (*one[mappingJSON], error) {
			v := source.Mapping{Connection: in.Body.Connection, Application: in.Body.ApplicationID}
			for _, err := range []error{body(in.Body.TenantID, "/tenant_id", &v.Tenant), body(in.Body.SourceID, "/source_id", &v.Source)} {
				if err != nil {
					return nil, err
				}
			}
			v, err := m.MapApplication(ctx, &c.Call, v)
			v, replayed, err := made(err, v, func(s string) (source.Mapping, error) { return get(ctx, c, s) })
			if err != nil {
				return nil, err
			}
			return &one[mappingJSON]{ETag: etag(v.Rev), Replayed: replayed, Location: at + "/" + v.ID.String(), Body: mappingShape(v)}, nil
		})
	Register(a, Declaration{Operation: "getMapping", Method: http.MethodGet, Path: at + "/{mapping}", Summary: "Read whose an application of a connection is", Tag: "platform", Permission: access.PlatformConnectionRead, Object: "mapping", Tenant: FromPlatform, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *MappingIn) (*one[mappingJSON], error) {
			v, err := get(ctx, c, in.Mapping)
			if err != nil {
				return nil, err
			}
			return &one[mappingJSON]{ETag: etag(v.Rev), Body: mappingShape(v)}, nil
		})
	Register(a, Declaration{Operation: "deleteMapping", Method: http.MethodDelete, Path: at + "/{mapping}", Summary: "Take an application of a connection from its tenant; what comes of it then is nobody's", Tag: "platform", Permission: access.PlatformConnectionWrite, Object: "mapping", Tenant: FromPlatform, At: enter.RootObject, Audit: []audit.Action{audit.MappingDeleted}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			MappingIn
			MatchIn
		}) (*none, error) {
			var id ident.Mapping
			rev, err := target(in.Mapping, in.IfMatch, &id)
			if err == nil {
				err = m.UnmapApplication(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
}
