package access

import (
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// Role is a named set of permissions. Built-in roles are the same in every tenant and cannot be changed; tenants add
// their own, which never hold a permission of the platform's, nor uplink:submit.
type Role struct {
	ID          ident.Role
	Rev         uint64
	Name        string
	Permissions Set
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// The built-in roles' ids: fixed, the same in every tenant. Platform administrator is a role at the platform's root alone.
var (
	Owner         = builtin(1)
	Admin         = builtin(2)
	Operator      = builtin(3)
	Viewer        = builtin(4)
	Auditor       = builtin(5)
	SourceAccount = builtin(6)
	PlatformAdmin = builtin(7)
)

func builtin(n byte) ident.Role {
	return ident.Role{0x01, 0x90, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, n}
}

// BuiltIn returns the built-in role of an id, and whether there is one.
func BuiltIn(id ident.Role) (Role, bool) {
	for _, r := range BuiltIns() {
		if r.ID == id {
			return r, true
		}
	}
	return Role{}, false
}

// BuiltIns are the roles that every tenant has, the platform's administrator among them (the table is a golden file).
func BuiltIns() []Role {
	var tenantAll, platformAll Set
	for _, p := range Permissions() {
		if p.OfPlatform() {
			platformAll = platformAll.With(p)
		} else if p != UplinkSubmit {
			tenantAll = tenantAll.With(p)
		}
	}
	operator := SetOf(TenantRead, NodeRead,
		DeviceRead, DeviceCreate, DeviceUpdate, DeviceAssign, DeviceDelete, DeviceImport,
		SourceRead, SourceWrite,
		DecoderRead, DecoderWrite, DecoderTest,
		UplinkRead, UplinkReplay, ReadingRead, OutcomeRead,
		QuarantineRead, QuarantineRelease, QuarantineDiscard)
	return []Role{
		{ID: Owner, Name: "owner", Permissions: tenantAll},
		{ID: Admin, Name: "admin", Permissions: tenantAll.Less(SetOf(TenantClose, OwnershipGrant))},
		{ID: Operator, Name: "operator", Permissions: operator},
		{ID: Viewer, Name: "viewer", Permissions: SetOf(TenantRead, NodeRead, GroupRead, RoleRead, DeviceRead, DecoderRead,
			SourceRead, UplinkRead, ReadingRead, OutcomeRead, QuarantineRead)},
		{ID: Auditor, Name: "auditor", Permissions: SetOf(AuditRead, AuditExport, TenantRead, NodeRead, MemberRead,
			MembershipRead, GroupRead, RoleRead, DeviceRead, DecoderRead, SourceRead, TokenRead)},
		{ID: SourceAccount, Name: "source", Permissions: SetOf(UplinkSubmit)},
		{ID: PlatformAdmin, Name: "platform-admin", Permissions: platformAll},
	}
}

// Group is a named set of principals and of other groups (nesting at most MaxNesting).
type Group struct {
	ID        ident.Group
	Rev       uint64
	Name      string
	Members   []ident.Principal
	Groups    []ident.Group
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Bounds of the authorization records (security.md §1.6).
const (
	MaxNesting     = 8
	MaxRoles       = 200
	MaxGroups      = 500
	MaxMemberships = 20_000
	MaxMembers     = 5_000
)

// Membership gives a principal or a group a role at an org node: local (this node) or recursive (this node and below),
// until it expires. It is the only source of rights.
type Membership struct {
	ID        ident.Membership
	Rev       uint64
	Principal ident.Principal // zero if Group is set
	Group     ident.Group     // zero if Principal is set
	Role      ident.Role
	Node      ident.Node
	Recursive bool
	ExpiresAt time.Time // zero: never
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Live reports whether the membership has not expired at a moment.
func (m Membership) Live(now time.Time) bool { return m.ExpiresAt.IsZero() || now.Before(m.ExpiresAt) }
