package access

import (
	"math/bits"
	"strings"

	"github.com/ringfence/ringfence/core/fault"
)

// Permission is one thing that may be done to one noun. The list is closed and lives here: a noun is added with its
// feature. The zero Permission is none and is never granted.
type Permission uint8

// The catalogue (design.md §6). Reading a device never means reading its keys, reading readings never means exporting
// them, writing a decoder never means activating it.
const (
	None Permission = iota

	TenantRead
	TenantUpdate
	TenantClose

	NodeRead
	NodeCreate
	NodeUpdate
	NodeMove
	NodeDelete
	NodeBarrier

	MemberRead
	MemberInvite
	MemberRemove
	MemberReset

	MembershipRead
	MembershipGrant
	MembershipRevoke
	OwnershipGrant

	GroupRead
	GroupWrite
	RoleRead
	RoleWrite

	DeviceRead
	DeviceCreate
	DeviceUpdate
	DeviceAssign
	DeviceDelete
	DeviceImport
	DeviceKeyRead
	DeviceKeyWrite

	DecoderRead
	DecoderWrite
	DecoderTest
	DecoderActivate

	SourceRead
	SourceWrite
	SourceKeyCreate
	SourceKeyRevoke

	UplinkSubmit
	UplinkRead
	UplinkReplay
	ReadingRead
	ReadingExport
	OutcomeRead

	QuarantineRead
	QuarantineRelease
	QuarantineDiscard

	AuditRead
	AuditExport

	TokenRead
	TokenRevoke

	PlatformTenantRead
	PlatformTenantCreate
	PlatformTenantSuspend
	PlatformTenantResume
	PlatformTenantClose
	PlatformTenantInviteOwner
	PlatformRoleRead
	PlatformRoleGrant
	PlatformRoleRevoke
	PlatformPersonRead
	PlatformPersonDisable
	PlatformPersonReset
	PlatformAuditRead
	PlatformSettingRead
	PlatformSettingWrite
	PlatformConnectionRead
	PlatformConnectionWrite
	PlatformDeadLetterRead
	PlatformDeadLetterReplay

	permissions // how many there are, None included
)

var permissionNames = [permissions]string{
	None:       "",
	TenantRead: "tenant:read", TenantUpdate: "tenant:update", TenantClose: "tenant:close",
	NodeRead: "node:read", NodeCreate: "node:create", NodeUpdate: "node:update", NodeMove: "node:move", NodeDelete: "node:delete", NodeBarrier: "node:barrier",
	MemberRead: "member:read", MemberInvite: "member:invite", MemberRemove: "member:remove", MemberReset: "member:reset",
	MembershipRead: "membership:read", MembershipGrant: "membership:grant", MembershipRevoke: "membership:revoke", OwnershipGrant: "ownership:grant",
	GroupRead: "group:read", GroupWrite: "group:write", RoleRead: "role:read", RoleWrite: "role:write",
	DeviceRead: "device:read", DeviceCreate: "device:create", DeviceUpdate: "device:update", DeviceAssign: "device:assign", DeviceDelete: "device:delete", DeviceImport: "device:import",
	DeviceKeyRead: "device-key:read", DeviceKeyWrite: "device-key:write",
	DecoderRead: "decoder:read", DecoderWrite: "decoder:write", DecoderTest: "decoder:test", DecoderActivate: "decoder:activate",
	SourceRead: "source:read", SourceWrite: "source:write", SourceKeyCreate: "source-key:create", SourceKeyRevoke: "source-key:revoke",
	UplinkSubmit: "uplink:submit", UplinkRead: "uplink:read", UplinkReplay: "uplink:replay", ReadingRead: "reading:read", ReadingExport: "reading:export", OutcomeRead: "outcome:read",
	QuarantineRead: "quarantine:read", QuarantineRelease: "quarantine:release", QuarantineDiscard: "quarantine:discard",
	AuditRead: "audit:read", AuditExport: "audit:export", TokenRead: "token:read", TokenRevoke: "token:revoke",
	PlatformTenantRead: "platform-tenant:read", PlatformTenantCreate: "platform-tenant:create", PlatformTenantSuspend: "platform-tenant:suspend", PlatformTenantResume: "platform-tenant:resume",
	PlatformTenantClose: "platform-tenant:close", PlatformTenantInviteOwner: "platform-tenant:invite-owner",
	PlatformRoleRead: "platform-role:read", PlatformRoleGrant: "platform-role:grant", PlatformRoleRevoke: "platform-role:revoke",
	PlatformPersonRead: "platform-person:read", PlatformPersonDisable: "platform-person:disable", PlatformPersonReset: "platform-person:reset",
	PlatformAuditRead: "platform-audit:read", PlatformSettingRead: "platform-setting:read", PlatformSettingWrite: "platform-setting:write",
	PlatformConnectionRead: "platform-connection:read", PlatformConnectionWrite: "platform-connection:write",
	PlatformDeadLetterRead: "platform-dead-letter:read", PlatformDeadLetterReplay: "platform-dead-letter:replay",
}

// String is the permission's name, noun:verb.
func (p Permission) String() string {
	if p < permissions {
		return permissionNames[p]
	}
	return ""
}

// Noun is the part before the colon.
func (p Permission) Noun() string {
	noun, _, _ := strings.Cut(p.String(), ":")
	return noun
}

// Read is the permission to read what this one is about: who lacks it on an object is told that the object is missing.
func (p Permission) Read() Permission {
	switch p {
	case OwnershipGrant:
		return MembershipRead
	case SourceKeyCreate, SourceKeyRevoke:
		return SourceRead
	case UplinkSubmit:
		return UplinkRead
	}
	if read, err := ParsePermission(p.Noun() + ":read"); err == nil {
		return read
	}
	return None
}

// OfPlatform reports whether the permission is the operator's: it stands in no tenant role.
func (p Permission) OfPlatform() bool { return p >= PlatformTenantRead && p < permissions }

// MarshalText writes the name.
func (p Permission) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a name of the catalogue.
func (p *Permission) UnmarshalText(b []byte) error {
	got, err := ParsePermission(string(b))
	if err != nil {
		return err
	}
	*p = got
	return nil
}

// ParsePermission reads a name of the catalogue; anything else is Invalid.
func ParsePermission(name string) (Permission, error) {
	for p := None + 1; p < permissions; p++ {
		if permissionNames[p] == name {
			return p, nil
		}
	}
	return None, fault.New(fault.Invalid, "unknown_permission", "This is no permission of the catalogue. The page /docs lists them all.")
}

// Permissions is the whole catalogue in its order.
func Permissions() []Permission {
	all := make([]Permission, 0, permissions-1)
	for p := None + 1; p < permissions; p++ {
		all = append(all, p)
	}
	return all
}

// Set is a set of permissions. It is comparable and copies by value.
type Set [2]uint64

// SetOf returns the set of the given permissions.
func SetOf(ps ...Permission) Set {
	var s Set
	for _, p := range ps {
		s = s.With(p)
	}
	return s
}

// With returns the set with one more permission; None adds nothing.
func (s Set) With(p Permission) Set {
	if p == None || p >= permissions {
		return s
	}
	s[p/64] |= 1 << (p % 64)
	return s
}

// Has reports whether the permission is in the set.
func (s Set) Has(p Permission) bool { return p < permissions && s[p/64]&(1<<(p%64)) != 0 }

// Union, Intersect and Less are the set's algebra.
func (s Set) Union(o Set) Set { return Set{s[0] | o[0], s[1] | o[1]} }

// Intersect is what both sets hold.
func (s Set) Intersect(o Set) Set { return Set{s[0] & o[0], s[1] & o[1]} }

// Less is the set without what the other holds.
func (s Set) Less(o Set) Set { return Set{s[0] &^ o[0], s[1] &^ o[1]} }

// Within reports whether the other set holds all of this one.
func (s Set) Within(o Set) bool { return s.Less(o) == Set{} }

// within is the part of the set that the platform's policy, or a tenant's, may hold.
func (s Set) within(platform bool) Set {
	for _, p := range s.List() {
		if p.OfPlatform() != platform {
			s = s.Less(SetOf(p))
		}
	}
	return s
}

// IsEmpty reports whether the set holds nothing.
func (s Set) IsEmpty() bool { return s == Set{} }

// Len is the number of permissions in the set.
func (s Set) Len() int { return bits.OnesCount64(s[0]) + bits.OnesCount64(s[1]) }

// List is the set in the catalogue's order.
func (s Set) List() []Permission {
	list := make([]Permission, 0, s.Len())
	for p := None + 1; p < permissions; p++ {
		if s.Has(p) {
			list = append(list, p)
		}
	}
	return list
}
