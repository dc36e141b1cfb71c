// Package device holds what speaks: a device, its addresses, where it is assigned and what its decoder is given.
package device

import (
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// State is whether a device's uplinks are processed.
type State string

// The states.
const (
	Active   State = "active"
	Disabled State = "disabled"
)

// Bounds of one device.
const (
	MaxAddresses = 8
	MaxVariables = 64
	MaxName      = 200
)

// Device is a thing that sends uplinks. It always stands on a node: the root, unless another was given.
type Device struct {
	ID        ident.Device
	Rev       uint64
	Name      string
	Addresses []Address // unique in the tenant
	Node      ident.Node
	Decoder   ident.Decoder // zero: none, its uplinks are kept undecoded
	State     State
	Variables []Variable
	LastSeen  time.Time // newest receive time of its uplinks; written by Flow, so it does not change Rev
	DeletedAt time.Time // zero: alive; a tombstone keeps its readings' history readable and its id taken
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Variable is given to the device's decoder. A secret one is kept sealed in Sealed, and Value is empty.
type Variable struct {
	Name   string
	Value  string
	Secret bool
	Sealed []byte
}

// Assignment says that a device stood on a node from a moment on, by our clock. The newest one not after an uplink's
// arrival rules the uplink: a device that changes hands takes no history along.
type Assignment struct {
	Device ident.Device
	Node   ident.Node
	From   time.Time
}

// Import is a bulk import of devices: its counts and the errors of its rows.
type Import struct {
	ID        ident.Import
	Rev       uint64
	Node      ident.Node
	Rows      int
	Created   int
	Failed    int
	Errors    []RowError // at most MaxRowErrors
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Bounds of one import. It is one change, which on a store with one writer keeps everybody else's waiting: a thousand rows for a
// fifth of a second.
const (
	MaxImportRows = 1_000
	MaxRowErrors  = 1_000
)

// RowError says what was wrong with one row, without echoing it.
type RowError struct {
	Row    int    // the line on which it begins; the header is on line 1
	Column string // empty: the row as a whole
	Detail string
}
