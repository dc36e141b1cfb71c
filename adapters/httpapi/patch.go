package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/strictjson"
)

// removable is a reference in a merge patch, which null takes away. Null for any other field is refused.
type removable struct {
	Named bool   // in the patch, be it with null
	Value string // "" for none
}

// UnmarshalJSON is called for a field that the patch names.
func (r *removable) UnmarshalJSON(b []byte) error {
	*r = removable{Named: true}
	return json.Unmarshal(b, &r.Value)
}

// Schema describes it.
func (removable) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, Extensions: map[string]any{nullRemoves: true}}
}

const nullRemoves = "x-null-removes"

// patch notes which fields null may take away, and says in the description that it may not take away the others.
func (f form) patch(content map[string]*huma.MediaType) map[string]bool {
	m := content["application/json"]
	if m == nil {
		return nil
	}
	s := m.Schema
	if s.Ref != "" {
		s = f.schemas.SchemaFromRef(s.Ref)
	}
	removes := map[string]bool{}
	for name, p := range s.Properties {
		removes[name] = p.Extensions[nullRemoves] != nil
		p.Nullable = removes[name]
	}
	return removes
}

// nulls refuses a merge patch that would take away what cannot be absent. huma would pass it over, and the answer be 200.
func nulls(r *http.Request, removes map[string]bool) error {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	var refused error
	b := strictjson.New(text)
	err = b.Object(func(key []byte) error {
		if !b.IsNull() {
			return b.Skip()
		}
		if may, ok := removes[string(key)]; ok && !may {
			refused = fault.New(fault.Invalid, "invalid", "The request is readable but not right. The errors say which parts.").WithField("/"+string(key), "cannot be taken away")
		}
		return nil
	})
	if err != nil || b.End() != nil {
		return nil // no object: huma says what is wrong with it
	}
	return refused
}
