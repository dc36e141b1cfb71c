//go:build charts

package deploy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// schemas writes what Kubernetes says of its objects as JSON schemas, one a kind, which know no field that it does not name. It
// answers where kubeconform finds them.
func schemas(t *testing.T) string {
	t.Helper()
	var api struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal([]byte(read(t, os.Getenv("CHARTS_KUBERNETES"))), &api); err != nil {
		t.Fatalf("deploy/helm/with names the API of Kubernetes: %v", err)
	}
	for name, d := range api.Definitions {
		switch {
		case strings.HasSuffix(name, ".IntOrString"):
			api.Definitions[name] = map[string]any{"type": []string{"integer", "string"}}
		case strings.HasSuffix(name, ".Quantity"):
			api.Definitions[name] = map[string]any{"type": []string{"number", "string"}}
		case d["properties"] != nil && d["additionalProperties"] == nil:
			d["additionalProperties"] = false
		}
	}
	at := t.TempDir()
	for name, d := range api.Definitions {
		kinds, _ := d["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			k, _ := k.(map[string]any)
			group, _ := k["group"].(string)
			version, _ := k["version"].(string)
			kind, _ := k["kind"].(string)
			if len(kinds) > 1 || d["properties"] == nil {
				continue // such as DeleteOptions, which are of every group
			}
			used := map[string]any{}
			need(api.Definitions, d, used)
			used[name] = d
			suffix := "-" + version
			if group != "" {
				suffix = "-" + strings.Split(group, ".")[0] + suffix
			}
			raw, err := json.Marshal(map[string]any{"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/" + name, "definitions": used})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(at, strings.ToLower(kind)+suffix+".json"), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(at, "{{.ResourceKind}}{{.KindSuffix}}.json")
}

// need collects the definitions that one leads to.
func need(all map[string]map[string]any, of any, used map[string]any) {
	switch of := of.(type) {
	case map[string]any:
		if ref, ok := of["$ref"].(string); ok {
			name := strings.TrimPrefix(ref, "#/definitions/")
			if used[name] == nil && all[name] != nil {
				used[name] = all[name]
				need(all, all[name], used)
			}
		}
		for _, v := range of {
			need(all, v, used)
		}
	case []any:
		for _, v := range of {
			need(all, v, used)
		}
	}
}
