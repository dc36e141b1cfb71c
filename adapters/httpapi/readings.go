package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

type uplinkJSON struct {
	ID            string      `json:"id"`
	Rev           uint64      `json:"rev"`
	SourceID      string      `json:"source_id"`
	DeviceID      *string     `json:"device_id"`
	NodeID        string      `json:"node_id"`
	State         string      `json:"state"`
	Reason        string      `json:"reason,omitempty"`
	Address       addressJSON `json:"address"`
	ApplicationID string      `json:"application_id,omitempty"`
	FPort         int         `json:"f_port"`
	FCnt          *uint64     `json:"f_cnt"`
	Payload       string      `json:"payload" doc:"base64"`
	ReceivedAt    string      `json:"received_at" format:"date-time" doc:"The time that counts"`
	ArrivedAt     string      `json:"arrived_at" format:"date-time" doc:"By our clock"`
	NetworkTime   *string     `json:"network_time" format:"date-time" doc:"By the network server's"`
	WaitsUntil    *string     `json:"waits_until" format:"date-time"`
}

func uplinkShape(u uplink.Uplink) uplinkJSON {
	j := uplinkJSON{
		ID: u.ID.String(), Rev: u.Rev, SourceID: u.Source.String(), DeviceID: ref(u.Device), NodeID: u.Node.String(), State: string(u.State), Reason: string(u.Reason),
		Address: addressJSON{string(u.Address.Kind), u.Address.Value}, ApplicationID: u.Application, FPort: u.FPort, Payload: base64.StdEncoding.EncodeToString(u.Payload),
		ReceivedAt: stamp(u.ReceivedAt), ArrivedAt: stamp(u.ArrivedAt), NetworkTime: maybe(u.NetworkTime), WaitsUntil: maybe(u.NotBefore),
	}
	if u.HasFCnt {
		j.FCnt = &u.FCnt
	}
	return j
}

type readingJSON struct {
	ID        string          `json:"id"`
	EventID   string          `json:"event_id"`
	DeviceID  string          `json:"device_id"`
	NodeID    string          `json:"node_id"`
	DecoderID string          `json:"decoder_id"`
	VersionID string          `json:"version_id"`
	At        string          `json:"at" format:"date-time"`
	FCnt      *uint64         `json:"f_cnt"`
	Data      json.RawMessage `json:"data"`
	Warnings  []string        `json:"warnings"`
}

func readingShape(r uplink.Reading) readingJSON {
	var counter *uint64 // as the uplink has it
	if r.HasFCnt {
		counter = &r.FCnt
	}
	return readingJSON{r.ID.String(), r.Uplink.String(), r.Device.String(), r.Node.String(), r.Decoder.String(), r.Version.String(), stamp(r.At), counter, r.Data, some(r.Warnings)}
}

type outcomeJSON struct {
	ID         string  `json:"id"`
	EventID    string  `json:"event_id"`
	DeviceID   string  `json:"device_id"`
	NodeID     string  `json:"node_id"`
	DecoderID  *string `json:"decoder_id"`
	VersionID  *string `json:"version_id"`
	SHA256     string  `json:"sha256,omitempty"`
	Engine     string  `json:"engine"`
	Category   string  `json:"category"`
	Fuel       int64   `json:"fuel"`
	DurationUS int64   `json:"duration_us"`
	Message    string  `json:"message,omitempty"`
	At         string  `json:"at" format:"date-time"`
}

func outcomeShape(o uplink.Outcome) outcomeJSON {
	j := outcomeJSON{ID: o.ID.String(), EventID: o.Uplink.String(), DeviceID: o.Device.String(), NodeID: o.Node.String(), DecoderID: ref(o.Decoder), VersionID: ref(o.Version),
		Engine: o.Engine, Category: string(o.Category), Fuel: o.Fuel, DurationUS: o.Duration.Microseconds(), Message: o.Message, At: stamp(o.At)}
	if !o.Version.IsZero() {
		j.SHA256 = hex.EncodeToString(o.Hash[:])
	}
	return j
}

// SpanIn is a span of time.
type SpanIn struct {
	From string `query:"from" format:"date-time" doc:"From this time on"`
	To   string `query:"to" format:"date-time" doc:"Before this time"`
}

// UplinkIn names an uplink in the path.
type UplinkIn struct {
	TenantIn
	Uplink string `path:"uplink"`
}

func (a *API) readingRoutes() {
	d := a.o.Disclose
	const at = "/v1/tenants/{tenant}"
	uplinks := func(p access.Permission, state uplink.State) func(ctx context.Context, c *Call, in *struct {
		TenantIn
		ListIn
		SpanIn
		DeviceID string `query:"device_id"`
		SourceID string `query:"source_id"`
	}) (*many[uplinkJSON], error) {
		return func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			SpanIn
			DeviceID string `query:"device_id"`
			SourceID string `query:"source_id"`
		}) (*many[uplinkJSON], error) {
			f := store.UplinkFilter{State: state}
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			for _, err := range []error{body(in.DeviceID, "/query/device_id", &f.Device), body(in.SourceID, "/query/source_id", &f.Source), moment(in.From, "/query/from", &f.From), moment(in.To, "/query/to", &f.To)} {
				if err != nil {
					return nil, err
				}
			}
			page, err := d.Uplinks(ctx, c.Scope, p, q, f)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, uplinkShape), nil
		}
	}
	Register(a, Declaration{Operation: "listUplinks", Method: http.MethodGet, Path: at + "/uplinks", Summary: "List uplinks within reach", Tag: "uplinks", Permission: access.UplinkRead, Object: "uplink", Tenant: FromPath, At: enter.Anywhere}, uplinks(access.UplinkRead, ""))
	Register(a, Declaration{Operation: "listQuarantine", Method: http.MethodGet, Path: at + "/quarantine", Summary: "List uplinks that were refused, with the reason", Tag: "quarantine", Permission: access.QuarantineRead, Object: "uplink", Tenant: FromPath, At: enter.Anywhere}, uplinks(access.QuarantineRead, uplink.Quarantined))
	Register(a, Declaration{Operation: "getUplink", Method: http.MethodGet, Path: at + "/uplinks/{uplink}", Summary: "Read an uplink", Tag: "uplinks", Permission: access.UplinkRead, Object: "uplink", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *UplinkIn) (*one[uplinkJSON], error) {
			var id ident.Uplink
			if err := path(in.Uplink, &id); err != nil {
				return nil, err
			}
			u, err := d.Uplink(ctx, c.Scope, id, access.UplinkRead)
			if err != nil {
				return nil, err
			}
			return &one[uplinkJSON]{ETag: etag(u.Rev), Body: uplinkShape(u)}, nil
		})
	settle := func(p access.Permission, do func(context.Context, *manage.Call, ident.Uplink) (uplink.Uplink, error)) func(ctx context.Context, c *Call, in *UplinkIn) (*one[uplinkJSON], error) {
		return func(ctx context.Context, c *Call, in *UplinkIn) (*one[uplinkJSON], error) {
			var id ident.Uplink
			if err := path(in.Uplink, &id); err != nil {
				return nil, err
			}
			u, err := do(ctx, &c.Call, id)
			u, replayed, err := made(err, u, func(string) (uplink.Uplink, error) { return d.Uplink(ctx, c.Scope, id, p) })
			if err != nil {
				return nil, err
			}
			return &one[uplinkJSON]{ETag: etag(u.Rev), Replayed: replayed, Body: uplinkShape(u)}, nil
		}
	}
	m := a.o.Manage
	Register(a, Declaration{Operation: "replayUplink", Method: http.MethodPost, Path: at + "/uplinks/{uplink}/replay", Summary: "Decode an uplink again whose decode failed", Tag: "uplinks", Permission: access.UplinkReplay, Object: "uplink", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.UplinkReplayed}}, settle(access.UplinkReplay, m.Replay))
	Register(a, Declaration{Operation: "releaseUplink", Method: http.MethodPost, Path: at + "/quarantine/{uplink}/release", Summary: "Process a quarantined uplink again, with every check", Tag: "quarantine", Permission: access.QuarantineRelease, Object: "uplink", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.QuarantineReleased}}, settle(access.QuarantineRelease, m.Release))
	Register(a, Declaration{Operation: "discardUplink", Method: http.MethodPost, Path: at + "/quarantine/{uplink}/discard", Summary: "Give a quarantined uplink up", Tag: "quarantine", Permission: access.QuarantineDiscard, Object: "uplink", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.QuarantineDropped}}, settle(access.QuarantineDiscard, m.Discard))
	Register(a, Declaration{Operation: "listReadings", Method: http.MethodGet, Path: at + "/readings", Summary: "List readings within reach, by device, node subtree and time", Tag: "readings", Permission: access.ReadingRead, Object: "reading", Tenant: FromPath, At: enter.Anywhere},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			SpanIn
			DeviceID string `query:"device_id"`
			NodeID   string `query:"node_id" doc:"This node and all below it"`
		}) (*many[readingJSON], error) {
			var f disclose.ReadingFilter
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			for _, err := range []error{body(in.DeviceID, "/query/device_id", &f.Device), body(in.NodeID, "/query/node_id", &f.Under), moment(in.From, "/query/from", &f.From), moment(in.To, "/query/to", &f.To)} {
				if err != nil {
					return nil, err
				}
			}
			page, err := d.Readings(ctx, c.Scope, q, f)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, readingShape), nil
		})
	Register(a, Declaration{Operation: "getLatestReading", Method: http.MethodGet, Path: devicesPath + "/{device}/latest", Summary: "Read a device's latest reading", Tag: "readings", Permission: access.ReadingRead, Object: "reading", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *DeviceIn) (*struct{ Body readingJSON }, error) {
			var id ident.Device
			if err := path(in.Device, &id); err != nil {
				return nil, err
			}
			r, err := d.Latest(ctx, c.Scope, id)
			if err != nil {
				return nil, err
			}
			return &struct{ Body readingJSON }{readingShape(r)}, nil
		})
	Register(a, Declaration{Operation: "listOutcomes", Method: http.MethodGet, Path: at + "/outcomes", Summary: "List decoder runs within reach", Tag: "outcomes", Permission: access.OutcomeRead, Object: "outcome", Tenant: FromPath, At: enter.Anywhere},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			SpanIn
			EventID   string `query:"event_id"`
			DeviceID  string `query:"device_id"`
			DecoderID string `query:"decoder_id"`
			Category  string `query:"category" enum:"success,fuel,memory,stack,exception,bad-output,load,no-decoder,duplicate,internal"`
		}) (*many[outcomeJSON], error) {
			f := store.OutcomeFilter{Category: decoder.Category(in.Category)}
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			for _, err := range []error{body(in.EventID, "/query/event_id", &f.Uplink), body(in.DeviceID, "/query/device_id", &f.Device), body(in.DecoderID, "/query/decoder_id", &f.Decoder), moment(in.From, "/query/from", &f.From), moment(in.To, "/query/to", &f.To)} {
				if err != nil {
					return nil, err
				}
			}
			page, err := d.Outcomes(ctx, c.Scope, q, f)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, outcomeShape), nil
		})
}
