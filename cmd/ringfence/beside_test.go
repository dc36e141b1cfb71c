package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The host's own commands work on the database of a server that is serving, and cost it nothing.
func TestAResetLinkIsMadeBesideARunningServer(t *testing.T) {
	k := newChild(t, built(t), unlimited...)
	c := newClients(t, k, 1_000_000)
	c.wait(500)
	const who = "operator@platform.example"
	token, err := c.s.login(who)
	if err != nil {
		t.Fatal(err)
	}
	for n, password := range []string{"another four random words", "and four more random words", "these are four more words"} {
		args := append(k.flags, "admin", "reset", who)
		told, err := exec.CommandContext(t.Context(), k.binary, args...).CombinedOutput()
		_, link, found := strings.Cut(strings.TrimSpace(string(told)), "/reset?token=")
		if err != nil || !found {
			t.Fatalf("reset %d: %v %s", n, err, told)
		}
		status(t, "the link", c.s.page(t, "/reset?token="+link, "", nil), 200)
		status(t, "using it at once", c.s.post("", "/v1/auth/reset", obj{"token": link, "password": password}), 204)
		status(t, "what was signed in", c.s.get(token, "/v1/platform/tenants"), 401)
		in := c.s.post("", "/v1/auth/login", obj{"email": who, "password": password, "mode": "token"})
		status(t, "the new password", in, 200)
		token = in.str("access_token")
		status(t, "a change afterwards", c.s.post(token, "/v1/platform/tenants", obj{"name": password, "owner_email": "ben@brook.example"}), 201)
		c.wait(c.count() + 500)
	}
	c.stop()
	k.kill()
	if r := surveyed(t, k, c, 0); r.bad() || len(c.odd) > 0 {
		t.Errorf("%+v, odd answers %v", r, c.odd)
	}
	k.start()
	if code, out, errs := told(t, map[string]string{"RINGFENCE_TOKEN": token}, "", "audit", "export", "platform", "--server", c.s.base, "-o", c.s.dir+"/audit.tar"); code != exitDone {
		t.Fatalf("%s%s", out, errs)
	}
	policy := c.s.dir + "/policy.txt"
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", `"$0" --set "data=$1" audit key "$2" > "$3"`, k.binary, k.dir, "platform", policy).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if code, out, errs := told(t, nil, "", "audit", "verify", c.s.dir+"/audit.tar", "--policy", policy); code != exitDone {
		t.Errorf("%s%s", out, errs)
	}
}
