package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

func sound() Declaration {
	return Declaration{Operation: "makeOther", Method: http.MethodPost, Path: "/v1/tenants/{tenant}/others", Summary: "Make another", Tag: "others", Permission: access.NodeCreate, Object: "other", Tenant: FromPath, Audit: []audit.Action{audit.NodeCreated}}
}

// An empty or contradictory declaration keeps the server from starting.
func TestARouteThatDeclaresTooLittleIsRefusedAtStart(t *testing.T) {
	start := func(change func(*Declaration)) error {
		d := sound()
		change(&d)
		s, err := frame(options(&strings.Builder{}), &doorman{}, (&doorman{}).Limits, mint())
		if err != nil {
			t.Fatal(err)
		}
		(&stand{API: s, t: t}).register()
		Register(s, d, func(context.Context, *Call, *TenantIn) (*none, error) { return &none{}, nil })
		_, err = s.ready()
		return err
	}
	if err := start(func(*Declaration) {}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Declaration){
		"nothing":                            func(d *Declaration) { *d = Declaration{} },
		"no operation":                       func(d *Declaration) { d.Operation = "" },
		"no method":                          func(d *Declaration) { d.Method = "" },
		"a method of its own":                func(d *Declaration) { d.Method = "BREW" },
		"no path":                            func(d *Declaration) { d.Path = "" },
		"no summary":                         func(d *Declaration) { d.Summary = "" },
		"no tag":                             func(d *Declaration) { d.Tag = "" },
		"no object":                          func(d *Declaration) { d.Object = "" },
		"no tenant source":                   func(d *Declaration) { d.Tenant = "" },
		"an unknown tenant source":           func(d *Declaration) { d.Tenant = "body" },
		"no permission and no reason":        func(d *Declaration) { d.Permission = access.None },
		"a permission and a reason":          func(d *Declaration) { d.Public = "why not" },
		"two reasons":                        func(d *Declaration) { d.Permission, d.Public, d.Self = access.None, "a", "b" },
		"public in a tenant":                 func(d *Declaration) { d.Permission, d.Public = access.None, "why not" },
		"a platform's permission":            func(d *Declaration) { d.Permission = access.PlatformTenantCreate },
		"a tenant's permission on platforms": func(d *Declaration) { d.Tenant, d.Path = FromPlatform, "/v1/platform/others" },
		"a tenant that the path lacks":       func(d *Declaration) { d.Path = "/v1/others" },
		"a tenant in the path, denied":       func(d *Declaration) { d.Tenant = FromCredential },
		"a permission in no tenant":          func(d *Declaration) { d.Tenant, d.Path = FromNobody, "/v1/others" },
		"a change without events":            func(d *Declaration) { d.Audit = nil },
		"events and a reason for none":       func(d *Declaration) { d.Unaudited = "why not" },
		"a read that says why no events":     func(d *Declaration) { d.Method, d.Audit, d.Unaudited = "GET", nil, "it reads" },
		"an operation twice":                 func(d *Declaration) { d.Operation = "createThing" },
		"a path twice":                       func(d *Declaration) { d.Path = things },
		"a parameter that is not read":       func(d *Declaration) { d.Path += "/{other}" },
		"a parameter of two names":           func(d *Declaration) { d.Path = strings.Replace(things, "{tenant}", "{tenant}x{y}", 1) },
	} {
		if err := start(change); err == nil {
			t.Errorf("%s: it starts", name)
		}
	}
}

func TestAHandlerWithAnOutdatedDecisionRunsAgain(t *testing.T) {
	s := newStand(t)
	runs, stale := 0, 1
	s.do = func(context.Context, *Call) error {
		if runs++; runs <= stale {
			return store.ErrStale
		}
		return nil
	}
	if w := s.ask("POST", s.path(""), `{"name":"pump"}`); w.Code != 201 || runs != 2 || s.door.gated != 2 {
		t.Errorf("%d after %d runs and %d decisions", w.Code, runs, s.door.gated)
	}
	runs, stale, s.door.gated = 0, 1000, 0
	if w := s.ask("POST", s.path(""), `{"name":"pump"}`); s.wants(w, 409, "stale_policy").Status != 409 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%v", w.Header())
	}
	if runs != repeats+1 || s.door.gated != repeats+1 {
		t.Errorf("%d runs and %d decisions: it has an end", runs, s.door.gated)
	}
	runs, stale = 0, 1000
	s.do = func(context.Context, *Call) error {
		runs++
		s.door.refused = access.Refuse(access.NodeCreate)
		return store.ErrStale
	}
	if p := s.wants(s.ask("POST", s.path(""), `{"name":"pump"}`), 403, "permission_denied"); p.Permission != "node:create" || runs != 1 {
		t.Errorf("%d runs, %+v: the new decision is no", runs, p)
	}
}

// Else whoever takes longest to read, to decide or to write is overtaken by its tenant's other callers until it gives up.
func TestWhatWouldChangeATenantWaitsForWhoIsDecidedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		var ran []string
		second := make(chan int, 1)
		s.do = func(_ context.Context, c *Call) error {
			if c.d.Method == http.MethodGet || c.Tenant.IsZero() {
				ran = append(ran, c.d.Operation)
				return nil
			}
			ran = append(ran, fmt.Sprint(s.got, " by decision ", s.door.gated))
			switch len(ran) {
			case 1:
				return store.ErrStale
			case 2:
				go func() { second <- s.ask("POST", s.path(""), `{"name":"second"}`).Code }()
				synctest.Wait()
				s.ask("GET", s.path(""), "")
				s.ask("POST", "/v1/auth/leave", "")
			}
			return nil
		}
		if code := s.ask("POST", s.path(""), `{"name":"first"}`).Code; code != 201 {
			t.Errorf("the first: %d", code)
		}
		if code := <-second; code != 201 {
			t.Errorf("the second: %d", code)
		}
		want := []string{"first by decision 1", "first by decision 2", "listThings", "leave", "second by decision 5"} // 3: the second's, of before it waited; 4: the reader's
		if synctest.Wait(); !slices.Equal(ran, want) || s.turns.Taken(s.ten) {
			t.Errorf("%q, %t", ran, s.turns.Taken(s.ten))
		}
	})
}

// repeating is a stand where one request is decided again, and goes on when told to; others run as do says.
func repeating(t *testing.T, do func() error) (s *stand, ask func() chan *httptest.ResponseRecorder, end func()) {
	s = newStand(t)
	held := make(chan bool)
	var tries atomic.Int64
	s.do = func(context.Context, *Call) error {
		switch tries.Add(1) {
		case 1:
			return store.ErrStale
		case 2:
			<-held
			return nil
		}
		return do()
	}
	ask = func() chan *httptest.ResponseRecorder {
		done := make(chan *httptest.ResponseRecorder, 1)
		go func() { done <- s.ask("PATCH", s.path("/"+node(t)), `{"name":"pump"}`, `If-Match: "3"`) }()
		synctest.Wait()
		return done
	}
	first := ask()
	return s, ask, func() {
		close(held)
		if w := <-first; w.Code != 200 {
			t.Errorf("the first: %d", w.Code)
		}
	}
}

func TestWhoseCredentialEndsWhileTheyWaitIsNotLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ask, end := repeating(t, func() error {
			t.Error("it ran")
			return nil
		})
		second := ask()
		s.door.ended = true
		end()
		s.wants(<-second, 401, "bad_credential")
	})
}

func TestWhoOnlyWaitedKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan bool)
		var ran atomic.Int64
		_, ask, end := repeating(t, func() error {
			if ran.Add(1) == 1 {
				<-slow
			}
			return nil
		})
		others := []chan *httptest.ResponseRecorder{ask(), ask()}
		end()
		synctest.Wait()
		if n := ran.Load(); n != 2 {
			t.Errorf("%d of 2 run while the first of them takes long", n)
		}
		close(slow)
		for _, done := range others {
			if w := <-done; w.Code != 200 {
				t.Errorf("%d", w.Code)
			}
		}
	})
}

// A tenant's callers are no reason for others to wait, nor is somebody at their own things for anybody.
func TestNobodyWaitsForAnotherTenantNorForWhoIsInNone(t *testing.T) {
	s := newStand(t)
	var other ident.Tenant
	ident.Fresh(mint(), &other)
	other[0]++
	for first, second := range map[string]string{s.path(""): strings.Replace(s.path(""), s.ten.String(), other.String(), 1), "/v1/auth/leave": "/v1/auth/leave"} {
		runs := 0
		s.do = func(context.Context, *Call) error {
			switch runs++; runs {
			case 1:
				return store.ErrStale
			case 2: // decided again
				if w := s.ask("POST", second, `{"name":"second"}`); w.Code >= 300 {
					t.Errorf("%s beside %s: %d %s", second, first, w.Code, w.Body)
				}
			}
			return nil
		}
		if w := s.ask("POST", first, `{"name":"first"}`); w.Code >= 300 || runs != 3 {
			t.Errorf("%s: %d %s, %d runs", first, w.Code, w.Body, runs)
		}
	}
}

func TestALineHasAnEndAndSoHasWaitingInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ask, end := repeating(t, func() error {
			t.Error("it ran")
			return nil
		})
		var waiting []chan *httptest.ResponseRecorder
		for range repeaters - 1 {
			waiting = append(waiting, ask())
		}
		s.wants(<-ask(), 503, "tenant_busy")
		began := time.Now()
		for _, done := range waiting {
			if w := <-done; s.wants(w, 503, "tenant_busy").Status != 503 || w.Header().Get("Retry-After") == "" {
				t.Errorf("%v", w.Header())
			}
		}
		if waited := time.Since(began); waited != turnWithin {
			t.Errorf("they waited %s", waited)
		}
		end()
	})
}

func TestNobodyGetsInWithoutOneGoodCredential(t *testing.T) {
	s := newStand(t)
	s.do = func(context.Context, *Call) error { t.Error("somebody got in"); return nil }
	for name, fields := range map[string][]string{
		"none": {"Authorization: -"}, "another": {"Authorization: Bearer " + canary}, "a session that is no cookie": {"Authorization: Bearer " + baked()}, "a cookie that is no session": {"Authorization: -", "Cookie: __Host-sid=" + good}, "basic": {"Authorization: Basic " + good}, "no scheme": {"Authorization: " + good},
		"empty": {"Authorization: "}, "two spaces": {"Authorization: Bearer  " + good}, "a cookie of another name": {"Authorization: -", "Cookie: sid=" + good}, "an empty cookie": {"Authorization: -", "Cookie: __Host-sid="},
	} {
		w := s.ask("GET", s.path(""), "", fields...)
		if s.wants(w, 401, "bad_credential"); w.Header().Get("Www-Authenticate") != `Bearer realm="ringfence"` {
			t.Errorf("%s: %v", name, w.Header())
		}
	}
	s.wants(s.ask("GET", s.path(""), "", "Cookie: __Host-sid="+good), 400, "two_credentials")
	s.wants(s.ask("GET", s.path(""), "", "Authorization: -", "Cookie: __Host-sid="+good+"; __Host-sid="+good), 400, "two_credentials")
	s.wants(s.ask("POST", "/v1/auth/enter", `{"name":"a"}`, "Cookie: __Host-sid="+good), 400, "two_credentials")
}

// C12: a browser sends its cookie by itself; that it wants to is told by where the request comes from.
func TestACookieIsNotUsedFromAnotherSite(t *testing.T) {
	s := newStand(t)
	try := func(method, path, body string, fields ...string) int {
		return s.ask(method, path, body, append([]string{"Authorization: -", "Cookie: __Host-sid=" + baked()}, fields...)...).Code
	}
	for _, ours := range [][]string{{}, {"Sec-Fetch-Site: same-origin"}, {"Sec-Fetch-Site: none"}, {"Origin: https://iot.example.com"}, {"Origin: http://iot.example.com"}} {
		if got := try("POST", s.path(""), `{"name":"pump"}`, ours...); got != 201 {
			t.Errorf("%q: %d", ours, got)
		}
	}
	for _, theirs := range [][]string{{"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"}, {"Origin: https://evil.example"}, {"Origin: null"}, {"Origin: https://iot.example.com.evil.example"}} {
		for _, c := range [][3]string{{"POST", s.path(""), `{"name":"pump"}`}, {"PATCH", s.path("/" + node(t)), `{"name":"p"}`}, {"POST", "/v1/auth/enter", `{"name":"a"}`}} {
			if got := try(c[0], c[1], c[2], theirs...); got != 403 {
				t.Errorf("%q %s: %d", theirs, c[1], got)
			}
		}
		if got := s.ask("POST", "/v1/auth/enter", `{"name":"a"}`, append([]string{"Authorization: -"}, theirs...)...).Code; got != 403 {
			t.Errorf("signing in from %q: %d", theirs, got)
		}
		if got := s.ask("POST", s.path(""), `{"name":"pump"}`, theirs...).Code; got != 201 {
			t.Errorf("a token from %q: %d", theirs, got)
		}
	}
}

func TestARefusalNamesThePermission(t *testing.T) {
	s := newStand(t)
	s.door.refused = access.Refuse(access.NodeRead)
	if p := s.wants(s.ask("GET", s.path(""), ""), 403, "permission_denied"); p.Permission != "node:read" {
		t.Errorf("%+v", p)
	}
}

func TestFaultsHaveTheirStatuses(t *testing.T) {
	s := newStand(t)
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{fault.New(fault.Invalid, "bad_name", "x"), 422, "bad_name"},
		{fault.New(fault.Unauthenticated, "bad_sign_in", "x"), 401, "bad_sign_in"},
		{fault.New(fault.Denied, "person_needed", "x"), 403, "person_needed"},
		{fault.Missing(), 404, "not_found"},
		{fault.New(fault.Conflict, "cyclic_move", "x"), 409, "cyclic_move"},
		{fault.Stale(), 412, "stale_revision"},
		{store.ErrCursor, 400, "bad_cursor"},
		{fault.New(fault.Exhausted, "sign_in_locked", "x"), 429, "sign_in_locked"},
		{fault.New(fault.Unavailable, "store_unavailable", "x"), 503, "store_unavailable"},
		{context.Canceled, 503, "gave_up"},
		{context.DeadlineExceeded, 503, "gave_up"},
	} {
		s.do = func(context.Context, *Call) error { return c.err }
		w := s.ask("POST", s.path(""), `{"name":"pump"}`)
		s.wants(w, c.status, c.code)
		if retry := w.Header().Get("Retry-After"); (retry != "") != (c.status == 429 || c.status == 503) {
			t.Errorf("%s: Retry-After %q", c.code, retry)
		}
		if who := w.Header().Get("Www-Authenticate"); (who != "") != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", c.code, who)
		}
	}
	s.do = func(context.Context, *Call) error {
		return fault.New(fault.Exhausted, "rate_limited", "x").WithRetry(1500 * time.Millisecond)
	}
	if w := s.ask("POST", s.path(""), `{"name":"pump"}`); w.Header().Get("Retry-After") != "2" {
		t.Errorf("%v", w.Header())
	}
	s.do = func(context.Context, *Call) error {
		return fault.New(fault.Conflict, "quota_exceeded", "x").WithUse(10, 10)
	}
	if p := s.wants(s.ask("POST", s.path(""), `{"name":"pump"}`), 409, "quota_exceeded"); p.Limit != 10 || p.Use != 10 {
		t.Errorf("%+v", p)
	}
}

func TestRequestsAreCountedPerPrincipalAndPerTenant(t *testing.T) {
	for policy, change := range map[string]func(*Options){
		"principal": func(o *Options) { o.Limits.PrincipalRate, o.Limits.PrincipalBurst = 1, 3 },
		"tenant":    func(o *Options) { o.Limits.TenantRate = 3 },
	} {
		at := time.Now() // and no time passes
		s := newStand(t, change, func(o *Options) { o.Limiter = memlimit.New(func() time.Time { return at }, 1000) })
		var codes []int
		for range 5 {
			w := s.ask("GET", s.path(""), "")
			codes = append(codes, w.Code)
			fields, policies := strings.Join(w.Header().Values("Ratelimit"), ", "), strings.Join(w.Header().Values("Ratelimit-Policy"), ", ")
			if !strings.Contains(fields, `"`+policy+`";r=`) || !strings.Contains(policies, `"`+policy+`";q=3`) {
				t.Errorf("%s: RateLimit %q, RateLimit-Policy %q", policy, fields, policies)
			}
			if w.Code == 429 {
				if n, err := strconv.Atoi(w.Header().Get("Retry-After")); s.wants(w, 429, "rate_limited").Status != 429 || err != nil || n < 1 {
					t.Errorf("%v", w.Header())
				}
			}
		}
		if !slices.Equal(codes, []int{200, 200, 200, 429, 429}) {
			t.Errorf("%s: %v", policy, codes)
		}
	}
	s := newStand(t, func(o *Options) { o.Limits.TenantRate = 1 })
	s.door.refused = fault.Missing()
	for range 9 {
		s.ask("GET", s.path(""), "")
	}
	if s.door.refused = nil; s.ask("GET", s.path(""), "").Code != 200 {
		t.Error("a stranger used up a tenant's requests")
	}
}

func TestAnIdempotencyKeyIsBoundToWhoWhereAndWhat(t *testing.T) {
	s := newStand(t)
	var last enter.Once
	s.do = func(_ context.Context, c *Call) error { last = c.Once; return nil }
	once := func(path, body string, fields ...string) enter.Once {
		last = enter.Once{}
		if w := s.ask("POST", path, body, fields...); w.Code != 201 && w.Code != 200 && w.Code != 204 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return last
	}
	const body = `{"name":"pump"}`
	if once(s.path(""), body) != (enter.Once{}) {
		t.Error("no key, but one is kept")
	}
	a := once(s.path(""), body, "Idempotency-Key: k")
	if a == (enter.Once{}) || a != once(s.path(""), body, "Idempotency-Key: k") {
		t.Error("a repeat is not known again")
	}
	if b := once(s.path(""), `{"name":"pump" }`, "Idempotency-Key: k"); b.Key != a.Key || b.Request == a.Request {
		t.Error("another body is the same request")
	}
	if b := once(s.path(""), body, "Idempotency-Key: l"); b.Key == a.Key {
		t.Error("another key is the same")
	}
	who := s.door.who
	s.door.who.Subject.Principal = [16]byte{9}
	if b := once(s.path(""), body, "Idempotency-Key: k"); b.Key == a.Key {
		t.Error("another principal's key is the same")
	}
	s.door.who = who
	other := s.ten
	other[0] ^= 1
	if b := once("/v1/tenants/"+other.String()+"/things", body, "Idempotency-Key: k"); b.Key == a.Key {
		t.Error("another tenant's key is the same")
	}
	for _, path := range []string{"/v1/auth/enter", "/v1/auth/leave"} {
		if once(path, `{"name":"a"}`, "Idempotency-Key: k") != (enter.Once{}) {
			t.Errorf("%s: a key counts where it is to be ignored", path)
		}
	}
	s.wants(s.ask("POST", s.path(""), body, "Idempotency-Key: "), 400, "bad_idempotency_key")
	s.wants(s.ask("POST", s.path(""), body, "Idempotency-Key: "+strings.Repeat(canary, 20)), 400, "bad_idempotency_key")
}

func TestAnAnswerWithoutABodyHasItsStatus(t *testing.T) {
	s := newStand(t)
	if w := s.ask("POST", "/v1/auth/leave", ""); w.Code != 204 || w.Body.Len() != 0 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
