package redacttest

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/credential"
)

// goWrong lets the store fail and panic under requests of each way in, once at each of its calls, and then under what a
// server does by itself. Nothing that the store says may reach anybody.
func (c *check) goWrong(w *world) {
	t := w.tenants[0]
	login := object{"email": t.email, "password": c.secret("password of logIn while the store fails"), "mode": "token"}
	for _, one := range []struct {
		name string
		by   who
		at   ids
		body func() any
	}{
		{"listDevices", t.owner, t.ids, func() any { return nil }},
		{"listAuditEntries", t.owner, t.ids, func() any { return nil }},
		{"getMe", t.owner, nil, func() any { return nil }},
		{"logIn", who{}, nil, func() any { return login }},
		{"refresh", who{}, nil, func() any {
			return object{"refresh_token": c.minted(credential.KindRefresh, "refresh_token while the store fails")}
		}},
		{"createNode", t.owner, t.ids, func() any {
			return object{"parent_id": t.ids["root"], "kind": "site", "name": c.name("node name", t.id)}
		}},
		{"updateDevice", t.owner, t.ids, func() any {
			return object{"variables": []object{{"name": "key", "value": c.secret("a secret variable while the store fails"), "secret": true}}}
		}},
		{"createPlatformTenant", w.admin, nil, func() any { return object{"name": "never", "owner_email": "never@canary.example"} }},
		{"ingestPlain", t.key, nil, func() any {
			return object{"device": t.eui, "payload": payload(0, c.name("payload", t.id)), "id": c.name("sender's id", t.id)}
		}},
		{"testDecoder", t.owner, t.ids, func() any {
			return object{"version_id": t.ids["version"], "payload": "AQI="}
		}},
	} {
		o := c.operation(one.name)
		met := 0
		for _, kind := range troubles() {
			for calm := range 4 {
				q := request{method: o.method, path: c.fill(o, one.at), body: one.body(), header: http.Header{"If-Match": {`"1"`}}}
				c.target.Trouble.begin(kind, c.secret(kind+" of the store's under "+o.name), calm)
				a := c.send(one.by, o.name, q)
				n := c.target.Trouble.end()
				met += n
				if n > 0 && a.status < 400 && calm == 0 && o.method != http.MethodGet {
					c.t.Logf("%s: %d although the store failed: %s", o.name, a.status, kind)
				}
			}
		}
		if met == 0 {
			c.t.Errorf("the store never failed under %s, so nothing was tried", o.name)
		}
	}
	c.rows(t)
	c.alone(t)
}

// rows lets the database itself refuse a row, in words that hold it.
func (c *check) rows(t *tenant) {
	if c.target.Raise == nil {
		return
	}
	c.target.Raise(true)
	a := c.send(t.owner, "createNode", request{method: http.MethodPost, path: c.fill(c.operation("createNode"), t.ids), body: object{"parent_id": t.ids["root"], "kind": "site", "name": c.name("node name", t.id)}})
	c.target.Raise(false)
	if a.status < 500 {
		c.t.Errorf("a row that the database refused: %d %s", a.status, a.body)
	}
}

// alone lets the store fail under what nobody asked for.
func (c *check) alone(t *tenant) {
	c.do("ingestPlain", t.key, nil, object{"device": t.eui, "payload": payload(0, c.name("payload", t.id)), "id": c.name("sender's id", t.id)})
	for _, kind := range []string{"an error in an error", "a panic inside"} {
		before := bytes.Count(c.target.Logs(), []byte("\n"))
		ctx, cancel := context.WithCancel(c.t.Context())
		c.target.Trouble.begin(kind, c.secret(kind+" of the store's in the background"), 0)
		var wg sync.WaitGroup
		wg.Go(func() { c.target.Background(ctx) })
		c.await("a line in the log", func() bool { return bytes.Count(c.target.Logs(), []byte("\n")) >= before+2 }) // of processing, and of the jobs
		cancel()
		wg.Wait()
		c.target.Trouble.end()
	}
	c.target.Settle()
}

// await waits for something, for as long as a slow machine may take.
func (c *check) await(what string, done func() bool) {
	c.t.Helper()
	tick, late := time.NewTicker(2*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			c.t.Errorf("waited too long for %s", what)
			return
		}
	}
}
