package httpapi

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/store"
)

type addressJSON struct {
	Kind  string `json:"kind" enum:"dev_eui,serial" example:"dev_eui"`
	Value string `json:"value" maxLength:"64" example:"70b3d57ed0000001"`
}

type variableJSON struct {
	Name   string  `json:"name" minLength:"1" maxLength:"200"`
	Value  *string `json:"value,omitempty" maxLength:"1024" doc:"Never answered for a secret one"`
	Secret bool    `json:"secret,omitempty"`
	Set    *bool   `json:"set,omitempty" readOnly:"true" doc:"True: it has a value. May be sent back as it was read"`
}

type deviceJSON struct {
	Common
	Name       string         `json:"name"`
	Addresses  []addressJSON  `json:"addresses"`
	NodeID     string         `json:"node_id"`
	DecoderID  *string        `json:"decoder_id"`
	State      string         `json:"state" enum:"active,disabled"`
	Variables  []variableJSON `json:"variables"`
	LastSeenAt *string        `json:"last_seen_at" format:"date-time"`
}

func deviceShape(d device.Device) deviceJSON {
	out := deviceJSON{Common: Common{d.ID.String(), d.Rev, stamp(d.CreatedAt), stamp(d.UpdatedAt)}, Name: d.Name, NodeID: d.Node.String(), DecoderID: ref(d.Decoder),
		State: string(d.State), LastSeenAt: maybe(d.LastSeen), Addresses: []addressJSON{}, Variables: []variableJSON{}}
	for _, a := range d.Addresses {
		out.Addresses = append(out.Addresses, addressJSON{string(a.Kind), a.Value})
	}
	for _, v := range d.Variables {
		set := true
		j := variableJSON{Name: v.Name, Secret: v.Secret, Set: &set}
		if !v.Secret {
			j.Value = &v.Value
		}
		out.Variables = append(out.Variables, j)
	}
	return out
}

func addressesOf(in []addressJSON) ([]device.Address, error) {
	out := make([]device.Address, len(in))
	for i, a := range in {
		var err error
		if out[i], err = device.ParseAddress(device.AddressKind(a.Kind), a.Value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func variablesOf(in []variableJSON) ([]manage.NewVariable, error) {
	out := make([]manage.NewVariable, len(in))
	for i, v := range in {
		out[i] = manage.NewVariable{Name: v.Name, Secret: v.Secret}
		if v.Value != nil {
			value := secret.New(*v.Value)
			out[i].Value = &value
		}
		if v.Set != nil && !*v.Set {
			return nil, fault.New(fault.Invalid, "bad_variable", "A variable that stands in the list is set. Leave one out to take it away.").WithField(fmt.Sprintf("/variables/%d/set", i), "can only be true")
		}
	}
	return out, nil
}

// DeviceIn names a device in the path.
type DeviceIn struct {
	TenantIn
	Device string `path:"device"`
}

const devicesPath = "/v1/tenants/{tenant}/devices"

func (a *API) deviceRoutes() {
	m := a.o.Manage
	answer := func(c *Call, d device.Device) *one[deviceJSON] {
		return &one[deviceJSON]{ETag: etag(d.Rev), Authz: c.authz(), Body: deviceShape(d)}
	}
	get := func(ctx context.Context, c *Call, s string) (d device.Device, err error) {
		var id ident.Device
		if err = path(s, &id); err == nil {
			d, err = m.Device(ctx, c.Scope, id)
		}
		return d, err
	}
	Register(a, Declaration{Operation: "listDevices", Method: http.MethodGet, Path: devicesPath, Summary: "List the devices within reach", Tag: "devices", Permission: access.DeviceRead, Object: "device", Tenant: FromPath, At: enter.Anywhere},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			NamedIn
			NodeID  string `query:"node_id" doc:"This node and all below it"`
			State   string `query:"state" enum:"active,disabled"`
			Decoder string `query:"decoder_id"`
		}) (*many[deviceJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			f := store.DeviceFilter{Name: in.Name, State: device.State(in.State)}
			var under ident.Node
			if err := body(in.NodeID, "/query/node_id", &under); err != nil {
				return nil, err
			}
			if err := body(in.Decoder, "/query/decoder_id", &f.Decoder); err != nil {
				return nil, err
			}
			if !under.IsZero() {
				if f.Nodes = c.Scope.Policy().Below(under); f.Nodes == nil {
					return paged(c, nil, "", deviceShape), nil
				}
			}
			page, err := m.Devices(ctx, c.Scope, q, f)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, deviceShape), nil
		})
	Register(a, Declaration{Operation: "createDevice", Method: http.MethodPost, Path: devicesPath, Summary: "Register a device", Tag: "devices", Permission: access.DeviceCreate, Object: "device", Tenant: FromPath, At: enter.Anywhere, Audit: []audit.Action{audit.DeviceCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				Name      string         `json:"name" minLength:"1" maxLength:"200" example:"pump 12"`
				Addresses []addressJSON  `json:"addresses" minItems:"1" maxItems:"8"`
				NodeID    string         `json:"node_id,omitempty" doc:"Absent: the root"`
				DecoderID string         `json:"decoder_id,omitempty"`
				Variables []variableJSON `json:"variables,omitempty" maxItems:"64"`
			}
		}) (*one[deviceJSON], error) {
			n := manage.NewDevice{Name: in.Body.Name}
			var err error
			if n.Variables, err = variablesOf(in.Body.Variables); err == nil {
				n.Addresses, err = addressesOf(in.Body.Addresses)
			}
			if err == nil {
				err = body(in.Body.NodeID, "/node_id", &n.Node)
			}
			if err == nil {
				err = body(in.Body.DecoderID, "/decoder_id", &n.Decoder)
			}
			if err != nil {
				return nil, err
			}
			d, err := m.CreateDevice(ctx, &c.Call, n)
			d, replayed, err := made(err, d, func(s string) (device.Device, error) { return get(ctx, c, s) })
			if err != nil {
				return nil, err
			}
			out := answer(c, d)
			out.Replayed, out.Location = replayed, "/v1/tenants/"+in.Tenant+"/devices/"+d.ID.String()
			return out, nil
		})
	Register(a, Declaration{Operation: "getDevice", Method: http.MethodGet, Path: devicesPath + "/{device}", Summary: "Read a device", Tag: "devices", Permission: access.DeviceRead, Object: "device", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *DeviceIn) (*one[deviceJSON], error) {
			d, err := get(ctx, c, in.Device)
			if err != nil {
				return nil, err
			}
			return answer(c, d), nil
		})
	Register(a, Declaration{Operation: "updateDevice", Method: http.MethodPatch, Path: devicesPath + "/{device}", Summary: "Change a device", Tag: "devices", Permission: access.DeviceUpdate, Object: "device", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.DeviceUpdated}},
		func(ctx context.Context, c *Call, in *struct {
			DeviceIn
			MatchIn
			Body struct {
				Name      *string         `json:"name,omitempty" minLength:"1" maxLength:"200"`
				Addresses *[]addressJSON  `json:"addresses,omitempty" minItems:"1" maxItems:"8"`
				DecoderID removable       `json:"decoder_id,omitempty" doc:"Null: none"`
				State     *string         `json:"state,omitempty" enum:"active,disabled"`
				Variables *[]variableJSON `json:"variables,omitempty" maxItems:"64" doc:"All of them; a secret one without a value keeps its value"`
			}
		}) (*one[deviceJSON], error) {
			var id ident.Device
			rev, err := target(in.Device, in.IfMatch, &id)
			if err != nil {
				return nil, err
			}
			p := manage.DevicePatch{Name: in.Body.Name, State: (*device.State)(in.Body.State)}
			if in.Body.Addresses != nil {
				as, err := addressesOf(*in.Body.Addresses)
				if err != nil {
					return nil, err
				}
				p.Addresses = &as
			}
			if in.Body.DecoderID.Named {
				p.Decoder = new(ident.Decoder)
				if err := body(in.Body.DecoderID.Value, "/decoder_id", p.Decoder); err != nil {
					return nil, err
				}
			}
			if in.Body.Variables != nil {
				vs, err := variablesOf(*in.Body.Variables)
				if err != nil {
					return nil, err
				}
				p.Variables = &vs
			}
			d, err := m.UpdateDevice(ctx, &c.Call, id, rev, p)
			if err != nil {
				return nil, err
			}
			return answer(c, d), nil
		})
	Register(a, Declaration{Operation: "assignDevice", Method: http.MethodPost, Path: devicesPath + "/{device}/assign", Summary: "Assign a device to another node", Tag: "devices", Permission: access.DeviceAssign, Object: "device", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.DeviceAssigned}},
		func(ctx context.Context, c *Call, in *struct {
			DeviceIn
			MatchIn
			Body struct {
				NodeID string `json:"node_id" example:"nod_06ethoo0000000000000000000"`
			}
		}) (*one[deviceJSON], error) {
			var id ident.Device
			var to ident.Node
			rev, err := target(in.Device, in.IfMatch, &id)
			if err == nil {
				err = body(in.Body.NodeID, "/node_id", &to)
			}
			if err != nil {
				return nil, err
			}
			d, err := m.AssignDevice(ctx, &c.Call, id, rev, to)
			d, replayed, err := made(err, d, func(string) (device.Device, error) { return m.Device(ctx, c.Scope, id) })
			if err != nil {
				return nil, err
			}
			out := answer(c, d)
			out.Replayed = replayed
			return out, nil
		})
	Register(a, Declaration{Operation: "deleteDevice", Method: http.MethodDelete, Path: devicesPath + "/{device}", Summary: "Delete a device; its readings stay", Tag: "devices", Permission: access.DeviceDelete, Object: "device", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.DeviceDeleted}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			DeviceIn
			MatchIn
		}) (*none, error) {
			var id ident.Device
			rev, err := target(in.Device, in.IfMatch, &id)
			if err == nil {
				err = m.DeleteDevice(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
	a.importRoutes(m)
}

type importJSON struct {
	Common
	NodeID  string           `json:"node_id"`
	Rows    int              `json:"rows"`
	Created int              `json:"created"`
	Failed  int              `json:"failed"`
	Errors  []importRowError `json:"errors"`
}

type importRowError struct {
	Row    int    `json:"row"`
	Column string `json:"column,omitempty"`
	Detail string `json:"detail"`
}

func importShape(im device.Import) importJSON {
	out := importJSON{Common: Common{im.ID.String(), im.Rev, stamp(im.CreatedAt), stamp(im.UpdatedAt)}, NodeID: im.Node.String(), Rows: im.Rows, Created: im.Created, Failed: im.Failed, Errors: []importRowError{}}
	for _, e := range im.Errors {
		out.Errors = append(out.Errors, importRowError(e))
	}
	return out
}

func (a *API) importRoutes(m *manage.Manage) {
	const at = "/v1/tenants/{tenant}/imports"
	get := func(ctx context.Context, c *Call, s string) (im device.Import, err error) {
		var id ident.Import
		if err = path(s, &id); err == nil {
			im, err = m.Import(ctx, c.Scope, id)
		}
		return im, err
	}
	Register(a, Declaration{Operation: "importDevices", Method: http.MethodPost, Path: at, Summary: "Register many devices from CSV (columns name, dev_eui or serial, decoder_id)", Tag: "imports", Permission: access.DeviceImport, Object: "import", Tenant: FromPath, At: enter.Anywhere, Audit: []audit.Action{audit.DevicesImport, audit.DeviceCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				NodeID string `json:"node_id,omitempty" doc:"Where all of them stand; absent: the root"`
				CSV    string `json:"csv" maxLength:"1000000" example:"name,dev_eui\npump 1,70b3d57ed0000001\n"`
			}
		}) (*one[importJSON], error) {
			var node ident.Node
			if err := body(in.Body.NodeID, "/node_id", &node); err != nil {
				return nil, err
			}
			rows, err := csvRows(in.Body.CSV)
			if err != nil {
				return nil, err
			}
			im, err := m.ImportDevices(ctx, &c.Call, node, rows)
			im, replayed, err := made(err, im, func(s string) (device.Import, error) { return get(ctx, c, s) })
			if err != nil {
				return nil, err
			}
			return &one[importJSON]{ETag: etag(im.Rev), Replayed: replayed, Location: "/v1/tenants/" + in.Tenant + "/imports/" + im.ID.String(), Body: importShape(im)}, nil
		})
	Register(a, Declaration{Operation: "getImport", Method: http.MethodGet, Path: at + "/{import}", Summary: "Read what became of an import", Tag: "imports", Permission: access.DeviceRead, Object: "import", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Import string `path:"import"`
		}) (*one[importJSON], error) {
			im, err := get(ctx, c, in.Import)
			if err != nil {
				return nil, err
			}
			return &one[importJSON]{ETag: etag(im.Rev), Body: importShape(im)}, nil
		})
}

// csvRows reads an import's table. A row that is wrong, be it in its form, is a row with an error at its line; a table without
// a header is none.
func csvRows(text string) ([]manage.ImportRow, error) {
	bad := func(detail string) error {
		return fault.New(fault.Invalid, "bad_csv", "The table cannot be read: %s.", detail).WithField("/csv", detail)
	}
	r := csv.NewReader(bytes.NewReader([]byte(strings.TrimPrefix(text, "\ufeff"))))
	header, err := r.Read()
	if err != nil {
		return nil, bad("it has no header")
	}
	columns := map[string]int{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if _, ok := columns[name]; ok || (name != "name" && name != "dev_eui" && name != "serial" && name != "decoder_id") {
			return nil, bad("its columns are name, dev_eui, serial and decoder_id, each once")
		}
		columns[name] = i
	}
	var rows []manage.ImportRow
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if len(rows) >= device.MaxImportRows {
			return nil, bad(fmt.Sprintf("it has more than %d rows below its header", device.MaxImportRows))
		}
		if err != nil {
			wrong := device.RowError{Detail: "The row does not have the header's number of fields."}
			if form := (*csv.ParseError)(nil); errors.As(err, &form) {
				wrong.Row = form.StartLine
			}
			if !errors.Is(err, csv.ErrFieldCount) {
				wrong.Detail = "The row has a quote that does not belong there, or that is never closed."
			}
			rows = append(rows, manage.ImportRow{Row: wrong.Row, Error: &wrong})
			continue
		}
		n, _ := r.FieldPos(0)
		cell := func(column string) string {
			if i, ok := columns[column]; ok {
				return strings.TrimSpace(record[i])
			}
			return ""
		}
		row := manage.ImportRow{Row: n, Device: manage.NewDevice{Name: cell("name")}}
		for _, kind := range []device.AddressKind{device.DevEUI, device.Serial} {
			if v := cell(string(kind)); v != "" {
				a, err := device.ParseAddress(kind, v)
				if err != nil {
					row.Error = &device.RowError{Row: n, Column: string(kind), Detail: err.Error()}
				}
				row.Device.Addresses = append(row.Device.Addresses, a)
			}
		}
		if err := body(cell("decoder_id"), "/csv", &row.Device.Decoder); err != nil {
			row.Error = &device.RowError{Row: n, Column: "decoder_id", Detail: err.Error()}
		}
		rows = append(rows, row)
	}
}
