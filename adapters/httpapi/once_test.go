package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// That every operation honours the key, and records nothing the second time, is audittest's.
func TestAnActionThatIsRepeatedIsDoneOnceAndAnswersWhatThereIs(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	site := h.node(h.root[0], "site", "s")
	dev := a.call("POST", h.at(0, "/devices"), `{"name":"x","addresses":[{"kind":"serial","value":"1"}]}`).ok(201).str("id")
	at, body := h.at(0, "/devices/"+dev), fmt.Sprintf(`{"node_id":%q}`, site)

	a.call("POST", at+"/assign", body, "Idempotency-Key: k", `If-Match: "7"`).bad(412, "stale_revision") // refused: it claims nothing
	first := a.call("POST", at+"/assign", body, "Idempotency-Key: k", `If-Match: "1"`).ok(200)
	if first.Header().Get("Idempotency-Replayed") != "" {
		t.Error("the first is told as a repeat")
	}
	a.call("PATCH", at, `{"name":"y"}`, `If-Match: "2"`).ok(200)
	again := a.call("POST", at+"/assign", body, "Idempotency-Key: k", `If-Match: "1"`).ok(200)
	if again.Header().Get("Idempotency-Replayed") != "true" || again.Header().Get("Etag") != `"3"` || again.str("name") != "y" {
		t.Errorf("%v %s", again.Header(), again.Body)
	}
	a.call("POST", at+"/assign", fmt.Sprintf(`{"node_id":%q}`, h.root[0]), "Idempotency-Key: k", `If-Match: "3"`).bad(422, "idempotency_key_reused")
	a.call("DELETE", at, "", `If-Match: "3"`).ok(204)
	a.call("POST", at+"/assign", body, "Idempotency-Key: k", `If-Match: "1"`).bad(404, "not_found")
}

func TestARepeatThatHidesASecretSaysHowToGetAnother(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	for path, body := range map[string]string{
		"/v1/platform/tenants":  `{"name":"C","owner_email":"cid@example.com"}`,
		h.at(0, "/invitations"): `{"email":"cid@example.com","role_id":"` + h.role("viewer") + `"}`,
		h.at(0, "/tokens"):      `{"name":"t","permissions":["device:read"]}`,
	} {
		first := a.call("POST", path, body, "Idempotency-Key: k").ok(201)
		again := a.call("POST", path, body, "Idempotency-Key: k").ok(201)
		text := again.Body.String()
		if !strings.Contains(first.Body.String(), `"secret":"rf_`) || strings.Contains(text, "rf_") || !strings.Contains(text, `"hint":"`) {
			t.Errorf("%s: first %s\nagain %s", path, first.Body, text)
		}
	}
}

// The session ends with the password: whoever repeats the request has signed in anew.
func TestAPasswordIsChangedOnce(t *testing.T) {
	h := newHouse(t)
	const next = "five other words entirely"
	body := fmt.Sprintf(`{"password":%q,"new_password":%q}`, password, next)
	h.as(h.owner[1]).call("POST", "/v1/me/password", body, "Idempotency-Key: k").ok(204)
	h.as(h.owner[1]).call("POST", "/v1/me/password", body, "Idempotency-Key: k").bad(401, "bad_credential")
	ben := h.as(h.as("").call("POST", "/v1/auth/login", fmt.Sprintf(`{"email":"ben@example.com","password":%q,"mode":"token"}`, next)).ok(200).str("access_token"))
	if again := ben.call("POST", "/v1/me/password", body, "Idempotency-Key: k").ok(204); again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("%v", again.Header())
	}
	ben.call("POST", "/v1/me/password", fmt.Sprintf(`{"password":%q,"new_password":%q}`, next, password), "Idempotency-Key: k").bad(422, "idempotency_key_reused")
	ben.call("GET", "/v1/me", "").ok(200)
}

// role is the id of a tenant's role.
func (h *house) role(name string) string {
	h.t.Helper()
	var page struct{ Items []roleJSON }
	if err := json.Unmarshal(h.as(h.owner[0]).call("GET", h.at(0, "/roles"), "").ok(200).Body.Bytes(), &page); err != nil {
		h.t.Fatal(err)
	}
	for _, r := range page.Items {
		if r.Name == name {
			return r.ID
		}
	}
	h.t.Fatalf("no role %s", name)
	return ""
}
