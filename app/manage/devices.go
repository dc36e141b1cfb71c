package manage

import (
	"context"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/seal"
	"github.com/ringfence/ringfence/ports/store"
)

// VariablePlace is where a device's secret variable is sealed to.
func VariablePlace(t ident.Tenant, d ident.Device, variable string) seal.Place {
	return seal.Place{Tenant: t, Table: "devices", Column: "variables/" + variable, Row: d.String()}
}

// NewVariable is a variable as it is given; a secret one is sealed before it is kept and never answered.
type NewVariable struct {
	Name   string
	Value  *secret.Text // nil: none is given, which is right of a secret one that is kept
	Secret bool
}

// NewDevice is what a device is made of. A zero node is the root.
type NewDevice struct {
	Name      string
	Addresses []device.Address
	Node      ident.Node
	Decoder   ident.Decoder
	Variables []NewVariable
}

// Device answers one device.
func (m *Manage) Device(ctx context.Context, s access.Scope, id ident.Device) (device.Device, error) {
	var d device.Device
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		d, err = r.Devices().Get(ctx, id)
		return err
	})
	if err == nil && !d.DeletedAt.IsZero() {
		err = fault.Missing()
	}
	if err == nil {
		err = s.Require(access.DeviceRead, d.Node)
	}
	return d, err
}

// Devices lists the devices within reach.
func (m *Manage) Devices(ctx context.Context, s access.Scope, q store.Query, f store.DeviceFilter) (store.Page[device.Device], error) {
	var page store.Page[device.Device]
	q.Reach = s.Reach(access.DeviceRead)
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		page, err = r.Devices().Find(ctx, q, f)
		return err
	})
	return page, err
}

// seal makes a device's variables of what is given and of those that it has.
func (m *Manage) seal(ctx context.Context, t ident.Tenant, d ident.Device, in []NewVariable, has []device.Variable) ([]device.Variable, error) {
	if len(in) > device.MaxVariables {
		return nil, fault.New(fault.Invalid, "too_many_variables", "A device has at most %d variables.", device.MaxVariables).WithField("/variables", "too many")
	}
	out := make([]device.Variable, 0, len(in))
	for i, v := range in {
		at := "/variables/" + num(i)
		if name(v.Name) != nil || slices.ContainsFunc(out, func(o device.Variable) bool { return o.Name == v.Name }) {
			return nil, fault.New(fault.Invalid, "bad_variable", "A variable has a name of its own.").WithField(at+"/name", "no name, or stands twice")
		}
		kept := device.Variable{Name: v.Name, Secret: v.Secret}
		old := slices.IndexFunc(has, func(o device.Variable) bool { return o.Name == v.Name && o.Secret && v.Secret })
		switch {
		case v.Value == nil && old >= 0:
			kept = has[old]
		case v.Value == nil:
			return nil, fault.New(fault.Invalid, "bad_variable", "A variable has a value, which is left out alone where the device keeps a secret of this name as a secret.").WithField(at+"/value", "missing")
		case len(v.Value.Reveal()) > 1024, v.Secret && v.Value.IsZero():
			return nil, fault.New(fault.Invalid, "bad_variable", "A variable's value has at most 1024 bytes, and a secret's at least one.").WithField(at+"/value", "too long, or an empty secret")
		case v.Secret:
			var err error
			if kept.Sealed, err = m.enter.Sealer.Seal(ctx, VariablePlace(t, d, v.Name), []byte(v.Value.Reveal())); err != nil {
				return nil, err
			}
		default:
			kept.Value = v.Value.Reveal()
		}
		out = append(out, kept)
	}
	return out, nil
}

func checkDevice(ctx context.Context, w store.Writer, d device.Device) error {
	if err := name(d.Name); err != nil {
		return err
	}
	if len(d.Addresses) == 0 || len(d.Addresses) > device.MaxAddresses {
		return fault.New(fault.Invalid, "bad_addresses", "A device has 1 to %d addresses.", device.MaxAddresses).WithField("/addresses", "none, or too many")
	}
	for i, a := range d.Addresses {
		if slices.Contains(d.Addresses[:i], a) {
			return fault.New(fault.Invalid, "bad_addresses", "An address stands once in a device's list.").WithField("/addresses/"+num(i), "stands twice")
		}
	}
	if !d.Decoder.IsZero() {
		if _, err := w.Decoders().Get(ctx, d.Decoder); err != nil {
			return refer(err, "/decoder_id", "decoder")
		}
	}
	return living(ctx, w.Read(), d.Node)
}

// CreateDevice registers a device.
func (m *Manage) CreateDevice(ctx context.Context, c *Call, in NewDevice) (device.Device, error) {
	fresh, ev, err := m.newDevice(ctx, c, in)
	if err != nil {
		return device.Device{}, err
	}
	var made device.Device
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		if err := room(ctx, "devices", c.limits.Devices, w.Read().Devices()); err != nil {
			return "", nil, err
		}
		if err := checkDevice(ctx, w, fresh); err != nil {
			return "", nil, err
		}
		var err error
		made, err = w.Devices().Put(ctx, fresh)
		return fresh.ID.String(), []audit.Event{ev}, err
	})
	return made, err
}

func (m *Manage) newDevice(ctx context.Context, c *Call, in NewDevice) (device.Device, audit.Event, error) {
	if in.Node.IsZero() {
		in.Node = c.Scope.Policy().Root()
	}
	if err := c.Scope.Require(access.DeviceCreate, in.Node); err != nil {
		return device.Device{}, audit.Event{}, refer(err, "/node_id", "node")
	}
	now := m.now()
	fresh := device.Device{Name: in.Name, Addresses: in.Addresses, Node: in.Node, Decoder: in.Decoder, State: device.Active, CreatedAt: now, UpdatedAt: now}
	ident.Fresh(m.enter.Mint, &fresh.ID)
	var err error
	if fresh.Variables, err = m.seal(ctx, c.Scope.Tenant(), fresh.ID, in.Variables, nil); err != nil {
		return fresh, audit.Event{}, err
	}
	ev, err := m.event(ctx, c, audit.DeviceCreated, deviceTarget(c, fresh), deviceChanges(device.Device{}, fresh)...)
	return fresh, ev, err
}

func deviceTarget(c *Call, d device.Device) audit.Target {
	return enter.Target("device", d.ID, c.Scope.Path(d.Node)...)
}

func deviceChanges(was, is device.Device) []audit.Change {
	variables := audit.Set("variables", "", "")
	if !sameVariables(was.Variables, is.Variables) {
		variables = audit.Set("variables", "", "changed")
	}
	return []audit.Change{
		audit.Set("name", was.Name, is.Name), audit.Set("node", was.Node.String(), is.Node.String()), audit.Set("decoder", was.Decoder.String(), is.Decoder.String()),
		audit.Set("state", string(was.State), string(is.State)), audit.Set("addresses", addresses(was.Addresses), addresses(is.Addresses)), variables,
	}
}

func addresses(as []device.Address) string {
	words := make([]string, len(as))
	for i, a := range as {
		words[i] = string(a.Kind) + "=" + a.Value
	}
	return strings.Join(words, " ")
}

// DevicePatch is what may be changed of a device in place; nil leaves a part as it is.
type DevicePatch struct {
	Name      *string
	Addresses *[]device.Address
	Decoder   *ident.Decoder
	State     *device.State
	Variables *[]NewVariable // all of them; a secret one without a value keeps the value it has
}

// UpdateDevice changes a device.
func (m *Manage) UpdateDevice(ctx context.Context, c *Call, id ident.Device, rev uint64, p DevicePatch) (device.Device, error) {
	return m.changeDevice(ctx, c, id, rev, access.DeviceUpdate, audit.DeviceUpdated, func(ctx context.Context, d *device.Device) error {
		if p.Name != nil {
			d.Name = *p.Name
		}
		if p.Addresses != nil {
			d.Addresses = *p.Addresses
		}
		if p.Decoder != nil {
			d.Decoder = *p.Decoder
		}
		if p.State != nil {
			if *p.State != device.Active && *p.State != device.Disabled {
				return fault.New(fault.Invalid, "bad_state", "A device's state is active or disabled.").WithField("/state", "unknown state")
			}
			d.State = *p.State
		}
		if p.Variables == nil {
			return nil
		}
		var err error
		d.Variables, err = m.seal(ctx, c.Scope.Tenant(), id, *p.Variables, d.Variables)
		return err
	})
}

// AssignDevice moves a device to another node: what it says from now on is ruled there. It takes the permission at both
// places.
func (m *Manage) AssignDevice(ctx context.Context, c *Call, id ident.Device, rev uint64, to ident.Node) (device.Device, error) {
	if err := c.Scope.Require(access.DeviceAssign, to); err != nil {
		return device.Device{}, refer(err, "/node_id", "node")
	}
	return m.changeDevice(ctx, c, id, rev, access.DeviceAssign, audit.DeviceAssigned, func(_ context.Context, d *device.Device) error {
		d.Node = to
		return nil
	})
}

// DeleteDevice makes a device a tombstone: its readings stay readable where they were made, its addresses are free again.
func (m *Manage) DeleteDevice(ctx context.Context, c *Call, id ident.Device, rev uint64) error {
	_, err := m.changeDevice(ctx, c, id, rev, access.DeviceDelete, audit.DeviceDeleted, func(_ context.Context, d *device.Device) error {
		d.DeletedAt, d.Variables = m.now(), nil
		return nil
	})
	return err
}

func (m *Manage) changeDevice(ctx context.Context, c *Call, id ident.Device, rev uint64, p access.Permission, a audit.Action, edit func(context.Context, *device.Device) error) (device.Device, error) {
	var out device.Device
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		d, err := w.Devices().Get(ctx, id)
		if err == nil && !d.DeletedAt.IsZero() {
			err = fault.Missing()
		}
		if err != nil {
			return nil, err
		}
		if err := c.Scope.Require(p, d.Node); err != nil {
			return nil, err
		}
		if d.Rev != rev {
			return nil, store.ErrRevision
		}
		was := d
		if err := edit(ctx, &d); err != nil {
			return nil, err
		}
		if d.DeletedAt.IsZero() {
			if err := checkDevice(ctx, w, d); err != nil {
				return nil, err
			}
		}
		if sameDevice(was, d) {
			out = was
			return nil, errUnchanged
		}
		d.UpdatedAt = m.now()
		if out, err = w.Devices().Put(ctx, d); err != nil {
			return nil, err
		}
		is := d
		if !d.DeletedAt.IsZero() {
			is = device.Device{} // so that the entry tells all that is gone
		}
		return one(m.event(ctx, c, a, deviceTarget(c, d), deviceChanges(was, is)...))
	})
	return out, err
}

func sameDevice(a, b device.Device) bool {
	return a.Name == b.Name && slices.Equal(a.Addresses, b.Addresses) && a.Node == b.Node && a.Decoder == b.Decoder && a.State == b.State &&
		a.DeletedAt.Equal(b.DeletedAt) && sameVariables(a.Variables, b.Variables)
}

func sameVariables(a, b []device.Variable) bool {
	return slices.EqualFunc(a, b, func(x, y device.Variable) bool {
		return x.Name == y.Name && x.Value == y.Value && x.Secret == y.Secret && slices.Equal(x.Sealed, y.Sealed)
	})
}

// ImportRow is one row of a bulk import, as an adapter read it: either a device or what was wrong with it.
type ImportRow struct {
	Row    int // the line on which it begins
	Device NewDevice
	Error  *device.RowError
}

// ImportDevices registers many devices at a node. Rows stand for themselves: a bad one is told in the import's errors, and
// the others are created. All that is created is one change, with an entry for the import and one for each device.
func (m *Manage) ImportDevices(ctx context.Context, c *Call, at ident.Node, rows []ImportRow) (device.Import, error) {
	if at.IsZero() {
		at = c.Scope.Policy().Root()
	}
	if err := c.Scope.Require(access.DeviceImport, at); err != nil {
		return device.Import{}, refer(err, "/node_id", "node")
	}
	if len(rows) == 0 || len(rows) > device.MaxImportRows {
		return device.Import{}, fault.New(fault.Invalid, "bad_import", "An import has 1 to %d rows below its header.", device.MaxImportRows)
	}
	now := m.now()
	fresh := device.Import{Node: at, Rows: len(rows), CreatedAt: now, UpdatedAt: now}
	ident.Fresh(m.enter.Mint, &fresh.ID)
	devices, events := make([]device.Device, len(rows)), make([]audit.Event, len(rows)) // sealed before the transaction, which others wait for
	for i, row := range rows {
		if row.Error != nil {
			continue
		}
		d := device.Device{Name: row.Device.Name, Addresses: row.Device.Addresses, Node: at, Decoder: row.Device.Decoder, State: device.Active, CreatedAt: now, UpdatedAt: now}
		ident.Fresh(m.enter.Mint, &d.ID)
		var err error
		if d.Variables, err = m.seal(ctx, c.Scope.Tenant(), d.ID, row.Device.Variables, nil); err != nil {
			return device.Import{}, err
		}
		if events[i], err = m.event(ctx, c, audit.DeviceCreated, deviceTarget(c, d), deviceChanges(device.Device{}, d)...); err != nil {
			return device.Import{}, err
		}
		devices[i] = d
	}
	var out device.Import
	err := m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		im := fresh
		var created []audit.Event
		n, err := w.Read().Devices().Count(ctx)
		if err != nil {
			return "", nil, err
		}
		if err := full("devices", c.limits.Devices, n+len(rows)-1); err != nil {
			return "", nil, err
		}
		wrong := func(e device.RowError) {
			im.Failed++
			if len(im.Errors) < device.MaxRowErrors {
				im.Errors = append(im.Errors, e)
			}
		}
		for i, row := range rows {
			if row.Error != nil {
				wrong(*row.Error)
				continue
			}
			d := devices[i]
			err := checkDevice(ctx, w, d)
			if err == nil {
				err = m.free(ctx, w, d.Addresses)
			}
			if err == nil {
				_, err = w.Devices().Put(ctx, d)
			}
			switch f := fault.As(err); {
			case err == nil:
				im.Created++
				created = append(created, events[i])
			case f != nil && (f.Kind == fault.Invalid || f.Kind == fault.Conflict):
				wrong(device.RowError{Row: row.Row, Detail: f.Message})
			default:
				return "", nil, err
			}
		}
		if out, err = w.Imports().Put(ctx, im); err != nil {
			return "", nil, err
		}
		ev, err := m.event(ctx, c, audit.DevicesImport, enter.Target("import", im.ID, c.Scope.Path(at)...),
			audit.Set("rows", "", num(im.Rows)), audit.Set("created", "", num(im.Created)), audit.Set("failed", "", num(im.Failed)), audit.Set("node", "", at.String()))
		return im.ID.String(), append(created, ev), err
	})
	return out, err
}

// free looks for an address's owner before the device is written, so that a row that fails leaves nothing half written.
func (m *Manage) free(ctx context.Context, w store.Writer, as []device.Address) error {
	for _, a := range as {
		if _, err := w.Read().Devices().ByAddress(ctx, a); err == nil {
			return fault.New(fault.Conflict, "taken", "Another device of this tenant has this address already. An address belongs to one device.")
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return nil
}

func importShelf(r store.Reader) store.Shelf[ident.Import, device.Import] { return r.Imports() }

// Import answers what became of a bulk import.
func (m *Manage) Import(ctx context.Context, s access.Scope, id ident.Import) (device.Import, error) {
	im, err := get(ctx, m, s, importShelf, id)
	if err == nil {
		err = s.Require(access.DeviceRead, im.Node)
	}
	return im, err
}
