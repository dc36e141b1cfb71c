package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/uptrace/bunrouter"

	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
)

const (
	good   = "a-good-token"
	canary = "canary9SECRETvalue"
)

// baked is a session's token, which is good in its cookie.
func baked() string {
	return credential.Mint(credential.KindSession, [credential.RandomLen]byte{7}).Whole.Reveal()
}

// doorman is a gate of few words: good is a person, and what else it answers is set by a test.
type doorman struct {
	mu      sync.Mutex
	asked   int // authentications
	gated   int
	ended   bool  // whatever was good is no more
	refused error // answers Gate
	who     enter.Identity
	granted tenant.Limits
}

func (d *doorman) Authenticate(_ context.Context, t secret.Text, _ access.Origin) (enter.Identity, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.ended || !t.Equal(secret.New(good)) && !t.Equal(secret.New(baked())) {
		return enter.Identity{}, enter.ErrCredential()
	}
	return d.who, nil
}

func (d *doorman) Gate(context.Context, enter.Identity, ident.Tenant, access.Permission, enter.At, access.Origin) (s access.Scope, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gated++
	return s, d.refused
}

func (d *doorman) Member(context.Context, enter.Identity, ident.Tenant, access.Origin) (s access.Scope, err error) {
	return s, d.refused
}

func (d *doorman) Self(enter.Identity, access.Origin) (s access.Scope, err error) {
	return s, d.refused
}

func (d *doorman) Limits(context.Context, ident.Tenant) (tenant.Limits, error) { return d.granted, nil }

func (d *doorman) Refused(_ context.Context, _ enter.Identity, _ access.Scope, err error) error {
	return err
}

type thingJSON struct {
	Common
	Name string `json:"name"`
}

type partJSON struct {
	Size int    `json:"size" minimum:"1"`
	Kind string `json:"kind,omitempty" enum:"big,small"`
}

type newThing struct {
	TenantIn
	Body struct {
		Name  string     `json:"name" minLength:"1" maxLength:"20" example:"pump"`
		Count int        `json:"count,omitempty" maximum:"100"`
		Small int8       `json:"small,omitempty"`
		Mail  string     `json:"mail,omitempty" format:"email"`
		Parts []partJSON `json:"parts,omitempty"`
	}
}

// broken is a body that cannot be written.
type broken struct{ Why string }

func (broken) MarshalJSON() ([]byte, error) { return nil, errBroken }

var errBroken = fault.New(fault.Internal, "broken", "no words")

// stand is an API with a few routes whose handlers do what a test says.
type stand struct {
	*API
	t      testing.TB
	door   *doorman
	log    *bytes.Buffer
	logs   sync.Mutex
	do     func(ctx context.Context, c *Call) error // every handler's beginning
	stream func(io.Writer) error                    // what getFile writes
	after  string                                   // where listThings goes on
	got    string                                   // what createThing was given
	ten    ident.Tenant
}

func (s *stand) Write(b []byte) (int, error) {
	s.logs.Lock()
	defer s.logs.Unlock()
	return s.log.Write(b)
}

func (s *stand) logged() string {
	s.logs.Lock()
	defer s.logs.Unlock()
	return s.log.String()
}

func mint() ident.Mint {
	n := byte(0)
	var mu sync.Mutex
	return ident.Mint{Now: time.Now, Random: func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		n++
		for i := range b {
			b[i] = n + byte(i)
		}
	}}
}

func options(w io.Writer) Options {
	limits := tenant.DefaultLimits
	limits.PrincipalRate, limits.PrincipalBurst, limits.TenantRate = 100_000, 100_000, 100_000
	return Options{
		Limiter: memlimit.New(time.Now, 1000), Limits: limits, CursorKey: bytes.Repeat([]byte{7}, 32), PublicURL: "https://iot.example.com",
		Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Docs: true, Ready: func(context.Context) error { return nil },
		Metrics: NewMetrics(), Log: slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test", Node: "n1",
		Ingest: &ingest.Ingest{},
	}
}

func newStand(t testing.TB, change ...func(*Options)) *stand {
	t.Helper()
	m := mint()
	s := &stand{t: t, log: &bytes.Buffer{}, door: &doorman{}, do: func(context.Context, *Call) error { return nil }}
	ident.Fresh(m, &s.ten)
	ident.Fresh(m, &s.door.who.Subject.Principal)
	s.door.who.Actor = access.Actor{Kind: access.Human, ID: s.door.who.Subject.Principal}
	o := options(s)
	for _, f := range change {
		f(&o)
	}
	var err error
	if s.API, err = frame(o, s.door, s.door.Limits, m); err != nil {
		t.Fatal(err)
	}
	s.register()
	s.openRoutes()
	if _, err = s.ready(); err != nil {
		t.Fatal(err)
	}
	return s
}

const things = "/v1/tenants/{tenant}/things"

func (s *stand) register() {
	Register(s.API, Declaration{Operation: "listThings", Method: http.MethodGet, Path: things, Summary: "List things", Tag: "things", Permission: access.NodeRead, Object: "thing", Tenant: FromPath, At: enter.Anywhere},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			Name string `query:"name" maxLength:"50"`
		}) (*many[thingJSON], error) {
			if err := s.do(ctx, c); err != nil {
				return nil, err
			}
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			s.after = q.After
			return paged(c, []string{"one"}, "after one", func(n string) thingJSON { return thingJSON{Name: n} }), nil
		})
	Register(s.API, Declaration{Operation: "createThing", Method: http.MethodPost, Path: things, Summary: "Make a thing", Tag: "things", Permission: access.NodeCreate, Object: "thing", Tenant: FromPath, At: enter.Anywhere, Audit: []audit.Action{audit.NodeCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *newThing) (*one[thingJSON], error) {
			s.got = in.Body.Name
			if err := s.do(ctx, c); err != nil {
				return nil, err
			}
			return &one[thingJSON]{ETag: etag(1), Location: "/there", Body: thingJSON{Name: in.Body.Name}}, nil
		})
	Register(s.API, Declaration{Operation: "getThing", Method: http.MethodGet, Path: things + "/{thing}", Summary: "Read a thing", Tag: "things", Permission: access.NodeRead, Object: "thing", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Thing string `path:"thing"`
		}) (*one[thingJSON], error) {
			var id ident.Node
			if err := path(in.Thing, &id); err != nil {
				return nil, err
			}
			return &one[thingJSON]{ETag: etag(3), Body: thingJSON{Name: "one"}}, s.do(ctx, c)
		})
	Register(s.API, Declaration{Operation: "updateThing", Method: http.MethodPatch, Path: things + "/{thing}", Summary: "Change a thing", Tag: "things", Permission: access.NodeUpdate, Object: "thing", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.NodeUpdated}},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			MatchIn
			Thing string `path:"thing"`
			Body  struct {
				Name *string `json:"name,omitempty" example:"pump"`
			}
		}) (*one[thingJSON], error) {
			rev, err := revision(in.IfMatch)
			if err == nil && rev != 3 {
				err = fault.Stale()
			}
			if err != nil {
				return nil, err
			}
			return &one[thingJSON]{ETag: etag(4)}, s.do(ctx, c)
		})
	Register(s.API, Declaration{Operation: "getBroken", Method: http.MethodGet, Path: "/v1/me/broken", Summary: "Answer what cannot be written", Tag: "me", Self: "it is the caller's", Object: "thing", Tenant: FromCredential},
		func(context.Context, *Call, *struct{}) (*one[broken], error) { return &one[broken]{ETag: etag(1)}, nil })
	Register(s.API, Declaration{Operation: "getNothing", Method: http.MethodGet, Path: "/v1/me/nothing", Summary: "Answer nothing", Tag: "me", Self: "it is the caller's", Object: "thing", Tenant: FromCredential},
		func(context.Context, *Call, *struct{}) (*one[thingJSON], error) { return nil, nil })
	Register(s.API, Declaration{Operation: "getFile", Method: http.MethodGet, Path: "/v1/me/file", Summary: "Stream a file", Tag: "me", Self: "it is the caller's", Object: "thing", Tenant: FromCredential},
		func(context.Context, *Call, *struct{}) (*huma.StreamResponse, error) {
			return download("text/plain", "file", func(_ context.Context, w io.Writer) error { return s.stream(w) }, nil)
		})
	Register(s.API, Declaration{Operation: "enterByForm", Method: http.MethodPost, Path: "/v1/auth/enter", Summary: "Sign in", Tag: "auth", Public: "nobody is signed in yet", Object: "session", Tenant: FromNobody, Unaudited: "a test's"},
		func(ctx context.Context, c *Call, _ *struct {
			Body struct {
				Name string `json:"name" example:"ana"`
			}
		}) (*none, error) {
			return &none{}, s.do(ctx, c)
		})
	Register(s.API, Declaration{Operation: "leave", Method: http.MethodPost, Path: "/v1/auth/leave", Summary: "Sign out", Tag: "auth", Self: "it is the caller's", Object: "session", Tenant: FromNobody, Audit: []audit.Action{audit.Logout}, Status: 204},
		func(ctx context.Context, c *Call, _ *struct{}) (*none, error) { return &none{}, s.do(ctx, c) })
	s.open(http.MethodGet, "/test/panic", rawPanic)
	s.open(http.MethodGet, "/test/error", rawError)
	s.open(http.MethodGet, "/test/half", rawHalf)
	s.open(http.MethodGet, "/test/silent", func(http.ResponseWriter, bunrouter.Request) error { return nil })
}

func (s *stand) path(rest string) string { return "/v1/tenants/" + s.ten.String() + "/things" + rest }

// ask sends one request past the wire. Fields are given as "Name: value".
func (s *stand) ask(method, target, body string, fields ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, "http://iot.example.com/", rd)
	r.Header.Set("Authorization", "Bearer "+good)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	u, err := r.URL.Parse(target)
	if err != nil {
		s.t.Fatal(err)
	}
	r.URL, r.RequestURI = u, target
	for _, f := range fields {
		k, v, _ := strings.Cut(f, ": ")
		if v == "-" {
			r.Header.Del(k)
			continue
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.serve(w, r)
	return w
}

// serve runs a request; an answer that broke off has status 0.
func (s *stand) serve(w *httptest.ResponseRecorder, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			w.Code = 0
		}
	}()
	s.ServeHTTP(w, r)
}

// wants checks an answer that went wrong: status, code, form, and that nothing of the input or of ours is repeated.
func (s *stand) wants(w *httptest.ResponseRecorder, status int, code string) problem {
	s.t.Helper()
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != status || p.Status != status || p.Code != code {
		s.t.Fatalf("want %d %s, got %d %s", status, code, w.Code, w.Body)
	}
	if w.Header().Get("Content-Type") != problemType || p.Type != "/problems/"+code || p.Title == "" || p.Detail == "" || p.RequestID == "" || p.RequestID != w.Header().Get("Request-Id") {
		s.t.Fatalf("not a whole problem: %v %s", w.Header(), w.Body)
	}
	if advice[code] == "" {
		s.t.Fatalf("/problems/%s says nothing", code)
	}
	for _, leak := range []string{canary, good, "json:", "Go struct", "huma", ".go:", "goroutine"} {
		if strings.Contains(w.Body.String(), leak) {
			s.t.Fatalf("the answer repeats %q: %s", leak, w.Body)
		}
	}
	if strings.Contains(s.logged(), canary) || strings.Contains(s.logged(), good) {
		s.t.Fatalf("the log repeats the input: %s", s.logged())
	}
	return p
}
