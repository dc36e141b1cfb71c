package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
)

type grantedJSON struct {
	SessionID        string `json:"session_id"`
	PrincipalID      string `json:"principal_id"`
	ExpiresAt        string `json:"expires_at" format:"date-time"`
	AccessToken      string `json:"access_token,omitempty"`
	RefreshToken     string `json:"refresh_token,omitempty"`
	TokenType        string `json:"token_type,omitempty"`
	ExpiresInSeconds int64  `json:"expires_in_seconds"`
}

type grantedOut struct {
	SetCookie string `header:"Set-Cookie"`
	Body      grantedJSON
}

func (a *API) granted(g signin.Granted) *grantedOut {
	out := &grantedOut{Body: grantedJSON{
		SessionID: g.Session.ID.String(), PrincipalID: g.Session.Principal.String(), ExpiresAt: stamp(g.ExpiresAt), ExpiresInSeconds: int64(g.ExpiresAt.Sub(a.o.Enter.Now()) / time.Second),
	}}
	if g.Session.Browser {
		out.SetCookie = (&http.Cookie{Name: cookieName, Value: g.Cookie.Reveal(), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}).String()
		return out
	}
	out.Body.AccessToken, out.Body.RefreshToken, out.Body.TokenType = g.Access.Reveal(), g.Refresh.Reveal(), "Bearer"
	return out
}

const beforeSignIn = "nobody is signed in yet"

func (a *API) authRoutes() {
	s := a.o.SignIn
	Register(a, Declaration{Operation: "setUp", Method: http.MethodPost, Path: "/v1/auth/setup", Summary: "Become platform administrator by the setup link, and make a first tenant if asked", Tag: "auth", Public: "the setup link is the credential", Object: "person", Tenant: FromNobody, Audit: []audit.Action{audit.SetupDone, audit.TenantCreated, audit.MemberAdded}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				Token    string `json:"token" maxLength:"128"`
				Email    string `json:"email" maxLength:"254" example:"ana@example.com"`
				Name     string `json:"name" minLength:"1" maxLength:"200" example:"Ana"`
				Password string `json:"password" maxLength:"1024" doc:"At least 15 characters"`
				Tenant   *struct {
					Name string `json:"name" minLength:"1" maxLength:"200" example:"Acme Water"`
					Kind string `json:"kind,omitempty" enum:"vendor,customer,site,building,floor,zone"`
				} `json:"tenant,omitempty" doc:"A first tenant, with this person as its owner"`
			}
		}) (*struct {
			Body struct {
				PrincipalID string      `json:"principal_id"`
				Tenant      *tenantJSON `json:"tenant"`
			}
		}, error) {
			var first *signin.FirstTenant
			if t := in.Body.Tenant; t != nil {
				first = &signin.FirstTenant{Name: t.Name, Kind: org.Kind(t.Kind)}
			}
			p, t, err := s.Setup(ctx, secret.New(in.Body.Token), signin.NewPerson{Email: in.Body.Email, Name: in.Body.Name, Password: secret.New(in.Body.Password)}, first, c.Origin)
			if err != nil {
				return nil, err
			}
			return setUpAnswer(p, t), nil
		})
	Register(a, Declaration{Operation: "logIn", Method: http.MethodPost, Path: "/v1/auth/login", Summary: "Sign in with a password; answers a cookie, or tokens on request", Tag: "auth", Public: beforeSignIn, Object: "session", Tenant: FromNobody, Audit: []audit.Action{audit.LoginSuccess}},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				Email    string `json:"email" maxLength:"254" example:"ana@example.com"`
				Password string `json:"password" maxLength:"1024"`
				Mode     string `json:"mode,omitempty" enum:"cookie,token" default:"cookie" doc:"A browser's cookie, or an access and a refresh token"`
			}
		}) (*grantedOut, error) {
			g, err := s.Login(ctx, in.Body.Email, secret.New(in.Body.Password), in.Body.Mode != "token", c.Origin)
			if err != nil {
				return nil, err
			}
			return a.granted(g), nil
		})
	Register(a, Declaration{Operation: "refresh", Method: http.MethodPost, Path: "/v1/auth/refresh", Summary: "Get the next access and refresh tokens; a refresh token is good once", Tag: "auth", Public: "the refresh token is the credential", Object: "session", Tenant: FromNobody, Audit: []audit.Action{audit.TokenRefresh}},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				RefreshToken string `json:"refresh_token" maxLength:"128"`
			}
		}) (*grantedOut, error) {
			g, err := s.Refresh(ctx, secret.New(in.Body.RefreshToken), c.Origin)
			if err != nil {
				return nil, err
			}
			return a.granted(g), nil
		})
	Register(a, Declaration{Operation: "logOut", Method: http.MethodPost, Path: "/v1/auth/logout", Summary: "End the session and its tokens", Tag: "auth", Self: "it is the caller's own session", Object: "session", Tenant: FromNobody, Audit: []audit.Action{audit.Logout}, Status: 204},
		func(ctx context.Context, c *Call, _ *struct{}) (*struct {
			SetCookie string `header:"Set-Cookie"`
		}, error) {
			if err := s.Logout(ctx, c.Identity, c.Origin); err != nil {
				return nil, err
			}
			gone := (&http.Cookie{Name: cookieName, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: -1}).String()
			return &struct {
				SetCookie string `header:"Set-Cookie"`
			}{gone}, nil
		})
	Register(a, Declaration{Operation: "acceptInvitation", Method: http.MethodPost, Path: "/v1/auth/invitations/accept", Summary: "Accept an invitation: signed in, or as a new person", Tag: "auth", Public: "the invitation's link is the credential", Object: "membership", Tenant: FromNobody, Audit: []audit.Action{audit.MemberAdded}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				Token    string `json:"token" maxLength:"128"`
				Name     string `json:"name,omitempty" maxLength:"200"`
				Password string `json:"password,omitempty" maxLength:"1024"`
			}
		}) (*one[membershipJSON], error) {
			var by *enter.Identity
			if c.Identity.Kind != "" {
				by = &c.Identity
			}
			got, err := s.Accept(ctx, secret.New(in.Body.Token), by, signin.NewPerson{Name: in.Body.Name, Password: secret.New(in.Body.Password)}, c.Origin)
			if err != nil {
				return nil, err
			}
			m := got.Membership
			c.Revision = got.Revision
			return &one[membershipJSON]{ETag: etag(m.Rev), Authz: c.authz(), Location: "/v1/tenants/" + got.Tenant.String() + "/memberships/" + m.ID.String(), Body: membershipShape(m)}, nil
		})
	Register(a, Declaration{Operation: "resetPassword", Method: http.MethodPost, Path: "/v1/auth/reset", Summary: "Set a new password by a reset link; every session and token ends", Tag: "auth", Public: "the reset link is the credential", Object: "person", Tenant: FromNobody, Audit: []audit.Action{audit.PasswordSet}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				Token    string `json:"token" maxLength:"128"`
				Password string `json:"password" maxLength:"1024"`
			}
		}) (*none, error) {
			if err := s.Reset(ctx, secret.New(in.Body.Token), secret.New(in.Body.Password), c.Origin); err != nil {
				return nil, err
			}
			return &none{}, nil
		})
}

func setUpAnswer(p principal.Person, t *tenant.Tenant) *struct {
	Body struct {
		PrincipalID string      `json:"principal_id"`
		Tenant      *tenantJSON `json:"tenant"`
	}
} {
	out := &struct {
		Body struct {
			PrincipalID string      `json:"principal_id"`
			Tenant      *tenantJSON `json:"tenant"`
		}
	}{}
	out.Body.PrincipalID = p.ID.String()
	if t != nil {
		j := tenantShape(*t)
		out.Body.Tenant = &j
	}
	return out
}

type sessionJSON struct {
	Common
	ExpiresAt  string  `json:"expires_at" format:"date-time"`
	LastUsedAt *string `json:"last_used_at" format:"date-time"`
	Browser    bool    `json:"browser"`
	Current    bool    `json:"current"`
}

type heldJSON struct {
	Common
	TenantID  string  `json:"tenant_id"`
	GroupID   *string `json:"group_id" doc:"The group that one has it by"`
	RoleID    string  `json:"role_id"`
	RoleName  string  `json:"role_name"`
	NodeID    string  `json:"node_id"`
	Recursive bool    `json:"recursive"`
	ExpiresAt *string `json:"expires_at" format:"date-time"`
}

func heldShape(h manage.Held) heldJSON {
	return heldJSON{Common{h.ID.String(), h.Rev, stamp(h.CreatedAt), stamp(h.UpdatedAt)}, h.Tenant.String(), ref(h.Group), h.Role.String(), h.RoleName, h.Node.String(), h.Recursive, maybe(h.ExpiresAt)}
}

// mine asks each of the caller's tenants for what is the caller's there. One that is suspended lets nobody look: shut says so.
func mine[V any](ctx context.Context, c *Call, ask func(context.Context, access.Scope) ([]V, error)) (all []V, shut, err error) {
	me, err := c.api.o.SignIn.Me(ctx, c.Identity, c.Origin)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range me.Tenants {
		scope, err := c.api.gate.Member(ctx, c.Identity, t, c.Origin)
		var own []V
		if err == nil {
			own, err = ask(ctx, scope)
		}
		switch {
		case fault.Is(err, fault.Denied):
			shut = err
		case err != nil && !fault.Is(err, fault.NotFound):
			return nil, nil, err
		}
		all = append(all, own...)
	}
	return all, shut, nil
}

// seen is what a list shows of mine: not what is shut.
func seen[V any](all []V, _, err error) ([]V, error) { return all, err }

// myToken is a token of the caller's, with the scope of its tenant.
type myToken struct {
	credential.PAT
	scope access.Scope
}

// myTokens are those of all tenants.
func (a *API) myTokens(ctx context.Context, c *Call) (tokens []myToken, shut, err error) {
	return mine(ctx, c, func(ctx context.Context, s access.Scope) (out []myToken, err error) {
		own, err := a.o.Manage.MyTokens(ctx, s)
		for _, t := range own {
			out = append(out, myToken{t, s})
		}
		return out, err
	})
}

func myTokenShape(t myToken) keyJSON {
	j := tokenShape(t.PAT)
	j.TenantID = t.scope.Tenant().String()
	return j
}

func (a *API) meRoutes() {
	s := a.o.SignIn
	const own = "it is the caller's own"
	Register(a, Declaration{Operation: "getMe", Method: http.MethodGet, Path: "/v1/me", Summary: "Read one's own profile and tenants", Tag: "me", Self: own, Object: "person", Tenant: FromNobody},
		func(ctx context.Context, c *Call, _ *struct{}) (*struct {
			Body struct {
				ID        string   `json:"id"`
				Email     string   `json:"email"`
				Name      string   `json:"name"`
				TenantIDs []string `json:"tenant_ids"`
			}
		}, error) {
			me, err := s.Me(ctx, c.Identity, c.Origin)
			if err != nil {
				return nil, err
			}
			out := &struct {
				Body struct {
					ID        string   `json:"id"`
					Email     string   `json:"email"`
					Name      string   `json:"name"`
					TenantIDs []string `json:"tenant_ids"`
				}
			}{}
			out.Body.ID, out.Body.Email, out.Body.Name, out.Body.TenantIDs = me.ID.String(), me.Email, me.Name, texts(me.Tenants)
			return out, nil
		})
	Register(a, Declaration{Operation: "listSessions", Method: http.MethodGet, Path: "/v1/me/sessions", Summary: "List one's open sessions", Tag: "me", Self: own, Object: "session", Tenant: FromNobody},
		func(ctx context.Context, c *Call, in *ListIn) (*many[sessionJSON], error) {
			open := func() ([]credential.Session, error) { return s.Sessions(ctx, c.Identity, c.Origin) }
			return portion(c, *in, open, func(v credential.Session) string { return v.ID.String() }, func(v credential.Session) sessionJSON {
				return sessionJSON{Common{v.ID.String(), v.Rev, stamp(v.CreatedAt), stamp(v.UpdatedAt)}, stamp(v.ExpiresAt), maybe(v.LastUsed), v.Browser, v.ID == c.Identity.Session}
			})
		})
	Register(a, Declaration{Operation: "listMyMemberships", Method: http.MethodGet, Path: "/v1/me/memberships", Summary: "List what one holds in one's tenants, by oneself and by groups", Tag: "me", Self: own, Object: "membership", Tenant: FromNobody},
		func(ctx context.Context, c *Call, in *ListIn) (*many[heldJSON], error) {
			held := func() ([]manage.Held, error) { return seen(mine(ctx, c, a.o.Manage.MyMemberships)) }
			return portion(c, *in, held, func(h manage.Held) string { return h.ID.String() }, heldShape)
		})
	Register(a, Declaration{Operation: "listMyTokens", Method: http.MethodGet, Path: "/v1/me/tokens", Summary: "List one's own personal access tokens, each with its tenant, where it was made", Tag: "me", Self: own, Object: "token", Tenant: FromNobody},
		func(ctx context.Context, c *Call, in *ListIn) (*many[keyJSON], error) {
			tokens := func() ([]myToken, error) { return seen(a.myTokens(ctx, c)) }
			return portion(c, *in, tokens, func(t myToken) string { return t.ID.String() }, myTokenShape)
		})
	Register(a, Declaration{Operation: "revokeMyToken", Method: http.MethodDelete, Path: "/v1/me/tokens/{token}", Summary: "End one of one's own personal access tokens", Tag: "me", Self: own, Object: "token", Tenant: FromNobody, Audit: []audit.Action{audit.TokenRevoked}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			MatchIn
			Token string `path:"token"`
		}) (*none, error) {
			var id ident.Token
			rev, err := target(in.Token, in.IfMatch, &id)
			if err != nil {
				return nil, err
			}
			tokens, shut, err := a.myTokens(ctx, c)
			if err != nil {
				return nil, err
			}
			at := slices.IndexFunc(tokens, func(t myToken) bool { return t.ID == id })
			if at < 0 {
				return nil, cmp.Or(shut, notFound())
			}
			return &none{}, a.o.Manage.RevokeToken(ctx, &manage.Call{Scope: tokens[at].scope}, id, rev)
		})
	Register(a, Declaration{Operation: "endSession", Method: http.MethodDelete, Path: "/v1/me/sessions/{session}", Summary: "End one of one's sessions", Tag: "me", Self: own, Object: "session", Tenant: FromNobody, Audit: []audit.Action{audit.SessionEnded}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			MatchIn
			Session string `path:"session"`
		}) (*none, error) {
			var id ident.Session
			rev, err := target(in.Session, in.IfMatch, &id)
			if err == nil {
				err = s.EndSession(ctx, c.Identity, id, rev, c.Origin)
			}
			if err != nil {
				return nil, err
			}
			return &none{}, nil
		})
	Register(a, Declaration{Operation: "changePassword", Method: http.MethodPost, Path: "/v1/me/password", Summary: "Change one's password; every session ends", Tag: "me", Self: own, Object: "person", Tenant: FromNobody, Audit: []audit.Action{audit.PasswordSet}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				Password    string `json:"password" maxLength:"1024"`
				NewPassword string `json:"new_password" maxLength:"1024"`
			}
		}) (*none, error) {
			err := s.ChangePassword(ctx, c.Identity, secret.New(in.Body.Password), secret.New(in.Body.NewPassword), c.Once, c.Origin)
			out, replayed, err := made(err, none{}, func(string) (none, error) { return none{}, nil })
			if err != nil {
				return nil, err
			}
			out.Replayed = replayed
			return &out, nil
		})
}
