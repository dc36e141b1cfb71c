package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/cmd/internal/node"
	"github.com/ringfence/ringfence/cmd/internal/settings"
)

// told runs a node's command with an environment.
func told(t *testing.T, vars map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := settings.Environment{Lookup: func(k string) (string, bool) { v, ok := vars[k]; return v, ok }, Names: func() (names []string) {
		for k := range vars {
			names = append(names, k)
		}
		return names
	}}
	spec := node.Spec{Name: "event-worker", About: "A node.", Work: func(_, _ context.Context, _ *node.Node) error { t.Error("it works"); return nil }}
	code = node.Main(t.Context(), spec, append([]string{"--config", os.DevNull}, args...), env, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

const secretWord = "s3cret-word-of-ours"

func safe() map[string]string {
	return map[string]string{
		"RINGFENCE_DATABASE_URL": "postgres://ringfence_runtime:" + secretWord + "@db.example:5432/ringfence?sslmode=verify-full", "RINGFENCE_KAFKA_BROKERS": "kafka-0.example:9092",
		"RINGFENCE_KAFKA_USER": "events", "RINGFENCE_KAFKA_PASSWORD": secretWord,
	}
}

func TestWhatIsNotSafeIsRefusedBeforeAnythingIsOpened(t *testing.T) {
	if code, out, errs := told(t, safe(), "config", "check"); code != 0 || !strings.Contains(out, "the configuration is good") || strings.Contains(out+errs, secretWord) {
		t.Fatalf("a good one: %d\n%s%s", code, out, errs)
	}
	for name, endpoint := range map[string]string{"RINGFENCE_OTLP_HEADERS": "https://collector:4318/otlp", "RINGFENCE_OTLP_PLAINTEXT": "http://collector:4318", "RINGFENCE_OTLP_RATIO": "http://localhost:4318"} {
		vars := safe()
		vars["RINGFENCE_OTLP_ENDPOINT"] = endpoint
		vars[name] = map[string]string{"RINGFENCE_OTLP_HEADERS": "Authorization=Bearer%20" + secretWord, "RINGFENCE_OTLP_PLAINTEXT": "true", "RINGFENCE_OTLP_RATIO": "0.25"}[name]
		if code, out, errs := told(t, vars, "config", "check"); code != 0 || strings.Contains(out+errs, secretWord) {
			t.Errorf("%s: %d\n%s%s", endpoint, code, out, errs)
		}
	}
	for name, c := range map[string]struct {
		change map[string]string
		want   string
	}{
		"a database that TLS does not verify":      {map[string]string{"RINGFENCE_DATABASE_URL": "postgres://ringfence_runtime:" + secretWord + "@db.example/ringfence?sslmode=require"}, "sslmode=verify-full"},
		"no database":                              {map[string]string{"RINGFENCE_DATABASE_URL": ""}, "database_url"},
		"a Kafka that asks nobody who they are":    {map[string]string{"RINGFENCE_KAFKA_USER": "", "RINGFENCE_KAFKA_PASSWORD": ""}, "kafka_user"},
		"half of a credential":                     {map[string]string{"RINGFENCE_KAFKA_PASSWORD": ""}, "belong together"},
		"metrics for everybody":                    {map[string]string{"RINGFENCE_METRICS_LISTEN": "0.0.0.0:9090"}, "metrics_plain_http"},
		"an unknown variable":                      {map[string]string{"RINGFENCE_KAFKA_BROKER": "x:1"}, "did you mean RINGFENCE_KAFKA_BROKERS"},
		"a certificate that is not there":          {map[string]string{"RINGFENCE_KAFKA_CA_FILE": "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
		"a collector that is no URL":               {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "collector:4318"}, "want the URL of an OTLP/HTTP receiver"},
		"a collector with a password in its URL":   {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "https://user:" + secretWord + "@collector:4318"}, "without user"},
		"a collector in clear":                     {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "http://collector:4318"}, "otlp_plaintext"},
		"authorities of a collector without TLS":   {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "http://127.0.0.1:4318", "RINGFENCE_OTLP_CA_FILE": "/nowhere/ca.pem"}, "otlp_ca_file"},
		"authorities that are not there":           {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "https://collector:4318", "RINGFENCE_OTLP_CA_FILE": "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
		"half of a collector's credential":         {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "https://collector:4318", "RINGFENCE_OTLP_KEY_FILE": "/nowhere/key.pem"}, "belong together"},
		"a certificate in clear":                   {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "http://127.0.0.1:4318", "RINGFENCE_OTLP_CERT_FILE": "/nowhere/cert.pem", "RINGFENCE_OTLP_KEY_FILE": "/nowhere/key.pem"}, "has no TLS"},
		"a client's certificate that is not there": {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "https://collector:4318", "RINGFENCE_OTLP_CERT_FILE": "/nowhere/cert.pem", "RINGFENCE_OTLP_KEY_FILE": "/nowhere/key.pem"}, "/nowhere/cert.pem"},
		"headers that are none":                    {map[string]string{"RINGFENCE_OTLP_ENDPOINT": "https://collector:4318", "RINGFENCE_OTLP_HEADERS": secretWord}, "want NAME=VALUE"},
		"headers for nobody":                       {map[string]string{"RINGFENCE_OTLP_HEADERS": "Authorization=" + secretWord}, "which collector"},
		"more than all traces":                     {map[string]string{"RINGFENCE_OTLP_RATIO": "1.5"}, "from 0 to 1"},
		"no part of all traces":                    {map[string]string{"RINGFENCE_OTLP_RATIO": "NaN"}, "from 0 to 1"},
		"a version that nobody writes":             {map[string]string{"RINGFENCE_KAFKA_WRITE_VERSION": "9"}, "kafka_write_version"},
	} {
		vars := safe()
		for k, v := range c.change {
			vars[k] = v
		}
		code, _, errs := told(t, vars)
		if code != 2 || !strings.Contains(errs, c.want) || strings.Contains(errs, secretWord) {
			t.Errorf("%s: exit %d, want %q\n%s", name, code, c.want, errs)
		}
	}
}

func TestASecretComesFromAFileAndIsNeverShownNorTakenFromTheCommandLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secretWord+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	vars := safe()
	delete(vars, "RINGFENCE_KAFKA_PASSWORD")
	vars["RINGFENCE_KAFKA_PASSWORD_FILE"] = file
	code, out, errs := told(t, vars, "config", "check", "--json")
	var found struct {
		Good     bool              `json:"good"`
		Settings map[string]string `json:"settings"`
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != 0 || !found.Good || found.Settings["kafka_password"] == "" || strings.Contains(out+errs, secretWord) {
		t.Errorf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	if code, _, errs := told(t, safe(), "--set", "kafka_password="+secretWord); code != 2 || !strings.Contains(errs, "RINGFENCE_KAFKA_PASSWORD_FILE") || strings.Contains(errs, secretWord) {
		t.Errorf("exit %d\n%s", code, errs)
	}
}
