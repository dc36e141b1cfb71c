//go:build services

package node_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// doctored has ringfence doctor look at the deployment, as its operator does: it sees what is as it should be and what is not, of every
// server behind the API.
func (d *deployment) doctored() {
	t := d.t
	t.Helper()
	file := func(name, text string) string {
		path := filepath.Join(d.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type row struct{ ID, State, Seen, Remedy string }
	look := func(more ...string) map[string]row {
		t.Helper()
		c := exec.CommandContext(t.Context(), filepath.Join(d.bin, "ringfence"), append([]string{"doctor", "--json", "--profile", "p2", "--server", d.base, "--tenant", d.tenant,
			"--url-file", file("doctor.url", d.runtime), "--ingest-key-file", file("doctor.key", d.key), "--token-file", file("doctor.token", d.token),
			"--policy", file("doctor.policy", str(d.ask("GET", "/v1/tenants/"+d.tenant+"/audit/checkpoint", nil, 200), "policy")),
			"--database", d.pg.Addr(), "--broker", d.mosquitto.Addr()}, more...)...)
		var out, errs bytes.Buffer
		c.Dir, c.Env, c.Stdout, c.Stderr = d.dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir}, &out, &errs
		_ = c.Run()
		var report struct{ Rows []row }
		if err := json.Unmarshal(out.Bytes(), &report); err != nil || c.ProcessState.ExitCode() != 1 || len(report.Rows) != 11 {
			t.Fatalf("exit %d, %v: %s%s", c.ProcessState.ExitCode(), err, out.String(), errs.String())
		}
		rows := map[string]row{}
		for _, r := range report.Rows {
			rows[r.ID] = r
		}
		return rows
	}
	want := func(rows map[string]row, id, state string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if rows[id].State != state || !strings.Contains(rows[id].Seen, part) {
				t.Errorf("%s: %+v; want %s: %s", id, rows[id], state, part)
			}
		}
	}
	rows := look("--kafka", d.secured.Mutual)
	want(rows, "M66", "red", "in clear")
	want(rows, "M67", "red", "directly") // who set the platform up
	want(rows, "M68", "green", "keys and tokens")
	want(rows, "M69", "green", "forced row-level security")
	want(rows, "M70", "green", "answers at ingestion say")
	want(rows, "M72", "yellow", "from outside alone")
	want(rows, "M74", "green", "good: ")
	want(rows, "M75", "red", "PostgreSQL at "+d.pg.Addr()+" answers in clear", "MQTT at "+d.mosquitto.Addr()+" answers in clear")
	if strings.Contains(rows["M75"].Seen, d.secured.Mutual) {
		t.Errorf("Kafka wants certificates there: %s", rows["M75"].Seen)
	}
	want(look("--kafka", d.secured.TLS), "M75", "red", "Kafka at "+d.secured.TLS+" answers who shows no certificate")
	want(look("--kafka", d.secured.Mutual, "--foreign"), "M72", "red", d.pg.Addr()+" is reached", d.secured.Mutual+" is reached", d.mosquitto.Addr()+" is reached")

	// Who may do all in the database changes an entry: it is named.
	d.tell("ALTER TABLE audit_entries DISABLE TRIGGER audit_entries_update",
		"UPDATE audit_entries SET leaf = set_byte(leaf, length(leaf) - 2, get_byte(leaf, length(leaf) - 2) # 1) WHERE seq = 2 AND tenant IN (SELECT tenant FROM devices)",
		"ALTER TABLE audit_entries ENABLE TRIGGER audit_entries_update")
	want(look("--kafka", d.secured.Mutual), "M74", "red", "first bad entry 2")
}
