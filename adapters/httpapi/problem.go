package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"github.com/ringfence/ringfence/core/fault"
)

// problem is an answer that went wrong, as RFC 9457 has it. It never repeats an input, nor a driver's words.
type problem struct {
	Type       string         `json:"type"`
	Title      string         `json:"title"`
	Status     int            `json:"status"`
	Detail     string         `json:"detail"`
	Code       string         `json:"code"`
	Permission string         `json:"permission,omitempty"`
	Limit      int64          `json:"limit,omitempty"`
	Use        int64          `json:"use,omitempty"`
	Errors     []problemField `json:"errors,omitempty"`
	RequestID  string         `json:"request_id,omitempty"`

	retry int // seconds; 0 = unknown
}

type problemField struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// Error, GetStatus and ContentType are what huma wants of an error.
func (p *problem) Error() string             { return p.Detail }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// statuses is the one table from kinds of faults to HTTP, with the codes that have a status of their own.
var statuses = map[fault.Kind]int{
	fault.Internal: 500, fault.Invalid: 422, fault.Unauthenticated: 401, fault.Denied: 403, fault.NotFound: 404, fault.Conflict: 409, fault.Exhausted: 429, fault.Unavailable: 503,
}

var statusOfCode = map[string]int{
	"unreadable": 400, "bad_cursor": 400, "two_credentials": 400, "bad_path": 400, "bad_query": 400, "bad_idempotency_key": 400, "bad_if_match": 400,
	"stale_revision": 412, "precondition_required": 428, "too_large": 413, "unsupported_media_type": 415, "content_encoding": 415, "method_not_allowed": 405,
	"body_timeout":      408,
	"headers_too_large": 431,
}

// ourBug is all that a caller learns of a fault of ours; the log has the rest.
const ourBug = "Something went wrong on our side. The log has the details under this request's id."

// problemOf is the problem of any error. What nobody classified is our bug: the cause is logged, here and nowhere else.
func problemOf(ctx context.Context, err error) *problem {
	var done *problem
	if errors.As(err, &done) {
		return done
	}
	f := fault.As(err)
	if f == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		f = fault.New(fault.Unavailable, "gave_up", "The request was not answered in time, and nothing was done. Try again.")
	}
	if f == nil {
		f = fault.Wrap(err, fault.Internal, "internal", ourBug)
	}
	status, ok := statusOfCode[f.Code]
	if !ok {
		status = statuses[f.Kind]
	}
	code := f.Code
	if code == "" {
		code = f.Kind.String()
	}
	if rq := requestOf(ctx); rq != nil && status >= 500 {
		level := slog.LevelError
		if rq.gone = f.Kind == fault.Unavailable && errors.Is(ctx.Err(), context.Canceled); rq.gone {
			level = slog.LevelInfo // the client went away in the middle: nobody reads the answer, and nothing is to be mended
		}
		attrs := []slog.Attr{slog.String("request_id", rq.id), slog.String("code", code), slog.String("message", f.Message)}
		if cause := f.Unwrap(); cause != nil {
			attrs = append(attrs, slog.String("cause", fault.Cause(cause)))
		}
		rq.log.LogAttrs(ctx, level, "request failed", attrs...)
	}
	if f.Kind == fault.Internal {
		f, code = fault.New(fault.Internal, "internal", ourBug), "internal"
	}
	p := &problem{Type: "/problems/" + code, Title: http.StatusText(status), Status: status, Detail: f.Message, Code: code, Permission: f.Permission, Limit: f.Limit, Use: f.Use, RequestID: requestID(ctx)}
	for _, field := range f.Fields {
		p.Errors = append(p.Errors, problemField{field.Pointer, field.Detail})
	}
	if f.RetryAfter > 0 {
		p.retry = int(math.Ceil(f.RetryAfter.Seconds()))
	} else if status == 503 || status == 429 {
		p.retry = 1
	}
	return p
}

func notFound() error { return fault.Missing() }

func methodNotAllowed() error {
	return fault.New(fault.Invalid, "method_not_allowed", "This path does not take this method. The Allow field lists those that it takes.")
}

// writeProblem answers a problem outside of huma.
func writeProblem(w http.ResponseWriter, r *http.Request, err error) error {
	p := problemOf(r.Context(), err)
	body, merr := json.Marshal(p)
	if merr != nil {
		return merr
	}
	p.headers(w.Header())
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_, werr := w.Write(append(body, '\n'))
	return werr
}

func (p *problem) headers(h http.Header) {
	for k, v := range p.GetHeaders() {
		h[k] = v
	}
}

// GetHeaders are the fields that belong to the problem; huma asks for them.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.Status == http.StatusRequestTimeout {
		h.Set("Connection", "close") // what is left of the body is not waited for
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="ringfence"`)
	}
	return h
}
