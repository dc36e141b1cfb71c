// Package httpapi drives the application from HTTP: bunrouter carries, huma describes. It turns requests into calls of the
// use cases and their faults into problem documents; it decides nothing about rights, which is app/enter's.
package httpapi

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
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
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/limit"
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
	Log       *slog.Logger
	Version   string
	Node      string
}

// API is the handler and what is known of its routes.
type API struct {
	o       Options
	handler http.Handler
	router  *bunrouter.Router
	huma    huma.API
	cursors cipher.AEAD
	routes  []Declaration
	faults  []error // declarations that say too little or contradict themselves
	csrf    *http.CrossOriginProtection
}

// once sets huma's package variables: two servers in one process must not write them twice.
var once sync.Once

// New registers every route. A route that declares too little makes it fail: the server does not start.
func New(o Options) (*API, error) {
	once.Do(func() {
		huma.NewErrorWithContext = humaProblem
		huma.ValidateStrictCasing = true
	})
	block, err := aes.NewCipher(o.CursorKey)
	if err != nil {
		return nil, fmt.Errorf("httpapi: cursor key: %w", err)
	}
	a := &API{o: o, csrf: http.NewCrossOriginProtection()}
	if a.cursors, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("httpapi: cursor key: %w", err)
	}
	a.router = bunrouter.New(
		bunrouter.WithNotFoundHandler(func(w http.ResponseWriter, r bunrouter.Request) error {
			return writeProblem(w, r.Request, notFound())
		}),
		bunrouter.WithMethodNotAllowedHandler(func(w http.ResponseWriter, r bunrouter.Request) error {
			w.Header().Set("Allow", a.allowed(r.URL.Path))
			return writeProblem(w, r.Request, methodNotAllowed())
		}),
	)
	config := huma.DefaultConfig("Ringfence", o.Version)
	config.CreateHooks = nil
	config.DocsPath, config.SchemasPath, config.OpenAPIPath = "", "", ""
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": strict, "json": strict}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "An access token, personal access token or ingestion key."},
		"cookie": {Type: "apiKey", In: "cookie", Name: cookieName, Description: "A browser's session."},
	}
	a.huma = humabunrouter.New(a.router, config)
	for _, register := range []func(){
		a.authRoutes, a.meRoutes, a.platformRoutes, a.tenantRoutes, a.nodeRoutes, a.memberRoutes, a.roleRoutes, a.deviceRoutes,
		a.decoderRoutes, a.sourceRoutes, a.readingRoutes, a.auditRoutes, a.ingestRoutes, a.pageRoutes, a.openRoutes,
	} {
		register()
	}
	if err := errors.Join(a.faults...); err != nil {
		return nil, err
	}
	a.handler = a.outer(a.router)
	return a, nil
}

// ServeHTTP serves one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Routes are all declarations, in the order of registration: gate, OpenAPI, sweep and audit coverage read this one list.
func (a *API) Routes() []Declaration { return a.routes }
