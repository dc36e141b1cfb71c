package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/uptrace/bunrouter"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/source"
)

// ingestRoutes are raw handlers, since validating a body by schema costs more than keeping it. They are declared, gated and
// described like all others.
func (a *API) ingestRoutes() {
	a.o.Metrics.Watch(a.o.Ingest.Counts)
	for _, f := range []struct{ format, operation, summary, example string }{
		{"chirpstack", "ingestChirpStack", "Take in an event of ChirpStack v4's HTTP integration; up events are uplinks",
			`{"deduplicationId":"3ac7e3c4-4401-4b8d-9386-a5c902f9202d","time":"2026-11-24T12:00:00Z","deviceInfo":{"applicationId":"17c82e96-be03-4f38-aef3-f83d48582d97","devEui":"70b3d57ed0000001"},"fCnt":7,"fPort":2,"data":"AQID"}`},
		{"tts", "ingestTTS", "Take in a webhook of The Things Stack v3; uplink messages are uplinks",
			`{"end_device_ids":{"device_id":"pump-1","dev_eui":"70B3D57ED0000001","application_ids":{"application_id":"pumps"}},"received_at":"2026-11-24T12:00:00Z","uplink_message":{"f_port":2,"f_cnt":7,"frm_payload":"AQID"}}`},
		{"plain", "ingestPlain", "Take in an uplink in the plain form", `{"id":"7","device":"70b3d57ed0000001","f_port":2,"payload":"AQID"}`},
	} {
		d := Declaration{Operation: f.operation, Method: http.MethodPost, Path: "/v1/ingest/" + f.format, Summary: f.summary, Tag: "ingest", Permission: access.UplinkSubmit,
			Object: "uplink", Tenant: FromCredential, Unaudited: "events are no administration: they are kept themselves, and what is refused is counted into the audit log", Status: 202}
		if !a.declare(&d) {
			continue
		}
		op := a.operation(&d)
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: "object"}, Example: json.RawMessage(f.example)}}}
		op.Responses = map[string]*huma.Response{
			"202": {Description: "The event is durable; event_id names it from now on", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
				Type: "object", Properties: map[string]*huma.Schema{"event_id": {Type: "string"}, "duplicate": {Type: "boolean"}}},
				Example: map[string]any{"event_id": "upl_06ethoo0000000000000000000", "duplicate": false}}}},
			"204":     {Description: "Well-formed, and no uplink: counted and not kept"},
			"default": {Description: "A problem", Content: map[string]*huma.MediaType{problemType: {}}},
		}
		a.huma.OpenAPI().AddOperation(op)
		a.router.POST(d.Path, func(w http.ResponseWriter, r bunrouter.Request) error {
			requestOf(r.Context()).operation = d.Operation
			if err := a.ingest(r.Context(), w, r.Request, &d, f.format); err != nil {
				return writeProblem(w, r.Request, err)
			}
			return nil
		})
	}
}

func (a *API) ingest(ctx context.Context, w http.ResponseWriter, r *http.Request, d *Declaration, format string) error {
	c, err := a.enter(ctx, r, w, d, func(string) string { return "" })
	if err != nil {
		return err
	}
	v, err := a.o.Ingest.Take(ctx, c.Identity, c.Origin, ingest.Delivery{Format: source.Format(format), Event: kindOf(r.URL), Body: func() ([]byte, error) {
		text, err := entire(r)
		if err != nil {
			err = cutShort(err)
		}
		return text, err
	}})
	setRate(w, v.Policy, v.Rate)
	switch {
	case fault.Is(err, fault.Exhausted):
		a.o.Metrics.Add("ringfence_ingest_limited_total", 1)
		return err
	case err != nil:
		return err
	case v.Ignored:
		a.o.Metrics.Add("ringfence_ingest_ignored_total", 1)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	a.o.Metrics.Add("ringfence_ingest_accepted_total", 1)
	event := v.ID.String()
	if rq := requestOf(ctx); rq != nil {
		rq.event, rq.brought, rq.tenant = event, v.ID, c.Identity.Tenant
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	answer := append(make([]byte, 0, 96), `{"event_id":"`...) // neither an id nor a bool needs escaping
	answer = append(answer, event...)
	answer = strconv.AppendBool(append(answer, `","duplicate":`...), v.Duplicate)
	_, err = w.Write(append(answer, '}', '\n'))
	return err
}

// entire reads a body, which was bounded before. What it says of its length is believed for an ordinary event; beyond that
// memory grows with what arrives, since a slow sender may promise much on many connections.
func entire(r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 {
		return io.ReadAll(r.Body)
	}
	const ordinary = 8 << 10
	whole := int(r.ContentLength)
	text := make([]byte, 0, min(whole, ordinary))
	for {
		n, err := io.ReadFull(r.Body, text[len(text):min(cap(text), whole)])
		text = text[:len(text)+n]
		if err != nil || len(text) == whole {
			return text, err
		}
		text = slices.Grow(text, min(len(text), whole-len(text)))
	}
}

// kindOf is what ChirpStack says of the body's kind in the query.
func kindOf(u *url.URL) string {
	if plain, ok := strings.CutPrefix(u.RawQuery, "event="); ok && !strings.ContainsAny(plain, "&%+") {
		return plain
	}
	return u.Query().Get("event")
}
