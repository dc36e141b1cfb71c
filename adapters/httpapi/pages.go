package httpapi

import (
	"embed"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"slices"
	"unicode/utf8"

	"github.com/uptrace/bunrouter"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/credential"
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
	As, Me              string // who is signed in: id and address
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
		takes             []string // the form's fields, beside the token
		do                func(r *http.Request, token secret.Text, f url.Values) (note string, err error)
	}{
		{"/setup", "Set up Ringfence", "setup", []string{"email", "name", "password", "tenant"}, func(r *http.Request, token secret.Text, f url.Values) (string, error) {
			var first *signin.FirstTenant
			if name := f.Get("tenant"); name != "" {
				first = &signin.FirstTenant{Name: name}
			}
			_, _, err := s.Setup(r.Context(), token, newPerson(f), first, originOf(r.Context()))
			return "You are the platform's administrator. Sign in with your e-mail address and password.", err
		}},
		{"/invite", "Accept an invitation", "invite", []string{"as", "name", "password"}, a.acceptPage},
		{"/reset", "Set a new password", "reset", []string{"password"}, func(r *http.Request, token secret.Text, f url.Values) (string, error) {
			return "Your password is set, and you are signed out everywhere. Sign in again.", s.Reset(r.Context(), token, secret.New(f.Get("password")), originOf(r.Context()))
		}},
	} {
		a.open(http.MethodGet, p.path, func(w http.ResponseWriter, r bunrouter.Request) error {
			v := page{Title: p.title, Kind: p.kind, Token: r.URL.Query().Get("token")}
			if err := a.offer(r.Request, &v); err != nil {
				return a.pageProblem(w, r.Request, v, err)
			}
			return show(w, http.StatusOK, v)
		})
		a.open(http.MethodPost, p.path, func(w http.ResponseWriter, r bunrouter.Request) error {
			if err := typed(r.Request, "application/x-www-form-urlencoded"); err != nil {
				return err
			}
			v := page{Title: p.title, Kind: p.kind}
			f, err := fields(r.Request, p.takes)
			if err != nil {
				return a.pageProblem(w, r.Request, v, err)
			}
			v.Token = f.Get("token")
			if err := a.csrf.Check(r.Request); err != nil {
				return a.pageProblem(w, r.Request, v, fault.New(fault.Denied, "cross_origin", "This form was sent from another site. Open the link itself."))
			}
			note, err := p.do(r.Request, secret.New(v.Token), f)
			if err != nil {
				_ = a.offer(r.Request, &v) // so that the form comes back as it was; what is wrong is said already
				return a.pageProblem(w, r.Request, v, err)
			}
			v.Done, v.Note = true, note
			return show(w, http.StatusOK, v)
		})
	}
}

// offer refuses a link that opens nothing, and fills in what an invitation's page says of it, and who would accept it by their
// session. It spends nothing.
func (a *API) offer(r *http.Request, v *page) error {
	switch v.Kind {
	case "setup":
		return a.o.SignIn.Opens(r.Context(), secret.New(v.Token), credential.KindSetup, originOf(r.Context()))
	case "reset":
		return a.o.SignIn.Opens(r.Context(), secret.New(v.Token), credential.KindReset, originOf(r.Context()))
	}
	inv, err := a.o.SignIn.Invitation(r.Context(), secret.New(v.Token), originOf(r.Context()))
	if err != nil {
		return err
	}
	v.Tenant, v.Email = inv.Tenant, inv.Email
	who, err := a.browser(r)
	if err != nil || who == nil {
		return err
	}
	me, err := a.o.SignIn.Me(r.Context(), *who, originOf(r.Context()))
	v.As, v.Me = me.ID.String(), me.Email
	return err
}

// acceptPage accepts as who is signed in, if the form says that it was shown to them, or as a new person.
func (a *API) acceptPage(r *http.Request, token secret.Text, f url.Values) (string, error) {
	if as := f.Get("as"); as != "" {
		who, err := a.browser(r)
		if err != nil {
			return "", err
		}
		if who == nil || who.Subject.Principal.String() != as {
			return "", fault.New(fault.Conflict, "sign_in_first", "You are not signed in any more as who the form was for. Sign in and open the link again.")
		}
		_, err = a.o.SignIn.Accept(r.Context(), token, who, signin.NewPerson{}, originOf(r.Context()))
		return "You are in.", err
	}
	_, err := a.o.SignIn.Accept(r.Context(), token, nil, newPerson(f), originOf(r.Context()))
	return "You are in. Sign in with your e-mail address and password.", err
}

// browser is whose session the request's cookie is, by the rules that cookies have everywhere; nil if it is nobody's.
func (a *API) browser(r *http.Request) (*enter.Identity, error) {
	token, err := a.token(r)
	if err == nil && !token.IsZero() {
		var id enter.Identity
		if id, err = a.gate.Authenticate(r.Context(), token, originOf(r.Context())); err == nil && id.Kind == credential.KindSession {
			return &id, nil
		}
	}
	if fault.Is(err, fault.Unauthenticated) {
		err = nil
	}
	return nil, err
}

// fields reads a page's form as strictly as JSON is read: whole, within its bound, each field once, known and as text.
func fields(r *http.Request, takes []string) (url.Values, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	f, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, fault.New(fault.Invalid, "unreadable", "The form cannot be read. Open the link again and fill it in there.")
	}
	for k, vs := range f {
		if len(vs) != 1 || !utf8.ValidString(k+vs[0]) {
			return nil, fault.New(fault.Invalid, "unreadable", "The form has a field twice, or one that is no text. Open the link again and fill it in there.")
		}
		if k != "token" && !slices.Contains(takes, k) {
			return nil, fault.New(fault.Invalid, "unknown_field", "The form has a field that is not asked for. Open the link again and fill it in there.")
		}
	}
	return f, nil
}

func newPerson(f url.Values) signin.NewPerson {
	return signin.NewPerson{Email: f.Get("email"), Name: f.Get("name"), Password: secret.New(f.Get("password"))}
}

func (a *API) pageProblem(w http.ResponseWriter, r *http.Request, v page, err error) error {
	p := problemOf(r.Context(), err)
	p.headers(w.Header())
	v.Problem = p.Detail
	if p.Status == http.StatusNotFound || p.Status == http.StatusUnauthorized {
		v.Token = "" // it opens nothing: there is nothing to fill in again, and an error repeats no input
	}
	return show(w, p.Status, v)
}
