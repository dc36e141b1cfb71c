package main

import (
	"net/http"
	"strconv"
	"testing"
	"time"
)

// world1 is a server with a platform administrator and one tenant.
func world1(t *testing.T, settings ...string) (s *story, admin string, ten *demoTenant) {
	t.Helper()
	s, setup := served(t, settings...)
	return begun(t, s, setup)
}

// begun is a server that was set up, with a first tenant.
func begun(t *testing.T, s *story, setup string) (_ *story, admin string, ten *demoTenant) {
	t.Helper()
	admin, err := s.platform(setup)
	if err != nil {
		t.Fatal(err)
	}
	if ten, err = s.tenant(admin, "Acme Water", "ana@acme.example"); err != nil {
		t.Fatal(err)
	}
	return s, admin, ten
}

func (s *story) signIn(t *testing.T, email string) reply {
	t.Helper()
	r := s.post("", "/v1/auth/login", obj{"email": email, "password": demoPassword, "mode": "token"})
	if r.status != 200 {
		t.Fatalf("sign-in: %d %s", r.status, r.text)
	}
	return r
}

func status(t *testing.T, what string, r reply, want int) {
	t.Helper()
	if r.err != nil || r.status != want {
		t.Errorf("%s: %d, want %d: %s %v", what, r.status, want, r.text, r.err)
	}
}

func TestAStolenRefreshTokenEndsItsFamily(t *testing.T) {
	s, _, _ := world1(t)
	first := s.signIn(t, "ana@acme.example")
	second := s.post("", "/v1/auth/refresh", obj{"refresh_token": first.str("refresh_token")})
	status(t, "the first use", second, 200)
	status(t, "the new access token", s.get(second.str("access_token"), "/v1/me"), 200)
	other := s.signIn(t, "ana@acme.example")

	status(t, "a second use of a spent token", s.post("", "/v1/auth/refresh", obj{"refresh_token": first.str("refresh_token")}), 401)
	status(t, "the family's access token", s.get(second.str("access_token"), "/v1/me"), 401)
	status(t, "the family's next refresh token", s.post("", "/v1/auth/refresh", obj{"refresh_token": second.str("refresh_token")}), 401)
	status(t, "another sign-in of the same person", s.get(other.str("access_token"), "/v1/me"), 200)
	status(t, "an access token for a refresh token", s.post("", "/v1/auth/refresh", obj{"refresh_token": other.str("access_token")}), 401)
	status(t, "a refresh token for an access token", s.get(other.str("refresh_token"), "/v1/me"), 401)
}

func TestAFailedSignInSaysNothingAboutTheName(t *testing.T) {
	s, _, _ := world1(t)
	wrong := s.post("", "/v1/auth/login", obj{"email": "ana@acme.example", "password": "not the password at all"})
	unknown := s.post("", "/v1/auth/login", obj{"email": "nobody@acme.example", "password": "not the password at all"})
	status(t, "a wrong password", wrong, 401)
	if wrong.without("request_id") != unknown.without("request_id") || wrong.status != unknown.status {
		t.Errorf("a wrong password and an unknown name are told apart:\n%s\n%s", wrong.text, unknown.text)
	}
	var held reply
	for _, long := range []int{1, 8, 64} { // a machine that does much else may take longer for a password than the name is held
		s.failUntilHeld(t, long)
		if held = s.post("", "/v1/auth/login", obj{"email": "ana@acme.example", "password": demoPassword}); held.status != http.StatusOK {
			break
		}
	}
	status(t, "the right password while it is throttled", held, http.StatusTooManyRequests)
	if held.header.Get("Retry-After") == "" {
		t.Error("nobody says when to come back")
	}
}

// failUntilHeld shows a wrong password, under a variant of the name, which counts with it, until the name is held for so many seconds.
func (s *story) failUntilHeld(t *testing.T, long int) {
	t.Helper()
	for range 20 {
		r := s.post("", "/v1/auth/login", obj{"email": " ANA@acme.example", "password": "not the password at all"})
		if r.status == http.StatusUnauthorized {
			continue
		}
		seconds, err := strconv.Atoi(r.header.Get("Retry-After"))
		if r.status != http.StatusTooManyRequests || err != nil {
			t.Fatalf("a wrong password: %d %s, %v", r.status, r.text, err)
		}
		if seconds >= long {
			return
		}
		<-time.After(time.Duration(seconds) * time.Second)
	}
	t.Fatalf("20 wrong passwords, and the name is not held for %d s", long)
}

func TestOffIsOff(t *testing.T) {
	s, admin, ten := world1(t)
	at := "/v1/tenants/" + ten.id
	me := s.get(ten.token, "/v1/me").str("id")
	pat := s.post(ten.token, at+"/tokens", obj{"name": "report", "permissions": []string{"device:read"}})
	status(t, "a personal access token", s.get(pat.str("secret"), at+"/devices"), 200)
	status(t, "what it was not given", s.get(pat.str("secret"), at+"/nodes"), 403)

	src := s.get(ten.token, at+"/sources/"+ten.source)
	status(t, "switching the source off", s.call(http.MethodPatch, ten.token, at+"/sources/"+ten.source, obj{"state": "disabled"}, src.header.Get("ETag")), 200)
	status(t, "the key of a source that is off", s.post(ten.key, "/v1/ingest/chirpstack", chirpStack(ten.id, ten.devEUI, 1)), 401)

	status(t, "suspending the tenant", s.post(admin, "/v1/platform/tenants/"+ten.id+"/suspend", nil), 200)
	suspended := s.get(ten.token, at+"/devices")
	status(t, "a member of a suspended tenant", suspended, 403)
	if suspended.code() != "tenant_suspended" {
		t.Errorf("the reason: %s", suspended.text)
	}
	status(t, "a stranger of a suspended tenant", s.get(admin, at+"/devices"), 404)
	status(t, "resuming it", s.post(admin, "/v1/platform/tenants/"+ten.id+"/resume", nil), 200)
	status(t, "a member again", s.get(ten.token, at+"/devices"), 200)

	status(t, "disabling the person", s.post(admin, "/v1/platform/persons/"+me+"/disable", nil), 200)
	status(t, "their session", s.get(ten.token, at+"/devices"), 401)
	status(t, "their token", s.get(pat.str("secret"), at+"/devices"), 401)
	status(t, "their password", s.post("", "/v1/auth/login", obj{"email": "ana@acme.example", "password": demoPassword}), 401)
	status(t, "enabling them", s.post(admin, "/v1/platform/persons/"+me+"/enable", nil), 200)
	status(t, "the old session", s.get(ten.token, at+"/devices"), 401)
	status(t, "the old token", s.get(pat.str("secret"), at+"/devices"), 401)
	status(t, "a new session", s.get(s.signIn(t, "ana@acme.example").str("access_token"), at+"/devices"), 200)
}

func TestAResetLinkIsNoWayIntoAnotherTenant(t *testing.T) {
	s, admin, acme := world1(t)
	brook, err := s.tenant(admin, "Brook Energy", "ben@brook.example")
	if err != nil {
		t.Fatal(err)
	}
	role := func(ten *demoTenant, name string) string {
		for _, r := range s.get(ten.token, "/v1/tenants/"+ten.id+"/roles").list("items") {
			if r["name"] == name {
				id, _ := r["id"].(string)
				return id
			}
		}
		t.Fatalf("no role %s", name)
		return ""
	}
	inv := s.post(brook.token, "/v1/tenants/"+brook.id+"/invitations", obj{"email": "ana@acme.example", "role_id": role(brook, "viewer"), "recursive": true})
	status(t, "inviting somebody of another tenant", inv, 201)
	status(t, "accepting while signed in", s.post(acme.token, "/v1/auth/invitations/accept", obj{"token": inv.str("secret")}), 201)
	ana := s.get(acme.token, "/v1/me").str("id")
	refused := s.post(brook.token, "/v1/tenants/"+brook.id+"/members/"+ana+"/reset", nil)
	status(t, "a reset link for somebody who belongs elsewhere too", refused, 403)
	if refused.code() != "ask_the_platform" || refused.str("secret") != "" {
		t.Errorf("%s", refused.text)
	}
	link := s.post(admin, "/v1/platform/persons/"+ana+"/reset", nil)
	status(t, "the platform's own", link, 200)
	status(t, "a weak new password", s.post("", "/v1/auth/reset", obj{"token": link.str("secret"), "password": "passwordpassword"}), 422)
	status(t, "using it", s.post("", "/v1/auth/reset", obj{"token": link.str("secret"), "password": "another four random words"}), 204)
	status(t, "using it twice", s.post("", "/v1/auth/reset", obj{"token": link.str("secret"), "password": "yet another four words"}), 404)
	status(t, "the session from before", s.get(acme.token, "/v1/me"), 401)
	status(t, "the old password", s.post("", "/v1/auth/login", obj{"email": "ana@acme.example", "password": demoPassword}), 401)
}

func TestNobodyGrantsWhatTheyLackAndTheLastOwnerStays(t *testing.T) {
	s, _, ten := world1(t)
	at := "/v1/tenants/" + ten.id
	roles := map[string]string{}
	for _, r := range s.get(ten.token, at+"/roles").list("items") {
		name, _ := r["name"].(string)
		roles[name], _ = r["id"].(string)
	}
	inv := s.post(ten.token, at+"/invitations", obj{"email": "adam@acme.example", "role_id": roles["admin"], "recursive": true})
	status(t, "accepting", s.post("", "/v1/auth/invitations/accept", obj{"token": inv.str("secret"), "name": "Adam", "password": demoPassword}), 201)
	adam := s.signIn(t, "adam@acme.example").str("access_token")
	self := s.get(adam, "/v1/me").str("id")
	refused := s.post(adam, at+"/memberships", obj{"principal_id": self, "role_id": roles["owner"], "node_id": ten.root, "recursive": true})
	status(t, "an admin who makes themselves owner", refused, 403)
	if refused.str("permission") != "ownership:grant" {
		t.Errorf("the missing permission: %s", refused.text)
	}
	status(t, "an admin who invites an owner", s.post(adam, at+"/invitations", obj{"email": "x@acme.example", "role_id": roles["owner"], "recursive": true}), 403)
	status(t, "a role with what an admin lacks", s.post(adam, at+"/roles", obj{"name": "more", "permissions": []string{"tenant:close"}}), 403)
	status(t, "a role of the platform's", s.post(ten.token, at+"/roles", obj{"name": "more", "permissions": []string{"platform-tenant:read"}}), 422)
	for _, m := range s.get(ten.token, at+"/memberships").list("items") {
		if m["role_id"] != roles["owner"] {
			continue
		}
		id, _ := m["id"].(string)
		status(t, "an admin who revokes the owner", s.call(http.MethodDelete, adam, at+"/memberships/"+id, nil, `"1"`), 403)
		last := s.call(http.MethodDelete, ten.token, at+"/memberships/"+id, nil, `"1"`)
		status(t, "the last owner's own membership", last, 409)
		if last.code() != "last_owner" {
			t.Errorf("%s", last.text)
		}
	}
}
