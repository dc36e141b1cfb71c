package redacttest

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/core/ident"
)

type ids = map[string]string

// with adds ids to those of a tenant.
func with(base ids, pairs ...string) ids {
	out := maps.Clone(base)
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

// tenant is one of the two, and what it holds.
type tenant struct {
	id    ident.Tenant
	ids   ids // by the names that paths give them
	owner who
	email string
	key   who // a source's, of the plain form
	eui   string
}

type world struct {
	admin   who
	person  string // somebody's id
	tenants []*tenant
}

// do makes one request that must succeed. What it makes is made under an Idempotency-Key that is a secret too.
func (c *check) do(name string, w who, at ids, body any, shows ...string) answer {
	c.t.Helper()
	o := c.operation(name)
	q := request{method: o.method, path: c.fill(o, at), body: body, header: http.Header{}, shows: shows}
	if o.method == http.MethodPost {
		q.header.Set("Idempotency-Key", c.headerSecret("Idempotency-Key of "+name))
	}
	var a answer
	for rev := 1; ; rev++ {
		if o.match {
			q.header.Set("If-Match", fmt.Sprintf(`"%d"`, rev))
		}
		if a = c.send(w, name, q); a.status != http.StatusPreconditionFailed || rev > 20 {
			break
		}
	}
	if a.status >= 300 {
		c.t.Fatalf("%s: %d %s", name, a.status, a.body)
	}
	return a
}

func (c *check) operation(name string) operation {
	c.t.Helper()
	i := slices.IndexFunc(c.operations, func(o operation) bool { return o.name == name })
	if i < 0 {
		c.t.Fatalf("there is no operation %s any more: take it out of the script", name)
	}
	return c.operations[i]
}

// fill puts ids into a path; what nothing is known of becomes an id that nobody has.
func (c *check) fill(o operation, at ids) string {
	path := o.path
	for _, name := range o.params {
		id := at[name]
		switch {
		case id != "":
		case name == "seq":
			id = "0"
		default:
			id = stranger(name)
		}
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	return path
}

// stranger is an id of a kind that nobody has.
func stranger(kind string) string {
	prefix := map[string]string{"tenant": "ten", "id": "ten", "node": "nod", "device": "dev", "decoder": "dec", "version": "ver", "source": "src", "key": "key", "role": "rol", "group": "grp", "member": "usr",
		"membership": "mem", "invitation": "lnk", "import": "imp", "token": "tok", "uplink": "upl", "session": "ses", "mapping": "map"}[kind]
	return prefix + "_06ethoo0000000000000000010"
}

// mail is a fresh e-mail address of somebody of a tenant's.
func (c *check) mail(owner ident.Tenant) string {
	return c.known("e-mail address", "an invitation", c.next(), owner).text + "@canary.example"
}

// enters signs somebody in, by tokens.
func (c *check) enters(w who, email, password string) who {
	c.t.Helper()
	a := c.do("logIn", w, nil, object{"email": email, "password": password, "mode": "token"})
	w.token = c.issued("the access token of logIn", a.text("access_token"))
	c.issued("the refresh token of logIn", a.text("refresh_token"))
	return w
}

// accepts makes somebody of an invitation, and answers the password.
func (c *check) accepts(place, token string, owner ident.Tenant) string {
	c.t.Helper()
	password := c.secret("password of acceptInvitation")
	c.do("acceptInvitation", who{}, nil, object{"token": c.issued(place, token), "name": c.name("person's name", owner), "password": password})
	return password
}

func (c *check) world() *world {
	c.t.Helper()
	w := &world{admin: who{name: "the platform's administrator", tenants: []ident.Tenant{ident.Platform}, platform: true}}
	email, password := c.mail(ident.Platform), c.secret("password of setUp")
	c.do("setUp", who{}, nil, object{"token": c.issued("the setup link", c.target.SetupToken), "email": email, "name": c.name("person's name", ident.Platform), "password": password})
	w.admin = c.enters(w.admin, email, password)
	for _, name := range []string{"A", "B"} {
		w.tenants = append(w.tenants, c.tenant(w, name))
		if c.until != "" {
			c.look("with tenant " + name)
		}
	}
	c.credentials(w)
	for _, t := range w.tenants {
		c.reads(w, t)
	}
	return w
}

// tenant makes one with an owner, and everything in it. Its names are known before its id is, so that they are entered in the
// order in which ids come to be.
func (c *check) tenant(w *world, name string) *tenant {
	c.t.Helper()
	title, address := rich(c.next(), marks), c.next()
	made := c.do("createPlatformTenant", w.admin, nil, object{"name": title, "owner_email": address + "@canary.example"})
	id, err := ident.ParseTenant(made.text("id"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.known("tenant name", "createPlatformTenant", title, id)
	c.known("e-mail address", "createPlatformTenant", address, id)
	t := &tenant{id: id, email: address + "@canary.example", ids: ids{"tenant": made.text("id"), "root": made.text("root_node_id")}, owner: who{name: "the owner of " + name, tenants: []ident.Tenant{id}}}
	c.do("updateTenantLimits", w.admin, ids{"id": t.ids["tenant"]}, object{"tenant_rate": 100_000, "principal_rate": 100_000, "principal_burst": 100_000, "keys_per_source": 10, "tokens_per_person": 50})
	t.owner = c.enters(t.owner, t.email, c.accepts("the link of createPlatformTenant", made.text("owner_invitation", "secret"), id))
	c.people(w, t)
	c.things(t)
	c.flow(t)
	t.ids["mapping"] = c.do("createMapping", w.admin, nil, object{"connection": "network-server", "application_id": c.known("mapped application", "createMapping", c.next(), t.id).text, "tenant_id": t.ids["tenant"], "source_id": t.ids["source"]}).text("id")
	return t
}

func (c *check) people(w *world, t *tenant) {
	role := ""
	for range c.many(10) {
		role = c.do("createRole", t.owner, t.ids, object{"name": c.name("role name", t.id), "permissions": []string{"device:read", "node:read"}}).text("id")
	}
	var person string
	for range c.many(12) {
		in := c.do("createInvitation", t.owner, t.ids, object{"email": c.mail(t.id), "role_id": role, "node_id": t.ids["root"]})
		c.accepts("the link of createInvitation", in.text("secret"), t.id)
		t.ids["invitation"] = in.text("id")
	}
	for _, m := range c.do("listMembers", t.owner, t.ids, nil).items() {
		if m["email"] != t.email && m["kind"] == "human" {
			person = fmt.Sprint(m["id"])
		}
	}
	for range c.many(10) {
		t.ids["group"] = c.do("createGroup", t.owner, t.ids, object{"name": c.name("group name", t.id), "member_ids": []string{person}}).text("id")
	}
	t.ids["membership"] = c.do("grantMembership", t.owner, t.ids, object{"group_id": t.ids["group"], "role_id": role, "node_id": t.ids["root"]}).text("id")
	reset := c.issued("the link of resetMember", c.do("resetMember", t.owner, with(t.ids, "member", person), nil).text("secret"))
	c.do("resetPassword", who{}, nil, object{"token": reset, "password": c.secret("password of resetPassword")})
	c.issued("the link of resetPerson", c.do("resetPerson", w.admin, ids{"id": person}, nil).text("secret"))
	waiting := c.do("createInvitation", t.owner, t.ids, object{"email": c.mail(t.id), "role_id": role, "node_id": t.ids["root"]})
	c.issued("the link of createInvitation", waiting.text("secret"))
	t.ids["invitation"], t.ids["role"], t.ids["member"], w.person = waiting.text("id"), role, person, person
	c.do("updateTenant", t.owner, t.ids, object{"name": c.name("tenant name", t.id)})
}

// script tells what it was given in as many ways as a script can.
const script = `function decodeUplink(input) {
  const all = Object.values(input.variables || {}).map(String), text = String.fromCharCode(...input.bytes.slice(1));
  switch (input.bytes[0]) {
  case 1: throw new Error(text);
  case 2: throw new Error(all.join(' '));
  case 3: console.log(all.join(' ')); console.error(all); return { data: { all: all, joined: 'x' + all.join('') }, warnings: all };
  case 4: return { errors: all };
  case 5: throw new Error(JSON.stringify(all));
  case 6: return { data: Object.fromEntries(all.map(s => [s, 1])) };
  case 7: throw all;
  case 8: return null[all.join('')];
  }
  return { data: { text: text }, warnings: [text] };
}
// `

const ways = 9 // of the script, by a payload's first byte

func (c *check) things(t *tenant) {
	for i := range c.many(40) {
		parent := t.ids["root"]
		if i%2 == 1 {
			parent = t.ids["node"]
		}
		kind := []string{"site", "building"}[i%2]
		t.ids["node"] = c.do("createNode", t.owner, t.ids, object{"parent_id": parent, "kind": kind, "name": c.name("node name", t.id)}).text("id")
	}
	c.do("updateNode", t.owner, t.ids, object{"name": c.name("node name", t.id)})
	for range c.many(10) {
		t.ids["decoder"] = c.do("createDecoder", t.owner, t.ids, object{"name": c.name("decoder name", t.id)}).text("id")
	}
	source := script + c.name("script", t.id)
	t.ids["version"] = c.do("createVersion", t.owner, t.ids, object{"source": source}).text("id")
	c.do("activateVersion", t.owner, t.ids, object{"version_id": t.ids["version"]})

	var rows strings.Builder
	w := csv.NewWriter(&rows)
	_ = w.Write([]string{"name", "dev_eui", "serial"}) // to memory
	for range c.many(150) {
		_ = w.Write([]string{c.name("device name", t.id), "", c.name("device address", t.id)})
	}
	for range c.many(20) { // rows that are refused, with what must not be repeated
		_ = w.Write([]string{c.secret("a refused row of importDevices"), c.secret("an address of a refused row of importDevices"), ""})
		_ = w.Write([]string{"row", "", "serial " + c.secret("a serial of a refused row of importDevices")})
	}
	w.Flush()
	t.ids["import"] = c.do("importDevices", t.owner, t.ids, object{"csv": rows.String()}).text("id")

	t.eui = fmt.Sprintf("70b3d57ed00000%02x", t.id[15])
	devices := c.many(20)
	for i := range devices {
		eui := t.eui
		if i < devices-1 {
			eui = fmt.Sprintf("70b3d57ed1%02x00%02x", i, t.id[15])
		}
		t.ids["device"] = c.do("createDevice", t.owner, t.ids, object{
			"name": c.name("device name", t.id), "decoder_id": t.ids["decoder"], "addresses": []object{{"kind": "dev_eui", "value": eui}, {"kind": "serial", "value": c.name("device address", t.id)}},
			"variables": []object{{"name": c.name("variable name", t.id), "value": c.name("variable", t.id)}, {"name": c.name("variable name", t.id), "value": c.secret("a secret variable of createDevice"), "secret": true}},
		}).text("id")
	}
	c.do("updateDevice", t.owner, t.ids, object{"variables": []object{{"name": c.name("variable name", t.id), "value": c.name("variable", t.id)}, {"name": c.name("variable name", t.id), "value": c.secret("a secret variable of updateDevice"), "secret": true},
		{"name": "plain", "value": c.plainSecret("a secret variable of updateDevice"), "secret": true}}})
	for way := range ways {
		c.do("testDecoder", t.owner, t.ids, object{"version_id": t.ids["version"], "payload": payload(way, c.name("payload", t.id)),
			"variables": []object{{"name": "token", "value": c.secret("a secret variable of testDecoder"), "secret": true}}})
	}
	for range 3 {
		t.ids["source"] = c.do("createSource", t.owner, t.ids, object{"name": c.name("source name", t.id), "format": "plain", "application_ids": []string{c.name("application", t.id)}}).text("id")
	}
	pat := c.do("createToken", t.owner, t.ids, object{"name": c.name("token name", t.id), "permissions": []string{"device:read"}})
	t.ids["token"] = pat.text("id")
	c.do("listDevices", who{name: t.owner.name + "'s token", token: c.issued("the token of createToken", pat.text("secret")), tenants: t.owner.tenants}, t.ids, nil)
}

func payload(way int, text string) string {
	return base64.StdEncoding.EncodeToString(append([]byte{byte(way)}, text...)) //nolint:gosec // one of a few
}

// flow sends events of all forms: known and unknown, decoded and failed.
func (c *check) flow(t *tenant) {
	src := c.do("createSource", t.owner, t.ids, object{"name": c.name("source name", t.id), "format": "plain"}).text("id")
	at := with(t.ids, "source", src)
	key := c.do("createKey", t.owner, at, object{"name": c.name("key name", t.id)})
	t.ids["source"], t.ids["key"] = src, key.text("id")
	c.issued("the key of createKey", key.text("secret"))
	key = c.do("rotateKey", t.owner, at, object{"name": c.name("key name", t.id), "overlap_seconds": 60})
	t.key = who{name: "a source", token: c.issued("the key of rotateKey", key.text("secret")), tenants: t.owner.tenants}
	for i := range c.many(150) {
		t.ids["uplink"] = c.do("ingestPlain", t.key, nil, object{"device": t.eui, "payload": payload(i%ways, c.name("payload", t.id)), "id": c.name("sender's id", t.id), "application": c.name("application", t.id)}).text("event_id")
	}
	for range c.many(20) { // nobody's device: these wait in quarantine
		c.do("ingestPlain", t.key, nil, object{"device": c.name("device address", t.id), "address_kind": "serial", "payload": payload(0, c.name("payload", t.id))})
	}
	for _, format := range []string{"chirpstack", "tts"} {
		src := c.do("createSource", t.owner, t.ids, object{"name": c.name("source name", t.id), "format": format}).text("id")
		key := c.do("createKey", t.owner, with(t.ids, "source", src), object{"name": c.name("key name", t.id)})
		w := who{name: "a source", token: c.issued("the key of createKey", key.text("secret")), tenants: t.owner.tenants}
		for range c.many(20) {
			if format == "chirpstack" {
				c.do("ingestChirpStack", w, nil, object{"deduplicationId": c.name("sender's id", t.id), "deviceInfo": object{"applicationId": c.name("application", t.id), "devEui": t.eui, "deviceName": c.secret("deviceName of ingestChirpStack")},
					"devAddr": c.name("network session", t.id), "fCnt": c.n, "fPort": 2, "data": payload(0, c.name("payload", t.id)), c.secret("an unknown field of ingestChirpStack"): c.secret("an unknown field of ingestChirpStack"),
					"rxInfo": []object{{"gatewayId": c.secret("gatewayId of ingestChirpStack")}}})
				continue
			}
			c.do("ingestTTS", w, nil, object{"end_device_ids": object{"device_id": c.secret("device_id of ingestTTS"), "dev_eui": strings.ToUpper(t.eui), "application_ids": object{"application_id": c.name("application", t.id)}},
				"uplink_message": object{"session_key_id": c.name("network session", t.id), "f_cnt": c.n, "f_port": 2, "frm_payload": payload(0, c.name("payload", t.id)), "settings": object{"app_key": c.secret("app_key of ingestTTS")}}})
		}
	}
	c.target.Settle()
}

// credentials are made, used and given up in all ways.
func (c *check) credentials(w *world) {
	t := w.tenants[0]
	email := c.mail(t.id)
	in := c.do("createInvitation", t.owner, t.ids, object{"email": email, "role_id": t.ids["role"], "node_id": t.ids["root"]})
	password := c.accepts("the link of createInvitation", in.text("secret"), t.id)
	cookie := c.do("logIn", who{}, nil, object{"email": email, "password": password})
	sid, _, _ := strings.Cut(strings.TrimPrefix(cookie.header.Get("Set-Cookie"), "__Host-sid="), ";")
	me := who{name: "a member", cookie: c.issued("the cookie of logIn", sid), tenants: t.owner.tenants}
	next := c.secret("new_password of changePassword")
	c.do("getMe", me, nil, nil)
	c.do("changePassword", me, nil, object{"password": password, "new_password": next})
	pair := c.do("logIn", who{}, nil, object{"email": email, "password": next, "mode": "token"})
	c.issued("the access token of logIn", pair.text("access_token"))
	old := c.issued("the refresh token of logIn", pair.text("refresh_token"))
	pair = c.do("refresh", who{}, nil, object{"refresh_token": old})
	me = who{name: "a member", token: c.issued("the access token of refresh", pair.text("access_token")), tenants: t.owner.tenants}
	c.issued("the refresh token of refresh", pair.text("refresh_token"))
	c.do("listSessions", me, nil, nil)
	if a := c.send(who{}, "refresh", request{method: http.MethodPost, path: "/v1/auth/refresh", body: object{"refresh_token": old}}); a.status != http.StatusUnauthorized {
		c.t.Fatalf("a refresh token used twice: %d", a.status)
	}
	for range 3 { // a wrong one of somebody's, and of nobody's
		c.send(who{}, "logIn", request{method: http.MethodPost, path: "/v1/auth/login", body: object{"email": email, "password": c.secret("a wrong password of logIn")}})
		c.send(who{}, "logIn", request{method: http.MethodPost, path: "/v1/auth/login", body: object{"email": c.mail(t.id), "password": c.secret("a wrong password of logIn")}})
	}
}

// reads asks for everything that can be read, as those who may and those who may not.
func (c *check) reads(w *world, t *tenant) {
	for _, o := range c.operations {
		if o.method != http.MethodGet {
			continue
		}
		for _, asks := range []who{w.admin, w.tenants[0].owner, w.tenants[1].owner} {
			at := t.ids
			if strings.Contains(o.path, "/persons/") {
				at = with(at, "id", w.person)
			} else if o.tenantFrom == "platform" {
				at = with(at, "id", t.ids["tenant"], "membership", "")
			}
			path := c.fill(o, at)
			for cursor := ""; ; {
				full := path
				if slices.Contains(o.queries, "limit") {
					full += "?limit=200" + cursor
				}
				a := c.send(asks, o.name, request{method: o.method, path: full})
				var page struct {
					Next string `json:"next_cursor"`
				}
				if json.Unmarshal(a.body, &page) != nil || page.Next == "" || a.status != http.StatusOK {
					break
				}
				cursor = "&cursor=" + page.Next
			}
		}
	}
}
