package httpapi

import (
	"fmt"
	"strings"
	"testing"
)

// Mappings are the platform's: made, listed, read and taken away by those who run it, and told of in the tenant's own log.
func TestThePlatformSaysWhoseAnApplicationIs(t *testing.T) {
	h := newHouse(t)
	admin, other := h.as(h.owner[0]), h.as(h.owner[1])
	src := admin.call("POST", h.at(0, "/sources"), `{"name":"s","format":"chirpstack"}`).ok(201).str("id")
	theirs := other.call("POST", h.at(1, "/sources"), `{"name":"s","format":"chirpstack"}`).ok(201).str("id")
	const at = "/v1/platform/mappings"
	body := func(connection, application string, tenant int, source string) string {
		return fmt.Sprintf(`{"connection":%q,"application_id":%q,"tenant_id":%q,"source_id":%q}`, connection, application, h.ten[tenant], source)
	}
	first := admin.call("POST", at, body("eu", "1", 0, src), "Idempotency-Key: a").ok(201)
	id := first.str("id")
	if got := first.Header().Get("Location"); got != at+"/"+id || first.str("connection") != "eu" || first.str("application_id") != "1" || first.str("tenant_id") != h.ten[0] || first.str("source_id") != src {
		t.Errorf("%s: %s", got, first.Body)
	}
	if again := admin.call("POST", at, body("eu", "1", 0, src), "Idempotency-Key: a").ok(201); again.str("id") != id || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("a repeat: %s", again.Body)
	}
	admin.call("POST", at, body("eu", "1", 1, theirs)).names(409, "taken", "/application_id", "already")
	admin.call("POST", at, body("eu", "2", 0, theirs)).names(422, "unknown_reference", "/source_id", "")
	admin.call("POST", at, body("eu", "2", 0, "x")).names(422, "bad_id", "/source_id", "")
	admin.call("POST", at, strings.Replace(body("eu", "2", 0, src), h.ten[0], missing("id"), 1)).names(422, "unknown_reference", "/tenant_id", "")
	admin.call("POST", at, body("eu/1", "2", 0, src)).names(422, "bad_connection", "/connection", "")
	admin.call("POST", at, body("eu", "a/b", 0, src)).names(422, "bad_application", "/application_id", "")
	other.call("POST", at, body("eu", "2", 1, theirs)).names(403, "permission_denied", "", "platform-connection:write")
	other.call("GET", at, "").names(403, "permission_denied", "", "platform-connection:read")
	other.call("GET", at+"/"+id, "").bad(404, "not_found")
	other.call("DELETE", at+"/"+id, "", one1).bad(404, "not_found")

	second := admin.call("POST", at, body("eu", "2", 1, theirs)).ok(201).str("id")
	third := admin.call("POST", at, body("eu-2", "1", 0, src)).ok(201).str("id")
	for query, want := range map[string]string{
		"": third + " " + second + " " + id, "?connection=eu": second + " " + id, "?connection=us": "", "?tenant_id=" + h.ten[0]: third + " " + id, "?connection=eu&tenant_id=" + h.ten[0]: id,
	} {
		if got := admin.call("GET", at+query, "").items("id"); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	admin.call("GET", at+"?tenant_id=x", "").names(422, "bad_id", "/query/tenant_id", "")
	admin.call("DELETE", at+"/"+id, "").bad(428, "precondition_required")
	admin.call("DELETE", at+"/"+id, "", `If-Match: "2"`).bad(412, "stale_revision")
	admin.call("DELETE", at+"/"+id, "", one1).ok(204)
	admin.call("GET", at+"/"+id, "").bad(404, "not_found")
	admin.call("DELETE", at+"/"+id, "", one1).bad(404, "not_found")
	if told := h.told(id); len(told) != 2 || !strings.HasPrefix(told[0], "mapping_deleted connection:eu> ") || !strings.HasPrefix(told[1], "mapping_created connection:>eu application:>sha256") || strings.Contains(told[1], "tenant") {
		t.Errorf("the tenant's log: %q", told)
	}
	if log := admin.call("GET", "/v1/platform/audit/entries?target="+id, "").items("action"); log != "mapping_deleted mapping_created" {
		t.Errorf("the platform's log: %s", log)
	}
}
