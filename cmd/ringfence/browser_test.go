//go:build browser

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What a browser makes of our pages and cookies is asked of a real one: make browser. It is driven by the W3C's WebDriver
// protocol, which is JSON over HTTP.
type browser struct {
	t       *testing.T
	session string
}

// chromium starts one; nothing of it outlives the test.
func chromium(t *testing.T) *browser {
	t.Helper()
	driver := exec.Command("chromedriver", "--port=0") //nolint:noctx // the clean-up ends it, when the test's context is over
	out, err := driver.StdoutPipe()
	if err == nil {
		err = driver.Start()
	}
	if err != nil {
		t.Fatalf("%v: install Debian's chromium and chromium-driver, or run make browser, which does", err)
	}
	port := ""
	for lines := bufio.NewScanner(out); port == "" && lines.Scan(); {
		if found := regexp.MustCompile(`successfully on port (\d+)`).FindStringSubmatch(lines.Text()); found != nil {
			port = found[1]
		}
	}
	b := &browser{t: t, session: "http://127.0.0.1:" + port + "/session"}
	args := []string{"--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir=" + t.TempDir()}
	made := b.ask("POST", "", obj{"capabilities": obj{"alwaysMatch": obj{"goog:chromeOptions": obj{"args": args}, "goog:loggingPrefs": obj{"browser": "ALL"}}}})
	b.session += "/" + made.(map[string]any)["sessionId"].(string)
	b.ask("POST", "/timeouts", obj{"implicit": 20_000, "script": 60_000}) // what a click brings is waited for
	t.Cleanup(func() {
		b.ask("DELETE", "", nil)
		_ = driver.Process.Kill()
		_ = driver.Wait() // killed: how it ended says nothing
	})
	return b
}

func (b *browser) ask(method, path string, body any) any {
	b.t.Helper()
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, b.session+path, content) //nolint:noctx // the clean-up runs when the test's context is over
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct{ Value any }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: %d %v %v", method, path, res.StatusCode, err, answer.Value)
	}
	return answer.Value
}

func (b *browser) open(address string) { b.t.Helper(); b.ask("POST", "/url", obj{"url": address}) }

// element finds one by a CSS selector.
func (b *browser) element(css string) string {
	b.t.Helper()
	for _, id := range b.ask("POST", "/element", obj{"using": "css selector", "value": css}).(map[string]any) {
		return "/element/" + id.(string)
	}
	b.t.Fatalf("there is no %s", css)
	return ""
}

func (b *browser) fill(fields map[string]string) {
	b.t.Helper()
	for name, text := range fields {
		b.ask("POST", b.element("[name="+name+"]")+"/value", obj{"text": text})
	}
}

// arrives waits until the browser is where a click sent it.
func (b *browser) arrives(address string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(20 * time.Second); b.ask("GET", "/url", nil) != address; <-tick.C {
		if time.Now().After(late) {
			b.t.Fatalf("at %v and not at %s", b.ask("GET", "/url", nil), address)
		}
	}
}

func (b *browser) click(css string) { b.t.Helper(); b.ask("POST", b.element(css)+"/click", obj{}) }

func (b *browser) text(css string) string {
	b.t.Helper()
	return b.ask("GET", b.element(css)+"/text", nil).(string)
}

// run runs JavaScript in the page, until its promise is settled; what it is refused with is its result.
func (b *browser) run(script string, args ...any) string {
	b.t.Helper()
	if args == nil {
		args = []any{}
	}
	return fmt.Sprint(b.ask("POST", "/execute/async", obj{"script": "const done = arguments[arguments.length-1], args = arguments; (async () => {" + script + "})().then(done, e => done('refused: ' + e))", "args": args}))
}

// complaints are what the browser logged since it was last asked: a blocked style or form stands there.
func (b *browser) complaints() string {
	var all []string
	for _, entry := range b.ask("POST", "/se/log", obj{"type": "browser"}).([]any) {
		m := entry.(map[string]any)["message"].(string)
		known := strings.Contains(m, "status of 422") || strings.Contains(m, "username fields") // it names each error; a reset's page does not say whose it is
		if !known {
			all = append(all, m)
		}
	}
	return strings.Join(all, "\n")
}

// site serves pages of its own at 127.0.0.1, and everything else by a server behind it, as a front end of somebody's would.
func site(t *testing.T, behind string, pages map[string]string) string {
	t.Helper()
	target, err := url.Parse(behind)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, own := pages[r.URL.Path]
		if !own {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestABrowserSetsUpInvitesAndResetsByTheThreePages(t *testing.T) {
	s, setup := served(t)
	b := chromium(t)
	b.open(s.base + "/setup?token=" + setup)
	b.fill(map[string]string{"email": "olga@platform.example", "name": "Olga", "password": "passwordpassword"})
	b.click("button")
	if got := b.text("[role=alert]"); !strings.Contains(strings.ToLower(got), "password") {
		t.Errorf("a password that everybody knows: %q", got)
	}
	b.fill(map[string]string{"email": "olga@platform.example", "name": "Olga", "password": demoPassword})
	b.click("button")
	if got := b.text("[role=status]"); !strings.Contains(got, "administrator") {
		t.Errorf("setup: %q", got)
	}
	admin, err := s.login("olga@platform.example")
	if err != nil {
		t.Fatal(err)
	}
	made := s.post(admin, "/v1/platform/tenants", obj{"name": "Acme Water", "owner_email": "ana@acme.example"})
	status(t, "a tenant", made, 201)
	invitation := made.body["owner_invitation"].(map[string]any)["secret"].(string)
	b.open(s.base + "/invite?token=" + invitation)
	b.fill(map[string]string{"name": "Ana", "password": demoPassword})
	b.click("button")
	if got := b.text("[role=status]"); !strings.HasPrefix(got, "You are in.") {
		t.Errorf("an invitation: %q", got)
	}
	ana, err := s.login("ana@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	me := s.get(ana, "/v1/me").str("id")
	reset := s.post(admin, "/v1/platform/persons/"+me+"/reset", obj{})
	status(t, "a reset link", reset, 200)
	b.open(s.base + "/reset?token=" + reset.str("secret"))
	b.fill(map[string]string{"password": "another long passphrase"})
	b.click("button")
	if got := b.text("[role=status]"); !strings.HasPrefix(got, "Your password is set") {
		t.Errorf("a reset: %q", got)
	}
	if _, err := s.login("ana@acme.example"); err == nil {
		t.Error("the old password is good")
	}
	if got := b.complaints(); got != "" {
		t.Errorf("the browser complains: %s", got)
	}
}

// S01: a session in a browser is out of reach of scripts and of other sites, the ones on the same host included.
func TestASessionInABrowserIsOutOfOthersReach(t *testing.T) {
	s, _, _ := world1(t)
	b := chromium(t)
	app := site(t, s.base, map[string]string{"/app": "<!doctype html><title>app</title>", "/other": "<!doctype html><title>other</title>"})
	signIn := `const r = await fetch('/v1/auth/login', {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify({email: 'ana@acme.example', password: args[0]})}); return r.status + ' ' + await r.text()`
	me := `return (await fetch('/v1/me')).status`
	b.open(app + "/app")
	if got := b.run(me); got != "401" {
		t.Errorf("before the sign-in: %s", got)
	}
	if got := b.run(signIn, demoPassword); !strings.HasPrefix(got, "200 ") || strings.Contains(got, "rf_sid_") {
		t.Fatalf("sign-in: %s", got)
	}
	if got := b.run(me); got != "200" {
		t.Errorf("signed in: %s", got)
	}
	if got := b.run(`return '[' + document.cookie + ']'`); got != "[]" {
		t.Errorf("a script reads the cookie: %s", got)
	}
	cookies := b.ask("GET", "/cookie", nil).([]any)
	if len(cookies) != 1 {
		t.Fatalf("cookies: %v", cookies)
	}
	cookie := cookies[0].(map[string]any)
	for k, want := range map[string]any{"name": "__Host-sid", "httpOnly": true, "secure": true, "sameSite": "Strict", "path": "/", "domain": "127.0.0.1"} {
		if cookie[k] != want {
			t.Errorf("the cookie's %s is %v, want %v", k, cookie[k], want)
		}
	}

	evil := site(t, s.base, map[string]string{"/evil": `<!doctype html><title>evil</title><form method="post" enctype="text/plain" action="` + app + `/v1/auth/logout"><button>Win a prize</button></form>`})
	for name, host := range map[string]string{"a site on the same host": evil, "another site": strings.Replace(evil, "127.0.0.1", "localhost", 1)} {
		b.open(host + "/evil")
		for what, script := range map[string]string{
			"reads":             `return await (await fetch(args[0] + '/v1/me', {credentials: 'include'})).text()`,
			"reads by a header": `return await (await fetch(args[0] + '/v1/me', {credentials: 'include', headers: {'authorization': 'Bearer x'}})).text()`,
			"writes":            `return await (await fetch(args[0] + '/v1/auth/logout', {method: 'POST', credentials: 'include'})).text()`,
		} {
			if got := b.run(script, app); !strings.HasPrefix(got, "refused: ") && got != "" {
				t.Errorf("%s %s: %s", name, what, got)
			}
		}
		b.run(`return (await fetch(args[0] + '/v1/auth/logout', {method: 'POST', credentials: 'include', mode: 'no-cors'})).type`, app)
		b.click("button")
		b.arrives(app + "/v1/auth/logout")
		b.open(app + "/app")
		if got := b.run(me); got != "200" {
			t.Fatalf("%s ended the session: %s", name, got)
		}
	}
	framed := `const f = document.createElement('iframe'); f.src = args[0]; document.body.append(f); await new Promise(r => f.onload = r); try { return f.contentDocument.title } catch (e) { return 'refused: ' + e }`
	b.open(app + "/app")
	if got := b.run(framed, "/other"); got != "other" {
		t.Errorf("a page that may be framed: %s", got)
	}
	for _, path := range []string{"/invite?token=x", "/docs", "/openapi.json"} {
		if got := b.run(framed, path); !strings.HasPrefix(got, "refused: ") && got != "" {
			t.Errorf("%s in a frame: %s", path, got)
		}
	}
	if got := b.run(`return (await fetch('/v1/auth/logout', {method: 'POST'})).status`); got != "204" {
		t.Errorf("signing out: %s", got)
	}
	if got := b.run(me); got != "401" || len(b.ask("GET", "/cookie", nil).([]any)) != 0 {
		t.Errorf("signed out: %s", got)
	}
}
