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
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
)

// Reader reads one tenant's records. It has no writing method: a read that writes does not compile. People, sessions and
// what belongs to them are the platform's records; asked for under another tenant's scope they are simply not there.
type Reader interface {
	Revision(ctx context.Context) (uint64, error) // the tenant's policy revision; 0 if nothing was ever written
	Policy(ctx context.Context) (access.Records, error)

	Tenants() Shelf[ident.Tenant, tenant.Tenant] // platform: the register of all; tenant: its own record alone
	Limits() Shelf[ident.Tenant, Limits]         // platform: what each tenant was granted beyond the server's settings
	Mappings() Mappings                          // platform: whose the applications of its connections are
	Tenures() Shelf[[32]byte, source.Tenure]     // platform: who had them whose mappings ended

	Nodes() Nodes
	Roles() Catalogue[ident.Role, access.Role]
	Groups() Catalogue[ident.Group, access.Group]
	Memberships() Memberships
	Members() Catalogue[ident.Principal, principal.Member]
	Invitations() Counted[ident.Link, principal.Invitation]
	Tokens() Owned[ident.Token, credential.PAT]

	Devices() Devices
	Imports() Shelf[ident.Import, device.Import]
	Decoders() Catalogue[ident.Decoder, decoder.Decoder]
	Versions() Versions
	Sources() Catalogue[ident.Source, source.Source]
	Keys() Keys

	Uplinks() Uplinks
	Readings() Readings
	Outcomes() Outcomes
	Audit() Audit

	Persons() Persons
	Sessions() Owned[ident.Session, credential.Session]
	Bearers() Bearers
	Links() Owned[ident.Link, credential.Link]
	Failures(ctx context.Context, key string) (principal.Failure, error) // the zero count if there is none
	Claims() Shelf[[32]byte, Claim]
	Folds(ctx context.Context, before time.Time, limit int) ([]Fold, error) // counters whose bucket has ended, oldest first
}

// Writer also writes them. It reads its own writes.
type Writer interface {
	Revision() uint64 // the revision that this change will have if it commits; known once a policy record was written
	Read() Reader

	Tenants() Records[ident.Tenant, tenant.Tenant]
	Limits() Records[ident.Tenant, Limits]
	Mappings() Records[ident.Mapping, source.Mapping]
	Tenures() Records[[32]byte, source.Tenure]

	Nodes() Records[ident.Node, org.Node]
	Roles() Records[ident.Role, access.Role]
	Groups() Records[ident.Group, access.Group]
	Memberships() Records[ident.Membership, access.Membership]
	Members() Records[ident.Principal, principal.Member]
	Invitations() Records[ident.Link, principal.Invitation]
	Tokens() Records[ident.Token, credential.PAT]

	Devices() Records[ident.Device, device.Device] // Put records an Assignment, at UpdatedAt, when the node is new
	Imports() Records[ident.Import, device.Import]
	Decoders() Records[ident.Decoder, decoder.Decoder]
	Versions() Records[ident.Version, decoder.Version] // Put of a Rev that is not 0 is refused: versions are immutable
	Sources() Records[ident.Source, source.Source]
	Keys() Records[ident.Key, credential.IngestionKey]

	// Settle moves an uplink between quarantined, accepted, failed and discarded by an administrator's act, comparing Rev.
	Settle(ctx context.Context, u uplink.Uplink) (uplink.Uplink, error)

	Persons() Records[ident.Principal, principal.Person]
	Sessions() Records[ident.Session, credential.Session]
	Bearers() Records[ident.Token, credential.Bearer]
	Links() Records[ident.Link, credential.Link]
	Claims() Records[[32]byte, Claim]
	DropFolds(ctx context.Context, folds []Fold) error // each must still have the count it was read with, else ErrRevision
}

// Flow writes what carries no audit entry: a closed list, each with its reason in ARCHITECTURE.md under Decisions.
type Flow interface {
	Read() Reader

	// Accept keeps new uplinks and their dedupe keys. Of an uplink whose key is taken and not expired it keeps nothing, and
	// answers the first one's id if the payload is the same; with another payload it keeps the uplink as quarantined, with
	// the reason duplicate_mismatch. Verdicts come in the order of the uplinks. A key expires DedupeWindow after arrival.
	Accept(ctx context.Context, us []uplink.Uplink) ([]Verdict, error)

	// Recheck refuses with ErrStale if anything in Seen is otherwise by now. It comes before all else in its Ingest: once a Change of
	// what was seen has returned, nothing is written any more behind a Recheck that has found it as it was before. Where other tenants'
	// can be written meanwhile, it waits for no Change of its own that is under way, but refuses with ErrBusy.
	Recheck(ctx context.Context, seen Seen) error

	// Finish writes what became of an accepted uplink, comparing its Rev: its row, and if there are any its reading, its
	// outcome, the device's last-seen and the device's latest reading, which never goes back. An uplink that goes to
	// quarantine is no sign of life of the device that it names: whoever knows an address could send it.
	Finish(ctx context.Context, f Finished) error

	// Hasten makes accepted uplinks that wait until exactly this moment due at once, at most limit of them, and answers how
	// many: what they waited for came earlier.
	Hasten(ctx context.Context, until time.Time, limit int) (int, error)

	// Touch notes the use of a credential: the accessor's record keeps the later of the two moments.
	Touch(ctx context.Context, accessor string, at time.Time) error

	// SetFailures keeps a count of sign-in failures; a count of 0 removes it. Of those who read a key's count and set it in one
	// Ingest each, none may miss another's.
	SetFailures(ctx context.Context, f principal.Failure) error

	// Marks keeps the marks of keys under whose names none is kept, and answers all that are kept then.
	Marks(ctx context.Context, keys map[string][32]byte) (map[string][32]byte, error)

	// Fold adds n to a counter.
	Fold(ctx context.Context, f Fold, n int64) error

	// Checkpoint keeps a signed checkpoint of the audit tree. One that is not of a later size than the last is refused
	// (fault Conflict).
	Checkpoint(ctx context.Context, c audit.StoredCheckpoint) error

	// Rest notes that jobs are done with the tenant, for Chores; what is due still, or came meanwhile, is due. It is called by itself in
	// its Ingest.
	Rest(ctx context.Context) error

	// Expire removes at most limit rows of what has outlived its time, and answers how many: dedupe keys, claims, and the
	// sessions, bearers and links whose ExpiresAt has come, with their place in the directory. What is still in force stays,
	// and so do keys and personal tokens, whose owners are to see that they are over. Its cost is that of what it removes.
	Expire(ctx context.Context, now time.Time, limit int) (int, error)
}

// Verdict is what Accept made of one uplink.
type Verdict struct {
	ID        ident.Uplink // the event: the uplink's own id, or the first one's
	Duplicate bool
	Conflict  bool
}

// Finished is what became of one uplink.
type Finished struct {
	Uplink  uplink.Uplink // with the Rev that was read, and its new state
	Reading *uplink.Reading
	Outcome *uplink.Outcome
	Out     *Outgoing // of the reading, for whoever relays
}

// DedupeWindow is how long a dedupe key holds, by our clock.
const DedupeWindow = 24 * time.Hour

// Claim remembers that an Idempotency-Key was used: what was asked, and what it made. It never holds an answer.
type Claim struct {
	ID        [32]byte // HMAC of principal, tenant, route and key
	Rev       uint64
	Request   [32]byte // HMAC of method, path and body
	Status    int
	Object    string // id of what was made
	ObjectRev uint64
	ExpiresAt time.Time
}

// Fold is a counter of things that are too many for an entry each: by kind, key and bucket of time. When the bucket is over
// a Change turns it into one audit entry.
type Fold struct {
	Kind   string // "quarantine" or "refusal"
	Key    string // source and reason, or actor and permission
	Node   ident.Node
	Bucket time.Time // its beginning
	Until  time.Time // its end
	Count  int64
}

// Limits is what the platform granted a tenant.
type Limits struct {
	ID  ident.Tenant
	Rev uint64
	tenant.Limits
	CreatedAt time.Time
	UpdatedAt time.Time
}
