package deploy_test

import (
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Brokers ask the API alone, over a network that is theirs, and only where somebody wants it.
func TestTheComposeFileLetsBrokersAskOnlyIfItIsAsked(t *testing.T) {
	base, at := read(t, "compose.yaml"), prepared(t)
	if strings.Contains(base, "BROKER_AUTH") || strings.Contains(base, "broker-auth") {
		t.Error("compose.yaml opens a door that nobody asked for")
	}
	more := compose(t, read(t, "compose", "broker-auth.yaml"))
	api := more.Services["platform-api"]
	if only := (service{Networks: []string{"brokers"}, Environment: api.Environment, Secrets: []string{"broker-auth"}}); !reflect.DeepEqual(api, only) || len(more.Services) != 1 || len(more.Networks) != 1 || len(more.Secrets) != 1 || len(more.Configs)+len(more.Volumes) > 0 {
		t.Errorf("%+v", more)
	}
	whole := compose(t, base)
	env := maps.Clone(whole.Services["platform-api"].Environment)
	maps.Copy(env, api.Environment)
	maps.Copy(whole.Secrets, more.Secrets)
	if wrong := settings(t).environment("platform-api", "platform-api", env); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
	for key, value := range env {
		if secret, ok := strings.CutPrefix(value, "/run/secrets/"); ok {
			env[key] = filepath.Join(at, strings.TrimPrefix(whole.Secrets[secret].File, "./compose/secrets/"))
		}
	}
	if j := judge(t, "platform-api", env); !j.Good {
		t.Errorf("%q", j.Problems)
	}
	delete(env, "RINGFENCE_BROKER_AUTH_SECRET_FILE")
	if j := judge(t, "platform-api", env); j.Good {
		t.Error("anybody may ask")
	}
}
