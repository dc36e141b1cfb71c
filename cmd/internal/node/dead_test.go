//go:build services

package node_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// An application that nobody has claimed: its messages are dead letters, which the operator lists, maps and replays.
func TestDeadLettersAreListedAndReplayedByTheOperator(t *testing.T) {
	d := deploy(t)
	more, err := os.ReadFile(filepath.Join(d.dir, "connections.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(more) + fmt.Sprintf("- name: apps\n  url: mqtt://%s\n  username: worker\n  password_file: %s/mqtt.password\n  filters: [\"app/{application}/up\"]\n  format: plain\n  tenant_from: application\n  presence: false\n", d.mosquitto.Addr(), d.dir)
	if err := os.WriteFile(filepath.Join(d.dir, "connections.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	const events = 5
	for n := range events {
		body := fmt.Sprintf(`{"id":"late %d","device":"70b3d57ed0000001","payload_hex":"0%d"}`, n, n)
		if _, err := p.clients[0].Publish(t.Context(), &paho.Publish{QoS: 1, Topic: "app/pumps/up", Payload: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(want int, into any, args ...string) string {
		t.Helper()
		c := exec.Command(filepath.Join(d.bin, "ringfence"), append(append([]string{"dead-letters"}, args...), "--server", d.base, "--json")...)
		c.Env = append(os.Environ(), "RINGFENCE_TOKEN="+d.token)
		var stderr strings.Builder
		c.Stderr = &stderr
		out, _ := c.Output()
		if code := c.ProcessState.ExitCode(); code != want {
			t.Fatalf("%v: %d, want %d: %s %s", args, code, want, out, stderr.String())
		}
		if err := json.Unmarshal(out, into); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	var listed struct{ Letters []object }
	d.await("the dead letters are listed", 30*time.Second, func() error {
		if text := ask(0, &listed, "list", "--reason", "no_tenant"); strings.Contains(text, "payload") || strings.Contains(text, "late ") {
			t.Fatalf("a list tells what letters hold: %s", text)
		}
		if len(listed.Letters) != events {
			return fmt.Errorf("%d letters", len(listed.Letters))
		}
		return nil
	})
	if l := listed.Letters[0]; str(l, "via") != "connection:apps" || str(l, "origin") != "app/pumps/up" || l["whole"] != true || l["tenant_id"] != nil {
		t.Errorf("%v", l)
	}
	one := d.ask("GET", "/v1/platform/dead-letters/"+str(listed.Letters[0], "id"), nil, 200)
	if str(one, "reason") != "no_tenant" {
		t.Errorf("%v", one)
	}
	var replayed struct{ Replayed []object }
	ask(1, &replayed, "replay", str(listed.Letters[0], "id"))
	mapping := d.ask("POST", "/v1/platform/mappings", object{"connection": "apps", "application_id": "pumps", "tenant_id": d.tenant, "source_id": d.source}, 201)
	ask(0, &replayed, "replay", "--reason", "no_tenant")
	ask(0, &replayed, "replay", "--reason", "no_tenant") // twice does no harm
	if len(replayed.Replayed) != events {
		t.Errorf("%v", replayed)
	}
	d.whole(events, 30*time.Second)
	entries := d.ask("GET", "/v1/platform/audit/entries?action=dead_letter_replayed", nil, 200)
	if items, _ := entries["items"].([]any); len(items) != 2*events {
		t.Errorf("the platform's log tells of %d replays", len(items))
	}
	// Another tenant's since: what the operator does not give it by name it is not given.
	other := d.customers(1, light)[0]
	d.ask("DELETE", "/v1/platform/mappings/"+str(mapping, "id"), object{"-rev": str(mapping, "-etag")}, 204)
	d.ask("POST", "/v1/platform/mappings", object{"connection": "apps", "application_id": "pumps", "tenant_id": other.id, "source_id": other.source}, 201)
	var given struct{ Replayed, Refused []object }
	ask(1, &given, "replay", "--reason", "no_tenant")
	if len(given.Replayed) != 0 || len(given.Refused) != events || str(given.Refused[0], "code") != "letter_without_heir" {
		t.Errorf("%v", given)
	}
	ask(0, &given, "replay", str(listed.Letters[0], "id"), "--heir", other.id)
	d.await("the heir has what it was given, and that alone", 30*time.Second, func() error {
		if items, _ := d.ask("GET", "/v1/tenants/"+other.id+"/quarantine", nil, 200)["items"].([]any); len(items) != 1 {
			return fmt.Errorf("%d", len(items))
		}
		return nil
	})
	for _, id := range []string{"0-999999", "99-0", "x", "0-0-0"} {
		d.ask("POST", "/v1/platform/dead-letters/"+id+"/replay", nil, 404)
	}
	session := d.token
	d.token = d.key
	d.ask("GET", "/v1/platform/dead-letters", nil, 404) // of the platform it sees nothing
	d.token = session
}
