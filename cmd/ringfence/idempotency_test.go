package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// served starts a server in this process and answers a client of it and its setup token.
func served(t *testing.T, settings ...string) (*story, string) {
	t.Helper()
	return servedTo(t, io.Discard, settings...)
}

// servedTo is served with a log.
func servedTo(t *testing.T, log io.Writer, settings ...string) (*story, string) {
	t.Helper()
	if os.Getenv(deployedEnv) != "" {
		return deployed(t, log, settings...)
	}
	dir := t.TempDir()
	warm(t, filepath.Join(dir, "data"))
	conf, err := loadConfig("/dev/null", append([]string{"data=" + filepath.Join(dir, "data"), "listen=127.0.0.1:0", "metrics_listen=", "log_level=error"}, settings...), environment{lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	app, err := wire(t.Context(), conf, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var greeting bytes.Buffer
	ready, over := make(chan string, 1), make(chan error, 1)
	go func() { over <- app.serve(ctx, conf, &greeting, func(a string) { ready <- a }) }()
	t.Cleanup(func() {
		stop()
		if err := <-over; err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	select {
	case a := <-ready:
		s := &story{ctx: t.Context(), dir: dir, base: "http://" + a, mqtt: app.mqtt, out: io.Discard, client: &http.Client{Timeout: 20 * time.Second}}
		return s, regexp.MustCompile(`rf_set_[0-9A-Za-z]+`).FindString(greeting.String())
	case err := <-over:
		over <- nil
		t.Fatal(err)
		return nil, ""
	}
}

// unhurried is a server without limits on requests, its administrator's token and a tenant.
func unhurried(t *testing.T) (s *story, admin string, ten *demoTenant) {
	t.Helper()
	s, setup := served(t, "principal_rate=1000000", "principal_burst=1000000", "tenant_rate=1000000")
	admin, err := s.platform(setup)
	if err == nil {
		ten, err = s.tenant(admin, "Acme Water", "ana@acme.example")
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, admin, ten
}

// keyed posts under an Idempotency-Key, by a story of its own: many may at once.
func (s *story) keyed(token, path, key string, body obj) reply {
	one := &story{ctx: s.ctx, base: s.base, client: s.client, header: map[string]string{"Idempotency-Key": key}}
	return one.post(token, path, body)
}

func TestACreateThatIsRepeatedMakesOneThing(t *testing.T) {
	s, setup := served(t)
	admin, err := s.platform(setup)
	if err != nil {
		t.Fatal(err)
	}
	first := s.keyed(admin, "/v1/platform/tenants", "one", obj{"name": "Acme", "owner_email": "ana@acme.example"})
	again := s.keyed(admin, "/v1/platform/tenants", "one", obj{"name": "Acme", "owner_email": "ana@acme.example"})
	if first.status != 201 || again.status != 201 || first.str("id") != again.str("id") || again.header.Get("Idempotency-Replayed") != "true" || again.at("owner_invitation").str("secret") != "" {
		t.Fatalf("first %d %s\nagain %d %v %s", first.status, first.text, again.status, again.header, again.text)
	}
	if other := s.keyed(admin, "/v1/platform/tenants", "one", obj{"name": "Other", "owner_email": "ana@acme.example"}); other.status != 422 || other.code() != "idempotency_key_reused" {
		t.Errorf("another request under the same key: %d %s", other.status, other.text)
	}
	ten, err := s.tenant(admin, "Brook Energy", "ben@brook.example")
	if err != nil {
		t.Fatal(err)
	}
	at := "/v1/tenants/" + ten.id
	for _, c := range []struct {
		path string
		body obj
	}{
		{"/nodes", obj{"parent_id": ten.root, "kind": "site", "name": "South"}}, {"/roles", obj{"name": "technician", "permissions": []string{"device:read"}}},
		{"/groups", obj{"name": "night shift"}}, {"/devices", obj{"name": "pump", "addresses": []obj{{"kind": "serial", "value": "x"}}}}, {"/decoders", obj{"name": "second"}},
		{"/sources", obj{"name": "second", "format": "plain"}}, {"/tokens", obj{"name": "report", "permissions": []string{"device:read"}}},
		{"/imports", obj{"csv": "name,serial\na,s1\n"}}, {"/sources/" + ten.source + "/keys", obj{"name": "second"}},
	} {
		first, again := s.keyed(ten.token, at+c.path, "k", c.body), s.keyed(ten.token, at+c.path, "k", c.body)
		if first.status != 201 || again.status != 201 || first.str("id") != again.str("id") || again.str("secret") != "" || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s: first %d %s\nagain %d %s", c.path, first.status, first.text, again.status, again.text)
		}
	}
}

// F4: a thousand keys, each sent five times at once, some of them cut off by the client at a moment of chance: one device each.
func TestRetriesThatRaceMakeOneThing(t *testing.T) {
	s, _, ten := unhurried(t)
	path := "/v1/tenants/" + ten.id + "/devices"
	before := len(s.get(ten.token, path).list("items"))
	const keys = 1000
	ids := make([]map[string]bool, keys)
	var mu sync.Mutex
	var wg sync.WaitGroup
	gate := make(chan struct{}, 16)
	for n := range keys {
		ids[n] = map[string]bool{}
		body := obj{"name": fmt.Sprint("retried ", n), "addresses": []obj{{"kind": "serial", "value": fmt.Sprint("retried-", n)}}}
		for try := range 5 {
			gate <- struct{}{}
			wg.Go(func() {
				defer func() { <-gate }()
				for cut := try % 2; ; cut = 0 {
					ctx, cancel := s.ctx, context.CancelFunc(func() {})
					if cut > 0 {
						ctx, cancel = context.WithTimeout(s.ctx, time.Duration(rand.IntN(8))*time.Millisecond) //nolint:gosec // when, not what
					}
					one := &story{ctx: ctx, base: s.base, client: s.client, header: map[string]string{"Idempotency-Key": fmt.Sprint("key ", n)}}
					r := one.post(ten.token, path, body)
					cancel()
					if r.err != nil && cut > 0 {
						continue // cut off: the same again, and this time to the end
					}
					mu.Lock()
					ids[n][r.str("id")] = true
					mu.Unlock()
					status(t, "a retry", r, http.StatusCreated)
					return
				}
			})
		}
	}
	wg.Wait()
	for n, made := range ids {
		if len(made) != 1 {
			t.Errorf("key %d made %d devices", n, len(made))
		}
	}
	devices := 0
	for next := ""; ; {
		page := s.get(ten.token, path+"?limit=200"+next)
		devices += len(page.list("items"))
		if page.str("next_cursor") == "" {
			break
		}
		next = "&cursor=" + page.str("next_cursor")
	}
	if want := before + keys; devices != want {
		t.Errorf("%d devices, want %d", devices, want)
	}
}
