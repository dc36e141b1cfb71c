package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/tenant"
)

func TestEachLimitHasItsField(t *testing.T) {
	fields, limits := reflect.TypeFor[LimitFields[grantable]](), reflect.TypeFor[tenant.Limits]()
	if fields.NumField() != limits.NumField() {
		t.Errorf("%d fields for %d limits", fields.NumField(), limits.NumField())
	}
	for i := range limits.NumField() {
		if _, ok := fields.FieldByName(limits.Field(i).Name); !ok {
			t.Errorf("%s cannot be granted", limits.Field(i).Name)
		}
	}
}

// What the platform grants is in force at the tenant's next request, for the tenant alone, and null takes it back.
func TestGrantedLimitsAreInForceAtOnceAndForOneTenant(t *testing.T) {
	h := newHouse(t)
	admin, own, other := h.as(h.owner[0]), h.as(h.owner[0]), h.as(h.owner[1])
	at := "/v1/platform/tenants/" + h.ten[0] + "/limits"
	grant := func(rev int, body string) reply {
		t.Helper()
		return admin.call("PATCH", at, body, fmt.Sprintf(`If-Match: "%d"`, rev))
	}
	first := admin.call("GET", at, "").ok(200)
	if etag := first.Header().Get("ETag"); etag != `"1"` || !strings.Contains(first.Body.String(), `"devices":null`) || !strings.Contains(first.Body.String(), `"devices":100000`) {
		t.Errorf("nothing granted: %s %s", etag, first.Body)
	}
	grant(1, `{"devices":-1}`).bad(422, "invalid")
	grant(1, `{"devices":10000001}`).bad(422, "bad_limit")
	grant(1, `{"nodes":2001}`).bad(422, "bad_limit")
	grant(1, `{"device":1}`).bad(422, "invalid")
	grant(2, `{"devices":1}`).bad(412, "stale_revision")
	admin.call("PATCH", at, `{"devices":1}`).bad(428, "precondition_required")
	other.call("GET", at, "").bad(404, "not_found") // design.md §6: who may not read it is not told that it is there
	admin.call("GET", strings.Replace(at, h.ten[0], "ten_"+strings.Repeat("01", 13)[:25]+"0", 1), "").bad(404, "not_found")

	device := func(c caller, tenant int, serial string) reply {
		return c.call("POST", h.at(tenant, "/devices"), fmt.Sprintf(`{"name":"d","addresses":[{"kind":"serial","value":%q}]}`, serial))
	}
	grant(1, `{"devices":1,"fuel_per_minute":77}`).ok(200)
	device(own, 0, "1").ok(201)
	device(own, 0, "2").bad(409, "quota_exceeded")
	device(other, 1, "1").ok(201)
	device(other, 1, "2").ok(201)
	grant(2, `{"devices":2}`).ok(200)
	device(own, 0, "2").ok(201)
	if got := admin.call("GET", at, "").ok(200).Body.String(); strings.Count(got, `"fuel_per_minute":77`) != 2 {
		t.Errorf("what a patch does not name is lost: %s", got)
	}
	grant(3, `{"devices":null}`).ok(200)
	device(own, 0, "3").ok(201)

	source := own.call("POST", h.at(0, "/sources"), `{"name":"s","format":"plain"}`).ok(201).str("id")
	key := own.call("POST", h.at(0, "/sources/"+source+"/keys"), `{"name":"k"}`).ok(201).str("secret")
	send := func(n int) reply {
		return h.as(key).call("POST", "/v1/ingest/plain", fmt.Sprintf(`{"device":"70b3d57ed0000001","payload":"AQID","id":"%d"}`, n))
	}
	send(1).ok(202)
	grant(4, `{"backlog":1}`).ok(200)
	send(2).bad(429, "limited_backlog")
	on := h.stop()
	grant(5, `{"backlog":null,"source_rate":1,"source_burst":1}`).ok(200)
	refused := 0
	for n := 3; n < 6; n++ {
		if send(n).Code == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 2 {
		t.Error("three events at once under a burst of one")
	}
	grant(6, `{"tenant_rate":1}`).ok(200)
	codes := map[int]int{}
	for range 3 {
		codes[own.call("GET", h.at(0, ""), "").Code]++
	}
	if codes[429] == 0 || other.call("GET", h.at(1, ""), "").Code != 200 {
		t.Errorf("a tenant with one request a second: %v", codes)
	}
	on()
	grant(7, `{"tenant_rate":null}`).ok(200)
	for _, log := range []string{"/v1/platform/audit/entries?limit=200", h.at(0, "/audit/entries?limit=200")} {
		if got := admin.call("GET", log, "").ok(200).Body.String(); strings.Count(got, `"tenant_limits_changed"`) != 7 {
			t.Errorf("%s does not tell of seven changes: %s", log, got)
		}
	}
}

// While a tenant has no owner the platform may invite one anew, and earlier links are void; then it has no way in.
func TestTheFirstOwnerIsInvitedAnewWhileThereIsNone(t *testing.T) {
	h := newHouse(t)
	admin := h.as(h.owner[0])
	made := admin.call("POST", "/v1/platform/tenants", `{"name":"C","owner_email":"wrong@example.com"}`).ok(201)
	at := "/v1/platform/tenants/" + made.str("id") + "/invite-owner"
	again := admin.call("POST", at, `{"owner_email":"cid@example.com"}`, "Idempotency-Key: 1").ok(201)
	replay := admin.call("POST", at, `{"owner_email":"cid@example.com"}`, "Idempotency-Key: 1").ok(201)
	if replay.str("id") != again.str("id") || strings.Contains(replay.Body.String(), `"secret":"`) || again.str("secret") == "" {
		t.Errorf("first %s, again %s", again.Body, replay.Body)
	}
	accept := func(secret string) reply {
		return h.as("").call("POST", "/v1/auth/invitations/accept", fmt.Sprintf(`{"token":%q,"name":"Cid","password":%q}`, secret, password))
	}
	accept(made.str("owner_invitation", "secret")).bad(404, "bad_link")
	h.as(h.owner[1]).call("POST", at, `{"owner_email":"x@example.com"}`).bad(404, "not_found")
	admin.call("POST", at, `{"owner_email":"no address"}`).bad(422, "bad_email")
	accept(again.str("secret")).ok(201)
	admin.call("POST", at, `{"owner_email":"wrong@example.com"}`).bad(409, "has_owner")
	admin.call("POST", "/v1/platform/tenants/"+h.ten[1]+"/invite-owner", `{"owner_email":"wrong@example.com"}`).bad(409, "has_owner")
}

func TestAPlatformIsNeverWithoutAnAdministrator(t *testing.T) {
	h := newHouse(t)
	admin, ben := h.as(h.owner[0]), h.as(h.owner[1])
	const at = "/v1/platform/memberships"
	me := ben.call("GET", "/v1/me", "").ok(200).str("id")
	only := admin.call("GET", at, "").ok(200)
	var page struct{ Items []membershipJSON }
	decode(t, only, &page)
	if len(page.Items) != 1 {
		t.Fatalf("%s", only.Body)
	}
	first := at + "/" + page.Items[0].ID
	ben.call("GET", at, "").bad(403, "permission_denied")
	ben.call("POST", at, fmt.Sprintf(`{"principal_id":%q}`, me)).bad(403, "permission_denied")
	admin.call("DELETE", first, "", `If-Match: "1"`).bad(409, "last_owner")
	admin.call("POST", at, fmt.Sprintf(`{"principal_id":%q,"expires_at":"2020-01-01T00:00:00Z"}`, me)).bad(422, "bad_expiry")

	passing := admin.call("POST", at, fmt.Sprintf(`{"principal_id":%q,"expires_at":"2999-01-01T00:00:00Z"}`, me)).ok(201)
	admin.call("POST", at, fmt.Sprintf(`{"principal_id":%q}`, me)).bad(409, "taken")
	ben.call("GET", at, "").ok(200)
	admin.call("DELETE", first, "", `If-Match: "1"`).bad(409, "last_owner") // whose membership ends is nobody to rely on
	admin.call("DELETE", at+"/"+passing.str("id"), "").bad(428, "precondition_required")
	admin.call("DELETE", at+"/"+passing.str("id"), "", `If-Match: "1"`).ok(204)
	ben.call("GET", at, "").bad(403, "permission_denied")

	admin.call("POST", at, fmt.Sprintf(`{"principal_id":%q}`, me)).ok(201)
	ben.call("GET", first, "").ok(200)
	ben.call("DELETE", first, "", `If-Match: "1"`).ok(204)
	admin.call("GET", at, "").bad(403, "permission_denied")
}

func decode(t testing.TB, r reply, into any) {
	t.Helper()
	if err := json.Unmarshal(r.Body.Bytes(), into); err != nil {
		t.Fatal(err)
	}
}
