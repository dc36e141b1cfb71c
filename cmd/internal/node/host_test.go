//go:build services

package node_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/auditverify"
	"github.com/ringfence/ringfence/core/ident"
)

// What only the host may do works beside the deployment's processes: nobody can sign in any more, and a link lets the administrator in
// again; a log is verified with a key that no API told.
func TestTheHostsCommandsWorkBesideTheDeployment(t *testing.T) {
	d := deploy(t)
	host := func(code int, args ...string) (out, errs string) {
		t.Helper()
		c := exec.CommandContext(t.Context(), filepath.Join(d.bin, "platform-api"), args...)
		var o, e bytes.Buffer
		c.Dir, c.Env, c.Stdout, c.Stderr = d.dir, d.api.cmd.Env, &o, &e
		_ = c.Run()
		if got := c.ProcessState.ExitCode(); got != code {
			t.Fatalf("%v: exit %d, want %d:\n%s%s", args, got, code, o.String(), e.String())
		}
		return o.String(), e.String()
	}

	if _, told := host(3, "setup-link"); !strings.Contains(told, "platform-api reset ADDRESS") {
		t.Errorf("there is an administrator: %s", told)
	}
	if _, told := host(3, "reset", "nobody@acme.example"); !strings.Contains(told, "nobody signs in with this address") {
		t.Errorf("of nobody: %s", told)
	}
	var made struct{ Link string }
	first, _ := host(0, "reset", "ana@acme.example")
	second, _ := host(0, "reset", "ana@acme.example", "--json")
	if err := json.Unmarshal([]byte(second), &made); err != nil {
		t.Fatalf("%v: %s", err, second)
	}
	token := func(link string) string {
		t.Helper()
		at, token, _ := strings.Cut(strings.TrimSpace(link), "/reset?token=")
		if at != d.base || token == "" {
			t.Fatalf("a link: %q", link)
		}
		return token
	}
	was, password := d.token, personsPassword+" anew"
	d.token = ""
	d.ask("POST", "/v1/auth/reset", object{"token": token(first), "password": password}, 404) // another one was made since
	d.ask("POST", "/v1/auth/reset", object{"token": token(made.Link), "password": password}, 204)
	d.ask("POST", "/v1/auth/login", object{"email": "ana@acme.example", "password": personsPassword, "mode": "token"}, 401)
	d.token = was
	d.ask("GET", "/v1/me", nil, 401)
	d.token = str(d.ask("POST", "/v1/auth/login", object{"email": "ana@acme.example", "password": password, "mode": "token"}, 200), "access_token")

	logs := map[string]string{d.tenant: "/v1/tenants/" + d.tenant + "/audit", "platform": "/v1/platform/audit"}
	policies := map[string]string{}
	for log, at := range logs {
		policy, _ := host(0, "audit-key", log)
		if told := str(d.ask("GET", at+"/checkpoint", nil, 200), "policy"); policy != told {
			t.Errorf("%s: the host says %q, the API %q", log, policy, told)
		}
		policies[log] = filepath.Join(d.dir, log+".policy")
		if err := os.WriteFile(policies[log], []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for log, at := range logs {
		status, bundle, _ := d.answered("GET", d.base+at+"/bundle", "", http.Header{"Authorization": {"Bearer " + d.token}})
		file := filepath.Join(d.dir, log+".tar")
		if err := os.WriteFile(file, []byte(bundle), 0o600); err != nil || status != 200 {
			t.Fatal(status, err)
		}
		for of, policy := range policies {
			var out bytes.Buffer
			if code := auditverify.Main([]string{file, "--policy", policy}, nil, &out, &out); (code == 0) != (of == log) {
				t.Errorf("the log of %s by the policy of %s: exit %d: %s", log, of, code, out.String())
			}
		}
	}
	var document struct{ Tenant, Policy string }
	asked, _ := host(0, "audit-key", "--json")
	if err := json.Unmarshal([]byte(strings.Replace(asked, "tenant_id", "tenant", 1)), &document); err != nil || document.Tenant != ident.Platform.String() || !strings.HasPrefix(document.Policy, "origin ") {
		t.Errorf("the platform's, for machines: %v %s", err, asked)
	}
	if _, told := host(2, "audit-key", "acme"); !strings.Contains(told, "want the id of a tenant") {
		t.Errorf("of what is no tenant: %s", told)
	}
}
