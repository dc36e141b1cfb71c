package isolation

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/access"
)

// tenant is one of the three: what it holds, by kind, and who acts in it.
type tenant struct {
	name, id string
	ids      map[string]string // kind → id
	cursors  map[string]string // operation → a cursor that its list gave out
	actors   []actor
	owner    actor
}

// actor is one kind of credential.
type actor struct {
	name, token, cookie string
	tenant              string     // whose it is; "" for the platform's and nobody's
	holds               access.Set // what it may do at the root of its tenant, where that is looked at
}

type world struct {
	t       testing.TB
	target  Target
	tenants []*tenant
	admin   actor
	spec    map[string]any
}

// canary is a text that stands in one tenant's fields alone.
func (t *tenant) canary(field string) string { return "canary" + t.name + field }

func (t *tenant) canaryIn(text string) string {
	if i := strings.Index(text, "canary"+t.name); i >= 0 {
		return text[i:min(len(text), i+24)]
	}
	for kind, id := range t.ids { // an id is one too: no answer repeats what was asked for
		if len(id) > 20 && strings.Contains(text, id) {
			return "the id of " + t.name + "'s " + kind
		}
	}
	return ""
}

// foreignTo is a canary in a text that is not of the actor's own tenant.
func (w *world) foreignTo(a actor, text string) string {
	for _, t := range w.tenants {
		if t.name != a.tenant {
			if c := t.canaryIn(text); c != "" {
				return c
			}
		}
	}
	return ""
}

func (w *world) rows(id string) string {
	if w.target.Rows == nil {
		return ""
	}
	return w.target.Rows(id)
}

const password = "a long enough passphrase"

type object = map[string]any

// call is a request of the world's making, which must be answered with a status.
func (w *world) call(a actor, method, path string, body object, want int, header ...string) object {
	w.t.Helper()
	h := map[string]string{}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	res := w.send(method, path, "", a, body, h)
	if res.status != want {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, res.status, want, res.text)
	}
	var out object
	if res.text != "" {
		if err := json.Unmarshal([]byte(res.text), &out); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, res.text)
		}
	}
	return out
}

func text(o object, keys ...string) string {
	for _, k := range keys[:len(keys)-1] {
		o, _ = o[k].(object)
	}
	s, _ := o[keys[len(keys)-1]].(string)
	return s
}

func (w *world) login(email string) actor {
	return actor{token: text(w.call(actor{}, http.MethodPost, "/v1/auth/login", object{"email": email, "password": password, "mode": "token"}, 200), "access_token")}
}

// build makes the platform and three tenants whose objects are called alike outside.
func build(t testing.TB, target Target) *world {
	t.Helper()
	w := &world{t: t, target: target}
	w.call(actor{}, http.MethodPost, "/v1/auth/setup", object{"token": target.SetupToken, "email": "admin@platform.example", "name": "Admin", "password": password}, 201)
	w.admin = w.login("admin@platform.example")
	w.admin.name = "platform administrator"
	w.spec = w.call(actor{}, http.MethodGet, "/openapi.json", nil, 200)
	for _, name := range []string{"alpha", "bravo", "charlie"} {
		w.tenants = append(w.tenants, w.tenant(name))
	}
	if target.Settle != nil {
		target.Settle()
	}
	for _, one := range w.tenants {
		w.found(one)
	}
	return w
}

func (w *world) tenant(name string) *tenant {
	t := &tenant{name: name, ids: map[string]string{}, cursors: map[string]string{}}
	made := w.call(w.admin, http.MethodPost, "/v1/platform/tenants", object{"name": t.canary("tenant"), "owner_email": "owner@" + name + ".example"}, 201)
	t.id = text(made, "id")
	t.ids["tenant"], t.ids["node_root"] = t.id, text(made, "root_node_id")
	t.owner = w.join(t, "owner", text(made, "owner_invitation", "secret"))
	at := "/v1/tenants/" + t.id
	post := func(path string, body object, want int) object {
		return w.call(t.owner, http.MethodPost, at+path, body, want)
	}
	t.ids["node"] = text(post("/nodes", object{"parent_id": t.ids["node_root"], "kind": "site", "name": t.canary("node")}, 201), "id")
	t.ids["decoder"] = text(post("/decoders", object{"name": t.canary("decoder")}, 201), "id")
	t.ids["version"] = text(post("/decoders/"+t.ids["decoder"]+"/versions", object{"source": "function decodeUplink(i) { return { data: { c: '" + t.canary("reading") + "' } } } // " + t.canary("source")}, 201), "id")
	w.call(t.owner, http.MethodPost, at+"/decoders/"+t.ids["decoder"]+"/activate", object{"version_id": t.ids["version"]}, 200, "If-Match", `"2"`)
	t.ids["device"] = text(post("/devices", object{"name": t.canary("device"), "node_id": t.ids["node"], "decoder_id": t.ids["decoder"],
		"addresses": []object{{"kind": "dev_eui", "value": "70b3d57ed0000001"}}, "variables": []object{{"name": t.canary("variable"), "value": t.canary("value")}}}, 201), "id")
	t.ids["source"] = text(post("/sources", object{"name": t.canary("source"), "format": "plain"}, 201), "id")
	key := post("/sources/"+t.ids["source"]+"/keys", object{"name": t.canary("key")}, 201)
	t.ids["key"] = text(key, "id")
	t.ids["role"] = text(post("/roles", object{"name": t.canary("role"), "permissions": []string{"device:read"}}, 201), "id")
	me := w.call(t.owner, http.MethodGet, "/v1/me", nil, 200)
	t.ids["member"] = text(me, "id")
	t.ids["person"] = t.ids["member"]
	t.ids["group"] = text(post("/groups", object{"name": t.canary("group"), "member_ids": []string{t.ids["member"]}}, 201), "id")
	t.ids["membership"] = text(post("/memberships", object{"group_id": t.ids["group"], "role_id": t.ids["role"], "node_id": t.ids["node"]}, 201), "id")
	t.ids["invitation"] = text(post("/invitations", object{"email": t.canary("mail") + "@example.com", "role_id": t.ids["role"], "node_id": t.ids["node"]}, 201), "id")
	t.ids["import"] = text(post("/imports", object{"csv": "name,serial\n" + t.canary("imported") + ",s1\n"}, 201), "id")
	narrow := access.SetOf(access.DeviceRead, access.NodeRead, access.ReadingRead, access.UplinkRead, access.AuditRead, access.MemberRead, access.DeviceUpdate, access.DecoderWrite)
	pat := post("/tokens", object{"name": t.canary("token"), "permissions": narrow.List()}, 201)
	t.ids["token"] = text(pat, "id")
	w.call(actor{token: text(key, "secret")}, http.MethodPost, "/v1/ingest/plain", object{"device": "70b3d57ed0000001", "payload": "AQID", "id": t.canary("sender")}, 202)
	w.call(actor{token: text(key, "secret")}, http.MethodPost, "/v1/ingest/plain", object{"device": "70b3d57ed00000ff", "payload": "AQID", "id": "unknown"}, 202)

	ended := w.login("owner@" + name + ".example")
	w.call(ended, http.MethodPost, "/v1/auth/logout", nil, 204)
	browser := w.cookie("owner@" + name + ".example")
	t.actors = []actor{
		{name: "owner", token: t.owner.token}, {name: "owner's browser", cookie: browser}, {name: "personal access token", token: text(pat, "secret"), holds: narrow},
		{name: ingestionKey, token: text(key, "secret"), holds: access.SetOf(access.UplinkSubmit)}, {name: "ended session", token: ended.token}, {name: "nobody"}, {name: "junk", token: "rf_pat_" + strings.Repeat("0", 71)},
	}
	for _, role := range access.BuiltIns() {
		if role.ID == access.Owner || role.ID == access.SourceAccount || role.ID == access.PlatformAdmin {
			continue
		}
		inv := post("/invitations", object{"email": role.Name + "@" + name + ".example", "role_id": role.ID.String(), "recursive": true}, 201)
		a := w.join(t, role.Name, text(inv, "secret"))
		t.actors = append(t.actors, actor{name: role.Name, token: a.token, holds: role.Permissions})
	}
	for i := range t.actors {
		t.actors[i].tenant = name
	}
	if name == "bravo" {
		admin := w.admin
		t.actors = append(t.actors, admin)
	}
	return t
}

func (w *world) cookie(email string) string {
	req := w.raw(http.MethodPost, "/v1/auth/login", object{"email": email, "password": password})
	_, rest, _ := strings.Cut(req.header.Get("Set-Cookie"), "__Host-sid=")
	value, _, _ := strings.Cut(rest, ";")
	if value == "" {
		w.t.Fatalf("no session cookie: %d %s", req.status, req.body.String())
	}
	return value
}

func (w *world) join(t *tenant, role, secret string) actor {
	w.call(actor{}, http.MethodPost, "/v1/auth/invitations/accept", object{"token": secret, "name": t.canary(role), "password": password}, 201)
	a := w.login(role + "@" + t.name + ".example")
	a.name, a.tenant = role, t.name
	return a
}

// found looks up what processing made, and takes a cursor of every list that has two pages.
func (w *world) found(t *tenant) {
	at := "/v1/tenants/" + t.id
	first := func(path string) object {
		items, _ := w.call(t.owner, http.MethodGet, at+path, nil, 200)["items"].([]any)
		if len(items) == 0 {
			w.t.Fatalf("%s of tenant %s is empty", path, t.name)
		}
		o, _ := items[0].(object)
		return o
	}
	t.ids["uplink"] = text(first("/quarantine"), "id")
	t.ids["event"] = text(first("/readings"), "event_id")
	t.ids["reading"] = text(first("/readings"), "id")
	t.ids["outcome"] = text(first("/outcomes"), "id")
	t.ids["session"] = "ses_" + strings.TrimPrefix(t.ids["node"], "nod_")
	for _, r := range w.routes() {
		if r.method != http.MethodGet || r.tenantFrom != "path" {
			continue
		}
		res := w.send(r.method, r.fill(t, t), "limit=1", t.owner, nil, nil)
		var page object
		if json.Unmarshal([]byte(res.text), &page) == nil {
			t.cursors[r.operation] = text(page, "next_cursor")
		}
	}
}

// neverWas is a tenant of ids that nobody has.
func (t *tenant) neverWas() *tenant {
	n := &tenant{name: "none", ids: map[string]string{}}
	for kind, id := range t.ids {
		prefix, body, ok := strings.Cut(id, "_")
		if ok && len(body) == 26 {
			n.ids[kind] = prefix + "_" + body[:10] + "vvvvvvvvvvvvvvvv"[:len(body)-11] + "0"
		} else {
			n.ids[kind] = id
		}
	}
	n.id = n.ids["tenant"]
	return n
}

// idFor is the tenant's id for a parameter or a field.
func (t *tenant) idFor(field string) string {
	field = strings.TrimSuffix(strings.TrimSuffix(field, "s"), "_id")
	switch field {
	case "parent":
		field = "node"
	case "principal", "owner":
		field = "member"
	case "id":
		field = "tenant"
	}
	return t.ids[field]
}

// raw is a request whose headers matter.
func (w *world) raw(method, path string, body object) *recorder {
	raw, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://sweep.example"+path, strings.NewReader(string(raw)))
	if err != nil {
		w.t.Fatal(err)
	}
	req.RemoteAddr = "192.0.2.1:4711"
	req.Header.Set("Content-Type", "application/json")
	res := newRecorder()
	w.target.Handler.ServeHTTP(res, req)
	return res
}
