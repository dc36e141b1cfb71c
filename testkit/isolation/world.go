package isolation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
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
	tenant              string     // whose it is; "" for the platform's
	also                string     // another tenant where the person is a member, too
	only                string     // the one victim that it is tried on; "" is each
	agent               string     // what it says of its browser
	holds               access.Set // what it may do at the root of its tenant, where that is looked at
}

type world struct {
	t       testing.TB
	target  Target
	tenants []*tenant
	owners  map[string]owned
	admin   actor
	spec    map[string]any
}

// same is the name that every noun has once in each tenant: what finds by name, or keeps by it, meets another's under it.
const same = "Pump 7"

// twin is the kind of the object of a kind that has the same name in each tenant.
func twin(kind string) string { return kind + " of the same name" }

// canary is a text that stands in one tenant's fields alone. It is in lower case, as addresses are kept.
func (t *tenant) canary(field string) string { return "canary" + t.name + field }

// payload is a canary in the bytes of an uplink: it is base64 itself, which is how payloads are sent and shown.
func (t *tenant) payload() string {
	text := t.canary("payload")
	return text + strings.Repeat("A", (4-len(text)%4)%4)
}

// address is what a member signs in by.
func (t *tenant) address(who string) string { return t.canary(who) + "@example.com" }

// foreignTo is a canary in a text that is the victim's, or of any tenant where the actor is not at home. An id is one too: no
// answer repeats what was asked for.
func (w *world) foreignTo(a actor, victim *tenant, text string) string {
	foreign := func(t *tenant) bool { return t == victim || (t.name != a.tenant && t.name != a.also) }
	for at := 0; ; {
		i := strings.Index(text[at:], "canary")
		if i < 0 {
			break
		}
		at += i + len("canary")
		for _, t := range w.tenants {
			if foreign(t) && strings.HasPrefix(text[at:], t.name) {
				return "canary" + text[at:min(len(text), at+18)]
			}
		}
	}
	for at := 0; ; at++ {
		i := strings.IndexByte(text[at:], '_')
		if i < 0 {
			return ""
		}
		if at += i; at >= 3 && at+1+ident.Len <= len(text) {
			if o, ok := w.owners[text[at-3:at+1+ident.Len]]; ok && foreign(o.tenant) {
				return "the id of " + o.tenant.name + "'s " + o.kind
			}
		}
	}
}

// owned is whose an id is, and of what.
type owned struct {
	tenant *tenant
	kind   string
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

// build makes the platform, three tenants that have an object of the same name of each noun, and who has to do with two of them.
func build(t testing.TB, target Target) *world {
	t.Helper()
	w := &world{t: t, target: target, owners: map[string]owned{}}
	w.call(actor{}, http.MethodPost, "/v1/auth/setup", object{"token": target.SetupToken, "email": "admin@platform.example", "name": "Admin", "password": password}, 201)
	w.admin = w.login("admin@platform.example")
	w.admin.name = "platform administrator"
	w.spec = w.call(actor{}, http.MethodGet, "/openapi.json", nil, 200)
	for _, name := range []string{"alpha", "bravo", "charlie"} {
		key := swept
		if name == "bravo" { // the attackers have not used it yet
			key = "built"
		}
		w.tenants = append(w.tenants, w.tenant(name, key))
	}
	attacker := w.tenants[1]
	for _, one := range w.tenants {
		if one != attacker {
			attacker.actors = append(attacker.actors, w.guest(attacker, one))
			attacker.actors = append(attacker.actors, w.removed(one, attacker)...)
		}
	}
	attacker.actors = append(attacker.actors, w.admin)
	for _, one := range w.tenants {
		if target.Bury != nil {
			target.Bury(one.payload())
		}
	}
	if target.Settle != nil {
		target.Settle()
	}
	if target.Bury != nil {
		w.letters()
	}
	for _, one := range w.tenants {
		w.found(one)
		if one != attacker {
			w.claim(one)
		}
		for kind, id := range one.ids {
			w.owners[id] = owned{one, kind}
		}
	}
	return w
}

// tenant makes one of the three. Every text that the API takes and may show is a canary once, but for a DevEUI, which is
// digits; words of closed lists; numbers and times; and passwords and the tokens of links, which no answer holds and
// testkit/redacttest looks for. Beside each named object stands its twin, whose name every tenant has: a tenant and its root
// alone have none, since a tenant is named once and nothing finds it by that.
func (w *world) tenant(name, onceKey string) *tenant {
	t := &tenant{name: name, ids: map[string]string{}, cursors: map[string]string{}}
	made := w.call(w.admin, http.MethodPost, "/v1/platform/tenants", object{"name": t.canary("tenant"), "owner_email": t.address("owner")}, 201)
	t.id = text(made, "id")
	t.ids["tenant"], t.ids["node_root"] = t.id, text(made, "root_node_id")
	t.owner = w.join(t, "owner", same, text(made, "owner_invitation", "secret"))
	t.owner.agent = t.canary("agent")
	at := "/v1/tenants/" + t.id
	post := func(path string, body object, want int, header ...string) object {
		return w.call(t.owner, http.MethodPost, at+path, body, want, header...)
	}
	named := func(kind, path string, plain, full object) object {
		plain["name"], full["name"] = same, t.canary(kind)
		t.ids[twin(kind)] = text(post(path, plain, 201), "id")
		out := post(path, full, 201)
		t.ids[kind] = text(out, "id")
		return out
	}
	match := func(rev string) []string { return []string{"If-Match", rev, "Idempotency-Key", onceKey} }

	named("node", "/nodes", object{"parent_id": t.ids["node_root"], "kind": "building"}, object{"parent_id": t.ids["node_root"], "kind": "site"})
	post("/nodes/"+t.ids[twin("node")]+"/move", object{"parent_id": t.ids["node"]}, 200, match(`"1"`)...)
	named("decoder", "/decoders", object{}, object{})
	t.ids["version"] = text(post("/decoders/"+t.ids["decoder"]+"/versions", object{"source": t.script()}, 201), "id")
	post("/decoders/"+t.ids["decoder"]+"/activate", object{"version_id": t.ids["version"]}, 200, match(`"2"`)...)
	named("device", "/devices", object{"addresses": []object{{"kind": "dev_eui", "value": "70b3d57ed0000002"}, {"kind": "serial", "value": "7"}},
		"variables": []object{{"name": "secret", "value": t.canary("hidden"), "secret": true}}}, // it would hide the start of each canary in what the device's decoder says
		object{"decoder_id": t.ids["decoder"], "addresses": []object{{"kind": "dev_eui", "value": "70b3d57ed0000001"}, {"kind": "serial", "value": t.canary("serial")}},
			"variables": []object{{"name": t.canary("variable"), "value": t.canary("value")}}})
	post("/devices/"+t.ids["device"]+"/assign", object{"node_id": t.ids["node"]}, 200, match(`"1"`)...)
	named("source", "/sources", object{"format": "plain"}, object{"format": "plain", "application_ids": []string{t.canary("application")}, "device_ids": []string{t.ids["device"]}})
	t.ids["mapping"] = text(w.call(w.admin, http.MethodPost, "/v1/platform/mappings", object{"connection": t.canary("connection"), "application_id": t.canary("mapped"), "tenant_id": t.id, "source_id": t.ids["source"]}, 201), "id")
	key := post("/sources/"+t.ids["source"]+"/keys", object{"name": t.canary("key")}, 201)
	t.ids["key"], t.ids[twin("key")] = text(key, "id"), text(post("/sources/"+t.ids[twin("source")]+"/keys", object{"name": same}, 201), "id")
	named("role", "/roles", object{"permissions": []string{"device:read"}}, object{"permissions": []string{"device:read"}})
	me := w.call(t.owner, http.MethodGet, "/v1/me", nil, 200)
	t.ids["member"] = text(me, "id")
	t.ids["person"] = t.ids["member"]
	named("group", "/groups", object{}, object{"member_ids": []string{t.ids["member"]}})
	t.ids["membership"] = text(post("/memberships", object{"group_id": t.ids["group"], "role_id": t.ids["role"], "node_id": t.ids["node"]}, 201), "id")
	t.ids["invitation"] = text(post("/invitations", object{"email": t.address("invited"), "role_id": t.ids["role"], "node_id": t.ids["node"]}, 201), "id")
	t.ids["import"] = text(post("/imports", object{"csv": "name,serial\n" + t.canary("imported") + ",s1\n"}, 201), "id")
	narrow := access.SetOf(access.DeviceRead, access.NodeRead, access.ReadingRead, access.UplinkRead, access.AuditRead, access.MemberRead, access.DeviceUpdate, access.DecoderWrite)
	pat := named("token", "/tokens", object{"permissions": []string{"device:read"}}, object{"permissions": narrow.List()})
	w.uplinks(t, text(key, "secret"))

	ended := w.login(t.address("owner"))
	w.call(ended, http.MethodPost, "/v1/auth/logout", nil, 204)
	browser := w.cookie(t.address("owner"))
	t.actors = []actor{
		{name: "owner", token: t.owner.token}, {name: "owner's browser", cookie: browser}, {name: "personal access token", token: text(pat, "secret"), holds: narrow},
		{name: ingestionKey, token: text(key, "secret"), holds: access.SetOf(access.UplinkSubmit)}, {name: "ended session", token: ended.token}, {name: "nobody"}, {name: "junk", token: "rf_pat_" + strings.Repeat("0", 71)},
	}
	for _, role := range access.BuiltIns() {
		if role.ID == access.Owner || role.ID == access.SourceAccount || role.ID == access.PlatformAdmin {
			continue
		}
		inv := post("/invitations", object{"email": t.address(role.Name), "role_id": role.ID.String(), "recursive": true}, 201)
		a := w.join(t, role.Name, t.canary(role.Name), text(inv, "secret"))
		t.actors = append(t.actors, actor{name: role.Name, token: a.token, holds: role.Permissions})
	}
	for i := range t.actors {
		t.actors[i].tenant = name
	}
	return t
}

// script is a decoder whose readings, warnings and failures tell whose it is.
func (t *tenant) script() string {
	return "function decodeUplink(i) { if (i.fPort === 2) { throw new Error('" + t.canary("message") + "') } return { data: { c: '" + t.canary("reading") +
		"' }, warnings: ['" + t.canary("warning") + "'] } } // " + t.canary("script")
}

// uplinks sends what is decoded, what fails, and what is kept in quarantine; and last what an attacker sends again, which must
// not be answered as the duplicate of this one. Some senders' ids are the same in all tenants.
func (w *world) uplinks(t *tenant, key string) {
	known, failing, stranger := t.uplink(), t.uplink(), t.uplink()
	known["payload"], known["id"] = t.payload(), t.canary("sender")
	failing["payload"], failing["id"], failing["f_port"] = t.payload(), "1", 2
	stranger["payload"], stranger["id"], stranger["device"], stranger["address_kind"] = t.payload(), "1", t.canary("stranger"), "serial"
	for _, one := range []object{known, failing, stranger, t.uplink()} {
		one["application"] = t.canary("application")
		t.ids["sent"] = text(w.call(actor{token: key}, http.MethodPost, "/v1/ingest/plain", one, 202), "event_id")
	}
}

// uplink is one of a device that each tenant has, with an id that this one's sender gave it.
func (t *tenant) uplink() object {
	return object{"device": "70b3d57ed0000001", "payload": "AQID", "id": "of-" + t.name}
}

func builtIn(role string) string {
	for _, r := range access.BuiltIns() {
		if r.Name == role {
			return r.ID.String()
		}
	}
	return ""
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
	items, _ := w.call(t.owner, http.MethodGet, "/v1/me/sessions", nil, 200)["items"].([]any)
	for _, item := range items { // the one that the owner is called by: whoever ends it is found at the end, too
		if o, _ := item.(object); o["current"] == true {
			t.ids["session"] = text(o, "id")
		}
	}
	if t.ids["session"] == "" {
		w.t.Fatalf("the owner of tenant %s has no session", t.name)
	}
	t.ids["request"] = text(first("/audit/entries"), "request_id")
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

// letters looks up the dead letter that holds each tenant's payload, by its hash: nothing else tells them apart.
func (w *world) letters() {
	items, _ := w.call(w.admin, http.MethodGet, "/v1/platform/dead-letters", nil, 200)["items"].([]any)
	for _, t := range w.tenants {
		sum := sha256.Sum256([]byte(t.payload()))
		for _, item := range items {
			if o, _ := item.(object); text(o, "sha256") == base64.StdEncoding.EncodeToString(sum[:]) {
				t.ids["letter"] = text(o, "id")
			}
		}
		if t.ids["letter"] == "" {
			w.t.Fatalf("the dead letter of %s is not among %d", t.name, len(items))
		}
	}
}

// neverWas is a tenant of ids that nobody has. Each looks like one that was minted, at the moment when the victim's was: what
// tells them apart is that the store has no such row. It is the same for the same tenant.
func (t *tenant) neverWas() *tenant {
	n := &tenant{name: "none", ids: map[string]string{}}
	for kind, id := range t.ids {
		n.ids[kind] = unminted(id)
	}
	n.id = n.ids["tenant"]
	return n
}

func unminted(text string) string {
	prefix, body, _ := strings.Cut(text, "_")
	id, err := ident.ParseTenant(ident.Platform.String()[:4] + body) // ids of all kinds are written alike
	if err != nil {
		return text
	}
	digest := sha256.Sum256([]byte(text))
	copy(id[6:], digest[:])
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return prefix + id.String()[3:]
}

// idFor is the tenant's id for a parameter or a field.
func (t *tenant) idFor(field string) string {
	field = strings.TrimSuffix(strings.TrimSuffix(field, "s"), "_id")
	switch field {
	case "parent":
		field = "node"
	case "principal", "owner", "actor":
		field = "member"
	case "target":
		field = "device"
	case "org":
		field = "node"
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
