package httpapi

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// Bad input (issue 3, section 5): each case has its status, a problem that says what to do, and repeats nothing.
func TestBadBodiesAreRefusedAndNotRepeated(t *testing.T) {
	s := newStand(t)
	s.do = func(context.Context, *Call) error { t.Error("a handler saw it"); return nil }
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for name, c := range map[string]struct {
		body    string
		status  int
		code    string
		pointer string
	}{
		"malformed":                {`{"name":"` + canary + `"`, 400, "unreadable", ""},
		"not JSON":                 {canary, 400, "unreadable", ""},
		"trailing data":            {`{"name":"pump"} {"a":1}`, 400, "unreadable", ""},
		"duplicate key":            {`{"name":"pump","name":"` + canary + `"}`, 400, "unreadable", ""},
		"duplicate nested":         {`{"name":"pump","parts":[{"size":1,"size":2}]}`, 400, "unreadable", ""},
		"duplicate escaped":        {`{"name":"pump","n\u0061me":"x"}`, 400, "unreadable", ""},
		"depth":                    {`{"name":` + deep(40) + `}`, 400, "unreadable", ""},
		"depth bomb":               {deep(200_000), 400, "unreadable", ""},
		"open depth bomb":          {strings.Repeat(`{"a":`, 100_000), 400, "unreadable", ""},
		"invalid UTF-8":            {"{\"name\":\"\xff" + canary + "\"}", 400, "unreadable", ""},
		"overlong UTF-8":           {"{\"name\":\"\xc0\x80\"}", 400, "unreadable", ""},
		"half a surrogate":         {`{"name":"\ud800` + canary + `"}`, 400, "unreadable", ""},
		"NUL":                      {"{\"name\":\"\x00\"}", 400, "unreadable", ""},
		"escaped NUL":              {`{"name":"\u0000` + canary + `"}`, 400, "unreadable", ""},
		"byte order mark":          {"\xef\xbb\xbf{\"name\":\"pump\"}", 400, "unreadable", ""},
		"NaN":                      {`{"name":"pump","count":NaN}`, 400, "unreadable", ""},
		"wrong type":               {`{"name":{"` + canary + `":1}}`, 422, "invalid", "/name"},
		"number for text":          {`{"name":7}`, 422, "invalid", "/name"},
		"text for number":          {`{"name":"pump","count":"` + canary + `"}`, 422, "invalid", "/count"},
		"fraction":                 {`{"name":"pump","count":1.5}`, 422, "invalid", "/count"},
		"too large a number":       {`{"name":"pump","small":300}`, 422, "invalid", ""},
		"a huge number":            {`{"name":"pump","count":1e400}`, 422, "invalid", ""},
		"array for object":         {`["` + canary + `"]`, 422, "invalid", ""},
		"null":                     {`null`, 422, "invalid", ""},
		"unknown field":            {`{"name":"pump","` + canary + `":1}`, 422, "invalid", ""},
		"unknown nested field":     {`{"name":"pump","parts":[{"size":1},{"size":1,"` + canary + `":1}]}`, 422, "invalid", "/parts/1"},
		"a field's name otherwise": {`{"Name":"pump"}`, 422, "invalid", ""},
		"missing field":            {`{"count":1}`, 422, "invalid", ""},
		"empty name":               {`{"name":""}`, 422, "invalid", "/name"},
		"long name":                {`{"name":"` + canary + canary + `"}`, 422, "invalid", "/name"},
		"not of the list":          {`{"name":"pump","parts":[{"size":1,"kind":"` + canary + `"}]}`, 422, "invalid", "/parts/0/kind"},
		"not an address":           {`{"name":"pump","mail":"` + canary + ` <"}`, 422, "invalid", "/mail"},
		"too small":                {`{"name":"pump","parts":[{"size":0}]}`, 422, "invalid", "/parts/0/size"},
		"no body":                  {" ", 400, "unreadable", ""},
	} {
		w := s.ask("POST", s.path(""), c.body)
		p := s.wants(w, c.status, c.code)
		if len(p.Errors) == 0 {
			t.Errorf("%s: no part is named: %s", name, w.Body)
		} else if !strings.HasPrefix(p.Errors[0].Pointer, c.pointer) || (c.pointer != "" && p.Errors[len(p.Errors)-1].Pointer != c.pointer) {
			t.Errorf("%s: want %q in %s", name, c.pointer, w.Body)
		}
	}
	s.wants(s.ask("POST", s.path(""), ""), 400, "unreadable")
}

func TestAnUnknownFieldIsToldTheKnownOnes(t *testing.T) {
	s := newStand(t)
	p := s.wants(s.ask("POST", s.path(""), `{"name":"pump","parts":[{"size":1,"`+canary+`":1}]}`), 422, "invalid")
	if len(p.Errors) != 1 || p.Errors[0] != (problemField{"/parts/0", "has a name that is not known here; known are: kind, size"}) {
		t.Errorf("%+v", p.Errors)
	}
	p = s.wants(s.ask("GET", s.path("?"+canary+"=1"), ""), 422, "invalid")
	if len(p.Errors) != 1 || p.Errors[0] != (problemField{"/query", "has a name that is not known here; known are: cursor, limit, name"}) {
		t.Errorf("%+v", p.Errors)
	}
}

func TestAMessageOfAParserIsNotPassedOn(t *testing.T) {
	for _, m := range []string{"expected string to be RFC 3986 uri: parse " + canary, "expected string to be regex: `" + canary, `invalid value: "` + canary, `expected duration: ` + canary, "json: cannot unmarshal number " + canary + " into Go struct field", canary} {
		if got := said(m, nil); strings.Contains(got, canary) || got == "" {
			t.Errorf("%q became %q", m, got)
		}
	}
	const ours = `expected value to be one of "big, small"`
	if got := said(ours, nil); got != ours {
		t.Errorf("%q", got)
	}
}

func TestGoodBodiesPass(t *testing.T) {
	s := newStand(t)
	for _, kind := range []string{"application/json", "application/json; charset=utf-8", `application/json;charset="UTF-8"`, "APPLICATION/JSON"} {
		if w := s.ask("POST", s.path(""), `{"name":"p\u00fcmp \ud83d\ude00"}`, "Content-Type: "+kind); w.Code != 201 || s.got != "pümp 😀" || w.Header().Get("Etag") != `"1"` || w.Header().Get("Location") != "/there" {
			t.Errorf("%s: %d %s", kind, w.Code, w.Body)
		}
	}
	if w := s.ask("PATCH", s.path("/"+node(t)), `{"name":"p"}`, "Content-Type: application/merge-patch+json", `If-Match: "3"`); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestWhatIsNotPlainJSONIsA415(t *testing.T) {
	s := newStand(t)
	for _, kind := range []string{"-", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "application/json; charset=utf-16", "application/merge-patch+json", "application/evil+json", "json", canary, ";;"} {
		s.wants(s.ask("POST", s.path(""), `{"name":"pump"}`, "Content-Type: "+kind), 415, "unsupported_media_type")
	}
	r := httptest.NewRequest("POST", "http://iot.example.com"+s.path(""), strings.NewReader(`{"name":"pump"}`))
	r.Header["Content-Type"] = []string{"application/json", "application/json"}
	w := httptest.NewRecorder()
	s.serve(w, r)
	s.wants(w, 415, "unsupported_media_type")
	for _, enc := range []string{"gzip", "deflate", "br", "identity, gzip", "", canary} {
		s.wants(s.ask("POST", s.path(""), `{"name":"pump"}`, "Content-Encoding: "+enc), 415, "content_encoding")
	}
	if w := s.ask("POST", s.path(""), `{"name":"pump"}`, "Content-Encoding: identity"); w.Code != 201 {
		t.Errorf("identity: %d %s", w.Code, w.Body)
	}
	if s.door.asked > 1 {
		t.Error("somebody was authenticated for a body that no route takes")
	}
}

// endless counts what is read of it.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += int64(len(p))
	return len(p), nil
}

func TestTooLargeABodyIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	s := newStand(t)
	for path, limit := range map[string]int64{s.path(""): 1 << 20, "/v1/ingest/plain": 256 << 10, "/nowhere": 1 << 20} {
		body := &endless{}
		r := httptest.NewRequest("POST", "http://iot.example.com"+path, body)
		r.ContentLength = limit + 1
		w := httptest.NewRecorder()
		s.serve(w, r)
		s.wants(w, 413, "too_large")
		if body.read > 0 || s.door.asked > 0 {
			t.Errorf("%s: %d bytes read, %d asked", path, body.read, s.door.asked)
		}
	}
}

func TestABodyOfUnknownLengthIsNeverReadPastItsLimit(t *testing.T) {
	s := newStand(t)
	for _, key := range []string{"-", "some key"} {
		body := &endless{}
		r := httptest.NewRequest("POST", "http://iot.example.com"+s.path(""), body)
		r.ContentLength = -1
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+good)
		if key != "-" {
			r.Header.Set("Idempotency-Key", key)
		}
		w := httptest.NewRecorder()
		s.serve(w, r)
		if p := s.wants(w, 413, "too_large"); !strings.Contains(p.Detail, "1048576") {
			t.Errorf("it names no limit: %s", p.Detail)
		}
		if body.read > maxBody+1 {
			t.Errorf("%d bytes read", body.read)
		}
	}
	body := &endless{}
	r := httptest.NewRequest("POST", "http://iot.example.com"+s.path(""), body)
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.serve(w, r)
	if s.wants(w, 401, "bad_credential"); body.read != 0 {
		t.Errorf("%d bytes read for nobody", body.read)
	}
}

// A body of exactly the limit is taken: huma's own count would refuse it.
func TestTheLimitItselfIsAllowed(t *testing.T) {
	s := newStand(t)
	const frame = `{"name":"pump"}`
	for _, c := range []struct {
		size   int
		status int
	}{{maxBody, 201}, {maxBody + 1, 413}} {
		for _, length := range []int64{int64(c.size), -1} {
			r := httptest.NewRequest("POST", "http://iot.example.com"+s.path(""), strings.NewReader(frame+strings.Repeat(" ", c.size-len(frame))))
			r.ContentLength = length
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+good)
			w := httptest.NewRecorder()
			if s.serve(w, r); w.Code != c.status {
				t.Errorf("%d bytes (%d): %d %s", c.size, length, w.Code, w.Body)
			}
		}
	}
}

func TestAPathHasOneSpelling(t *testing.T) {
	s := newStand(t)
	id := node(t)
	if w := s.ask("GET", s.path("/"+id), ""); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for path, status := range map[string]int{
		s.path("%2f" + id): 400, s.path("/%6eod_" + id[4:]): 400, s.path("/a%2Fb"): 400, s.path("/" + id + "%00"): 400, s.path("/" + id + "%0a"): 400,
		s.path("/%ff"): 400, s.path("/" + strings.Repeat("a", 1100)): 400, s.path("/" + strings.Repeat("a", 70_000)): 400, "/" + strings.Repeat("a/", 500): 404,
		s.path("/" + id + "/"): 404, s.path("//" + id): 404, s.path("/./" + id): 404, s.path("/../things/" + id): 404, "//healthz": 404, "/healthz/": 404,
		s.path("/" + strings.ToUpper(id)): 404, s.path("/" + id + "a"): 404, s.path("/" + id[:20]): 404, s.path("/ten_" + id[4:]): 404, s.path("/" + strings.Repeat("a", 900)): 404,
		"/v1/tenants/" + canary + "/things": 404, "/v1/tenants/" + ident.Platform.String() + "/things": 404, "/v1/tenants/" + id + "/things": 404,
	} {
		r := httptest.NewRequest("GET", "http://iot.example.com/", nil)
		u, err := r.URL.Parse("http://iot.example.com" + path)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path, r.URL.RawPath = u.Path, u.RawPath
		if strings.Contains(path, "/../") || strings.Contains(path, "/./") {
			r.URL.Path = path
		}
		r.Header.Set("Authorization", "Bearer "+good)
		w := httptest.NewRecorder()
		s.serve(w, r)
		code := "bad_path"
		if status == 404 {
			code = "not_found"
		}
		s.wants(w, status, code)
	}
}

func TestAQueryHasOneReading(t *testing.T) {
	s := newStand(t)
	many := strings.Repeat("a=1&", 40)
	for query, c := range map[string]struct {
		status int
		code   string
	}{
		"name=a&name=" + canary: {400, "bad_query"}, "n%61me=" + canary: {400, "bad_query"}, "name=a&n%61me=b": {400, "bad_query"}, "name=%00" + canary: {400, "bad_query"},
		"name=%ff": {400, "bad_query"}, "name=%zz": {400, "bad_query"}, "name=a;limit=3": {400, "bad_query"}, many: {400, "bad_query"}, "=x": {400, "bad_query"}, "name=": {400, "bad_query"}, "name": {400, "bad_query"}, "limit=": {400, "bad_query"}, "cursor=": {400, "bad_query"}, "name=a&&limit=3": {400, "bad_query"},
		"name=" + strings.Repeat("a", 9000): {400, "bad_query"}, "na+me=a": {400, "bad_query"}, "name=%0a": {400, "bad_query"},
		canary + "=1": {422, "invalid"}, "Name=a": {422, "invalid"}, "limit=0": {422, "invalid"}, "limit=201": {422, "invalid"}, "limit=" + canary: {422, "invalid"}, "limit=-1": {422, "invalid"},
		"limit=99999999999999999999": {422, "invalid"}, "name=" + strings.Repeat("a", 60): {422, "invalid"}, "cursor=" + canary: {400, "bad_cursor"}, "cursor=" + strings.Repeat("a", 2000): {400, "bad_cursor"},
	} {
		s.wants(s.ask("GET", s.path("?"+query), ""), c.status, c.code)
	}
	if w := s.ask("GET", s.path("?name=a%20b+c&limit=200"), ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestOverlongHeadersAre431(t *testing.T) {
	s := newStand(t)
	s.wants(s.ask("GET", s.path(""), "", "X-A: "+strings.Repeat("a", 17<<10)), 431, "headers_too_large")
	if w := s.ask("GET", s.path(""), "", "X-A: "+strings.Repeat("a", 15<<10)); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The body of a client that went away is no bug of ours.
func TestABodyThatBreaksOffIsTheCallers(t *testing.T) {
	s := newStand(t)
	for _, key := range []string{"-", "some key"} {
		r := httptest.NewRequest("POST", "http://iot.example.com"+s.path(""), io.MultiReader(strings.NewReader(`{"name":`), failing{}))
		r.ContentLength = 100
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+good)
		if key != "-" {
			r.Header.Set("Idempotency-Key", key)
		}
		w := httptest.NewRecorder()
		s.serve(w, r)
		s.wants(w, 400, "unreadable")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAWrongMethodIsToldTheRightOnes(t *testing.T) {
	s := newStand(t)
	for path, allow := range map[string]string{s.path(""): "GET, HEAD, POST", s.path("/" + node(t)): "GET, HEAD, PATCH", "/healthz": "GET, HEAD", "/v1/auth/enter": "POST", "/problems/x": "GET, HEAD", "/openapi.json": "GET, HEAD"} {
		for _, method := range []string{"DELETE", "OPTIONS", "TRACE", "PUT", "BREW"} {
			w := s.ask(method, path, "")
			if s.wants(w, 405, "method_not_allowed"); w.Header().Get("Allow") != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, w.Header().Get("Allow"), allow)
			}
		}
	}
	if w := s.ask("HEAD", "/v1/auth/enter", ""); w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestRevisionsAreNeededAndFresh(t *testing.T) {
	s := newStand(t)
	at := s.path("/" + node(t))
	s.wants(s.ask("PATCH", at, `{"name":"p"}`), 428, "precondition_required")
	for _, tag := range []string{`3`, `"3`, `3"`, `W/"3"`, `*`, `"3", "4"`, `"`, canary} {
		s.wants(s.ask("PATCH", at, `{"name":"p"}`, "If-Match: "+tag), 400, "bad_if_match")
	}
	for _, tag := range []string{`"2"`, `"4"`, `"03"`, `"-3"`, `"0"`, `"99999999999999999999"`, `"` + canary + `"`} {
		s.wants(s.ask("PATCH", at, `{"name":"p"}`, "If-Match: "+tag), 412, "stale_revision")
	}
	w := s.ask("PATCH", at, `{"name":"p"}`, `If-Match: "3"`)
	if w.Code != 200 || w.Header().Get("Etag") != `"4"` {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// Another tenant's thing and one that was never there are answered alike, less the request's id; so is a path that no route has.
func TestWhatIsForeignIsAsIfMissing(t *testing.T) {
	s := newStand(t)
	s.door.refused = fault.Missing()
	foreign := s.ask("GET", s.path("/"+node(t)), "")
	s.door.refused = nil
	s.do = func(context.Context, *Call) error { return fault.Missing() }
	missing := s.ask("GET", s.path("/"+node(t)), "")
	same := func(w *httptest.ResponseRecorder) string {
		p := s.wants(w, 404, "not_found")
		h := w.Header().Clone()
		h.Del("Request-Id")
		var b strings.Builder
		if err := h.Write(&b); err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(b.String()+w.Body.String(), p.RequestID, "")
	}
	without := func(text string) string { // what is left to the caller of a tenant that they are in
		var kept []string
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "Ratelimit") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	for _, w := range []*httptest.ResponseRecorder{missing, s.ask("GET", s.path("/junk"), ""), s.ask("GET", "/v1/nowhere", ""), s.ask("GET", "/v1/tenants/"+node(t)+"/things", "")} {
		if without(same(w)) != without(same(foreign)) {
			t.Errorf("told apart:\n%s\n%s", same(w), same(foreign))
		}
	}
}

func node(t *testing.T) string {
	t.Helper()
	return "nod_" + strings.Repeat("01", 13)[:25] + "0"
}
