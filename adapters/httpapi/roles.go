package httpapi

import (
	"context"
	"net/http"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
)

type roleJSON struct {
	ID          string   `json:"id"`
	Rev         uint64   `json:"rev"`
	CreatedAt   *string  `json:"created_at" format:"date-time" doc:"Null for a built-in role"`
	UpdatedAt   *string  `json:"updated_at" format:"date-time" doc:"Null for a built-in role"`
	Name        string   `json:"name"`
	Permissions []string `json:"permissions"`
	BuiltIn     bool     `json:"built_in"`
}

func roleShape(r access.Role) roleJSON {
	_, builtIn := access.BuiltIn(r.ID)
	return roleJSON{r.ID.String(), r.Rev, maybe(r.CreatedAt), maybe(r.UpdatedAt), r.Name, permissions(r.Permissions), builtIn}
}

func permissions(set access.Set) []string {
	out := make([]string, 0, set.Len())
	for _, p := range set.List() {
		out = append(out, p.String())
	}
	return out
}

func setOf(names []string) (access.Set, error) {
	var set access.Set
	for _, n := range names {
		p, err := access.ParsePermission(n)
		if err != nil {
			return set, err
		}
		set = set.With(p)
	}
	return set, nil
}

type groupJSON struct {
	Common
	Name      string   `json:"name"`
	MemberIDs []string `json:"member_ids"`
	GroupIDs  []string `json:"group_ids"`
}

func groupShape(g access.Group) groupJSON {
	return groupJSON{Common{g.ID.String(), g.Rev, stamp(g.CreatedAt), stamp(g.UpdatedAt)}, g.Name, texts(g.Members), texts(g.Groups)}
}

// roleTarget is target, but a built-in role has no revision that could be right: that it is never changed is said first.
func roleTarget(text, match string, id *ident.Role) (uint64, error) {
	rev, err := target(text, match, id)
	if _, fixed := access.BuiltIn(*id); fixed {
		err = nil
	}
	return rev, err
}

func (a *API) roleRoutes() {
	m := a.o.Manage
	const at = "/v1/tenants/{tenant}"
	Register(a, Declaration{Operation: "listRoles", Method: http.MethodGet, Path: at + "/roles", Summary: "List the roles, the built-in ones first", Tag: "roles", Permission: access.RoleRead, Object: "role", Tenant: FromPath, At: enter.Root},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			NamedIn
		}) (*many[roleJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Roles(ctx, c.Scope, q, in.Name)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, roleShape), nil
		})
	Register(a, Declaration{Operation: "createRole", Method: http.MethodPost, Path: at + "/roles", Summary: "Create a role of the tenant's own", Tag: "roles", Permission: access.RoleWrite, Object: "role", Tenant: FromPath, At: enter.Root, Audit: []audit.Action{audit.RoleCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				Name        string   `json:"name" minLength:"1" maxLength:"200" example:"technician"`
				Permissions []string `json:"permissions" maxItems:"100" example:"[\"device:read\"]"`
			}
		}) (*one[roleJSON], error) {
			set, err := setOf(in.Body.Permissions)
			if err != nil {
				return nil, err
			}
			v, err := m.CreateRole(ctx, &c.Call, in.Body.Name, set)
			v, replayed, err := made(err, v, func(s string) (v access.Role, err error) {
				var id ident.Role
				if err = path(s, &id); err == nil {
					v, err = m.Role(ctx, c.Scope, id)
				}
				return v, err
			})
			if err != nil {
				return nil, err
			}
			return &one[roleJSON]{ETag: etag(v.Rev), Authz: c.authz(), Replayed: replayed, Location: "/v1/tenants/" + in.Tenant + "/roles/" + v.ID.String(), Body: roleShape(v)}, nil
		})
	type RoleIn struct {
		TenantIn
		Role string `path:"role"`
	}
	Register(a, Declaration{Operation: "getRole", Method: http.MethodGet, Path: at + "/roles/{role}", Summary: "Read a role", Tag: "roles", Permission: access.RoleRead, Object: "role", Tenant: FromPath, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *RoleIn) (*one[roleJSON], error) {
			var id ident.Role
			if err := path(in.Role, &id); err != nil {
				return nil, err
			}
			v, err := m.Role(ctx, c.Scope, id)
			if err != nil {
				return nil, err
			}
			return &one[roleJSON]{ETag: etag(v.Rev), Body: roleShape(v)}, nil
		})
	Register(a, Declaration{Operation: "updateRole", Method: http.MethodPatch, Path: at + "/roles/{role}", Summary: "Change a role's name or permissions", Tag: "roles", Permission: access.RoleWrite, Object: "role", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.RoleUpdated}},
		func(ctx context.Context, c *Call, in *struct {
			RoleIn
			MatchIn
			Body struct {
				Name        *string   `json:"name,omitempty" minLength:"1" maxLength:"200"`
				Permissions *[]string `json:"permissions,omitempty" maxItems:"100"`
			}
		}) (*one[roleJSON], error) {
			var id ident.Role
			rev, err := roleTarget(in.Role, in.IfMatch, &id)
			if err != nil {
				return nil, err
			}
			var set *access.Set
			if in.Body.Permissions != nil {
				s, err := setOf(*in.Body.Permissions)
				if err != nil {
					return nil, err
				}
				set = &s
			}
			v, err := m.UpdateRole(ctx, &c.Call, id, rev, in.Body.Name, set)
			if err != nil {
				return nil, err
			}
			return &one[roleJSON]{ETag: etag(v.Rev), Authz: c.authz(), Body: roleShape(v)}, nil
		})
	Register(a, Declaration{Operation: "deleteRole", Method: http.MethodDelete, Path: at + "/roles/{role}", Summary: "Delete a role that nobody has", Tag: "roles", Permission: access.RoleWrite, Object: "role", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.RoleDeleted}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			RoleIn
			MatchIn
		}) (*none, error) {
			var id ident.Role
			rev, err := roleTarget(in.Role, in.IfMatch, &id)
			if err == nil {
				err = m.DeleteRole(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
	a.groupRoutes(m)
}

func (a *API) groupRoutes(m *manage.Manage) {
	const at = "/v1/tenants/{tenant}/groups"
	type GroupIn struct {
		TenantIn
		Group string `path:"group"`
	}
	patch := func(name *string, members, groups *[]string) (manage.GroupPatch, error) {
		p := manage.GroupPatch{Name: name}
		if members != nil {
			p.Members = new([]ident.Principal)
			if err := bodies(*members, "/member_ids", p.Members); err != nil {
				return p, err
			}
		}
		if groups != nil {
			p.Groups = new([]ident.Group)
			if err := bodies(*groups, "/group_ids", p.Groups); err != nil {
				return p, err
			}
		}
		return p, nil
	}
	get := func(ctx context.Context, c *Call, s string) (v access.Group, err error) {
		var id ident.Group
		if err = path(s, &id); err == nil {
			v, err = m.Group(ctx, c.Scope, id)
		}
		return v, err
	}
	Register(a, Declaration{Operation: "listGroups", Method: http.MethodGet, Path: at, Summary: "List the groups", Tag: "groups", Permission: access.GroupRead, Object: "group", Tenant: FromPath, At: enter.Root},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			NamedIn
		}) (*many[groupJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Groups(ctx, c.Scope, q, in.Name)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, groupShape), nil
		})
	Register(a, Declaration{Operation: "createGroup", Method: http.MethodPost, Path: at, Summary: "Create a group", Tag: "groups", Permission: access.GroupWrite, Object: "group", Tenant: FromPath, At: enter.Root, Audit: []audit.Action{audit.GroupCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				Name      string   `json:"name" minLength:"1" maxLength:"200" example:"night shift"`
				MemberIDs []string `json:"member_ids,omitempty" maxItems:"5000"`
				GroupIDs  []string `json:"group_ids,omitempty" maxItems:"500"`
			}
		}) (*one[groupJSON], error) {
			p, err := patch(&in.Body.Name, &in.Body.MemberIDs, &in.Body.GroupIDs)
			if err != nil {
				return nil, err
			}
			v, err := m.PutGroup(ctx, &c.Call, ident.Group{}, 0, p)
			v, replayed, err := made(err, v, func(s string) (access.Group, error) { return get(ctx, c, s) })
			if err != nil {
				return nil, err
			}
			return &one[groupJSON]{ETag: etag(v.Rev), Authz: c.authz(), Replayed: replayed, Location: "/v1/tenants/" + in.Tenant + "/groups/" + v.ID.String(), Body: groupShape(v)}, nil
		})
	Register(a, Declaration{Operation: "getGroup", Method: http.MethodGet, Path: at + "/{group}", Summary: "Read a group", Tag: "groups", Permission: access.GroupRead, Object: "group", Tenant: FromPath, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *GroupIn) (*one[groupJSON], error) {
			v, err := get(ctx, c, in.Group)
			if err != nil {
				return nil, err
			}
			return &one[groupJSON]{ETag: etag(v.Rev), Body: groupShape(v)}, nil
		})
	Register(a, Declaration{Operation: "updateGroup", Method: http.MethodPatch, Path: at + "/{group}", Summary: "Change a group's name, members or groups", Tag: "groups", Permission: access.GroupWrite, Object: "group", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.GroupUpdated}},
		func(ctx context.Context, c *Call, in *struct {
			GroupIn
			MatchIn
			Body struct {
				Name      *string   `json:"name,omitempty" minLength:"1" maxLength:"200"`
				MemberIDs *[]string `json:"member_ids,omitempty" maxItems:"5000"`
				GroupIDs  *[]string `json:"group_ids,omitempty" maxItems:"500"`
			}
		}) (*one[groupJSON], error) {
			var id ident.Group
			rev, err := target(in.Group, in.IfMatch, &id)
			if err != nil {
				return nil, err
			}
			p, err := patch(in.Body.Name, in.Body.MemberIDs, in.Body.GroupIDs)
			if err != nil {
				return nil, err
			}
			v, err := m.PutGroup(ctx, &c.Call, id, rev, p)
			if err != nil {
				return nil, err
			}
			return &one[groupJSON]{ETag: etag(v.Rev), Authz: c.authz(), Body: groupShape(v)}, nil
		})
	Register(a, Declaration{Operation: "deleteGroup", Method: http.MethodDelete, Path: at + "/{group}", Summary: "Delete a group that has no memberships", Tag: "groups", Permission: access.GroupWrite, Object: "group", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.GroupDeleted}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			GroupIn
			MatchIn
		}) (*none, error) {
			var id ident.Group
			rev, err := target(in.Group, in.IfMatch, &id)
			if err == nil {
				err = m.DeleteGroup(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
}
