package deploy_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What is added for a collector are a network and what the services are told of it; without it they are told of none.
func TestTheComposeFileReachesACollectorOnlyIfItIsAsked(t *testing.T) {
	known, base, text := settings(t), read(t, "compose.yaml"), read(t, "compose", "telemetry.yaml")
	if strings.Contains(base, "OTLP") || strings.Contains(base, "telemetry") {
		t.Error("compose.yaml tells a collector that nobody asked for")
	}
	more := compose(t, strings.NewReplacer("${OTLP_ENDPOINT:?where the collector is, such as http://collector:4318}", "http://collector:4318", "${OTLP_RATIO:-0.01}", "0.01").Replace(text))
	if got := slices.Sorted(maps.Keys(more.Services)); !slices.Equal(got, []string{"event-worker", "mqtt-ingestion-worker", "mqtt-ingestion-worker-1", "platform-api"}) || len(more.Networks) != 1 || len(more.Secrets)+len(more.Configs)+len(more.Volumes) > 0 {
		t.Errorf("%q and %v are added", got, more.Networks)
	}
	for name, s := range more.Services {
		if only := (service{Networks: []string{"telemetry"}, Environment: s.Environment}); !reflect.DeepEqual(s, only) {
			t.Errorf("%s: %+v", name, s)
		}
		env := maps.Clone(compose(t, base).Services[name].Environment)
		maps.Copy(env, s.Environment)
		if wrong := known.environment(name, strings.TrimSuffix(name, "-1"), env); len(wrong) > 0 || env["RINGFENCE_OTLP_ENDPOINT"] == "" {
			t.Errorf("%q", wrong)
		}
	}
}
