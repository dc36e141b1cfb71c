package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Every kind of credential is held to every door that takes one: its own opens, all others are shut, and say nothing of why.
func TestEachKindOfTokenOpensItsOwnDoorAlone(t *testing.T) {
	s, admin, ten := world1(t)
	at := "/v1/tenants/" + ten.id
	bearer := func(path string) func(string) reply {
		return func(token string) reply { return s.get(token, path) }
	}
	posted := func(path, member string, rest obj) func(string) reply {
		return func(token string) reply {
			body := obj{member: token}
			for k, v := range rest {
				body[k] = v
			}
			return s.post("", path, body)
		}
	}
	secretOf := func(r reply, want int) string {
		t.Helper()
		status(t, r.asked, r, want)
		return r.str("secret")
	}
	me := s.get(ten.token, "/v1/me").str("id")
	var viewer string
	for _, r := range s.get(ten.token, at+"/roles").list("items") {
		if r["name"] == "viewer" {
			viewer, _ = r["id"].(string)
		}
	}
	cookie := ""
	browser := s.post("", "/v1/auth/login", obj{"email": "ana@acme.example", "password": demoPassword})
	for _, c := range (&http.Response{Header: browser.header}).Cookies() {
		cookie = c.Value
	}
	login := s.signIn(t, "ana@acme.example")
	tokens := map[string]string{
		"session":    cookie,
		"access":     login.str("access_token"),
		"refresh":    login.str("refresh_token"),
		"personal":   secretOf(s.post(ten.token, at+"/tokens", obj{"name": "t", "permissions": []string{"device:read"}}), 201),
		"ingestion":  ten.key,
		"invitation": secretOf(s.post(ten.token, at+"/invitations", obj{"email": "new@acme.example", "role_id": viewer, "recursive": true}), 201),
		"reset":      secretOf(s.post(admin, "/v1/platform/persons/"+me+"/reset", nil), 200),
		"none":       "rf_at_" + strings.Repeat("0", 71),
		"empty":      "",
	}
	doors := map[string]struct {
		own  string // the kind that it is for
		ok   int
		shut []int // whoever is known and not meant is told so: 403
		try  func(string) reply
	}{
		"the API by a bearer token": {"access", 200, []int{401, 403}, bearer("/v1/me")},
		"a tenant's devices":        {"personal", 200, []int{401, 403}, bearer(at + "/devices")},
		"the API by a cookie": {"session", 200, []int{401, 403}, func(token string) reply {
			s.header = map[string]string{"Cookie": "__Host-sid=" + token}
			defer func() { s.header = nil }()
			return s.get("", "/v1/me")
		}},
		"refresh": {"refresh", 200, []int{401}, posted("/v1/auth/refresh", "refresh_token", nil)},
		"ingest": {"ingestion", 202, []int{401, 403}, func(token string) reply {
			return s.post(token, "/v1/ingest/chirpstack", chirpStack(ten.id, ten.devEUI, 900))
		}},
		"invitation": {"invitation", 201, []int{404, 422}, posted("/v1/auth/invitations/accept", "token", obj{"name": "New", "password": demoPassword})},
		"reset":      {"reset", 204, []int{404, 422}, posted("/v1/auth/reset", "token", obj{"password": demoPassword + " again"})},
		"setup":      {"", 0, []int{404, 422}, posted("/v1/auth/setup", "token", obj{"email": "x@acme.example", "name": "X", "password": demoPassword})},
	}
	for door, d := range doors {
		for kind, token := range tokens {
			// A person's access token may do in a tenant what the person may.
			if kind == d.own || kind == "access" && d.own == "personal" {
				continue
			}
			r := d.try(token)
			if r.err != nil || !slices.Contains(d.shut, r.status) || token != "" && strings.Contains(r.text, token) {
				t.Errorf("%s with a token of kind %s: %d, want %v: %s %v", door, kind, r.status, d.shut, r.text, r.err)
			}
		}
	}
	// Last, since a refresh token, an invitation and a reset link are spent, and a reset ends every session.
	for door, d := range doors {
		if d.own != "" && d.own != "reset" {
			status(t, door+" with its own", d.try(tokens[d.own]), d.ok)
		}
	}
	status(t, "reset with its own", doors["reset"].try(tokens["reset"]), 204)
}
