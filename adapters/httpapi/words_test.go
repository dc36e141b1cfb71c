package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/access"
)

func TestAProblemSaysWhatIsTrue(t *testing.T) {
	h := newHouse(t)
	a, b := h.as(h.owner[0]), h.as(h.owner[1])
	role := h.at(0, "/roles/"+access.Admin.String())
	for _, tag := range []string{`"0"`, `"1"`, "*"} {
		a.call("PATCH", role, `{"name":"x"}`, "If-Match: "+tag).bad(409, "built_in_role")
		a.call("DELETE", role, "", "If-Match: "+tag).bad(409, "built_in_role")
	}
	change := func(present, next string) reply {
		return a.call("POST", "/v1/me/password", fmt.Sprintf(`{"password":%q,"new_password":%q}`, present, next))
	}
	change(password, "password1234").names(422, "weak_password", "/new_password", "")
	change("another horse battery", "four other random words").names(401, "wrong_password", "/password", "present password")

	site := h.node(h.root[0], "site", "s")
	for _, tag := range []string{"abc", "*", `W/"1"`, `"1", "2"`, `"`, "1"} {
		a.call("PATCH", h.at(0, "/nodes/"+site), `{"name":"x"}`, "If-Match: "+tag).names(400, "bad_if_match", "", "one strong ETag")
	}
	for _, tag := range []string{`"0"`, `"7"`, `"01"`, `"abc"`} {
		a.call("PATCH", h.at(0, "/nodes/"+site), `{"name":"x"}`, "If-Match: "+tag).bad(412, "stale_revision")
	}
	building := h.node(site, "building", "b")
	a.call("POST", h.at(0, "/nodes/"+site+"/move"), fmt.Sprintf(`{"parent_id":%q}`, building), one1).names(422, "inverted_kind", "/parent_id", "")

	twice := `[{"kind":"serial","value":"1"},{"kind":"dev_eui","value":"70b3d57ed0000001"},{"kind":"serial","value":"1"}]`
	a.call("POST", h.at(0, "/devices"), `{"name":"x","addresses":`+twice+`}`).names(422, "bad_addresses", "/addresses/2", "")
	b.call("GET", "/v1/platform/tenants", "").names(403, "permission_denied", "", "administrator of the platform")
	pat := a.call("POST", h.at(0, "/tokens"), `{"name":"t","permissions":["token:read"]}`).ok(201).str("secret")
	h.as(pat).call("POST", h.at(0, "/tokens"), `{"name":"t","permissions":["token:read"]}`).bad(403, "person_needed")
	a.call("POST", h.at(0, "/tokens"), `{"name":"t","permissions":["token:read"],"ttl_seconds":99999999}`).names(422, "invalid", "/ttl_seconds", "7776000")
	a.call("POST", h.at(0, "/imports"), `{"csv":"name,serial`+strings.Repeat(`\nx,1`, 1_001)+`"}`).names(422, "bad_csv", "/csv", "1000 rows")
	a.call("GET", "/v1/me?x=1", "").names(422, "invalid", "/query", "takes no parameters")
	for _, q := range []string{"/devices?decoder_id=x", "/devices?node_id=x", "/readings?from=x", "/uplinks?source_id=x", "/outcomes?event_id=x", "/audit/entries?org=x", "/devices?limit=x"} {
		_, name, _ := strings.Cut(q, "?")
		w := a.call("GET", h.at(0, q), "")
		if w.Code != 422 || !strings.Contains(w.Body.String(), `"pointer":"/query/`+strings.TrimSuffix(name, "=x")+`"`) {
			t.Errorf("%s: %s", q, w.Body)
		}
	}
}

func TestAPatchThatChangesNothingMakesNoRevisionAndNoEntry(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	site := h.node(h.root[0], "site", "s")
	make1 := func(what, body string) string {
		return h.at(0, what+"/"+a.call("POST", h.at(0, what), body).ok(201).str("id"))
	}
	quiet := func(method, at, body string) {
		t.Helper()
		target := at[strings.LastIndex(strings.TrimSuffix(at, "/move"), "/")+1:][:30]
		before := len(h.told(target))
		if got := a.call(method, at, body, one1).ok(200).Header().Get("Etag"); got != one1[len("If-Match: "):] || len(h.told(target)) != before {
			t.Errorf("%s %s %s: %s and %d entries more", method, at, body, got, len(h.told(target))-before)
		}
	}
	for at, same := range map[string]string{
		h.at(0, ""):                      `{"name":"A"}`,
		h.at(0, "/nodes/"+site):          `{"name":"s","barrier":false}`,
		make1("/groups", `{"name":"g"}`): `{"name":"g","member_ids":[]}`,
		make1("/roles", `{"name":"r","permissions":["node:read"]}`):                   `{"permissions":["node:read"]}`,
		make1("/decoders", `{"name":"d"}`):                                            `{"name":"d"}`,
		make1("/sources", `{"name":"q","format":"plain"}`):                            `{"name":"q","state":"active","device_ids":[]}`,
		make1("/devices", `{"name":"x","addresses":[{"kind":"serial","value":"1"}]}`): `{"name":"x","variables":[]}`,
	} {
		quiet("PATCH", at, same)
		if at != h.at(0, "") && !strings.Contains(at, "/decoders/") {
			quiet("PATCH", at, `{}`)
		}
	}
	quiet("POST", h.at(0, "/nodes/"+site+"/move"), fmt.Sprintf(`{"parent_id":%q}`, h.root[0]))
	limits := "/v1/platform/tenants/" + h.ten[1] + "/limits"
	if got := a.call("PATCH", limits, `{"devices":null}`, one1).ok(200).Header().Get("Etag"); got != `"1"` {
		t.Errorf("limits: %s", got)
	}
}

func TestABuiltInRoleWasNeverMade(t *testing.T) {
	h := newHouse(t)
	w := h.as(h.owner[0]).call("GET", h.at(0, "/roles/"+access.Admin.String()), "").ok(200)
	if !strings.Contains(w.Body.String(), `"created_at":null`) || !strings.Contains(w.Body.String(), `"updated_at":null`) || strings.Contains(w.Body.String(), "0001-01-01") {
		t.Errorf("%s", w.Body)
	}
}
