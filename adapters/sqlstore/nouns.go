package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

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

// optional is an id as a column: NULL for the zero id.
func optional[K ident.Kind](id ident.ID[K]) []byte {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

// The nouns. What is not named here stands on no node, has no owner, no unique label and decides nothing.
var (
	tenants = &noun[ident.Tenant, tenant.Tenant]{
		table: "tenants", policy: true, adds: true, bytes: func(k ident.Tenant) []byte { return k[:] }, key: func(t tenant.Tenant) []byte { return t.ID[:] }, rev: func(t *tenant.Tenant) *uint64 { return &t.Rev },
		index: func(t tenant.Tenant, r *row) { r.State = "-" },                    // a deleted tenant stays listed
		apart: func(h *handle, t *tenant.Tenant) bool { return t.ID != h.tenant }, // the platform's register of the others
	}
	limits = &noun[ident.Tenant, store.Limits]{
		table: "limits", bytes: func(k ident.Tenant) []byte { return k[:] }, key: func(l store.Limits) []byte { return l.ID[:] }, rev: func(l *store.Limits) *uint64 { return &l.Rev },
		index: func(store.Limits, *row) {},
	}
	nodes = &noun[ident.Node, org.Node]{
		table: "nodes", placed: true, policy: true, adds: true, bytes: func(k ident.Node) []byte { return k[:] }, key: func(n org.Node) []byte { return n.ID[:] }, rev: func(n *org.Node) *uint64 { return &n.Rev },
		index: func(n org.Node, r *row) {
			r.Node, r.Owner, r.Label, r.State = n.ID[:], optional(n.Parent), &n.Name, tombstone(n.DeletedAt)
		},
	}
	roles = &noun[ident.Role, access.Role]{
		table: "roles", counted: rolesAlive, policy: true, adds: true, bytes: func(k ident.Role) []byte { return k[:] }, key: func(v access.Role) []byte { return v.ID[:] }, rev: func(v *access.Role) *uint64 { return &v.Rev },
		index: func(v access.Role, r *row) { r.Label = &v.Name },
	}
	groups = &noun[ident.Group, access.Group]{
		table: "groups", counted: groupsAlive, policy: true, adds: true, bytes: func(k ident.Group) []byte { return k[:] }, key: func(v access.Group) []byte { return v.ID[:] }, rev: func(v *access.Group) *uint64 { return &v.Rev },
		index: func(v access.Group, r *row) { r.Label = &v.Name },
	}
	memberships = &noun[ident.Membership, access.Membership]{
		table: "memberships", counted: membershipsAlive, placed: true, policy: true, bytes: func(k ident.Membership) []byte { return k[:] }, key: func(v access.Membership) []byte { return v.ID[:] }, rev: func(v *access.Membership) *uint64 { return &v.Rev },
		index: func(v access.Membership, r *row) {
			r.Node, r.Owner = v.Node[:], optional(v.Principal)
			if r.Owner == nil {
				r.Owner = v.Group[:]
			}
		},
	}
	members = &noun[ident.Principal, principal.Member]{
		table: "members", counted: membersAlive, policy: true, adds: true, bytes: func(k ident.Principal) []byte { return k[:] }, key: func(v principal.Member) []byte { return v.ID[:] }, rev: func(v *principal.Member) *uint64 { return &v.Rev },
		index: func(v principal.Member, r *row) { r.State, r.Label = string(v.Kind), &v.Name },
	}
	invitations = &noun[ident.Link, principal.Invitation]{
		table: "invitations", counted: invitationsAlive, placed: true, bytes: func(k ident.Link) []byte { return k[:] }, key: func(v principal.Invitation) []byte { return v.ID[:] }, rev: func(v *principal.Invitation) *uint64 { return &v.Rev },
		index: func(v principal.Invitation, r *row) { r.Node = v.Node[:] },
		after: func(ctx context.Context, h *handle, old, v *principal.Invitation) error {
			if v == nil {
				return h.unlocate(ctx, old.Accessor)
			}
			return h.locate(ctx, v.Accessor, credential.KindInvite, v.ID[:])
		},
	}
	tokens = &noun[ident.Token, credential.PAT]{
		table: "tokens", bytes: func(k ident.Token) []byte { return k[:] }, key: func(v credential.PAT) []byte { return v.ID[:] }, rev: func(v *credential.PAT) *uint64 { return &v.Rev },
		index: func(v credential.PAT, r *row) { r.Owner = v.Principal[:] },
		load:  func(ctx context.Context, h *handle, v *credential.PAT) error { return h.touched(ctx, &v.Stored) },
		after: func(ctx context.Context, h *handle, old, v *credential.PAT) error {
			if v == nil {
				return h.unlocate(ctx, old.Accessor)
			}
			return h.locate(ctx, v.Accessor, credential.KindPersonal, v.ID[:])
		},
	}
	devices = &noun[ident.Device, device.Device]{
		table: "devices", counted: devicesAlive, placed: true, bytes: func(k ident.Device) []byte { return k[:] }, key: func(v device.Device) []byte { return v.ID[:] }, rev: func(v *device.Device) *uint64 { return &v.Rev },
		index: func(v device.Device, r *row) {
			r.Node, r.Owner, r.State, r.Label = v.Node[:], optional(v.Decoder), string(v.State), &v.Name
			if !v.DeletedAt.IsZero() {
				r.State = deleted
			}
		},
		load: func(ctx context.Context, h *handle, v *device.Device) error {
			var at int64
			err := h.one(ctx, "SELECT at FROM seen WHERE tenant = ? AND device = ?", []any{h.tenant[:], v.ID[:]}, &at)
			if fault.Is(err, fault.NotFound) {
				v.LastSeen = time.Time{}
				return nil
			}
			v.LastSeen = moment(at)
			return err
		},
		after: keepDevice,
	}
	imports = &noun[ident.Import, device.Import]{
		table: "imports", placed: true, bytes: func(k ident.Import) []byte { return k[:] }, key: func(v device.Import) []byte { return v.ID[:] }, rev: func(v *device.Import) *uint64 { return &v.Rev },
		index: func(v device.Import, r *row) { r.Node = v.Node[:] },
	}
	decoders = &noun[ident.Decoder, decoder.Decoder]{
		table: "decoders", counted: decodersAlive, bytes: func(k ident.Decoder) []byte { return k[:] }, key: func(v decoder.Decoder) []byte { return v.ID[:] }, rev: func(v *decoder.Decoder) *uint64 { return &v.Rev },
		index: func(v decoder.Decoder, r *row) { r.Label = &v.Name },
	}
	versions = &noun[ident.Version, decoder.Version]{
		table: "versions", bytes: func(k ident.Version) []byte { return k[:] }, key: func(v decoder.Version) []byte { return v.ID[:] }, rev: func(v *decoder.Version) *uint64 { return &v.Rev },
		index: func(v decoder.Version, r *row) { r.Owner = v.Decoder[:] },
		check: func(old *decoder.Version, _ decoder.Version) error {
			if old != nil {
				return fault.New(fault.Conflict, "immutable", "A decoder's version is never changed. Save the new text as a new version.")
			}
			return nil
		},
	}
	sources = &noun[ident.Source, source.Source]{
		table: "sources", counted: sourcesAlive, placed: true, bytes: func(k ident.Source) []byte { return k[:] }, key: func(v source.Source) []byte { return v.ID[:] }, rev: func(v *source.Source) *uint64 { return &v.Rev },
		index: func(v source.Source, r *row) { r.Node, r.Label, r.State = v.Node[:], &v.Name, string(v.State) },
	}
	sourceKeys = &noun[ident.Key, credential.IngestionKey]{
		table: "source_keys", bytes: func(k ident.Key) []byte { return k[:] }, key: func(v credential.IngestionKey) []byte { return v.ID[:] }, rev: func(v *credential.IngestionKey) *uint64 { return &v.Rev },
		index: func(v credential.IngestionKey, r *row) { r.Owner = v.Source[:] },
		load: func(ctx context.Context, h *handle, v *credential.IngestionKey) error {
			return h.touched(ctx, &v.Stored)
		},
		after: func(ctx context.Context, h *handle, old, v *credential.IngestionKey) error {
			if v == nil {
				return h.unlocate(ctx, old.Accessor)
			}
			return h.locate(ctx, v.Accessor, credential.KindIngestion, v.ID[:])
		},
	}
	persons = &noun[ident.Principal, principal.Person]{
		table: "persons", bytes: func(k ident.Principal) []byte { return k[:] }, key: func(v principal.Person) []byte { return v.ID[:] }, rev: func(v *principal.Person) *uint64 { return &v.Rev },
		index: func(v principal.Person, r *row) { r.Label = &v.Email },
	}
	sessions = &noun[ident.Session, credential.Session]{
		table: "sessions", bytes: func(k ident.Session) []byte { return k[:] }, key: func(v credential.Session) []byte { return v.ID[:] }, rev: func(v *credential.Session) *uint64 { return &v.Rev },
		index: func(v credential.Session, r *row) { r.Owner = v.Principal[:]; r.expireAt(v.ExpiresAt) },
		load:  func(ctx context.Context, h *handle, v *credential.Session) error { return h.touched(ctx, &v.Stored) },
		after: func(ctx context.Context, h *handle, old, v *credential.Session) error {
			if v == nil {
				return h.unlocate(ctx, old.Accessor)
			}
			return h.locate(ctx, v.Accessor, credential.KindSession, v.ID[:])
		},
	}
	bearers = &noun[ident.Token, credential.Bearer]{
		table: "bearers", bytes: func(k ident.Token) []byte { return k[:] }, key: func(v credential.Bearer) []byte { return v.ID[:] }, rev: func(v *credential.Bearer) *uint64 { return &v.Rev },
		index: func(v credential.Bearer, r *row) { r.Owner = v.Session[:]; r.expireAt(v.ExpiresAt) },
		load:  func(ctx context.Context, h *handle, v *credential.Bearer) error { return h.touched(ctx, &v.Stored) },
		after: func(ctx context.Context, h *handle, old, v *credential.Bearer) error {
			if v == nil {
				return h.unlocate(ctx, old.Accessor)
			}
			return h.locate(ctx, v.Accessor, v.Kind, v.ID[:])
		},
	}
	links = &noun[ident.Link, credential.Link]{
		table: "links", bytes: func(k ident.Link) []byte { return k[:] }, key: func(v credential.Link) []byte { return v.ID[:] }, rev: func(v *credential.Link) *uint64 { return &v.Rev },
		index: func(v credential.Link, r *row) {
			r.Owner, r.State = optional(v.Principal), string(v.Kind)
			r.expireAt(v.ExpiresAt)
		},
		after: func(ctx context.Context, h *handle, old, v *credential.Link) error {
			if v == nil {
				return h.unlocate(ctx, old.Accessor)
			}
			return h.locate(ctx, v.Accessor, v.Kind, v.ID[:])
		},
	}
	claims = &noun[[32]byte, store.Claim]{
		table: "claims", bytes: func(k [32]byte) []byte { return k[:] }, key: func(v store.Claim) []byte { return v.ID[:] }, rev: func(v *store.Claim) *uint64 { return &v.Rev },
		index: func(v store.Claim, r *row) { r.expireAt(v.ExpiresAt) },
	}
)

func tombstone(since time.Time) string {
	if since.IsZero() {
		return "alive"
	}
	return deleted
}

// keepDevice keeps a device's addresses, which are unique among the living, and its assignments, which are for ever.
func keepDevice(ctx context.Context, h *handle, old, v *device.Device) error {
	if old != nil {
		if _, err := h.exec(ctx, "DELETE FROM device_addresses WHERE tenant = ? AND device = ?", h.tenant[:], old.ID[:]); err != nil {
			return err
		}
	}
	if v == nil {
		return nil
	}
	if v.DeletedAt.IsZero() {
		for _, a := range v.Addresses {
			n, err := h.exec(ctx, "INSERT INTO device_addresses (tenant, kind, value, device) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", h.tenant[:], string(a.Kind), a.Value, v.ID[:])
			if err != nil {
				return err
			}
			if n == 0 {
				return fault.New(fault.Conflict, "taken", "Another device of this tenant has this address already. An address belongs to one device.")
			}
		}
	}
	if old != nil && old.Node == v.Node {
		return nil
	}
	_, err := h.exec(ctx, "INSERT INTO assignments (tenant, device, since, node) VALUES (?, ?, ?, ?) ON CONFLICT (tenant, device, since) DO UPDATE SET node = excluded.node",
		h.tenant[:], v.ID[:], micros(v.UpdatedAt), v.Node[:])
	return err
}

func (h *handle) locate(ctx context.Context, accessor string, kind credential.Kind, id []byte) error {
	_, err := h.exec(ctx, "INSERT INTO locations (accessor, tenant, kind, id) VALUES (?, ?, ?, ?) ON CONFLICT (accessor) DO UPDATE SET kind = excluded.kind WHERE locations.tenant = excluded.tenant AND locations.id = excluded.id",
		accessor, h.tenant[:], string(kind), id)
	return err
}

func (h *handle) unlocate(ctx context.Context, accessor string) error {
	if _, err := h.exec(ctx, "DELETE FROM locations WHERE accessor = ? AND tenant = ?", accessor, h.tenant[:]); err != nil {
		return err
	}
	_, err := h.exec(ctx, "DELETE FROM touched WHERE tenant = ? AND accessor = ?", h.tenant[:], accessor)
	return err
}

func (h *handle) touched(ctx context.Context, s *credential.Stored) error {
	var at int64
	err := h.one(ctx, "SELECT at FROM touched WHERE tenant = ? AND accessor = ?", []any{h.tenant[:], s.Accessor}, &at)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	s.LastUsed = moment(at)
	return err
}

// The second questions of single nouns.

type nodeShelf struct{ shelf[ident.Node, org.Node] }

func (s nodeShelf) All(ctx context.Context) ([]org.Node, error) { return s.all(ctx, everything) }

func (s nodeShelf) InUse(ctx context.Context, id ident.Node) (bool, error) {
	var n int
	t := s.h.tenant[:]
	err := s.h.one(ctx, `SELECT (SELECT count(*) FROM devices WHERE tenant = ? AND node = ? AND state <> 'deleted') +
		(SELECT count(*) FROM sources WHERE tenant = ? AND node = ?) + (SELECT count(*) FROM memberships WHERE tenant = ? AND node = ?) +
		(SELECT count(*) FROM invitations WHERE tenant = ? AND node = ?)`, []any{t, id[:], t, id[:], t, id[:], t, id[:]}, &n)
	return n > 0, err
}

func everything(q *bun.SelectQuery) *bun.SelectQuery { return q }

func ownedBy(owner []byte) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("r.owner = ?", owner) }
}

type membershipShelf struct {
	shelf[ident.Membership, access.Membership]
}

func (s membershipShelf) Of(ctx context.Context, p ident.Principal) ([]access.Membership, error) {
	return s.all(ctx, ownedBy(p[:]))
}

func (s membershipShelf) OfGroup(ctx context.Context, g ident.Group) ([]access.Membership, error) {
	return s.all(ctx, ownedBy(g[:]))
}

func (s membershipShelf) OfRole(ctx context.Context, role ident.Role) ([]access.Membership, error) {
	every, err := s.all(ctx, everything)
	if err != nil {
		return nil, err
	}
	var of []access.Membership
	for _, m := range every {
		if m.Role == role {
			of = append(of, m)
		}
	}
	return of, nil
}

type tokenShelf struct {
	shelf[ident.Token, credential.PAT]
}

func (s tokenShelf) Of(ctx context.Context, p ident.Principal) ([]credential.PAT, error) {
	return newestFirst(s.all(ctx, ownedBy(p[:])))
}

type sessionShelf struct {
	shelf[ident.Session, credential.Session]
}

func (s sessionShelf) Of(ctx context.Context, p ident.Principal) ([]credential.Session, error) {
	return newestFirst(s.all(ctx, ownedBy(p[:])))
}

type linkShelf struct {
	shelf[ident.Link, credential.Link]
}

func (s linkShelf) Of(ctx context.Context, p ident.Principal) ([]credential.Link, error) {
	return newestFirst(s.all(ctx, ownedBy(p[:])))
}

func newestFirst[V any](vs []V, err error) ([]V, error) {
	for i, j := 0, len(vs)-1; i < j; i, j = i+1, j-1 {
		vs[i], vs[j] = vs[j], vs[i]
	}
	return vs, err
}

type bearerShelf struct {
	shelf[ident.Token, credential.Bearer]
}

func (s bearerShelf) Family(ctx context.Context, f ident.Session) ([]credential.Bearer, error) {
	return s.all(ctx, ownedBy(f[:]))
}

type deviceShelf struct {
	shelf[ident.Device, device.Device]
}

func (s deviceShelf) Find(ctx context.Context, q store.Query, f store.DeviceFilter) (store.Page[device.Device], error) {
	return s.list(ctx, q, func(sq *bun.SelectQuery) *bun.SelectQuery {
		sq = sq.Where("r.state <> 'deleted'")
		if f.Nodes != nil {
			sq = sq.Where("r.node IN (?)", bun.List(blobs(f.Nodes)))
		}
		if f.Name != "" {
			sq = sq.Where("r.label = ?", f.Name)
		}
		if f.State != "" {
			sq = sq.Where("r.state = ?", string(f.State))
		}
		if !f.Decoder.IsZero() {
			sq = sq.Where("r.owner = ?", f.Decoder[:])
		}
		return sq
	})
}

func (s deviceShelf) ByAddress(ctx context.Context, a device.Address) (device.Device, error) {
	var id []byte
	if err := s.h.one(ctx, "SELECT device FROM device_addresses WHERE tenant = ? AND kind = ? AND value = ?", []any{s.h.tenant[:], string(a.Kind), a.Value}, &id); err != nil {
		return device.Device{}, err
	}
	return s.Get(ctx, ident.Device(id))
}

func (s deviceShelf) AssignedAt(ctx context.Context, id ident.Device, at time.Time) (ident.Node, error) {
	var node []byte
	err := s.h.one(ctx, "SELECT node FROM assignments WHERE tenant = ? AND device = ? AND since <= ? ORDER BY since DESC LIMIT 1", []any{s.h.tenant[:], id[:], micros(at)}, &node)
	if err != nil {
		return ident.Node{}, err
	}
	return ident.Node(node), nil
}

type versionShelf struct {
	shelf[ident.Version, decoder.Version]
}

func (s versionShelf) Of(ctx context.Context, d ident.Decoder, q store.Query) (store.Page[decoder.Version], error) {
	return s.list(ctx, q, ownedBy(d[:]))
}

func (s versionShelf) Count(ctx context.Context, d ident.Decoder) (int, error) {
	return s.count(ctx, "r.owner = ?", d[:])
}

type keyShelf struct {
	shelf[ident.Key, credential.IngestionKey]
}

func (s keyShelf) Of(ctx context.Context, src ident.Source) ([]credential.IngestionKey, error) {
	return s.all(ctx, ownedBy(src[:]))
}

type personShelf struct {
	shelf[ident.Principal, principal.Person]
}

// ByEmail reads and decodes one person whether the address is theirs or not, the next one in order, or the first behind the
// last, which is looked up either way: what it takes must not tell whose addresses there are.
func (s personShelf) ByEmail(ctx context.Context, email string) (principal.Person, error) {
	found, err := s.all(ctx, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("r.label = "+s.h.session.d.Greatest+"(COALESCE((SELECT MIN(n.label) FROM persons AS n WHERE "+nextOfTenant+" AND n.label >= ?), ''), (SELECT MIN(n.label) FROM persons AS n WHERE "+nextOfTenant+"))",
			s.h.tenant[:], email, s.h.tenant[:])
	})
	if err == nil && (len(found) == 0 || found[0].Email != email) {
		err = fault.Missing()
	}
	if err != nil {
		return principal.Person{}, err
	}
	return found[0], nil
}
