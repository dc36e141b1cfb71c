// Package audittest checks that a running server records what it must: it learns from the server's own OpenAPI document which
// operations change something and which audit events each declares, does every one of them, and compares what then stands in
// the log with the declaration, actor, target, request id and tree; repeated under its Idempotency-Key each does and records
// nothing. It speaks HTTP; the store is only read. What it does not check is the log itself: that is core/audit and
// testkit/storetest.
package audittest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Target is a fresh server, not set up yet, with limits raised so that the script is not slowed down.
type Target struct {
	Handler    http.Handler
	SetupToken string
	Store      store.Store // the server's own; its logs are read here, since reading them through the API is recorded

	// Settle waits until what was accepted is processed, and nothing that was begun is still being written.
	Settle func()

	// Bury puts a dead letter where the server keeps them, as if a connection of the operator's had brought it of an application that
	// was nobody's; nil if it keeps none.
	Bury func(connection, application string)

	// Break makes the store unable to write audit entries until it is mended.
	Break func(broken bool)

	// Rows answers a text that changes when any row of a tenant does, but for throttles and last-used times: those are kept
	// without an entry, so that no guess is forgotten because nothing could be recorded. What jobs write beside is none of it.
	Rows func(ident.Tenant) string
}

// Result is what was found.
type Result struct {
	Operations int // that were done with success, each at first while no audit entry could be written
	Refusals   int // that were made and looked up
	Findings   []string
}

// Run does every operation and fails the test for each finding.
func Run(t testing.TB, target Target) Result {
	t.Helper()
	r := Check(t, target, "")
	for i, f := range r.Findings {
		if i == 20 {
			t.Errorf("and %d more", len(r.Findings)-i)
			break
		}
		t.Error(f)
	}
	return r
}

// Check does every operation, or as many as it takes to find something whose text has what is asked for.
func Check(t testing.TB, target Target, until string) Result {
	t.Helper()
	c := &check{t: t, target: target, until: until, heads: map[ident.Tenant]uint64{}, done: map[string]map[audit.Action]bool{}}
	c.tell()
	sort.Strings(c.result.Findings)
	return c.result
}

// found ends a story early.
type found struct{}

func (c *check) tell() {
	defer func() {
		if r := recover(); r != nil && r != (found{}) {
			panic(r)
		}
	}()
	c.story()
	for name, o := range c.operations {
		if !o.changes() {
			continue
		}
		if c.done[name] == nil {
			c.find("%s was not tried: the script does not know it", name)
			continue
		}
		c.result.Operations++
		for _, a := range o.audit {
			if !c.done[name][a] {
				c.find("%s declares %s, which it never recorded", name, a)
			}
		}
	}
}

type check struct {
	t          testing.TB
	target     Target
	until      string
	operations map[string]operation
	heads      map[ident.Tenant]uint64          // how much of each log was looked at
	done       map[string]map[audit.Action]bool // by operation: what it recorded
	keys       int                              // Idempotency-Keys used
	key        string                           // of the operation that is being done
	differs    string                           // written behind a body
	result     Result
}

func (c *check) find(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.result.Findings = append(c.result.Findings, text)
	if c.until != "" && strings.Contains(text, c.until) {
		panic(found{})
	}
}

// operation is one as the server describes it.
type operation struct {
	name, method, path     string
	tenantFrom, permission string
	match                  bool // takes If-Match
	audit                  []audit.Action
}

// changes reports whether it must be tried: what is not a read, and the reads that are recorded.
func (o operation) changes() bool { return o.method != http.MethodGet || len(o.audit) > 0 }

// keyed reports whether a repeat must be told by its Idempotency-Key. A question is asked and recorded again.
func (o operation) keyed() bool {
	under := func(prefix string) bool { return strings.HasPrefix(o.path, prefix) }
	does := slices.ContainsFunc(o.audit, func(a audit.Action) bool { return a != audit.SensitiveRead })
	return o.method == http.MethodPost && does && (under("/v1/tenants/") || under("/v1/platform/") || under("/v1/me/"))
}

type object = map[string]any

func (c *check) learn() {
	var doc struct {
		Paths map[string]map[string]struct {
			ID         string         `json:"operationId"`
			TenantFrom string         `json:"x-tenant-from"`
			Permission string         `json:"x-permission"`
			Audit      []audit.Action `json:"x-audit"`
			Parameters []struct{ Name string }
		}
	}
	if err := json.Unmarshal(c.send(who{}, http.MethodGet, "/openapi.json", nil, 0).body, &doc); err != nil {
		c.t.Fatalf("openapi.json: %v", err)
	}
	c.operations = map[string]operation{}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			op := operation{name: o.ID, method: strings.ToUpper(method), path: path, tenantFrom: o.TenantFrom, permission: o.Permission, audit: o.Audit}
			for _, p := range o.Parameters {
				op.match = op.match || p.Name == "If-Match"
			}
			c.operations[o.ID] = op
		}
	}
}

// who calls: the credential, and what the log must say of it.
type who struct {
	token   string
	id      string // of the principal; empty if nobody is known yet
	session string // that the token belongs to, where it matters
}

// answer is what the server said.
type answer struct {
	status   int
	request  string
	replayed bool
	body     []byte
	object   object
}

// text finds a text in the answer by the names that lead to it.
func (a answer) text(keys ...string) string {
	var v any = a.object
	for _, k := range keys {
		m, ok := v.(object)
		if !ok {
			return ""
		}
		v = m[k]
	}
	s, ok := v.(string)
	if !ok {
		return ""
	}
	return s
}

// recorder is a ResponseWriter in memory.
type recorder struct {
	header http.Header
	body   bytes.Buffer
	status int
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}

func (c *check) send(w who, method, path string, body object, rev int) answer {
	c.t.Helper()
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			c.t.Fatal(err)
		}
		raw = append(raw, c.differs...)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, "http://audited.example"+path, bytes.NewReader(raw))
	if err != nil {
		c.t.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.1:4711"
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if w.token != "" {
		r.Header.Set("Authorization", "Bearer "+w.token)
	}
	if c.key != "" {
		r.Header.Set("Idempotency-Key", c.key)
	}
	if rev > 0 {
		r.Header.Set("If-Match", fmt.Sprintf("%q", fmt.Sprint(rev)))
	}
	res := &recorder{header: http.Header{}}
	c.target.Handler.ServeHTTP(res, r)
	a := answer{status: res.status, request: res.header.Get("Request-Id"), replayed: res.header.Get("Idempotency-Replayed") == "true", body: res.body.Bytes()}
	if media := res.header.Get("Content-Type"); strings.Contains(media, "json") && media != "application/x-ndjson" && len(a.body) > 0 && path != "/openapi.json" {
		if err := json.Unmarshal(a.body, &a.object); err != nil {
			c.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return a
}

// entry is one entry and the tree that it stands in.
type entry struct {
	tree ident.Tenant
	audit.Entry
	leaf struct {
		Actor struct {
			Accessor, ID, Kind string
		}
		Reason string
	}
}

// fresh answers what was recorded since it was last asked, in every tree: not what was counted, which a job records when its hour is over.
func (c *check) fresh() []entry {
	c.t.Helper()
	trees, err := c.target.Store.Directory().Tenants(c.t.Context(), ident.Tenant{}, 100)
	if err != nil {
		c.t.Fatal(err)
	}
	if !slices.Contains(trees, ident.Platform) {
		trees = append(trees, ident.Platform)
	}
	var out []entry
	for _, tree := range trees {
		s := access.Grant(tree, access.Actor{Kind: access.System, System: "audittest"}, access.Origin{}, access.Decision{Allowed: true}, nil, access.Subject{}, time.Time{})
		err := c.target.Store.View(c.t.Context(), s, func(ctx context.Context, r store.Reader) error {
			head, err := r.Audit().Head(ctx)
			for ; err == nil && c.heads[tree] < head.Size; c.heads[tree]++ {
				e := entry{tree: tree}
				if e.Entry, err = r.Audit().Entry(ctx, c.heads[tree]); err == nil {
					err = json.Unmarshal(e.Leaf, &e.leaf)
				}
				if job := e.leaf.Actor.Kind == string(access.System) && e.leaf.Reason == "folded" && e.Request == ""; !job {
					out = append(out, e)
				}
			}
			return err
		})
		if err != nil {
			c.t.Fatalf("reading the log of %s: %v", tree, err)
		}
	}
	return out
}

// do performs an operation: first while nothing can be recorded, when it must not be done, and then for good.
func (c *check) do(name string, w who, ids map[string]string, body object) answer {
	c.t.Helper()
	o, ok := c.operations[name]
	if !ok {
		c.t.Fatalf("there is no operation %s any more: take it out of the script", name)
	}
	path, tree := c.fill(o, ids)
	if o.keyed() { // the attempt that could not be recorded has it too, and claims nothing
		c.keys++
		c.key = fmt.Sprint("story ", c.keys)
		defer func() { c.key = "" }()
	}
	rev := 0
	if len(o.audit) > 0 {
		rev = c.broken(o, w, path, tree, body)
	}
	a := c.send(w, o.method, path, body, rev)
	if a.status >= 300 {
		c.t.Fatalf("%s: %d %s", name, a.status, a.body)
	}
	c.compare(o, w, tree, a, path+" "+ids["tenant"]+fmt.Sprint(body)+string(a.body))
	if o.keyed() {
		c.repeated(o, w, path, body, rev, a)
	}
	return a
}

// repeated asks again under the same Idempotency-Key: nothing is done, nothing is recorded, and no secret is shown again.
func (c *check) repeated(o operation, w who, path string, body object, rev int, first answer) {
	c.t.Helper()
	again := c.send(w, o.method, path, body, rev)
	gone := again.status == http.StatusUnauthorized || again.status == http.StatusForbidden || again.status == http.StatusNotFound
	for _, e := range c.fresh() {
		if !gone || e.Action != string(audit.AuthzFail) {
			c.find("%s repeated under its Idempotency-Key recorded %s", o.name, e.Action)
		}
	}
	if gone { // what it did took the credential or the tenant away
		return
	}
	if again.status != first.status || !again.replayed || again.text("id") != first.text("id") || again.text("rev") != first.text("rev") || again.text("secret") != "" {
		c.find("%s repeated under its Idempotency-Key: %d %.200s", o.name, again.status, again.body)
	}
	if first.text("secret") != "" && again.text("hint") == "" {
		c.find("%s repeated under its Idempotency-Key does not say how to get another secret: %.200s", o.name, again.body)
	}
	c.differs = " " // the same to the route, but not to the key
	defer func() { c.differs = "" }()
	if body == nil {
		body = object{}
	}
	if other := c.send(w, o.method, path, body, rev); other.text("code") != "idempotency_key_reused" {
		c.find("%s takes another request under a used Idempotency-Key: %d %.200s", o.name, other.status, other.body)
	}
}

func (c *check) fill(o operation, ids map[string]string) (path string, tree ident.Tenant) {
	c.t.Helper()
	path, tree = o.path, ident.Platform
	for name, id := range ids {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	if strings.Contains(path, "{") {
		c.t.Fatalf("%s: the script names no id for %s", o.name, path)
	}
	if o.tenantFrom == "path" {
		var err error
		if tree, err = ident.ParseTenant(ids["tenant"]); err != nil {
			c.t.Fatal(err)
		}
	}
	return path, tree
}

// broken asks for what cannot be recorded, and answers the revision that was found to be the current one.
func (c *check) broken(o operation, w who, path string, tree ident.Tenant, body object) (rev int) {
	c.t.Helper()
	c.target.Settle()
	c.fresh()
	c.target.Break(true) // for jobs too
	defer c.target.Break(false)
	before := c.target.Rows(tree) + c.target.Rows(ident.Platform)
	var a answer
	for {
		if o.match {
			rev++
		}
		if a = c.send(w, o.method, path, body, rev); a.status != http.StatusPreconditionFailed || rev > 20 {
			break
		}
	}
	if a.status != http.StatusServiceUnavailable {
		c.find("%s answers %d when it cannot be recorded: %.200s", o.name, a.status, a.body)
	}
	if after := c.target.Rows(tree) + c.target.Rows(ident.Platform); after != before {
		c.find("%s changed something that it could not record", o.name)
	}
	return rev
}

// compare holds what was recorded against what the operation declares.
func (c *check) compare(o operation, w who, tree ident.Tenant, a answer, said string) {
	c.t.Helper()
	if c.done[o.name] == nil {
		c.done[o.name] = map[audit.Action]bool{}
	}
	seen := map[string]bool{}
	for _, e := range c.fresh() {
		at := fmt.Sprintf("%s recorded %s in %s", o.name, e.Action, e.tree)
		action := audit.Action(e.Action)
		c.done[o.name][action] = true
		if !slices.Contains(o.audit, action) {
			c.find("%s, which it does not declare", at)
		}
		if once := e.tree.String() + e.Action + e.Target; seen[once] {
			c.find("%s twice", at)
		} else {
			seen[once] = true
		}
		if e.tree != tree && e.tree != ident.Platform && !strings.Contains(said, e.tree.String()) && o.tenantFrom != "nobody" {
			c.find("%s, which is not where it was done", at)
		}
		counted := o.name == "importDevices" && e.Kind == "device" // an import answers how many it made; its test asks for each
		if e.Target == "" || (!counted && !strings.Contains(said, e.Target) && e.Target != w.id && e.Target != w.session) {
			c.find("%s of %s %q, of which neither request nor answer speaks", at, e.Kind, e.Target)
		}
		if e.Outcome != string(audit.OK) {
			c.find("%s as %s", at, e.Outcome)
		}
		c.origin(at, e, w, a)
	}
	if len(o.audit) > 0 && len(seen) == 0 {
		c.find("%s recorded nothing", o.name)
	}
}

// origin holds actor and request of an entry against who asked, and the answer that they got.
func (c *check) origin(at string, e entry, w who, a answer) {
	if e.Request == "" || e.Request != a.request {
		c.find("%s with the request id %q, the answer's is %q", at, e.Request, a.request)
	}
	if w.id != "" && e.Actor != w.id {
		c.find("%s of the actor %q, it was %q", at, e.Actor, w.id)
	}
	if e.Actor == "" || e.leaf.Actor.ID != e.Actor {
		c.find("%s of nobody", at)
	}
	if strings.HasPrefix(w.token, "rf_pat_") && (e.leaf.Actor.Accessor == "" || !strings.Contains(w.token, e.leaf.Actor.Accessor)) {
		c.find("%s without the accessor of the token", at)
	}
}
