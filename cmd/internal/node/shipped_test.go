//go:build services

package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// The connection that compose ships, and the same for The Things Stack, with the topics that are theirs where nothing is said: by its
// application an event is its tenant's, what is no event is ignored, and what topic and payload disagree on is nobody's reading.
func TestWhatNetworkServersPublishIsTheirTenantsByItsApplication(t *testing.T) {
	d := deploy(t)
	example, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "compose", "connections.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	mine := string(example)
	for pattern, is := range map[string]string{`url: \S+`: "url: mqtt://" + d.mosquitto.Addr(), `username: \S+`: "username: worker", `password_file: \S+`: "password_file: " + filepath.Join(d.dir, "mqtt.password")} {
		mine = regexp.MustCompile(pattern).ReplaceAllString(mine, is)
	}
	things := regexp.MustCompile(`format: \S+`).ReplaceAllString(regexp.MustCompile(`- name: \S+`).ReplaceAllString(mine, "- name: things"), "format: tts")
	if err := os.WriteFile(filepath.Join(d.dir, "connections.yaml"), []byte(mine+things), 0o600); err != nil {
		t.Fatal(err)
	}
	for connection, format := range map[string]string{"example": "chirpstack", "things": "tts"} {
		src := str(d.ask("POST", "/v1/tenants/"+d.tenant+"/sources", object{"name": format, "format": format}, 201), "id")
		d.ask("POST", "/v1/platform/mappings", object{"connection": connection, "application_id": "ours", "tenant_id": d.tenant, "source_id": src}, 201)
	}
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	chirpstack := func(application, event, says, id string) {
		p.says("application/"+application+"/device/70b3d57ed0000001/event/"+event, fmt.Sprintf(`{"deduplicationId":%q,"deviceInfo":{"applicationId":%q,"devEui":"70b3d57ed0000001"},"fCnt":1,"fPort":1,"data":"AA=="}`, id, says))
	}
	tts := func(application, says string, count int) {
		p.says("v3/"+application+"@ttn/devices/pump/up", fmt.Sprintf(`{"end_device_ids":{"device_id":"pump","application_ids":{"application_id":%q},"dev_eui":"70B3D57ED0000001"},"received_at":"2026-11-24T09:15:03Z","uplink_message":{"session_key_id":"AZr2b1xQm0h3Jt9w4sLqVA==","f_port":1,"f_cnt":%d,"frm_payload":"AA=="}}`, says, count))
	}
	chirpstack("ours", "up", "ours", "first")
	chirpstack("ours", "join", "ours", "second")
	chirpstack("ours", "status", "ours", "third")
	chirpstack("foreign", "up", "foreign", "fourth")
	chirpstack("ours", "up", "foreign", "fifth")
	tts("ours", "ours", 1)
	tts("foreign", "foreign", 2)
	tts("ours", "foreign", 3)
	results := func(connection string) string {
		text := ""
		for _, result := range []string{"accepted", "ignored", "dead_letter"} {
			text += fmt.Sprint(result, " ", d.metric("mqtt-ingestion-worker", `ringfence_mqtt_messages_total{connection="`+connection+`",result="`+result+`"}`), " ")
		}
		return text
	}
	for connection, want := range map[string]string{"example": "accepted 2 ignored 2 dead_letter 1 ", "things": "accepted 2 ignored 0 dead_letter 1 "} {
		d.await("all of "+connection+" is taken", time.Minute, func() error {
			if got := results(connection); got != want {
				return fmt.Errorf("%s, want %s", got, want)
			}
			return nil
		})
	}
	d.await("two readings, and two in quarantine", time.Minute, func() error {
		read, held := d.count("SELECT count(*) FROM readings"), d.count("SELECT count(*) FROM uplinks WHERE state = 'quarantined' AND reason = 'topic_mismatch'")
		if read != 2 || held != 2 || d.count("SELECT count(*) FROM uplinks") != 4 {
			return fmt.Errorf("%d readings, %d in quarantine", read, held)
		}
		return nil
	})
}
