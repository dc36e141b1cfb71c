package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Bounds of every request.
const (
	maxBody      = 1 << 20
	maxIngest    = 256 << 10
	maxPath      = 1024
	maxQuery     = 8 << 10
	maxFilters   = 32
	maxHeader    = 16 << 10
	readTimeout  = 10 * time.Second
	maxIdempoKey = 128
)

// request is what is known of a request outside of its route.
type request struct {
	id     string
	origin access.Origin
	log    *slog.Logger
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

func requestID(ctx context.Context) string {
	if r := requestOf(ctx); r != nil {
		return r.id
	}
	return ""
}

func originOf(ctx context.Context) access.Origin {
	if r := requestOf(ctx); r != nil {
		return r.origin
	}
	return access.Origin{}
}

// outer stands before the router: it names the request, recovers from panics, refuses what no route may see, and logs one
// line. Nothing inside it may answer 200 for an error.
func (a *API) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rq := &request{log: a.o.Log}
		var id ident.Request
		ident.Fresh(a.o.Enter.Mint, &id)
		rq.id = id.String()
		rq.origin = access.Origin{Request: id, Trace: trace(r.Header.Get("Traceparent")), Address: a.client(r), Agent: cut(r.UserAgent(), 256), Node: a.o.Node}
		ctx := context.WithValue(r.Context(), requestKey{}, rq)
		r = r.WithContext(ctx)
		s := &statusWriter{ResponseWriter: w}
		secure(s.Header(), rq.id)
		method := r.Method
		if method == http.MethodHead { // a GET whose body stays here
			r.Method = http.MethodGet
			s.silent = true
		}
		defer func() {
			if p := recover(); p != nil {
				a.o.Log.ErrorContext(ctx, "panic", slog.String("request_id", rq.id), slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
				if s.status == 0 {
					_ = writeProblem(s, r, fault.New(fault.Internal, "internal", "Something went wrong on our side. The log has the details under this request's id."))
				} else {
					panic(http.ErrAbortHandler) // the answer has begun: it must not look whole
				}
			}
			if s.status == 0 { // a handler that answered nothing
				_ = writeProblem(s, r, fault.New(fault.Internal, "internal", "Something went wrong on our side. The log has the details under this request's id."))
			}
			a.o.Metrics.request(s.status)
			a.o.Log.InfoContext(ctx, "request", slog.String("request_id", rq.id), slog.String("method", cut(method, 16)), slog.Int("status", s.status), slog.Duration("duration", time.Since(began)))
		}()
		if err := precheck(r); err != nil {
			_ = writeProblem(s, r, err)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &bounded{r.Body, bodyLimit(r) + 1}
		}
		next.ServeHTTP(s, r)
	})
}

func bodyLimit(r *http.Request) int64 {
	if strings.HasPrefix(r.URL.Path, "/v1/ingest/") {
		return maxIngest
	}
	return maxBody
}

// bounded reads no byte behind its limit, whoever asks. (http.MaxBytesReader's error would become a 500 inside huma.)
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// precheck refuses what no route may see, before anybody is authenticated.
func precheck(r *http.Request) error {
	bad := func(code, format string, args ...any) error { return fault.New(fault.Invalid, code, format, args...) }
	switch {
	case r.ContentLength > bodyLimit(r):
		return bad("too_large", "The body is larger than this route takes, which is %d bytes.", bodyLimit(r))
	case r.URL.RawPath != "":
		return bad("bad_path", "The path has an encoded slash or another second spelling. Write ids as they are.")
	case len(r.URL.Path) > maxPath || !utf8.ValidString(r.URL.Path) || strings.ContainsAny(r.URL.Path, "\x00\r\n"):
		return bad("bad_path", "The path is too long, or is no text.")
	case len(r.URL.RawQuery) > maxQuery:
		return bad("bad_query", "The query is too long.")
	}
	if enc := r.Header.Values("Content-Encoding"); len(enc) > 0 && (len(enc) > 1 || !strings.EqualFold(enc[0], "identity")) {
		return bad("content_encoding", "Bodies are taken as they are: send no Content-Encoding.")
	}
	if r.URL.RawQuery == "" {
		return nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(q) > maxFilters {
		return bad("bad_query", "The query cannot be read, or has more than %d parameters.", maxFilters)
	}
	for k, vs := range q {
		if len(vs) > 1 || !utf8.ValidString(k+vs[0]) || strings.ContainsRune(k+vs[0], 0) {
			return bad("bad_query", "A parameter of the query stands twice, or is no text.")
		}
	}
	return nil
}

// secure sets what every answer carries.
func secure(h http.Header, id string) {
	h.Set("Request-Id", id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// trace is a W3C traceparent, if it is one.
func trace(s string) string {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return ""
	}
	if _, err := hex.DecodeString(s[3:35] + s[36:52] + s[53:]); err != nil || strings.ToLower(s) != s {
		return ""
	}
	return s[3:35]
}

func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// client is the caller's address: the connection's, or, behind trusted proxies, the rightmost one that they added for
// somebody who is none of them.
func (a *API) client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	trusted := func(ip netip.Addr) bool {
		return slices.ContainsFunc(a.o.Trusted, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) })
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted(ip); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		ip = hop
	}
	return ip.Unmap().String()
}

// statusWriter remembers the status, and keeps the body of a HEAD to itself.
type statusWriter struct {
	http.ResponseWriter
	status int
	silent bool
}

func (s *statusWriter) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
		s.ResponseWriter.WriteHeader(status)
	}
}

func (s *statusWriter) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.WriteHeader(http.StatusOK)
	}
	if s.silent {
		return len(b), nil
	}
	return s.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// allowed lists the methods that a path takes.
func (a *API) allowed(path string) string {
	var methods []string
	for _, d := range a.routes {
		if fits(d.Path, path) && !slices.Contains(methods, d.Method) {
			methods = append(methods, d.Method)
			if d.Method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
		}
	}
	sort.Strings(methods)
	return strings.Join(methods, ", ")
}

// fits reports whether a path is one of a pattern with {parameters}.
func fits(pattern, path string) bool {
	ps, ss := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(ps) != len(ss) {
		return false
	}
	for i := range ps {
		if ps[i] != ss[i] && !(strings.HasPrefix(ps[i], "{") && ss[i] != "") {
			return false
		}
	}
	return true
}

// filters is the query without cursor and limit, in one spelling: what a cursor is bound to.
func filters(r *http.Request) string {
	q := r.URL.Query()
	q.Del("cursor")
	q.Del("limit")
	return q.Encode()
}

// idempotency reads the request's Idempotency-Key where it counts: POSTs that make something of a tenant's or the caller's.
func (a *API) idempotency(r *http.Request, c *Call) (manage.Once, error) {
	key := r.Header.Get("Idempotency-Key")
	if r.Method != http.MethodPost || key == "" {
		return manage.Once{}, nil
	}
	if len(key) > maxIdempoKey {
		return manage.Once{}, fault.New(fault.Invalid, "bad_idempotency_key", "An Idempotency-Key has at most %d bytes.", maxIdempoKey)
	}
	mac := func(parts ...string) [32]byte {
		h := hmac.New(sha256.New, a.o.CursorKey)
		for _, p := range parts {
			_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
		}
		return [32]byte(h.Sum(nil))
	}
	// The body is read here, within its bound, and handed on.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return manage.Once{}, fault.Wrap(err, fault.Invalid, "unreadable", "The body did not arrive whole.")
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return manage.Once{
		Key:     mac("key", c.Identity.Subject.Principal.String(), c.Tenant.String(), c.d.Operation, key),
		Request: mac("request", r.Method, r.URL.Path, string(body)),
	}, nil
}

// page is the part of a list that the request asks for.
func (c *Call) page(cursor string, limit int) (store.Query, error) {
	q := store.Query{Limit: limit}
	if cursor == "" {
		return q, nil
	}
	raw, err := cursorText.DecodeString(cursor)
	if err != nil {
		return q, store.ErrCursor
	}
	after, err := c.api.cursors.Open(nil, nil, raw, c.bound())
	if err != nil {
		return q, store.ErrCursor
	}
	q.After = string(after)
	return q, nil
}

// next seals where the next page begins. It is good for this tenant, route and filter alone.
func (c *Call) next(after string) *string {
	if after == "" {
		return nil
	}
	s := cursorText.EncodeToString(c.api.cursors.Seal(nil, nil, []byte(after), c.bound()))
	return &s
}

func (c *Call) bound() []byte {
	return fmt.Appendf(nil, "%s|%s|%s|%s", c.Tenant, c.d.Operation, c.Identity.Subject.Principal, c.Query)
}

// cursorText is how a sealed cursor is written.
var cursorText = base64.RawURLEncoding.Strict()
