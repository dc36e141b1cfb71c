package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
)

// operation is the declaration in OpenAPI's words.
func (a *API) operation(d *Declaration) *huma.Operation {
	op := &huma.Operation{
		OperationID: d.Operation, Method: d.Method, Path: d.Path, Summary: d.Summary, Tags: []string{d.Tag}, DefaultStatus: d.Status,
		MaxBodyBytes: -1, BodyReadTimeout: readTimeout, // bounded says how long a body may be
		Errors:     []int{400, 404, 405, 422, 429, 500, 503},
		Extensions: map[string]any{"x-object": d.Object, "x-tenant-from": string(d.Tenant), "x-audit": names(d.Audit)},
	}
	switch {
	case d.Permission != access.None:
		op.Extensions["x-permission"] = d.Permission.String()
	case d.Public != "":
		op.Extensions["x-public"] = d.Public
	default:
		op.Extensions["x-self"] = d.Self
	}
	if d.Public == "" {
		op.Security = []map[string][]string{{"bearer": {}}, {"cookie": {}}}
		op.Errors = append(op.Errors, 401, 403)
	}
	if d.keyed() {
		longest := maxIdempoKey
		op.Parameters = append(op.Parameters, &huma.Param{Name: "Idempotency-Key", In: "header", Description: "Makes repeating this request safe for 24 h: a repeat does nothing, answers what there is and says Idempotency-Replayed: true", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &longest}})
	}
	if d.Method != http.MethodGet {
		op.Errors = append(op.Errors, 403, 409)
	}
	slices.Sort(op.Errors)
	op.Errors = slices.Compact(op.Errors)
	return op
}

// described adds what only the finished operation tells: bodies may be too large or of a wrong type, revisions missing or
// stale.
func (a *API) described(d *Declaration) {
	op := operationOf(a.huma.OpenAPI(), d.Method, d.Path)
	d.body = op.RequestBody != nil
	add := func(codes ...int) {
		for _, code := range codes {
			op.Responses[strconv.Itoa(code)] = &huma.Response{Description: http.StatusText(code), Content: op.Responses["400"].Content}
		}
	}
	add(408, 413) // a body is read within its bounds where none is asked for, too
	if op.RequestBody != nil {
		add(415)
	}
	if slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "If-Match" }) {
		add(412, 428)
	}
	f := form{op, a.huma.OpenAPI().Components.Schemas}
	if op.RequestBody != nil {
		if d.Method == http.MethodPatch {
			d.patch = f.patch(op.RequestBody.Content)
		}
		f.exemplify(op.RequestBody.Content)
	}
	for code, r := range op.Responses {
		if code < "300" {
			f.exemplify(r.Content)
		}
	}
	for part := range strings.SplitSeq(d.Path, "/") {
		name, ok := strings.CutPrefix(part, "{")
		name = strings.TrimSuffix(name, "}")
		if ok && !slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.In == "path" && p.Name == name }) {
			a.faults = append(a.faults, fmt.Errorf("httpapi: route %s does not read %s of its path", d.Operation, name))
		}
	}
}

// operationOf finds a route in the description.
func operationOf(doc *huma.OpenAPI, method, path string) *huma.Operation {
	item := doc.Paths[path]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[method]
}

func names(actions []audit.Action) []string {
	out := make([]string, len(actions))
	for i, a := range actions {
		out[i] = string(a)
	}
	return out
}

// exemplify gives each JSON body an example, made of the examples of its fields.
func (f form) exemplify(content map[string]*huma.MediaType) {
	if m := content["application/json"]; m != nil && m.Schema != nil && m.Example == nil && len(m.Examples) == 0 {
		m.Example = f.example(m.Schema, 0)
	}
}

func (f form) example(s *huma.Schema, depth int) any {
	if s.Ref != "" {
		s = f.schemas.SchemaFromRef(s.Ref)
	}
	switch {
	case s == nil || depth > 6:
		return nil
	case len(s.Examples) > 0:
		return s.Examples[0]
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	switch s.Type {
	case huma.TypeObject:
		out := map[string]any{}
		for name, p := range s.Properties {
			v := f.example(p, depth+1)
			if prefix, ok := ids[name]; ok && v == "text" {
				v = prefix + "_06ethoo0000000000000000000"
			}
			if v != nil {
				out[name] = v
			}
		}
		return out
	case huma.TypeArray:
		if s.Items != nil {
			if v := f.example(s.Items, depth+1); v != nil {
				return []any{v}
			}
		}
		return []any{}
	case huma.TypeBoolean:
		return true
	case huma.TypeInteger, huma.TypeNumber:
		if s.Minimum != nil {
			return max(*s.Minimum, 1)
		}
		return 1
	case huma.TypeString:
		return words(s)
	case "": // any JSON
		return map[string]any{"level": 7}
	}
	return nil
}

// ids are the prefixes of what fields refer to.
var ids = map[string]string{
	"tenant_id": "ten", "node_id": "nod", "parent_id": "nod", "device_id": "dev", "decoder_id": "dec", "source_id": "src", "role_id": "rol", "group_id": "grp",
	"principal_id": "usr", "member_id": "usr", "event_id": "upl", "uplink_id": "upl", "request_id": "req",
}

// words is a text that a schema takes.
func words(s *huma.Schema) string {
	switch s.Format {
	case "date-time":
		return "2026-11-24T12:00:00.000000Z"
	case "email":
		return "ana@example.com"
	}
	text := "text"
	if s.MinLength != nil && len(text) < *s.MinLength {
		text += strings.Repeat("x", *s.MinLength-len(text))
	}
	if s.MaxLength != nil && len(text) > *s.MaxLength {
		text = text[:*s.MaxLength]
	}
	return text
}
