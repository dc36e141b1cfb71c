package isolation

import (
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"

	"github.com/ringfence/ringfence/core/access"
)

// route is an operation as the server describes it.
type route struct {
	operation, method, path string
	object, tenantFrom      string
	permission              access.Permission // None: it is public, or the caller's own
	public                  bool
	filters                 []string
	keyed                   bool           // takes an Idempotency-Key
	statuses                object         // of its answers
	schema                  map[string]any // of the body; nil if there is none
	spec                    map[string]any
}

// routes reads them from the OpenAPI document.
func (w *world) routes() []route {
	var out []route
	paths, _ := w.spec["paths"].(object)
	for path, item := range paths {
		methods, _ := item.(object)
		for method, op := range methods {
			o, ok := op.(object)
			if !ok {
				continue
			}
			r := route{operation: text(o, "operationId"), method: strings.ToUpper(method), path: path, object: text(o, "x-object"), tenantFrom: text(o, "x-tenant-from"), public: text(o, "x-public") != "", spec: w.spec}
			if r.object == "" || r.tenantFrom == "" {
				w.t.Errorf("%s %s declares neither x-object nor x-tenant-from", method, path)
			}
			if name := text(o, "x-permission"); name != "" {
				var err error
				if r.permission, err = access.ParsePermission(name); err != nil {
					w.t.Errorf("%s %s takes a permission that is none: %s", method, path, name)
				}
			}
			params, _ := o["parameters"].([]any)
			for _, p := range params {
				m, _ := p.(object)
				if m["in"] == "query" {
					r.filters = append(r.filters, text(m, "name"))
				}
				r.keyed = r.keyed || m["name"] == "Idempotency-Key"
			}
			r.statuses, _ = o["responses"].(object)
			if content, ok := o["requestBody"].(object); ok {
				types, _ := content["content"].(object)
				media, _ := types["application/json"].(object)
				r.schema = r.resolve(media["schema"])
			}
			out = append(out, r)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].operation < out[j].operation })
	return out
}

// resolve follows a reference into the document's components.
func (r route) resolve(schema any) object {
	s, _ := schema.(object)
	ref, ok := s["$ref"].(string)
	if !ok {
		return s
	}
	components, _ := r.spec["components"].(object)
	schemas, _ := components["schemas"].(object)
	return r.resolve(schemas[strings.TrimPrefix(ref, "#/components/schemas/")])
}

// fill writes the path with one tenant in it and another's ids.
func (r route) fill(where, whose *tenant) string {
	parts := strings.Split(r.path, "/")
	for i, p := range parts {
		name, ok := strings.CutPrefix(p, "{")
		if !ok {
			continue
		}
		switch name = strings.TrimSuffix(name, "}"); {
		case name == "tenant":
			parts[i] = where.id
		case name == "seq":
			parts[i] = "0"
		case name == "id" && r.object == "person":
			parts[i] = whose.ids["person"]
		case name == "id":
			parts[i] = whose.id
		case whose.ids[name] != "":
			parts[i] = whose.ids[name]
		default:
			parts[i] = "unknown"
		}
	}
	return strings.Join(parts, "/")
}

// hasID reports whether ids beside the tenant's stand in the path.
func (r route) hasID() bool {
	return strings.Contains(strings.Replace(r.path, "{tenant}", "", 1), "{") && !strings.Contains(r.path, "{seq}")
}

// safeAtHome reports whether a route may be tried in the attacker's own tenant: what closes the tenant itself may not.
func (r route) safeAtHome() bool {
	return r.operation != "closeTenant" && (r.hasID() || r.method == http.MethodGet || r.refers())
}

// refers reports whether the body has ids in it.
func (r route) refers() bool {
	for _, name := range r.fields() {
		if strings.HasSuffix(name, "_id") || strings.HasSuffix(name, "_ids") || name == table {
			return true
		}
	}
	return false
}

// table is the field whose text has ids in its cells.
const table = "csv"

func (r route) fields() []string {
	properties, _ := r.schema["properties"].(object)
	names := make([]string, 0, len(properties))
	for n := range properties {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// bodyOf is a body that the schema takes, with a tenant's ids in every field that is an id.
func (r route) bodyOf(t *tenant, round int) map[string]any {
	if r.schema == nil {
		return nil
	}
	if r.operation == "ingestPlain" {
		return t.uplink()
	}
	if strings.HasPrefix(r.path, "/v1/ingest/") {
		return object{"device": "70b3d57ed0000001", "payload": "AQID", "tenant_id": t.id, "deviceInfo": object{"devEui": "70b3d57ed0000001", "tenantId": t.id}}
	}
	return r.value(r.schema, "", t, round).(object) //nolint:forcetypeassert // bodies are objects
}

func (r route) value(schema any, name string, t *tenant, round int) any {
	s := r.resolve(schema)
	kind := s["type"]
	if list, ok := kind.([]any); ok {
		kind = list[0]
	}
	if enum, ok := s["enum"].([]any); ok && len(enum) > 0 {
		return enum[len(enum)-1] // the last kind of node can stand below any other
	}
	switch kind {
	case "object":
		out := object{}
		required, _ := s["required"].([]any)
		properties, _ := s["properties"].(object)
		for n, p := range properties {
			id := strings.HasSuffix(n, "_id") || strings.HasSuffix(n, "_ids")
			renames := n == "name" && r.method == http.MethodPatch // a patch of nothing writes nothing, wherever it goes
			if n == "$schema" || (!id && !renames && !slices.Contains(required, any(n))) {
				continue
			}
			if n == "group_id" && properties["principal_id"] != nil {
				continue // one of the two
			}
			out[n] = r.value(p, n, t, round)
		}
		return out
	case "array":
		if v := t.idFor(name); v != "" && strings.HasSuffix(name, "_ids") {
			return []any{v}
		}
		return []any{r.value(s["items"], name, t, round)}
	case "integer", "number":
		if low, ok := s["minimum"].(float64); ok {
			return low
		}
		return 1
	case "boolean":
		return false
	}
	switch {
	case strings.HasSuffix(name, "_id"):
		return t.idFor(name)
	case name == "permissions":
		return "device:read"
	case name == "payload":
		return "AQID"
	case name == "value":
		return "70b3d57ed0000099"
	case name == table:
		return fmt.Sprintf("name,serial,decoder_id\nx,of-%s,%s\n", t.name, t.idFor("decoder_id"))
	case strings.Contains(name, "email"):
		return fmt.Sprintf("swept%d@example.com", round)
	case name == "source":
		return "function decodeUplink() { return { data: {} } }"
	default:
		return fmt.Sprintf("swept %d", round)
	}
}
