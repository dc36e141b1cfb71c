package signin

import (
	"context"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// Refresh gives the next access and refresh tokens for a refresh token, once. A second use is theft, or a thief was first:
// either way the whole family ends.
func (s *SignIn) Refresh(ctx context.Context, presented secret.Text, o access.Origin) (Granted, error) {
	t, err := credential.Parse(presented.Reveal())
	if err != nil || t.Kind != credential.KindRefresh {
		return Granted{}, enter.ErrCredential()
	}
	home, err := s.enter.Locate(ctx, t)
	if err != nil {
		return Granted{}, err
	}
	now := s.enter.Now()
	var g Granted
	err = s.store.View(ctx, s.enter.System(home.Tenant, "refresh", o), func(ctx context.Context, r store.Reader) error {
		b, err := r.Bearers().Get(ctx, ident.Token(home.Row))
		if err != nil {
			return err
		}
		if err := s.enter.Match(t, b.KID, b.Verifier); err != nil {
			return err
		}
		g.Session, err = r.Sessions().Get(ctx, b.Session)
		return err
	})
	if err != nil {
		return Granted{}, gone(err)
	}
	sc := s.enter.As(ident.Platform, access.Actor{Kind: access.Human, ID: g.Session.Principal, Accessor: t.Accessor, AMR: g.Session.AMR}, "refresh", o)
	next := s.bearers(&g)
	refreshed, err := s.enter.Event(ctx, sc, audit.TokenRefresh, enter.Target("session", g.Session.ID))
	if err != nil {
		return Granted{}, err
	}
	reused, err := s.enter.Outcome(ctx, sc, audit.TokenReuse, enter.Target("session", g.Session.ID), audit.Fail, "family_revoked")
	if err != nil {
		return Granted{}, err
	}
	verdict := error(nil)
	err = s.store.Change(ctx, sc, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		verdict = nil
		b, err := w.Bearers().Get(ctx, ident.Token(home.Row))
		if err != nil {
			return nil, err
		}
		session, err := w.Sessions().Get(ctx, b.Session)
		if err != nil {
			return nil, err
		}
		p, err := w.Persons().Get(ctx, b.Principal)
		if err != nil {
			return nil, err
		}
		if !b.SpentAt.IsZero() {
			verdict = enter.ErrCredential()
			return []audit.Event{reused}, drop(ctx, w, session)
		}
		if !b.Live(now) || !session.Live(now) || p.Disabled() {
			return nil, enter.ErrCredential()
		}
		b.SpentAt, b.UpdatedAt = now, now
		if _, err := w.Bearers().Put(ctx, b); err != nil {
			return nil, err
		}
		for _, n := range next {
			if _, err := w.Bearers().Put(ctx, n); err != nil {
				return nil, err
			}
		}
		return []audit.Event{refreshed}, nil
	})
	if err == nil {
		err = verdict
	}
	if err == nil { // refreshing is using: the session's idle time begins anew
		err = s.store.Ingest(ctx, s.enter.System(ident.Platform, "refresh", o), func(ctx context.Context, f store.Flow) error {
			return f.Touch(ctx, g.Session.Accessor, now)
		})
	}
	if err != nil {
		return Granted{}, gone(err)
	}
	return g, nil
}

// gone turns a record that is not there into a credential that is not in force.
func gone(err error) error {
	if fault.Is(err, fault.NotFound) {
		return enter.ErrCredential()
	}
	return err
}

// Logout ends the caller's session and its tokens.
func (s *SignIn) Logout(ctx context.Context, id enter.Identity, o access.Origin) error {
	return s.end(ctx, id, id.Session, 0, audit.Logout, o)
}

// EndSession ends one of the caller's sessions, of the revision that they saw.
func (s *SignIn) EndSession(ctx context.Context, id enter.Identity, session ident.Session, rev uint64, o access.Origin) error {
	return s.end(ctx, id, session, rev, audit.SessionEnded, o)
}

// end ends a session of a revision; 0 is whatever it has.
func (s *SignIn) end(ctx context.Context, id enter.Identity, session ident.Session, rev uint64, a audit.Action, o access.Origin) error {
	sc, err := s.enter.Self(id, o)
	if err != nil {
		return err
	}
	ev, err := s.enter.Event(ctx, sc, a, enter.Target("session", session))
	if err != nil {
		return err
	}
	return s.store.Change(ctx, sc, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		old, err := w.Sessions().Get(ctx, session)
		if err != nil {
			return nil, err
		}
		if old.Principal != id.Subject.Principal {
			return nil, fault.Missing()
		}
		if rev != 0 && old.Rev != rev {
			return nil, store.ErrRevision
		}
		return []audit.Event{ev}, drop(ctx, w, old)
	})
}

// Sessions lists the caller's open sessions, newest first.
func (s *SignIn) Sessions(ctx context.Context, id enter.Identity, o access.Origin) ([]credential.Session, error) {
	sc, err := s.enter.Self(id, o)
	if err != nil {
		return nil, err
	}
	var open []credential.Session
	now := s.enter.Now()
	err = s.store.View(ctx, sc, func(ctx context.Context, r store.Reader) error {
		all, err := r.Sessions().Of(ctx, id.Subject.Principal)
		open = nil
		for _, one := range all {
			if one.Live(now) {
				open = append(open, one)
			}
		}
		return err
	})
	return open, err
}

// Me is what a person sees of themselves.
type Me struct {
	ID      ident.Principal
	Email   string
	Name    string
	Tenants []ident.Tenant // where they are a member now
}

// Me answers the caller's own record.
func (s *SignIn) Me(ctx context.Context, id enter.Identity, o access.Origin) (Me, error) {
	sc, err := s.enter.Self(id, o)
	if err != nil {
		return Me{}, err
	}
	var me Me
	var joined []ident.Tenant
	if err := s.store.View(ctx, sc, func(ctx context.Context, r store.Reader) error {
		p, err := r.Persons().Get(ctx, id.Subject.Principal)
		me, joined = Me{ID: p.ID, Email: p.Email, Name: p.Name}, p.Tenants
		return err
	}); err != nil {
		return Me{}, err
	}
	for _, t := range joined {
		err := s.store.View(ctx, s.enter.System(t, "me", o), func(ctx context.Context, r store.Reader) error {
			of, err := r.Tenants().Get(ctx, t)
			if err == nil && of.State == tenant.Deleted {
				err = fault.Missing()
			}
			if err == nil {
				_, err = r.Members().Get(ctx, me.ID)
			}
			return err
		})
		switch {
		case err == nil:
			me.Tenants = append(me.Tenants, t)
		case !fault.Is(err, fault.NotFound):
			return Me{}, err
		}
	}
	return me, nil
}
