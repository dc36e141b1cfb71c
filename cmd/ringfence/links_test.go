package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// role is the id of a tenant's role.
func (s *story) role(t *testing.T, ten *demoTenant, name string) string {
	t.Helper()
	for _, r := range s.get(ten.token, "/v1/tenants/"+ten.id+"/roles").list("items") {
		if r["name"] == name {
			return fmt.Sprint(r["id"])
		}
	}
	t.Fatalf("no role %s", name)
	return ""
}

// invited answers an invitation's token.
func (s *story) invited(t *testing.T, ten *demoTenant, email, role string) string {
	t.Helper()
	inv := s.post(ten.token, "/v1/tenants/"+ten.id+"/invitations", obj{"email": email, "role_id": s.role(t, ten, role), "recursive": true})
	status(t, "an invitation", inv, 201)
	return inv.str("secret")
}

// joins is a new person of a tenant.
func (s *story) joins(t *testing.T, ten *demoTenant, email, role string) (id, token string) {
	t.Helper()
	status(t, "accepting", s.post("", "/v1/auth/invitations/accept", obj{"token": s.invited(t, ten, email, role), "name": "Carl", "password": demoPassword}), 201)
	token = s.signIn(t, email).str("access_token")
	return s.get(token, "/v1/me").str("id"), token
}

func (s *story) resets(by string, ten *demoTenant, id string) reply {
	return s.post(by, "/v1/tenants/"+ten.id+"/members/"+id+"/reset", nil)
}

func (s *story) uses(link reply) reply {
	return s.post("", "/v1/auth/reset", obj{"token": link.str("secret"), "password": "another four random words"})
}

// two is a platform with two tenants.
func two(t *testing.T) (s *story, admin string, acme, brook *demoTenant) {
	t.Helper()
	s, admin, acme = world1(t)
	brook, err := s.tenant(admin, "Brook Energy", "ben@brook.example")
	if err != nil {
		t.Fatal(err)
	}
	return s, admin, acme, brook
}

func TestAResetLinkIsVoidOnceThePersonBelongsElsewhereToo(t *testing.T) {
	s, admin, acme, brook := two(t)
	carl, token := s.joins(t, brook, "carl@brook.example", "viewer")
	link := s.resets(brook.token, brook, carl)
	status(t, "a link while the person belongs to one tenant", link, 200)
	status(t, "joining another", s.post(token, "/v1/auth/invitations/accept", obj{"token": s.invited(t, acme, "carl@acme.example", "viewer")}), 201)
	used := s.uses(link)
	status(t, "the old link", used, 404)
	if used.code() != "bad_link" {
		t.Errorf("%s", used.text)
	}
	status(t, "the password that the link would have set", s.post("", "/v1/auth/login", obj{"email": "carl@brook.example", "password": "another four random words"}), 401)
	status(t, "the person's own session", s.get(token, "/v1/tenants/"+acme.id+"/devices"), 200)

	dora, _ := s.joins(t, brook, "dora@brook.example", "viewer")
	link = s.resets(brook.token, brook, dora)
	status(t, "a link before the person works for the platform", link, 200)
	status(t, "a platform role", s.post(admin, "/v1/platform/memberships", obj{"principal_id": dora}), 201)
	status(t, "that link afterwards", s.uses(link), 404)
}

func TestAResetLinkNeedsAllThatThePersonHolds(t *testing.T) {
	s, _, acme := world1(t)
	at := "/v1/tenants/" + acme.id
	owner := s.get(acme.token, "/v1/me").str("id")
	_, adam := s.joins(t, acme, "adam@acme.example", "admin")
	refused := s.resets(adam, acme, owner)
	status(t, "an admin who resets the owner", refused, 403)
	if refused.str("permission") != "ownership:grant" || refused.str("secret") != "" {
		t.Errorf("%s", refused.text)
	}
	made := s.post(acme.token, at+"/roles", obj{"name": "helpdesk", "permissions": []string{"member:read", "member:reset"}})
	status(t, "a helpdesk role", made, 201)
	_, help := s.joins(t, acme, "help@acme.example", "helpdesk")
	vera, _ := s.joins(t, acme, "vera@acme.example", "viewer")
	refused = s.resets(help, acme, vera)
	status(t, "a helpdesk that resets a viewer", refused, 403)
	if refused.str("permission") == "" {
		t.Errorf("%s", refused.text)
	}
	second, _ := s.joins(t, acme, "second@acme.example", "helpdesk")
	status(t, "somebody who holds the same", s.resets(help, acme, second), 200)
	link := s.resets(adam, acme, vera)
	status(t, "an admin who resets a viewer", link, 200)
	status(t, "using it", s.uses(link), 204)

	// What the person gains by a group counts, and what they gain while the link is open.
	group := s.post(acme.token, at+"/groups", obj{"name": "board", "member_ids": []string{vera}})
	status(t, "a group", group, 201)
	before := s.resets(adam, acme, vera)
	status(t, "a link while the group gives nothing", before, 200)
	got := s.post(acme.token, at+"/memberships", obj{"group_id": group.str("id"), "role_id": s.role(t, acme, "owner"), "node_id": acme.root, "recursive": true})
	status(t, "ownership by the group", got, 201)
	status(t, "a link to an owner by a group", s.resets(adam, acme, vera), 403)
	status(t, "the link from before", s.uses(before), 404)
	status(t, "taking it away", s.call(http.MethodDelete, acme.token, at+"/memberships/"+got.str("id"), nil, got.header.Get("ETag")), 204)
	status(t, "a link that its maker may make again", s.uses(before), 204)
}

func TestAResetLinkIsVoidOnceItsMakerMayMakeNone(t *testing.T) {
	s, admin, acme := world1(t)
	at := "/v1/tenants/" + acme.id
	adam, token := s.joins(t, acme, "adam@acme.example", "admin")
	vera, _ := s.joins(t, acme, "vera@acme.example", "viewer")
	link := s.resets(token, acme, vera)
	status(t, "a link", link, 200)
	for _, m := range s.get(acme.token, at+"/memberships").list("items") { // who holds nothing exceeds nobody
		if m["principal_id"] == vera {
			status(t, "taking what the person holds", s.call(http.MethodDelete, acme.token, at+"/memberships/"+fmt.Sprint(m["id"]), nil, `"1"`), 204)
		}
	}
	gone := s.call(http.MethodDelete, acme.token, at+"/members/"+adam, nil, s.get(acme.token, at+"/members/"+adam).header.Get("ETag"))
	status(t, "removing its maker", gone, 204)
	status(t, "the link", s.uses(link), 404)

	wim, _ := s.joins(t, acme, "wim@acme.example", "viewer")
	link = s.resets(acme.token, acme, wim)
	status(t, "another", link, 200)
	pat := s.post(acme.token, at+"/tokens", obj{"name": "desk", "permissions": []string{"member:reset"}})
	status(t, "a token that may do little else", pat, 201)
	status(t, "by which others are not taken over", s.resets(pat.str("secret"), acme, wim), 403)
	status(t, "the link that was not replaced", s.uses(link), 204)

	// Whoever had the maker's session may have made links with it: they end with the maker's own reset.
	zoe, stolen := s.joins(t, acme, "zoe@acme.example", "admin")
	xan, _ := s.joins(t, acme, "xan@acme.example", "viewer")
	link = s.resets(stolen, acme, xan)
	status(t, "a thief's link", link, 200)
	own := s.post(admin, "/v1/platform/persons/"+zoe+"/reset", nil)
	status(t, "resetting whom it was stolen from", s.uses(own), 204)
	status(t, "the thief's link afterwards", s.uses(link), 404)
}

func TestWhoeverWasRemovedElsewhereIsATenantsOwnAgain(t *testing.T) {
	s, _, acme, brook := two(t)
	carl, token := s.joins(t, brook, "carl@brook.example", "viewer")
	status(t, "joining another", s.post(token, "/v1/auth/invitations/accept", obj{"token": s.invited(t, acme, "carl@brook.example", "viewer")}), 201)
	status(t, "a link meanwhile", s.resets(brook.token, brook, carl), 403)
	at := "/v1/tenants/" + acme.id + "/members/" + carl
	status(t, "leaving it", s.call(http.MethodDelete, acme.token, at, nil, s.get(acme.token, at).header.Get("ETag")), 204)
	link := s.resets(brook.token, brook, carl)
	status(t, "a link afterwards", link, 200)
	status(t, "using it", s.uses(link), 204)
}

func TestATenantLearnsTheInvitedAddressAndNoOther(t *testing.T) {
	s, _, acme, brook := two(t)
	carl, token := s.joins(t, brook, "carl@private.example", "viewer")
	status(t, "joining by another address", s.post(token, "/v1/auth/invitations/accept", obj{"token": s.invited(t, acme, "carl@acme.example", "viewer")}), 201)
	if got := s.get(acme.token, "/v1/tenants/"+acme.id+"/members/"+carl).str("email"); got != "carl@acme.example" {
		t.Errorf("the tenant that invited carl@acme.example sees %s", got)
	}
	if got := s.get(brook.token, "/v1/tenants/"+brook.id+"/members/"+carl).str("email"); got != "carl@private.example" {
		t.Errorf("the other one sees %s", got)
	}
}

func TestThePlatformKeepsAnAdministratorWhoStays(t *testing.T) {
	s, admin, acme := world1(t)
	first := s.get(admin, "/v1/me").str("id")
	dora, token := s.joins(t, acme, "dora@acme.example", "viewer")
	soon := s.post(admin, "/v1/platform/memberships", obj{"principal_id": dora, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
	status(t, "an administrator for an hour", soon, 201)
	refused := s.post(token, "/v1/platform/persons/"+first+"/disable", nil)
	status(t, "disabling the only one who stays", refused, 409)
	if refused.code() != "last_owner" {
		t.Errorf("%s", refused.text)
	}
	status(t, "who is still in", s.get(admin, "/v1/platform/tenants"), 200)
	status(t, "and may disable the other", s.post(admin, "/v1/platform/persons/"+dora+"/disable", nil), 200)
}

// page asks for a link's page as a browser does; a nil body is a GET.
func (s *story) page(t *testing.T, path, cookie string, body io.Reader) reply {
	t.Helper()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range s.header {
		req.Header.Set(k, v)
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	return reply{status: res.StatusCode, header: res.Header, text: string(raw), err: err}
}

func sent(values url.Values) io.Reader { return strings.NewReader(values.Encode()) }

func TestAnInvitationsPageTakesWhoIsSignedIn(t *testing.T) {
	s, _, acme, brook := two(t)
	carl, token := s.joins(t, brook, "carl@brook.example", "viewer")
	in := s.post("", "/v1/auth/login", obj{"email": "carl@brook.example", "password": demoPassword})
	status(t, "a browser's sign-in", in, 200)
	cookie, _, _ := strings.Cut(in.header.Get("Set-Cookie"), ";")
	link := s.invited(t, acme, "carl@acme.example", "viewer")
	path := "/invite?token=" + link

	stranger := s.page(t, path, "", nil)
	status(t, "the page of nobody", stranger, 200)
	if !strings.Contains(stranger.text, `name="password"`) || !strings.Contains(stranger.text, `href="/invite?token=`+link) {
		t.Errorf("no form for new people, or no way to come with a session:\n%s", stranger.text)
	}
	mine := s.page(t, path, cookie, nil)
	status(t, "the page of who is signed in", mine, 200)
	if !strings.Contains(mine.text, "Accept as carl@brook.example") || strings.Contains(mine.text, `name="password"`) || strings.Contains(mine.text, "<script") {
		t.Errorf("%s", mine.text)
	}
	form := url.Values{"token": {link}, "as": {carl}}
	status(t, "without the session", s.page(t, "/invite", "", sent(form)), 409)
	ana := s.post("", "/v1/auth/login", obj{"email": "ana@acme.example", "password": demoPassword})
	other, _, _ := strings.Cut(ana.header.Get("Set-Cookie"), ";")
	status(t, "as somebody who is not signed in", s.page(t, "/invite", other, sent(form)), 409)
	s.header = map[string]string{"Sec-Fetch-Site": "cross-site"}
	status(t, "from another site", s.page(t, "/invite", cookie, sent(form)), 403)
	s.header = map[string]string{"Sec-Fetch-Site": "same-origin"}
	status(t, "accepting", s.page(t, "/invite", cookie, sent(form)), 200)
	s.header = nil
	status(t, "what they came for", s.get(token, "/v1/tenants/"+acme.id+"/devices"), 200)
	status(t, "the link again", s.page(t, path, cookie, nil), 404)
}

func TestAcceptingSaysWhereTheMembershipIs(t *testing.T) {
	s, _, acme := world1(t)
	got := s.post("", "/v1/auth/invitations/accept", obj{"token": s.invited(t, acme, "carl@acme.example", "viewer"), "name": "Carl", "password": demoPassword})
	status(t, "accepting", got, 201)
	if want := "/v1/tenants/" + acme.id + "/memberships/" + got.str("id"); got.header.Get("Location") != want {
		t.Errorf("Location: %q, want %q", got.header.Get("Location"), want)
	}
	if got.header.Get("Authz-Revision") == "" || got.header.Get("ETag") != `"1"` {
		t.Errorf("%v", got.header)
	}
	status(t, "what is there", s.get(acme.token, got.header.Get("Location")), 200)
}

func TestADeletedTenantIsNobodysAnyMore(t *testing.T) {
	s, _, acme, brook := two(t)
	carl, token := s.joins(t, brook, "carl@brook.example", "viewer")
	status(t, "joining another", s.post(token, "/v1/auth/invitations/accept", obj{"token": s.invited(t, acme, "carl@brook.example", "viewer")}), 201)
	status(t, "closing it", s.post(acme.token, "/v1/tenants/"+acme.id+"/close", nil), 200)
	if ids := s.get(token, "/v1/me").raw("tenant_ids"); strings.Contains(ids, acme.id) || !strings.Contains(ids, brook.id) {
		t.Errorf("%s", ids)
	}
	status(t, "a link of the tenant that is left", s.resets(brook.token, brook, carl), 200)
}

func TestThePlatformKnowsATenantByItsPresentName(t *testing.T) {
	s, admin, acme, _ := two(t)
	carl, _ := s.joins(t, acme, "carl@acme.example", "viewer")
	path, register := "/v1/tenants/"+acme.id, "/v1/platform/tenants/"+acme.id
	status(t, "renaming from an old revision", s.call(http.MethodPatch, acme.token, path, obj{"name": "Clearwater"}, `"99"`), 412)
	if got := s.get(admin, register).str("name"); got != "Acme Water" {
		t.Errorf("the register has %q after what was refused", got)
	}
	status(t, "renaming", s.call(http.MethodPatch, acme.token, path, obj{"name": "Clearwater Utilities"}, s.get(acme.token, path).header.Get("ETag")), 200)
	if got, own := s.get(admin, register).str("name"), s.get(acme.token, path).str("name"); got != "Clearwater Utilities" || own != got {
		t.Errorf("the register has %q, the tenant %q", got, own)
	}
	entries := s.get(admin, "/v1/platform/audit/entries?action=tenant_updated").list("items")
	if len(entries) != 1 || !strings.Contains(fmt.Sprint(entries[0]["target"]), acme.id) {
		t.Errorf("the platform's log has %v", entries)
	}
	reset := s.resets(acme.token, acme, carl)
	status(t, "the new name as a password", s.post("", "/v1/auth/reset", obj{"token": reset.str("secret"), "password": "Clearwater Utilities"}), 422)
	status(t, "renaming to the same", s.call(http.MethodPatch, acme.token, path, obj{"name": "Clearwater Utilities"}, s.get(acme.token, path).header.Get("ETag")), 200)
}

func TestAPasswordIsNotTheTenantsName(t *testing.T) {
	s, _, acme := world1(t)
	const name = "Acme WaterAcme Water"
	link := s.invited(t, acme, "carl@acme.example", "viewer")
	status(t, "of who accepts", s.post("", "/v1/auth/invitations/accept", obj{"token": link, "name": "Carl", "password": name}), 422)
	carl, token := s.joins(t, acme, "dora@acme.example", "viewer")
	status(t, "changed by its owner", s.post(token, "/v1/me/password", obj{"password": demoPassword, "new_password": name}), 422)
	reset := s.resets(acme.token, acme, carl)
	status(t, "set by a link", s.post("", "/v1/auth/reset", obj{"token": reset.str("secret"), "password": name}), 422)
}

func TestAPageTakesItsOwnFieldsAloneAndSaysThatALinkIsBad(t *testing.T) {
	s, setup := served(t)
	odd := url.Values{"token": {setup}, "email": {"operator@platform.example"}, "name": {"Olga"}, "password": {demoPassword}, "role": {"owner"}}
	status(t, "an unknown field", s.page(t, "/setup", "", sent(odd)), 422)
	bad := func(what, path string) {
		t.Helper()
		got := s.page(t, path, "", nil)
		status(t, what, got, 404)
		if strings.Contains(got.text, "<form") || !strings.Contains(got.text, "not valid") {
			t.Errorf("%s: %s", what, got.text)
		}
	}
	bad("a setup link that never was", "/setup?token=bad")
	status(t, "the page of one that is", s.page(t, "/setup?token="+setup, "", nil), 200)
	admin, err := s.platform(setup)
	if err != nil {
		t.Fatal(err)
	}
	bad("a setup link that is spent", "/setup?token="+setup)
	bad("a setup link on a platform that is set up", "/setup?token=bad")
	acme, err := s.tenant(admin, "Acme Water", "ana@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	link := s.invited(t, acme, "carl@acme.example", "viewer")
	form := url.Values{"token": {link}, "name": {"Carl"}, "password": {demoPassword}, "admin": {"yes"}}
	status(t, "an invitation with an unknown field", s.page(t, "/invite", "", sent(form)), 422)
	form.Del("admin")
	status(t, "the same without it", s.page(t, "/invite", "", sent(form)), 200)
	me := s.get(s.signIn(t, "carl@acme.example").str("access_token"), "/v1/me").str("id")
	bad("a reset link that never was", "/reset?token=bad")
	reset := s.resets(acme.token, acme, me).str("secret")
	status(t, "a reset link's page", s.page(t, "/reset?token="+reset, "", nil), 200)
	status(t, "a reset with an unknown field", s.page(t, "/reset", "", sent(url.Values{"token": {reset}, "password": {"another four random words"}, "x": {""}})), 422)
	status(t, "the same without it", s.page(t, "/reset", "", sent(url.Values{"token": {reset}, "password": {"another four random words"}})), 200)
	bad("a reset link that is spent", "/reset?token="+reset)
}

func TestNamesOfPeopleAndTenantsAreText(t *testing.T) {
	s, setup := served(t)
	for _, name := range []string{"a\x1b[2Jb", "a\nb", "a\u202eb", " "} {
		person := obj{"token": setup, "email": "operator@platform.example", "name": name, "password": demoPassword}
		status(t, fmt.Sprintf("the name %q", name), s.post("", "/v1/auth/setup", person), 422)
		status(t, fmt.Sprintf("%q in a form", name), s.page(t, "/setup", "", sent(url.Values{"token": {setup}, "email": {"operator@platform.example"}, "name": {name}, "password": {demoPassword}})), 422)
	}
	fresh, setup2 := served(t)
	admin, err := fresh.platform(setup2)
	if err != nil {
		t.Fatal(err)
	}
	status(t, "a tenant's name", fresh.post(admin, "/v1/platform/tenants", obj{"name": "a\u202eb", "owner_email": "x@acme.example"}), 422)

	for what, c := range map[string]struct {
		body io.Reader
		want int
	}{
		"NUL":            {strings.NewReader("token=" + setup + "&email=a@b.example&name=a%00b&password=four+random+words+here"), 422},
		"no UTF-8":       {strings.NewReader("token=" + setup + "&email=a@b.example&name=a%ffb&password=four+random+words+here"), 400},
		"a field twice":  {strings.NewReader("token=" + setup + "&name=a&name=b"), 400},
		"broken":         {strings.NewReader("token=" + setup + "&name=%zz"), 400},
		"without an end": {io.MultiReader(strings.NewReader("token="), strings.NewReader(strings.Repeat("x", 1<<20+4096))), 413},
	} {
		status(t, what, s.page(t, "/setup", "", c.body), c.want)
	}
}
