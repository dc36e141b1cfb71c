package memory

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

type reader struct{ h *handle }

var _ store.Reader = reader{}

func (r reader) Revision(context.Context) (uint64, error) { return r.h.book.revision, r.h.alive() }

// Policy reads what decisions are made from.
func (r reader) Policy(context.Context) (access.Records, error) {
	out := access.Records{Revision: r.h.book.revision, Active: map[ident.Principal]bool{}}
	var err error
	if out.Nodes, err = on(r.h, nodes).all(every); err != nil {
		return out, err
	}
	if out.Roles, err = on(r.h, roles).all(every); err != nil {
		return out, err
	}
	if out.Groups, err = on(r.h, groups).all(every); err != nil {
		return out, err
	}
	if out.Memberships, err = on(r.h, memberships).all(every); err != nil {
		return out, err
	}
	people, err := on(r.h, members).all(every)
	for _, m := range people {
		out.Active[m.ID] = true
	}
	return out, err
}

func (r reader) Tenants() store.Shelf[ident.Tenant, tenant.Tenant]           { return on(r.h, tenants) }
func (r reader) Limits() store.Shelf[ident.Tenant, store.Limits]             { return on(r.h, limits) }
func (r reader) Nodes() store.Nodes                                          { return nodeShelf{on(r.h, nodes)} }
func (r reader) Roles() store.Catalogue[ident.Role, access.Role]             { return on(r.h, roles) }
func (r reader) Groups() store.Catalogue[ident.Group, access.Group]          { return on(r.h, groups) }
func (r reader) Memberships() store.Memberships                              { return membershipShelf{on(r.h, memberships)} }
func (r reader) Members() store.Catalogue[ident.Principal, principal.Member] { return on(r.h, members) }
func (r reader) Invitations() store.Counted[ident.Link, principal.Invitation] {
	return on(r.h, invitations)
}
func (r reader) Tokens() store.Owned[ident.Token, credential.PAT]          { return tokenShelf{on(r.h, tokens)} }
func (r reader) Devices() store.Devices                                    { return deviceShelf{on(r.h, devices)} }
func (r reader) Imports() store.Shelf[ident.Import, device.Import]         { return on(r.h, imports) }
func (r reader) Decoders() store.Catalogue[ident.Decoder, decoder.Decoder] { return on(r.h, decoders) }
func (r reader) Versions() store.Versions                                  { return versionShelf{on(r.h, versions)} }
func (r reader) Sources() store.Catalogue[ident.Source, source.Source]     { return on(r.h, sources) }
func (r reader) Keys() store.Keys                                          { return keyShelf{on(r.h, keys)} }
func (r reader) Uplinks() store.Uplinks                                    { return uplinkShelf(r) }
func (r reader) Readings() store.Readings                                  { return readingShelf(r) }
func (r reader) Outcomes() store.Outcomes                                  { return outcomeShelf(r) }
func (r reader) Audit() store.Audit                                        { return auditShelf(r) }
func (r reader) Persons() store.Persons                                    { return personShelf{on(r.h, persons)} }
func (r reader) Sessions() store.Owned[ident.Session, credential.Session] {
	return sessionShelf{on(r.h, sessions)}
}
func (r reader) Bearers() store.Bearers                          { return bearerShelf{on(r.h, bearers)} }
func (r reader) Links() store.Owned[ident.Link, credential.Link] { return linkShelf{on(r.h, links)} }
func (r reader) Claims() store.Shelf[[32]byte, store.Claim]      { return on(r.h, claims) }

func (r reader) Failures(_ context.Context, key string) (principal.Failure, error) {
	f, _ := r.h.book.failures.get(key)
	f.Key = key
	return f, r.h.alive()
}

func (r reader) Folds(_ context.Context, before time.Time, limit int) ([]store.Fold, error) {
	var out []store.Fold
	for _, f := range r.h.book.folds.up("") {
		if !f.Until.After(before) && len(out) < limit {
			out = append(out, f)
		}
	}
	return out, r.h.alive()
}

// writing is the writing half of a Writer.
type writing struct{ h *handle }

var _ store.Writer = (*change)(nil)

func (w writing) Read() store.Reader                                  { return reader(w) }
func (w writing) Tenants() store.Records[ident.Tenant, tenant.Tenant] { return put(w.h, tenants) }
func (w writing) Limits() store.Records[ident.Tenant, store.Limits]   { return put(w.h, limits) }
func (w writing) Nodes() store.Records[ident.Node, org.Node]          { return put(w.h, nodes) }
func (w writing) Roles() store.Records[ident.Role, access.Role]       { return put(w.h, roles) }
func (w writing) Groups() store.Records[ident.Group, access.Group]    { return put(w.h, groups) }
func (w writing) Memberships() store.Records[ident.Membership, access.Membership] {
	return put(w.h, memberships)
}
func (w writing) Members() store.Records[ident.Principal, principal.Member] { return put(w.h, members) }
func (w writing) Invitations() store.Records[ident.Link, principal.Invitation] {
	return put(w.h, invitations)
}
func (w writing) Tokens() store.Records[ident.Token, credential.PAT]        { return put(w.h, tokens) }
func (w writing) Devices() store.Records[ident.Device, device.Device]       { return put(w.h, devices) }
func (w writing) Imports() store.Records[ident.Import, device.Import]       { return put(w.h, imports) }
func (w writing) Decoders() store.Records[ident.Decoder, decoder.Decoder]   { return put(w.h, decoders) }
func (w writing) Versions() store.Records[ident.Version, decoder.Version]   { return put(w.h, versions) }
func (w writing) Sources() store.Records[ident.Source, source.Source]       { return put(w.h, sources) }
func (w writing) Keys() store.Records[ident.Key, credential.IngestionKey]   { return put(w.h, keys) }
func (w writing) Persons() store.Records[ident.Principal, principal.Person] { return put(w.h, persons) }
func (w writing) Sessions() store.Records[ident.Session, credential.Session] {
	return put(w.h, sessions)
}
func (w writing) Bearers() store.Records[ident.Token, credential.Bearer] { return put(w.h, bearers) }
func (w writing) Links() store.Records[ident.Link, credential.Link]      { return put(w.h, links) }
func (w writing) Claims() store.Records[[32]byte, store.Claim]           { return put(w.h, claims) }

// Settle is an administrator's act on an uplink.
func (w writing) Settle(_ context.Context, u uplink.Uplink) (uplink.Uplink, error) {
	w.h.written = true
	return w.h.replace(u)
}

func (w writing) DropFolds(_ context.Context, folds []store.Fold) error {
	if err := w.h.alive(); err != nil {
		return err
	}
	w.h.written = true
	for _, f := range folds {
		if now, ok := w.h.book.folds.get(foldKey(f)); !ok || now.Count != f.Count {
			return store.ErrRevision
		}
		w.h.book.folds = w.h.book.folds.drop(foldKey(f))
	}
	return nil
}
