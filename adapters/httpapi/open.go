package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/uptrace/bunrouter"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
)

// openRoutes are for everybody: health, the API's description, and what problems mean.
func (a *API) openRoutes() {
	a.router.GET("/healthz", func(w http.ResponseWriter, _ bunrouter.Request) error { return yes(w) })
	a.router.GET("/readyz", func(w http.ResponseWriter, r bunrouter.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := a.o.Ready(ctx); err != nil {
			return writeProblem(w, r.Request, fault.Wrap(err, fault.Unavailable, "not_ready", "The server is not ready. Try again."))
		}
		return yes(w)
	})
	a.router.GET("/problems/:code", func(w http.ResponseWriter, r bunrouter.Request) error {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err := w.Write([]byte("A problem of this code says in its detail what is wrong and what to do, and in its errors which parts of the request are meant.\n" +
			"Its request_id names the request in the server's log. 4xx: mend the request. 429 and 503: wait as long as Retry-After says. 500: a bug of ours.\n"))
		return err
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
	a.router.GET("/openapi.json", serve("application/vnd.oai.openapi+json;version=3.1", described))
	a.router.GET("/openapi.yaml", serve("application/vnd.oai.openapi;version=3.1", yaml))
	a.router.GET("/docs", func(w http.ResponseWriter, _ bunrouter.Request) error {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
		return pageTemplates.ExecuteTemplate(w, "docs.html", a.docs())
	})
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
