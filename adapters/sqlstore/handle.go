package sqlstore

import (
	"context"
	"time"

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
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

type reader struct{ h *handle }

var _ store.Reader = reader{}

func on[K comparable, V any](h *handle, n *noun[K, V]) shelf[K, V] { return shelf[K, V]{h, n} }

func (r reader) Revision(ctx context.Context) (uint64, error) {
	k, err := r.h.kept(ctx)
	return k.revision, err
}

// Policy reads what decisions are made from, in this one snapshot.
func (r reader) Policy(ctx context.Context) (access.Records, error) {
	var out access.Records
	k, err := r.h.kept(ctx)
	if err != nil {
		return out, err
	}
	out.Revision = k.revision
	if out.Nodes, err = on(r.h, nodes).all(ctx, everything); err != nil {
		return out, err
	}
	if out.Roles, err = on(r.h, roles).all(ctx, everything); err != nil {
		return out, err
	}
	if out.Groups, err = on(r.h, groups).all(ctx, everything); err != nil {
		return out, err
	}
	if out.Memberships, err = on(r.h, memberships).all(ctx, everything); err != nil {
		return out, err
	}
	people, err := on(r.h, members).all(ctx, everything)
	out.Active = make(map[ident.Principal]bool, len(people))
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
func (r reader) Keys() store.Keys                                          { return keyShelf{on(r.h, sourceKeys)} }
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

func (r reader) Failures(ctx context.Context, key string) (principal.Failure, error) {
	f := principal.Failure{Key: key}
	var last int64
	if err := r.h.alone(ctx, "failures "+key); err != nil { // it is about to be counted up
		return f, err
	}
	err := r.h.one(ctx, "SELECT count, last FROM failures WHERE tenant = ? AND key = ?", []any{r.h.tenant[:], key}, &f.Count, &last)
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	f.Last = moment(last)
	return f, err
}

func (r reader) Folds(ctx context.Context, before time.Time, limit int) ([]store.Fold, error) {
	rows, err := r.h.query(ctx, "SELECT kind, key, node, bucket, until, count FROM folds WHERE tenant = ? AND until <= ? ORDER BY bucket, kind, key, node LIMIT ?", r.h.tenant[:], micros(before), limit)
	if err != nil {
		return nil, away(err)
	}
	defer func() { _ = rows.Close() }()
	var out []store.Fold
	for rows.Next() {
		var f store.Fold
		var node []byte
		var bucket, until int64
		if err := rows.Scan(&f.Kind, &f.Key, &node, &bucket, &until, &f.Count); err != nil {
			return nil, away(err)
		}
		f.Node, f.Bucket, f.Until = ident.Node(node), moment(bucket), moment(until)
		out = append(out, f)
	}
	return out, away(rows.Err())
}

// writing is the writing half of a Writer.
type writing struct{ h *handle }

var _ store.Writer = (*change)(nil)

func (w writing) Read() store.Reader { return reader(w) }

func put[K comparable, V any](h *handle, n *noun[K, V]) records[K, V] { return records[K, V]{on(h, n)} }

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
func (w writing) Tokens() store.Records[ident.Token, credential.PAT]      { return put(w.h, tokens) }
func (w writing) Devices() store.Records[ident.Device, device.Device]     { return put(w.h, devices) }
func (w writing) Imports() store.Records[ident.Import, device.Import]     { return put(w.h, imports) }
func (w writing) Decoders() store.Records[ident.Decoder, decoder.Decoder] { return put(w.h, decoders) }
func (w writing) Versions() store.Records[ident.Version, decoder.Version] { return put(w.h, versions) }
func (w writing) Sources() store.Records[ident.Source, source.Source]     { return put(w.h, sources) }
func (w writing) Keys() store.Records[ident.Key, credential.IngestionKey] {
	return put(w.h, sourceKeys)
}
func (w writing) Persons() store.Records[ident.Principal, principal.Person] { return put(w.h, persons) }
func (w writing) Sessions() store.Records[ident.Session, credential.Session] {
	return put(w.h, sessions)
}
func (w writing) Bearers() store.Records[ident.Token, credential.Bearer] { return put(w.h, bearers) }
func (w writing) Links() store.Records[ident.Link, credential.Link]      { return put(w.h, links) }
func (w writing) Claims() store.Records[[32]byte, store.Claim]           { return put(w.h, claims) }

// Settle is an administrator's act on an uplink.
func (w writing) Settle(ctx context.Context, u uplink.Uplink) (uplink.Uplink, error) {
	w.h.written = true
	u, err := w.h.replace(ctx, u)
	return u, err
}

func (w writing) DropFolds(ctx context.Context, folds []store.Fold) error {
	w.h.written = true
	for _, f := range folds {
		n, err := w.h.exec(ctx, "DELETE FROM folds WHERE tenant = ? AND kind = ? AND key = ? AND node = ? AND bucket = ? AND count = ?",
			w.h.tenant[:], f.Kind, f.Key, f.Node[:], micros(f.Bucket), f.Count)
		if err != nil {
			return err
		}
		if n != 1 {
			return store.ErrRevision
		}
	}
	return nil
}
