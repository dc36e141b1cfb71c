//go:build services

package node_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/testkit/redacttest"
)

// tables are those that tenants' records stand in.
func (d *deployment) tables() []string {
	d.t.Helper()
	var all string
	if err := d.row("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND relrowsecurity").Scan(&all); err != nil {
		d.t.Fatal(err)
	}
	return strings.Fields(all)
}

// change changes a table that others are using, as often as it takes: they may hold what it waits for, and wait for what it holds.
func (d *deployment) change(statement string) {
	d.t.Helper()
	d.await(statement, time.Minute, func() error { return d.server.Ask(d.t.Context(), d.name, statement) })
}

// PostgreSQL refuses to read or to keep what is in each table in turn, in words that hold the row and a secret: message, detail and hint,
// under numbers of every kind. No answer, log line, metric, entry or record of the deployment says any of it.
func TestNothingThatTheDatabaseSaysOfARefusalReachesAnybody(t *testing.T) {
	servers.PostgresClients(t)
	d := deploy(t)
	d.talks()
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	d.publish(0, 5)
	d.read(time.Minute)
	said, typed := "said"+word(), "typed"+word()
	at := "/v1/tenants/" + d.tenant
	root := str(d.ask("GET", at+"/devices/"+d.device, nil, 200), "node_id")
	secrets := map[string]string{"what the database said": said, "a password": typed}
	codes := []string{"P0001", "23505", "22P02", "40001", "53100", "57014", "XX000", "42501"}
	var answers bytes.Buffer
	var met []string // which refusals the database says that it made
	sent, made, failed, told := 5, 0, 0, 0
	step := func(how string) {
		t.Helper()
		for _, q := range []struct {
			method, path, credential string
			body                     object
		}{
			{"GET", at + "/devices", d.token, nil}, {"GET", at + "/readings", d.token, nil}, {"GET", at + "/audit/entries", d.token, nil}, {"GET", "/v1/me", d.token, nil},
			{"POST", "/v1/auth/login", "", object{"email": "ana@acme.example", "password": typed, "mode": "token"}},
			{"POST", at + "/nodes", d.token, object{"parent_id": root, "kind": "site", "name": "site " + typed}},
			{"POST", at + "/devices", d.token, object{"name": "pump " + typed, "addresses": []object{{"kind": "dev_eui", "value": fmt.Sprintf("%016x", 1<<40+made)}}, "variables": []object{{"name": "key", "value": typed, "secret": true}}}},
			{"POST", at + "/sources/" + d.source + "/keys", d.token, object{"name": "another"}},
			{"POST", at + "/decoders", d.token, object{"name": "decoder " + typed}},
			{"POST", at + "/sources", d.token, object{"name": "source " + typed, "format": "plain"}},
			{"POST", at + "/roles", d.token, object{"name": "role " + typed, "permissions": []string{"device:read"}}},
			{"POST", at + "/groups", d.token, object{"name": "group " + typed}},
			{"POST", "/v1/ingest/plain", d.key, object{"id": fmt.Sprint("posted ", sent), "device": "70b3d57ed0000001", "payload_hex": "00"}},
		} {
			made++
			if name, ok := q.body["name"].(string); ok {
				q.body["name"] = fmt.Sprint(name, " ", made)
			}
			status, text, _, err := d.tells(d.base, q.method, q.path, q.credential, `"1"`, q.body)
			if err != nil {
				t.Fatal(err)
			}
			if how == "" && status >= 300 && status != http.StatusUnauthorized {
				t.Errorf("while nothing is wrong: %s %s: %d %s", q.method, q.path, status, text)
			}
			if status >= 500 {
				failed++
				answers.Write(text)
			}
		}
		d.publish(sent, sent+1)
		sent++
		before := strings.Count(d.pg.Log(), said)
		d.await("the event worker has met it, or not", time.Minute, func() error {
			if n := d.behind(); n > 0 && strings.Count(d.pg.Log(), said) == before {
				return fmt.Errorf("%d events wait", n)
			}
			return nil
		})
		if n := strings.Count(d.pg.Log(), said); n > told {
			told, met = n, append(met, how)
		}
		left := map[string][]byte{"an answer": answers.Bytes()}
		for name, p := range d.workers {
			left[name+"'s log"] = []byte(p.log.String())
		}
		for _, line := range redacttest.Slips(secrets, left) {
			t.Errorf("%s: %s", how, line)
		}
	}
	step("")
	for i, table := range d.tables() {
		code := codes[i%len(codes)]
		words := fmt.Sprintf("USING ERRCODE = '%s', MESSAGE = 'cannot use %s of ' || kept, DETAIL = '%[2]s', HINT = '%[2]s'", code, said)
		d.tell("CREATE OR REPLACE FUNCTION spilt(kept text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "+words+"; END $$",
			"CREATE OR REPLACE FUNCTION spills() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM spilt(NEW::text); RETURN NEW; END $$")
		d.change("CREATE TRIGGER spills BEFORE INSERT OR UPDATE ON " + table + " FOR EACH ROW EXECUTE FUNCTION spills()")
		step("written: " + table + " " + code)
		d.change("DROP TRIGGER spills ON " + table)
		d.change("CREATE POLICY spills ON " + table + " AS RESTRICTIVE FOR SELECT USING (spilt(" + table + "::text))")
		step("read: " + table + " " + code)
		d.change("DROP POLICY spills ON " + table)
	}
	t.Logf("%d requests failed; %d of %d ways to refuse were met: %q", failed, len(met), 2*len(d.tables()), met)
	if failed < 100 || len(met) < 40 {
		t.Error("next to nothing went wrong")
	}
	d.tell("DROP FUNCTION spills", "DROP FUNCTION spilt")
	d.await("the API is back", time.Minute, func() error { return d.ready(d.base) })
	d.read(2 * time.Minute)
	left := d.left()
	left["answers"] = answers.Bytes()
	for _, line := range redacttest.Slips(map[string]string{"what the database said": said}, left) {
		t.Error(line)
	}
	if len(redacttest.Slips(secrets, map[string][]byte{"planted": append(answers.Bytes(), said...)})) == 0 { // and it would have been found
		t.Error("a planted one was not found")
	}
}
