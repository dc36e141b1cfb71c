package httpapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
)

// keyed reports whether a route takes an Idempotency-Key: POSTs under the tenants', the platform's and the caller's paths that
// do something, and do not only ask.
func (d *Declaration) keyed() bool {
	counts := strings.HasPrefix(d.Path, "/v1/tenants/") || strings.HasPrefix(d.Path, "/v1/platform/") || strings.HasPrefix(d.Path, "/v1/me/")
	does := slices.ContainsFunc(d.Audit, func(a audit.Action) bool { return a != audit.SensitiveRead })
	return d.Method == http.MethodPost && counts && does
}

// idempotency reads the request's Idempotency-Key where it counts. It is ignored elsewhere.
func (a *API) idempotency(r *http.Request, c *Call) (enter.Once, error) {
	keys := r.Header.Values("Idempotency-Key")
	if !c.d.keyed() || len(keys) == 0 {
		return enter.Once{}, nil
	}
	if len(keys) > 1 || keys[0] == "" || len(keys[0]) > maxIdempoKey {
		return enter.Once{}, fault.New(fault.Invalid, "bad_idempotency_key", "There may be one Idempotency-Key, of 1 to %d bytes.", maxIdempoKey)
	}
	// The body is read here, within its bound, and handed on.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return enter.Once{}, err
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return enter.Once{
		Key:     a.mac("key", c.Identity.Subject.Principal.String(), c.Tenant.String(), c.d.Operation, keys[0]),
		Request: a.mac("request", r.Method, r.URL.Path, r.URL.RawQuery, string(body)),
	}, nil
}

// mac hides its parts, each told from the next by its length.
func (a *API) mac(parts ...string) [32]byte {
	h := hmac.New(sha256.New, a.onceKey)
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return [32]byte(h.Sum(nil))
}
