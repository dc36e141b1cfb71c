package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humabunrouter"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/ports/store"
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

	body  bool            // it takes one
	patch map[string]bool // of a PATCH: its fields, and whether null takes them away
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
	case !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, d.Method):
		return fmt.Errorf("httpapi: route %s has no method of ours", d.Operation)
	case !slices.Contains([]TenantFrom{FromPath, FromCredential, FromPlatform, FromNobody}, d.Tenant):
		return fmt.Errorf("httpapi: route %s does not say where its tenant comes from", d.Operation)
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
	case d.Permission != access.None && d.Tenant == FromNobody, d.Public != "" && d.Tenant != FromNobody:
		return fmt.Errorf("httpapi: route %s asks for a permission in no tenant, or is public in one", d.Operation)
	case !changes && d.Unaudited != "":
		return fmt.Errorf("httpapi: route %s changes nothing and needs no reason for being unaudited", d.Operation)
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

	d     *Declaration
	api   *API
	token secret.Text
}

type callKey struct{}

// repeats is how often a request is decided anew because rights changed meanwhile, and how many of a tenant may wait for that.
// Of several callers who change rights in one tenant at the same moment one is first, and the others decide again: each of them
// must get through.
const repeats, repeaters = 32, 256

// Register adds a route. Its handler runs only for requests that the declaration lets in; a handler that finds its decision
// outdated runs again with a new one.
func Register[I, O any](a *API, d Declaration, fn func(ctx context.Context, c *Call, in *I) (*O, error)) {
	if !a.declare(&d) {
		return
	}
	defer a.refused(&d)
	op := a.operation(&d)
	op.Middlewares = huma.Middlewares{a.letIn(&d)}
	huma.Register(a.huma, *op, func(ctx context.Context, in *I) (*O, error) {
		c, ok := ctx.Value(callKey{}).(*Call)
		if !ok {
			return nil, problemOf(ctx, fault.New(fault.Internal, "no_call", "The request was not let in."))
		}
		var out *O
		err := a.settled(ctx, c, func() (err error) {
			out, err = fn(ctx, c, in)
			return err
		})
		if err == nil && out == nil {
			err = fault.New(fault.Internal, "no_answer", "The handler answered nothing.")
		}
		if err != nil {
			return nil, problemOf(ctx, a.gate.Refused(ctx, c.Identity, c.Scope, err))
		}
		return out, nil
	})
	a.described(&d)
}

// settled runs fn, and again with a new decision while that is outdated. Of a tenant's requests those that were outdated repeat one
// after another, and those that would change the tenant wait until that is over before they begin: else one could be overtaken
// until it gives up. What changes nothing and is in no log overtakes nobody, and what is no tenant's is never outdated for long.
func (a *API) settled(ctx context.Context, c *Call, fn func() error) error {
	orderly := len(c.d.Audit) > 0 && !c.Tenant.IsZero()
	var err error
	if orderly && c.d.Method != http.MethodGet && a.turns.Taken(c.Tenant) {
		done, terr := a.turn(ctx, c)
		if terr != nil {
			return terr
		}
		done()
		err = a.anew(ctx, c)
	}
	if err == nil {
		err = fn()
	}
	if orderly && isStale(err) {
		done, terr := a.turn(ctx, c)
		if terr != nil {
			return terr
		}
		defer done()
	}
	for n := 0; isStale(err) && n < repeats; n++ {
		if err = a.anew(ctx, c); err == nil {
			err = fn()
		}
	}
	return err
}

// anew asks again who calls and whether they may: a credential may have ended meanwhile, as a right may.
func (a *API) anew(ctx context.Context, c *Call) (err error) {
	if !c.token.IsZero() {
		if c.Identity, err = a.gate.Authenticate(ctx, c.token, c.Origin); err != nil {
			return err
		}
	}
	return a.pass(ctx, c)
}

// turnWithin is how long a request waits for its turn.
const turnWithin = 30 * time.Second

// turn waits for a turn among a tenant's requests.
func (a *API) turn(ctx context.Context, c *Call) (done func(), err error) {
	patient, end := context.WithTimeout(ctx, turnWithin)
	defer end()
	done, err = a.turns.Take(patient, c.Tenant)
	if errors.Is(err, enter.ErrTurns) || (err != nil && ctx.Err() == nil) {
		err = store.ErrBusy
	}
	return done, err
}

// refused turns the panic of a router or of huma, which is how they refuse a route, into a fault of the start.
func (a *API) refused(d *Declaration) {
	if p := recover(); p != nil {
		a.faults = append(a.faults, fmt.Errorf("httpapi: route %s cannot stand: %v", d.Operation, p))
	}
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

// letIn is the middleware before a handler: form, credential, limits, gate. It runs before the body is read.
func (a *API) letIn(d *Declaration) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		r, w := humabunrouter.Unwrap(hc)
		rq := requestOf(r.Context())
		rq.operation = d.Operation
		defer func() {
			if p := recover(); p != nil { // huma's adapter would swallow it, and the answer be 200
				rq.crash = crashed(p)
			}
		}()
		c, err := a.enter(r.Context(), r.Request, w, d, hc.Param)
		if err != nil {
			_ = writeProblem(w, r.Request, err)
			return
		}
		if !d.body && r.ContentLength < 0 { // a length would have been judged before anything is done
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				_ = writeProblem(w, r.Request, err)
				return
			}
		}
		if d.Method == http.MethodPatch {
			if err := nulls(r.Request, d.patch); err != nil {
				_ = writeProblem(w, r.Request, err)
				return
			}
		}
		next(huma.WithValue(hc, callKey{}, c))
	}
}

// enter authenticates a request and lets it through the gate.
func (a *API) enter(ctx context.Context, r *http.Request, w http.ResponseWriter, d *Declaration, param func(string) string) (*Call, error) {
	c := &Call{Origin: originOf(ctx), d: d, api: a}
	if d.Tenant != FromCredential { // ingest lists nothing
		c.Query = filters(r)
	}
	types := []string{"application/json"}
	if d.Method == http.MethodPatch {
		types = append(types, "application/merge-patch+json")
	}
	if err := typed(r, types...); err != nil {
		return nil, err
	}
	if len(r.Header.Values("If-Match")) > 1 {
		return nil, badMatch()
	}
	token, err := a.token(r)
	if d.Public != "" {
		if fault.Is(err, fault.Unauthenticated) {
			return c, nil
		}
		if err == nil && !token.IsZero() { // a public route may know who calls; whoever is unknown is nobody
			if id, err := a.gate.Authenticate(ctx, token, c.Origin); err == nil {
				c.Identity = id
			}
		}
		return c, err
	}
	if err == nil && token.IsZero() {
		return nil, enter.ErrCredential()
	}
	if err == nil {
		c.token = token
		c.Identity, err = a.gate.Authenticate(ctx, token, c.Origin)
	}
	if err != nil {
		if fault.Is(err, fault.Unauthenticated) {
			a.o.Metrics.Add("ringfence_credentials_refused_total", 1) // never audited: anybody may send junk
		}
		return nil, err
	}
	own, err := a.limitsOf(ctx, c.Identity.Tenant)
	if err != nil {
		return nil, err
	}
	if err := a.rate(w, "principal", c.Identity.Subject.Principal.String(), d, cmp.Or(own.PrincipalRate, a.o.Limits.PrincipalRate), cmp.Or(own.PrincipalBurst, a.o.Limits.PrincipalBurst)); err != nil {
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
	if err := a.pass(ctx, c); err != nil {
		return nil, err
	}
	if d.Tenant == FromPath { // counted for those who are let in: a stranger does not use up a tenant's requests
		its, err := a.limitsOf(ctx, c.Tenant)
		if err != nil {
			return nil, err
		}
		perSecond := cmp.Or(its.TenantRate, a.o.Limits.TenantRate)
		if err := a.rate(w, "tenant", c.Tenant.String(), d, perSecond, perSecond); err != nil {
			return nil, err
		}
	}
	c.Once, err = a.idempotency(r, c)
	return c, err
}

// pass asks the gate, anew if the last decision is outdated.
func (a *API) pass(ctx context.Context, c *Call) error {
	var err error
	switch {
	case c.d.Public != "":
	case c.d.Self != "" && c.d.Tenant == FromPath:
		// A member's own things in a tenant take no permission there; membership is what lets in.
		c.Scope, err = a.gate.Member(ctx, c.Identity, c.Tenant, c.Origin)
	case c.d.Self != "":
		c.Scope, err = a.gate.Self(c.Identity, c.Origin)
	case c.d.Tenant == FromCredential:
	default:
		c.Scope, err = a.gate.Gate(ctx, c.Identity, c.Tenant, c.d.Permission, c.d.At, c.Origin)
	}
	return err
}

// limitsOf is what a tenant was granted beyond the server's settings. A person who signed in is of none.
func (a *API) limitsOf(ctx context.Context, t ident.Tenant) (l tenant.Limits, err error) {
	if !t.IsZero() {
		l, err = a.grants(ctx, t)
	}
	return l, err
}

// rate counts a request of somebody. Ingest has limits of its own.
func (a *API) rate(w http.ResponseWriter, policy, key string, d *Declaration, perSecond, burst int) error {
	if d.Tenant == FromCredential {
		return nil
	}
	v := a.o.Limiter.Take("api "+key, 1, limit.PerSecond(perSecond, burst))
	setRate(w, policy, v)
	if !v.OK {
		return fault.New(fault.Exhausted, "rate_limited", "Requests come faster than they may. Slow down.").WithRetry(v.RetryAfter)
	}
	return nil
}

// setRate says what is left, as the IETF's draft of RateLimit fields has it: one item a policy.
func setRate(w http.ResponseWriter, policy string, v limit.Verdict) {
	if v.Limit > 0 {
		name := `"` + policy + `"` // a constant of ours
		w.Header().Add("Ratelimit-Policy", name+";q="+strconv.Itoa(v.Limit))
		w.Header().Add("Ratelimit", name+";r="+strconv.Itoa(max(v.Remaining, 0))+";t="+strconv.Itoa(int(math.Ceil(v.Reset.Seconds()))))
	}
}

// revision reads If-Match.
func revision(header string) (uint64, error) {
	if header == "" {
		return 0, fault.New(fault.Invalid, "precondition_required", "Say which revision you change, by If-Match with the ETag that you read.")
	}
	tag, ok := strings.CutPrefix(header, `"`)
	digits, ok2 := strings.CutSuffix(tag, `"`)
	if !ok || !ok2 || strings.Contains(digits, `"`) {
		return 0, badMatch()
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != digits { // a tag, but none of ours
		return 0, fault.Stale()
	}
	return n, nil
}

func badMatch() error {
	return fault.New(fault.Invalid, "bad_if_match", "If-Match takes one strong ETag as it was read, in its quotes: no list, no star, no weak tag.")
}

func etag(rev uint64) string { return `"` + strconv.FormatUint(rev, 10) + `"` }

// made handles a create: its own result, or the object read again if the request was made before.
func made[V any](err error, v V, again func(string) (V, error)) (V, string, error) {
	var replay *enter.Replay
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
