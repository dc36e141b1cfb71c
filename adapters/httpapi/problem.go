package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/strictjson"
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
	"unreadable": 400, "bad_cursor": 400, "two_credentials": 400, "bad_path": 400, "bad_query": 400, "bad_idempotency_key": 400,
	"stale_revision": 412, "precondition_required": 428, "too_large": 413, "unsupported_media_type": 415, "content_encoding": 415, "method_not_allowed": 405,
	"headers_too_large": 431,
}

// problemOf is the problem of any error. What nobody classified is our bug: the cause is logged, here and nowhere else.
func problemOf(ctx context.Context, err error) *problem {
	var done *problem
	if errors.As(err, &done) {
		return done
	}
	f := fault.As(err)
	if f == nil {
		f = fault.Wrap(err, fault.Internal, "internal", "Something went wrong on our side. The log has the details under this request's id.")
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			f = fault.New(fault.Unavailable, "gave_up", "The request was not answered in time, and nothing was done. Try again.")
		}
	}
	status, ok := statusOfCode[f.Code]
	if !ok {
		status = statuses[f.Kind]
	}
	code := f.Code
	if code == "" {
		code = f.Kind.String()
	}
	rq := requestOf(ctx)
	if cause := f.Unwrap(); cause != nil && rq != nil && status >= 500 {
		rq.log.ErrorContext(ctx, "request failed", slog.String("request_id", rq.id), slog.String("code", code), slog.String("cause", cause.Error()))
	}
	p := &problem{Type: "/problems/" + code, Title: http.StatusText(status), Status: status, Detail: f.Message, Code: code, Permission: f.Permission, Limit: f.Limit, Use: f.Use, RequestID: requestID(ctx)}
	for _, field := range f.Fields {
		p.Errors = append(p.Errors, problemField{field.Pointer, field.Detail})
	}
	if f.RetryAfter > 0 {
		p.retry = int(math.Ceil(f.RetryAfter.Seconds()))
	} else if status == 503 {
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
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="ringfence"`)
	}
}

// humaProblem is what huma makes its own errors with: of unreadable bodies and of values that break a schema. The value
// itself is dropped, since it may be a secret.
func humaProblem(hc huma.Context, status int, msg string, errs ...error) huma.StatusError {
	ctx := context.Background()
	if hc != nil {
		ctx = hc.Context()
	}
	for _, err := range errs {
		var p *problem
		if errors.As(err, &p) {
			return p
		}
	}
	kind, code, detail := fault.Invalid, "invalid", "The request is readable but not right. The errors say which parts."
	switch status {
	case 400:
		code, detail = "unreadable", "The request cannot be read. Send one JSON document, in UTF-8, each key once."
	case 413:
		code, detail = "too_large", "The body is larger than this route takes."
	case 415:
		code, detail = "unsupported_media_type", "This route takes application/json."
	case 408:
		kind, code, detail = fault.Unavailable, "gave_up", "The body did not arrive in time."
	case 422:
	default:
		kind, code, detail = fault.Internal, "internal", "Something went wrong on our side. The log has the details under this request's id."
	}
	f := fault.New(kind, code, "%s", detail)
	for _, err := range errs {
		var d *huma.ErrorDetail
		switch {
		case errors.As(err, &d):
			f = f.WithField(pointer(d.Location), plain(d.Message))
		case errors.Is(err, strictjson.ErrType), errors.Is(err, strictjson.ErrMembers):
			code = "invalid"
			f = fault.New(fault.Invalid, code, "The request cannot be used: %s.", err)
		}
	}
	if strings.Contains(msg, "request body too large") {
		f = fault.New(fault.Invalid, "too_large", "The body is larger than this route takes.")
	}
	return problemOf(ctx, f)
}

// pointer turns huma's location (body.items[0].name) into a JSON pointer.
func pointer(location string) string {
	where, rest, _ := strings.Cut(location, ".")
	if where != "body" {
		return "/" + strings.ReplaceAll(location, ".", "/")
	}
	if rest == "" {
		return ""
	}
	return "/" + strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(rest)
}

// plain keeps a schema's message and drops whatever it may quote of the input.
func plain(message string) string {
	if i := strings.IndexAny(message, "\"'`"); i >= 0 {
		message = strings.TrimSpace(message[:i])
	}
	return message
}

// strict reads and writes JSON by our rules.
var strict = huma.Format{
	Marshal: func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
	Unmarshal: func(b []byte, v any) error {
		if err := strictjson.Check(b); err != nil {
			return err
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		return d.Decode(v)
	},
}
