//go:build charts

package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const chart = "helm/ringfence"

// obj is a part of an object of Kubernetes.
type obj = map[string]any

// helm runs it.
func helm(t *testing.T, args ...string) (out, errs string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Getenv("CHARTS_HELM"), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+t.TempDir(), "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir())
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("deploy/helm/with names helm: %v", err)
	}
	return stdout.String(), stderr.String(), err
}

// template renders the chart with values.
func template(t *testing.T, values string) (text string, errs string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, err := helm(t, "template", "rel", chart, "--namespace", "iot", "-f", file)
	if err == nil {
		return out, ""
	}
	return "", errs
}

// objects are those that were rendered.
func objects(t *testing.T, text string) (all []obj) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var o obj
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if o != nil {
			all = append(all, o)
		}
	}
}

// everything turns all on that can be.
const everything = `
image: {digest: "sha256:` + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + `", pullSecrets: [registry]}
database: {caSecret: ca, clientSecret: database-client}
kafka: {brokers: "a:9093,b:9093", caSecret: ca, clientSecret: kafka-client}
platformApi: {replicas: 5, brokerAuth: {enabled: true, clientCaSecret: ca}, trustedProxies: 10.0.0.0/8, nodeSelector: {a: b}, tolerations: [{key: a, operator: Exists}], podAnnotations: {a: b}, settings: {docs: false, source_rate: 1000000, tenant_rate: 7}}
eventWorker: {replicas: 3, affinity: {podAntiAffinity: {}}, settings: {writers: 8, decoder_cache_bytes: 67108864}}
mqttIngestionWorker: {brokerSecrets: [ringfence-broker, another]}
networkPolicy:
  database: {namespace: data, from: [{podSelector: {matchLabels: {app: pooler}}}]}
  broker: {podLabels: null, cidrs: [192.0.2.7/32, 192.0.2.8/32], port: 8883}
telemetry: {endpoint: "https://collector.monitoring:4318", ratio: "0.5", caSecret: ca, clientSecret: telemetry-client, headers: {secret: collector}}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}}
dashboard: {enabled: true}
`

// proxied is behind a proxy that ends TLS, at a Kafka without SASL and with what others run.
const proxied = `
platformApi: {tlsSecret: "", brokerAuth: {enabled: true, plaintext: true}, kafka: {user: ""}}
kafka: {plaintext: true, topics: {enabled: false}}
telemetry: {endpoint: "http://collector:4318", plaintext: true}
networkPolicy: {collector: {podLabels: null, cidrs: [192.0.2.9/32]}}
migrate: {enabled: false}
`

func TestTheChartIsWhatKubernetesTakes(t *testing.T) {
	if out, errs, err := helm(t, "lint", "--strict", chart); err != nil {
		t.Errorf("helm lint: %v %s%s", err, out, errs)
	}
	where := schemas(t)
	conform := func(text string) (string, error) {
		cmd := exec.CommandContext(t.Context(), os.Getenv("CHARTS_KUBECONFORM"), "-strict", "-summary", "-skip", "ServiceMonitor,PrometheusRule", "-schema-location", where)
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for name, values := range map[string]string{"as it is": "", "everything": everything, "proxied": proxied} {
		text, errs := template(t, values)
		if errs != "" {
			t.Errorf("%s: %s", name, errs)
		}
		if out, err := conform(text); err != nil || !strings.Contains(out, "Invalid: 0, Errors: 0") {
			t.Errorf("%s: kubeconform: %v %s", name, err, out)
		}
		for from, to := range map[string]string{"replicas: ": "replica: ", "port: 5432": "port: [5432]", "kind: PodDisruptionBudget": "kind: PodDisruptionBudgets", "terminationGracePeriodSeconds: 30": "terminationGracePeriodSeconds: soon"} {
			if out, err := conform(strings.Replace(text, from, to, 1)); err == nil {
				t.Errorf("%s: %s: kubeconform sees nothing: %s", name, to, out)
			}
		}
	}
}

func TestTheChartRefusesValuesThatMeanNothingOrTooMuch(t *testing.T) {
	for values, want := range map[string]string{
		"replicas: 3":                                                                                      "replicas",
		"platformApi: {replica: 3}":                                                                        "replica",
		"platformApi: {replicas: 0}":                                                                       "replicas",
		"publicUrl: iot.example.com":                                                                       "publicUrl",
		"database: {runtime: {url: x}}":                                                                    "url",
		"database: {password: x}":                                                                          "password",
		"image: {digest: latest}":                                                                          "digest",
		"kafka: {brokers: kafka}":                                                                          "brokers",
		"eventWorker: {settings: {writer: 8}}":                                                             "writer",
		"eventWorker: {settings: {database_url: x}}":                                                       "database_url",
		"platformApi: {settings: {listen: x}}":                                                             "listen",
		"mqttIngestionWorker: {connections: [{name: a, url: b, password: c}]}":                             "connections",
		"networkPolicy: {database: {cidrs: [0.0.0.0/0]}}":                                                  "cidrs",
		"networkPolicy: {database: {podLabels: null, cidrs: []}}":                                          "a rule without either would allow everything",
		"telemetry: {endpoint: \"collector:4318\"}":                                                        "endpoint",
		"telemetry: {endpoint: \"https://user:word@collector:4318\"}":                                      "endpoint",
		"telemetry: {endpoint: \"https://collector:4318\", ratio: \"2\"}":                                  "ratio",
		"telemetry: {endpoint: \"https://collector:4318\", headers: {value: x}}":                           "headers",
		"telemetry: {endpoint: \"https://collector\"}\nnetworkPolicy: {collector: {podLabels: null}}":      "a rule without either would allow everything",
		"networkPolicy: {api: {from: []}}":                                                                 "from",
		"networkPolicy: {api: {from: [{}]}}":                                                               "from",
		"networkPolicy: {brokerAuth: {from: []}}":                                                          "from",
		"platformApi: {settings: {broker_auth_listen: x}}":                                                 "broker_auth_listen",
		"platformApi: {brokerAuth: {enabled: true, secret: \"\"}}":                                         "anybody could ask",
		"platformApi: {tlsSecret: \"\", brokerAuth: {enabled: true}}":                                      "in clear",
		"platformApi: {tlsSecret: \"\", brokerAuth: {enabled: true, plaintext: true, clientCaSecret: ca}}": "in TLS alone",
		"platformApi: {resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: lots}}}":              "resources",
	} {
		if text, errs := template(t, values); text != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: want %q: %s", values, want, errs)
		}
	}
}

// fixed are the settings that the chart gives itself, beside secrets.
func fixed() []string {
	return []string{"log_level", "metrics_listen", "metrics_plain_http", "replicas", "database_plaintext", "kafka_brokers", "kafka_prefix", "kafka_plaintext", "kafka_user", "kafka_ca_file",
		"kafka_cert_file", "kafka_key_file", "otlp_endpoint", "otlp_ratio", "otlp_plaintext", "otlp_ca_file", "otlp_cert_file", "otlp_key_file", "keys", "engine", "listen", "public_url", "tls_cert_file", "tls_key_file", "plain_http", "trusted_proxies", "broker_auth_listen", "broker_auth_client_ca_file", "broker_auth_plain_http", "connections_file", "name", "ordinal"}
}

// An upgrade goes component by component: one may stay at a version while the others, and the jobs, are of another.
func TestTheChartLetsAComponentStayAtAVersion(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for image, others := range map[string]string{`{repository: r/ringfence, tag: v2}`: "r/ringfence:v2", `{repository: r/ringfence, tag: v2, digest: "` + digest + `"}`: "r/ringfence@" + digest} {
		rendered, errs := template(t, "image: "+image+"\nmqttIngestionWorker: {tag: v1}\n")
		if errs != "" {
			t.Fatal(errs)
		}
		found := 0
		for _, w := range workloads(objects(t, rendered)) {
			want := others
			if w.binary() == "mqtt-ingestion-worker" {
				want = "r/ringfence:v1"
				found++
			}
			for _, c := range w.containers {
				if c["image"] != want {
					t.Errorf("%s runs %v, want %s", w.name, c["image"], want)
				}
			}
		}
		if found != 1 {
			t.Errorf("%d MQTT workers", found)
		}
	}
}

// What further settings a service takes stands in the schema of the chart's values as the binary has them.
func TestTheChartTakesEachSettingOfItsBinariesAndNoOther(t *testing.T) {
	known := settings(t)
	path := filepath.Join(chart, "values.schema.json")
	text := read(t, path)
	var schema obj
	if err := json.Unmarshal([]byte(text), &schema); err != nil {
		t.Fatal(err)
	}
	for binary, name := range map[string]string{"platform-api": "settingsOfPlatformApi", "event-worker": "settingsOfEventWorker", "mqtt-ingestion-worker": "settingsOfMqttIngestionWorker"} {
		properties := obj{}
		for key, secret := range known[binary] {
			if !secret && !slices.Contains(fixed(), key) {
				properties[key] = obj{"type": []string{"string", "number", "boolean"}}
			}
		}
		schema["definitions"].(obj)[name] = obj{"type": "object", "additionalProperties": false, "properties": properties}
	}
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		t.Fatal(err)
	}
	switch {
	case want.String() == text:
	case *update:
		if err := os.WriteFile(path, want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not what the binaries take; make goldens writes it", path)
	}
}

// Each service would start with what the chart tells it, once its secrets are mounted.
func TestTheChartTellsEachServiceWhatItTakes(t *testing.T) {
	const inClear = "database: {plaintext: true}"
	known := settings(t)
	for name, values := range map[string]string{"as it is": "", "everything": everything, "proxied": proxied, "a database in clear": inClear} {
		text, errs := template(t, values)
		if errs != "" {
			t.Fatal(errs)
		}
		seen := 0
		for _, w := range workloads(objects(t, text)) {
			for _, c := range w.containers {
				binary := strings.TrimPrefix(c["command"].([]any)[0].(string), "/usr/bin/")
				if binary == "ringfence" {
					var args []string
					for _, a := range c["args"].([]any) {
						args = append(args, a.(string))
					}
					if clear := values == inClear; args[0] != "kafka" && clear != slices.Contains(args, "--plaintext") {
						t.Errorf("%s: %s: %q", name, w.name, args)
					}
					if said := understood(t, args); said != "" {
						t.Errorf("%s: %s: %q: %s", name, w.name, args, said)
					}
					continue
				}
				env := variables(c)
				if wrong := known.environment(w.name, binary, env); len(wrong) > 0 {
					t.Errorf("%s: %q", name, wrong)
				}
				if j := judge(t, binary, mounted(t, text, env)); !j.Good {
					t.Errorf("%s: %s: %q", name, w.name, j.Problems)
				}
				seen++
			}
		}
		if seen != 3 {
			t.Errorf("%s: %d services", name, seen)
		}
	}
}

// mounted gives the files that variables name what a secret store would put there.
func mounted(t *testing.T, rendered string, env map[string]string) map[string]string {
	t.Helper()
	at, out := t.TempDir(), maps.Clone(env)
	certify(t, at)
	for key, value := range env {
		path, ok := strings.CutPrefix(value, "/run/ringfence/")
		if !ok {
			continue
		}
		content := ""
		switch filepath.Base(path) {
		case "tls.crt", "tls.key", "ca.crt":
			out[key] = filepath.Join(at, filepath.Base(path))
			continue
		case "url":
			content = "postgres://ringfence_runtime:x@db.example.com/ringfence?sslmode=verify-full"
		case "password":
			content = "correct horse"
		case "word":
			content = strings.Repeat("word", 8)
		case "headers":
			content = "Authorization=Bearer%20word"
		case "connections.yaml":
			for _, o := range objects(t, rendered) {
				if data, ok := o["data"].(obj); ok && data["connections.yaml"] != nil {
					content = data["connections.yaml"].(string)
				}
			}
		}
		file := filepath.Join(at, strings.ReplaceAll(path, "/", "-"))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		out[key] = file
	}
	return out
}

// The chart's alarms are those of deploy/prometheus, of which there is one file; they are there if they are wanted.
func TestTheChartHasTheAlarmsIfTheyAreWanted(t *testing.T) {
	rules := func(values string) (found []obj) {
		rendered, errs := template(t, values)
		if errs != "" {
			t.Fatal(errs)
		}
		for _, o := range objects(t, rendered) {
			if o["kind"] == "PrometheusRule" {
				found = append(found, o)
			}
		}
		return found
	}
	if n := len(rules("")); n != 0 {
		t.Errorf("%d rules for an operator that may not be there", n)
	}
	found, want := rules(everything), objects(t, read(t, "prometheus", "ringfence.rules.yaml"))
	if len(found) != 1 || len(want) != 1 || len(list(at(list(want[0]["groups"])[0], "rules"))) < 10 || !reflect.DeepEqual(found[0]["spec"], want[0]) {
		t.Fatalf("%v", found)
	}
	if at(found[0], "metadata", "labels", "release") != "prometheus" || found[0]["apiVersion"] != "monitoring.coreos.com/v1" {
		t.Errorf("%v", found[0]["metadata"])
	}
	if to, err := os.Readlink(filepath.Join(chart, "rules.yaml")); err != nil || to != "../../prometheus/ringfence.rules.yaml" {
		t.Errorf("the chart has a copy: %q %v", to, err)
	}
}
