package manage

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

func sourceShelf(r store.Reader) store.Shelf[ident.Source, source.Source] { return r.Sources() }

// Source answers one source.
func (m *Manage) Source(ctx context.Context, s access.Scope, id ident.Source) (source.Source, error) {
	src, err := get(ctx, m, s, sourceShelf, id)
	if err == nil {
		err = s.Require(access.SourceRead, src.Node)
	}
	return src, err
}

// Sources lists the sources within reach: all, or those that are named title.
func (m *Manage) Sources(ctx context.Context, s access.Scope, q store.Query, title string) (store.Page[source.Source], error) {
	return named(ctx, m, s, access.SourceRead, q, title, func(r store.Reader) store.Named[ident.Source, source.Source] { return r.Sources() })
}

// CreateSource opens a way in at a node, with a service account that may submit uplinks there and nothing else.
func (m *Manage) CreateSource(ctx context.Context, c *Call, in source.Source) (source.Source, error) {
	if in.Node.IsZero() {
		in.Node = c.Scope.Policy().Root()
	}
	if err := c.Scope.Require(access.SourceWrite, in.Node); err != nil {
		return source.Source{}, refer(err, "/node_id", "node")
	}
	now := m.now()
	in.State, in.CreatedAt, in.UpdatedAt = source.Active, now, now
	ident.Fresh(m.enter.Mint, &in.ID)
	ident.Fresh(m.enter.Mint, &in.Account)
	var grant access.Membership
	ident.Fresh(m.enter.Mint, &grant.ID)
	grant.Principal, grant.Role, grant.Node, grant.Recursive, grant.CreatedAt, grant.UpdatedAt = in.Account, access.SourceAccount, in.Node, true, now, now
	ev, err := m.event(ctx, c, audit.SourceCreated, m.sourceTarget(c, in), sourceChanges(source.Source{}, in)...)
	if err != nil {
		return source.Source{}, err
	}
	var made source.Source
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		if err := room(ctx, "sources", c.limits.Sources, w.Read().Sources()); err != nil {
			return "", nil, err
		}
		if err := checkSource(ctx, w, c, in); err != nil {
			return "", nil, err
		}
		if _, err := w.Members().Put(ctx, principal.Member{ID: in.Account, Kind: principal.Service, Name: in.Name, Source: in.ID, CreatedAt: now, UpdatedAt: now}); err != nil {
			return "", nil, err
		}
		if _, err := w.Memberships().Put(ctx, grant); err != nil {
			return "", nil, err
		}
		var err error
		made, err = w.Sources().Put(ctx, in)
		return in.ID.String(), []audit.Event{ev}, err
	})
	return made, err
}

func (m *Manage) sourceTarget(c *Call, s source.Source) audit.Target {
	return enter.Target("source", s.ID, c.Scope.Path(s.Node)...)
}

func sourceChanges(was, is source.Source) []audit.Change {
	return []audit.Change{
		audit.Set("name", was.Name, is.Name), audit.Set("node", was.Node.String(), is.Node.String()), audit.Set("format", string(was.Format), string(is.Format)),
		audit.Set("state", string(was.State), string(is.State)), audit.Set("devices", ids(was.Devices), ids(is.Devices)),
		audit.Set("applications", strings.Join(was.Applications, " "), strings.Join(is.Applications, " ")),
	}
}

func checkSource(ctx context.Context, w store.Writer, c *Call, s source.Source) error {
	if err := name(s.Name); err != nil {
		return err
	}
	if !s.Format.Valid() {
		return fault.New(fault.Invalid, "unknown_format", "A source's format is chirpstack, tts or plain.").WithField("/format", "unknown format")
	}
	if len(s.Applications) > source.MaxAllowed || len(s.Devices) > source.MaxAllowed {
		return fault.New(fault.Invalid, "long_list", "A source is narrowed by at most %d applications and %d devices.", source.MaxAllowed, source.MaxAllowed)
	}
	for _, a := range s.Applications {
		if a == "" || len(a) > 128 {
			return fault.New(fault.Invalid, "bad_application", "An application id has 1 to 128 bytes.").WithField("/application_ids", "empty or too long")
		}
	}
	for _, d := range s.Devices {
		one, err := w.Devices().Get(ctx, d)
		if err == nil && c.Scope.Require(access.DeviceRead, one.Node) != nil {
			err = fault.Missing() // what the caller cannot see is not there
		}
		if err != nil {
			return refer(err, "/device_ids", "device")
		}
	}
	return living(ctx, w.Read(), s.Node)
}

// SourcePatch is what may be changed of a source in place; nil leaves a part as it is.
type SourcePatch struct {
	Name         *string
	State        *source.State
	Applications *[]string
	Devices      *[]ident.Device
}

// UpdateSource changes a source. A disabled one refuses its keys at once.
func (m *Manage) UpdateSource(ctx context.Context, c *Call, id ident.Source, rev uint64, p SourcePatch) (source.Source, error) {
	var out source.Source
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		s, err := m.source(ctx, w, c, id, access.SourceWrite)
		if err != nil {
			return nil, err
		}
		if s.Rev != rev {
			return nil, store.ErrRevision
		}
		was := s
		if p.Name != nil {
			s.Name = *p.Name
		}
		to := s.State
		if p.State != nil {
			if *p.State != source.Active && *p.State != source.Disabled {
				return nil, fault.New(fault.Invalid, "bad_state", "A source's state is active or disabled.").WithField("/state", "unknown state")
			}
			to = *p.State
		}
		s.Turn(to, m.now())
		if p.Applications != nil {
			s.Applications = *p.Applications
		}
		if p.Devices != nil {
			s.Devices = *p.Devices
		}
		if err := checkSource(ctx, w, c, s); err != nil {
			return nil, err
		}
		if s.Name == was.Name && s.State == was.State && slices.Equal(s.Applications, was.Applications) && slices.Equal(s.Devices, was.Devices) {
			out = was
			return nil, errUnchanged
		}
		s.UpdatedAt = m.now()
		if out, err = w.Sources().Put(ctx, s); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.SourceUpdated, m.sourceTarget(c, s), sourceChanges(was, s)...))
	})
	return out, err
}

func (m *Manage) source(ctx context.Context, w store.Writer, c *Call, id ident.Source, p access.Permission) (source.Source, error) {
	s, err := w.Sources().Get(ctx, id)
	if err == nil {
		err = c.Scope.Require(p, s.Node)
	}
	return s, err
}

// DeleteSource closes a way in: its keys, its account and its membership go with it.
func (m *Manage) DeleteSource(ctx context.Context, c *Call, id ident.Source, rev uint64) error {
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		s, err := m.source(ctx, w, c, id, access.SourceWrite)
		if err != nil {
			return nil, err
		}
		keys, err := w.Read().Keys().Of(ctx, id)
		if err != nil {
			return nil, err
		}
		var gone []string
		for _, k := range keys {
			gone = append(gone, keyWords(k))
			if err := w.Keys().Delete(ctx, k.ID, k.Rev); err != nil {
				return nil, err
			}
		}
		ms, err := w.Read().Memberships().Of(ctx, s.Account)
		if err != nil {
			return nil, err
		}
		for _, one := range ms {
			if err := w.Memberships().Delete(ctx, one.ID, one.Rev); err != nil {
				return nil, err
			}
		}
		account, err := w.Members().Get(ctx, s.Account)
		if err != nil {
			return nil, err
		}
		if err := w.Members().Delete(ctx, account.ID, account.Rev); err != nil {
			return nil, err
		}
		if err := w.Sources().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.SourceDeleted, m.sourceTarget(c, s), append(sourceChanges(s, source.Source{}), audit.Set("keys", strings.Join(gone, ", "), ""))...))
	})
}

// Keys lists a source's ingestion keys.
func (m *Manage) Keys(ctx context.Context, s access.Scope, of ident.Source) ([]credential.IngestionKey, error) {
	var keys []credential.IngestionKey
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		src, err := r.Sources().Get(ctx, of)
		if err != nil {
			return err
		}
		if err := s.Require(access.SourceRead, src.Node); err != nil {
			return err
		}
		keys, err = r.Keys().Of(ctx, of)
		return err
	})
	return keys, err
}

// CreateKey makes an ingestion key for a source and answers it once. With a span of overlap the source's other keys end
// after it: that is rotation. Without one they stay, and two are the most.
func (m *Manage) CreateKey(ctx context.Context, c *Call, of ident.Source, title string, life time.Duration, overlap *time.Duration) (credential.IngestionKey, secret.Text, error) {
	if err := name(title); err != nil {
		return credential.IngestionKey{}, secret.Text{}, err
	}
	if life <= 0 {
		life = credential.IngestionMax
	}
	if life > credential.IngestionMax {
		return credential.IngestionKey{}, secret.Text{}, fault.New(fault.Invalid, "bad_life", "An ingestion key lives at most 730 days.").WithField("/ttl_seconds", "too long")
	}
	if overlap != nil && (*overlap < 0 || *overlap > credential.OverlapMax) {
		return credential.IngestionKey{}, secret.Text{}, fault.New(fault.Invalid, "bad_overlap", "Old keys may overlap a new one by at most 30 days.").WithField("/overlap_seconds", "too long")
	}
	whole, stored := m.enter.Issue(credential.KindIngestion, life)
	fresh := credential.IngestionKey{Name: title, Source: of, Stored: stored}
	ident.Fresh(m.enter.Mint, &fresh.ID)
	var made credential.IngestionKey
	err := m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		src, err := m.source(ctx, w, c, of, access.SourceKeyCreate)
		if err != nil {
			return "", nil, err
		}
		keys, err := w.Read().Keys().Of(ctx, of)
		if err != nil {
			return "", nil, err
		}
		now, live := m.now(), 0
		action := audit.KeyCreated
		var old, left []string // the other keys that this touches, before and after
		ended := src
		for _, k := range keys {
			if !k.Live(now) {
				old = append(old, keyWords(k))
				if k.ExpiresAt.After(now) { // made in what is the future now: the clock was set back
					k.ExpiresAt = now
				}
				ended.End(k.Accessor, k.ExpiresAt)
				if err := w.Keys().Delete(ctx, k.ID, k.Rev); err != nil {
					return "", nil, err
				}
				continue
			}
			if overlap == nil || *overlap > 0 {
				live++ // one that ends now makes room
			}
			if overlap != nil {
				action = audit.KeyRotated
				if end := now.Add(*overlap); k.ExpiresAt.After(end) {
					old = append(old, keyWords(k))
					k.ExpiresAt, k.UpdatedAt = end, now
					left = append(left, keyWords(k))
					if _, err := w.Keys().Put(ctx, k); err != nil {
						return "", nil, err
					}
				}
			}
		}
		if err := full("keys of this source", c.limits.KeysPerSource, live); err != nil {
			return "", nil, err
		}
		if len(old) > len(left) { // some are gone
			if _, err := w.Sources().Put(ctx, ended); err != nil {
				return "", nil, err
			}
		}
		if made, err = w.Keys().Put(ctx, fresh); err != nil {
			return "", nil, err
		}
		ev, err := one(m.event(ctx, c, action, m.sourceTarget(c, src), audit.Set("key", "", fresh.ID.String()), audit.Set("accessor", "", stored.Accessor),
			audit.Set("expires_at", "", stored.ExpiresAt.Format(time.RFC3339)), audit.Set("name", "", title),
			audit.Set("keys", strings.Join(old, ", "), strings.Join(left, ", "))))
		return fresh.ID.String(), ev, err
	})
	return made, whole, err
}

// keyWords are what the log says of a key: which, by what it is known, and until when.
func keyWords(k credential.IngestionKey) string {
	return k.ID.String() + " " + k.Accessor + " " + k.ExpiresAt.Format(time.RFC3339)
}

// Key answers one ingestion key of a source.
func (m *Manage) Key(ctx context.Context, s access.Scope, of ident.Source, id ident.Key) (credential.IngestionKey, error) {
	keys, err := m.Keys(ctx, s, of)
	if err != nil {
		return credential.IngestionKey{}, err
	}
	for _, k := range keys {
		if k.ID == id {
			return k, nil
		}
	}
	return credential.IngestionKey{}, fault.Missing()
}

// RevokeKey ends a key at once.
func (m *Manage) RevokeKey(ctx context.Context, c *Call, of ident.Source, id ident.Key, rev uint64) error {
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		src, err := m.source(ctx, w, c, of, access.SourceKeyRevoke)
		if err != nil {
			return nil, err
		}
		k, err := w.Keys().Get(ctx, id)
		if err == nil && k.Source != of {
			err = fault.Missing()
		}
		if err != nil {
			return nil, err
		}
		if err := w.Keys().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		ended := src
		ended.End(k.Accessor, m.now())
		if _, err := w.Sources().Put(ctx, ended); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.KeyRevoked, m.sourceTarget(c, src), audit.Set("key", id.String(), ""), audit.Set("accessor", k.Accessor, ""),
			audit.Set("expires_at", k.ExpiresAt.Format(time.RFC3339), ""), audit.Set("name", k.Name, "")))
	})
}

// Tokens lists members' personal access tokens of the tenant, for those who may see others'.
func (m *Manage) Tokens(ctx context.Context, s access.Scope, q store.Query) (store.Page[credential.PAT], error) {
	return list(ctx, m, s, access.TokenRead, q, func(r store.Reader) store.Shelf[ident.Token, credential.PAT] { return r.Tokens() })
}

// MyTokens lists the caller's own tokens of the tenant. Who comes with a token, which was made for something else, has none.
func (m *Manage) MyTokens(ctx context.Context, s access.Scope) ([]credential.PAT, error) {
	if s.Subject().Narrowed {
		return nil, nil
	}
	var own []credential.PAT
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		own, err = r.Tokens().Of(ctx, s.Actor().ID)
		return err
	})
	return own, err
}

// CreateToken makes a personal access token for the caller in the tenant and answers it once. It is never wider than what
// the caller may do when it is used.
func (m *Manage) CreateToken(ctx context.Context, c *Call, title string, set access.Set, life time.Duration) (credential.PAT, secret.Text, error) {
	if c.Scope.Subject().Narrowed {
		return credential.PAT{}, secret.Text{}, enter.ErrPerson()
	}
	if err := name(title); err != nil {
		return credential.PAT{}, secret.Text{}, err
	}
	if set.IsEmpty() || set.Has(access.UplinkSubmit) {
		return credential.PAT{}, secret.Text{}, fault.New(fault.Invalid, "bad_permissions", "A token holds at least one permission; events are submitted with ingestion keys.").WithField("/permissions", "empty, or not for tokens")
	}
	for _, p := range set.List() {
		if !c.Scope.Policy().Anywhere(c.Scope.Subject(), p, c.Scope.At()).Allowed {
			return credential.PAT{}, secret.Text{}, access.Refuse(p)
		}
	}
	if life <= 0 {
		life = credential.PersonalDefault
	}
	if life > credential.PersonalMax {
		return credential.PAT{}, secret.Text{}, fault.New(fault.Invalid, "bad_life", "A personal access token lives at most 90 days.").WithField("/ttl_seconds", "too long")
	}
	whole, stored := m.enter.Issue(credential.KindPersonal, life)
	fresh := credential.PAT{Name: title, Principal: c.Scope.Actor().ID, Permissions: set, Stored: stored}
	ident.Fresh(m.enter.Mint, &fresh.ID)
	ev, err := m.event(ctx, c, audit.TokenCreated, enter.Target("token", fresh.ID), audit.Set("accessor", "", stored.Accessor),
		audit.Set("permissions", "", permissionNames(set)), audit.Set("expires_at", "", stored.ExpiresAt.Format(time.RFC3339)), audit.Set("name", "", title))
	if err != nil {
		return credential.PAT{}, secret.Text{}, err
	}
	var made credential.PAT
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		own, err := w.Read().Tokens().Of(ctx, fresh.Principal)
		if err != nil {
			return "", nil, err
		}
		live := 0
		for _, t := range own {
			if t.Live(m.now()) {
				live++
			} else if err := w.Tokens().Delete(ctx, t.ID, t.Rev); err != nil {
				return "", nil, err
			}
		}
		if err := full("tokens of one person", c.limits.TokensPerPerson, live); err != nil {
			return "", nil, err
		}
		made, err = w.Tokens().Put(ctx, fresh)
		return fresh.ID.String(), []audit.Event{ev}, err
	})
	return made, whole, err
}

// own reports whether a token is the caller's to look at and to end without a permission: each of a person's who signed in,
// and none other than itself of a token's, which was made for something else.
func own(s access.Scope, t credential.PAT) bool {
	return t.Principal == s.Actor().ID && (!s.Subject().Narrowed || t.Accessor == s.Actor().Accessor)
}

// Token answers a token: the caller's own, or another one with token:read.
func (m *Manage) Token(ctx context.Context, s access.Scope, id ident.Token) (credential.PAT, error) {
	t, err := get(ctx, m, s, func(r store.Reader) store.Shelf[ident.Token, credential.PAT] { return r.Tokens() }, id)
	if err == nil && !own(s, t) {
		err = s.Require(access.TokenRead, ident.Node{})
	}
	if err != nil {
		return credential.PAT{}, err
	}
	return t, nil
}

// RevokeToken ends a token: the caller's own, or another one with token:revoke.
func (m *Manage) RevokeToken(ctx context.Context, c *Call, id ident.Token, rev uint64) error {
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		t, err := w.Tokens().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if !own(c.Scope, t) {
			if err := c.Scope.Require(access.TokenRevoke, ident.Node{}); err != nil {
				return nil, err
			}
		}
		if err := w.Tokens().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.TokenRevoked, enter.Target("token", id), audit.Set("accessor", t.Accessor, ""), audit.Set("principal", t.Principal.String(), "")))
	})
}
