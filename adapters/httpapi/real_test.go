package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// plainEngine runs nothing: scripts with an open bracket do not load, all others do.
type plainEngine struct{}

func (plainEngine) Check(_ context.Context, s sandbox.Script) (decoder.Result, error) {
	if strings.Count(s.Source, "(") != strings.Count(s.Source, ")") {
		return decoder.Result{Category: decoder.Load, Message: "SyntaxError"}, nil
	}
	return decoder.Result{Category: decoder.Success}, nil
}

func (plainEngine) Run(context.Context, sandbox.Job) (decoder.Result, error) {
	return decoder.Result{Category: decoder.Success, Data: []byte(`{}`)}, nil
}

func (plainEngine) Version() string             { return "plain" }
func (plainEngine) Close(context.Context) error { return nil }

// house is the whole application on SQLite, with two tenants whose owners hold a token each.
type house struct {
	*stand
	mu    sync.Mutex
	still time.Time     // what the clock says that was stopped
	ahead time.Duration // of the clock
	owner [2]string     // access tokens
	ten   [2]string
	root  [2]string
}

const password = "correct horse battery staple 9"

// clock is what limits go by: it never goes back.
func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.still.IsZero() {
		return h.still
	}
	return time.Now()
}

// stop holds the clock, so that what a test does takes no time, until it goes on.
func (h *house) stop() (on func()) {
	set := func(at time.Time) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.still = at
	}
	set(time.Now())
	return func() { set(time.Time{}) }
}

func (h *house) now() time.Time {
	at := h.clock()
	h.mu.Lock()
	defer h.mu.Unlock()
	return at.Add(h.ahead)
}

func (h *house) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ahead += d
}

func newHouse(t *testing.T, change ...func(*ingest.Ingest)) *house {
	t.Helper()
	h := &house{stand: newStand(t)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m := mint()
	m.Now = h.now
	o := options(h.stand)
	dir := t.TempDir()
	keys, err := keyring.Open(filepath.Join(dir, "keys"))
	must(err)
	cache := enter.NewCache(100)
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "db"), Now: h.now, Revised: cache.Revised, Version: "test", Node: "n1"})
	must(err)
	t.Cleanup(func() { must(st.Close()) })
	words, err := localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 64, Time: 1}, TestCost: true})
	must(err)
	limiter := memlimit.New(h.clock, 1000)
	o.Enter = enter.New(st, cache, enter.Recorder{Mint: m, Sealer: keys, Peppers: keys}, o.Log)
	o.SignIn = signin.New(o.Enter, st, words, limiter)
	o.Ingest = ingest.New(o.Enter, st, plainEngine{}, limiter, o.Limits, o.Log)
	for _, f := range change {
		f(o.Ingest)
	}
	o.Manage = manage.New(o.Enter, st, o.Ingest.Trials(1), o.Limits, o.Ingest.Again)
	o.Disclose = disclose.New(o.Enter, st, keys)
	o.Limiter = limiter
	h.API, err = New(o)
	must(err)

	link, err := o.SignIn.SetupLink(t.Context())
	must(err)
	first := h.as("").call("POST", "/v1/auth/setup", fmt.Sprintf(`{"token":%q,"email":"ana@example.com","name":"Ana","password":%q,"tenant":{"name":"A"}}`, link.Reveal(), password)).ok(201)
	h.ten[0], h.root[0] = first.str("tenant", "id"), first.str("tenant", "root_node_id")
	h.owner[0] = h.login("ana@example.com")
	second := h.as(h.owner[0]).call("POST", "/v1/platform/tenants", `{"name":"B","owner_email":"ben@example.com"}`).ok(201)
	h.ten[1], h.root[1] = second.str("id"), second.str("root_node_id")
	h.as("").call("POST", "/v1/auth/invitations/accept", fmt.Sprintf(`{"token":%q,"name":"Ben","password":%q}`, second.str("owner_invitation", "secret"), password)).ok(201)
	h.owner[1] = h.login("ben@example.com")
	return h
}

func (h *house) login(email string) string {
	h.t.Helper()
	return h.as("").call("POST", "/v1/auth/login", fmt.Sprintf(`{"email":%q,"password":%q,"mode":"token"}`, email, password)).ok(200).str("access_token")
}

// caller asks with one token.
type caller struct {
	h     *house
	token string
}

func (h *house) as(token string) caller { return caller{h, token} }

type reply struct {
	*httptest.ResponseRecorder
	h *house
}

func (c caller) call(method, target, body string, fields ...string) reply {
	c.h.t.Helper()
	auth := "Authorization: Bearer " + c.token
	if c.token == "" {
		auth = "Authorization: -"
	}
	return reply{c.h.ask(method, target, body, append([]string{auth}, fields...)...), c.h}
}

func (s reply) ok(status int) reply {
	s.h.t.Helper()
	if s.Code != status {
		s.h.t.Fatalf("want %d, got %d %s", status, s.Code, s.Body)
	}
	return s
}

func (s reply) bad(status int, code string) {
	s.h.t.Helper()
	s.h.wants(s.ResponseRecorder, status, code)
}

func (s reply) str(keys ...string) string {
	var v any
	if err := json.Unmarshal(s.Body.Bytes(), &v); err != nil {
		s.h.t.Fatal(err)
	}
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	text, _ := v.(string)
	return text
}

func (h *house) at(tenant int, rest string) string { return "/v1/tenants/" + h.ten[tenant] + rest }

func (h *house) node(parent, kind, name string) string {
	h.t.Helper()
	return h.as(h.owner[0]).call("POST", h.at(0, "/nodes"), fmt.Sprintf(`{"parent_id":%q,"kind":%q,"name":%q}`, parent, kind, name)).ok(201).str("id")
}

// everything is what a list of a tenant's says, to see that nothing was done.
func (h *house) everything(what string) string {
	h.t.Helper()
	return h.as(h.owner[0]).call("GET", h.at(0, what+"?limit=200"), "").ok(200).Body.String()
}

func TestWhatTheTreeForbidsIsNotHalfDone(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	site := h.node(h.root[0], "site", "s")
	building := h.node(site, "building", "b")
	under := h.node(site, "site", "u")
	before := h.everything("/nodes")
	a.call("POST", h.at(0, "/nodes/"+site+"/move"), fmt.Sprintf(`{"parent_id":%q}`, building), `If-Match: "1"`).bad(422, "inverted_kind")
	a.call("POST", h.at(0, "/nodes/"+site+"/move"), fmt.Sprintf(`{"parent_id":%q}`, under), `If-Match: "1"`).bad(409, "cyclic_move")
	a.call("POST", h.at(0, "/nodes/"+site+"/move"), fmt.Sprintf(`{"parent_id":%q}`, site), `If-Match: "1"`).bad(409, "cyclic_move")
	a.call("POST", h.at(0, "/nodes"), fmt.Sprintf(`{"parent_id":%q,"kind":"vendor","name":%q}`, building, canary)).bad(422, "inverted_kind")
	a.call("POST", h.at(0, "/nodes"), fmt.Sprintf(`{"parent_id":%q,"kind":"zone","name":"z"}`, h.root[1])).bad(422, "unknown_reference")
	a.call("POST", h.at(0, "/nodes"), `{"parent_id":"nod_`+canary+`","kind":"zone","name":"z"}`).bad(422, "bad_id")
	a.call("DELETE", h.at(0, "/nodes/"+site), "", `If-Match: "1"`).bad(409, "node_in_use")
	a.call("DELETE", h.at(0, "/nodes/"+h.root[0]), "", `If-Match: "1"`).bad(409, "root_node")
	a.call("DELETE", h.at(0, "/nodes/"+building), "").bad(428, "precondition_required")
	a.call("DELETE", h.at(0, "/nodes/"+building), "", `If-Match: "7"`).bad(412, "stale_revision")
	a.call("PATCH", h.at(0, "/nodes/"+building), `{"name":"c"}`, `If-Match: "7"`).bad(412, "stale_revision")
	if after := h.everything("/nodes"); after != before {
		t.Errorf("something was done:\n%s\n%s", before, after)
	}
	a.call("PATCH", h.at(0, "/nodes/"+building), `{"name":"c"}`, `If-Match: "1"`).ok(200)
	a.call("PATCH", h.at(0, "/nodes/"+building), `{"name":"d"}`, `If-Match: "1"`).bad(412, "stale_revision")
}

// RFC 7396: null takes away what can be absent; what cannot be absent is not silently kept.
func TestNullInAPatchTakesAway(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	dec := a.call("POST", h.at(0, "/decoders"), `{"name":"d"}`).ok(201).str("id")
	dev := a.call("POST", h.at(0, "/devices"), fmt.Sprintf(`{"name":"x","decoder_id":%q,"addresses":[{"kind":"serial","value":"1"}]}`, dec)).ok(201)
	at := h.at(0, "/devices/"+dev.str("id"))
	for _, body := range []string{`{"name":null}`, `{"addresses":null}`, `{"state":null}`, `{"name":"y","variables":null}`} {
		a.call("PATCH", at, body, `If-Match: "1"`).bad(422, "invalid")
	}
	a.call("PATCH", at, `{"name":null`, `If-Match: "1"`).bad(400, "unreadable")
	if got := a.call("PATCH", at, `{"name":"y"}`, `If-Match: "1"`).ok(200).str("decoder_id"); got != dec {
		t.Errorf("a field that the patch does not name is %q", got)
	}
	if got := a.call("PATCH", at, `{"decoder_id":null}`, `If-Match: "2"`).ok(200); !strings.Contains(got.Body.String(), `"decoder_id":null`) || got.str("name") != "y" {
		t.Errorf("%s", got.Body)
	}
	a.call("PATCH", at, fmt.Sprintf(`{"decoder_id":%q}`, canary), `If-Match: "3"`).bad(422, "bad_id")
	if got := a.call("PATCH", at, fmt.Sprintf(`{"decoder_id":%q}`, dec), `If-Match: "3"`).ok(200).str("decoder_id"); got != dec {
		t.Errorf("%q", got)
	}
}

func TestAScriptThatDoesNotLoadIsNotKept(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	d := a.call("POST", h.at(0, "/decoders"), `{"name":"d"}`).ok(201).str("id")
	before := h.everything("/decoders/" + d + "/versions")
	a.call("POST", h.at(0, "/decoders/"+d+"/versions"), `{"source":"function ( `+canary+`"}`).bad(422, "decoder_does_not_load")
	if after := h.everything("/decoders/" + d + "/versions"); after != before {
		t.Errorf("%s", after)
	}
}

// Tokens are whole or nothing, and only for their time, with a minute for clocks that differ.
func TestTokensAreWholeAndInTime(t *testing.T) {
	h := newHouse(t)
	good := h.owner[0]
	try := func(token string) int { return h.as(token).call("GET", h.at(0, ""), "").Code }
	if try(good) != 200 {
		t.Fatal("the token is not taken as it is")
	}
	var forged []string
	for i := range good {
		forged = append(forged, good[:i], good[:i]+string(good[i]^1)+good[i+1:])
	}
	swapped := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 32
		}
		return r
	}, good)
	forged = append(forged, good+"0", good+good, "x"+good, swapped, strings.Replace(good, "rf_at_", "rf_pat_", 1), strings.Replace(good, "rf_at_", "rf_ing_", 1))
	for _, f := range forged {
		if got := try(f); got != 401 {
			t.Errorf("a token that was altered: %d", got)
		}
	}
	for _, c := range []struct {
		ahead time.Duration
		want  int
	}{{-50 * time.Second, 200}, {-time.Hour, 401}, {9 * time.Minute, 200}, {11 * time.Minute, 401}} { // 60 s of skew, ten minutes of life
		h.advance(c.ahead)
		if got := try(good); got != c.want {
			t.Errorf("with the clock %v ahead: %d", c.ahead, got)
		}
		h.advance(-c.ahead)
	}
}

// fickle is a context that ends when it has been looked at a number of times: at each point of a request in turn.
type fickle struct {
	context.Context
	left   atomic.Int64
	cancel func()
}

func (f *fickle) look() {
	if f.left.Add(-1) == 0 {
		f.cancel()
	}
}

func (f *fickle) Done() <-chan struct{} { f.look(); return f.Context.Done() }
func (f *fickle) Err() error            { f.look(); return f.Context.Err() }

// A client that goes away in the middle of a write leaves all of it or nothing, and the log stays whole.
func TestAClientThatGoesAwayLeavesNothingHalfDone(t *testing.T) {
	h := newHouse(t)
	answers := map[int]int{}
	for i := range 60 {
		inner, cancel := context.WithCancel(t.Context())
		f := &fickle{Context: inner, cancel: cancel}
		f.left.Store(int64(i))
		r := httptest.NewRequest("POST", "http://iot.example.com"+h.at(0, "/nodes"), strings.NewReader(fmt.Sprintf(`{"parent_id":%q,"kind":"site","name":"n%d"}`, h.root[0], i))).WithContext(f)
		r.Header.Set("Authorization", "Bearer "+h.owner[0])
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.serve(w, r)
		cancel()
		there := strings.Contains(h.everything("/nodes"), fmt.Sprintf(`"n%d"`, i))
		if w.Code != 201 && w.Code != 503 || w.Code == 201 && !there {
			t.Errorf("%d %s, there: %v", w.Code, w.Body, there)
		}
		answers[w.Code]++
	}
	if answers[201] == 0 || answers[503] == 0 {
		t.Errorf("the client never went away in the middle: %v", answers)
	}
	nodes := strings.Count(h.everything("/nodes"), `"kind":"site"`)
	var page struct {
		Items []struct{ Action string }
		Next  *string `json:"next_cursor"`
	}
	entries := 0
	for at := "/audit/entries?limit=200"; ; at = "/audit/entries?limit=200&cursor=" + *page.Next {
		if page.Next = nil; json.Unmarshal(h.as(h.owner[0]).call("GET", h.at(0, at), "").ok(200).Body.Bytes(), &page) != nil {
			t.Fatal("no page")
		}
		for _, e := range page.Items {
			if e.Action == "node_created" {
				entries++
			}
		}
		if page.Next == nil {
			break
		}
	}
	if entries != nodes || nodes == 0 {
		t.Errorf("%d nodes, %d entries of their creation", nodes, entries)
	}
}

// The generated part: every route that is registered, against every kind of bad request that it can be sent.
func TestEveryRouteRefusesBadInput(t *testing.T) {
	h := newHouse(t)
	asked := 0
	for _, d := range h.Routes() {
		op := operationOf(h.huma.OpenAPI(), d.Method, d.Path)
		path := strings.ReplaceAll(d.Path, "{tenant}", h.ten[0])
		for strings.Contains(path, "{") { // ids of the right form, of things that are not there
			before, rest, _ := strings.Cut(path, "{")
			name, after, _ := strings.Cut(rest, "}")
			path = before + missing(name) + after
		}
		token := h.owner[0]
		ask := func(target, body string, fields ...string) reply {
			asked++
			return h.as(token).call(d.Method, target, body, fields...)
		}
		ingest := strings.HasPrefix(d.Path, "/v1/ingest/")
		body := ""
		if op.RequestBody != nil {
			body = `{}`
		}
		ask(path+"%2f", body).bad(400, "bad_path")
		ask(path+"/%00", body).bad(400, "bad_path")
		ask(path+"?a=1&a="+canary, body).bad(400, "bad_query")
		ask(path+"?a=%ff", body).bad(400, "bad_query")
		ask(path+"/"+strings.Repeat("a", 2000), body).bad(400, "bad_path")
		ask(path, body+" ", "Content-Encoding: gzip").bad(415, "content_encoding")
		for _, method := range []string{"TRACE", "BREW"} {
			asked++
			w := h.as(token).call(method, path, "")
			if w.bad(405, "method_not_allowed"); !slices.Contains(strings.Split(w.Header().Get("Allow"), ", "), d.Method) {
				t.Errorf("%s: Allow %q", d.Operation, w.Header().Get("Allow"))
			}
		}
		if d.Public == "" {
			for _, junk := range []string{"", canary, token + "x"} {
				asked++
				h.as(junk).call(d.Method, path, body).bad(401, "bad_credential")
			}
		}
		if op.RequestBody != nil {
			ask(path, `{}`, "Content-Type: text/plain").bad(415, "unsupported_media_type")
			ask(path, `{}`, "Content-Type: -").bad(415, "unsupported_media_type")
			large := httptest.NewRequest(d.Method, "http://iot.example.com"+path, http.NoBody)
			large.ContentLength = 2 << 20
			w := httptest.NewRecorder()
			h.serve(w, large)
			h.wants(w, 413, "too_large")
		}
		if op.RequestBody != nil && !ingest {
			match := `If-Match: "1"`
			for _, text := range []string{`{"a":`, canary, `{"a":1,"a":2}`, strings.Repeat(`{"a":`, 50), "{\"a\":\"\xff\"}", `{"a":"\u0000"}`, `{} {}`} {
				ask(path, text, match).bad(400, "unreadable")
			}
			for _, text := range []string{`[]`, `"` + canary + `"`, `7`, `{"` + canary + `":1}`} {
				ask(path, text, match).bad(422, "invalid")
			}
		}
		for _, p := range op.Parameters {
			if p.In == "query" && p.Name == "cursor" {
				for _, cursor := range []string{canary, "AAAA", strings.Repeat("A", 100), "%20"} {
					ask(path+"?cursor="+cursor, "").bad(400, "bad_cursor")
				}
				ask(path+"?limit=201", "").bad(422, "invalid")
			}
		}
		if !ingest && d.Method == "GET" {
			ask(path+"?"+canary+"=1", "").bad(422, "invalid")
		}
	}
	if asked < 1000 {
		t.Errorf("only %d requests", asked)
	}
}

// missing is an id that is nobody's, of the kind that a parameter is about.
func missing(parameter string) string {
	kind := map[string]string{
		"node": "nod", "member": "usr", "principal": "usr", "person": "usr", "id": "ten", "group": "grp", "role": "rol", "membership": "mem", "device": "dev", "decoder": "dec", "version": "ver",
		"source": "src", "key": "key", "token": "tok", "session": "ses", "invitation": "lnk", "import": "imp", "uplink": "upl", "event": "upl", "reading": "rdg", "outcome": "out", "entry": "aud", "mapping": "map",
	}[parameter]
	if kind == "" {
		return "1"
	}
	return kind + "_06ethoo0000000000000000000"
}

// Two tenants' things are answered to each other as if they were not there, byte for byte.
func TestAnothersThingIsAnsweredLikeNothing(t *testing.T) {
	h := newHouse(t)
	site := h.node(h.root[0], "site", canary)
	a, b := h.as(h.owner[0]), h.as(h.owner[1])
	device := a.call("POST", h.at(0, "/devices"), `{"name":"`+canary+`","addresses":[{"kind":"serial","value":"1"}]}`).ok(201).str("id")
	source := a.call("POST", h.at(0, "/sources"), `{"name":"`+canary+`","format":"plain"}`).ok(201).str("id")
	dec := a.call("POST", h.at(0, "/decoders"), `{"name":"`+canary+`"}`).ok(201).str("id")
	plain := func(w reply) string {
		w.bad(404, "not_found")
		return strings.ReplaceAll(w.Body.String(), w.Header().Get("Request-Id"), "")
	}
	want := plain(b.call("GET", h.at(1, "/nodes/"+missing("node")), ""))
	for _, rest := range []string{"/nodes/" + site, "/devices/" + device, "/sources/" + source, "/decoders/" + dec, ""} {
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			for tenant := range 2 {
				if rest == "" && (tenant == 1 || method == "DELETE") {
					continue
				}
				body := ""
				if method == "PATCH" {
					body = `{"name":"x"}`
				}
				if got := plain(b.call(method, h.at(tenant, rest), body, `If-Match: "1"`)); got != want {
					t.Errorf("%s %s: told apart:\n%s\n%s", method, rest, got, want)
				}
			}
		}
	}
	nowhere := "/v1/tenants/ten_06ethoo0000000000000000000"
	if plain(b.call("GET", nowhere, "")) != want || plain(b.call("GET", nowhere+"/nodes", "")) != want {
		t.Error("a tenant that is not there is told apart")
	}
}

// stalled is a body that stops coming.
type stalled struct{ io.Reader }

func (s stalled) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// bodied sends a body of unknown length.
func (c caller) bodied(method, target string, body io.Reader, fields ...string) reply {
	r := httptest.NewRequest(method, "http://iot.example.com"+target, body)
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+c.token)
	for _, f := range fields {
		k, v, _ := strings.Cut(f, ": ")
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	c.h.serve(w, r)
	return reply{w, c.h}
}

func TestABodyThatDoesNotComeInTimeIsThatAndNothingElse(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	site := h.node(h.root[0], "site", "s")
	src := a.call("POST", h.at(0, "/sources"), `{"name":"s","format":"plain"}`).ok(201).str("id")
	key := a.call("POST", h.at(0, "/sources/"+src+"/keys"), `{"name":"k"}`).ok(201).str("secret")
	before := h.everything("/nodes")
	for _, c := range []struct {
		token, method, path, field string
	}{
		{h.owner[0], "POST", h.at(0, "/nodes"), ""},
		{h.owner[0], "POST", h.at(0, "/nodes"), "Idempotency-Key: a"},
		{h.owner[0], "PATCH", h.at(0, "/nodes/"+site), `If-Match: "1"`},
		{h.owner[0], "DELETE", h.at(0, "/nodes/"+site), `If-Match: "1"`},
		{key, "POST", "/v1/ingest/plain", ""},
	} {
		w := h.as(c.token).bodied(c.method, c.path, stalled{strings.NewReader(`{"name":`)}, c.field)
		if w.bad(408, "body_timeout"); w.Header().Get("Connection") != "close" {
			t.Errorf("%s %s: the connection is kept", c.method, c.path)
		}
	}
	if w := h.as("").bodied("POST", "/reset", stalled{strings.NewReader("token=")}, "Content-Type: application/x-www-form-urlencoded"); w.Code != 408 {
		t.Errorf("a form: %d", w.Code)
	}
	if after := h.everything("/nodes"); after != before {
		t.Errorf("something was done:\n%s\n%s", before, after)
	}
}

// A body of one byte more than a route takes is refused however its last byte arrives.
func TestOneByteTooManyIsTooMany(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	pad := func(n int) string {
		head := `{"name":"n","kind":"site","parent_id":"` + h.root[0] + `"`
		return head + strings.Repeat(" ", n-len(head)-1) + "}"
	}
	a.bodied("POST", h.at(0, "/nodes"), iotest.DataErrReader(strings.NewReader(pad(maxBody+1)))).bad(413, "too_large")
	a.bodied("POST", h.at(0, "/nodes"), iotest.DataErrReader(strings.NewReader(pad(maxBody)))).ok(201)
}

func TestARouteWithoutABodyTakesNoEndlessOne(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	site := h.node(h.root[0], "site", "s")
	body := &endless{}
	if w := a.bodied("DELETE", h.at(0, "/nodes/"+site), body, `If-Match: "1"`); body.read > maxBody+1 {
		t.Errorf("%d bytes were read", body.read)
	} else {
		w.bad(413, "too_large")
	}
	a.bodied("GET", h.at(0, "/nodes/"+site), &endless{}).bad(413, "too_large")
	a.bodied("DELETE", h.at(0, "/nodes/"+site), strings.NewReader("{}"), `If-Match: "1"`).ok(204)
}
