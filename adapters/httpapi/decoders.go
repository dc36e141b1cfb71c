package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
)

type decoderJSON struct {
	Common
	Name            string   `json:"name"`
	ActiveVersionID *string  `json:"active_version_id"`
	Previous        []string `json:"previous_version_ids"`
	QuarantinedTill *string  `json:"quarantined_until" format:"date-time" doc:"The active version failed three times in a row; its uplinks wait until then. Told by the process that decodes alone: where others do, each such uplink says so in waits_until"`
}

type versionJSON struct {
	Common
	DecoderID string  `json:"decoder_id"`
	Number    int     `json:"number"`
	SHA256    string  `json:"sha256"`
	AuthorID  *string `json:"author_id"`
	Source    string  `json:"source,omitempty"`
}

func versionShape(v decoder.Version) versionJSON {
	return versionJSON{Common{v.ID.String(), v.Rev, stamp(v.CreatedAt), stamp(v.UpdatedAt)}, v.Decoder.String(), v.Number, hex.EncodeToString(v.Hash[:]), ref(v.Author), v.Source}
}

type resultJSON struct {
	Category   string          `json:"category"`
	Data       json.RawMessage `json:"data,omitempty"`
	Warnings   []string        `json:"warnings"`
	Errors     []string        `json:"errors"`
	Message    string          `json:"message,omitempty"`
	Fuel       int64           `json:"fuel"`
	DurationUS int64           `json:"duration_us"`
}

// DecoderIn names a decoder in the path.
type DecoderIn struct {
	TenantIn
	Decoder string `path:"decoder"`
}

const decodersPath = "/v1/tenants/{tenant}/decoders"

func (a *API) decoderRoutes() {
	m := a.o.Manage
	shape := func(d decoder.Decoder) decoderJSON {
		return decoderJSON{Common{d.ID.String(), d.Rev, stamp(d.CreatedAt), stamp(d.UpdatedAt)}, d.Name, ref(d.Active), texts(d.Previous), maybe(a.o.Ingest.Paused(d.Active))}
	}
	answer := func(d decoder.Decoder, err error) (*one[decoderJSON], error) {
		if err != nil {
			return nil, err
		}
		return &one[decoderJSON]{ETag: etag(d.Rev), Body: shape(d)}, nil
	}
	get := func(ctx context.Context, c *Call, s string) (d decoder.Decoder, err error) {
		var id ident.Decoder
		if err = path(s, &id); err == nil {
			d, err = m.Decoder(ctx, c.Scope, id)
		}
		return d, err
	}
	activated := func(ctx context.Context, c *Call, d decoder.Decoder, id ident.Decoder, err error) (*one[decoderJSON], error) {
		d, replayed, err := made(err, d, func(string) (decoder.Decoder, error) { return m.Decoder(ctx, c.Scope, id) })
		out, err := answer(d, err)
		if out != nil {
			out.Replayed = replayed
		}
		return out, err
	}
	Register(a, Declaration{Operation: "listDecoders", Method: http.MethodGet, Path: decodersPath, Summary: "List the decoders", Tag: "decoders", Permission: access.DecoderRead, Object: "decoder", Tenant: FromPath, At: enter.Root},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			NamedIn
		}) (*many[decoderJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Decoders(ctx, c.Scope, q, in.Name)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, shape), nil
		})
	Register(a, Declaration{Operation: "createDecoder", Method: http.MethodPost, Path: decodersPath, Summary: "Create a decoder", Tag: "decoders", Permission: access.DecoderWrite, Object: "decoder", Tenant: FromPath, At: enter.Root, Audit: []audit.Action{audit.DecoderCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				Name string `json:"name" minLength:"1" maxLength:"200" example:"pump"`
			}
		}) (*one[decoderJSON], error) {
			d, err := m.CreateDecoder(ctx, &c.Call, in.Body.Name)
			d, replayed, err := made(err, d, func(s string) (decoder.Decoder, error) { return get(ctx, c, s) })
			out, err := answer(d, err)
			if out != nil {
				out.Replayed, out.Location = replayed, "/v1/tenants/"+in.Tenant+"/decoders/"+d.ID.String()
			}
			return out, err
		})
	Register(a, Declaration{Operation: "getDecoder", Method: http.MethodGet, Path: decodersPath + "/{decoder}", Summary: "Read a decoder", Tag: "decoders", Permission: access.DecoderRead, Object: "decoder", Tenant: FromPath, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *DecoderIn) (*one[decoderJSON], error) {
			return answer(get(ctx, c, in.Decoder))
		})
	Register(a, Declaration{Operation: "updateDecoder", Method: http.MethodPatch, Path: decodersPath + "/{decoder}", Summary: "Rename a decoder", Tag: "decoders", Permission: access.DecoderWrite, Object: "decoder", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.DecoderUpdated}},
		func(ctx context.Context, c *Call, in *struct {
			DecoderIn
			MatchIn
			Body struct {
				Name string `json:"name" minLength:"1" maxLength:"200"`
			}
		}) (*one[decoderJSON], error) {
			var id ident.Decoder
			rev, err := target(in.Decoder, in.IfMatch, &id)
			if err != nil {
				return nil, err
			}
			return answer(m.RenameDecoder(ctx, &c.Call, id, rev, in.Body.Name))
		})
	Register(a, Declaration{Operation: "deleteDecoder", Method: http.MethodDelete, Path: decodersPath + "/{decoder}", Summary: "Delete a decoder that no device names", Tag: "decoders", Permission: access.DecoderWrite, Object: "decoder", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.DecoderDeleted}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			DecoderIn
			MatchIn
		}) (*none, error) {
			var id ident.Decoder
			rev, err := target(in.Decoder, in.IfMatch, &id)
			if err == nil {
				err = m.DeleteDecoder(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
	Register(a, Declaration{Operation: "activateVersion", Method: http.MethodPost, Path: decodersPath + "/{decoder}/activate", Summary: "Make a version the one that runs", Tag: "decoders", Permission: access.DecoderActivate, Object: "decoder", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.DecoderActivated}},
		func(ctx context.Context, c *Call, in *struct {
			DecoderIn
			MatchIn
			Body struct {
				VersionID string `json:"version_id" example:"ver_06ethoo0000000000000000000"`
			}
		}) (*one[decoderJSON], error) {
			var id ident.Decoder
			var v ident.Version
			rev, err := target(in.Decoder, in.IfMatch, &id)
			if err == nil {
				err = body(in.Body.VersionID, "/version_id", &v)
			}
			if err != nil {
				return nil, err
			}
			d, err := m.Activate(ctx, &c.Call, id, rev, v)
			return activated(ctx, c, d, id, err)
		})
	Register(a, Declaration{Operation: "rollBackDecoder", Method: http.MethodPost, Path: decodersPath + "/{decoder}/rollback", Summary: "Make the version active that was before", Tag: "decoders", Permission: access.DecoderActivate, Object: "decoder", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.DecoderRolled}},
		func(ctx context.Context, c *Call, in *struct {
			DecoderIn
			MatchIn
		}) (*one[decoderJSON], error) {
			var id ident.Decoder
			rev, err := target(in.Decoder, in.IfMatch, &id)
			if err != nil {
				return nil, err
			}
			d, err := m.RollBack(ctx, &c.Call, id, rev)
			return activated(ctx, c, d, id, err)
		})
	a.versionRoutes()
}

func (a *API) versionRoutes() {
	m := a.o.Manage
	get := func(ctx context.Context, c *Call, of, s string) (v decoder.Version, err error) {
		var d ident.Decoder
		var id ident.Version
		if err = path(of, &d); err == nil {
			err = path(s, &id)
		}
		if err == nil {
			v, err = m.Version(ctx, c.Scope, d, id)
		}
		return v, err
	}
	Register(a, Declaration{Operation: "listVersions", Method: http.MethodGet, Path: decodersPath + "/{decoder}/versions", Summary: "List a decoder's versions", Tag: "decoders", Permission: access.DecoderRead, Object: "version", Tenant: FromPath, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *struct {
			DecoderIn
			ListIn
		}) (*many[versionJSON], error) {
			var id ident.Decoder
			q, err := c.page(in.Cursor, in.Limit)
			if err == nil {
				err = path(in.Decoder, &id)
			}
			if err != nil {
				return nil, err
			}
			page, err := m.Versions(ctx, c.Scope, id, q)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, func(v decoder.Version) versionJSON {
				v.Source = "" // texts are read one by one
				return versionShape(v)
			}), nil
		})
	Register(a, Declaration{Operation: "createVersion", Method: http.MethodPost, Path: decodersPath + "/{decoder}/versions", Summary: "Save a new text; it must load", Tag: "decoders", Permission: access.DecoderWrite, Object: "version", Tenant: FromPath, At: enter.RootObject, Audit: []audit.Action{audit.DecoderVersioned}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			DecoderIn
			Body struct {
				Source string `json:"source" maxLength:"65536" example:"function decodeUplink(input) { return { data: { t: input.bytes[0] } } }"`
			}
		}) (*one[versionJSON], error) {
			var id ident.Decoder
			if err := path(in.Decoder, &id); err != nil {
				return nil, err
			}
			v, err := m.CreateVersion(ctx, &c.Call, id, in.Body.Source)
			v, replayed, err := made(err, v, func(s string) (decoder.Version, error) { return get(ctx, c, in.Decoder, s) })
			if err != nil {
				return nil, err
			}
			return &one[versionJSON]{ETag: etag(v.Rev), Replayed: replayed, Location: "/v1/tenants/" + in.Tenant + "/decoders/" + in.Decoder + "/versions/" + v.ID.String(), Body: versionShape(v)}, nil
		})
	Register(a, Declaration{Operation: "getVersion", Method: http.MethodGet, Path: decodersPath + "/{decoder}/versions/{version}", Summary: "Read a version, with its text", Tag: "decoders", Permission: access.DecoderRead, Object: "version", Tenant: FromPath, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *struct {
			DecoderIn
			Version string `path:"version"`
		}) (*one[versionJSON], error) {
			v, err := get(ctx, c, in.Decoder, in.Version)
			if err != nil {
				return nil, err
			}
			return &one[versionJSON]{ETag: etag(v.Rev), Body: versionShape(v)}, nil
		})
	Register(a, Declaration{Operation: "testDecoder", Method: http.MethodPost, Path: decodersPath + "/{decoder}/test", Summary: "Run an unsaved text or a saved version on an input; nothing is kept", Tag: "decoders", Permission: access.DecoderTest, Object: "decoder", Tenant: FromPath, At: enter.RootObject, Unaudited: "it keeps nothing and changes nothing"},
		func(ctx context.Context, c *Call, in *struct {
			DecoderIn
			Body struct {
				Source    string         `json:"source,omitempty" maxLength:"65536"`
				VersionID string         `json:"version_id,omitempty"`
				Payload   string         `json:"payload" maxLength:"5464" doc:"base64" example:"AQI="`
				FPort     int            `json:"f_port,omitempty" minimum:"0" maximum:"255"`
				RecvTime  string         `json:"recv_time,omitempty" format:"date-time"`
				Variables []variableJSON `json:"variables,omitempty" maxItems:"64"`
			}
		}) (*struct{ Body resultJSON }, error) {
			var id ident.Decoder
			var v ident.Version
			run := decoder.Input{FPort: in.Body.FPort, RecvTime: time.Now().UTC()}
			var err error
			for _, err = range []error{path(in.Decoder, &id), body(in.Body.VersionID, "/version_id", &v), moment(in.Body.RecvTime, "/recv_time", &run.RecvTime)} {
				if err != nil {
					return nil, err
				}
			}
			if run.Bytes, err = base64.StdEncoding.Strict().DecodeString(in.Body.Payload); err != nil || len(run.Bytes) > decoder.MaxPayload {
				return nil, fault.New(fault.Invalid, "bad_payload", "A payload is base64 of at most %d bytes.", decoder.MaxPayload).WithField("/payload", "not base64, or too large")
			}
			for i, one := range in.Body.Variables {
				if slices.ContainsFunc(run.Variables, func(v decoder.Variable) bool { return v.Name == one.Name }) {
					return nil, fault.New(fault.Invalid, "bad_variable", "Each variable has a name of its own.").WithField("/variables/"+strconv.Itoa(i)+"/name", "stands twice")
				}
				value := ""
				if one.Value != nil {
					value = *one.Value
				}
				run.Variables = append(run.Variables, decoder.Variable{Name: one.Name, Value: secret.New(value), Secret: one.Secret})
			}
			r, err := m.DryRun(ctx, c.Scope, id, v, in.Body.Source, run)
			if err != nil {
				return nil, err
			}
			return &struct{ Body resultJSON }{resultJSON{string(r.Category), r.Data, some(r.Warnings), some(r.Errors), r.Message, r.Fuel, r.Duration.Microseconds()}}, nil
		})
}

// some is a list that is never null.
func some(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
