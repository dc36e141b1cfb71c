// Package tenant holds the hard wall's own record: a tenant, its lifecycle and its limits. Every other record belongs to
// exactly one tenant; which one is never a field of it but the Scope it is reached through.
package tenant

import (
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// State is where a tenant is in its life.
type State string

// The states. Deleted is for ever: a tenant's id is never reborn.
const (
	Active    State = "active"
	Suspended State = "suspended"
	Deleted   State = "deleted"
)

// Tenant is a tenant's own record. A copy of it, written in the same transaction, is the platform's register: so that the
// operator can list tenants without entering one.
type Tenant struct {
	ID        ident.Tenant
	Rev       uint64
	Name      string
	State     State
	Root      ident.Node
	CreatedAt time.Time
	UpdatedAt time.Time

	// KafkaOutput is that the tenant wants its decoded events in a Kafka topic of its own. It gets them from when an operator has
	// made the topic.
	KafkaOutput bool
}

// Admit says whether the tenant may be entered, with the reason if not: members of a suspended tenant are told so,
// everybody else sees what is missing.
func (t Tenant) Admit(member bool) error {
	switch {
	case t.State == Active:
		return nil
	case t.State == Suspended && member:
		return fault.New(fault.Denied, "tenant_suspended", "This tenant is suspended. Ask the platform's operator to resume it.")
	case t.State == Deleted && member:
		return fault.New(fault.Denied, "tenant_deleted", "This tenant was deleted, and cannot be entered any more.")
	default:
		return fault.Missing()
	}
}

// MayBecome checks a change of state: active and suspended change into each other, both may be deleted.
func (t Tenant) MayBecome(s State) error {
	if t.State == Deleted || t.State == s {
		return fault.New(fault.Conflict, "tenant_state", "The tenant is %s already; this change does not apply to it.", t.State)
	}
	return nil
}
