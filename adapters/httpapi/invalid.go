package httpapi

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/strictjson"
)

// humaProblem is what huma makes its own errors with: of unreadable bodies and of values that break a schema. Values are
// dropped, since they may be secrets.
func humaProblem(hc huma.Context, status int, msg string, errs ...error) huma.StatusError {
	ctx := context.Background()
	var form form
	if hc != nil {
		ctx, form.op = hc.Context(), hc.Operation()
		if rq := requestOf(ctx); rq != nil {
			form.schemas = rq.schemas
		}
	}
	for _, err := range errs {
		var p *problem
		if errors.As(err, &p) {
			return p
		}
	}
	f := fault.New(fault.Internal, "internal", ourBug)
	switch {
	case status == 415:
		f = fault.New(fault.Invalid, "unsupported_media_type", "This route takes application/json.")
	case strings.HasPrefix(msg, "cannot read request body") && len(errs) > 0:
		f = fault.As(cutShort(errs[0]))
	case status == 400:
		f = fault.New(fault.Invalid, "unreadable", "The request cannot be read. Send one JSON document, in UTF-8, each key once.")
	case status == 422:
		f = fault.New(fault.Invalid, "invalid", "The request is readable but not right. The errors say which parts.")
	}
	for _, err := range errs {
		var d *huma.ErrorDetail
		if errors.As(err, &d) && f.Kind == fault.Invalid {
			where, known := form.locate(d.Location)
			f = f.WithField(where, said(d.Message, known))
		}
	}
	p := problemOf(ctx, f)
	if hc != nil {
		for k := range p.GetHeaders() {
			hc.SetHeader(k, p.GetHeaders().Get(k))
		}
	}
	return p
}

// form is what a request should have been like.
type form struct {
	op      *huma.Operation
	schemas huma.Registry
}

// locate turns huma's location (body.items[0].name) into a JSON pointer, as far as the description knows its names: a name
// that only the request knows is not repeated. Where it stops, known lists the names that could have stood there.
func (f form) locate(location string) (pointer string, known []string) {
	op := f.op
	where, rest, _ := strings.Cut(location, ".")
	if where != "body" {
		if op == nil {
			return "", nil
		}
		for _, p := range op.Parameters {
			if p.In == where && p.Name == rest {
				return "/" + where + "/" + rest, nil
			}
			if p.In == where {
				known = append(known, p.Name)
			}
		}
		return "/" + where, known
	}
	if op == nil || f.schemas == nil || op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil {
		return "", nil
	}
	schema := op.RequestBody.Content["application/json"].Schema
	for rest != "" && schema != nil {
		if schema.Ref != "" {
			if schema = f.schemas.SchemaFromRef(schema.Ref); schema == nil {
				break
			}
		}
		if index, after, ok := element(rest); ok {
			pointer, rest, schema = pointer+"/"+index, after, schema.Items
			continue
		}
		name, after := property(schema, rest)
		if name == "" {
			return pointer, slices.Sorted(maps.Keys(schema.Properties))
		}
		pointer, rest, schema = pointer+"/"+name, after, schema.Properties[name]
	}
	return pointer, nil
}

// element reads [12] at the start of a location.
func element(location string) (index, rest string, ok bool) {
	inner, found := strings.CutPrefix(location, "[")
	if !found {
		return "", "", false
	}
	index, rest, ok = strings.Cut(inner, "]")
	if _, err := strconv.ParseUint(index, 10, 31); err != nil {
		return "", "", false
	}
	return index, strings.TrimPrefix(rest, "."), ok
}

// property is the longest name of an object's that a location begins with.
func property(s *huma.Schema, location string) (name, rest string) {
	for n := range s.Properties {
		after, ok := strings.CutPrefix(location, n)
		if ok && len(n) > len(name) && (after == "" || after[0] == '.' || after[0] == '[') {
			name, rest = n, strings.TrimPrefix(after, ".")
		}
	}
	return name, rest
}

// numbered writes the numbers of a schema's message out: huma has large ones with an exponent.
func numbered(message string) string {
	words := strings.Fields(message)
	for i, w := range words {
		if n, err := strconv.ParseFloat(w, 64); err == nil {
			words[i] = strconv.FormatFloat(n, 'f', -1, 64)
		}
	}
	return strings.Join(words, " ")
}

// said is a schema's message without what it may quote of the input. Messages that only speak of the schema pass whole.
func said(message string, known []string) string {
	switch {
	case message == "unknown query parameter" && len(known) == 0:
		return "takes no parameters"
	case message == validation.MsgUnexpectedProperty || message == "unknown query parameter":
		return "has a name that is not known here; known are: " + strings.Join(known, ", ")
	case strings.HasPrefix(message, "expected value to be one of"), strings.HasPrefix(message, "expected string to match pattern"):
		return message
	case strings.HasPrefix(message, "expected "), strings.HasPrefix(message, "required "), strings.HasPrefix(message, "invalid "):
		words, _, _ := strings.Cut(message, ":") // behind it stands what a parser said
		if i := strings.IndexAny(words, "\"'`"); i >= 0 {
			words = words[:i]
		}
		return numbered(words)
	}
	for _, err := range []error{strictjson.ErrSyntax, strictjson.ErrDepth, strictjson.ErrDuplicate, strictjson.ErrText, strictjson.ErrType, strictjson.ErrMembers} {
		if message == err.Error() {
			return message
		}
	}
	return "is not of the form that /openapi.json describes"
}
