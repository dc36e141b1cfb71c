package memory

import (
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

type nounID uint8

const (
	tenantNoun nounID = iota
	limitNoun
	nodeNoun
	roleNoun
	groupNoun
	membershipNoun
	memberNoun
	invitationNoun
	tokenNoun
	deviceNoun
	importNoun
	decoderNoun
	versionNoun
	sourceNoun
	keyNoun
	personNoun
	sessionNoun
	bearerNoun
	linkNoun
	claimNoun
	mappingNoun
	tenureNoun
	nouns
)

func idKey[K ident.Kind](id ident.ID[K]) string { return string(id[:]) }

func nothing[V any](V, *row) {}

// located keeps the directory's entry of a credential, which accessor tells of a record.
func located[V any](accessor func(*V) (string, credential.Kind, [16]byte)) func(*handle, *V, *V) error {
	return func(h *handle, old, v *V) error {
		if v == nil {
			gone, _, _ := accessor(old)
			h.unlocate(gone)
			return nil
		}
		h.locate(accessor(v))
		return nil
	}
}

func (h *handle) use(s *credential.Stored) {
	if at, ok := h.book.touched.get(s.Accessor); ok {
		s.LastUsed = at
	}
}

// ided completes a noun whose key is its id.
func ided[K ident.Kind, V any](n noun[ident.ID[K], V]) *noun[ident.ID[K], V] {
	n.key = idKey[K]
	return &n
}

// The nouns. What is not named here stands on no node, has no unique label and decides nothing.
var (
	tenants = ided(noun[ident.Tenant, tenant.Tenant]{
		id: tenantNoun, policy: true, adds: true, of: func(v tenant.Tenant) ident.Tenant { return v.ID },
		rev: func(v *tenant.Tenant) *uint64 { return &v.Rev }, index: nothing[tenant.Tenant], // a deleted tenant stays listed
		apart: func(h *handle, v *tenant.Tenant) bool { return v.ID != h.tenant }, // the platform's register of the others
	})
	limits = ided(noun[ident.Tenant, store.Limits]{
		id: limitNoun, of: func(v store.Limits) ident.Tenant { return v.ID },
		rev: func(v *store.Limits) *uint64 { return &v.Rev }, index: nothing[store.Limits],
	})
	nodes = ided(noun[ident.Node, org.Node]{
		id: nodeNoun, placed: true, policy: true, adds: true, of: func(v org.Node) ident.Node { return v.ID },
		rev:   func(v *org.Node) *uint64 { return &v.Rev },
		index: func(v org.Node, r *row) { r.node, r.label, r.hidden = v.ID, v.Name, v.Deleted() },
	})
	roles = ided(noun[ident.Role, access.Role]{
		id: roleNoun, policy: true, adds: true, unique: true, of: func(v access.Role) ident.Role { return v.ID },
		rev: func(v *access.Role) *uint64 { return &v.Rev }, index: func(v access.Role, r *row) { r.label = v.Name },
	})
	groups = ided(noun[ident.Group, access.Group]{
		id: groupNoun, policy: true, adds: true, unique: true, of: func(v access.Group) ident.Group { return v.ID },
		rev: func(v *access.Group) *uint64 { return &v.Rev }, index: func(v access.Group, r *row) { r.label = v.Name },
	})
	memberships = ided(noun[ident.Membership, access.Membership]{
		id: membershipNoun, placed: true, policy: true, of: func(v access.Membership) ident.Membership { return v.ID },
		rev: func(v *access.Membership) *uint64 { return &v.Rev }, index: func(v access.Membership, r *row) { r.node = v.Node },
	})
	members = ided(noun[ident.Principal, principal.Member]{
		id: memberNoun, policy: true, adds: true, of: func(v principal.Member) ident.Principal { return v.ID },
		rev: func(v *principal.Member) *uint64 { return &v.Rev }, index: func(v principal.Member, r *row) { r.label = v.Name },
	})
	invitations = ided(noun[ident.Link, principal.Invitation]{
		id: invitationNoun, placed: true, of: func(v principal.Invitation) ident.Link { return v.ID },
		rev: func(v *principal.Invitation) *uint64 { return &v.Rev }, index: func(v principal.Invitation, r *row) { r.node = v.Node },
		after: located(func(v *principal.Invitation) (string, credential.Kind, [16]byte) {
			return v.Accessor, credential.KindInvite, v.ID
		}),
	})
	tokens = ided(noun[ident.Token, credential.PAT]{
		id: tokenNoun, of: func(v credential.PAT) ident.Token { return v.ID },
		rev: func(v *credential.PAT) *uint64 { return &v.Rev }, index: nothing[credential.PAT],
		load: func(h *handle, v *credential.PAT) { h.use(&v.Stored) },
		after: located(func(v *credential.PAT) (string, credential.Kind, [16]byte) {
			return v.Accessor, credential.KindPersonal, v.ID
		}),
	})
	devices = ided(noun[ident.Device, device.Device]{
		id: deviceNoun, placed: true, of: func(v device.Device) ident.Device { return v.ID },
		rev:   func(v *device.Device) *uint64 { return &v.Rev },
		index: func(v device.Device, r *row) { r.node, r.hidden = v.Node, !v.DeletedAt.IsZero() },
		load:  func(h *handle, v *device.Device) { v.LastSeen, _ = h.book.seen.get(idKey(v.ID)) },
		after: keepDevice,
	})
	imports = ided(noun[ident.Import, device.Import]{
		id: importNoun, placed: true, of: func(v device.Import) ident.Import { return v.ID },
		rev: func(v *device.Import) *uint64 { return &v.Rev }, index: func(v device.Import, r *row) { r.node = v.Node },
	})
	decoders = ided(noun[ident.Decoder, decoder.Decoder]{
		id: decoderNoun, unique: true, of: func(v decoder.Decoder) ident.Decoder { return v.ID },
		rev: func(v *decoder.Decoder) *uint64 { return &v.Rev }, index: func(v decoder.Decoder, r *row) { r.label = v.Name },
	})
	versions = ided(noun[ident.Version, decoder.Version]{
		id: versionNoun, of: func(v decoder.Version) ident.Version { return v.ID },
		rev: func(v *decoder.Version) *uint64 { return &v.Rev }, index: nothing[decoder.Version],
		check: func(exists bool) error {
			if exists {
				return fault.New(fault.Conflict, "immutable", "A decoder's version is never changed. Save the new text as a new version.")
			}
			return nil
		},
	})
	sources = ided(noun[ident.Source, source.Source]{
		id: sourceNoun, placed: true, unique: true, of: func(v source.Source) ident.Source { return v.ID },
		rev: func(v *source.Source) *uint64 { return &v.Rev }, index: func(v source.Source, r *row) { r.node, r.label = v.Node, v.Name },
	})
	keys = ided(noun[ident.Key, credential.IngestionKey]{
		id: keyNoun, of: func(v credential.IngestionKey) ident.Key { return v.ID },
		rev: func(v *credential.IngestionKey) *uint64 { return &v.Rev }, index: nothing[credential.IngestionKey],
		load: func(h *handle, v *credential.IngestionKey) { h.use(&v.Stored) },
		after: located(func(v *credential.IngestionKey) (string, credential.Kind, [16]byte) {
			return v.Accessor, credential.KindIngestion, v.ID
		}),
	})
	persons = ided(noun[ident.Principal, principal.Person]{
		id: personNoun, unique: true, of: func(v principal.Person) ident.Principal { return v.ID },
		rev: func(v *principal.Person) *uint64 { return &v.Rev }, index: func(v principal.Person, r *row) { r.label = v.Email },
	})
	sessions = ided(noun[ident.Session, credential.Session]{
		id: sessionNoun, of: func(v credential.Session) ident.Session { return v.ID },
		rev: func(v *credential.Session) *uint64 { return &v.Rev }, index: func(v credential.Session, r *row) { r.expires = v.ExpiresAt },
		load: func(h *handle, v *credential.Session) { h.use(&v.Stored) },
		after: located(func(v *credential.Session) (string, credential.Kind, [16]byte) {
			return v.Accessor, credential.KindSession, v.ID
		}),
	})
	bearers = ided(noun[ident.Token, credential.Bearer]{
		id: bearerNoun, of: func(v credential.Bearer) ident.Token { return v.ID },
		rev: func(v *credential.Bearer) *uint64 { return &v.Rev }, index: func(v credential.Bearer, r *row) { r.expires = v.ExpiresAt },
		load:  func(h *handle, v *credential.Bearer) { h.use(&v.Stored) },
		after: located(func(v *credential.Bearer) (string, credential.Kind, [16]byte) { return v.Accessor, v.Kind, v.ID }),
	})
	links = ided(noun[ident.Link, credential.Link]{
		id: linkNoun, of: func(v credential.Link) ident.Link { return v.ID },
		rev: func(v *credential.Link) *uint64 { return &v.Rev }, index: func(v credential.Link, r *row) { r.expires = v.ExpiresAt },
		after: located(func(v *credential.Link) (string, credential.Kind, [16]byte) { return v.Accessor, v.Kind, v.ID }),
	})
	claims = &noun[[32]byte, store.Claim]{
		id: claimNoun, key: func(k [32]byte) string { return string(k[:]) }, of: func(v store.Claim) [32]byte { return v.ID },
		rev: func(v *store.Claim) *uint64 { return &v.Rev }, index: func(v store.Claim, r *row) { r.expires = v.ExpiresAt },
	}
)

// keepDevice keeps a device's addresses, which are unique among the living, and its assignments, which are for ever.
func keepDevice(h *handle, old, v *device.Device) error {
	if old != nil && old.DeletedAt.IsZero() {
		for _, a := range old.Addresses {
			h.book.addresses = h.book.addresses.drop(addressKey(a))
		}
	}
	if v == nil {
		return nil
	}
	if v.DeletedAt.IsZero() {
		for _, a := range v.Addresses {
			if _, taken := h.book.addresses.get(addressKey(a)); taken {
				return fault.New(fault.Conflict, "taken", "Another device of this tenant has this address already. An address belongs to one device.")
			}
			h.book.addresses = h.book.addresses.put(addressKey(a), v.ID)
		}
	}
	if old == nil || old.Node != v.Node {
		h.book.assignments = h.book.assignments.put(idKey(v.ID)+moment(v.UpdatedAt), v.Node)
	}
	return nil
}

func addressKey(a device.Address) string { return string(a.Kind) + "\x00" + a.Value }
