package httpapi

import (
	"net/http"
	"strings"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
)

// cookieName is the browser session's cookie.
const cookieName = "__Host-sid"

// token is the request's credential: a bearer token or a browser's cookie, and never both. The zero token is none.
func (a *API) token(r *http.Request) (secret.Text, error) {
	header, cookies := r.Header.Values("Authorization"), r.CookiesNamed(cookieName)
	if len(header)+len(cookies) > 1 {
		return secret.Text{}, fault.New(fault.Invalid, "two_credentials", "The request has more than one credential. Send one.")
	}
	if len(header) == 1 {
		scheme, token, ok := strings.Cut(header[0], " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || isSession(token) {
			return secret.Text{}, enter.ErrCredential()
		}
		return secret.New(token), nil
	}
	// A browser sends the cookie by itself, and signing in gives one: neither is done from another site.
	if err := a.csrf.Check(r); err != nil {
		return secret.Text{}, fault.New(fault.Denied, "cross_origin", "A browser's session is not used from another site. Use a token.")
	}
	if len(cookies) == 0 {
		return secret.Text{}, nil
	}
	if !isSession(cookies[0].Value) {
		return secret.Text{}, enter.ErrCredential()
	}
	return secret.New(cookies[0].Value), nil
}

// isSession reports whether a token is a browser's session, which is good in its cookie alone: nothing else is, and it is
// good nowhere else, so that what guards the cookie guards all of its uses.
func isSession(token string) bool {
	if !strings.HasPrefix(token, "rf_"+string(credential.KindSession)+"_") {
		return false
	}
	t, err := credential.Parse(token)
	return err == nil && t.Kind == credential.KindSession
}
