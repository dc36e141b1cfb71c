package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
)

type memberJSON struct {
	Common
	Kind     string  `json:"kind" enum:"human,service"`
	Name     string  `json:"name"`
	Email    string  `json:"email,omitempty"`
	SourceID *string `json:"source_id,omitempty"`
}

func memberShape(m principal.Member) memberJSON {
	return memberJSON{Common{m.ID.String(), m.Rev, stamp(m.CreatedAt), stamp(m.UpdatedAt)}, string(m.Kind), m.Name, m.Email, ref(m.Source)}
}

type invitationJSON struct {
	Common
	Email     string  `json:"email"`
	RoleID    string  `json:"role_id"`
	NodeID    string  `json:"node_id"`
	Recursive bool    `json:"recursive"`
	InviterID *string `json:"inviter_id"`
	ExpiresAt string  `json:"expires_at" format:"date-time"`
	Secret    string  `json:"secret,omitempty" doc:"The link's token, shown once"`
	Link      string  `json:"link,omitempty" doc:"The link to pass on, shown once"`
	Hint      string  `json:"hint,omitempty"`
}

func invitationShape(i principal.Invitation) invitationJSON {
	return invitationJSON{Common: Common{i.ID.String(), i.Rev, stamp(i.CreatedAt), stamp(i.UpdatedAt)}, Email: i.Email, RoleID: i.Role.String(), NodeID: i.Node.String(),
		Recursive: i.Recursive, InviterID: ref(i.Inviter), ExpiresAt: stamp(i.ExpiresAt)}
}

// invited answers an invitation with its link, or without a token one that was made before, with a hint.
func (a *API) invited(inv principal.Invitation, token secret.Text, of, hint string) *one[invitationJSON] {
	out := &one[invitationJSON]{ETag: etag(inv.Rev), Location: "/v1/tenants/" + of + "/invitations/" + inv.ID.String(), Body: invitationShape(inv)}
	if token.IsZero() {
		out.Replayed, out.Body.Hint = "true", hint
		return out
	}
	l := a.link("/invite", token)
	out.Body.Secret, out.Body.Link = l.Secret, l.Link
	return out
}

type membershipJSON struct {
	Common
	PrincipalID *string `json:"principal_id"`
	GroupID     *string `json:"group_id"`
	RoleID      string  `json:"role_id"`
	NodeID      string  `json:"node_id"`
	Recursive   bool    `json:"recursive"`
	ExpiresAt   *string `json:"expires_at" format:"date-time"`
}

func membershipShape(m access.Membership) membershipJSON {
	return membershipJSON{Common{m.ID.String(), m.Rev, stamp(m.CreatedAt), stamp(m.UpdatedAt)}, ref(m.Principal), ref(m.Group), m.Role.String(), m.Node.String(), m.Recursive, maybe(m.ExpiresAt)}
}

func (a *API) memberRoutes() {
	m := a.o.Manage
	const at = "/v1/tenants/{tenant}"
	Register(a, Declaration{Operation: "listMembers", Method: http.MethodGet, Path: at + "/members", Summary: "List the members", Tag: "members", Permission: access.MemberRead, Object: "member", Tenant: FromPath, At: enter.Root},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			NamedIn
		}) (*many[memberJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Members(ctx, c.Scope, q, in.Name)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, memberShape), nil
		})
	type MemberIn struct {
		TenantIn
		Member string `path:"member"`
	}
	Register(a, Declaration{Operation: "getMember", Method: http.MethodGet, Path: at + "/members/{member}", Summary: "Read a member", Tag: "members", Permission: access.MemberRead, Object: "member", Tenant: FromPath, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *MemberIn) (*one[memberJSON], error) {
			var id ident.Principal
			if err := path(in.Member, &id); err != nil {
				return nil, err
			}
			v, err := m.Member(ctx, c.Scope, id)
			if err != nil {
				return nil, err
			}
			return &one[memberJSON]{ETag: etag(v.Rev), Body: memberShape(v)}, nil
		})
	Register(a, Declaration{Operation: "removeMember", Method: http.MethodDelete, Path: at + "/members/{member}", Summary: "Remove a member, with memberships and tokens", Tag: "members", Permission: access.MemberRemove, Object: "member", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.MemberRemoved}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			MemberIn
			MatchIn
		}) (*none, error) {
			var id ident.Principal
			rev, err := target(in.Member, in.IfMatch, &id)
			if err == nil {
				err = m.RemoveMember(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
	Register(a, Declaration{Operation: "resetMember", Method: http.MethodPost, Path: at + "/members/{member}/reset", Summary: "Make a link by which a member of this tenant alone sets a new password", Tag: "members", Permission: access.MemberReset, Object: "member", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.ResetStarted}},
		func(ctx context.Context, c *Call, in *MemberIn) (*one[linkJSON], error) {
			var id ident.Principal
			if err := path(in.Member, &id); err != nil {
				return nil, err
			}
			return a.reset(ctx, c, id, func() error {
				_, err := m.Member(ctx, c.Scope, id)
				return err
			})
		})

	Register(a, Declaration{Operation: "listInvitations", Method: http.MethodGet, Path: at + "/invitations", Summary: "List open invitations", Tag: "invitations", Permission: access.MemberRead, Object: "invitation", Tenant: FromPath, At: enter.Anywhere},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
		}) (*many[invitationJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Invitations(ctx, c.Scope, q)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, invitationShape), nil
		})
	Register(a, Declaration{Operation: "createInvitation", Method: http.MethodPost, Path: at + "/invitations", Summary: "Invite somebody; the answer holds the link to pass on", Tag: "invitations", Permission: access.MemberInvite, Object: "invitation", Tenant: FromPath, At: enter.Anywhere, Audit: []audit.Action{audit.MemberInvited}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				Email     string `json:"email" maxLength:"254" example:"ana@example.com"`
				RoleID    string `json:"role_id" example:"rol_06800000001o1000000000000g"`
				NodeID    string `json:"node_id,omitempty" doc:"Absent: the root"`
				Recursive bool   `json:"recursive,omitempty"`
			}
		}) (*one[invitationJSON], error) {
			var role ident.Role
			node := c.Scope.Policy().Root()
			if err := body(in.Body.RoleID, "/role_id", &role); err != nil {
				return nil, err
			}
			if in.Body.NodeID != "" {
				if err := body(in.Body.NodeID, "/node_id", &node); err != nil {
					return nil, err
				}
			}
			inv, token, err := m.Invite(ctx, &c.Call, in.Body.Email, role, node, in.Body.Recursive)
			inv, replayed, err := made(err, inv, func(s string) (v principal.Invitation, err error) {
				var id ident.Link
				if err = path(s, &id); err == nil {
					v, err = m.Invitation(ctx, c.Scope, id)
				}
				return v, err
			})
			if err != nil {
				return nil, err
			}
			if replayed != "" {
				token = secret.Text{}
			}
			return a.invited(inv, token, in.Tenant, lostInvitation), nil
		})
	type InvitationIn struct {
		TenantIn
		Invitation string `path:"invitation"`
	}
	Register(a, Declaration{Operation: "getInvitation", Method: http.MethodGet, Path: at + "/invitations/{invitation}", Summary: "Read an open invitation", Tag: "invitations", Permission: access.MemberRead, Object: "invitation", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *InvitationIn) (*one[invitationJSON], error) {
			var id ident.Link
			if err := path(in.Invitation, &id); err != nil {
				return nil, err
			}
			v, err := m.Invitation(ctx, c.Scope, id)
			if err != nil {
				return nil, err
			}
			return &one[invitationJSON]{ETag: etag(v.Rev), Body: invitationShape(v)}, nil
		})
	Register(a, Declaration{Operation: "revokeInvitation", Method: http.MethodDelete, Path: at + "/invitations/{invitation}", Summary: "Take an open invitation back", Tag: "invitations", Permission: access.MemberInvite, Object: "invitation", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.InvitationRevoked}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			InvitationIn
			MatchIn
		}) (*none, error) {
			var id ident.Link
			rev, err := target(in.Invitation, in.IfMatch, &id)
			if err == nil {
				err = m.RevokeInvitation(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})

	Register(a, Declaration{Operation: "listMemberships", Method: http.MethodGet, Path: at + "/memberships", Summary: "List the memberships within reach", Tag: "memberships", Permission: access.MembershipRead, Object: "membership", Tenant: FromPath, At: enter.Anywhere},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
		}) (*many[membershipJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Memberships(ctx, c.Scope, q)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, membershipShape), nil
		})
	Register(a, Declaration{Operation: "grantMembership", Method: http.MethodPost, Path: at + "/memberships", Summary: "Give a member or a group a role at a node", Tag: "memberships", Permission: access.MembershipGrant, Object: "membership", Tenant: FromPath, At: enter.Anywhere, Audit: []audit.Action{audit.MembershipGranted}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				PrincipalID string `json:"principal_id,omitempty" doc:"A member; or"`
				GroupID     string `json:"group_id,omitempty" doc:"a group"`
				RoleID      string `json:"role_id" example:"rol_068000000001o1000000000004"`
				NodeID      string `json:"node_id" example:"nod_06ethoo0000000000000000000"`
				Recursive   bool   `json:"recursive,omitempty" doc:"This node and all below it, or this node alone"`
				ExpiresAt   string `json:"expires_at,omitempty" format:"date-time"`
			}
		}) (*one[membershipJSON], error) {
			var g access.Membership
			var expires time.Time
			for _, err := range []error{
				body(in.Body.PrincipalID, "/principal_id", &g.Principal), body(in.Body.GroupID, "/group_id", &g.Group), body(in.Body.RoleID, "/role_id", &g.Role),
				body(in.Body.NodeID, "/node_id", &g.Node), moment(in.Body.ExpiresAt, "/expires_at", &expires),
			} {
				if err != nil {
					return nil, err
				}
			}
			g.Recursive, g.ExpiresAt = in.Body.Recursive, expires
			v, err := m.Grant(ctx, &c.Call, g)
			v, replayed, err := made(err, v, func(s string) (v access.Membership, err error) {
				var id ident.Membership
				if err = path(s, &id); err == nil {
					v, err = m.Membership(ctx, c.Scope, id)
				}
				return v, err
			})
			if err != nil {
				return nil, err
			}
			return &one[membershipJSON]{ETag: etag(v.Rev), Authz: c.authz(), Replayed: replayed, Location: "/v1/tenants/" + in.Tenant + "/memberships/" + v.ID.String(), Body: membershipShape(v)}, nil
		})
	type MembershipIn struct {
		TenantIn
		Membership string `path:"membership"`
	}
	Register(a, Declaration{Operation: "getMembership", Method: http.MethodGet, Path: at + "/memberships/{membership}", Summary: "Read a membership", Tag: "memberships", Permission: access.MembershipRead, Object: "membership", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *MembershipIn) (*one[membershipJSON], error) {
			var id ident.Membership
			if err := path(in.Membership, &id); err != nil {
				return nil, err
			}
			v, err := m.Membership(ctx, c.Scope, id)
			if err != nil {
				return nil, err
			}
			return &one[membershipJSON]{ETag: etag(v.Rev), Body: membershipShape(v)}, nil
		})
	Register(a, Declaration{Operation: "revokeMembership", Method: http.MethodDelete, Path: at + "/memberships/{membership}", Summary: "Take a membership away", Tag: "memberships", Permission: access.MembershipRevoke, Object: "membership", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.MembershipRevoked}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			MembershipIn
			MatchIn
		}) (*none, error) {
			var id ident.Membership
			rev, err := target(in.Membership, in.IfMatch, &id)
			if err == nil {
				err = m.Revoke(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
}
