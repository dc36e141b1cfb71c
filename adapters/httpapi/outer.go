package httpapi

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/trace"
)

// request is what is known of a request outside of its route.
type request struct {
	id        string
	origin    access.Origin
	log       *slog.Logger
	operation string       // of the route that took it
	event     string       // that it brought: the id that goes on into outcome and reading
	brought   ident.Uplink // the same
	tenant    ident.Tenant // whose that is
	crash     error        // what huma's adapter would have swallowed
	gone      bool         // the client went away, and that is all that went wrong
	schemas   huma.Registry
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

// outer stands before the router: it names the request, refuses what no route may see, recovers from panics, and logs one
// line. Nothing inside it may answer 200 for an error: neither bunrouter nor huma's adapter would answer anything else.
func (a *API) outer(next func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rq := &request{log: a.o.Log, schemas: a.huma.OpenAPI().Components.Schemas}
		var id ident.Request
		ident.Fresh(a.mint, &id)
		rq.id = id.String()
		rq.origin = access.Origin{Request: id, Address: a.client(r), Agent: cut(r.UserAgent(), 256), Node: a.o.Node}
		ctx := context.WithValue(r.Context(), requestKey{}, rq)
		from := sender(r)
		at := from
		if at.Kept = false; a.o.Tracer != nil {
			at = a.o.Tracer.Enter(from)
		}
		if rq.origin.Trace = at.ID(); !at.IsZero() {
			ctx = trace.With(ctx, at)
		}
		r = r.WithContext(ctx)
		s := &answer{ResponseWriter: w}
		secure(s.Header(), r, rq.id)
		method := r.Method
		if method == http.MethodHead { // a GET whose body stays here
			r.Method, s.silent = http.MethodGet, true
		}
		err := precheck(r)
		if err == nil {
			if r.Body != nil && r.Body != http.NoBody {
				body := &bounded{ReadCloser: r.Body, limit: bodyLimit(r)}
				if r.Body = body; r.ContentLength < 0 {
					s.body = body
				}
			}
			err = errors.Join(run(next, s, r), rq.crash)
		}
		broken := a.settle(s, r, err)
		if s.unread() { // net/http would read on for 256 KiB
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
		}
		took := time.Since(began)
		a.o.Metrics.request(s.status, rq.gone, took)
		said := []slog.Attr{slog.String("request_id", rq.id), slog.String("method", known(method)), slog.String("operation", rq.operation),
			slog.Int("status", s.status), slog.Duration("duration", took), slog.String("trace_id", rq.origin.Trace)}
		if rq.event != "" {
			said = append(said, slog.String("event_id", rq.event))
		}
		a.o.Log.LogAttrs(ctx, slog.LevelInfo, "request", said...)
		if at.Kept {
			a.o.Tracer.Tell(trace.Span{Name: cmp.Or(rq.operation, "request"), Kind: trace.Server, Place: at, Parent: from, Began: began, Ended: began.Add(took), Tenant: rq.tenant, Event: rq.brought, Status: s.status, Failed: s.status >= 500 && !rq.gone})
		}
		if broken {
			panic(http.ErrAbortHandler) // the answer had begun: it must not look whole
		}
	})
}

// known keeps a caller's own words out of the log.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// settle makes sure that there is an answer, and that an error is one. It reports whether the answer broke off.
func (a *API) settle(s *answer, r *http.Request, err error) (broken bool) {
	if err == nil && s.status == 0 {
		err = fault.Ours("the handler answered nothing")
	}
	if err == nil {
		s.begin()
		return false
	}
	if s.begun {
		level := slog.LevelError
		if r.Context().Err() != nil { // nobody is there to read on, which is no fault of ours
			level = slog.LevelInfo
		}
		a.o.Log.Log(r.Context(), level, "answer broke off", slog.String("request_id", requestID(r.Context())), slog.String("cause", fault.Cause(err)))
		return true
	}
	for k := range s.Header() { // what the handler had prepared is not said
		if k != "Allow" && k != "Ratelimit" && k != "Ratelimit-Policy" {
			s.Header().Del(k)
		}
	}
	secure(s.Header(), r, requestID(r.Context()))
	if werr := writeProblem(s, r, err); werr != nil && r.Context().Err() == nil {
		a.o.Log.DebugContext(r.Context(), "problem not written", slog.String("request_id", requestID(r.Context())))
	}
	s.begin()
	return false
}

// run calls the routes; a panic comes back as an error.
func run(next func(http.ResponseWriter, *http.Request) error, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = crashed(p)
		}
	}()
	return next(w, r)
}

// crashed is the error of a panic. Its value may be anything, so that only the runtime's own words are kept of it.
func crashed(p any) error {
	return fault.Wrap(fault.Ours(fault.Panicked(p).Error()+"\n"+string(debug.Stack())), fault.Internal, "internal", ourBug)
}

// answer remembers the status and sends it with the first byte of the body, so that an error on the way can still become the
// answer. The body of a HEAD stays here.
type answer struct {
	http.ResponseWriter
	status int
	begun  bool
	silent bool
	body   *bounded // of unknown length; nil if there is none
}

// WriteHeader notes the status.
func (s *answer) WriteHeader(status int) {
	if !s.begun {
		s.status = status
	}
}

// Write sends a part of the body.
func (s *answer) Write(b []byte) (int, error) {
	s.begin()
	if s.silent {
		return len(b), nil
	}
	return s.ResponseWriter.Write(b)
}

func (s *answer) begin() {
	if s.begun {
		return
	}
	s.begun = true
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if s.unread() {
		s.Header().Set("Connection", "close") // what is left of the body is not read to find the next request
	}
	s.ResponseWriter.WriteHeader(s.status)
}

// unread reports that a body of unknown length was not read to its end.
func (s *answer) unread() bool { return s.body != nil && !s.body.ended }

// Unwrap lets http.ResponseController reach the connection.
func (s *answer) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// secure sets what every answer carries.
func secure(h http.Header, r *http.Request, id string) {
	h.Set("Request-Id", id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}
