package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// Dead letters are the operator's to list and to replay; of what they hold nobody is shown anything, and neither is the log.
func TestTheOperatorSeesOfDeadLettersWhatTheySayOfThemselves(t *testing.T) {
	broker, topics := memory.NewBroker(memory.BrokerOptions{}), bus.TopicsUnder("rf")
	for _, topic := range []string{topics.Uplinks, topics.Later, topics.Dead} {
		if err := broker.Create(topic, 2); err != nil {
			t.Fatal(err)
		}
	}
	carrier := broker.Bus()
	h := newHouse(t, func(in *ingest.Ingest) {
		in.Over(ingest.Durable{Bus: carrier, Topics: topics, Version: uplink.Version, Wait: time.Second})
	})
	admin, other := h.as(h.owner[0]), h.as(h.owner[1])
	const at, key = "/v1/platform/dead-letters", "Idempotency-Key: k"
	value := `{"id":"` + canary + `","device":"70b3d57ed0000001","payload":"AA=="}`
	bury := func(value, reason, via, application string, size int) {
		t.Helper()
		l := uplink.Letter{Reason: reason, Via: via, Origin: "app/pumps/up", Size: size, Hash: sha256.Sum256([]byte(value)), At: h.now(), Format: string(source.Plain), Owner: string(ingest.ByApplication), Told: uplink.Told{Application: application}}
		r := bus.Record{Topic: topics.Dead, Key: "k", Value: []byte(value)}
		for _, f := range l.Fields() {
			r.Headers = append(r.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
		}
		if err := carrier.Publish(t.Context(), []bus.Record{r})[0]; err != nil {
			t.Fatal(err)
		}
	}
	if got := admin.call("GET", at, "").items("id"); got != "" {
		t.Errorf("before there are any: %s", got)
	}
	bury(value, "no_tenant", "connection:apps", "pumps", len(value))
	bury(value, "too_large", "connection:apps", "pumps", 900<<10)
	bury(value, "no_headers", "rf.uplinks", "", len(value))
	if err := carrier.Publish(t.Context(), []bus.Record{{Topic: topics.Dead, Key: "k", Value: []byte(canary), Headers: []bus.Header{{Name: "rf-size", Value: []byte("many")}, {Name: "rf-time", Value: []byte("now")}, {Name: "rf-origin", Value: []byte("\xff\x00\u202e")}}}})[0]; err != nil {
		t.Fatal(err)
	}
	list := admin.call("GET", at+"?limit=3", "").ok(200)
	if got := list.items("reason"); got != "no_tenant too_large no_headers" {
		t.Errorf("a page: %s", got)
	}
	rest := admin.call("GET", at+"?limit=3&cursor="+list.str("next_cursor"), "").ok(200)
	if rest.items("reason") != "" || rest.items("whole") != "false" || rest.str("next_cursor") != "" {
		t.Errorf("what is no letter of ours: %s", rest.Body)
	}
	admin.call("GET", at+"?cursor=x", "").bad(400, "bad_cursor")
	if got := admin.call("GET", at+"?reason=too_large", "").items("whole"); got != "false" {
		t.Errorf("of one reason: %s", got)
	}
	ids := strings.Fields(list.items("id"))
	one := admin.call("GET", at+"/"+ids[0], "").ok(200)
	sum := sha256.Sum256([]byte(value))
	if one.str("via") != "connection:apps" || one.str("origin") != "app/pumps/up" || one.str("sha256") != base64.StdEncoding.EncodeToString(sum[:]) || !strings.Contains(one.Body.String(), `"tenant_id":null`) || !strings.Contains(one.Body.String(), `"whole":true`) {
		t.Errorf("%s", one.Body)
	}
	for i, code := range []string{"letter_without_owner", "letter_cut", "letter_unreadable"} {
		admin.call("POST", at+"/"+ids[i]+"/replay", "").bad(409, code)
	}
	other.call("GET", at, "").names(403, "permission_denied", "", "platform-dead-letter:read")
	for _, id := range []string{ids[0], "0-9999", "9-0", "x", "0-0-0", strings.Repeat("1", 40)} {
		other.call("GET", at+"/"+id, "").bad(404, "not_found")
		other.call("POST", at+"/"+id+"/replay", "").bad(404, "not_found")
		if id != ids[0] {
			admin.call("GET", at+"/"+id, "").bad(404, "not_found")
			admin.call("POST", at+"/"+id+"/replay", "").bad(404, "not_found")
		}
	}

	src := admin.call("POST", h.at(0, "/sources"), `{"name":"s","format":"plain"}`).ok(201).str("id")
	admin.call("POST", "/v1/platform/mappings", `{"connection":"apps","application_id":"pumps","tenant_id":"`+h.ten[0]+`","source_id":"`+src+`"}`).ok(201)
	first := admin.call("POST", at+"/"+ids[0]+"/replay", "", key).ok(202)
	again := admin.call("POST", at+"/"+ids[0]+"/replay", "", key).ok(202)
	if first.str("event_id") == "" || first.str("event_id") != again.str("event_id") || first.Header().Get("Idempotency-Replayed") != "" || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("%s %v, %s %v", first.Body, first.Header(), again.Body, again.Header())
	}
	// Unmapped, and another tenant's since: what came in between may be of the first one's devices.
	maps := func(tenant, source string) string {
		return admin.call("POST", "/v1/platform/mappings", `{"connection":"apps","application_id":"wells","tenant_id":"`+tenant+`","source_id":"`+source+`"}`).ok(201).str("id")
	}
	admin.call("DELETE", "/v1/platform/mappings/"+maps(h.ten[0], src), "", `If-Match: "1"`).ok(204)
	bury(value, "no_tenant", "connection:apps", "wells", len(value))
	maps(h.ten[1], other.call("POST", h.at(1, "/sources"), `{"name":"s","format":"plain"}`).ok(201).str("id"))
	found := strings.Fields(admin.call("GET", at+"?reason=no_tenant", "").ok(200).items("id"))
	between := at + "/" + found[slices.IndexFunc(found, func(id string) bool { return id != ids[0] })] + "/replay"
	for body, code := range map[string]string{"": "letter_without_heir", "{}": "letter_without_heir", `{"heir_tenant_id":"` + h.ten[0] + `"}`: "letter_not_heirs"} {
		admin.call("POST", between, body).bad(409, code)
	}
	admin.call("POST", between, `{"heir_tenant_id":"x"}`).bad(422, "bad_id")
	admin.call("POST", between, `{"heir":"x"}`).bad(422, "invalid")
	if got := admin.call("POST", between, `{"heir_tenant_id":"`+h.ten[1]+`"}`).ok(202).str("event_id"); got == "" {
		t.Error("the heir was named, and it became nothing")
	}
	if log := admin.call("GET", "/v1/platform/audit/entries?target="+ids[0], "").items("action"); log != "dead_letter_replayed" {
		t.Errorf("the platform's log: %s", log)
	}
	entries := admin.call("GET", "/v1/platform/audit/entries?limit=200", "").ok(200).Body.String()
	for where, text := range map[string]string{"the list": list.Body.String() + rest.Body.String(), "one": one.Body.String(), "the platform's log": entries, "the log": h.log.String()} {
		if strings.Contains(text, canary) {
			t.Errorf("%s holds what a letter holds", where)
		}
	}

	if err := broker.Delete(topics.Dead); err != nil {
		t.Fatal(err)
	}
	admin.call("GET", at, "").bad(503, "no_topic")
	newHouse(t).as("").call("GET", at, "").bad(404, "not_found") // where events go over no bus there are none
}
