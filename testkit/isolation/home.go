package isolation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/core/access"
)

// ingestionKey is the actor that is for one door alone.
const ingestionKey = "ingestion key"

// atHome is the place where nothing foreign stands: what is looked at there is what an actor may do in its own tenant.
const atHome = "one's own tenant"

// home holds the actors whose permissions are known to their own tenant. An ingestion key opens nothing but ingest; who lacks
// a permission on an object is told which if they may read it, and else what they are told of an object that never was; and
// none of it changes anything.
func (s *sweep) home(routes []route, own *tenant) {
	never, before := own.neverWas(), s.kept(routes, own)
	missing := s.world.send(http.MethodGet, "/v1/tenants/"+own.id+"/devices/"+never.ids["device"], "", own.owner, nil, nil)
	if missing.status != http.StatusNotFound {
		s.find(Finding{"getDevice", "owner", atHome, fmt.Sprintf("%d for a device that never was", missing.status)})
	}
	for _, r := range routes {
		if r.public || r.tenantFrom == "credential" {
			continue
		}
		for _, a := range own.actors {
			if a.holds.IsEmpty() || ((r.permission == access.None || a.holds.Has(r.permission)) && a.name != ingestionKey) {
				continue
			}
			found := func(format string, args ...any) {
				s.find(Finding{r.operation, a.name, atHome, fmt.Sprintf(format, args...)})
			}
			ask := func(whose *tenant) answer {
				s.mu.Lock()
				s.result.Requests++
				s.mu.Unlock()
				return s.world.send(r.method, r.fill(own, whose), "", a, r.bodyOf(own, 0), map[string]string{"If-Match": `"1"`})
			}
			res := ask(own)
			if a.name == ingestionKey && !slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}, res.status) {
				found("%d: a key that is for events alone was not refused", res.status)
			}
			switch {
			case r.permission == access.None:
			case r.hasID() && !a.holds.Has(r.permission.Read()):
				if nobodys := ask(never); res.status != missing.status || res.plain() != missing.plain() || nobodys.status != missing.status || nobodys.plain() != missing.plain() {
					found("an object that the actor may not read is not told like one that never was: %d %s\n%d %s", res.status, res.plain(), nobodys.status, nobodys.plain())
				}
			case r.tenantFrom == "path" && (res.status != http.StatusForbidden || res.member("permission") != r.permission.String()):
				found("%d %s, want 403 that names %s", res.status, res.plain(), r.permission)
			}
		}
	}
	if s.kept(routes, own) != before {
		s.find(Finding{"all routes", "all actors", atHome, "what was refused changed something"})
	}
}

// kept is all that a tenant's owner can read of it, less the log, where refusals stand, and when credentials were used.
func (s *sweep) kept(routes []route, t *tenant) string {
	var all strings.Builder
	for _, r := range routes {
		if r.method != http.MethodGet || r.tenantFrom != "path" || strings.Contains(r.path, "/audit/") {
			continue
		}
		query := ""
		if slices.Contains(r.filters, "limit") {
			query = "limit=200"
		}
		res := s.world.send(r.method, r.fill(t, t), query, t.owner, nil, nil)
		fmt.Fprintln(&all, r.operation, res.status, unused(res.plain()))
	}
	return all.String()
}

// unused is a text of JSON less the times when something was last used.
func unused(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	var strip func(any)
	strip = func(v any) {
		switch v := v.(type) {
		case object:
			delete(v, "last_used_at")
			for _, one := range v {
				strip(one)
			}
		case []any:
			for _, one := range v {
				strip(one)
			}
		}
	}
	strip(v)
	b, err := json.Marshal(v)
	if err != nil {
		return text
	}
	return string(b)
}

// readable asks for everything that can be read, by a bearer token alone: whatever the sweep is refused must be there for
// those who may, or the refusals would say nothing.
func (s *sweep) readable(routes []route) {
	w := s.world
	admins, _ := w.call(w.admin, http.MethodGet, "/v1/platform/memberships", nil, http.StatusOK)["items"].([]any)
	first, _ := admins[0].(object)
	for _, t := range w.tenants {
		for _, r := range routes {
			if r.method != http.MethodGet {
				continue
			}
			a, whose := actor{name: t.owner.name, token: t.owner.token}, t
			if r.tenantFrom == "platform" {
				a = actor{name: w.admin.name, token: w.admin.token}
				whose = &tenant{id: t.id, ids: map[string]string{"person": t.ids["person"], "membership": text(first, "id"), "mapping": t.ids["mapping"], "letter": t.ids["letter"]}}
			}
			res := w.send(r.method, r.fill(t, whose), "", a, nil, nil)
			if res.status != http.StatusOK {
				s.find(Finding{r.operation, a.name, atHome, fmt.Sprintf("%d to who may read it: %s", res.status, res.text)})
			}
			if r.object == "dead-letter" && strings.Contains(res.text, "canary") {
				s.find(Finding{r.operation, a.name, atHome, "it shows what a dead letter holds"})
			}
		}
	}
}

// member is a text of the answer's body.
func (a answer) member(name string) string {
	var v object
	if json.Unmarshal([]byte(a.text), &v) != nil {
		return ""
	}
	return text(v, name)
}
