// Package httpapi drives the application from HTTP: bunrouter carries, huma describes. It turns requests into calls of the
// use cases and their faults into problem documents; it decides nothing about rights, which is app/enter's.
package httpapi

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humabunrouter"
	"github.com/uptrace/bunrouter"

	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/ports/trace"
)

// Options are what the API is made of.
type Options struct {
	Enter    *enter.Enter
	SignIn   *signin.SignIn
	Manage   *manage.Manage
	Ingest   *ingest.Ingest
	Disclose *disclose.Disclose

	Limiter   limit.Limiter
	Limits    tenant.Limits
	CursorKey []byte         // 32 bytes
	PublicURL string         // what links begin with, such as https://iot.example.com
	Trusted   []netip.Prefix // proxies whose X-Forwarded-For is believed
	Docs      bool           // serve /openapi.* and /docs
	Ready     func(context.Context) error
	Metrics   *Metrics
	Tracer    trace.Tracer // nil: nobody is told of traces
	Log       *slog.Logger
	Version   string
	Node      string
}

// API is the handler and what is known of its routes.
type API struct {
	o       Options
	gate    gatekeeper
	grants  grants
	mint    ident.Mint
	handler http.Handler
	router  *bunrouter.Router
	huma    huma.API
	cursors cipher.AEAD
	onceKey []byte // of the HMACs of idempotency keys
	routes  []Declaration
	opened  []opened
	faults  []error // declarations that say too little or contradict themselves
	csrf    *http.CrossOriginProtection
	turns   *enter.Turns[ident.Tenant] // of requests that are decided again
}

// grants tells what the platform granted a tenant beyond the server's settings.
type grants func(context.Context, ident.Tenant) (tenant.Limits, error)

// gatekeeper is what a route wants of app/enter, which fills it.
type gatekeeper interface {
	Authenticate(context.Context, secret.Text, access.Origin) (enter.Identity, error)
	Gate(context.Context, enter.Identity, ident.Tenant, access.Permission, enter.At, access.Origin) (access.Scope, error)
	Member(context.Context, enter.Identity, ident.Tenant, access.Origin) (access.Scope, error)
	Self(enter.Identity, access.Origin) (access.Scope, error)
	Refused(context.Context, enter.Identity, access.Scope, error) error
}

// once sets huma's package variables: two servers in one process must not write them twice.
var once sync.Once

// New registers every route. A route that declares too little makes it fail: the server does not start.
func New(o Options) (*API, error) {
	a, err := frame(o, o.Enter, o.Enter.Limits, o.Enter.Mint)
	if err != nil {
		return nil, err
	}
	for _, register := range []func(){
		a.authRoutes, a.meRoutes, a.platformRoutes, a.tenantRoutes, a.nodeRoutes, a.memberRoutes, a.roleRoutes, a.deviceRoutes,
		a.decoderRoutes, a.sourceRoutes, a.readingRoutes, a.auditRoutes, a.ingestRoutes, a.pageRoutes, a.openRoutes,
	} {
		register()
	}
	return a.ready()
}

// frame is an API without routes.
func frame(o Options, gate gatekeeper, granted grants, mint ident.Mint) (*API, error) {
	once.Do(func() {
		huma.NewErrorWithContext = humaProblem
		huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
			return humaProblem(nil, status, msg, errs...)
		}
		huma.ValidateStrictCasing = true
	})
	a := &API{o: o, gate: gate, grants: granted, mint: mint, csrf: http.NewCrossOriginProtection(),
		turns: enter.NewTurns[ident.Tenant](repeaters)}
	if err := a.keys(); err != nil {
		return nil, err
	}
	if o.PublicURL != "" { // behind a proxy our own pages have the public origin, whatever Host the proxy sends
		if err := a.csrf.AddTrustedOrigin(o.PublicURL); err != nil {
			return nil, fmt.Errorf("httpapi: public URL: %w", err)
		}
	}
	a.router = bunrouter.New(
		bunrouter.WithNotFoundHandler(a.nowhere), bunrouter.WithMethodNotAllowedHandler(a.nowhere),
	)
	config := huma.DefaultConfig("Ringfence", o.Version)
	config.Info.Description = "What goes wrong is answered as a problem (RFC 9457), but for what is no HTTP: net/http itself refuses that before us, with 400 and a line of plain text."
	config.CreateHooks = nil
	config.DocsPath, config.SchemasPath, config.OpenAPIPath = "", "", ""
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": strict, "json": strict}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "An access token, personal access token or ingestion key."},
		"cookie": {Type: "apiKey", In: "cookie", Name: cookieName, Description: "A browser's session."},
	}
	a.huma = humabunrouter.New(a.router, config)
	return a, nil
}

// keys derives what seals cursors and what hides idempotency keys: one key, one use.
func (a *API) keys() error {
	if len(a.o.CursorKey) != 32 {
		return errors.New("httpapi: the cursor key must have 32 bytes")
	}
	sealing, err := hkdf.Key(sha256.New, a.o.CursorKey, nil, "ringfence cursors", 32)
	if err != nil {
		return fmt.Errorf("httpapi: cursor key: %w", err)
	}
	if a.onceKey, err = hkdf.Key(sha256.New, a.o.CursorKey, nil, "ringfence idempotency", 32); err != nil {
		return fmt.Errorf("httpapi: cursor key: %w", err)
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return fmt.Errorf("httpapi: cursor key: %w", err)
	}
	a.cursors, err = cipher.NewGCMWithRandomNonce(block)
	return err
}

// ready closes the list of routes.
func (a *API) ready() (*API, error) {
	if err := errors.Join(a.faults...); err != nil {
		return nil, err
	}
	a.handler = a.outer(a.router.ServeHTTPError)
	return a, nil
}

// ServeHTTP serves one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Routes are all declarations, in the order of registration: gate, OpenAPI, sweep and audit coverage read this one list.
func (a *API) Routes() []Declaration { return a.routes }
