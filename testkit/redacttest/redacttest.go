// Package redacttest checks that a server lets nothing slip: it learns from the server's own OpenAPI document what can be sent
// where, puts canary secrets into every input and canary names and payloads into their own, makes things go wrong, and then
// looks for all of them, in six encodings, in whatever the server leaves behind. It is no check of who may read what, which is
// testkit/isolation's, nor of the sandbox's masking as such, which is testkit/sandboxtest's.
package redacttest

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

	"github.com/ringfence/ringfence/core/ident"
)

// Target is a fresh server, not set up yet, with limits raised so that the suite is not slowed down.
type Target struct {
	Handler    http.Handler
	SetupToken string
	Trouble    *Trouble // stands between the application and its store

	// Settle waits until what was accepted is processed.
	Settle func()

	// Background does what a server does between requests, until the context ends.
	Background func(context.Context)

	// Raise makes the database itself refuse each new node, by an error whose text holds the row; false mends it.
	Raise func(on bool)

	Logs    func() []byte // all that was logged, at debug level
	Metrics func() []byte

	// Dump shows every value of every column of the database; Files is the database as bytes, by name.
	Dump  func(show func(table, column string, value []byte))
	Files func() map[string][]byte

	Config map[string]string // secrets of the server's own, such as its keys, by what they are

	// Brokers shows what a client of MQTT shows at every door for them, whatever comes of it; nil if there are none.
	Brokers func(user, password, client, will string)
}

// Part is how much is done.
type Part struct {
	Until string // stop at the first finding whose text has it; "" does all
}

// Result is what was found.
type Result struct {
	Requests int
	Secrets  int            // canaries, and secrets that the server gave out or keeps
	Names    int            // canary names and payloads
	Statuses map[int]int    // of the answers
	Stood    map[string]int // by noun: names and payloads that were found where they may stand
	Places   int            // operations and parts of requests that a secret was put in
	Findings []string
}

// Run does everything and fails the test for each finding.
func Run(t testing.TB, target Target) Result {
	t.Helper()
	r := Check(t, target, Part{})
	for i, f := range r.Findings {
		if i == 20 {
			t.Errorf("and %d more", len(r.Findings)-i)
			break
		}
		t.Error(f)
	}
	return r
}

// Check does everything, or as much as it takes to find something.
func Check(t testing.TB, target Target, p Part) Result {
	t.Helper()
	c := &check{
		t: t, target: target, until: p.Until, finder: finder{byHead: map[uint64][]needle{}}, found: map[string]bool{}, places: map[string]bool{},
		result: Result{Stood: map[string]int{}, Statuses: map[int]int{}},
	}
	c.tell()
	c.result.Places = len(c.places)
	sort.Strings(c.result.Findings)
	return c.result
}

// enough ends a story early.
type enough struct{}

func (c *check) tell() {
	defer func() {
		if r := recover(); r != nil && r != (enough{}) {
			panic(r)
		}
	}()
	for what, text := range c.target.Config {
		c.known(secretNoun, what, text, ident.Tenant{})
	}
	c.learn()
	w := c.world()
	c.look("after the world was made")
	c.goWrong(w)
	c.look("after things went wrong")
	c.sweep(w)
	c.look("after the sweep")
	for _, noun := range nouns() {
		if len(columns(noun)) > 0 && c.result.Stood[noun] == 0 {
			c.find("no %s was found where it belongs, so that nothing was tried with them", noun)
		}
	}
}

type check struct {
	t          testing.TB
	target     Target
	until      string
	operations []operation
	finder     finder
	n          int // texts that were made
	address    int // counts callers, so that none is held back for another's failures
	places     map[string]bool
	found      map[string]bool
	stood      map[*canary]bool
	logged     int // bytes of the log that were looked at on the way
	result     Result
}

func (c *check) find(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if c.found[text] {
		return
	}
	c.found[text] = true
	c.result.Findings = append(c.result.Findings, text)
	if c.until != "" && strings.Contains(text, c.until) {
		panic(enough{})
	}
}

// known makes a text one to look for.
func (c *check) known(noun, place, text string, owner ident.Tenant) *canary {
	one := &canary{noun: noun, place: place, text: text, owner: owner}
	c.finder.add(one)
	c.places[place] = true
	if noun == secretNoun {
		c.result.Secrets++
	} else {
		c.result.Names++
	}
	return one
}

func (c *check) next() string {
	c.n++
	return core(c.n)
}

// secret is a fresh secret to put somewhere: in a body, in a header, or where only letters and digits come through.
func (c *check) secret(place string) string {
	return c.known(secretNoun, place, rich(c.next(), marks), ident.Tenant{}).text
}

func (c *check) headerSecret(place string) string {
	return c.known(secretNoun, place, rich(c.next(), headerMarks), ident.Tenant{}).text
}

func (c *check) plainSecret(place string) string {
	return c.known(secretNoun, place, c.next(), ident.Tenant{}).text
}

// issued makes a secret known that the server gave out, less the accessor, which may be seen.
func (c *check) issued(place, token string) string {
	c.t.Helper()
	body := token[strings.LastIndex(token, "_")+1:]
	if len(body) < 71 {
		c.t.Fatalf("%s: the server gave no token", place)
	}
	c.known(secretNoun, place, body[22:], ident.Tenant{})
	return token
}

// name is a fresh name of something of a tenant's.
func (c *check) name(noun string, owner ident.Tenant) string {
	return c.known(noun, "the "+noun+" of its owner", rich(c.next(), marks), owner).text
}

// who calls, and whose names they may see.
type who struct {
	name, token, cookie string
	tenants             []ident.Tenant
	platform            bool
}

// request is one to send.
type request struct {
	method, path string
	body         any // marshalled, unless it is bytes
	header       http.Header
	shows        []string // secrets that the answer shows by design
}

// many is how many of a thing are made: all, or as few as a planted bug needs.
func (c *check) many(n int) int {
	if c.until != "" {
		return 1 + n/10
	}
	return n
}

type object = map[string]any

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// text finds a text in the answer by the names that lead to it.
func (a answer) text(keys ...string) string {
	var v any
	if json.Unmarshal(a.body, &v) != nil {
		return ""
	}
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

// items are the objects of a list.
func (a answer) items() []object {
	var v struct{ Items []object }
	if json.Unmarshal(a.body, &v) != nil {
		return nil
	}
	return v.Items
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

// send makes a request and looks at the answer.
func (c *check) send(w who, name string, q request) answer {
	c.t.Helper()
	raw, ok := q.body.([]byte)
	if !ok && q.body != nil {
		var err error
		if raw, err = json.Marshal(q.body); err != nil {
			c.t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(c.t.Context(), q.method, "http://canary.example"+q.path, bytes.NewReader(raw))
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	c.address++
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.1:4711", c.address/250%250, c.address%250)
	if len(raw) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	if w.token != "" {
		r.Header.Set("Authorization", "Bearer "+w.token)
	}
	if w.cookie != "" {
		r.Header.Set("Cookie", "__Host-sid="+w.cookie)
	}
	for k, vs := range q.header {
		r.Header[k] = vs
	}
	res := &recorder{header: http.Header{}}
	c.target.Handler.ServeHTTP(res, r)
	c.result.Requests++
	a := answer{res.status, res.header, res.body.Bytes()}
	c.result.Statuses[a.status]++
	c.answered(w, name, q, a)
	if c.until != "" && c.result.Requests%32 == 0 {
		c.glance("on the way")
	}
	return a
}

// answered looks for what an answer must not hold.
func (c *check) answered(w who, name string, q request, a answer) {
	var whole bytes.Buffer
	_ = a.header.Write(&whole) // to memory
	whole.Write(a.body)
	c.finder.scan(whole.Bytes(), func(h hit) {
		switch {
		case a.status >= 400:
			c.find("error answer: %s of %s to %s (%d) holds the %s", h.spelt(), h.of.place, name, a.status, h.of.noun)
		case h.of.noun == secretNoun:
			if !slices.Contains(q.shows, h.of.text) {
				c.find("answer: %s of %s to %s (%d) holds the secret", h.spelt(), h.of.place, name, a.status)
			}
		case slices.Contains(w.tenants, h.of.owner) || (w.platform && slices.Contains(platformNouns, h.of.noun)):
			c.stands(h.of)
		default:
			c.find("answer to another: %s to %s as %s holds the %s of %s", h.spelt(), name, w.name, h.of.noun, h.of.owner)
		}
	})
}

func (h hit) spelt() string { return h.encoding }

// operation is one as the server describes it.
type operation struct {
	name, method, path     string
	tenantFrom, permission string
	public                 bool
	queries, params        []string
	match                  bool // takes If-Match
	body                   bool
	example                any
}

func (c *check) learn() {
	c.t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			ID         string  `json:"operationId"`
			TenantFrom string  `json:"x-tenant-from"`
			Permission string  `json:"x-permission"`
			Public     *string `json:"x-public"`
			Parameters []struct{ Name, In string }
			Body       *struct {
				Content map[string]struct{ Example any }
			} `json:"requestBody"`
		}
	}
	if err := json.Unmarshal(c.send(who{}, "openapi.json", request{method: http.MethodGet, path: "/openapi.json"}).body, &doc); err != nil {
		c.t.Fatalf("openapi.json: %v", err)
	}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			op := operation{name: o.ID, method: strings.ToUpper(method), path: path, tenantFrom: o.TenantFrom, permission: o.Permission, public: o.Public != nil, body: o.Body != nil}
			for _, p := range o.Parameters {
				switch p.In {
				case "query":
					op.queries = append(op.queries, p.Name)
				case "path":
					op.params = append(op.params, p.Name)
				case "header":
					op.match = op.match || p.Name == "If-Match"
				}
			}
			if o.Body != nil {
				op.example = o.Body.Content["application/json"].Example
			}
			c.operations = append(c.operations, op)
		}
	}
	slices.SortFunc(c.operations, func(a, b operation) int { return strings.Compare(a.name, b.name) })
}
