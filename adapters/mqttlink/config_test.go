package mqttlink_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
)

var (
	aTenant = ident.Tenant{1}.String()
	aSource = ident.Source{2}.String()
)

func TestAFileOfConnectionsIsRead(t *testing.T) {
	cs, err := mqttlink.Parse([]byte(`
- name: chirp
  url: mqtts://broker.example.com:8883
  ca_file: /etc/ca.pem
  cert_file: /etc/me.pem
  key_file: /etc/me.key
  username: ringfence
  password_file: /run/secrets/mqtt
  group: workers
  session_days: 14
  max_in_flight: 500
  format: chirpstack
  tenant_from: application
- name: acme
  url: mqtt://127.0.0.1
  filters: ["acme/+/up", 'acme/{device}/alarm']
  format: plain
  tenant_from: fixed
  tenant: ` + aTenant + `
  source: ` + aSource + `
- {name: direct, url: "mqtt://broker.internal", plaintext: true, anonymous: true, group: workers, presence: false, format: plain, tenant_from: checked}
`))
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := cs[0], cs[1], cs[2]
	if len(cs) != 3 || a.Name != "chirp" || a.Filters[0] != uplink.ChirpStackTopic || !a.Presence || a.SessionExpiry != 14*24*time.Hour || a.MaxInFlight != 500 || a.TenantFrom != mqttlink.Application {
		t.Errorf("%+v", a)
	}
	if b.Tenant.String() != aTenant || b.Source.String() != aSource || len(b.Filters) != 2 || b.Presence || b.TenantFrom != mqttlink.Fixed {
		t.Errorf("%+v", b)
	}
	if c.Presence || c.Filters[0] != mqttlink.CheckedFilter || !c.Plaintext || !c.Anonymous {
		t.Errorf("%+v", c)
	}
}

func TestEveryMistakeInAFileIsToldAtOnceAndNoValueIs(t *testing.T) {
	const base = "- name: a\n  url: mqtt://127.0.0.1\n  filters: [up/#]\n  format: plain\n  tenant_from: checked\n"
	for name, one := range map[string]struct {
		file string
		want []string
	}{
		"several":              {"- nmae: KANARIE\n  url: [KANARIE]\n  session_days: 0\n  format: KANARIE\n- 7\n", []string{"did you mean name?", "url: want text", "session_days: want 1 to 90", "format: want chirpstack", "KEY: VALUE"}},
		"an inline password":   {"- name: a\n  password: KANARIE\n", []string{"password_file"}},
		"a misspelt password":  {"- name: a\n  pasword: KANARIE\n", []string{"did you mean password_file?"}},
		"a password in a URL":  {"- name: a\n  url: mqtts://u:KANARIE@h\n  format: plain\n  tenant_from: checked\n", []string{"username and password_file"}},
		"twice":                {base + "  name: b\n", []string{"twice"}},
		"one name twice":       {strings.Replace(base, "[up/#]", "[rf/+/+/up/#]", 1) + strings.Replace(base, "[up/#]", "[rf/+/+/up/#]", 1), []string{"another connection has it"}},
		"plaintext":            {"- name: a\n  url: mqtt://broker.example.com\n  filters: [a]\n  format: plain\n  tenant_from: checked\n", []string{"plaintext: true", "filters: want none"}},
		"nobody asks who":      {"- name: a\n  url: mqtts://broker.example.com\n  format: plain\n  tenant_from: checked\n", []string{"anonymous: true"}},
		"websockets":           {"- name: a\n  url: ws://127.0.0.1\n  filters: [a]\n  format: plain\n  tenant_from: checked\n", []string{"mqtts://host:port"}},
		"TLS files without it": {"- name: a\n  url: mqtt://127.0.0.1\n  ca_file: x\n  filters: [a]\n  format: tts\n  tenant_from: application\n", []string{"has no TLS"}},
		"half a certificate":   {"- name: a\n  url: mqtts://h\n  cert_file: x\n  format: tts\n  tenant_from: application\n", []string{"both or neither"}},
		"no source":            {"- name: a\n  url: mqtts://h\n  format: tts\n  tenant_from: fixed\n  tenant: " + aTenant + "\n", []string{"tenant and source: want both"}},
		"a source too many":    {"- name: a\n  url: mqtts://h\n  format: tts\n  tenant_from: application\n  source: " + aSource + "\n", []string{"want neither"}},
		"ids crossed":          {"- name: a\n  tenant: " + aSource + "\n  source: " + aTenant + "\n", []string{"tenant: want an id", "source: want an id"}},
		"a shared filter":      {"- name: a\n  url: mqtts://h\n  filters: [$share/g/a]\n  format: tts\n  tenant_from: application\n", []string{"without $"}},
		"a bad filter":         {"- name: a\n  url: mqtts://h\n  filters: [a//b, a/#/b]\n  format: tts\n  tenant_from: application\n", []string{"number 1", "number 2"}},
		"no list":              {"name: KANARIE\n", []string{"YAML list"}},
		"no YAML":              {"\t- {", []string{"YAML list"}},
		"nothing":              {"", []string{"YAML list"}},
		"an empty list":        {"[]", []string{"0 connections"}},
		"two documents":        {base + "---\n" + base, []string{"one YAML document"}},
		"an alias":             {"- &a {name: x}\n- *a\n", []string{"KEY: VALUE"}},
		"too many":             {strings.Repeat("- name: a\n", 65), []string{"65 connections"}},
		"too large":            {strings.Repeat("#", 1<<20), []string{"larger"}},
		"a group of presence":  {"- name: a\n  url: mqtts://h\n  presence: true\n  format: tts\n  tenant_from: application\n", []string{"needs a group"}},
		"a name of line ends":  {"- name: \"a\\nKANARIE\"\n", []string{"on one line"}},
		"too much in flight":   {"- name: a\n  url: mqtts://h\n  max_in_flight: 1000000\n  max_packet: 10\n  format: tts\n  tenant_from: application\n", []string{"max_in_flight: want", "max_packet: want"}},
	} {
		cs, err := mqttlink.Parse([]byte(one.file))
		if !fault.Is(err, fault.Invalid) || cs != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range one.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v lacks %q", name, err, w)
			}
		}
		if strings.Contains(err.Error(), "KANARIE") {
			t.Errorf("%s: %v repeats a value", name, err)
		}
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	good := mqttlink.Connection{Name: "site", URL: "mqtt://127.0.0.1", Filters: []string{"up/#"}}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*mqttlink.Options, *[]mqttlink.Connection){
		"Take and Log":    func(o *mqttlink.Options, _ *[]mqttlink.Connection) { o.Take = nil },
		"ordinal":         func(o *mqttlink.Options, _ *[]mqttlink.Connection) { o.Ordinal = -1 },
		"workers' name":   func(o *mqttlink.Options, _ *[]mqttlink.Connection) { o.Name = "A B" },
		"0 connections":   func(_ *mqttlink.Options, cs *[]mqttlink.Connection) { *cs = nil },
		"two connections": func(_ *mqttlink.Options, cs *[]mqttlink.Connection) { *cs = append(*cs, good) },
		"ca_file: there is": func(_ *mqttlink.Options, cs *[]mqttlink.Connection) {
			(*cs)[0].URL, (*cs)[0].CAFile = "mqtts://h", empty
		},
		"password_file": func(_ *mqttlink.Options, cs *[]mqttlink.Connection) {
			(*cs)[0].Username, (*cs)[0].PasswordFile = "u", empty
		},
		"needs one": func(_ *mqttlink.Options, cs *[]mqttlink.Connection) { (*cs)[0].PasswordFile = empty },
	} {
		o, cs := options(newSink()), []mqttlink.Connection{good}
		change(&o, &cs)
		if _, err := mqttlink.Open(t.Context(), cs, o); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("- {name: a, url: mqtts://h, format: tts, tenant_from: application}"))
	f.Add([]byte("- name: &a x\n  url: *a\n- [7]\n"))
	f.Add([]byte("- name: a\n  filters: [a, {b: c}]\n  session_days: 1e3\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		cs, err := mqttlink.Parse(file)
		if (err == nil) == (cs == nil) {
			t.Fatalf("%d connections and %v", len(cs), err)
		}
		for _, c := range cs {
			if wrong := c.Check(); len(wrong) > 0 {
				t.Fatalf("%+v: %v", c, wrong)
			}
		}
	})
}
