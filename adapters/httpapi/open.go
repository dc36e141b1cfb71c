package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bunrouter"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
)

// openRoutes are for everybody: health, the API's description, and what problems mean.
func (a *API) openRoutes() {
	a.open(http.MethodGet, "/healthz", func(w http.ResponseWriter, _ bunrouter.Request) error { return yes(w) })
	a.open(http.MethodGet, "/readyz", func(w http.ResponseWriter, r bunrouter.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := a.o.Ready(ctx); err != nil {
			return writeProblem(w, r.Request, fault.Wrap(err, fault.Unavailable, "not_ready", "The server is not ready. Try again."))
		}
		return yes(w)
	})
	a.open(http.MethodGet, "/problems/:code", func(w http.ResponseWriter, r bunrouter.Request) error {
		return showProblem(w, r)
	})
	if !a.o.Docs {
		return
	}
	described := sync.OnceValues(func() ([]byte, error) { return a.huma.OpenAPI().MarshalJSON() })
	yaml := sync.OnceValues(func() ([]byte, error) { return a.huma.OpenAPI().YAML() })
	serve := func(kind string, get func() ([]byte, error)) bunrouter.HandlerFunc {
		return func(w http.ResponseWriter, _ bunrouter.Request) error {
			b, err := get()
			if err != nil {
				return err
			}
			w.Header().Set("Content-Type", kind)
			_, err = w.Write(b)
			return err
		}
	}
	a.open(http.MethodGet, "/openapi.json", serve("application/vnd.oai.openapi+json;version=3.1", described))
	a.open(http.MethodGet, "/openapi.yaml", serve("application/vnd.oai.openapi;version=3.1", yaml))
	a.open(http.MethodGet, "/docs", func(w http.ResponseWriter, _ bunrouter.Request) error {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
		return pageTemplates.ExecuteTemplate(w, "docs.html", a.docs())
	})
}

// opened is a route beside the API's: health, documents and the pages of links. The list is closed by a test.
type opened struct{ Method, Path string }

func (a *API) open(method, path string, h bunrouter.HandlerFunc) {
	a.opened = append(a.opened, opened{method, path})
	a.router.Handle(method, path, h)
}

// nowhere answers what no route takes. The router tells a wrong method from a wrong path only for methods that it knows.
func (a *API) nowhere(w http.ResponseWriter, r bunrouter.Request) error {
	allow := a.allowed(r.URL.Path)
	if allow == "" {
		return notFound()
	}
	w.Header().Set("Allow", allow)
	return methodNotAllowed()
}

// allowed lists the methods that a path takes.
func (a *API) allowed(path string) string {
	var methods []string
	take := func(method, pattern string) {
		if fits(pattern, path) && !slices.Contains(methods, method) {
			methods = append(methods, method)
			if method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
		}
	}
	for _, d := range a.routes {
		take(d.Method, d.Path)
	}
	for _, o := range a.opened {
		take(o.Method, o.Path)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// fits reports whether a path is one of a pattern with {parameters}, or :parameters.
func fits(pattern, path string) bool {
	ps, ss := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(ps) != len(ss) {
		return false
	}
	for i, p := range ps {
		if p != ss[i] && (p == "" || ss[i] == "" || (p[0] != '{' && p[0] != ':')) {
			return false
		}
	}
	return true
}

func yes(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte("ok\n"))
	return err
}

type docsPage struct {
	Version     string
	Tags        []docsTag
	Permissions []access.Permission
}

type docsTag struct {
	Name   string
	Routes []docsRoute
}

type docsRoute struct{ Method, Path, Summary, Operation, Needs string }

// docs is the reader's page: the same declarations, for people.
func (a *API) docs() docsPage {
	p := docsPage{Version: a.o.Version, Permissions: access.Permissions()}
	at := map[string]int{}
	for _, d := range a.routes {
		i, ok := at[d.Tag]
		if !ok {
			i = len(p.Tags)
			at[d.Tag] = i
			p.Tags = append(p.Tags, docsTag{Name: d.Tag})
		}
		needs := "takes " + d.Permission.String()
		switch {
		case d.Public != "":
			needs = "public: " + d.Public
		case d.Self != "":
			needs = "signed in: " + d.Self
		}
		p.Tags[i].Routes = append(p.Tags[i].Routes, docsRoute{d.Method, d.Path, d.Summary, d.Operation, needs})
	}
	return p
}
