//go:build charts

package deploy_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wrongPrepared is what pods of the chart would miss, and what its servers would not let in.
func wrongPrepared(t *testing.T, rendered []obj, secrets, roles, users string) (wrong []string) {
	t.Helper()
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	have := map[string]map[string]string{}
	for _, o := range objects(t, secrets) {
		name, data := text(at(o, "metadata", "name")), map[string]string{}
		for key, value := range o["data"].(obj) {
			raw, err := base64.StdEncoding.DecodeString(text(value))
			if err != nil || len(raw) < 16 {
				say("%s: %s: %d bytes: %v", name, key, len(raw), err)
			}
			data[key] = string(raw)
		}
		have[name] = data
	}
	lets := func(user, secret string) {
		if pass := have[secret]["password"]; pass == "" || !strings.Contains(users, "--entity-name "+user+" --add-config 'SCRAM-SHA-512=[password="+pass+"]'\n") {
			say("Kafka does not know %q by what is in %q", user, secret)
		}
	}
	for _, w := range workloads(rendered) {
		for _, v := range list(w.pod["volumes"]) {
			name := text(at(v, "secret", "secretName"))
			if name == "" {
				continue
			}
			if len(have[name]) == 0 {
				say("%s waits for %s", w.name, name)
			}
			for _, item := range list(at(v, "secret", "items")) {
				key := text(at(item, "key"))
				value := have[name][key]
				if value == "" {
					say("%s waits for %s of %s", w.name, key, name)
				}
				if role, rest, ok := strings.Cut(strings.TrimPrefix(value, "postgres://"), ":"); key == "url" {
					pass, server, _ := strings.Cut(rest, "@")
					if !ok || role != "ringfence_"+strings.TrimPrefix(name, "ringfence-database-") || server != "db.example.com:5432/ringfence?sslmode=verify-full&sslrootcert=/run/ringfence/database-ca/ca.crt" || !strings.Contains(roles, "ALTER ROLE "+role+" PASSWORD '"+pass+"';\n") {
						say("the database does not let %s in by %s", w.name, name)
					}
				}
			}
		}
		if user := variables(w.containers[0])["RINGFENCE_KAFKA_USER"]; user != "" {
			lets(user, "ringfence-kafka-"+w.binary())
		}
		args := list(w.containers[0]["args"])
		if i := slices.Index(args, any("--admin")); i > 0 {
			lets(text(args[i+1]), "ringfence-kafka-admin")
			if !strings.Contains(users, "--allow-principal User:"+text(args[i+1])+" --operation All --cluster\n") {
				say("Kafka lets its administrator do nothing")
			}
		}
	}
	return wrong
}

// Whoever copies the README's lines has all that the pods wait for.
func TestTheChartFindsWhatItsScriptPrepares(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	certify(t, filepath.Join(dir, "tls"))
	prepares(t, "db.example.com:5432", dir)
	_, page, _ := strings.Cut(read(t, root, "README.md"), "```yaml\n")
	values, _, ok := strings.Cut(page, "```")
	if !ok || !strings.Contains(values, "publicUrl") {
		t.Fatal("README.md has no values of the chart")
	}
	made, errs := template(t, values)
	if errs != "" {
		t.Fatal(errs)
	}
	all, secrets, roles, users := objects(t, made), read(t, dir, "secrets.yaml"), read(t, dir, "roles.sql"), read(t, dir, "kafka-users.sh")
	asked, errs := template(t, values+"platformApi: {brokerAuth: {enabled: true}}\n")
	if errs != "" {
		t.Fatal(errs)
	}
	if wrong := append(wrongPrepared(t, all, secrets, roles, users), wrongPrepared(t, objects(t, asked), secrets, roles, users)...); len(wrong) > 0 {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
	for _, p := range []struct{ in, from, to, want string }{
		{secrets, "name: ringfence-database-owner}", "name: ringfence-owner}", "ringfence-migrate waits for ringfence-database-owner"},
		{secrets, "name: ringfence-broker}", "name: broker}", "waits for ringfence-broker"},
		{secrets, "name: ringfence-keys}", "name: keys}", "waits for ringfence-keys"},
		{secrets, "  url: ", "  dsn: ", "waits for url of"},
		{secrets, "name: ringfence-database-relay}\ndata:\n  url: ", "name: ringfence-database-relay}\ndata:\n  url: AAAA", "does not let"},
		{roles, "ALTER ROLE ringfence_reader", "ALTER ROLE ringfence_backup", "does not let"},
		{users, "--entity-name ringfence-event-worker", "--entity-name event-worker", `does not know "ringfence-event-worker"`},
		{users, "SHA-512", "SHA-256", "does not know"},
		{users, "--cluster", "--topic x", "lets its administrator do nothing"},
	} {
		if !strings.Contains(p.in, p.from) {
			t.Errorf("%q is not there", p.from)
		}
		planted := func(s string) string {
			if s == p.in {
				return strings.Replace(s, p.from, p.to, 1)
			}
			return s
		}
		same(t, p.to, wrongPrepared(t, all, planted(secrets), planted(roles), planted(users)), p.want)
	}
	if out, errs, code := ran(t, nil, "ringfence", "migrate", "roles"); code != 0 || !strings.HasPrefix(roles, out) {
		t.Errorf("the roles are not those of ringfence migrate roles: %s", errs)
	}
	cmd := exec.CommandContext(t.Context(), os.Getenv("CHARTS_KUBECONFORM"), "-strict", "-summary", "-schema-location", schemas(t))
	cmd.Stdin = strings.NewReader(secrets)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "15 resources found") {
		t.Errorf("kubeconform: %v %s", err, out)
	}
	for _, name := range []string{"secrets.yaml", "roles.sql", "kafka-users.sh"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if prepares(t, "db.example.com:5432", dir); read(t, dir, "secrets.yaml") != secrets || read(t, dir, "roles.sql") != roles {
		t.Error("it was made anew")
	}
}
