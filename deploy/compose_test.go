package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// composed is what we look at of a compose file; merges are done by the parser.
type composed struct {
	Services map[string]service
	Networks map[string]struct{ Internal bool }
	Volumes  map[string]any
	Configs  map[string]struct{ File string }
	Secrets  map[string]struct{ File string }
}

type service struct {
	Image, User, Restart, Pid, Ipc string
	NetworkMode                    string `yaml:"network_mode"`
	ReadOnly                       bool   `yaml:"read_only"`
	Privileged                     bool
	CapDrop                        []string `yaml:"cap_drop"`
	CapAdd                         []string `yaml:"cap_add"`
	SecurityOpt                    []string `yaml:"security_opt"`
	MemLimit                       string   `yaml:"mem_limit"`
	StopGracePeriod                string   `yaml:"stop_grace_period"`
	Entrypoint, Command            []string
	Environment                    map[string]string
	Networks, Ports, Secrets       []string
	Configs                        []struct{ Source, Target string }
	Volumes, Tmpfs, Devices        []string
	Profiles                       []string
	Deploy                         struct{ Replicas string }
	DependsOn                      map[string]struct{ Condition string } `yaml:"depends_on"`
}

// binary is which of ours a service runs; empty: none.
func (s service) binary() string {
	switch {
	case s.Image != "ringfence":
		return ""
	case len(s.Entrypoint) == 0:
		return "ringfence"
	}
	return strings.TrimPrefix(s.Entrypoint[0], "/usr/bin/")
}

func compose(t *testing.T, text string) (c composed) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &c); err != nil || len(c.Services) == 0 {
		t.Fatal(err)
	}
	return c
}

// wrong is what is wrong with a compose file.
func (c composed) wrong(known told) (wrong []string) {
	ordinals := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		s := c.Services[name]
		say := func(format string, args ...any) { wrong = append(wrong, name+": "+fmt.Sprintf(format, args...)) }
		if user, _, _ := strings.Cut(strings.TrimPrefix(s.User, "${RUN_AS:-"), ":"); user == "" || user == "0" || user == "root" {
			say("runs as root, or as whom the image says")
		}
		if !s.ReadOnly {
			say("its root is written to")
		}
		if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 || s.Privileged || len(s.Devices) > 0 || s.Pid != "" || s.Ipc != "" {
			say("may more than a process needs")
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			say("may gain privileges")
		}
		if s.MemLimit == "" {
			say("takes all memory")
		}
		if len(s.Ports) > 0 && name != "platform-api" {
			say("its ports are published")
		}
		if len(s.Networks) == 0 && s.NetworkMode != "none" || s.NetworkMode != "" && s.NetworkMode != "none" {
			say("in a network that everybody is in")
		}
		if s.Restart == "unless-stopped" && s.StopGracePeriod != "30s" {
			say("is ended before it is done")
		}
		if strings.HasSuffix(s.Image, ":latest") || s.Image != "ringfence" && !strings.Contains(s.Image, ":") {
			say("which version?")
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, named := c.Volumes[from]; !named && !strings.HasPrefix(from, "./compose/secrets/keys") {
				say("sees %s of the host", from)
			}
		}
		for key := range s.Environment {
			if s.binary() == "" && strings.Contains(key, "PASSWORD") && !strings.HasSuffix(key, "_FILE") {
				say("%s is a secret in the environment", key)
			}
		}
		if how := s.Deploy.Replicas; how != "" && how != s.Environment["RINGFENCE_REPLICAS"] {
			say("is not told how many of it there are")
		}
		if ordinal := s.Environment["RINGFENCE_ORDINAL"]; s.binary() == "mqtt-ingestion-worker" {
			if other := ordinals[ordinal]; ordinal == "" || other != "" || s.Deploy.Replicas != "" {
				say("takes the sessions of %q from it", other)
			}
			ordinals[ordinal] = name
		}
		if binary := s.binary(); binary != "" {
			wrong = append(wrong, known.environment(name, binary, s.Environment)...)
		}
		for _, file := range s.Secrets {
			if _, ok := c.Secrets[file]; !ok {
				say("there is no secret %s", file)
			}
		}
		for _, value := range append(slices.Collect(maps.Values(s.Environment)), s.Command...) {
			if file, ok := strings.CutPrefix(value, "/run/secrets/"); ok && !slices.Contains(s.Secrets, file) {
				say("is not given %s", file)
			}
		}
		for _, file := range s.Configs {
			if _, ok := c.Configs[file.Source]; !ok {
				say("there is no configuration %s", file.Source)
			}
		}
		for on, how := range s.DependsOn {
			if _, ok := c.Services[on]; !ok || how.Condition == "service_completed_successfully" && c.Services[on].Restart != "no" {
				say("waits for %s, which never ends or is not there", on)
			}
		}
	}
	for network, n := range c.Networks {
		if n.Internal == (network == "edge") {
			wrong = append(wrong, network+": leads out, or does not where it must")
		}
	}
	who := func(has func(service) []string) map[string][]string {
		all := map[string][]string{}
		for _, name := range slices.Sorted(maps.Keys(c.Services)) {
			for _, what := range has(c.Services[name]) {
				what, _, _ = strings.Cut(what, ":")
				all[what] = append(all[what], name)
			}
		}
		return all
	}
	for kind, of := range map[string][2]map[string][]string{
		"network": {who(func(s service) []string { return s.Networks }), {
			"edge": {"platform-api"}, "broker": {"mosquitto", "mqtt-ingestion-worker", "mqtt-ingestion-worker-1"}, "bus": {"event-worker", "kafka", "mqtt-ingestion-worker", "mqtt-ingestion-worker-1", "platform-api", "topics"},
			"store": {"event-worker", "maintain", "migrate", "mqtt-ingestion-worker", "mqtt-ingestion-worker-1", "platform-api", "postgres", "roles"},
		}},
		"secret": {who(func(s service) []string { return s.Secrets }), {
			"postgres": {"postgres", "roles"}, "owner": {"roles"}, "runtime": {"roles"}, "retention": {"roles"}, "relay": {"roles"}, "relay-url": {"event-worker"}, "reader": {"roles"}, "reader-url": {"mqtt-ingestion-worker", "mqtt-ingestion-worker-1"}, "owner-url": {"maintain", "migrate"}, "retention-url": {"maintain"}, "runtime-url": {"event-worker", "platform-api"},
			"kafka-admin": {"kafka", "topics"}, "kafka-platform-api": {"kafka", "platform-api"}, "kafka-event-worker": {"event-worker", "kafka"},
			"kafka-mqtt-ingestion-worker": {"kafka", "mqtt-ingestion-worker", "mqtt-ingestion-worker-1"}, "broker": {"mosquitto", "mqtt-ingestion-worker", "mqtt-ingestion-worker-1"}, "network-server": {"mosquitto"}, "tls.crt": {"platform-api"}, "tls.key": {"platform-api"},
		}},
		"volume": {who(func(s service) []string { return s.Volumes }), {
			"postgres": {"postgres"}, "kafka": {"kafka"}, "./compose/secrets/keys": {"keys", "platform-api"}, "./compose/secrets/keys-event-worker": {"event-worker", "keys"},
		}},
	} {
		for what, have := range of[0] {
			if want := of[1][what]; !slices.Equal(have, want) {
				wrong = append(wrong, fmt.Sprintf("%s %s: has %q, and is for %q", kind, what, have, want))
			}
		}
	}
	return wrong
}

func TestTheComposeFileGivesEachServiceWhatItNeedsAndNoMore(t *testing.T) {
	known, text := settings(t), read(t, "compose.yaml")
	c := compose(t, text)
	if wrong := c.wrong(known); len(wrong) > 0 {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
	for name := range c.Configs {
		if _, err := os.Stat(c.Configs[name].File); err != nil {
			t.Error(err)
		}
	}
	for name, s := range c.Services {
		if s.binary() == "ringfence" {
			if said := understood(t, s.Command); said != "" {
				t.Errorf("%s: %q: %s", name, s.Command, said)
			}
		}
	}
	for _, p := range []struct{ from, to, want string }{
		{"  user: ${RUN_AS:-65532:65532}\n", "", "runs as root"},
		{"${RUN_AS:-65532:65532}", "${RUN_AS:-0:0}", "runs as root"},
		{"read_only: true", "read_only: false", "its root is written to"},
		{"cap_drop: [ALL]", "cap_drop: [NET_RAW]", "may more than a process needs"},
		{"  postgres:\n    <<: *contained\n", "  postgres:\n    <<: *contained\n    privileged: true\n", "postgres: may more"},
		{`security_opt: ["no-new-privileges:true"]`, "security_opt: []", "may gain privileges"},
		{"networks: [store]\n    environment", "networks: [store]\n    ports: ['5432:5432']\n    environment", "postgres: its ports are published"},
		{"networks: [broker]\n    entrypoint: [/bin/sh", "networks: [broker, store]\n    entrypoint: [/bin/sh", "network store"},
		{"networks: [bus]\n    entrypoint", "entrypoint", "kafka: in a network that everybody is in"},
		{"networks: [bus]\n    entrypoint", "network_mode: host\n    entrypoint", "kafka: in a network that everybody is in"},
		{"store: {internal: true}", "store: {}", "store: leads out"},
		{"POSTGRES_PASSWORD_FILE: /run/secrets/postgres", "POSTGRES_PASSWORD: hunter2", "POSTGRES_PASSWORD is a secret"},
		{"RINGFENCE_KAFKA_PASSWORD_FILE: /run/secrets/kafka-event-worker", "RINGFENCE_KAFKA_PASSWORD: hunter2", "RINGFENCE_KAFKA_PASSWORD is a secret"},
		{`RINGFENCE_REPLICAS: "${WORKERS:-1}"`, `RINGFENCE_REPLICAS: "1"`, "event-worker: is not told how many"},
		{`RINGFENCE_ORDINAL: "1"`, `RINGFENCE_ORDINAL: "0"`, `mqtt-ingestion-worker-1: takes the sessions of "mqtt-ingestion-worker"`},
		{"mqtt-ingestion-worker: &mqtt", "mqtt-ingestion-worker: &mqtt\n    deploy: {replicas: 2}", "mqtt-ingestion-worker: takes the sessions"},
		{"profiles: [two]\n    environment", "profiles: [two]\n    networks: [bus, store, broker, edge]\n    environment", "network edge"},
		{"RINGFENCE_ORDINAL", "RINGFENCE_ORDINALS", "has no setting for RINGFENCE_ORDINALS"},
		{"secrets: [runtime-url, relay-url, kafka-event-worker]", "secrets: [runtime-url, relay-url, kafka-event-worker, owner-url]", "secret owner-url"},
		{`volumes: ["./compose/secrets/keys-event-worker:/run/keys:ro"]`, `volumes: ["./compose/secrets/keys:/run/keys:ro"]`, "volume ./compose/secrets/keys:"},
		{`volumes: ["kafka:/var/lib/kafka/data"]`, `volumes: ["/var/run/docker.sock:/var/run/docker.sock"]`, "sees /var/run/docker.sock"},
		{"image: apache/kafka:4.1.0", "image: apache/kafka:latest", "which version?"},
		{"migrate: {condition: service_completed_successfully}\n      topics", "maintain: {condition: service_completed_successfully}\n      topics", "which never ends"},
	} {
		if !strings.Contains(text, p.from) {
			t.Errorf("%q is not in the file", p.from)
		}
		same(t, p.to, compose(t, strings.Replace(text, p.from, p.to, 1)).wrong(known), p.want)
	}
}

// prepared runs the script that makes the secrets, in a folder of the test.
func prepared(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	if err := os.MkdirAll(filepath.Join(at, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	certify(t, filepath.Join(at, "tls"))
	if out, err := exec.CommandContext(t.Context(), "compose/prepare", at).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return at
}

func TestTheSecretsOfTheComposeFileAreMadeOnceForTheirOwnerAlone(t *testing.T) {
	at := prepared(t)
	c := compose(t, read(t, "compose.yaml"))
	texts, once := map[string]string{}, map[string]bool{}
	for name, s := range c.Secrets {
		path := filepath.Join(at, strings.TrimPrefix(s.File, "./compose/secrets/"))
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 && !strings.HasPrefix(name, "tls") {
			t.Errorf("%s: %v %v", name, info, err)
		}
		texts[name] = read(t, path)
		if pass := strings.TrimSpace(texts[name]); strings.HasPrefix(s.File, "./compose/secrets/passwords/") {
			if len(pass) != 48 || once[pass] {
				t.Errorf("%s is %d letters, or another's too", name, len(pass))
			}
			once[pass] = true
		}
	}
	if out, err := exec.CommandContext(t.Context(), "compose/prepare", at).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for name, s := range c.Secrets {
		if read(t, at, strings.TrimPrefix(s.File, "./compose/secrets/")) != texts[name] {
			t.Errorf("%s was made anew", name)
		}
	}
	if env := read(t, at, ".env"); !strings.HasPrefix(env, "RUN_AS=") || strings.HasPrefix(env, "RUN_AS=0:") {
		t.Error(env)
	}
}

// Each service would start with what the file tells it, once its files are where they are mounted.
func TestEachServiceOfTheComposeFileIsToldWhatItTakes(t *testing.T) {
	at := prepared(t)
	c := compose(t, read(t, "compose.yaml"))
	for _, name := range services() {
		env := map[string]string{}
		for key, value := range c.Services[name].Environment {
			if secret, ok := strings.CutPrefix(value, "/run/secrets/"); ok {
				value = filepath.Join(at, strings.TrimPrefix(c.Secrets[secret].File, "./compose/secrets/"))
			}
			for _, file := range c.Services[name].Configs {
				if file.Target == value {
					path, err := filepath.Abs(c.Configs[file.Source].File)
					if err != nil {
						t.Fatal(err)
					}
					value = path
				}
			}
			env[key] = strings.TrimSuffix(strings.TrimPrefix(value, "${WORKERS:-"), "}")
		}
		if j := judge(t, name, env); !j.Good {
			t.Errorf("%s: %q", name, j.Problems)
		}
	}
}
