package memory

import (
	"context"
	"slices"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/ports/store"
)

// The second questions of single nouns. They look at all of a tenant's records of that noun, which are few.

type nodeShelf struct{ shelf[ident.Node, org.Node] }

func (s nodeShelf) All(context.Context) ([]org.Node, error) { return s.all(every) }

func (s nodeShelf) InUse(_ context.Context, id ident.Node) (bool, error) {
	for _, noun := range []nounID{deviceNoun, sourceNoun, membershipNoun, invitationNoun} {
		for _, r := range s.h.book.records[noun].up("") {
			if r.node == id && !r.hidden {
				return true, s.h.alive()
			}
		}
	}
	return false, s.h.alive()
}

type membershipShelf struct {
	shelf[ident.Membership, access.Membership]
}

func (s membershipShelf) Of(_ context.Context, p ident.Principal) ([]access.Membership, error) {
	return s.all(func(m access.Membership) bool { return m.Principal == p })
}

func (s membershipShelf) OfGroup(_ context.Context, g ident.Group) ([]access.Membership, error) {
	return s.all(func(m access.Membership) bool { return m.Group == g })
}

func (s membershipShelf) OfRole(_ context.Context, r ident.Role) ([]access.Membership, error) {
	return s.all(func(m access.Membership) bool { return m.Role == r })
}

type tokenShelf struct {
	shelf[ident.Token, credential.PAT]
}

func (s tokenShelf) Of(_ context.Context, p ident.Principal) ([]credential.PAT, error) {
	return newestFirst(s.all(func(v credential.PAT) bool { return v.Principal == p }))
}

type sessionShelf struct {
	shelf[ident.Session, credential.Session]
}

func (s sessionShelf) Of(_ context.Context, p ident.Principal) ([]credential.Session, error) {
	return newestFirst(s.all(func(v credential.Session) bool { return v.Principal == p }))
}

type linkShelf struct {
	shelf[ident.Link, credential.Link]
}

func (s linkShelf) Of(_ context.Context, p ident.Principal) ([]credential.Link, error) {
	return newestFirst(s.all(func(v credential.Link) bool { return v.Principal == p }))
}

func newestFirst[V any](vs []V, err error) ([]V, error) {
	slices.Reverse(vs)
	return vs, err
}

type bearerShelf struct {
	shelf[ident.Token, credential.Bearer]
}

func (s bearerShelf) Family(_ context.Context, id ident.Session) ([]credential.Bearer, error) {
	return s.all(func(v credential.Bearer) bool { return v.Session == id })
}

type deviceShelf struct {
	shelf[ident.Device, device.Device]
}

func (s deviceShelf) Find(_ context.Context, q store.Query, f store.DeviceFilter) (store.Page[device.Device], error) {
	return s.list(q, func(d device.Device, r row) bool {
		return (f.Nodes == nil || slices.Contains(f.Nodes, r.node)) && (f.Name == "" || f.Name == d.Name) &&
			(f.State == "" || f.State == d.State) && (f.Decoder.IsZero() || f.Decoder == d.Decoder)
	})
}

func (s deviceShelf) ByAddress(ctx context.Context, a device.Address) (device.Device, error) {
	id, ok := s.h.book.addresses.get(addressKey(a))
	if !ok {
		return device.Device{}, fault.Missing()
	}
	return s.Get(ctx, id)
}

func (s deviceShelf) AssignedAt(_ context.Context, id ident.Device, at time.Time) (ident.Node, error) {
	if err := s.h.alive(); err != nil {
		return ident.Node{}, err
	}
	for key, node := range s.h.book.assignments.down(idKey(id) + moment(at) + "\x00") { // the first that is not later
		if key[:ident.Size] == idKey(id) {
			return node, nil
		}
		break
	}
	return ident.Node{}, fault.Missing()
}

type versionShelf struct {
	shelf[ident.Version, decoder.Version]
}

func (s versionShelf) Of(_ context.Context, d ident.Decoder, q store.Query) (store.Page[decoder.Version], error) {
	return s.list(q, func(v decoder.Version, _ row) bool { return v.Decoder == d })
}

func (s versionShelf) Count(_ context.Context, d ident.Decoder) (int, error) {
	of, err := s.all(func(v decoder.Version) bool { return v.Decoder == d })
	return len(of), err
}

type keyShelf struct {
	shelf[ident.Key, credential.IngestionKey]
}

func (s keyShelf) Of(_ context.Context, src ident.Source) ([]credential.IngestionKey, error) {
	return s.all(func(v credential.IngestionKey) bool { return v.Source == src })
}

type personShelf struct {
	shelf[ident.Principal, principal.Person]
}

// ByEmail decodes one person whether the address is theirs or not, the next one in order.
func (s personShelf) ByEmail(_ context.Context, email string) (principal.Person, error) {
	if err := s.h.alive(); err != nil {
		return principal.Person{}, err
	}
	names := s.h.book.labels[personNoun]
	key := ""
	for _, from := range []string{"", email} { // the first of all, if none comes after
		for _, k := range names.up(from) {
			key = k
			break
		}
	}
	r, ok := s.rows().get(key)
	if !ok {
		return principal.Person{}, fault.Missing()
	}
	p, err := s.decode(r)
	if err == nil && p.Email != email {
		return principal.Person{}, fault.Missing()
	}
	return p, err
}
