package store

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/uplink"
)

// The questions that single nouns answer beside Get and List.

// Counted records are those that a tenant may have so many of.
type Counted[K comparable, V any] interface {
	Shelf[K, V]

	// Count is how many records List answers to who reaches everywhere. It takes as long for many of them as for few: it is
	// asked inside the change that adds one.
	Count(ctx context.Context) (int, error)
}

// Named records are found by their name.
//
// Named must answer what List answers, less what has another name: within the reach, in the same order and pages. Names are
// compared byte by byte, as they are where they must be unique.
type Named[K comparable, V any] interface {
	Shelf[K, V]
	Named(ctx context.Context, name string, q Query) (Page[V], error)
}

// Catalogue is both: so many, each with a name. Members' names alone are not unique.
type Catalogue[K comparable, V any] interface {
	Counted[K, V]
	Named[K, V]
}

// Nodes is the org tree. All are few (at most org.MaxNodes alive), so they are had at once. Their names are not unique.
type Nodes interface {
	Named[ident.Node, org.Node]
	All(ctx context.Context) ([]org.Node, error)            // tombstones included, oldest first
	InUse(ctx context.Context, id ident.Node) (bool, error) // living devices, sources or memberships stand on it
}

// Memberships are found by whom they give something.
type Memberships interface {
	Counted[ident.Membership, access.Membership]
	Of(ctx context.Context, p ident.Principal) ([]access.Membership, error)
	OfGroup(ctx context.Context, g ident.Group) ([]access.Membership, error)
	OfRole(ctx context.Context, r ident.Role) ([]access.Membership, error)
}

// Owned records have an owner.
type Owned[K comparable, V any] interface {
	Shelf[K, V]
	Of(ctx context.Context, p ident.Principal) ([]V, error) // newest first
}

// Bearers are access and refresh tokens, found by their family.
type Bearers interface {
	Shelf[ident.Token, credential.Bearer]
	Family(ctx context.Context, s ident.Session) ([]credential.Bearer, error)
}

// Devices are found by address.
type Devices interface {
	Counted[ident.Device, device.Device] // living ones; Get answers tombstones too
	Find(ctx context.Context, q Query, f DeviceFilter) (Page[device.Device], error)
	ByAddress(ctx context.Context, a device.Address) (device.Device, error)            // living ones alone
	AssignedAt(ctx context.Context, id ident.Device, at time.Time) (ident.Node, error) // fault.Missing() if nowhere then
}

// DeviceFilter narrows a list of devices; zero fields do not.
type DeviceFilter struct {
	Nodes   []ident.Node // any of these
	Name    string       // exactly
	State   device.State
	Decoder ident.Decoder
}

// Versions are found by their decoder.
type Versions interface {
	Shelf[ident.Version, decoder.Version]
	Of(ctx context.Context, d ident.Decoder, q Query) (Page[decoder.Version], error) // newest first
	Count(ctx context.Context, d ident.Decoder) (int, error)
}

// Keys are found by their source.
type Keys interface {
	Shelf[ident.Key, credential.IngestionKey]
	Of(ctx context.Context, s ident.Source) ([]credential.IngestionKey, error)
}

// Persons are found by their sign-in name.
//
// ByEmail must do the same work whether the address is somebody's or not: everybody may ask by signing in.
type Persons interface {
	Shelf[ident.Principal, principal.Person]
	ByEmail(ctx context.Context, email string) (principal.Person, error)
}

// Uplinks are rows of the queue and of history.
type Uplinks interface {
	Shelf[ident.Uplink, uplink.Uplink]
	Find(ctx context.Context, q Query, f UplinkFilter) (Page[uplink.Uplink], error)
	Due(ctx context.Context, now time.Time, limit int) ([]uplink.Uplink, error) // accepted and NotBefore <= now, oldest first
	Backlog(ctx context.Context) (int, error)                                   // how many are accepted
}

// UplinkFilter narrows a list of uplinks; zero fields do not. From is inclusive, To is not; both are of ArrivedAt.
type UplinkFilter struct {
	Device   ident.Device
	Source   ident.Source
	State    uplink.State
	From, To time.Time
}

// Readings are ordered by (At, FCnt, Uplink), newest first: those of one moment as the device counted them, in whatever order they
// were written. Without a counter FCnt is 0; it has 32 bits. An uplink has one reading.
type Readings interface {
	Find(ctx context.Context, q Query, f ReadingFilter) (Page[uplink.Reading], error)
	Latest(ctx context.Context, d ident.Device, r access.Reach) (uplink.Reading, error) // the first within reach, in this order
}

// ReadingFilter narrows a list of readings; zero fields do not. From is inclusive, To is not; both are of At.
type ReadingFilter struct {
	Device   ident.Device
	Nodes    []ident.Node
	From, To time.Time
}

// Outcomes are the records of decoder runs.
type Outcomes interface {
	Shelf[ident.Outcome, uplink.Outcome]
	Find(ctx context.Context, q Query, f OutcomeFilter) (Page[uplink.Outcome], error)
}

// OutcomeFilter narrows a list of outcomes; zero fields do not.
type OutcomeFilter struct {
	Uplink   ident.Uplink
	Device   ident.Device
	Decoder  ident.Decoder
	Category decoder.Category
	From, To time.Time // of At
}

// Audit reads the tenant's log.
type Audit interface {
	Head(ctx context.Context) (audit.Head, error)
	Entry(ctx context.Context, seq uint64) (audit.Entry, error)
	Find(ctx context.Context, q Query, f AuditFilter) (Page[audit.Entry], error)                // newest first
	Hashes(ctx context.Context, indexes []int64) ([]audit.Hash, error)                          // by tlog index, in that order
	Checkpoints(ctx context.Context, after uint64, limit int) ([]audit.StoredCheckpoint, error) // of size > after, smallest first
}

// AuditFilter narrows a query of the log; zero fields do not. From and FromSeq are inclusive, To and ToSeq are not. Private
// asks for what the entries' commitments were made of, too, sealed as it was kept: else Entry.Private is nil.
type AuditFilter struct {
	Actor, Action, Target, Outcome string
	Request                        string
	Org                            ident.Node // the target stood at this node or below it, then
	From, To                       time.Time
	FromSeq, ToSeq                 uint64
	Private                        bool
}

// Directory answers what must be asked before a tenant is known. Its tables hold look-up keys alone: no secret, no name, no
// payload. Each method is listed under Decisions in ARCHITECTURE.md. What it points to is read in a View of that tenant.
type Directory interface {
	// Locate finds whose the credential with a public accessor is. fault.Missing() if nobody's.
	Locate(ctx context.Context, accessor string) (Location, error)

	// Waiting lists tenants that have accepted uplinks due at a moment, each with the arrival of its oldest one.
	Waiting(ctx context.Context, now time.Time, limit int) ([]Waiting, error)

	// Chores lists tenants in which something is due for jobs at a moment, each with since when, after one (zero: from the beginning),
	// longest due first, then by id: at once after a Change, and when the first of its counters is over or the first of its rows is
	// there for Expire. Once Rest was called a tenant is not listed before the next of these; what is written meanwhile is never
	// missed. Its cost is that of what it lists, however many tenants there are.
	Chores(ctx context.Context, now time.Time, after Waiting, limit int) ([]Waiting, error)

	// Tenants lists the ids of all tenants with an audit tree, oldest first, after one (zero: from the beginning): for who checks
	// them all.
	Tenants(ctx context.Context, after ident.Tenant, limit int) ([]ident.Tenant, error)
}

// Location says where a credential's record is.
type Location struct {
	Tenant ident.Tenant
	Kind   credential.Kind
	Row    [16]byte // the record's id
}

// Waiting is one tenant with work, and since when it is there; zero: for ever.
type Waiting struct {
	Tenant ident.Tenant
	Oldest time.Time
}
