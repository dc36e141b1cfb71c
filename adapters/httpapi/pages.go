package httpapi

import (
	"embed"
	"html/template"
	"net/http"

	"github.com/uptrace/bunrouter"

	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
)

//go:embed pages/*.html
var pageFiles embed.FS

var pageTemplates = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

// page is what a one-time link's page shows. The pages have no script, load nothing, and a GET spends nothing.
type page struct {
	Title, Token, Kind  string
	Tenant, Email, Note string
	Done                bool
	Problem             string
}

func show(w http.ResponseWriter, status int, p page) error {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	return pageTemplates.ExecuteTemplate(w, "page.html", p)
}

// pageRoutes are the three small pages that one-time links open: GET shows a form, POST does what the JSON route does.
func (a *API) pageRoutes() {
	s := a.o.SignIn
	for _, p := range []struct {
		path, title, kind string
		do                func(r *http.Request, token secret.Text) (note string, err error)
	}{
		{"/setup", "Set up Ringfence", "setup", func(r *http.Request, token secret.Text) (string, error) {
			var first *signin.FirstTenant
			if name := r.PostFormValue("tenant"); name != "" {
				first = &signin.FirstTenant{Name: name}
			}
			_, _, err := s.Setup(r.Context(), token, newPerson(r), first, originOf(r.Context()))
			return "You are the platform's administrator. Sign in with your e-mail address and password.", err
		}},
		{"/invite", "Accept an invitation", "invite", func(r *http.Request, token secret.Text) (string, error) {
			_, err := s.Accept(r.Context(), token, nil, newPerson(r), originOf(r.Context()))
			return "You are in. Sign in with your e-mail address and password.", err
		}},
		{"/reset", "Set a new password", "reset", func(r *http.Request, token secret.Text) (string, error) {
			return "Your password is set, and you are signed out everywhere. Sign in again.", s.Reset(r.Context(), token, secret.New(r.PostFormValue("password")), originOf(r.Context()))
		}},
	} {
		a.open(http.MethodGet, p.path, func(w http.ResponseWriter, r bunrouter.Request) error {
			v := page{Title: p.title, Kind: p.kind, Token: r.URL.Query().Get("token")}
			if p.kind == "invite" {
				inv, err := s.Invitation(r.Context(), secret.New(v.Token), originOf(r.Context()))
				if err != nil {
					return a.pageProblem(w, r.Request, v, err)
				}
				v.Tenant, v.Email = inv.Tenant, inv.Email
			}
			return show(w, http.StatusOK, v)
		})
		a.open(http.MethodPost, p.path, func(w http.ResponseWriter, r bunrouter.Request) error {
			if err := typed(r.Request, "application/x-www-form-urlencoded"); err != nil {
				return err
			}
			v := page{Title: p.title, Kind: p.kind, Token: r.PostFormValue("token")}
			if err := a.csrf.Check(r.Request); err != nil {
				return a.pageProblem(w, r.Request, v, fault.New(fault.Denied, "cross_origin", "This form was sent from another site. Open the link itself."))
			}
			note, err := p.do(r.Request, secret.New(v.Token))
			if err != nil {
				return a.pageProblem(w, r.Request, v, err)
			}
			v.Done, v.Note = true, note
			return show(w, http.StatusOK, v)
		})
	}
}

func newPerson(r *http.Request) signin.NewPerson {
	return signin.NewPerson{Email: r.PostFormValue("email"), Name: r.PostFormValue("name"), Password: secret.New(r.PostFormValue("password"))}
}

func (a *API) pageProblem(w http.ResponseWriter, r *http.Request, v page, err error) error {
	p := problemOf(r.Context(), err)
	p.headers(w.Header())
	v.Problem = p.Detail
	return show(w, p.Status, v)
}
