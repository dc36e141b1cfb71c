package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humabunrouter"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/limit"
)

// TenantFrom says who tells which tenant a request is about.
type TenantFrom string

// Where the tenant comes from.
const (
	FromPath       TenantFrom = "path"
	FromCredential TenantFrom = "credential"
	FromPlatform   TenantFrom = "platform" // the operator's own
	FromNobody     TenantFrom = "nobody"   // before a tenant is known
)

// Declaration is all that is to be known of a route. The gate, the OpenAPI document, the isolation sweep and the audit's
// coverage read it; there is no second one.
type Declaration struct {
	Operation  string // verb and noun, such as moveNode
	Method     string
	Path       string
	Summary    string
	Tag        string            // the noun's plural
	Permission access.Permission // what it takes; or
	Public     string            // why it takes nothing; or
	Self       string            // why being a signed-in person is enough
	Object     string            // the noun of the object that the path ends in, or that is listed or made
	Tenant     TenantFrom
	At         enter.At       // where the gate decides
	Audit      []audit.Action // the events that a success writes
	Unaudited  string         // why a route that changes something writes none
	Status     int            // of a success; 200 if 0
}

// check answers what the declaration lacks.
func (d Declaration) check() error {
	reasons := 0
	for _, given := range []bool{d.Permission != access.None, d.Public != "", d.Self != ""} {
		if given {
			reasons++
		}
	}
	changes := d.Method != http.MethodGet
	switch {
	case d.Operation == "" || d.Method == "" || d.Path == "" || d.Summary == "" || d.Tag == "" || d.Object == "" || d.Tenant == "":
		return fmt.Errorf("httpapi: route %s %s %q declares too little", d.Method, d.Path, d.Operation)
	case reasons != 1:
		return fmt.Errorf("httpapi: route %s must declare one of a permission, a reason to be public and a reason to be the caller's own", d.Operation)
	case (d.Tenant == FromPath) != strings.HasPrefix(d.Path, "/v1/tenants/{tenant}"):
		return fmt.Errorf("httpapi: route %s says that its tenant comes from %s", d.Operation, d.Tenant)
	case (d.Tenant == FromPlatform) != strings.HasPrefix(d.Path, "/v1/platform/"):
		return fmt.Errorf("httpapi: route %s says that its tenant comes from %s", d.Operation, d.Tenant)
	case d.Permission != access.None && d.Permission.OfPlatform() != (d.Tenant == FromPlatform):
		return fmt.Errorf("httpapi: route %s asks for a permission of another place", d.Operation)
	case changes && (len(d.Audit) == 0) == (d.Unaudited == ""):
		return fmt.Errorf("httpapi: route %s changes something and must declare its audit events, or why there is none", d.Operation)
	}
	return nil
}

// Call is one request that was let in.
type Call struct {
	manage.Call
	Identity enter.Identity
	Origin   access.Origin
	Tenant   ident.Tenant
	Query    string // the filters, for binding cursors; without cursor and limit

	d   *Declaration
	api *API
}

type callKey struct{}

// Register adds a route. Its handler runs only for requests that the declaration lets in; a handler that finds its decision
// outdated runs once more with a new one.
func Register[I, O any](a *API, d Declaration, fn func(ctx context.Context, c *Call, in *I) (*O, error)) {
	if !a.declare(&d) {
		return
	}
	op := a.operation(&d)
	op.Middlewares = huma.Middlewares{a.letIn(&d)}
	huma.Register(a.huma, *op, func(ctx context.Context, in *I) (*O, error) {
		c, ok := ctx.Value(callKey{}).(*Call)
		if !ok {
			return nil, problemOf(ctx, fault.New(fault.Internal, "no_call", "The request was not let in."))
		}
		out, err := fn(ctx, c, in)
		if isStale(err) {
			if err = a.gate(ctx, c); err == nil {
				out, err = fn(ctx, c, in)
			}
		}
		if err != nil {
			return nil, problemOf(ctx, a.o.Enter.Refused(ctx, c.Identity, c.Scope, err))
		}
		return out, nil
	})
}

func isStale(err error) bool {
	f := fault.As(err)
	return f != nil && f.Code == "stale_policy"
}

func (a *API) declare(d *Declaration) bool {
	if d.Status == 0 {
		d.Status = http.StatusOK
	}
	if err := d.check(); err != nil {
		a.faults = append(a.faults, err)
		return false
	}
	for _, other := range a.routes {
		if other.Operation == d.Operation || (other.Method == d.Method && other.Path == d.Path) {
			a.faults = append(a.faults, fmt.Errorf("httpapi: route %s stands twice", d.Operation))
			return false
		}
	}
	a.routes = append(a.routes, *d)
	return true
}

// operation is the declaration in OpenAPI's words.
func (a *API) operation(d *Declaration) *huma.Operation {
	op := &huma.Operation{
		OperationID: d.Operation, Method: d.Method, Path: d.Path, Summary: d.Summary, Tags: []string{d.Tag}, DefaultStatus: d.Status,
		MaxBodyBytes: maxBody + 1, BodyReadTimeout: readTimeout,
		Errors:     []int{400, 404, 422, 429, 503},
		Extensions: map[string]any{"x-object": d.Object, "x-tenant-from": string(d.Tenant), "x-audit": names(d.Audit)},
	}
	switch {
	case d.Permission != access.None:
		op.Extensions["x-permission"] = d.Permission.String()
	case d.Public != "":
		op.Extensions["x-public"] = d.Public
	default:
		op.Extensions["x-self"] = d.Self
	}
	if d.Public == "" {
		op.Security = []map[string][]string{{"bearer": {}}, {"cookie": {}}}
		op.Errors = append(op.Errors, 401, 403)
	}
	return op
}

func names(actions []audit.Action) []string {
	out := make([]string, len(actions))
	for i, a := range actions {
		out[i] = string(a)
	}
	return out
}

// letIn is the middleware before a handler: credential, limits, gate. It runs before the body is read.
func (a *API) letIn(d *Declaration) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		r, w := humabunrouter.Unwrap(hc)
		c, err := a.enter(r.Context(), r.Request, w, d, hc.Param)
		if err != nil {
			_ = writeProblem(w, r.Request, problemOf(r.Context(), err))
			return
		}
		next(huma.WithValue(hc, callKey{}, c))
	}
}

// enter authenticates a request and lets it through the gate.
func (a *API) enter(ctx context.Context, r *http.Request, w http.ResponseWriter, d *Declaration, param func(string) string) (*Call, error) {
	c := &Call{Origin: originOf(ctx), d: d, api: a, Query: filters(r)}
	if d.Public != "" {
		token, err := a.token(r)
		if err == nil && !token.IsZero() { // a public route may know who calls; whoever is unknown is nobody
			if id, err := a.o.Enter.Authenticate(ctx, token, c.Origin); err == nil {
				c.Identity = id
			}
		}
		return c, nil
	}
	token, err := a.token(r)
	if err != nil {
		return nil, err
	}
	if c.Identity, err = a.o.Enter.Authenticate(ctx, token, c.Origin); err != nil {
		return nil, err
	}
	if err := a.rate(w, c, d); err != nil {
		return nil, err
	}
	switch d.Tenant {
	case FromPath:
		c.Tenant, err = ident.ParseTenant(param("tenant"))
		if err != nil || c.Tenant == ident.Platform {
			return nil, fault.Missing()
		}
	case FromPlatform:
		c.Tenant = ident.Platform
	case FromCredential, FromNobody:
	}
	if err := a.gate(ctx, c); err != nil {
		return nil, err
	}
	c.Once, err = a.idempotency(r, c)
	return c, err
}

// gate decides, anew if the last decision is outdated.
func (a *API) gate(ctx context.Context, c *Call) error {
	var err error
	switch {
	case c.d.Public != "":
	case c.d.Self != "" && c.d.Tenant == FromPath:
		// A member's own things in a tenant take no permission there; membership is what lets in.
		c.Scope, err = a.o.Enter.Member(ctx, c.Identity, c.Tenant, c.Origin)
	case c.d.Self != "":
		c.Scope, err = a.o.Enter.Self(c.Identity, c.Origin)
	case c.d.Tenant == FromCredential:
	default:
		c.Scope, err = a.o.Enter.Gate(ctx, c.Identity, c.Tenant, c.d.Permission, c.d.At, c.Origin)
	}
	return err
}

// rate counts a request of a principal and of the tenant it is about.
func (a *API) rate(w http.ResponseWriter, c *Call, d *Declaration) error {
	if d.Tenant == FromCredential {
		return nil // ingest has limits of its own
	}
	l := a.o.Limits
	v := a.o.Limiter.Take("api "+c.Identity.Subject.Principal.String(), 1, limit.PerSecond(l.PrincipalRate, l.PrincipalBurst))
	setRate(w, "principal", v)
	if !v.OK {
		return fault.New(fault.Exhausted, "rate_limited", "You send requests faster than you may. Slow down.").WithRetry(v.RetryAfter)
	}
	return nil
}

func setRate(w http.ResponseWriter, policy string, v limit.Verdict) {
	if v.Limit > 0 {
		w.Header().Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d", policy, v.Limit))
		w.Header().Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", policy, max(v.Remaining, 0), int(v.RetryAfter.Seconds()+0.999)))
	}
}

// cookieName is the browser session's cookie.
const cookieName = "__Host-sid"

// token is the request's credential: a bearer token or a browser's cookie, and never both.
func (a *API) token(r *http.Request) (secret.Text, error) {
	header := r.Header.Values("Authorization")
	cookie, err := r.Cookie(cookieName)
	if len(header) > 1 || (len(header) == 1 && err == nil) {
		return secret.Text{}, fault.New(fault.Invalid, "two_credentials", "The request has more than one credential. Send one.")
	}
	if len(header) == 1 {
		scheme, token, ok := strings.Cut(header[0], " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			return secret.Text{}, enter.ErrCredential()
		}
		return secret.New(token), nil
	}
	if err != nil {
		return secret.Text{}, enter.ErrCredential()
	}
	if err := a.csrf.Check(r); err != nil {
		return secret.Text{}, fault.New(fault.Denied, "cross_origin", "A browser's session is not used from another site. Use a token.")
	}
	return secret.New(cookie.Value), nil
}

// revision reads If-Match.
func revision(header string) (uint64, error) {
	if header == "" {
		return 0, fault.New(fault.Invalid, "precondition_required", "Say which revision you change, by If-Match with the ETag that you read.")
	}
	tag, ok := strings.CutPrefix(header, `"`)
	digits, ok2 := strings.CutSuffix(tag, `"`)
	n, err := strconv.ParseUint(digits, 10, 63)
	if !ok || !ok2 || err != nil || n == 0 || strconv.FormatUint(n, 10) != digits {
		return 0, fault.Stale()
	}
	return n, nil
}

func etag(rev uint64) string { return `"` + strconv.FormatUint(rev, 10) + `"` }

// made handles a create: its own result, or the object read again if the request was made before.
func made[V any](err error, v V, again func(string) (V, error)) (V, string, error) {
	var replay *manage.Replay
	if !errors.As(err, &replay) {
		return v, "", err
	}
	v, err = again(replay.Object)
	return v, "true", err
}

func (c *Call) authz() string {
	if c.Revision == 0 {
		return ""
	}
	return strconv.FormatUint(c.Revision, 10)
}
