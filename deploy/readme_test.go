package deploy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/uplink"
)

// wrongReadme is what a newcomer who copies the README's lines would meet that is not there.
func wrongReadme(t *testing.T, page string) (wrong []string) {
	t.Helper()
	c := compose(t, read(t, "compose.yaml"))
	for _, path := range regexp.MustCompile(`\bdeploy/[A-Za-z0-9_./-]*[A-Za-z0-9]`).FindAllString(page, -1) {
		made := strings.HasPrefix(path, "deploy/compose/secrets/") || strings.HasPrefix(path, "deploy/helm/secrets/")
		if _, err := os.Stat(filepath.Join(root, path)); err != nil && !made && !strings.HasPrefix(path, "deploy/ringfence-") {
			wrong = append(wrong, path+" is not there")
		}
	}
	for _, m := range regexp.MustCompile(`docker compose [^\n]*?(?:exec|run)(?: -T| --rm)* ([a-z-]+)`).FindAllStringSubmatch(page, -1) {
		if _, ok := c.Services[m[1]]; !ok {
			wrong = append(wrong, "there is no service "+m[1])
		}
	}
	for _, m := range regexp.MustCompile(`docker compose [^\n]*--profile ([a-z]+)`).FindAllStringSubmatch(page, -1) {
		has := false
		for _, s := range c.Services {
			has = has || slices.Contains(s.Profiles, m[1])
		}
		if !has {
			wrong = append(wrong, "there is no profile "+m[1])
		}
	}
	for _, m := range regexp.MustCompile(`/usr/bin/([a-z-]+) ([a-z-]+)`).FindAllStringSubmatch(page, -1) {
		if _, errs, code := ran(t, nil, m[1], m[2], "--help"); code != 0 {
			wrong = append(wrong, m[0]+": "+errs)
		}
	}
	return wrong
}

func TestTheREADMEsLinesNameWhatIsThere(t *testing.T) {
	page := read(t, root, "README.md")
	if wrong := wrongReadme(t, page); len(wrong) > 0 {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
	for _, p := range []struct{ from, to, want string }{
		{"$ deploy/compose/prepare ", "$ deploy/compose/prepares ", "deploy/compose/prepares is not there"},
		{"exec platform-api", "exec api", "no service api"},
		{"run --rm keys", "run --rm key", "no service key"},
		{"--profile two", "--profile three", "no profile three"},
		{"/usr/bin/platform-api setup-link", "/usr/bin/platform-api links", "/usr/bin/platform-api links"},
	} {
		if !strings.Contains(page, p.from) {
			t.Errorf("%q is not in the README", p.from)
		}
		same(t, p.to, wrongReadme(t, strings.Replace(page, p.from, p.to, 1)), p.want)
	}
}

// The event that the README has a newcomer publish is one, at a topic that the example's connection takes and its broker's list allows.
func TestTheREADMEsMessageIsAnEvent(t *testing.T) {
	m := regexp.MustCompile(`(?s)\$ APP=(\S+)\n.*?\$ curl [^\n]*/platform/mappings [^\n]* -d '(.*?)'\n\$ echo '(.*?)' \|\n[^\n]* -u (\S+) .*? -t '"(.*?)"\n`).FindStringSubmatch(read(t, root, "README.md"))
	if m == nil {
		t.Fatal("README.md publishes no event")
	}
	app, mapping, body, user, topic := m[1], strings.ReplaceAll(m[2], "'$APP'", m[1]), strings.ReplaceAll(m[3], "'$APP'", m[1]), m[4], strings.ReplaceAll(m[5], "$APP", m[1])
	template, err := uplink.ParseTemplate(uplink.ChirpStackTopic)
	if err != nil {
		t.Fatal(err)
	}
	told, ok := template.Match(topic)
	event, err := uplink.Parse("chirpstack", []byte(body), told.Event)
	if err != nil || !ok || told.Application != app || event.Application != app || told.Disagrees(event) || len(event.Payload) == 0 {
		t.Errorf("%s: %s: %v %+v %+v", topic, body, err, told, event)
	}
	var says struct {
		Connection  string `json:"connection"`
		Application string `json:"application_id"`
	}
	if err := json.Unmarshal([]byte(mapping), &says); err != nil || says.Application != app || !strings.Contains(read(t, "compose", "connections.yaml"), "- name: "+says.Connection+"\n") {
		t.Errorf("%s: %v", mapping, err)
	}
	if !strings.Contains(read(t, "compose", "mosquitto.acl"), "user "+user+"\ntopic readwrite application/#\n") || !strings.Contains(read(t, "compose", "mosquitto.sh"), user+`:%s\n' "$(cat /run/secrets/broker)" "$(cat /run/secrets/`+user+`)"`) {
		t.Errorf("the broker does not let %s publish", user)
	}
}
