package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// door makes a source of the plain form at a node and answers its key.
func (s *story) door(t *testing.T, ten *demoTenant, name, node string) string {
	t.Helper()
	at := "/v1/tenants/" + ten.id + "/sources"
	src := s.post(ten.token, at, obj{"name": name, "format": "plain", "node_id": node})
	status(t, "a source", src, 201)
	key := s.post(ten.token, at+"/"+src.str("id")+"/keys", obj{"name": "first"})
	status(t, "its key", key, 201)
	return key.str("secret")
}

func (s *story) newSite(t *testing.T, ten *demoTenant, name string) string {
	t.Helper()
	r := s.post(ten.token, "/v1/tenants/"+ten.id+"/nodes", obj{"parent_id": ten.root, "kind": "site", "name": name})
	status(t, "a site", r, 201)
	return r.str("id")
}

func (s *story) newDevice(t *testing.T, ten *demoTenant, eui, node, decoder string) string {
	t.Helper()
	r := s.post(ten.token, "/v1/tenants/"+ten.id+"/devices", obj{"name": eui, "node_id": node, "decoder_id": decoder, "addresses": []obj{{"kind": "dev_eui", "value": eui}}})
	status(t, "a device", r, 201)
	return r.str("id")
}

// becomes waits until an event is in a state, and answers it.
func (s *story) becomes(t *testing.T, ten *demoTenant, event, state string) reply {
	t.Helper()
	var r reply
	n, err := s.wait(1, func() (int, error) {
		var err error
		r = s.get(ten.token, "/v1/tenants/"+ten.id+"/uplinks/"+event)
		if r.status == http.StatusNotFound { // accepted by a bus, and not written yet
			return 0, nil
		}
		r, err = s.must(r, 200)
		if r.str("state") == state {
			return 1, err
		}
		return 0, err
	})
	if n != 1 || err != nil {
		t.Fatalf("the event is not %s: %s %v", state, r.text, err)
	}
	return r
}

func TestAnEventOfADeviceThatIsRegisteredLaterIsReleased(t *testing.T) {
	s, _, ten := world1(t)
	at, eui := "/v1/tenants/"+ten.id, "70b3d57ed0000777"
	key := s.door(t, ten, "gateway", ten.root)
	event := s.post(key, "/v1/ingest/plain", obj{"device": eui, "payload": "CL4u"}).str("event_id")
	s.becomes(t, ten, event, "quarantined")
	device := s.newDevice(t, ten, eui, ten.site, ten.decoder)
	status(t, "its release", s.post(ten.token, at+"/quarantine/"+event+"/release", nil), 200)
	if u := s.becomes(t, ten, event, "processed"); u.str("node_id") != ten.site || u.str("device_id") != device {
		t.Errorf("ruled by another than the device's site: %s", u.text)
	}
	if n, err := s.readings(ten, device, 1); n != 1 || err != nil {
		t.Errorf("%d readings, %v", n, err)
	}
	if r := s.call(http.MethodGet, ten.token, at+"/devices/"+device+"/latest", nil, ""); !strings.Contains(r.text, `"f_cnt":null`) {
		t.Errorf("a plain event has no counter, its reading one: %s", r.text)
	}
}

func TestQuarantineIsAskedByDeviceAndSeenByWhoeverReadsItAtTheSource(t *testing.T) {
	s, _, ten := world1(t)
	at := "/v1/tenants/" + ten.id
	north, south := s.newSite(t, ten, "N"), s.newSite(t, ten, "S")
	key := s.door(t, ten, "north", north)
	inside, outside := s.newDevice(t, ten, "0303030303030301", north, ten.decoder), s.newDevice(t, ten, "0303030303030302", south, ten.decoder)
	status(t, "switching it off", s.call(http.MethodPatch, ten.token, at+"/devices/"+inside, obj{"state": "disabled"}, `"1"`), 200)
	send := func(eui string) string {
		event := s.post(key, "/v1/ingest/plain", obj{"device": eui, "payload": "CL4u"}).str("event_id")
		s.becomes(t, ten, event, "quarantined")
		return event
	}
	off, beyond, early := send("0303030303030301"), send("0303030303030302"), send("0303030303030303")
	later := s.newDevice(t, ten, "0303030303030303", north, ten.decoder)

	viewer := func(name, node string) string {
		inv := s.post(ten.token, at+"/invitations", obj{"email": name + "@acme.example", "role_id": s.role(t, ten, "viewer"), "node_id": node, "recursive": true})
		status(t, "an invitation", inv, 201)
		status(t, "accepting it", s.post("", "/v1/auth/invitations/accept", obj{"token": inv.str("secret"), "name": name, "password": demoPassword}), 201)
		token, err := s.login(name + "@acme.example")
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for who, c := range map[string]struct {
		token string
		want  []string // of any device, of that inside, of that outside, of the one that came later
	}{
		"the owner": {ten.token, []string{early + " " + beyond + " " + off, off, "", ""}},
		"north":     {viewer("nora", north), []string{early + " " + beyond + " " + off, off, "", ""}},
		"south":     {viewer("sue", south), []string{"", "", "", ""}},
	} {
		for i, filter := range []string{"", "?device_id=" + inside, "?device_id=" + outside, "?device_id=" + later} {
			var got []string
			for _, u := range s.get(c.token, at+"/quarantine"+filter).list("items") {
				got = append(got, fmt.Sprint(u["id"]))
				if u["node_id"] != north {
					t.Errorf("%s: ruled elsewhere: %v", who, u)
				}
			}
			if strings.Join(got, " ") != c.want[i] {
				t.Errorf("%s, %q: %v, want %s", who, filter, got, c.want[i])
			}
		}
	}
	for _, device := range []string{inside, outside} {
		if d := s.get(ten.token, at+"/devices/"+device); d.body["last_seen_at"] != nil {
			t.Errorf("what was refused is a sign of life: %s", d.text)
		}
	}
}

func TestASourceSuppressesNoEventOfAnothers(t *testing.T) {
	s, _, ten := world1(t)
	north, south := s.newSite(t, ten, "N"), s.newSite(t, ten, "S")
	evil, good, eui := s.door(t, ten, "north", north), s.door(t, ten, "south", south), "0202020202020202"
	device := s.newDevice(t, ten, eui, south, ten.decoder)
	for id, payload := range map[string]string{"42": "CL4u", "43": "AAAA"} {
		status(t, "a stranger", s.post(evil, "/v1/ingest/plain", obj{"device": eui, "payload": payload, "id": id}), 202)
		honest := s.post(good, "/v1/ingest/plain", obj{"device": eui, "payload": "CL4u", "id": id})
		status(t, "the honest source", honest, 202)
		if honest.body["duplicate"] != false {
			t.Errorf("event %s: %s", id, honest.text)
		}
		again := s.post(good, "/v1/ingest/plain", obj{"device": eui, "payload": "CL4u", "id": id})
		known := os.Getenv(deployedEnv) == "" // a bus takes what comes; whoever finishes it knows what it is
		if (again.body["duplicate"] == true) != known || (again.str("event_id") == honest.str("event_id")) != known {
			t.Errorf("event %s told twice: %s", id, again.text)
		}
		if known {
			s.becomes(t, ten, honest.str("event_id"), "processed")
			continue
		}
		n, err := s.wait(1, func() (n int, err error) { // two decoders may have them: whichever is written first is the event
			for _, told := range []reply{honest, again} {
				if s.get(ten.token, "/v1/tenants/"+ten.id+"/uplinks/"+told.str("event_id")).str("state") == "processed" {
					n++
				}
			}
			return n, nil
		})
		if n != 1 || err != nil {
			t.Errorf("event %s told twice is processed %d times, %v", id, n, err)
		}
	}
	if n, err := s.readings(ten, device, 2); n != 2 || err != nil {
		t.Errorf("%d readings, %v", n, err)
	}
}

// Each slow sender has been told to go on with its body, so it is as far into its request as it gets.
func TestSlowSendersOfOneSourceHoldNobodyElseUp(t *testing.T) {
	s, _, ten := world1(t)
	slow, quick := s.door(t, ten, "slow", ten.site), s.door(t, ten, "quick", ten.root)
	for range 20 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if err := c.SetDeadline(time.Now().Add(9 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(c, "POST /v1/ingest/plain HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n\r\n", slow); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("%q %v", line, err)
		}
	}
	for n := range 10 {
		status(t, "another source", s.post(quick, "/v1/ingest/plain", obj{"device": ten.devEUI, "payload": "CL4u", "id": fmt.Sprint(n)}), 202)
	}
	long := s.post(quick, "/v1/ingest/plain", obj{"device": ten.devEUI, "payload": "CL4u", "application": strings.Repeat("x", 100_000)})
	if status(t, "a long body arrives whole, and is judged", long, 422); long.code() == "unreadable" {
		t.Error(long.text)
	}
}

func TestQuotasThatTookEffectAreInTheMetrics(t *testing.T) {
	for series, c := range map[string]struct{ source, fuel string }{
		`ringfence_uplinks_deferred_total{reason="quarantine"}`: {"function decodeUplink(input) { for (;;) {} }", "1000000000"},
		"ringfence_decoder_quarantines_total":                   {"function decodeUplink(input) { for (;;) {} }", "1000000000"},
		`ringfence_uplinks_deferred_total{reason="fuel"}`:       {"", "1"}, // what the tenant has is enough
	} {
		metrics := servers.Free(t)
		s, _, ten := world1(t, "metrics_listen="+metrics, "fuel_per_minute="+c.fuel)
		count := func() (int, error) {
			at := *s
			at.base = "http://" + metrics
			r, err := at.must(at.get("", "/metrics"), 200)
			_, rest, _ := strings.Cut(r.text, "\n"+series+" ")
			line, _, _ := strings.Cut(rest, "\n")
			n, aerr := strconv.Atoi(line)
			return n, errors.Join(err, aerr)
		}
		if n, err := count(); n != 0 || err != nil {
			t.Errorf("%s is %d at the start: %v", series, n, err)
		}
		if c.source != "" {
			s.activate(t, ten, c.source)
		}
		for n := range 4 { // a minute may end in between
			status(t, "an event", s.post(ten.key, "/v1/ingest/chirpstack", chirpStack(ten.id, ten.devEUI, n)), 202)
		}
		if n, err := s.wait(1, count); n < 1 || err != nil {
			t.Errorf("%s is %d: %v", series, n, err)
		}
	}
}

// activate makes a version of the tenant's decoder and lets it run.
func (s *story) activate(t *testing.T, ten *demoTenant, source string) {
	t.Helper()
	at := "/v1/tenants/" + ten.id + "/decoders/" + ten.decoder
	version := s.post(ten.token, at+"/versions", obj{"source": source})
	status(t, "a version", version, 201)
	status(t, "activating it", s.call(http.MethodPost, ten.token, at+"/activate", obj{"version_id": version.str("id")}, s.get(ten.token, at).header.Get("ETag")), 200)
}

func TestARollBackFreesWhatWaitsForTheVersionThatFailed(t *testing.T) {
	s, _, ten := world1(t)
	at := "/v1/tenants/" + ten.id + "/decoders/" + ten.decoder
	s.activate(t, ten, "function decodeUplink(input) { for (;;) {} }")
	for n := range 3 {
		s.becomes(t, ten, s.post(ten.key, "/v1/ingest/chirpstack", chirpStack(ten.id, ten.devEUI, n)).str("event_id"), "failed")
	}
	event := s.post(ten.key, "/v1/ingest/chirpstack", chirpStack(ten.id, ten.devEUI, 3)).str("event_id")
	waits, err := s.wait(1, func() (int, error) {
		r := s.get(ten.token, "/v1/tenants/"+ten.id+"/uplinks/"+event)
		if r.status == http.StatusNotFound { // accepted by a bus, and not written yet
			return 0, nil
		}
		_, err := s.must(r, 200)
		return min(len(r.str("waits_until")), 1), err
	})
	if waits != 1 || err != nil {
		t.Fatalf("the event does not wait: %v", err)
	}
	status(t, "rolling back", s.call(http.MethodPost, ten.token, at+"/rollback", nil, s.get(ten.token, at).header.Get("ETag")), 200)
	if u := s.becomes(t, ten, event, "processed"); u.str("waits_until") != "" {
		t.Errorf("it still waits: %s", u.text)
	}
}

func TestDryRunsComeFromTheTenantsFuelAndNameOneScript(t *testing.T) {
	s, _, ten := world1(t, "fuel_per_minute=3500000")
	at := "/v1/tenants/" + ten.id + "/decoders/" + ten.decoder
	active := s.get(ten.token, at).str("active_version_id")
	for what, body := range map[string]obj{"neither": {"payload": "CL4u"}, "both": {"payload": "CL4u", "version_id": active, "source": goodDecoder}} {
		r := s.post(ten.token, at+"/test", body)
		if status(t, what, r, 422); r.code() != "one_script" {
			t.Errorf("%s: %s", what, r.text)
		}
	}
	for year, want := range map[string]int{"1969": 422, "1970": 200, "2261": 200, "2262": 422, "9999": 422} {
		r := s.post(ten.token, at+"/test", obj{"payload": "CL4u", "version_id": active, "recv_time": year + "-06-01T00:00:00Z"})
		if status(t, "at a time of "+year, r, want); want == 422 && (r.code() != "bad_time" || !strings.Contains(r.text, `"/recv_time"`)) {
			t.Errorf("at a time of %s: %s", year, r.text)
		}
	}
	for second, want := range map[string]int{"a": 422, "A": 200} {
		variables := []obj{{"name": "a", "value": "1"}, {"name": "b", "value": "2"}, {"name": second, "value": "3", "secret": true}}
		r := s.post(ten.token, at+"/test", obj{"payload": "CL4u", "version_id": active, "variables": variables})
		if status(t, "variables a, b and "+second, r, want); want == 422 && (r.code() != "bad_variable" || !strings.Contains(r.text, `"/variables/2/name"`)) {
			t.Errorf("variables a, b and %s: %s", second, r.text)
		}
	}
	status(t, "a saved version", s.post(ten.token, at+"/test", obj{"payload": "CL4u", "version_id": active}), 200)
	n := 0
	for range 12 { // a minute may end in between
		r := s.post(ten.token, at+"/test", obj{"payload": "CL4u", "source": "function decodeUplink(input) { for (;;) {} }"})
		if r.status == 200 {
			n++
			continue
		}
		if status(t, "beyond the fuel", r, 429); r.code() != "limited_fuel" || r.header.Get("Retry-After") == "" {
			t.Errorf("%s", r.text)
		}
	}
	if n < 3 || n > 8 {
		t.Errorf("%d runs of a million each with three and a half million a minute", n)
	}
}

func TestAPatchThatChangesNothingIsNoChange(t *testing.T) {
	s, _, ten := world1(t)
	at := "/v1/tenants/" + ten.id
	for path, patch := range map[string]obj{
		"/devices/" + ten.device:   {},
		"/decoders/" + ten.decoder: {"name": "climate"},
	} {
		was := s.get(ten.token, at+path)
		is := s.call(http.MethodPatch, ten.token, at+path, patch, was.header.Get("ETag"))
		if status(t, path, is, 200); is.header.Get("ETag") != was.header.Get("ETag") || is.raw("updated_at") != was.raw("updated_at") {
			t.Errorf("%s: %s was %s", path, is.text, was.text)
		}
		status(t, "another's revision", s.call(http.MethodPatch, ten.token, at+path, patch, `"99"`), 412)
	}
	log := s.get(ten.token, at+"/audit/entries?limit=200")
	if status(t, "the log", log, 200); strings.Contains(log.text, "device_updated") || strings.Contains(log.text, "decoder_updated") || !strings.Contains(log.text, "device_created") {
		t.Errorf("%s", log.text)
	}
}

func TestAnImportTellsWhichRowsDoNotFit(t *testing.T) {
	s, _, ten := world1(t)
	r := s.post(ten.token, "/v1/tenants/"+ten.id+"/imports", obj{"csv": "name,dev_eui\none,70B3D57ED0001001\nmissing\ntwo,70B3D57ED0001002\nlong,70B3D57ED0001003,more\n"})
	status(t, "an import", r, 201)
	if r.raw("created") != "2" || r.raw("failed") != "2" || !strings.Contains(r.raw("errors"), `"row":3`) || !strings.Contains(r.raw("errors"), `"row":5`) {
		t.Errorf("%s", r.text)
	}
}
