package httpapi

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/audit"
)

// items are one field of a list's items, in its order.
func (s reply) items(field string) string {
	s.h.t.Helper()
	var page struct{ Items []map[string]any }
	decode(s.h.t, s.ok(200), &page)
	var out []string
	for _, i := range page.Items {
		out = append(out, fmt.Sprint(i[field]))
	}
	return strings.Join(out, " ")
}

func TestTheLogIsAskedByPlace(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	site, other := h.node(h.root[0], "site", "s"), h.node(h.root[0], "site", "o")
	room := h.node(site, "zone", "r")
	for i, at := range []string{site, other, room} {
		a.call("POST", h.at(0, "/devices"), fmt.Sprintf(`{"name":"d%d","node_id":%q,"addresses":[{"kind":"serial","value":"%d"}]}`, i, at, i)).ok(201)
	}
	count := func(query string) int {
		return len(strings.Fields(a.call("GET", h.at(0, "/audit/entries?action=device_created"+query), "").items("seq")))
	}
	for org, want := range map[string]int{h.root[0]: 3, site: 2, room: 1, other: 1, h.root[1]: 0} {
		if got := count("&org=" + org); got != want {
			t.Errorf("at or below %s: %d, want %d", org, got, want)
		}
	}
	if got := count(""); got != 3 {
		t.Errorf("anywhere: %d", got)
	}
	a.call("GET", h.at(0, "/audit/entries?org="+canary), "").bad(422, "bad_id")
}

func TestTheLogKnowsItsOwnWordsAndOneSpellingOfANumber(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	file, err := parser.ParseFile(token.NewFileSet(), "../../core/audit/actions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			known++
			a.call("GET", h.at(0, "/audit/entries?limit=1&action="+strings.Trim(lit.Value, `"`)), "").ok(200)
		}
		return true
	})
	if known < 50 || known != len(audit.Actions()) {
		t.Errorf("%d actions are declared, %d listed", known, len(audit.Actions()))
	}
	for _, log := range []string{h.at(0, "/audit"), "/v1/platform/audit"} {
		a.call("GET", log+"/entries?action="+canary, "").bad(422, "invalid")
		for _, seq := range []string{"01", "00", "+1", "-0", "1.0", "1e0", "0x1", "1%20", canary, "18446744073709551616", "18446744073709551615"} {
			a.call("GET", log+"/entries/"+seq, "").bad(404, "not_found")
			a.call("GET", log+"/entries/"+seq+"/proof", "").bad(404, "not_found")
			a.call("GET", log+"/entries/"+seq+"/private", "").bad(404, "not_found")
		}
		a.call("GET", log+"/entries/1", "").ok(200)
	}
}

func TestTheBuiltInRolesArePagedLikeAllOthers(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	built := "owner admin operator viewer auditor"
	walk := func(limit int) (names string) {
		for cursor, more := "", true; more; {
			page := a.call("GET", h.at(0, fmt.Sprintf("/roles?limit=%d%s", limit, cursor)), "")
			got := page.items("name")
			if n := len(strings.Fields(got)); n == 0 || n > limit {
				t.Errorf("limit %d: a page of %d", limit, n)
			}
			names += " " + got
			cursor = page.str("next_cursor")
			more = cursor != ""
			cursor = "&cursor=" + cursor
		}
		return strings.TrimSpace(names)
	}
	for own, want := range []string{built, built + " one", built + " two one"} {
		for _, limit := range []int{1, 2, 4, 5, 6, 200} {
			if got := walk(limit); got != want {
				t.Errorf("%d own roles, limit %d: %q", own, limit, got)
			}
		}
		if own < 2 {
			a.call("POST", h.at(0, "/roles"), fmt.Sprintf(`{"name":%q,"permissions":["node:read"]}`, []string{"one", "two"}[own])).ok(201)
		}
	}
}

func TestWhatHasANameIsAskedByItWithinReachAlone(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	here, there := h.node(h.root[0], "site", "here"), h.node(h.root[0], "site", "there")
	for tenant, owner := range h.owner { // the other tenant has the same names
		for path, body := range map[string]string{
			"/nodes": `{"parent_id":"` + h.root[tenant] + `","kind":"site","name":"Pump é"}`, "/roles": `{"name":"Pump é","permissions":["node:read"]}`, "/groups": `{"name":"Pump é"}`,
			"/decoders": `{"name":"Pump é"}`, "/sources": `{"name":"Pump é","format":"plain"}`,
		} {
			h.as(owner).call("POST", h.at(tenant, path), body).ok(201)
		}
	}
	for path, others := range map[string]string{"/nodes": "here", "/roles": "viewer", "/groups": "", "/decoders": "", "/sources": ""} {
		if others != "" {
			if got := a.call("GET", h.at(0, path+"?name="+others), "").items("name"); got != others {
				t.Errorf("%s named %s: %q", path, others, got)
			}
		}
		for name, want := range map[string]string{"Pump%20%C3%A9": "Pump é", "pump%20%C3%A9": "", "Pump%20e%CC%81": "", "Pump": "", "%25": ""} {
			if got := a.call("GET", h.at(0, path+"?name="+name), "").items("name"); got != want {
				t.Errorf("%s named %s: %q, want %q", path, name, got, want)
			}
		}
		a.call("GET", h.at(0, path+"?name="), "").bad(400, "bad_query")
		a.call("GET", h.at(0, path+"?name="+strings.Repeat("a", 201)), "").bad(422, "invalid")
	}
	inv := a.call("POST", h.at(0, "/invitations"), fmt.Sprintf(`{"email":"ben@example.com","role_id":%q,"node_id":%q,"recursive":true}`, h.role("viewer"), here)).ok(201)
	h.as(h.owner[1]).call("POST", "/v1/auth/invitations/accept", fmt.Sprintf(`{"token":%q}`, inv.str("secret"))).ok(201)
	for place, node := range map[string]string{"here": here, "there": there} {
		a.call("POST", h.at(0, "/sources"), fmt.Sprintf(`{"name":%q,"format":"plain","node_id":%q}`, place, node)).ok(201)
		for _, path := range []string{"/nodes", "/sources"} {
			want := map[string]string{"here": "here"}[place]
			if got := h.as(h.owner[1]).call("GET", h.at(0, path+"?name="+place), "").items("name"); got != want {
				t.Errorf("at one site, %s named %s: %q", path, place, got)
			}
		}
	}
	for _, path := range []string{"/groups", "/decoders", "/roles"} {
		h.as(h.owner[1]).call("GET", h.at(0, path+"?name=here"), "").bad(403, "permission_denied")
	}
}

func TestMembersAreAskedByName(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	for name, want := range map[string]string{"Ana": "Ana", "ana": "", "Nobody": ""} {
		if got := a.call("GET", h.at(0, "/members?name="+name), "").items("name"); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestOnesOwnMembershipsAreListedThoseByGroupsToo(t *testing.T) {
	h := newHouse(t)
	a, ben := h.as(h.owner[0]), h.as(h.owner[1])
	me := ben.call("GET", "/v1/me", "").ok(200).str("id")
	inv := a.call("POST", h.at(0, "/invitations"), fmt.Sprintf(`{"email":"ben@example.com","role_id":%q}`, h.role("viewer"))).ok(201)
	ben.call("POST", "/v1/auth/invitations/accept", fmt.Sprintf(`{"token":%q}`, inv.str("secret"))).ok(201)
	crew := a.call("POST", h.at(0, "/groups"), fmt.Sprintf(`{"name":"crew","member_ids":[%q]}`, me)).ok(201).str("id")
	outer := a.call("POST", h.at(0, "/groups"), fmt.Sprintf(`{"name":"outer","group_ids":[%q]}`, crew)).ok(201).str("id")
	a.call("POST", h.at(0, "/groups"), `{"name":"others"}`).ok(201)
	grant := func(group, role, more string) {
		a.call("POST", h.at(0, "/memberships"), fmt.Sprintf(`{"group_id":%q,"role_id":%q,"node_id":%q%s}`, group, h.role(role), h.root[0], more)).ok(201)
	}
	grant(crew, "operator", `,"expires_at":"2999-01-01T00:00:00Z"`)
	grant(outer, "auditor", `,"recursive":true`)

	list := ben.call("GET", "/v1/me/memberships", "")
	for field, want := range map[string]string{
		"role_name": "auditor operator viewer owner", "tenant_id": strings.Join([]string{h.ten[0], h.ten[0], h.ten[0], h.ten[1]}, " "),
		"group_id": outer + " " + crew + " <nil> <nil>", "recursive": "true false false true", "expires_at": "<nil> 2999-01-01T00:00:00.000000Z <nil> <nil>",
		"node_id": strings.Join([]string{h.root[0], h.root[0], h.root[0], h.root[1]}, " "),
	} {
		if got := list.items(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	pat := ben.call("POST", h.at(1, "/tokens"), `{"name":"t","permissions":["device:read"]}`).ok(201).str("secret")
	h.as(pat).call("GET", "/v1/me/memberships", "").bad(403, "person_needed")
	h.as("").call("GET", "/v1/me/memberships", "").bad(401, "bad_credential")
	a.call("DELETE", h.at(0, "/members/"+me), "", `If-Match: "1"`).ok(204)
	if got := ben.call("GET", "/v1/me/memberships", "").items("role_name"); got != "owner" {
		t.Errorf("after leaving: %q", got)
	}
	h.as(h.owner[0]).call("POST", "/v1/platform/tenants/"+h.ten[1]+"/suspend", "").ok(200)
	if got := ben.call("GET", "/v1/me/memberships", "").items("role_name"); got != "" {
		t.Errorf("of a suspended tenant: %q", got)
	}
}

func TestOnesOwnTokensOfAllTenantsStandBelowMe(t *testing.T) {
	h := newHouse(t)
	ana, ben := h.as(h.owner[0]), h.as(h.owner[1])
	inv := ana.call("POST", h.at(0, "/invitations"), fmt.Sprintf(`{"email":"ben@example.com","role_id":%q,"recursive":true}`, h.role("admin"))).ok(201)
	ben.call("POST", "/v1/auth/invitations/accept", fmt.Sprintf(`{"token":%q}`, inv.str("secret"))).ok(201)
	token := func(c caller, tenant int, name string) (id, secret string) {
		r := c.call("POST", h.at(tenant, "/tokens"), fmt.Sprintf(`{"name":%q,"permissions":["device:read"]}`, name)).ok(201)
		return r.str("id"), r.str("secret")
	}
	anas, _ := token(ana, 0, "ana's")
	there, _ := token(ben, 0, "there")
	home, secret := token(ben, 1, "home")

	list := ben.call("GET", "/v1/me/tokens", "")
	for field, want := range map[string]string{"name": "home there", "tenant_id": h.ten[1] + " " + h.ten[0], "id": home + " " + there, "secret": "<nil> <nil>"} {
		if got := list.items(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	page := ben.call("GET", "/v1/me/tokens?limit=1", "")
	if got := page.items("name") + ben.call("GET", "/v1/me/tokens?limit=1&cursor="+page.str("next_cursor"), "").items("name"); got != "homethere" {
		t.Errorf("by pages: %q", got)
	}
	first := `If-Match: "1"`
	ben.call("DELETE", "/v1/me/tokens/"+anas, "", first).bad(404, "not_found") // though an admin could, in the tenant
	ben.call("DELETE", "/v1/me/tokens/"+home, "").bad(428, "precondition_required")
	ben.call("DELETE", "/v1/me/tokens/"+home, "", `If-Match: "2"`).bad(412, "stale_revision")
	ben.call("DELETE", "/v1/me/tokens/"+canary, "", first).bad(404, "not_found")
	h.as(secret).call("GET", "/v1/me/tokens", "").bad(403, "person_needed")
	h.as(secret).call("DELETE", "/v1/me/tokens/"+there, "", first).bad(403, "person_needed")
	h.as("").call("GET", "/v1/me/tokens", "").bad(401, "bad_credential")
	ana.call("POST", "/v1/platform/tenants/"+h.ten[1]+"/suspend", "").ok(200)
	if got := ben.call("GET", "/v1/me/tokens", "").items("name"); got != "there" {
		t.Errorf("one tenant is suspended: %q", got)
	}
	ben.call("DELETE", "/v1/me/tokens/"+home, "", first).bad(403, "tenant_suspended")
	ana.call("POST", "/v1/platform/tenants/"+h.ten[1]+"/resume", "").ok(200)
	ben.call("DELETE", "/v1/me/tokens/"+home, "", first).ok(204)
	h.as(secret).call("GET", h.at(1, "/devices"), "").bad(401, "bad_credential")
	if got := ben.call("GET", "/v1/me/tokens", "").items("name"); got != "there" {
		t.Errorf("one is over: %q", got)
	}
	if got := ben.call("GET", h.at(1, "/audit/entries?action=authn_token_revoked"), "").items("seq"); len(strings.Fields(got)) != 1 {
		t.Errorf("its end is recorded in its tenant: %q", got)
	}
}
