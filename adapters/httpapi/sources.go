package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
)

type sourceJSON struct {
	Common
	Name           string   `json:"name"`
	NodeID         string   `json:"node_id"`
	Format         string   `json:"format" enum:"chirpstack,tts,plain"`
	State          string   `json:"state" enum:"active,disabled"`
	AccountID      string   `json:"account_id"`
	ApplicationIDs []string `json:"application_ids"`
	DeviceIDs      []string `json:"device_ids"`
}

func sourceShape(s source.Source) sourceJSON {
	return sourceJSON{Common{s.ID.String(), s.Rev, stamp(s.CreatedAt), stamp(s.UpdatedAt)}, s.Name, s.Node.String(), string(s.Format), string(s.State), s.Account.String(), some(s.Applications), texts(s.Devices)}
}

type keyJSON struct {
	Common
	Name       string   `json:"name"`
	Accessor   string   `json:"accessor" doc:"Names the key in logs; opens nothing"`
	ExpiresAt  string   `json:"expires_at" format:"date-time"`
	LastUsedAt *string  `json:"last_used_at" format:"date-time"`
	Secret     string   `json:"secret,omitempty" doc:"The key itself, shown once"`
	Hint       string   `json:"hint,omitempty"`
	Permission []string `json:"permissions,omitempty"`
	OwnerID    string   `json:"owner_id,omitempty"`
	TenantID   string   `json:"tenant_id,omitempty"`
}

const lostSecret = "The secret was shown when this was first made. If it is lost, make another one and revoke this."

func storedShape(id string, rev uint64, name string, s credential.Stored) keyJSON {
	return keyJSON{Common: Common{id, rev, stamp(s.CreatedAt), stamp(s.UpdatedAt)}, Name: name, Accessor: s.Accessor, ExpiresAt: stamp(s.ExpiresAt), LastUsedAt: maybe(s.LastUsed)}
}

// shown puts a secret into the answer that made it, and a hint into one that repeats it.
func (k keyJSON) shown(token secret.Text, replayed string) keyJSON {
	if replayed != "" {
		k.Hint = lostSecret
	} else {
		k.Secret = token.Reveal()
	}
	return k
}

func keyShape(k credential.IngestionKey) keyJSON {
	return storedShape(k.ID.String(), k.Rev, k.Name, k.Stored)
}

// SourceIn names a source in the path.
type SourceIn struct {
	TenantIn
	Source string `path:"source"`
}

const sourcesPath = "/v1/tenants/{tenant}/sources"

func (a *API) sourceRoutes() {
	m := a.o.Manage
	get := func(ctx context.Context, c *Call, s string) (v source.Source, err error) {
		var id ident.Source
		if err = path(s, &id); err == nil {
			v, err = m.Source(ctx, c.Scope, id)
		}
		return v, err
	}
	Register(a, Declaration{Operation: "listSources", Method: http.MethodGet, Path: sourcesPath, Summary: "List the sources within reach", Tag: "sources", Permission: access.SourceRead, Object: "source", Tenant: FromPath, At: enter.Anywhere},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			NamedIn
		}) (*many[sourceJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Sources(ctx, c.Scope, q, in.Name)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, sourceShape), nil
		})
	Register(a, Declaration{Operation: "createSource", Method: http.MethodPost, Path: sourcesPath, Summary: "Open a way in for events at a node", Tag: "sources", Permission: access.SourceWrite, Object: "source", Tenant: FromPath, At: enter.Anywhere, Audit: []audit.Action{audit.SourceCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				Name           string   `json:"name" minLength:"1" maxLength:"200" example:"chirpstack eu"`
				NodeID         string   `json:"node_id,omitempty" doc:"It speaks for the devices at or below; absent: the root"`
				Format         string   `json:"format" enum:"chirpstack,tts,plain" example:"chirpstack"`
				ApplicationIDs []string `json:"application_ids,omitempty" maxItems:"1000"`
				DeviceIDs      []string `json:"device_ids,omitempty" maxItems:"1000"`
			}
		}) (*one[sourceJSON], error) {
			s := source.Source{Name: in.Body.Name, Format: source.Format(in.Body.Format), Applications: in.Body.ApplicationIDs}
			if err := body(in.Body.NodeID, "/node_id", &s.Node); err != nil {
				return nil, err
			}
			if err := bodies(in.Body.DeviceIDs, "/device_ids", &s.Devices); err != nil {
				return nil, err
			}
			v, err := m.CreateSource(ctx, &c.Call, s)
			v, replayed, err := made(err, v, func(s string) (source.Source, error) { return get(ctx, c, s) })
			if err != nil {
				return nil, err
			}
			return &one[sourceJSON]{ETag: etag(v.Rev), Authz: c.authz(), Replayed: replayed, Location: "/v1/tenants/" + in.Tenant + "/sources/" + v.ID.String(), Body: sourceShape(v)}, nil
		})
	Register(a, Declaration{Operation: "getSource", Method: http.MethodGet, Path: sourcesPath + "/{source}", Summary: "Read a source", Tag: "sources", Permission: access.SourceRead, Object: "source", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *SourceIn) (*one[sourceJSON], error) {
			v, err := get(ctx, c, in.Source)
			if err != nil {
				return nil, err
			}
			return &one[sourceJSON]{ETag: etag(v.Rev), Body: sourceShape(v)}, nil
		})
	Register(a, Declaration{Operation: "updateSource", Method: http.MethodPatch, Path: sourcesPath + "/{source}", Summary: "Change a source, or switch it off", Tag: "sources", Permission: access.SourceWrite, Object: "source", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.SourceUpdated}},
		func(ctx context.Context, c *Call, in *struct {
			SourceIn
			MatchIn
			Body struct {
				Name           *string   `json:"name,omitempty" minLength:"1" maxLength:"200"`
				State          *string   `json:"state,omitempty" enum:"active,disabled"`
				ApplicationIDs *[]string `json:"application_ids,omitempty" maxItems:"1000"`
				DeviceIDs      *[]string `json:"device_ids,omitempty" maxItems:"1000"`
			}
		}) (*one[sourceJSON], error) {
			var id ident.Source
			rev, err := target(in.Source, in.IfMatch, &id)
			if err != nil {
				return nil, err
			}
			p := manage.SourcePatch{Name: in.Body.Name, State: (*source.State)(in.Body.State), Applications: in.Body.ApplicationIDs}
			if in.Body.DeviceIDs != nil {
				p.Devices = new([]ident.Device)
				if err := bodies(*in.Body.DeviceIDs, "/device_ids", p.Devices); err != nil {
					return nil, err
				}
			}
			v, err := m.UpdateSource(ctx, &c.Call, id, rev, p)
			if err != nil {
				return nil, err
			}
			return &one[sourceJSON]{ETag: etag(v.Rev), Body: sourceShape(v)}, nil
		})
	Register(a, Declaration{Operation: "deleteSource", Method: http.MethodDelete, Path: sourcesPath + "/{source}", Summary: "Delete a source, with its keys and its account", Tag: "sources", Permission: access.SourceWrite, Object: "source", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.SourceDeleted}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			SourceIn
			MatchIn
		}) (*none, error) {
			var id ident.Source
			rev, err := target(in.Source, in.IfMatch, &id)
			if err == nil {
				err = m.DeleteSource(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
	a.keyRoutes(m)
}

func (a *API) keyRoutes(m *manage.Manage) {
	const at = sourcesPath + "/{source}/keys"
	Register(a, Declaration{Operation: "listKeys", Method: http.MethodGet, Path: at, Summary: "List a source's ingestion keys", Tag: "sources", Permission: access.SourceRead, Object: "key", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *struct {
			SourceIn
			ListIn
		}) (*many[keyJSON], error) {
			var id ident.Source
			if err := path(in.Source, &id); err != nil {
				return nil, err
			}
			keys := func() ([]credential.IngestionKey, error) { return m.Keys(ctx, c.Scope, id) }
			return portion(c, in.ListIn, keys, func(k credential.IngestionKey) string { return k.ID.String() }, keyShape)
		})
	get := func(ctx context.Context, c *Call, source, text string) (k credential.IngestionKey, err error) {
		var id ident.Source
		var key ident.Key
		if err = path(source, &id); err == nil {
			err = path(text, &key)
		}
		if err == nil {
			k, err = m.Key(ctx, c.Scope, id, key)
		}
		return k, err
	}
	Register(a, Declaration{Operation: "getKey", Method: http.MethodGet, Path: at + "/{key}", Summary: "Read what is known of an ingestion key", Tag: "sources", Permission: access.SourceRead, Object: "key", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *struct {
			SourceIn
			Key string `path:"key"`
		}) (*one[keyJSON], error) {
			k, err := get(ctx, c, in.Source, in.Key)
			if err != nil {
				return nil, err
			}
			return &one[keyJSON]{ETag: etag(k.Rev), Body: keyShape(k)}, nil
		})
	create := func(ctx context.Context, c *Call, text, name string, ttl int64, overlap *time.Duration) (*one[keyJSON], error) {
		var id ident.Source
		if err := path(text, &id); err != nil {
			return nil, err
		}
		k, token, err := m.CreateKey(ctx, &c.Call, id, name, time.Duration(ttl)*time.Second, overlap)
		k, replayed, err := made(err, k, func(s string) (credential.IngestionKey, error) { return get(ctx, c, text, s) })
		if err != nil {
			return nil, err
		}
		return &one[keyJSON]{ETag: etag(k.Rev), Location: "/v1/tenants/" + c.Tenant.String() + "/sources/" + text + "/keys/" + k.ID.String(), Replayed: replayed, Body: keyShape(k).shown(token, replayed)}, nil
	}
	Register(a, Declaration{Operation: "createKey", Method: http.MethodPost, Path: at, Summary: "Make an ingestion key; it is shown once", Tag: "sources", Permission: access.SourceKeyCreate, Object: "key", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.KeyCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			SourceIn
			Body struct {
				Name       string `json:"name" minLength:"1" maxLength:"200" example:"first"`
				TTLSeconds int64  `json:"ttl_seconds,omitempty" minimum:"1" maximum:"63072000"`
			}
		}) (*one[keyJSON], error) {
			return create(ctx, c, in.Source, in.Body.Name, in.Body.TTLSeconds, nil)
		})
	Register(a, Declaration{Operation: "rotateKey", Method: http.MethodPost, Path: sourcesPath + "/{source}/rotate", Summary: "Make a new key; the old ones end after the overlap", Tag: "sources", Permission: access.SourceKeyCreate, Object: "key", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.KeyRotated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			SourceIn
			Body struct {
				Name           string `json:"name" minLength:"1" maxLength:"200" example:"second"`
				TTLSeconds     int64  `json:"ttl_seconds,omitempty" minimum:"1" maximum:"63072000"`
				OverlapSeconds int64  `json:"overlap_seconds" minimum:"0" maximum:"2592000" example:"86400"`
			}
		}) (*one[keyJSON], error) {
			overlap := time.Duration(in.Body.OverlapSeconds) * time.Second
			return create(ctx, c, in.Source, in.Body.Name, in.Body.TTLSeconds, &overlap)
		})
	Register(a, Declaration{Operation: "revokeKey", Method: http.MethodDelete, Path: at + "/{key}", Summary: "End an ingestion key at once", Tag: "sources", Permission: access.SourceKeyRevoke, Object: "key", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.KeyRevoked}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			SourceIn
			MatchIn
			Key string `path:"key"`
		}) (*none, error) {
			var id ident.Source
			var key ident.Key
			var rev uint64
			err := path(in.Source, &id)
			if err == nil {
				rev, err = target(in.Key, in.IfMatch, &key)
			}
			if err == nil {
				err = m.RevokeKey(ctx, &c.Call, id, key, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
	a.tokenRoutes(m)
}

func tokenShape(t credential.PAT) keyJSON {
	k := storedShape(t.ID.String(), t.Rev, t.Name, t.Stored)
	k.Permission, k.OwnerID = permissions(t.Permissions), t.Principal.String()
	return k
}

// tokenRoutes are a tenant's personal access tokens. The caller's own of all tenants stand below /v1/me as well.
func (a *API) tokenRoutes(m *manage.Manage) {
	const at = "/v1/tenants/{tenant}/tokens"
	Register(a, Declaration{Operation: "listTokens", Method: http.MethodGet, Path: at, Summary: "List the members' personal access tokens", Tag: "tokens", Permission: access.TokenRead, Object: "token", Tenant: FromPath, At: enter.Root},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
		}) (*many[keyJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Tokens(ctx, c.Scope, q)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, tokenShape), nil
		})
	get := func(ctx context.Context, c *Call, text string) (t credential.PAT, err error) {
		var id ident.Token
		if err = path(text, &id); err == nil {
			t, err = m.Token(ctx, c.Scope, id)
		}
		return t, err
	}
	Register(a, Declaration{Operation: "getToken", Method: http.MethodGet, Path: at + "/{token}", Summary: "Read what is known of a token: one's own, or another's with token:read", Tag: "tokens", Self: "one's own; others' take token:read, asked of the scope", Object: "token", Tenant: FromPath},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Token string `path:"token"`
		}) (*one[keyJSON], error) {
			t, err := get(ctx, c, in.Token)
			if err != nil {
				return nil, err
			}
			return &one[keyJSON]{ETag: etag(t.Rev), Body: tokenShape(t)}, nil
		})
	Register(a, Declaration{Operation: "createToken", Method: http.MethodPost, Path: at, Summary: "Make a personal access token of the tenant; it is shown once", Tag: "tokens", Self: "it is never wider than the caller", Object: "token", Tenant: FromPath, Audit: []audit.Action{audit.TokenCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				Name        string   `json:"name" minLength:"1" maxLength:"200" example:"report"`
				Permissions []string `json:"permissions" minItems:"1" maxItems:"100" example:"[\"reading:read\"]"`
				TTLSeconds  int64    `json:"ttl_seconds,omitempty" minimum:"1" maximum:"7776000"`
			}
		}) (*one[keyJSON], error) {
			set, err := setOf(in.Body.Permissions)
			if err != nil {
				return nil, err
			}
			t, token, err := m.CreateToken(ctx, &c.Call, in.Body.Name, set, time.Duration(in.Body.TTLSeconds)*time.Second)
			t, replayed, err := made(err, t, func(s string) (credential.PAT, error) { return get(ctx, c, s) })
			if err != nil {
				return nil, err
			}
			return &one[keyJSON]{ETag: etag(t.Rev), Location: "/v1/tenants/" + in.Tenant + "/tokens/" + t.ID.String(), Replayed: replayed, Body: tokenShape(t).shown(token, replayed)}, nil
		})
	Register(a, Declaration{Operation: "revokeToken", Method: http.MethodDelete, Path: at + "/{token}", Summary: "End a token: one's own, or another's with token:revoke", Tag: "tokens", Self: "one's own; others' take token:revoke, asked of the scope", Object: "token", Tenant: FromPath, Audit: []audit.Action{audit.TokenRevoked}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			MatchIn
			Token string `path:"token"`
		}) (*none, error) {
			var id ident.Token
			rev, err := target(in.Token, in.IfMatch, &id)
			if err == nil {
				err = m.RevokeToken(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
}
