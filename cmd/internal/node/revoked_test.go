//go:build services

package node_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// second starts another API, at whose own address brokers ask, and is where it and that are.
func (d *deployment) second() (base, brokers string) {
	d.t.Helper()
	listen, asks, shown := servers.Free(d.t), servers.Free(d.t), word()
	other := &process{name: "platform-api 2", make: func() *exec.Cmd {
		c := d.api.make()
		c.Env = append(c.Env, "RINGFENCE_LISTEN="+listen, "RINGFENCE_BROKER_AUTH_LISTEN="+asks, "RINGFENCE_BROKER_AUTH_SECRET="+shown)
		return c
	}}
	d.start(other)
	d.workers[other.name] = other
	base = "http://" + listen
	d.await("the second API", time.Minute, func() error { return d.ready(base) })
	return base, "http://" + asks + "/" + shown
}

// answered asks a process and answers its status.
func (d *deployment) answered(method, at, body string, header http.Header) (status int, text string, cookie string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, at, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header = header
	res, err := new(http.Client).Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range res.Cookies() {
		cookie = c.Name + "=" + c.Value
	}
	return res.StatusCode, string(raw), cookie
}

// member is somebody of the tenant.
type member struct{ id, email, access, refresh, cookie, pat string }

// joins lets somebody new in, who signs in by every kind that there is.
func (d *deployment) joins(name string) (m member) {
	d.t.Helper()
	at, owner := "/v1/tenants/"+d.tenant, d.token
	m.email = name + "@acme.example"
	var viewer string
	roles, _ := d.ask("GET", at+"/roles", nil, 200)["items"].([]any)
	for _, r := range roles {
		if r, _ := r.(map[string]any); r["name"] == "viewer" {
			viewer, _ = r["id"].(string)
		}
	}
	invitation := str(d.ask("POST", at+"/invitations", object{"email": m.email, "role_id": viewer, "recursive": true}, 201), "secret")
	d.token = ""
	d.ask("POST", "/v1/auth/invitations/accept", object{"token": invitation, "name": name, "password": personsPassword}, 201)
	login := d.ask("POST", "/v1/auth/login", object{"email": m.email, "password": personsPassword, "mode": "token"}, 200)
	m.access, m.refresh = str(login, "access_token"), str(login, "refresh_token")
	d.token = m.access
	m.id = str(d.ask("GET", "/v1/me", nil, 200), "id")
	m.pat = str(d.ask("POST", at+"/tokens", object{"name": name, "permissions": []string{"device:read"}}, 201), "secret")
	status, text, cookie := d.answered("POST", d.base+"/v1/auth/login", fmt.Sprintf(`{"email":%q,"password":%q}`, m.email, personsPassword), http.Header{"Content-Type": {"application/json"}})
	if status != 200 || cookie == "" {
		d.t.Fatalf("a browser's sign-in: %d %s", status, text)
	}
	d.token, m.cookie = owner, cookie
	return m
}

// Whatever lets somebody in is used at one process until another one takes it away, of each kind: a second after that was answered it
// opens nothing, at an API, at the door where brokers ask, at Accept over HTTP and over MQTT.
func TestARevocationIsKnownToEveryProcessWithinASecond(t *testing.T) {
	d := deploy(t)
	at := "/v1/tenants/" + d.tenant
	second, brokers := d.second()
	events := 0
	event := func() string {
		events++
		return fmt.Sprintf(`{"id":"r%d","device":"70b3d57ed0000001","payload":"AA=="}`, events)
	}
	asked := func(credential, method, path, body string) func() int {
		return func() int {
			h := http.Header{"Content-Type": {"application/json"}}
			if strings.HasPrefix(credential, "__Host-") {
				h.Set("Cookie", credential)
			} else if credential != "" {
				h.Set("Authorization", "Bearer "+credential)
			}
			if body == "event" {
				body = event()
			}
			status, _, _ := d.answered(method, second+path, body, h)
			return status
		}
	}
	devices := func(credential string) func() int { return asked(credential, "GET", at+"/devices", "") }
	ingest := func(key string) func() int {
		return func() int { return asked(key, "POST", "/v1/ingest/plain", "event")() }
	}
	broker := func(source, key string) func() int {
		return func() int {
			_, text, _ := d.answered("POST", brokers+"/rabbitmq/user", url.Values{"username": {source}, "password": {key}, "vhost": {"/"}, "client_id": {source}}.Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
			if strings.HasPrefix(text, "allow") {
				return 200
			}
			return 401
		}
	}
	mosquitto := func(source, key string) func() int { // which tells who it let in by the client id alone, and here nobody was let in
		return func() int {
			raw := fmt.Sprintf(`{"username":"%[1]s","clientid":"%[1]s-%[2]s-gw","topic":"rf/%[3]s/%[1]s/up","acc":2}`, source, key[len("rf_ing_"):][:22], d.tenant)
			status, _, _ := d.answered("POST", brokers+"/mosquitto/acl", raw, http.Header{"Content-Type": {"application/json"}})
			return status
		}
	}
	source := func(name string) (id, key, keyID, keyRev string) {
		id = str(d.ask("POST", at+"/sources", object{"name": name, "format": "plain"}, 201), "id")
		k := d.ask("POST", at+"/sources/"+id+"/keys", object{"name": "first"}, 201)
		return id, str(k, "secret"), str(k, "id"), str(k, "-etag")
	}
	carl, dora, emil, fred, gina := d.joins("carl"), d.joins("dora"), d.joins("emil"), d.joins("fred"), d.joins("gina")
	as := func(token, method, path string, body object, status int) {
		owner := d.token
		d.token = token
		d.ask(method, path, body, status)
		d.token = owner
	}
	revise := func(path string, change object) {
		change["-rev"] = str(d.ask("GET", path, nil, 200), "-etag")
		d.ask("PATCH", path, change, 200)
	}
	one, oneKey, oneID, oneRev := source("one")
	two, twoKey, _, _ := source("two")
	tokens, _ := d.ask("GET", at+"/tokens", nil, 200)["items"].([]any)
	tokenOf := func(name string) (id, rev1 string) {
		for _, v := range tokens {
			if v, _ := v.(map[string]any); v["name"] == name {
				return fmt.Sprint(v["id"]), rev(v)
			}
		}
		t.Fatalf("no token of %s", name)
		return "", ""
	}
	other := d.customers(1, light)[0]
	theirs := "/v1/tenants/" + other.id
	theirKey := str(d.ask("POST", theirs+"/sources/"+other.source+"/keys", object{"name": "first"}, 201), "secret")
	theirPAT := str(d.ask("POST", theirs+"/tokens", object{"name": "pat", "permissions": []string{"device:read"}}, 201), "secret")
	type use struct {
		what    string
		good    int
		refused int
		ask     func() int
	}
	for _, c := range []struct {
		what   string
		uses   []use
		revoke func()
	}{
		{"signing out", []use{{"a session's access token", 200, 401, devices(carl.access)}}, func() { as(carl.access, "POST", "/v1/auth/logout", nil, 204) }},
		{"signing out of a browser", []use{{"a session's cookie", 200, 401, devices(carl.cookie)}}, func() {
			if status, text, _ := d.answered("POST", d.base+"/v1/auth/logout", "", http.Header{"Cookie": {carl.cookie}}); status != 204 {
				t.Fatalf("%d %s", status, text)
			}
		}},
		{"a token's revocation", []use{{"a personal token", 200, 401, devices(carl.pat)}}, func() {
			id, rev1 := tokenOf("carl")
			d.ask("DELETE", at+"/tokens/"+id, object{"-rev": rev1}, 204)
		}},
		{"a key's revocation", []use{{"an ingestion key", 202, 401, ingest(oneKey)}, {"an ingestion key at the brokers' door", 200, 401, broker(one, oneKey)}, {"its client, by the id", 200, 403, mosquitto(one, oneKey)}}, func() { d.ask("DELETE", at+"/sources/"+one+"/keys/"+oneID, object{"-rev": oneRev}, 204) }},
		{"a source's disabling", []use{{"its key", 202, 401, ingest(twoKey)}, {"its key at the brokers' door", 200, 401, broker(two, twoKey)}}, func() { revise(at+"/sources/"+two, object{"state": "disabled"}) }},
		{"a person's disabling", []use{{"their access token", 200, 401, devices(dora.access)}, {"their cookie", 200, 401, devices(dora.cookie)}, {"their personal token", 200, 401, devices(dora.pat)}}, func() { d.ask("POST", "/v1/platform/persons/"+dora.id+"/disable", nil, 200) }},
		{"a member's removal", []use{{"their access token", 200, 404, devices(emil.access)}, {"their cookie", 200, 404, devices(emil.cookie)}, {"their personal token", 200, 401, devices(emil.pat)}}, func() {
			d.ask("DELETE", at+"/members/"+emil.id, object{"-rev": str(d.ask("GET", at+"/members/"+emil.id, nil, 200), "-etag")}, 204)
		}},
		{"a new password by a link", []use{{"their access token", 200, 401, devices(fred.access)}, {"their cookie", 200, 401, devices(fred.cookie)}, {"their personal token", 200, 401, devices(fred.pat)}}, func() {
			link := str(d.ask("POST", "/v1/platform/persons/"+fred.id+"/reset", nil, 200), "secret")
			as("", "POST", "/v1/auth/reset", object{"token": link, "password": personsPassword + " anew"}, 204)
		}},
		{"a role's narrowing", []use{{"their access token", 200, 403, devices(gina.access)}, {"their personal token", 200, 403, devices(gina.pat)}}, func() {
			held, _ := d.ask("GET", at+"/memberships", nil, 200)["items"].([]any)
			narrow := str(d.ask("POST", at+"/roles", object{"name": "narrow", "permissions": []string{"node:read"}}, 201), "id")
			for _, m := range held {
				if m, _ := m.(map[string]any); m["principal_id"] == gina.id {
					d.ask("POST", at+"/memberships", object{"principal_id": gina.id, "role_id": narrow, "node_id": m["node_id"], "recursive": true}, 201)
					d.ask("DELETE", at+"/memberships/"+fmt.Sprint(m["id"]), object{"-rev": rev(m)}, 204)
				}
			}
		}},
		{"a tenant's suspension", []use{{"its key", 202, 403, ingest(theirKey)}, {"its key at the brokers' door", 200, 401, broker(other.source, theirKey)}, {"a token of its member's", 200, 403, asked(theirPAT, "GET", theirs+"/devices", "")}}, func() { d.ask("POST", "/v1/platform/tenants/"+other.id+"/suspend", nil, 200) }},
	} {
		for _, u := range c.uses {
			if status := u.ask(); status != u.good {
				t.Errorf("before %s, %s: %d, want %d", c.what, u.what, status, u.good)
			}
		}
		c.revoke()
		answered := time.Now()
		for _, u := range c.uses {
			d.shut(u.what+", after "+c.what+", at another process", answered, func() error {
				if status := u.ask(); status != u.refused {
					return fmt.Errorf("%d, want %d", status, u.refused)
				}
				return nil
			})
		}
	}
	// A refresh token is spent by its use: it is tried once, a second later.
	pair := d.joins("hana")
	as(pair.access, "POST", "/v1/auth/logout", nil, 204)
	if status := asked("", "POST", "/v1/auth/refresh", fmt.Sprintf(`{"refresh_token":%q}`, pair.refresh))(); status != 401 {
		t.Errorf("the refresh token of a session that was ended: %d", status)
	}
}

// What the MQTT worker let in by a source, a tenant or a mapping it lets in no more a second after that was taken away. Whose it is,
// its operator sees it in quarantine with the reason, when the tenant is there again too; until it is released nothing is made of it.
// What is nobody's the worker itself makes a dead letter of: it puts no event onto the bus for another to find out.
func TestTheMQTTWorkerKnowsOfARevocationWithinASecond(t *testing.T) {
	d := deploy(t)
	file := filepath.Join(d.dir, "connections.yaml")
	more, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(more) + fmt.Sprintf("- name: apps\n  url: mqtt://%s\n  username: worker\n  password_file: %s/mqtt.password\n  filters: [\"app/{application}/up\"]\n  format: plain\n  tenant_from: application\n  presence: false\n", d.mosquitto.Addr(), d.dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cs := d.customers(2, light)
	mapped := str(d.ask("POST", "/v1/platform/mappings", object{"connection": "apps", "application_id": "pumps", "tenant_id": d.tenant, "source_id": d.source}, 201), "id")
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	n := 0
	say := func(topic, device, kind string) {
		t.Helper()
		n++
		body := fmt.Sprintf(`{"id":"%d","device":"%s","address_kind":"%s","payload_hex":"%02x"}`, n, device, kind, n)
		p.says(topic, body)
	}
	known := func() { // by the worker
		ctx, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		<-ctx.Done()
	}
	direct := func(c customer) func() {
		return func() { say("rf/"+c.id+"/"+c.source+"/up", "pump-0", "serial") }
	}
	for _, c := range []struct {
		what   string
		send   func()
		revoke func()
		reason string
		from   customer
		again  func()
	}{
		{"a source's disabling", direct(cs[0]), func() {
			path := "/v1/tenants/" + cs[0].id + "/sources/" + cs[0].source
			d.ask("PATCH", path, object{"state": "disabled", "-rev": str(d.ask("GET", path, nil, 200), "-etag")}, 200)
		}, "source_disabled", cs[0], func() {
			path := "/v1/tenants/" + cs[0].id + "/sources/" + cs[0].source
			d.ask("PATCH", path, object{"state": "active", "-rev": str(d.ask("GET", path, nil, 200), "-etag")}, 200)
		}},
		{"a tenant's suspension", direct(cs[1]), func() { d.ask("POST", "/v1/platform/tenants/"+cs[1].id+"/suspend", nil, 200) }, "tenant_suspended", cs[1], func() { d.ask("POST", "/v1/platform/tenants/"+cs[1].id+"/resume", nil, 200) }},
		{"a mapping's removal", func() { say("app/pumps/up", "70b3d57ed0000001", "dev_eui") }, func() {
			path := "/v1/platform/mappings/" + mapped
			d.ask("DELETE", path, object{"-rev": str(d.ask("GET", path, nil, 200), "-etag")}, 204)
		}, "", customer{}, nil},
	} {
		readings := func() int { return d.count("SELECT count(*) FROM readings") }
		was := readings()
		c.send()
		d.await("before "+c.what+" a reading", 30*time.Second, func() error {
			if readings() != was+1 {
				return fmt.Errorf("there is none")
			}
			return nil
		})
		c.revoke()
		known()
		c.send()
		d.await("the worker took it", 30*time.Second, func() error { // it is kept as what it is, or a dead letter
			dead := 0
			for part := range 4 {
				rs, err := d.carrier.Browse(t.Context(), "rf.uplinks.dead", part, 0, 100)
				if err != nil {
					return err
				}
				dead += len(rs)
			}
			if kept := d.count("SELECT count(*) FROM uplinks"); kept+dead != n {
				return fmt.Errorf("%d kept and %d dead letters of %d", kept, dead, n)
			}
			return nil
		})
		d.settled()
		if got := readings(); got != was+1 {
			t.Errorf("a message of a second after %s became a reading", c.what)
		}
		if c.again == nil {
			letters, _ := d.ask("GET", "/v1/platform/dead-letters", nil, 200)["items"].([]any)
			if len(letters) != 1 {
				t.Fatalf("after %s the dead letters are %v", c.what, letters)
			}
			if l := letters[0].(map[string]any); l["reason"] != "no_tenant" || l["via"] != "connection:apps" || l["origin"] != "app/pumps/up" {
				t.Errorf("a second after %s the MQTT worker did not know of it: %v", c.what, l)
			}
			if got := d.metric("mqtt-ingestion-worker", `ringfence_mqtt_messages_total{connection="apps",result="accepted"}`); got != 1 {
				t.Errorf("after %s the MQTT worker let in %d messages, and was to let in the first", c.what, got)
			}
			continue
		}
		c.again()
		known()
		at := "/v1/tenants/" + c.from.id
		kept, _ := d.ask("GET", at+"/quarantine", nil, 200)["items"].([]any)
		if len(kept) != 1 || kept[0].(map[string]any)["reason"] != c.reason || kept[0].(map[string]any)["source_id"] != c.from.source {
			t.Fatalf("after %s the tenant's quarantine is %v", c.what, kept)
		}
		c.send() // what comes now is no sign that what was refused is let out
		d.await("after what ended "+c.what+" a reading", 30*time.Second, func() error {
			if got := readings(); got != was+2 {
				return fmt.Errorf("%d more", got-was)
			}
			return nil
		})
		d.ask("POST", at+"/quarantine/"+fmt.Sprint(kept[0].(map[string]any)["id"])+"/release", nil, 200)
		d.await("what was released is read", 30*time.Second, func() error {
			if got := readings(); got != was+3 {
				return fmt.Errorf("%d more", got-was)
			}
			return nil
		})
	}
}
