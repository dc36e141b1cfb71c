package audittest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
)

const password = "a long enough passphrase"

type ids = map[string]string

// builtIn is the id of a role that every tenant has.
func builtIn(name string) string {
	i := slices.IndexFunc(access.BuiltIns(), func(r access.Role) bool { return r.Name == name })
	return access.BuiltIns()[i].ID.String()
}

// with adds ids to those of a tenant.
func with(base ids, pairs ...string) ids {
	out := maps.Clone(base)
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

// story is the life of a tenant, told so that every operation has its place in it.
func (c *check) story() {
	c.learn()
	admin := c.platform()
	ten, owner := c.tenant(admin)
	node := c.nodes(ten, owner)
	c.people(ten, owner, node)
	dec := c.decoders(ten, owner)
	source := c.devices(ten, owner, node, dec)
	c.mapped(ten, admin, source)
	c.flow(ten, owner, source)
	c.reads(ten, owner, admin)
	c.failures()
	c.refusals(ten, owner, admin)
}

// enters signs a person in whose id is known, or is to be learnt.
func (c *check) enters(email, id string) who {
	c.t.Helper()
	w := who{id: id}
	body := object{"email": email, "password": password, "mode": "token"}
	w.token = c.do("logIn", w, nil, body).text("access_token")
	if w.id == "" {
		w.id = c.send(w, http.MethodGet, "/v1/me", nil, 0).text("id")
	}
	return w
}

func (c *check) accepts(secret, name string) {
	c.t.Helper()
	c.do("acceptInvitation", who{}, nil, object{"token": secret, "name": name, "password": password})
}

func (c *check) platform() who {
	first := c.do("setUp", who{}, nil, object{"token": c.target.SetupToken, "email": "admin@platform.example", "name": "Admin", "password": password, "tenant": object{"name": "Home"}})
	admin := c.enters("admin@platform.example", "")
	home := ids{"tenant": first.text("tenant", "id")}
	c.enters("admin@platform.example", admin.id) // and now the log's actor is held against the id

	other := c.do("createPlatformTenant", admin, nil, object{"name": "Other", "owner_email": "ben@other.example"})
	at := ids{"id": other.text("id")}
	ben := c.do("inviteOwner", admin, at, object{"owner_email": "ben@other.example"})
	c.accepts(ben.text("secret"), "Ben")
	c.do("updateTenantLimits", admin, at, object{"devices": 7})
	c.do("suspendPlatformTenant", admin, at, nil)
	c.do("resumePlatformTenant", admin, at, nil)
	c.do("closePlatformTenant", admin, at, nil)

	w := c.enters("ben@other.example", "")
	second := c.do("grantPlatformMembership", admin, nil, object{"principal_id": w.id})
	c.do("revokePlatformMembership", admin, ids{"membership": second.text("id")}, nil)
	c.do("disablePerson", admin, ids{"id": w.id}, nil)
	c.do("enablePerson", admin, ids{"id": w.id}, nil)
	reset := c.do("resetPerson", admin, ids{"id": w.id}, nil)
	c.do("resetPassword", who{id: w.id}, nil, object{"token": reset.text("secret"), "password": password})

	c.do("closeTenant", admin, home, nil)
	return admin
}

func (c *check) tenant(admin who) (ids, who) {
	made := c.do("createPlatformTenant", admin, nil, object{"name": "Acme", "owner_email": "ana@acme.example"})
	ten := ids{"tenant": made.text("id"), "root": made.text("root_node_id")}
	c.accepts(made.text("owner_invitation", "secret"), "Ana")
	ana := c.enters("ana@acme.example", "")
	c.do("updateTenant", ana, ten, object{"name": "Acme Water"})

	c.do("changePassword", ana, nil, object{"password": password, "new_password": password})
	ana = c.enters("ana@acme.example", ana.id) // since every session ends with it
	login := object{"email": "ana@acme.example", "password": password, "mode": "token"}
	pair := c.do("logIn", ana, nil, login)
	again := c.do("refresh", ana, nil, object{"refresh_token": pair.text("refresh_token")})
	c.do("endSession", ana, ids{"session": c.session(again.text("access_token"))}, nil)
	out := c.do("logIn", ana, nil, login).text("access_token")
	c.do("logOut", who{token: out, id: ana.id, session: c.session(out)}, nil, nil)
	return ten, ana
}

// session is the id of the session that a token belongs to.
func (c *check) session(token string) string {
	c.t.Helper()
	for _, s := range list(c.send(who{token: token}, http.MethodGet, "/v1/me/sessions", nil, 0)) {
		if s["current"] == true {
			return fmt.Sprint(s["id"])
		}
	}
	c.t.Fatal("no session is the current one")
	return ""
}

func list(a answer) []object {
	items, ok := a.object["items"].([]any)
	if !ok {
		return nil
	}
	var out []object
	for _, i := range items {
		if o, ok := i.(object); ok {
			out = append(out, o)
		}
	}
	return out
}

func (c *check) nodes(ten ids, ana who) string {
	site := c.do("createNode", ana, ten, object{"parent_id": ten["root"], "kind": "site", "name": "North"}).text("id")
	other := c.do("createNode", ana, ten, object{"parent_id": ten["root"], "kind": "site", "name": "South"}).text("id")
	house := c.do("createNode", ana, ten, object{"parent_id": site, "kind": "building", "name": "House"}).text("id")
	at := with(ten, "node", house)
	c.do("updateNode", ana, at, object{"name": "Hall"})
	kept := c.do("grantMembership", ana, ten, object{"principal_id": ana.id, "role_id": builtIn("admin"), "node_id": house, "recursive": true})
	c.do("updateNode", ana, at, object{"barrier": true})
	c.do("updateNode", ana, at, object{"barrier": false})
	c.do("revokeMembership", ana, with(ten, "membership", kept.text("id")), nil)
	c.do("moveNode", ana, at, object{"parent_id": other})
	c.do("deleteNode", ana, at, nil)
	return site
}

func (c *check) people(ten ids, ana who, node string) {
	role := c.do("createRole", ana, ten, object{"name": "reader", "permissions": []string{"device:read"}}).text("id")
	c.do("updateRole", ana, with(ten, "role", role), object{"permissions": []string{"device:read", "node:read"}})
	in := c.do("createInvitation", ana, ten, object{"email": "cid@acme.example", "role_id": role, "node_id": node})
	c.do("revokeInvitation", ana, with(ten, "invitation", in.text("id")), nil)
	in = c.do("createInvitation", ana, ten, object{"email": "cid@acme.example", "role_id": role, "node_id": node})
	c.accepts(in.text("secret"), "Cid")
	cid := c.enters("cid@acme.example", "")
	group := c.do("createGroup", ana, ten, object{"name": "crew", "member_ids": []string{cid.id}}).text("id")
	c.do("updateGroup", ana, with(ten, "group", group), object{"name": "shift"})
	got := c.do("grantMembership", ana, ten, object{"group_id": group, "role_id": role, "node_id": node, "recursive": true})
	c.do("revokeMembership", ana, with(ten, "membership", got.text("id")), nil)
	c.do("deleteGroup", ana, with(ten, "group", group), nil)
	reset := c.do("resetMember", ana, with(ten, "member", cid.id), nil)
	c.do("resetPassword", who{id: cid.id}, nil, object{"token": reset.text("secret"), "password": password})
	c.do("removeMember", ana, with(ten, "member", cid.id), nil)
	c.do("deleteRole", ana, with(ten, "role", role), nil)
}

func (c *check) decoders(ten ids, ana who) string {
	dec := c.do("createDecoder", ana, ten, object{"name": "pump"}).text("id")
	at := with(ten, "decoder", dec)
	c.do("updateDecoder", ana, at, object{"name": "pumps"})
	script := "function decodeUplink(i) { if (i.bytes[0] === 255) throw new Error('full'); return { data: { n: i.bytes.length + %d } } }"
	for n := range 2 {
		v := c.do("createVersion", ana, at, object{"source": fmt.Sprintf(script, n)}).text("id")
		c.do("activateVersion", ana, at, object{"version_id": v})
	}
	c.do("rollBackDecoder", ana, at, nil)
	c.do("testDecoder", ana, at, object{"source": fmt.Sprintf(script, 9), "payload": "AQID"})
	gone := c.do("createDecoder", ana, ten, object{"name": "gone"}).text("id")
	c.do("deleteDecoder", ana, with(ten, "decoder", gone), nil)
	return dec
}

const eui = "70b3d57ed0000001"

func (c *check) devices(ten ids, ana who, node, dec string) string {
	dev := c.do("createDevice", ana, ten, object{"name": "pump 1", "decoder_id": dec, "addresses": []object{{"kind": "dev_eui", "value": eui}}}).text("id")
	at := with(ten, "device", dev)
	c.do("updateDevice", ana, at, object{"name": "pump one"})
	c.do("assignDevice", ana, at, object{"node_id": node})
	c.do("importDevices", ana, ten, object{"csv": "name,serial\nmeter,s1\n"})
	gone := c.do("createDevice", ana, ten, object{"name": "gone", "addresses": []object{{"kind": "serial", "value": "s2"}}}).text("id")
	c.do("deleteDevice", ana, with(ten, "device", gone), nil)

	pat := c.do("createToken", ana, ten, object{"name": "script", "permissions": []string{"device:read", "device:update"}})
	c.do("updateDevice", who{token: pat.text("secret"), id: ana.id}, at, object{"name": "pump 1"})
	c.do("revokeToken", ana, with(ten, "token", pat.text("id")), nil)
	pat = c.do("createToken", ana, ten, object{"name": "another", "permissions": []string{"device:read"}})
	c.do("revokeMyToken", ana, ids{"token": pat.text("id")}, nil)

	src := c.do("createSource", ana, ten, object{"name": "field", "format": "plain"}).text("id")
	c.do("updateSource", ana, with(ten, "source", src), object{"name": "fields"})
	gone = c.do("createSource", ana, ten, object{"name": "gone", "format": "plain"}).text("id")
	c.do("deleteSource", ana, with(ten, "source", gone), nil)
	return src
}

// mapped gives an application of a connection to the tenant's source, replays what came of it before, and takes it away.
func (c *check) mapped(ten ids, admin who, source string) {
	const connection, application = "chirpstack-eu", "17c82e96"
	id := c.do("createMapping", admin, nil, object{"connection": connection, "application_id": application, "tenant_id": ten["tenant"], "source_id": source}).text("id")
	if c.target.Bury != nil {
		c.target.Bury(connection, application)
		letters := list(c.send(admin, http.MethodGet, "/v1/platform/dead-letters", nil, 0))
		if len(letters) != 1 {
			c.t.Fatalf("%d dead letters, want 1", len(letters))
		}
		c.do("replayDeadLetter", admin, ids{"letter": fmt.Sprint(letters[0]["id"])}, nil)
	}
	c.do("deleteMapping", admin, with(ten, "mapping", id), nil)
}

// flow sends events. They leave no entry each: telemetry is not audited, what people decide about it is.
func (c *check) flow(ten ids, ana who, source string) {
	at := with(ten, "source", source)
	key := c.do("createKey", ana, at, object{"name": "first"})
	c.do("ingestPlain", who{token: key.text("secret")}, nil, object{"device": eui, "payload": "AQID", "id": "1"})
	failed := c.do("ingestPlain", who{token: key.text("secret")}, nil, object{"device": eui, "payload": "/w==", "id": "2"}).text("event_id")
	for n := range 2 {
		c.do("ingestPlain", who{token: key.text("secret")}, nil, object{"device": "70b3d57ed00000ff", "payload": "AQID", "id": fmt.Sprint("unknown", n)})
	}
	c.do("rotateKey", ana, at, object{"name": "second", "overlap_seconds": 60})
	c.do("revokeKey", ana, with(at, "key", key.text("id")), nil)
	for name, body := range map[string]object{
		"chirpstack": {"deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d", "time": "2026-11-24T12:00:00Z", "deviceInfo": object{"applicationId": "17c82e96", "devEui": eui}, "fCnt": 7, "fPort": 2, "data": "AQID"},
		"tts": {"end_device_ids": object{"device_id": "pump-1", "dev_eui": strings.ToUpper(eui), "application_ids": object{"application_id": "pumps"}}, "received_at": "2026-11-24T12:00:00Z",
			"uplink_message": object{"f_port": 2, "f_cnt": 9, "frm_payload": "AQID"}},
	} {
		src := c.do("createSource", ana, ten, object{"name": name, "format": name}).text("id")
		key := c.do("createKey", ana, with(ten, "source", src), object{"name": "k"})
		operation := map[string]string{"chirpstack": "ingestChirpStack", "tts": "ingestTTS"}[name]
		c.do(operation, who{token: key.text("secret")}, nil, body)
	}
	c.target.Settle()
	c.fresh()
	waiting := list(c.send(ana, http.MethodGet, "/v1/tenants/"+ten["tenant"]+"/quarantine", nil, 0))
	if len(waiting) != 2 {
		c.t.Fatalf("%d events in quarantine, want 2", len(waiting))
	}
	for i, name := range []string{"releaseUplink", "discardUplink"} {
		c.do(name, ana, with(ten, "uplink", fmt.Sprint(waiting[i]["id"])), nil)
	}
	c.do("replayUplink", ana, with(ten, "uplink", failed), nil)
}

func (c *check) reads(ten ids, ana, admin who) {
	c.do("listAuditEntries", ana, ten, nil)
	c.do("getAuditEntry", ana, with(ten, "seq", "0"), nil)
	c.do("getAuditProof", ana, with(ten, "seq", "0"), nil)
	c.do("getAuditPrivateValues", ana, with(ten, "seq", "0"), nil)
	c.do("exportAudit", ana, ten, nil)
	c.do("exportAuditEntries", ana, ten, nil)
	c.do("listPlatformAudit", admin, nil, nil)
	c.do("getPlatformAuditEntry", admin, ids{"seq": "0"}, nil)
	c.do("getPlatformAuditProof", admin, ids{"seq": "0"}, nil)
	c.do("getPlatformAuditPrivateValues", admin, ids{"seq": "0"}, nil)
	c.do("digestLogin", admin, nil, object{"login": "ana@acme.example"})
	c.do("exportPlatformAudit", admin, nil, nil)
	c.do("exportPlatformAuditEntries", admin, nil, nil)
}

// failures are what is recorded although nothing was done.
func (c *check) failures() {
	c.fails("a wrong password", who{}, "/v1/auth/login", object{"email": "ana@acme.example", "password": "a wrong passphrase, too"}, 401, audit.LoginFail)
	c.fails("a name that nobody has", who{}, "/v1/auth/login", object{"email": "nobody@acme.example", "password": password}, 401, audit.LoginFail)
	ana := c.enters("ana@acme.example", "")
	pair := c.do("logIn", ana, nil, object{"email": "ana@acme.example", "password": password, "mode": "token"})
	c.do("refresh", ana, nil, object{"refresh_token": pair.text("refresh_token")})
	c.fails("a refresh token used twice", who{}, "/v1/auth/refresh", object{"refresh_token": pair.text("refresh_token")}, 401, audit.TokenReuse)
}

func (c *check) fails(what string, w who, path string, body object, status int, want audit.Action) {
	c.t.Helper()
	c.fresh()
	a := c.send(w, http.MethodPost, path, body, 0)
	if a.status != status {
		c.t.Fatalf("%s: %d %s", what, a.status, a.body)
	}
	got := c.fresh()
	c.result.Refusals++
	if len(got) != 1 || got[0].Action != string(want) || got[0].Outcome == string(audit.OK) || got[0].tree != ident.Platform {
		c.find("%s recorded %v, want one %s in the platform's tree", what, actions(got), want)
		return
	}
	c.origin(what, got[0], w, a)
}

func actions(es []entry) (out []string) {
	for _, e := range es {
		out = append(out, fmt.Sprintf("%s %s %s in %s", e.Action, e.Target, e.Outcome, e.tree))
	}
	return out
}

// refusals asks for everything that takes a permission as a member who lacks it, and as somebody from elsewhere. Twenty a
// minute and actor are recorded in full, so there are as many actors as that takes.
func (c *check) refusals(ten ids, ana, admin who) {
	const lone = "outcome:read" // what the weak may do
	role := c.do("createRole", ana, ten, object{"name": "weak", "permissions": []string{lone}}).text("id")
	root := object{"role_id": role, "recursive": true}
	var weak, foreign who
	asked, names := 0, slices.Sorted(maps.Keys(c.operations))
	for _, name := range names {
		o := c.operations[name]
		if o.permission == "" || o.permission == lone || o.tenantFrom == "credential" {
			continue
		}
		if asked%18 == 0 {
			mail := fmt.Sprintf("weak%d@acme.example", asked)
			body := maps.Clone(root)
			body["email"] = mail
			c.accepts(c.do("createInvitation", ana, ten, body).text("secret"), "Weak")
			weak = c.enters(mail, "")
			mail = fmt.Sprintf("far%d@far.example", asked)
			far := c.do("createPlatformTenant", admin, nil, object{"name": "Far", "owner_email": mail})
			c.accepts(far.text("owner_invitation", "secret"), "Far")
			foreign = c.enters(mail, "")
		}
		asked++
		own := ident.Platform
		if o.tenantFrom == "path" {
			var err error
			if own, err = ident.ParseTenant(ten["tenant"]); err != nil {
				c.t.Fatal(err)
			}
		}
		c.refused(o, weak, ten, own)
		c.refused(o, foreign, ten, ident.Platform)
	}
}

// refused asks for one thing that must be refused, and recorded in a tree: the tenant's for its members, else the platform's.
func (c *check) refused(o operation, w who, ten ids, tree ident.Tenant) {
	c.t.Helper()
	path := o.path
	for strings.Contains(path, "{") {
		before, rest, _ := strings.Cut(path, "{")
		name, after, _ := strings.Cut(rest, "}")
		id := ten[name]
		switch {
		case name == "seq":
			id = "0"
		case name == "id":
			id = ten["tenant"]
		case name == "node":
			id = ten["root"]
		case id == "":
			id = stranger(name)
		}
		path = before + id + after
	}
	rev := 0
	if o.match {
		rev = 1
	}
	var body object
	if o.method != http.MethodGet {
		body = object{}
	}
	c.fresh()
	a := c.send(w, o.method, path, body, rev)
	c.result.Refusals++
	got := c.fresh()
	if a.status != http.StatusForbidden && a.status != http.StatusNotFound {
		c.find("%s of somebody who may not: %d %s", o.name, a.status, a.body)
	}
	if len(got) != 1 || got[0].Action != string(audit.AuthzFail) || got[0].Target != o.permission || got[0].Outcome != string(audit.Denied) || got[0].tree != tree {
		c.find("a refused %s recorded %v, want one %s of %s in %s", o.name, actions(got), audit.AuthzFail, o.permission, tree)
		return
	}
	c.origin("a refused "+o.name, got[0], w, a)
}

// stranger is an id of a kind that nobody has.
func stranger(kind string) string {
	prefix := map[string]string{"device": "dev", "decoder": "dec", "version": "ver", "source": "src", "key": "key", "role": "rol", "group": "grp", "member": "usr", "membership": "mem", "invitation": "lnk", "import": "imp", "token": "tok", "uplink": "upl", "reading": "upl", "outcome": "upl", "mapping": "map"}[kind]
	return prefix + "_06ethoo0000000000000000010"
}
