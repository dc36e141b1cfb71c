package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/audit"
)

// told runs the program with an environment and an input.
func told(t *testing.T, vars map[string]string, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, environment{lookup: func(k string) (string, bool) { v, ok := vars[k]; return v, ok }, names: func() []string { return slices.Collect(maps.Keys(vars)) }, stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

func TestSetupInATerminalDoesWhatThePageDoes(t *testing.T) {
	s, token := served(t)
	link := s.base + "/setup?token=" + token
	code, out, errs := told(t, nil, "short\n", "setup", link, "--email", "olga@platform.example", "--name", "Olga")
	if code != exitNo || !strings.Contains(errs, "15 characters") || strings.Contains(errs, token) {
		t.Fatalf("a short password: exit %d %s%s", code, out, errs)
	}
	code, out, errs = told(t, nil, demoPassword+"\n", "setup", link, "--email", "olga@platform.example", "--name", "Olga", "--tenant", "Acme Water")
	if code != exitDone || !strings.HasPrefix(out, "ten_") {
		t.Fatalf("exit %d %s%s", code, out, errs)
	}
	if _, err := s.login("olga@platform.example"); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := told(t, nil, demoPassword+"\n", "setup", link, "--email", "olga@platform.example", "--name", "Olga"); code != exitNo {
		t.Errorf("the link is good a second time: exit %d", code)
	}
	if code, _, _ := told(t, nil, "", "setup", "not a link", "--email", "a@b.example", "--name", "A"); code != exitUsage {
		t.Errorf("no link: exit %d", code)
	}
}

func TestTheLogIsExportedProvedAndVerifiedByTheCommandLine(t *testing.T) {
	s, _, ten := world1(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	vars := map[string]string{"RINGFENCE_TOKEN": ten.token}
	save := func(name, text string) string {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file(name)
	}

	code, policy, errs := told(t, nil, "", "--set", "data="+filepath.Join(s.dir, "data"), "audit", "key", ten.id)
	if code != exitDone || !strings.Contains(policy, ten.id) {
		t.Fatalf("the policy, while the server runs: exit %d %s%s", code, policy, errs)
	}
	save("policy.txt", policy)
	if code, out, errs := told(t, vars, "", "audit", "export", ten.id, "--server", s.base, "-o", file("audit.tar")); code != exitDone {
		t.Fatalf("export: exit %d %s%s", code, out, errs)
	}
	code, out, errs := told(t, nil, "", "audit", "verify", file("audit.tar"), "--policy", file("policy.txt"))
	if code != exitDone || !strings.HasPrefix(out, "good: ") {
		t.Errorf("verify: exit %d %s%s", code, out, errs)
	}
	code, receipt, errs := told(t, nil, "", "audit", "prove", ten.id, "0", "--server", s.base, "--token-file", save("token", ten.token))
	if code != exitDone {
		t.Fatalf("prove: exit %d %s", code, errs)
	}
	code, out, errs = told(t, nil, "", "audit", "verify", save("0.proof", receipt), "--policy", file("policy.txt"))
	if code != exitDone || !strings.Contains(out, `"seq":0`) {
		t.Errorf("the receipt: exit %d %s%s", code, out, errs)
	}
	lines := strings.Split(receipt, "\n")
	for i, line := range lines {
		if line == "" {
			continue
		}
		forged := strings.Replace(line, line[len(line)/2:len(line)/2+1], map[bool]string{true: "B", false: "A"}[line[len(line)/2] == 'A'], 1)
		text := strings.Join(append(append(append([]string{}, lines[:i]...), forged), lines[i+1:]...), "\n")
		if code, out, _ := told(t, nil, "", "audit", "verify", save("forged.proof", text), "--policy", file("policy.txt")); code == exitDone {
			t.Errorf("a receipt with another line %d (%s) is good: %s", i, forged, out)
		}
	}
	_, other, _ := told(t, nil, "", "--set", "data="+filepath.Join(s.dir, "data"), "audit", "key")
	if code, _, _ := told(t, nil, "", "audit", "verify", file("0.proof"), "--policy", save("platform.txt", other)); code != exitNo {
		t.Errorf("the receipt under the platform's policy: exit %d", code)
	}
}

// A bundle holds private values on request alone, and what they were cannot be changed in it.
func TestPrivateValuesAreExportedOnRequestAndVerified(t *testing.T) {
	s, admin, ten := world1(t)
	dir := t.TempDir()
	policy, bundle := filepath.Join(dir, "policy.txt"), filepath.Join(dir, "audit.tar")
	vars := map[string]string{"RINGFENCE_TOKEN": ten.token}
	node := s.post(ten.token, "/v1/tenants/"+ten.id+"/nodes", obj{"kind": "customer", "parent_id": ten.root, "name": "Zürich waterworks"})
	status(t, "a node", node, 201)
	_, text, _ := told(t, nil, "", "--set", "data="+filepath.Join(s.dir, "data"), "audit", "key", ten.id)
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	export := func(more ...string) []byte {
		if code, out, errs := told(t, vars, "", append([]string{"audit", "export", ten.id, "--server", s.base, "-o", bundle}, more...)...); code != exitDone {
			t.Fatalf("export %v: exit %d %s%s", more, code, out, errs)
		}
		raw, err := os.ReadFile(bundle)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	name := []byte("Zürich waterworks")
	if raw := export(); bytes.Contains(raw, name) {
		t.Error("a bundle that nobody asked private values of holds them")
	}
	raw := export("--private")
	code, out, errs := told(t, nil, "", "audit", "verify", bundle, "--policy", policy, "--json")
	var report struct {
		Verdict string
		Entries uint64
		Private uint64
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitDone || report.Private < report.Entries || !bytes.Contains(raw, name) {
		t.Errorf("with private values: exit %d %s%s", code, out, errs)
	}
	if err := os.WriteFile(bundle, bytes.Replace(raw, name, []byte("Zürich waterhouse"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := told(t, nil, "", "audit", "verify", bundle, "--policy", policy); code != exitNo || !strings.Contains(out, "private value of name") {
		t.Errorf("another name: exit %d %s", code, out)
	}
	if code, _, _ := told(t, vars, "", "audit", "export", ten.id, "--private", "--format", "ndjson", "--server", s.base, "-o", bundle); code != exitUsage {
		t.Errorf("private values as lines: exit %d", code)
	}

	// Where the operator's people sit is not in a tenant's log.
	status(t, "suspended", s.post(admin, "/v1/platform/tenants/"+ten.id+"/suspend", nil), 200)
	status(t, "resumed", s.post(admin, "/v1/platform/tenants/"+ten.id+"/resume", nil), 200)
	for _, action := range []string{"tenant_created", "tenant_suspended", "tenant_resumed"} {
		entry := s.get(ten.token, "/v1/tenants/"+ten.id+"/audit/entries?action="+action)
		status(t, action, entry, 200)
		seq := entry.list("items")[0]["seq"]
		own := s.get(ten.token, fmt.Sprintf("/v1/tenants/%s/audit/entries/%v/private", ten.id, seq))
		if own.status != 200 || strings.Contains(own.text, "src.") {
			t.Errorf("%s: %d %s", action, own.status, own.text)
		}
	}

	lines := bytes.Split(bytes.TrimSpace(export("--format", "ndjson")), []byte("\n"))
	for i, line := range lines {
		e, err := audit.ParseEntry(line)
		if err != nil || e.Seq != uint64(i) {
			t.Fatalf("line %d: %s, %v", i, line, err)
		}
		if i%7 == 0 {
			one := s.get(ten.token, fmt.Sprintf("/v1/tenants/%s/audit/entries/%d/private", ten.id, i))
			status(t, "private values", one, 200)
			var values []audit.Opened
			for _, v := range one.list("values") {
				o := audit.Opened{Field: v["field"].(string), New: v["new"].(bool), Value: v["value"].(string)}
				if _, err := hex.Decode(o.Nonce[:], []byte(v["nonce"].(string))); err != nil {
					t.Fatal(err)
				}
				values = append(values, o)
			}
			if wrong := audit.CheckPrivate(line, values); wrong != "" || len(values) == 0 {
				t.Errorf("entry %d %s %s", i, wrong, one.text)
			}
		}
	}
	if r := s.get(ten.token, "/v1/tenants/"+ten.id+"/audit/export?action=node_created&from=2100-01-01T00:00:00Z"); r.status != 200 || r.text != "" {
		t.Errorf("nothing fits: %d %s", r.status, r.text)
	}
}

// The name of a failed sign-in stands in the log as a digest, which audit hash makes of a candidate however it is spelt.
func TestAuditHashFindsTheNameThatSomebodyTried(t *testing.T) {
	s, admin, ten := world1(t)
	vars := map[string]string{"RINGFENCE_TOKEN": admin}
	hash := func(name string, more ...string) (int, string) {
		code, out, _ := told(t, vars, name+"\n", append([]string{"audit", "hash", "--server", s.base}, more...)...)
		return code, strings.TrimSpace(out)
	}
	status(t, "a sign-in", s.post("", "/v1/auth/login", obj{"email": "nobody@acme.example", "password": demoPassword + "?"}), 401)
	entry := s.get(admin, "/v1/platform/audit/entries?action=authn_login_fail&limit=1").list("items")[0]
	change := entry["changes"].([]any)[0].(map[string]any)
	code, digest := hash("Nobody@Acme.example")
	if code != exitDone || change["field"] != "login" || change["new"] != digest || !strings.HasPrefix(digest, "hmac-sha256:0001:") {
		t.Errorf("exit %d, %s, the entry holds %v", code, digest, change)
	}
	if _, other := hash("somebody@acme.example"); other == digest {
		t.Error("two names have one digest")
	}
	if code, again := hash("nobody@acme.example", "--key", "0001"); code != exitDone || again != digest {
		t.Errorf("by the key's name: exit %d %s", code, again)
	}
	for _, c := range [][]string{{"nobody@acme.example", "--key", "0002"}, {"nobody"}, {""}} {
		if code, out := hash(c[0], c[1:]...); code != exitNo || out != "" {
			t.Errorf("%v: exit %d %s", c, code, out)
		}
	}
	vars["RINGFENCE_TOKEN"] = ten.token
	if code, out := hash("nobody@acme.example"); code != exitNo || out != "" {
		t.Errorf("a tenant's owner: exit %d %s", code, out)
	}
}

func TestThePlatformsLogIsQueriedExportedAndProvedLikeATenants(t *testing.T) {
	s, admin, ten := world1(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	vars := map[string]string{"RINGFENCE_TOKEN": admin}
	for _, c := range []struct {
		token, query string
		status       int
	}{{admin, "?action=tenant_created&limit=1&outcome=success", 200}, {admin, "?verb=x", 422}, {ten.token, "", 403}} {
		r := s.get(c.token, "/v1/platform/audit/entries"+c.query)
		status(t, c.query, r, c.status)
		if c.status == 200 && (len(r.list("items")) != 1 || r.list("items")[0]["action"] != "tenant_created") {
			t.Errorf("%s: %s", c.query, r.text)
		}
	}
	status(t, "an entry", s.get(admin, "/v1/platform/audit/entries/0"), 200)
	point := s.get(admin, "/v1/platform/audit/checkpoint")
	status(t, "a checkpoint", point, 200)
	for _, path := range []string{"/entries/0", "/entries/0/proof", "/entries/0/private", "/checkpoint", "/bundle", "/export"} {
		status(t, "a tenant's owner and "+path, s.get(ten.token, "/v1/platform/audit"+path), 403)
	}
	code, policy, errs := told(t, nil, "", "--set", "data="+filepath.Join(s.dir, "data"), "audit", "key", "platform")
	if code != exitDone || policy != point.str("policy") || os.WriteFile(file("policy.txt"), []byte(policy), 0o600) != nil {
		t.Fatalf("the policy: exit %d %q, the checkpoint's is %q %s", code, policy, point.str("policy"), errs)
	}
	if code, out, errs := told(t, vars, "", "audit", "export", "platform", "--server", s.base, "-o", file("audit.tar")); code != exitDone {
		t.Fatalf("export: exit %d %s%s", code, out, errs)
	}
	code, out, errs := told(t, nil, "", "audit", "verify", file("audit.tar"), "--policy", file("policy.txt"))
	if code != exitDone || !strings.HasPrefix(out, "good: ") {
		t.Errorf("verify: exit %d %s%s", code, out, errs)
	}
	code, receipt, errs := told(t, vars, "", "audit", "prove", "platform", "0", "--server", s.base)
	if code != exitDone || os.WriteFile(file("0.proof"), []byte(receipt), 0o600) != nil {
		t.Fatalf("prove: exit %d %s", code, errs)
	}
	if code, out, errs := told(t, nil, "", "audit", "verify", file("0.proof"), "--policy", file("policy.txt")); code != exitDone {
		t.Errorf("the receipt: exit %d %s%s", code, out, errs)
	}
	if code, _, errs := told(t, map[string]string{"RINGFENCE_TOKEN": ten.token}, "", "audit", "export", "platform", "--server", s.base, "-o", file("theirs.tar")); code != exitNo {
		t.Errorf("a tenant's owner exports it: exit %d %s", code, errs)
	}
}

func TestAClientCommandSaysWhatIsMissing(t *testing.T) {
	s, _, ten := world1(t)
	open := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(open, []byte(ten.token), 0o644); err != nil { //nolint:gosec // that is the case
		t.Fatal(err)
	}
	vars := map[string]string{"RINGFENCE_TOKEN": ten.token}
	for what, c := range map[string]struct {
		vars map[string]string
		args []string
		code int
		want string
	}{
		"no token":             {nil, []string{ten.id, "0", "--server", s.base}, exitUsage, "RINGFENCE_TOKEN"},
		"an open token file":   {nil, []string{ten.id, "0", "--server", s.base, "--token-file", open}, exitUsage, "chmod"},
		"no id":                {vars, []string{"acme", "0", "--server", s.base}, exitUsage, "ten_"},
		"a token in clear":     {vars, []string{ten.id, "0", "--server", "http://iot.example.com"}, exitUsage, "https"},
		"a foreign tenant":     {vars, []string{"ten_0" + strings.Repeat("10", 12) + "0", "0", "--server", s.base}, exitNo, "404"},
		"an entry beyond":      {vars, []string{ten.id, "99999", "--server", s.base}, exitNo, "404"},
		"nobody listens":       {vars, []string{ten.id, "0", "--server", "http://127.0.0.1:1"}, exitFail, "refused"},
		"a revoked, bad token": {map[string]string{"RINGFENCE_TOKEN": "rf_pat_x"}, []string{ten.id, "0", "--server", s.base}, exitNo, "401"},
	} {
		code, out, errs := told(t, c.vars, "", append([]string{"audit", "prove"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.want) || out != "" || strings.Contains(errs, ten.token) {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", what, code, c.code, c.want, out, errs)
		}
	}
}

func TestADataFolderIsOneServers(t *testing.T) {
	s, _ := served(t)
	code, _, errs := told(t, nil, "", "--set", "data="+filepath.Join(s.dir, "data"), "--set", "listen=127.0.0.1:0", "--set", "metrics_listen=", "serve")
	if code != exitFail || !strings.Contains(errs, "another ringfence uses it") {
		t.Errorf("exit %d %s", code, errs)
	}
}

func TestADatabaseThatIsNoneIsSaidAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ringfence.db")
	text := strings.Repeat("this is somebody's diary. ", 100)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := told(t, nil, "", "--set", "data="+dir, "--set", "listen=127.0.0.1:0", "--set", "metrics_listen=", "serve")
	if code != exitFail || !strings.Contains(errs, "database") {
		t.Errorf("exit %d %s", code, errs)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != text {
		t.Errorf("the file was changed: %v", err)
	}
}
