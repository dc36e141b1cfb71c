package httpapi

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/uplink"
)

// whole is the API with all its routes and nothing behind them: enough for what is said about it.
func whole(t *testing.T) *API {
	t.Helper()
	o := options(io.Discard)
	o.Enter = &enter.Enter{}
	o.Enter.Mint = mint()
	o.Ingest.Over(ingest.Durable{}) // which adds the routes that are there over a bus alone
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

type document struct {
	OpenAPI string `json:"openapi"`
	Paths   map[string]map[string]struct {
		OperationID string   `json:"operationId"`
		Tags        []string `json:"tags"`
		Summary     string   `json:"summary"`
		Parameters  []struct {
			Name, In string
		} `json:"parameters"`
		RequestBody *struct {
			Content map[string]struct{ Schema json.RawMessage }
		} `json:"requestBody"`
		Responses map[string]struct {
			Content map[string]json.RawMessage
		} `json:"responses"`
		Security   []map[string][]string `json:"security"`
		Permission string                `json:"x-permission"`
		Public     string                `json:"x-public"`
		Self       string                `json:"x-self"`
		Object     string                `json:"x-object"`
		TenantFrom string                `json:"x-tenant-from"`
		Audit      []string              `json:"x-audit"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

func described(t *testing.T, a *API) (document, string) {
	t.Helper()
	s := &stand{API: a, t: t}
	w := s.ask("GET", "/openapi.json", "")
	var d document
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 || !strings.HasPrefix(d.OpenAPI, "3.1") {
		t.Fatalf("%d %v %q", w.Code, err, d.OpenAPI)
	}
	return d, w.Body.String()
}

// A2: what is registered is what is described, and it says what the gate does.
func TestTheDescriptionIsTheRoutes(t *testing.T) {
	a := whole(t)
	doc, _ := described(t, a)
	inDoc, inList := map[string]bool{}, map[string]bool{}
	for path, ops := range doc.Paths {
		for method := range ops {
			inDoc[strings.ToUpper(method)+" "+path] = true
		}
	}
	for _, d := range a.Routes() {
		inList[d.Method+" "+d.Path] = true
		op := doc.Paths[d.Path][strings.ToLower(d.Method)]
		needs := ""
		if d.Public == "" && d.Self == "" {
			needs = d.Permission.String()
		}
		if op.OperationID != d.Operation || op.Permission != needs || op.Public != d.Public || op.Self != d.Self || op.Object != d.Object || op.TenantFrom != string(d.Tenant) ||
			!slices.Equal(op.Audit, names(d.Audit)) || !slices.Equal(op.Tags, []string{d.Tag}) || op.Summary == "" || (len(op.Security) > 0) != (d.Public == "") {
			t.Errorf("%s is described otherwise than declared: %+v", d.Operation, op)
		}
	}
	if !maps.Equal(inDoc, inList) || len(inDoc) < 50 {
		t.Errorf("%d described, %d registered, which are others", len(inDoc), len(inList))
	}
}

// M23: what somebody may do comes from roles. Of all routes that change something only a role's and a token's, which holds
// less than whoever makes it, name permissions; and neither names for whom.
func TestPermissionsAreGrantedByRolesAlone(t *testing.T) {
	doc, _ := described(t, whole(t))
	var fields func(schema json.RawMessage) string
	fields = func(schema json.RawMessage) (names string) {
		var s struct {
			Ref        string `json:"$ref"`
			Properties map[string]json.RawMessage
			Items      json.RawMessage
		}
		if len(schema) == 0 || json.Unmarshal(schema, &s) != nil { // additionalProperties and the like: true or false
			return ""
		}
		for name, p := range s.Properties {
			names += " " + name + fields(p)
		}
		return names + fields(s.Items) + fields(doc.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")])
	}
	what, whose := regexp.MustCompile("permission|right|scope|grant|allow"), regexp.MustCompile("principal|person|member|group|email|owner|user")
	var naming []string
	for path, ops := range doc.Paths {
		for method, op := range ops {
			text := path
			for _, p := range op.Parameters {
				text += " " + p.Name
			}
			if op.RequestBody != nil {
				text += fields(op.RequestBody.Content["application/json"].Schema)
			}
			if method == "get" || !what.MatchString(text) {
				continue
			}
			if naming = append(naming, op.OperationID); whose.MatchString(text) {
				t.Errorf("%s names permissions, and for whom: %s", op.OperationID, text)
			}
		}
	}
	slices.Sort(naming)
	if want := []string{"createRole", "createToken", "updateRole"}; !slices.Equal(naming, want) {
		t.Errorf("permissions are named by %q, want %q", naming, want)
	}
}

// Routes beside the API are few and public by their nature. A new one has to be entered here, with the pages of security.md.
func TestTheRoutesBesideTheAPIAreAClosedList(t *testing.T) {
	var got []string
	for _, o := range whole(t).opened {
		got = append(got, o.Method+" "+o.Path)
	}
	want := []string{
		"GET /setup", "POST /setup", "GET /invite", "POST /invite", "GET /reset", "POST /reset",
		"GET /healthz", "GET /readyz", "GET /problems/:code", "GET /openapi.json", "GET /openapi.yaml", "GET /docs",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// Nothing reaches the router past open, Register and the ingest routes, which declare themselves.
	for name, f := range sources(t, ".") {
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
					if in, ok := sel.X.(*ast.SelectorExpr); ok && in.Sel.Name == "router" && name != "open.go" && name != "ingest.go" && sel.Sel.Name != "ServeHTTPError" {
						t.Errorf("%s calls router.%s", name, sel.Sel.Name)
					}
				}
			}
			return true
		})
	}
}

func sources(t *testing.T, root string) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, 0)
		files[p] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The habits of api.md, read from the description itself.
func TestEveryRouteKeepsTheHabits(t *testing.T) {
	doc, _ := described(t, whole(t))
	verbNoun := regexp.MustCompile(`^[a-z]+([A-Z][A-Za-z0-9]*)*$`)
	for path, ops := range doc.Paths {
		if n := strings.Count(strings.TrimPrefix(path, "/v1/tenants/{tenant}"), "/"); strings.HasPrefix(path, "/v1/tenants/{tenant}/") && n > 4 || strings.ToLower(path) != path {
			t.Errorf("%s: %d levels", path, n)
		}
		for method, op := range ops {
			id := op.OperationID
			has := func(in, name string) bool {
				return slices.ContainsFunc(op.Parameters, func(p struct{ Name, In string }) bool { return p.In == in && p.Name == name })
			}
			if !verbNoun.MatchString(id) {
				t.Errorf("%s is no verb and noun", id)
			}
			for _, code := range []int{400, 404, 405, 422, 429, 500, 503} {
				if r, ok := op.Responses[strconv.Itoa(code)]; !strings.HasPrefix(id, "ingest") && (!ok || r.Content[problemType] == nil) {
					t.Errorf("%s lists no %d", id, code)
				}
			}
			if strings.HasPrefix(id, "list") && (!has("query", "limit") || !has("query", "cursor")) {
				t.Errorf("%s has no limit or cursor", id)
			}
			if (method == "patch" || method == "put" || method == "delete") && !has("header", "If-Match") {
				t.Errorf("%s takes no If-Match", id)
			}
			if has("header", "If-Match") && (op.Responses["412"].Content == nil || op.Responses["428"].Content == nil) {
				t.Errorf("%s lists no 412 and 428", id)
			}
			if op.RequestBody != nil && !strings.HasPrefix(id, "ingest") && (op.Responses["413"].Content == nil || op.Responses["415"].Content == nil) {
				t.Errorf("%s lists no 413 and 415", id)
			}
			asks := id == "testDecoder" || id == "digestLogin" // and does nothing
			keyed := method == "post" && !asks && slices.ContainsFunc([]string{"/v1/tenants/", "/v1/platform/", "/v1/me/"}, func(p string) bool { return strings.HasPrefix(path, p) })
			if keyed != has("header", "Idempotency-Key") {
				t.Errorf("%s takes an Idempotency-Key: %v, want %v", id, !keyed, keyed)
			}
			if method == "get" && op.RequestBody != nil {
				t.Errorf("%s reads a body", id)
			}
		}
	}
}

func TestEachBodyHasAnExampleThatItsSchemaTakes(t *testing.T) {
	a := whole(t)
	schemas := a.huma.OpenAPI().Components.Schemas
	check := func(where string, content map[string]*huma.MediaType, mode huma.ValidateMode) {
		m := content["application/json"]
		if m == nil {
			return
		}
		if m.Example == nil {
			t.Errorf("%s has no example", where)
			return
		}
		text, err := json.Marshal(m.Example)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := strict.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		res := &huma.ValidateResult{}
		huma.Validate(schemas, m.Schema, huma.NewPathBuffer([]byte("body"), 0), mode, v, res)
		for _, err := range res.Errors {
			t.Errorf("%s: the example %s: %v", where, text, err)
		}
	}
	for _, d := range a.Routes() {
		op := operationOf(a.huma.OpenAPI(), d.Method, d.Path)
		if op.RequestBody != nil {
			check(d.Operation, op.RequestBody.Content, huma.ModeWriteToServer)
		}
		for code, r := range op.Responses {
			check(d.Operation+" "+code, r.Content, huma.ModeReadFromServer)
		}
		if strings.HasPrefix(d.Operation, "ingest") {
			text, err := json.Marshal(op.RequestBody.Content["application/json"].Example)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := uplink.Parse(strings.TrimPrefix(d.Path, "/v1/ingest/"), text, "up"); err != nil {
				t.Errorf("%s: its example is no uplink: %v", d.Operation, err)
			}
		}
	}
}

var snake = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func TestFieldsAreSnakeCaseAndObjectsClosed(t *testing.T) {
	doc, _ := described(t, whole(t))
	for name, raw := range doc.Components.Schemas {
		var s struct {
			Type       any
			Properties map[string]json.RawMessage
			Additional any `json:"additionalProperties"`
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		for field := range s.Properties {
			if !snake.MatchString(field) {
				t.Errorf("%s.%s", name, field)
			}
		}
		if s.Type == "object" && s.Additional != false {
			t.Errorf("%s takes unknown fields", name)
		}
	}
}

func TestTheReaderLoadsNothingAndRunsNothing(t *testing.T) {
	s := &stand{API: whole(t), t: t}
	for path, want := range map[string]int{"/docs": 200, "/setup": 404, "/reset": 404, "a form": 200} {
		w := httptest.NewRecorder()
		if path == "a form" { // that no link of this server opens
			if err := show(w, 200, page{Kind: "setup", Token: "rf_set_x"}); err != nil || !strings.Contains(w.Body.String(), "<form") {
				t.Errorf("%v %s", err, w.Body)
			}
		} else {
			w = s.ask("GET", path, "")
		}
		page := strings.ToLower(w.Body.String())
		if w.Code != want || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		for _, bad := range []string{"<script", "http://", "https://", " src=", "<link", "@import", "url(", "onclick", "javascript:"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "script-src") || strings.Contains(csp, "connect-src") {
			t.Errorf("%s: %q", path, csp)
		}
	}
	docs := s.ask("GET", "/docs", "").Body.String()
	for _, d := range s.Routes() {
		if !strings.Contains(docs, d.Operation) {
			t.Errorf("the reader lacks %s", d.Operation)
		}
	}
	o := options(io.Discard)
	o.Docs, o.Enter = false, &enter.Enter{}
	o.Enter.Mint = mint()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/docs", "/openapi.json", "/openapi.yaml"} {
		if w := (&stand{API: a, t: t}).ask("GET", path, ""); w.Code != http.StatusNotFound {
			t.Errorf("%s is there though switched off", path)
		}
	}
}

// Each code that the program can answer has a page that says what to do, and there is no page of a code that it cannot.
func TestEveryCodeHasAPage(t *testing.T) {
	s := newStand(t)
	used := map[string]bool{}
	word := regexp.MustCompile(`^[a-z][a-z_]*[a-z]$`)
	text := func(e ast.Expr) string {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return ""
		}
		v, err := strconv.Unquote(lit.Value)
		if err != nil || !word.MatchString(v) {
			return ""
		}
		return v
	}
	for _, root := range []string{".", "../../core", "../../ports", "../../app", "../sqlstore", "../localauth", "../quickjssandbox", "../mochibroker"} {
		for _, f := range sources(t, root) {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				switch fun := call.Fun.(type) {
				case *ast.SelectorExpr:
					x, ok := fun.X.(*ast.Ident)
					at := map[string]int{"New": 1, "Wrap": 2}[fun.Sel.Name]
					if ok && x.Name == "fault" && at > 0 && len(call.Args) > at {
						if kind, ok := call.Args[at-1].(*ast.SelectorExpr); ok && kind.Sel.Name != "Internal" {
							used[text(call.Args[at])] = true
						}
					}
				case *ast.Ident:
					switch {
					case fun.Name == "bad" && len(call.Args) > 1 && root == ".":
						used[text(call.Args[0])] = true
					case fun.Name == "busy":
						used["limited_"+text(call.Args[0])] = true
					}
				}
				return true
			})
		}
	}
	delete(used, "")
	for code := range statusOfCode {
		used[code] = true
	}
	used["internal"], used["not_found"] = true, true // by kind
	for code := range used {
		w := s.ask("GET", "/problems/"+code, "")
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || len(advice[code]) < 20 || !strings.HasSuffix(advice[code], ".") {
			t.Errorf("%s has no page that says what to do (%d)", code, w.Code)
		}
	}
	for code := range advice {
		if !used[code] {
			t.Errorf("there is a page of %s, which nothing answers", code)
		}
	}
	s.wants(s.ask("GET", "/problems/"+canary, ""), 404, "not_found")
}

// What huma and bunrouter would do if they were let (dependencies.md).
func TestTheRouterAndHumaAddNothingOfTheirOwn(t *testing.T) {
	s := newStand(t)
	for _, path := range []string{"/schemas/Problem.json", "/openapi-3.0.json", "/openapi-3.0.yaml", "/openapi", "/docs/"} {
		s.wants(s.ask("GET", path, ""), 404, "not_found")
	}
	w := s.ask("POST", s.path(""), `{"name":"pump"}`)
	if strings.Contains(w.Body.String(), "$schema") || w.Header().Get("Link") != "" {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%q", got)
	}
	a := whole(t)
	for _, d := range a.Routes() {
		if strings.Contains(d.Path, "*") {
			t.Errorf("%s has a wildcard, which a long path would cut short", d.Path)
		}
	}
	for name, f := range sources(t, ".") {
		ast.Inspect(f, func(n ast.Node) bool { // RawBody's bytes are another request's once the handler has returned
			if id, ok := n.(*ast.Ident); ok && id.Name == "RawBody" {
				t.Errorf("%s keeps a RawBody", name)
			}
			return true
		})
	}
}
