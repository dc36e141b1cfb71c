package main

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// estate is a tenant whose tree has all six kinds, with a device on each node.
type estate struct {
	*story
	t       *testing.T
	at      string
	admin   string // of the platform
	owner   string
	node    map[string]string // by name
	device  map[string]string // by the name of its node
	role    map[string]string // by name
	persons int
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	s, setup := served(t, "principal_rate=1000000", "principal_burst=1000000", "tenant_rate=1000000")
	admin, err := s.platform(setup)
	if err != nil {
		t.Fatal(err)
	}
	made := s.post(admin, "/v1/platform/tenants", obj{"name": "Estate", "owner_email": "owner@estate.example", "kind": "vendor"})
	status(t, "a tenant", made, 201)
	invitation, ok := made.body["owner_invitation"].(map[string]any)
	if !ok {
		t.Fatalf("no invitation: %s", made.text)
	}
	e := &estate{story: s, t: t, at: "/v1/tenants/" + made.str("id"), admin: admin, node: map[string]string{"vendor": made.str("root_node_id")}, device: map[string]string{}, role: map[string]string{}}
	status(t, "its owner", s.post("", "/v1/auth/invitations/accept", obj{"token": invitation["secret"], "name": "Owner", "password": demoPassword}), 201)
	e.owner = s.signIn(t, "owner@estate.example").str("access_token")
	for _, n := range []struct{ name, parent, kind string }{
		{"customer", "vendor", "customer"}, {"other customer", "vendor", "customer"}, {"site", "customer", "site"},
		{"house", "site", "building"}, {"hall", "site", "building"}, {"floor", "house", "floor"}, {"zone", "floor", "zone"},
	} {
		r := e.post(e.owner, e.at+"/nodes", obj{"name": n.name, "kind": n.kind, "parent_id": e.node[n.parent]})
		status(t, n.name, r, 201)
		e.node[n.name] = r.str("id")
	}
	for name, id := range e.node {
		r := e.post(e.owner, e.at+"/devices", obj{"name": "in " + name, "node_id": id, "addresses": []obj{{"kind": "serial", "value": strings.ReplaceAll(name, " ", "-")}}})
		status(t, "a device in "+name, r, 201)
		e.device[name] = r.str("id")
	}
	for _, r := range e.get(e.owner, e.at+"/roles").list("items") {
		e.role[fmt.Sprint(r["name"])] = fmt.Sprint(r["id"])
	}
	return e
}

// person is somebody new with a role at a node.
func (e *estate) person(role, node string, recursive bool) (id, token string) {
	e.t.Helper()
	e.persons++
	mail := fmt.Sprintf("p%d@estate.example", e.persons)
	inv := e.post(e.owner, e.at+"/invitations", obj{"email": mail, "role_id": e.role[role], "node_id": e.node[node], "recursive": recursive})
	status(e.t, "an invitation", inv, 201)
	status(e.t, "accepting it", e.post("", "/v1/auth/invitations/accept", obj{"token": inv.str("secret"), "name": mail, "password": demoPassword}), 201)
	token = e.signIn(e.t, mail).str("access_token")
	return e.get(token, "/v1/me").str("id"), token
}

// sees are the nodes whose devices a token can read: in the list, and each by its id, which must agree.
func (e *estate) sees(token string) string {
	e.t.Helper()
	var listed, found []string
	for _, d := range e.get(token, e.at+"/devices?limit=200").list("items") {
		listed = append(listed, strings.TrimPrefix(fmt.Sprint(d["name"]), "in "))
	}
	for name, id := range e.device {
		if r := e.get(token, e.at+"/devices/"+id); r.status == http.StatusOK {
			found = append(found, name)
		} else {
			status(e.t, "the device in "+name, r, 404)
		}
	}
	slices.Sort(listed)
	slices.Sort(found)
	if !slices.Equal(listed, found) {
		e.t.Errorf("the list shows %q, by their ids there are %q", listed, found)
	}
	return strings.Join(listed, ", ")
}

func (e *estate) see(what, token, want string) {
	e.t.Helper()
	if got := e.sees(token); got != want {
		e.t.Errorf("%s sees %q, want %q", what, got, want)
	}
}

func TestRightsFollowTheTree(t *testing.T) {
	e := newEstate(t)
	all := "customer, floor, hall, house, other customer, site, vendor, zone"
	e.see("the owner", e.owner, all)
	for _, c := range []struct {
		node      string
		recursive bool
		want      string
	}{
		{"vendor", true, all}, {"vendor", false, "vendor"}, {"customer", true, "customer, floor, hall, house, site, zone"}, {"site", true, "floor, hall, house, site, zone"},
		{"house", true, "floor, house, zone"}, {"house", false, "house"}, {"floor", true, "floor, zone"}, {"zone", true, "zone"},
	} {
		_, token := e.person("viewer", c.node, c.recursive)
		e.see(fmt.Sprintf("a viewer of %s, recursive %v", c.node, c.recursive), token, c.want)
	}

	// By a group, and no longer than that lasts.
	member, token := e.person("viewer", "hall", false)
	group := e.post(e.owner, e.at+"/groups", obj{"name": "crew", "member_ids": []string{member}})
	status(t, "a group", group, 201)
	e.see("before the group has a role", token, "hall")
	got := e.post(e.owner, e.at+"/memberships", obj{"group_id": group.str("id"), "role_id": e.role["viewer"], "node_id": e.node["floor"], "recursive": true})
	status(t, "a group's membership", got, 201)
	e.see("with the group", token, "floor, hall, zone")
	status(t, "revoking it", e.call(http.MethodDelete, e.owner, e.at+"/memberships/"+got.str("id"), nil, got.header.Get("ETag")), 204)
	e.see("without it again", token, "hall")

	// Nothing inherited passes a barrier, the owner's rights included; so it has an owner or admin of its own.
	house := e.get(e.owner, e.at+"/nodes/"+e.node["house"])
	lost := e.call(http.MethodPatch, e.owner, e.at+"/nodes/"+e.node["house"], obj{"barrier": true}, house.header.Get("ETag"))
	status(t, "a barrier that nobody could lift", lost, 409)
	if lost.code() != "barrier_without_owner" {
		t.Errorf("%s", lost.text)
	}
	keeper, inside := e.person("admin", "house", true)
	status(t, "a barrier", e.call(http.MethodPatch, e.owner, e.at+"/nodes/"+e.node["house"], obj{"barrier": true}, house.header.Get("ETag")), 200)
	e.see("the owner, before the barrier", e.owner, "customer, hall, other customer, site, vendor")
	e.see("who is inside", inside, "floor, house, zone")
	status(t, "moving out what one cannot see", e.call(http.MethodPost, e.owner, e.at+"/devices/"+e.device["floor"]+"/assign", obj{"node_id": e.node["hall"]}, `"1"`), 404)
	for _, m := range e.get(inside, e.at+"/memberships").list("items") {
		if m["principal_id"] == keeper {
			r := e.call(http.MethodDelete, inside, e.at+"/memberships/"+fmt.Sprint(m["id"]), nil, fmt.Sprintf("%q", fmt.Sprint(m["rev"])))
			status(t, "the last one inside going away", r, 409)
		}
	}
	again := e.get(inside, e.at+"/nodes/"+e.node["house"])
	status(t, "lifting it", e.call(http.MethodPatch, inside, e.at+"/nodes/"+e.node["house"], obj{"barrier": false}, again.header.Get("ETag")), 200)
	e.see("the owner again", e.owner, all)
}

// A role of one permission opens what that permission is for and nothing else; the built-in roles differ as they are meant to.
func TestARoleOpensWhatItNames(t *testing.T) {
	e := newEstate(t)
	reader := e.post(e.owner, e.at+"/roles", obj{"name": "log reader", "permissions": []string{"audit:read"}})
	status(t, "a role", reader, 201)
	e.role["log reader"] = reader.str("id")
	reads := map[string]string{
		"device:read": "/devices", "node:read": "/nodes", "decoder:read": "/decoders", "source:read": "/sources", "role:read": "/roles", "group:read": "/groups", "member:read": "/members",
		"membership:read": "/memberships", "reading:read": "/readings", "uplink:read": "/uplinks", "outcome:read": "/outcomes", "quarantine:read": "/quarantine", "audit:read": "/audit/entries", "audit:export": "/audit/bundle",
	}
	opens := func(role string) (open []string) {
		_, token := e.person(role, "vendor", true)
		for permission, path := range reads {
			r := e.get(token, e.at+path)
			if r.status == http.StatusOK {
				open = append(open, permission)
				continue
			}
			status(t, role+" "+path, r, 403)
			if r.str("permission") != permission {
				t.Errorf("%s %s: the answer names %q as missing, want %q", role, path, r.str("permission"), permission)
			}
		}
		slices.Sort(open)
		return open
	}
	for role, want := range map[string]string{
		"log reader": "audit:read",
		"operator":   "decoder:read device:read node:read outcome:read quarantine:read reading:read source:read uplink:read",
		"viewer":     "decoder:read device:read group:read node:read outcome:read quarantine:read reading:read role:read source:read uplink:read",
		"auditor":    "audit:export audit:read decoder:read device:read group:read member:read membership:read node:read role:read source:read",
	} {
		if got := strings.Join(opens(role), " "); got != want {
			t.Errorf("%s opens %s\nwant %s", role, got, want)
		}
	}

	_, operator := e.person("operator", "vendor", true)
	_, admin := e.person("admin", "vendor", true)
	for what, c := range map[string]struct {
		path     string
		body     obj
		operator int
	}{
		"a role":         {"/roles", obj{"name": "mine", "permissions": []string{"device:read"}}, 403},
		"a group":        {"/groups", obj{"name": "ours"}, 403},
		"an invitation":  {"/invitations", obj{"email": "x@estate.example", "role_id": e.role["viewer"], "recursive": true}, 403},
		"a device":       {"/devices", obj{"name": "d", "addresses": []obj{{"kind": "serial", "value": "op"}}}, 201},
		"a decoder":      {"/decoders", obj{"name": "op"}, 201},
		"a node":         {"/nodes", obj{"name": "n", "kind": "site", "parent_id": e.node["customer"]}, 403},
		"another device": {"/devices", obj{"name": "d", "addresses": []obj{{"kind": "serial", "value": "op2"}}}, 201},
	} {
		status(t, "an operator making "+what, e.post(operator, e.at+c.path, c.body), c.operator)
		if c.operator == http.StatusForbidden {
			status(t, "an admin making "+what, e.post(admin, e.at+c.path, c.body), 201)
		}
	}
}

// The answer to another tenant's thing takes as long as that to nothing: 2,000 pairs a class, asked in turn. What the machine does beside
// them moves a median too, but not three times to the same side.
func TestAForeignThingTakesAsLongAsAMissingOne(t *testing.T) {
	e := newEstate(t)
	s := e.story
	stranger := e.post(e.owner, e.at+"/decoders", obj{"name": "mine"})
	status(t, "a decoder", stranger, 201)
	src := e.post(e.owner, e.at+"/sources", obj{"name": "mine", "format": "plain"})
	status(t, "a source", src, 201)
	other, err := s.tenant(e.admin, "Other", "ben@other.example")
	if err != nil {
		t.Fatal(err)
	}
	theirs := "/v1/tenants/" + other.id
	missing := func(id string) string { // the same kind, time and form, and nobody's
		i, end := len(id)-9, len(id)-1
		return id[:i] + strings.Map(func(r rune) rune {
			if r == '0' {
				return '1'
			}
			return '0'
		}, id[i:end]) + id[end:]
	}
	for class, path := range map[string]string{
		"device": theirs + "/devices/" + e.device["site"], "node": theirs + "/nodes/" + e.node["site"], "decoder": theirs + "/decoders/" + stranger.str("id"),
		"source": theirs + "/sources/" + src.str("id"), "tenant": e.at + "/devices",
	} {
		foreign, nobody := path, missing(path)
		if class == "tenant" {
			nobody = strings.Replace(path, e.at, missing(e.at), 1)
		}
		a, b := e.get(other.token, foreign), e.get(other.token, nobody)
		if a.status != 404 || a.status != b.status || a.without("request_id") != b.without("request_id") {
			t.Fatalf("%s: %s and %s", class, a.text, b.text)
		}
		var apart []float64
		for len(apart) < 3 {
			var took [2][]float64
			for range 2000 {
				for i, p := range []string{foreign, nobody} {
					began := time.Now()
					e.get(other.token, p)
					took[i] = append(took[i], float64(time.Since(began).Microseconds()))
				}
			}
			gap := median(took[0]) - median(took[1])
			t.Logf("%s: %.0f µs and %.0f µs", class, median(took[0]), median(took[1]))
			if math.Abs(gap) < max(200, 5*math.Hypot(uncertain(took[0]), uncertain(took[1]))) || len(apart) > 0 && gap*apart[0] < 0 {
				break
			}
			apart = append(apart, gap)
		}
		if len(apart) == 3 {
			t.Errorf("%s: medians %.0f µs apart", class, apart)
		}
	}
}

// uncertain is the standard error of the median of what is sorted.
func uncertain(of []float64) float64 {
	n := len(of)
	return 1.2533 * (of[n*3/4] - of[n/4]) / 1.349 / math.Sqrt(float64(n))
}

func (e *estate) membership(who, role, node string, recursive bool, expires string) reply {
	body := obj{"principal_id": who, "role_id": e.role[role], "node_id": e.node[node], "recursive": recursive}
	if expires != "" {
		body["expires_at"] = expires
	}
	return e.post(e.owner, e.at+"/memberships", body)
}

// Nobody grants what they lack: not by changing a role that is given behind a barrier, not for longer than they hold it, not by
// taking somebody out of a group by way of the tenant, and not through the tokens of a token's owner.
func TestNoWayRoundGrantsWhatIsLacking(t *testing.T) {
	e := newEstate(t)
	role := e.post(e.owner, e.at+"/roles", obj{"name": "watch", "permissions": []string{"node:read", "device:read"}})
	status(t, "a role", role, 201)
	e.role["watch"] = role.str("id")
	_, keeper := e.person("admin", "house", true)
	admin, adminToken := e.person("admin", "vendor", true)
	status(t, "the role behind the barrier to be", e.membership(admin, "watch", "house", true, ""), 201)
	house := e.get(keeper, e.at+"/nodes/"+e.node["house"])
	status(t, "a barrier", e.call(http.MethodPatch, keeper, e.at+"/nodes/"+e.node["house"], obj{"barrier": true}, house.header.Get("ETag")), 200)
	wider := obj{"permissions": []string{"node:read", "device:read", "device:delete", "node:barrier", "membership:grant"}}
	status(t, "widening a role that is given behind a barrier", e.call(http.MethodPatch, adminToken, e.at+"/roles/"+e.role["watch"], wider, role.header.Get("ETag")), 403)
	status(t, "its owner doing so", e.call(http.MethodPatch, e.owner, e.at+"/roles/"+e.role["watch"], wider, role.header.Get("ETag")), 403)
	status(t, "renaming it", e.call(http.MethodPatch, adminToken, e.at+"/roles/"+e.role["watch"], obj{"name": "guard"}, role.header.Get("ETag")), 200)

	// For a time.
	end := time.Now().Add(time.Hour)
	temp, token := e.person("viewer", "vendor", false)
	status(t, "an admin for an hour", e.membership(temp, "admin", "customer", true, end.Format(time.RFC3339)), 201)
	give := func(until string) reply {
		body := obj{"principal_id": temp, "role_id": e.role["admin"], "node_id": e.node["site"], "recursive": true}
		if until != "" {
			body["expires_at"] = until
		}
		return e.post(token, e.at+"/memberships", body)
	}
	for until, want := range map[string]int{"": 403, end.Add(time.Minute).Format(time.RFC3339): 403, end.Add(-time.Minute).Format(time.RFC3339): 201} {
		r := give(until)
		status(t, "giving on what one has for an hour, until "+until, r, want)
		if want == http.StatusForbidden && r.code() != "grant_outlives" {
			t.Errorf("%s", r.text)
		}
	}
	status(t, "inviting somebody for good", e.post(token, e.at+"/invitations", obj{"email": "late@estate.example", "role_id": e.role["viewer"], "node_id": e.node["site"], "recursive": true}), 403)

	// By way of the tenant.
	second, _ := e.person("viewer", "vendor", false)
	group := e.post(e.owner, e.at+"/groups", obj{"name": "owners", "member_ids": []string{second}})
	status(t, "owners by a group", e.post(e.owner, e.at+"/memberships", obj{"group_id": group.str("id"), "role_id": e.role["owner"], "node_id": e.node["vendor"], "recursive": true}), 201)
	member := e.get(adminToken, e.at+"/members/"+second)
	status(t, "an admin removing an owner by a group", e.call(http.MethodDelete, adminToken, e.at+"/members/"+second, nil, member.header.Get("ETag")), 403)

	// By a token.
	narrow := e.post(e.owner, e.at+"/tokens", obj{"name": "narrow", "permissions": []string{"reading:read"}})
	other := e.post(e.owner, e.at+"/tokens", obj{"name": "other", "permissions": []string{"device:read"}})
	secret := narrow.str("secret")
	status(t, "a token listing its owner's", e.get(secret, "/v1/me/tokens"), 403)
	status(t, "a token ending another as its owner's", e.call(http.MethodDelete, secret, "/v1/me/tokens/"+other.str("id"), nil, other.header.Get("ETag")), 403)
	status(t, "a token reading another", e.get(secret, e.at+"/tokens/"+other.str("id")), 404)
	status(t, "a token ending another", e.call(http.MethodDelete, secret, e.at+"/tokens/"+other.str("id"), nil, other.header.Get("ETag")), 404)
	status(t, "a token ending itself", e.call(http.MethodDelete, secret, e.at+"/tokens/"+narrow.str("id"), nil, narrow.header.Get("ETag")), 204)
	status(t, "and now it opens nothing", e.get(secret, e.at+"/readings"), 401)

	// What one cannot see cannot be named.
	_, local := e.person("operator", "hall", true)
	status(t, "a source for a device out of sight", e.post(local, e.at+"/sources", obj{"name": "s", "format": "plain", "node_id": e.node["hall"], "device_ids": []string{e.device["other customer"]}}), 422)
	status(t, "for one in sight", e.post(local, e.at+"/sources", obj{"name": "s", "format": "plain", "node_id": e.node["hall"], "device_ids": []string{e.device["hall"]}}), 201)
}
