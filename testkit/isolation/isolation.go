// Package isolation is the cross-tenant sweep: it learns the routes of a running server from its own OpenAPI document, builds
// three tenants whose objects have the same names outside, and lets actors of one try to reach what is another's, in every
// place where an id can stand. Before that it looks at what is refused at home: a key that is for events alone does nothing
// else in its own tenant either, and what somebody may not read is told like what never was. It speaks HTTP alone, so that
// anybody can run it against a server of their own; brokers are reached through what its caller fills in.
package isolation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
)

// Target is a fresh server, not set up yet, with limits raised so that the sweep is not slowed down.
type Target struct {
	Handler    http.Handler
	SetupToken string

	// Rows answers a text that changes when any row of a tenant does; nil if the target cannot tell.
	Rows func(tenantID string) string

	// Settle waits until what was accepted is processed.
	Settle func()

	// Bury puts a value on the server's bus that becomes a dead letter; nil if the server keeps none.
	Bury func(value string)

	// Broker connects to the server's MQTT broker; nil if it has none.
	Broker func(Login) (Client, error)
}

// Plan says how much is tried.
type Plan struct {
	Requests int      // at least; the sweep is repeated with the other victim until there are as many
	Objects  []string // only routes of these object types; nil: all
	Quit     bool     // stop at the first finding
}

// Finding is one leak, or one answer that tells what it must not.
type Finding struct {
	Route, Actor, Place, What string
}

// String is the finding in a line.
func (f Finding) String() string {
	return fmt.Sprintf("%s as %s, %s: %s", f.Route, f.Actor, f.Place, f.What)
}

// Result is what a sweep found.
type Result struct {
	Requests int
	Topics   int      // attempts at the broker
	Routes   []string // operations that were tried
	Findings []Finding
}

// Run sweeps a target and fails the test for each finding.
func Run(t testing.TB, target Target, p Plan) Result {
	t.Helper()
	r := Sweep(t, target, p)
	for i, f := range r.Findings {
		if i == 20 {
			t.Errorf("and %d more", len(r.Findings)-i)
			break
		}
		t.Error(f)
	}
	if r.Requests < p.Requests && p.Objects == nil {
		t.Errorf("the sweep made %d requests, want %d", r.Requests, p.Requests)
	}
	return r
}

// Sweep builds the world and tries everything.
func Sweep(t testing.TB, target Target, p Plan) Result {
	t.Helper()
	w := build(t, target)
	routes := w.routes()
	if p.Objects != nil {
		routes = slices.DeleteFunc(routes, func(r route) bool { return !slices.Contains(p.Objects, r.object) })
	}
	s := &sweep{world: w, plan: p}
	attacker := w.tenants[1]
	if p.Objects == nil {
		s.readable(routes)
		s.home(routes, attacker)
	}
	var before []string
	for _, v := range w.tenants {
		before = append(before, w.rows(v.id))
	}
	for round := 0; s.more(round); round++ {
		victim := w.tenants[2*(round%2)] // A and C in turn
		s.round(routes, attacker, victim, round)
		if round == 0 {
			s.alike(routes, attacker, victim)
		}
	}
	for _, a := range attacker.actors[:3] {
		if res := w.send(http.MethodGet, "/v1/tenants/"+attacker.id+"/devices", "", a, nil, nil); res.status != http.StatusOK {
			s.find(Finding{"listDevices", a.name, "the end", fmt.Sprintf("%d: the actor was lost on the way, so the sweep tried less than it says", res.status)})
		}
	}
	for i, v := range w.tenants {
		if v != attacker && w.rows(v.id) != before[i] {
			s.find(Finding{"all routes", "all actors", "the store", "rows of " + v.name + " changed"})
		}
	}
	for _, v := range w.tenants { // after the rows were compared
		if res := w.send(http.MethodGet, "/v1/me", "", v.owner, nil, nil); res.status != http.StatusOK {
			s.find(Finding{"getMe", v.name + "'s owner", "the end", fmt.Sprintf("%d: the owner was thrown out on the way", res.status)})
		}
	}
	if p.Objects == nil && !s.enough() {
		s.topics(attacker)
	}
	for _, r := range routes {
		s.result.Routes = append(s.result.Routes, r.operation)
	}
	sort.Strings(s.result.Routes)
	return s.result
}

type sweep struct {
	world  *world
	plan   Plan
	mu     sync.Mutex
	result Result
}

// enough reports whether what was found is all that is wanted.
func (s *sweep) enough() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.Quit && len(s.result.Findings) > 0
}

func (s *sweep) more(round int) bool {
	if s.enough() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return round < 2 || (s.plan.Objects == nil && s.result.Requests < s.plan.Requests)
}

func (s *sweep) find(f Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Findings = append(s.result.Findings, f)
}

// attempt is one request of the sweep.
type attempt struct {
	route  route
	actor  actor
	victim *tenant
	place  string
	path   string
	query  string
	body   map[string]any
	header map[string]string
	own    bool // the attacker's own tenant stands in the path
}

// round tries every route with every actor and every place.
func (s *sweep) round(routes []route, attacker, victim *tenant, round int) {
	var all []attempt
	for _, r := range routes {
		for _, a := range attacker.actors {
			if !a.attacks(victim) {
				continue
			}
			for _, at := range places(r, a, attacker, victim, round) {
				if a.also != victim.name || (at.own && r.tenantFrom == "path") { // in the victim's own tenant a member is at home
					all = append(all, at)
				}
			}
		}
	}
	each(s, all, s.try)
}

// each does something with all of a list, several at a time.
func each[T any](s *sweep, all []T, do func(T)) {
	jobs := make(chan T)
	var wg sync.WaitGroup
	workers := 8
	if s.plan.Quit {
		workers = 1 // a planted store may hold two of the store's connections for one request
	}
	for range workers {
		wg.Go(func() {
			for one := range jobs {
				do(one)
			}
		})
	}
	for _, one := range all {
		if s.enough() {
			break
		}
		jobs <- one
	}
	close(jobs)
	wg.Wait()
}

// places are all the places of a route where an id of the victim's can stand.
func places(r route, a actor, own, victim *tenant, round int) []attempt {
	if r.tenantFrom == "platform" && a.tenant == "" && a.token != "" {
		return nil // a platform administrator on the platform's own routes is at home
	}
	if r.operation == "logOut" {
		return nil // it would end the actor, and the sweep with them
	}
	var out []attempt
	match := map[string]string{"If-Match": `"1"`}
	add := func(place string, at attempt) {
		at.route, at.actor, at.victim, at.place = r, a, victim, place
		if at.header == nil {
			at.header = match
		}
		out = append(out, at)
	}
	theirBody, ownBody := r.bodyOf(victim, round), r.bodyOf(own, round)
	if r.tenantFrom == "path" {
		add("tenant and ids in the path", attempt{path: r.fill(victim, victim), body: theirBody})
		add("tenant in the path, own ids", attempt{path: r.fill(victim, own), body: ownBody})
		if r.method == http.MethodGet {
			add("nothing foreign at all", attempt{path: r.fill(own, own), own: true})
		}
		if r.hasID() {
			add("ids in the path of one's own tenant", attempt{path: r.fill(own, victim), body: ownBody, own: true})
		}
		if r.refers() {
			add("ids in the body, in one's own tenant", attempt{path: r.fill(own, own), body: theirBody, own: true})
		}
		if slices.Contains(r.fields(), table) { // beside it nothing that would be refused first
			mixed := maps.Clone(ownBody)
			mixed[table] = theirBody[table]
			add(rowsOfTable, attempt{path: r.fill(own, own), body: mixed, own: true})
		}
		for _, q := range r.filters {
			values := []string{victim.idFor(q)}
			if q == "name" {
				values = []string{victim.canary(r.object), url.QueryEscape(same)}
			}
			for _, v := range values {
				if v != "" {
					add("filter "+q, attempt{path: r.fill(own, own), query: q + "=" + v, body: ownBody, own: true})
				}
			}
		}
		if slices.Contains(r.filters, "cursor") && victim.cursors[r.operation] != "" {
			add("cursor", attempt{path: r.fill(own, own), query: "cursor=" + victim.cursors[r.operation], own: true})
		}
		if r.method == http.MethodPost && r.refers() {
			add(usedKey, attempt{path: r.fill(own, own), body: theirBody, own: true, header: map[string]string{"Idempotency-Key": swept, "If-Match": `"1"`}})
		}
		if r.claims() { // byte for byte what the victim's owner sent
			add("the victim's own request again", attempt{path: r.fill(victim, victim), body: r.bodyOf(victim, earlier), header: map[string]string{"Idempotency-Key": swept}})
		}
		add("headers that name the tenant", attempt{path: r.fill(own, victim), body: ownBody, own: true, header: map[string]string{
			"If-Match": `"1"`, "X-Tenant": victim.id, "X-Tenant-Id": victim.id, "X-Original-Url": r.fill(victim, victim), "X-Forwarded-Prefix": "/v1/tenants/" + victim.id}})
		return out
	}
	add("ids in path and body", attempt{path: r.fill(own, victim), body: theirBody})
	return out
}

// usedKey is a place where the victim was before: nothing that is refused there takes the key, so that it stays the victim's.
const usedKey = "idempotency key that the victim has used"

// rowsOfTable is a place where each row stands for itself: a refused one is told in an answer that is a success.
const rowsOfTable = "ids in a table, in one's own tenant"

// try makes one request and looks at the answer.
func (s *sweep) try(a attempt) {
	if a.own && !a.route.safeAtHome() {
		return // it would only destroy the attacker's own things
	}
	res := s.world.send(a.route.method, a.path, a.query, a.actor, a.body, a.header)
	s.mu.Lock()
	s.result.Requests++
	s.mu.Unlock()
	found := func(what string) { s.find(Finding{a.route.operation, a.actor.name, a.place, what}) }
	if c := s.world.foreignTo(a.actor, a.victim, res.whole()); c != "" {
		found(fmt.Sprintf("%d, and the answer holds %s", res.status, c))
	}
	if res.status >= 500 {
		found(fmt.Sprintf("%d: %s", res.status, res.text))
	}
	if !a.own && a.route.tenantFrom == "path" && res.status < 300 {
		found(fmt.Sprintf("%d: another tenant's route was open", res.status))
	}
	if a.own && (strings.HasPrefix(a.place, "ids in") || a.place == usedKey) && res.status < 300 && res.status != 204 && (a.place != rowsOfTable || !res.noneMade()) {
		found(fmt.Sprintf("%d: an id of another tenant's was taken", res.status))
	}
	if a.own && a.place == "ids in the path of one's own tenant" && res.status == 204 {
		found("204: something was done to an id of another tenant's")
	}
	if a.route.tenantFrom == "nobody" && a.route.hasID() && res.status < 300 {
		found(fmt.Sprintf("%d: what is another's own was taken for the caller's", res.status))
	}
	if a.header["Idempotency-Key"] != "" && (strings.Contains(res.headers, "Idempotency-Replayed") || strings.Contains(res.text, "idempotency_key_reused")) {
		found(fmt.Sprintf("%d: the answer tells that another has used the key", res.status))
	}
}

// alike holds what is another's against what never was: the answers must be the same, less the request's id.
func (s *sweep) alike(routes []route, attacker, victim *tenant) {
	never := victim.neverWas()
	var all [][2]attempt
	for _, r := range routes {
		for _, a := range attacker.actors {
			if a.attacks(victim) {
				all = append(all, pairs(r, a, attacker, victim, never)...)
			}
		}
	}
	var busy [][2]attempt
	ask := func(p [2]attempt, alone bool) {
		theirs := s.world.send(p[0].route.method, p[0].path, p[0].query, p[0].actor, p[0].body, p[0].header)
		nobodys := s.world.send(p[1].route.method, p[1].path, p[1].query, p[1].actor, p[1].body, p[1].header)
		limited := theirs.status == http.StatusTooManyRequests || nobodys.status == http.StatusTooManyRequests
		s.mu.Lock()
		s.result.Requests += 2
		if limited && !alone {
			busy = append(busy, p)
		}
		s.mu.Unlock()
		if (alone || !limited) && (theirs.status != nobodys.status || theirs.plain() != nobodys.plain()) {
			s.find(Finding{p[0].route.operation, p[0].actor.name, "a foreign id and one that never was", fmt.Sprintf("%d %s\n%d %s", theirs.status, theirs.plain(), nobodys.status, nobodys.plain())})
		}
	}
	each(s, all, func(p [2]attempt) { ask(p, false) })
	for _, p := range busy { // what had to wait for its own tenant's others tells of no id
		ask(p, true)
	}
}

// pairs are requests that differ in an id alone: the victim's in the one, in the other one that never was.
func pairs(r route, a actor, own, victim, never *tenant) (out [][2]attempt) {
	of := func(at func(t *tenant) attempt) {
		both := [2]attempt{at(victim), at(never)}
		for i := range both {
			both[i].route, both[i].actor, both[i].header = r, a, map[string]string{"If-Match": `"1"`}
		}
		out = append(out, both)
	}
	ownBody := r.bodyOf(own, 0)
	switch {
	case r.tenantFrom == "path" && a.also != victim.name:
		of(func(t *tenant) attempt { return attempt{path: r.fill(t, victim), body: ownBody} })
	case r.tenantFrom != "path" && r.tenantFrom != "nobody":
		return nil // the platform's routes are shut before an id is looked at
	}
	if r.hasID() && (r.tenantFrom == "nobody" || r.safeAtHome()) {
		of(func(t *tenant) attempt { return attempt{path: r.fill(own, t), body: ownBody} })
	}
	if r.refers() && !slices.Contains(r.fields(), table) { // each import has an id of its own
		of(func(t *tenant) attempt { return attempt{path: r.fill(own, own), body: r.bodyOf(t, 0)} })
	}
	for _, q := range r.filters {
		if victim.idFor(q) != "" && r.object != "entry" { // a log compares ids with its words, and looks none up
			of(func(t *tenant) attempt { return attempt{path: r.fill(own, own), query: q + "=" + t.idFor(q)} })
		}
	}
	return out
}

// answer is what the server said.
type answer struct {
	status        int
	text, headers string
}

// whole is everything that the caller saw.
func (a answer) whole() string { return a.headers + a.text }

// noneMade reports whether the answer says that of a table no row was taken.
func (a answer) noneMade() bool {
	var v struct{ Created *int }
	return json.Unmarshal([]byte(a.text), &v) == nil && v.Created != nil && *v.Created == 0
}

// plain is the answer less what differs between any two requests.
func (a answer) plain() string {
	var v map[string]any
	if json.Unmarshal([]byte(a.text), &v) != nil {
		return a.text
	}
	delete(v, "request_id")
	b, err := json.Marshal(v)
	if err != nil {
		return a.text
	}
	return string(b)
}

func (w *world) send(method, path, query string, a actor, body map[string]any, header map[string]string) answer {
	target := path
	if query != "" {
		target += "?" + query
	}
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			w.t.Errorf("encode: %v", err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://sweep.example"+target, content)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, target, err)
		return answer{}
	}
	req.RemoteAddr = "192.0.2.1:4711"
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, k := range slices.Sorted(maps.Keys(header)) {
		req.Header.Set(k, header[k])
	}
	if a.agent != "" {
		req.Header.Set("User-Agent", a.agent)
	}
	switch {
	case a.cookie != "":
		req.Header.Set("Cookie", "__Host-sid="+a.cookie)
	case a.token != "":
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res := newRecorder()
	w.target.Handler.ServeHTTP(res, req)
	return answer{status: res.status, text: res.body.String(), headers: fmt.Sprint(res.header)}
}

type recorder struct {
	header http.Header
	body   bytes.Buffer
	status int
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

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
