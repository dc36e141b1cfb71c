package signin

import (
	"context"
	"slices"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// errLink is the one answer to every link that opens nothing.
func errLink() error {
	return fault.New(fault.NotFound, "bad_link", "This link is not valid, was used already, or is too old. Ask for a new one where you got it.")
}

// SetupLink answers a fresh setup link's token while there is no platform administrator, and voids the last one; an empty
// token says that the platform is set up.
func (s *SignIn) SetupLink(ctx context.Context) (secret.Text, error) {
	sc := s.enter.System(ident.Platform, "setup", access.Origin{})
	whole, stored := s.enter.Issue(credential.KindSetup, credential.SetupLife)
	link := credential.Link{Kind: credential.KindSetup, Stored: stored}
	ident.Fresh(s.enter.Mint, &link.ID)
	ev, err := s.enter.Event(ctx, sc, audit.TokenCreated, enter.Target("link", link.ID))
	if err != nil {
		return secret.Text{}, err
	}
	var ready bool
	if err := s.store.View(ctx, sc, func(ctx context.Context, r store.Reader) error {
		ready, err = hasAdmin(ctx, r)
		return err
	}); err != nil || ready {
		return secret.Text{}, err
	}
	err = s.store.Change(ctx, sc, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		old, err := w.Links().List(ctx, store.Query{Reach: access.Everywhere})
		if err != nil {
			return nil, err
		}
		for _, l := range old.Items {
			if l.Kind == credential.KindSetup {
				if err := w.Links().Delete(ctx, l.ID, l.Rev); err != nil {
					return nil, err
				}
			}
		}
		_, err = w.Links().Put(ctx, link)
		return []audit.Event{ev}, err
	})
	return whole, err
}

func hasAdmin(ctx context.Context, r store.Reader) (bool, error) {
	ms, err := r.Memberships().OfRole(ctx, access.PlatformAdmin)
	return len(ms) > 0, err
}

// link reads a platform link's record, checks the token against it and that it is in force.
func (s *SignIn) link(ctx context.Context, presented secret.Text, kind credential.Kind, o access.Origin) (credential.Link, error) {
	t, err := credential.Parse(presented.Reveal())
	if err != nil || t.Kind != kind {
		return credential.Link{}, errLink()
	}
	home, err := s.enter.Locate(ctx, t)
	if err != nil {
		return credential.Link{}, asLink(err)
	}
	var l credential.Link
	err = s.store.View(ctx, s.enter.System(home.Tenant, "link", o), func(ctx context.Context, r store.Reader) error {
		l, err = r.Links().Get(ctx, ident.Link(home.Row))
		if err != nil {
			return err
		}
		if err := s.enter.Match(t, l.KID, l.Verifier); err != nil {
			return err
		}
		if !l.Live(s.enter.Now()) {
			return errLink()
		}
		return nil
	})
	return l, asLink(err)
}

func asLink(err error) error {
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unauthenticated) {
		return errLink()
	}
	return err
}

// NewPerson is what somebody says of themselves when they first come in.
type NewPerson struct {
	Email    string
	Name     string
	Password secret.Text
}

// person makes the record of a new person. It hashes, so it is called before a transaction.
func (s *SignIn) person(ctx context.Context, in NewPerson) (principal.Person, error) {
	email, err := principal.NormalizeEmail(in.Email)
	if err != nil {
		return principal.Person{}, err
	}
	if in.Name == "" || len(in.Name) > 200 {
		return principal.Person{}, fault.New(fault.Invalid, "bad_name", "A name has 1 to 200 bytes.").WithField("/name", "empty or too long")
	}
	now := s.enter.Now()
	p := principal.Person{Email: email, Name: in.Name, CreatedAt: now, UpdatedAt: now, PasswordSetAt: now}
	ident.Fresh(s.enter.Mint, &p.ID)
	p.Password, err = s.newPassword(ctx, p, in.Password)
	return p, err
}

func (s *SignIn) newPassword(ctx context.Context, p principal.Person, password secret.Text) ([]byte, error) {
	if err := s.passwords.Check(password, []string{p.Email, p.Name, "ringfence"}); err != nil {
		return nil, err
	}
	phc, err := s.passwords.Hash(ctx, password)
	if err != nil {
		return nil, err
	}
	return s.enter.Sealer.Seal(ctx, passwordPlace(p.ID), []byte(phc))
}

// FirstTenant is the tenant that a setup form may ask for.
type FirstTenant struct {
	Name string
	Kind org.Kind
}

// Setup makes one person platform administrator and, if asked, owner of a first tenant. The link is spent.
func (s *SignIn) Setup(ctx context.Context, presented secret.Text, in NewPerson, first *FirstTenant, o access.Origin) (principal.Person, *tenant.Tenant, error) {
	l, err := s.link(ctx, presented, credential.KindSetup, o)
	if err != nil {
		return principal.Person{}, nil, err
	}
	p, err := s.person(ctx, in)
	if err != nil {
		return principal.Person{}, nil, err
	}
	actor := access.Actor{Kind: access.Human, ID: p.ID, AMR: "link"}
	ps := s.enter.As(ident.Platform, actor, "setup", o)
	done, err := s.enter.Event(ctx, ps, audit.SetupDone, enter.Target("user", p.ID))
	if err != nil {
		return p, nil, err
	}
	platform := func(ctx context.Context, w store.Writer, joined ...ident.Tenant) ([]audit.Event, error) {
		if err := spend(ctx, w, l, s.enter.Now()); err != nil {
			return nil, err
		}
		root, err := s.platformRoot(ctx, w)
		if err != nil {
			return nil, err
		}
		own := p
		own.Tenants = joined
		if _, err := w.Persons().Put(ctx, own); err != nil {
			return nil, err
		}
		_, err = s.enter.Join(ctx, w, p, access.Membership{Role: access.PlatformAdmin, Node: root, Recursive: true})
		return []audit.Event{done}, err
	}
	if first == nil {
		err = s.store.Change(ctx, ps, func(ctx context.Context, w store.Writer) ([]audit.Event, error) { return platform(ctx, w) })
		return p, nil, err
	}
	var id ident.Tenant
	ident.Fresh(s.enter.Mint, &id)
	ts := s.enter.As(id, actor, "setup", o)
	created, err := s.enter.Event(ctx, ts, audit.TenantCreated, enter.Target("tenant", id))
	if err != nil {
		return p, nil, err
	}
	var t tenant.Tenant
	err = s.store.Across(ctx, ps, ts, func(ctx context.Context, pw, tw store.Writer) ([]audit.Event, []audit.Event, error) {
		pe, err := platform(ctx, pw, id)
		if err != nil {
			return nil, nil, err
		}
		if t, err = s.enter.Birth(ctx, tw, id, first.Name, first.Kind); err != nil {
			return nil, nil, err
		}
		register := t
		register.Rev = 0
		if _, err := pw.Tenants().Put(ctx, register); err != nil {
			return nil, nil, err
		}
		_, err = s.enter.Join(ctx, tw, p, access.Membership{Role: access.Owner, Node: t.Root, Recursive: true})
		return pe, []audit.Event{created}, err
	})
	return p, &t, err
}

// platformRoot is the root of the platform's own tree, made at the first setup.
func (s *SignIn) platformRoot(ctx context.Context, w store.Writer) (ident.Node, error) {
	t, err := w.Tenants().Get(ctx, ident.Platform)
	if fault.Is(err, fault.NotFound) {
		t, err = s.enter.Birth(ctx, w, ident.Platform, "platform", org.Vendor)
	}
	return t.Root, err
}

// spend marks a link as used, in the transaction of what it does.
func spend(ctx context.Context, w store.Writer, l credential.Link, now time.Time) error {
	current, err := w.Links().Get(ctx, l.ID)
	if err != nil || !current.Live(now) {
		if err == nil || fault.Is(err, fault.NotFound) {
			err = errLink()
		}
		return err
	}
	current.UsedAt, current.UpdatedAt = now, now
	_, err = w.Links().Put(ctx, current)
	return err
}

// Invited is what an invitation's page shows.
type Invited struct {
	Tenant string
	Email  string
	Role   string
}

// invitation finds a token's invitation.
func (s *SignIn) invitation(ctx context.Context, presented secret.Text, o access.Origin) (ident.Tenant, principal.Invitation, tenant.Tenant, error) {
	var inv principal.Invitation
	var t tenant.Tenant
	token, err := credential.Parse(presented.Reveal())
	if err != nil || token.Kind != credential.KindInvite {
		return ident.Tenant{}, inv, t, errLink()
	}
	home, err := s.enter.Locate(ctx, token)
	if err != nil {
		return ident.Tenant{}, inv, t, asLink(err)
	}
	err = s.store.View(ctx, s.enter.System(home.Tenant, "invitation", o), func(ctx context.Context, r store.Reader) error {
		if inv, err = r.Invitations().Get(ctx, ident.Link(home.Row)); err != nil {
			return err
		}
		if err := s.enter.Match(token, inv.KID, inv.Verifier); err != nil {
			return err
		}
		if !s.enter.Now().Before(inv.ExpiresAt) {
			return errLink()
		}
		t, err = r.Tenants().Get(ctx, home.Tenant)
		if err == nil && t.State != tenant.Active {
			err = errLink()
		}
		return err
	})
	return home.Tenant, inv, t, asLink(err)
}

// Invitation answers what a link offers; it spends nothing.
func (s *SignIn) Invitation(ctx context.Context, presented secret.Text, o access.Origin) (Invited, error) {
	_, inv, t, err := s.invitation(ctx, presented, o)
	return Invited{Tenant: t.Name, Email: inv.Email}, err
}

// Accept takes an invitation: by somebody who is signed in, or by a new person with a name and a password. The inviter's
// right to grant the role is checked again, as it is now.
func (s *SignIn) Accept(ctx context.Context, presented secret.Text, by *enter.Identity, in NewPerson, o access.Origin) (access.Membership, error) {
	id, inv, _, err := s.invitation(ctx, presented, o)
	if err != nil {
		return access.Membership{}, err
	}
	var p principal.Person
	if by != nil {
		if _, err := s.enter.Self(*by, o); err != nil {
			return access.Membership{}, err
		}
	} else {
		in.Email = inv.Email
		if p, err = s.person(ctx, in); err != nil {
			return access.Membership{}, err
		}
	}
	actor := access.Actor{Kind: access.Human, ID: p.ID, AMR: "link"}
	if by != nil {
		actor = by.Actor
	}
	ps, ts := s.enter.As(ident.Platform, actor, "invitation", o), s.enter.As(id, actor, "invitation", o)
	joined, err := s.enter.Event(ctx, ps, audit.MemberAdded, enter.Target("user", actor.ID), audit.Set("to", "", id.String()))
	if err != nil {
		return access.Membership{}, err
	}
	added, err := s.enter.Event(ctx, ts, audit.MemberAdded, enter.Target("member", actor.ID),
		audit.Set("role", "", inv.Role.String()), audit.Set("node", "", inv.Node.String()), audit.Set("email", "", inv.Email))
	if err != nil {
		return access.Membership{}, err
	}
	var m access.Membership
	err = s.store.Across(ctx, ps, ts, func(ctx context.Context, pw, tw store.Writer) ([]audit.Event, []audit.Event, error) {
		current, err := tw.Invitations().Get(ctx, inv.ID)
		if err != nil || current.Rev != inv.Rev {
			return nil, nil, errLink()
		}
		if err := s.mayStillInvite(ctx, tw, inv); err != nil {
			return nil, nil, err
		}
		own := p
		if by != nil {
			if own, err = pw.Persons().Get(ctx, by.Subject.Principal); err != nil {
				return nil, nil, err
			}
		}
		if !slices.Contains(own.Tenants, id) {
			own.Tenants = append(slices.Clone(own.Tenants), id)
		}
		if _, err := pw.Persons().Put(ctx, own); err != nil {
			if e := fault.As(err); e != nil && e.Code == "taken" {
				err = fault.New(fault.Conflict, "sign_in_first", "If you have an account on this platform, sign in first and open the link again.")
			}
			return nil, nil, err
		}
		if m, err = s.enter.Join(ctx, tw, own, access.Membership{Role: inv.Role, Node: inv.Node, Recursive: inv.Recursive}); err != nil {
			return nil, nil, err
		}
		return []audit.Event{joined}, []audit.Event{added}, tw.Invitations().Delete(ctx, inv.ID, inv.Rev)
	})
	return m, err
}

// mayStillInvite refuses an invitation whose inviter could not grant its role now, or a first owner's once there is one.
func (s *SignIn) mayStillInvite(ctx context.Context, w store.Writer, inv principal.Invitation) error {
	records, err := w.Read().Policy(ctx)
	if err != nil {
		return err
	}
	if inv.Inviter.IsZero() {
		if access.Owners(records) > 0 {
			return errLink()
		}
		return nil
	}
	policy := access.Compile(records)
	held := policy.Held(access.Subject{Principal: inv.Inviter}, inv.Node, inv.Recursive, s.enter.Now())
	if !held.Has(access.MembershipGrant) || !access.PermissionsOf(records, inv.Role).Within(held) {
		return errLink()
	}
	return nil
}

// ResetLink makes a link that sets a person's password, for a platform administrator, the host's own command line (a nil
// identity), or a tenant's administrator if the person belongs to that tenant alone.
func (s *SignIn) ResetLink(ctx context.Context, by *enter.Identity, only ident.Tenant, person ident.Principal, o access.Origin) (secret.Text, error) {
	actor := access.Actor{Kind: access.System, System: "host"}
	if by != nil {
		actor = by.Actor
	}
	sc := s.enter.As(ident.Platform, actor, "reset", o)
	whole, stored := s.enter.Issue(credential.KindReset, credential.ResetLife)
	link := credential.Link{Kind: credential.KindReset, Principal: person, By: actor.ID, Stored: stored}
	ident.Fresh(s.enter.Mint, &link.ID)
	ev, err := s.enter.Event(ctx, sc, audit.ResetStarted, enter.Target("user", person))
	if err != nil {
		return secret.Text{}, err
	}
	err = s.store.Change(ctx, sc, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		p, err := w.Persons().Get(ctx, person)
		if err != nil {
			return nil, err
		}
		if !only.IsZero() {
			admin, err := isAdmin(ctx, w.Read(), person)
			if err != nil {
				return nil, err
			}
			if admin || slices.ContainsFunc(p.Tenants, func(t ident.Tenant) bool { return t != only }) {
				return nil, fault.New(fault.Denied, "ask_the_platform", "This person belongs to more than this tenant. Ask the platform's administrator for a reset link.")
			}
		}
		_, err = w.Links().Put(ctx, link)
		return []audit.Event{ev}, err
	})
	return whole, err
}

// Reset sets a new password by a link, and ends every session and token that the person had.
func (s *SignIn) Reset(ctx context.Context, presented secret.Text, password secret.Text, o access.Origin) error {
	l, err := s.link(ctx, presented, credential.KindReset, o)
	if err != nil {
		return err
	}
	sc := s.enter.As(ident.Platform, access.Actor{Kind: access.Human, ID: l.Principal, AMR: "link"}, "reset", o)
	var p principal.Person
	if err := s.store.View(ctx, sc, func(ctx context.Context, r store.Reader) error {
		p, err = r.Persons().Get(ctx, l.Principal)
		return err
	}); err != nil {
		return asLink(err)
	}
	sealed, err := s.newPassword(ctx, p, password)
	if err != nil {
		return err
	}
	return s.setPassword(ctx, sc, p.ID, sealed, &l)
}

// ChangePassword sets the caller's own password, who must know the present one. Every session ends, this one too.
func (s *SignIn) ChangePassword(ctx context.Context, id enter.Identity, present, next secret.Text, o access.Origin) error {
	sc, err := s.enter.Self(id, o)
	if err != nil {
		return err
	}
	var p principal.Person
	if err := s.store.View(ctx, sc, func(ctx context.Context, r store.Reader) error {
		p, err = r.Persons().Get(ctx, id.Subject.Principal)
		return err
	}); err != nil {
		return err
	}
	if err := s.attempt(ctx, failureKey(p, p.Email), o); err != nil {
		return err
	}
	phc, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	ok, _, err := s.passwords.Verify(ctx, phc, present)
	if err != nil {
		return err
	}
	if !ok {
		return s.failed(ctx, p, o)
	}
	sealed, err := s.newPassword(ctx, p, next)
	if err != nil {
		return err
	}
	return s.setPassword(ctx, sc, p.ID, sealed, nil)
}

func (s *SignIn) setPassword(ctx context.Context, sc access.Scope, id ident.Principal, sealed []byte, l *credential.Link) error {
	now := s.enter.Now()
	ev, err := s.enter.Event(ctx, sc, audit.PasswordSet, enter.Target("user", id), audit.Set("password", "set", "set"))
	if err != nil {
		return err
	}
	err = s.store.Change(ctx, sc, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		if l != nil {
			if err := spend(ctx, w, *l, now); err != nil {
				return nil, err
			}
		}
		p, err := w.Persons().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		p.Password, p.PasswordSetAt, p.VoidBefore, p.UpdatedAt = sealed, now, now, now
		if _, err := w.Persons().Put(ctx, p); err != nil {
			return nil, err
		}
		open, err := w.Read().Sessions().Of(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, old := range open {
			if err := drop(ctx, w, old); err != nil {
				return nil, err
			}
		}
		return []audit.Event{ev}, nil
	})
	if err != nil {
		return err
	}
	return s.store.Ingest(ctx, s.enter.System(ident.Platform, "signin", sc.Origin()), func(ctx context.Context, f store.Flow) error {
		return f.SetFailures(ctx, principal.Failure{Key: id.String()})
	})
}

// HostReset makes a reset link for a sign-in address, for who stands at the host itself: when nobody can sign in any more.
func (s *SignIn) HostReset(ctx context.Context, email string) (secret.Text, error) {
	address, err := principal.NormalizeEmail(email)
	if err != nil {
		return secret.Text{}, err
	}
	var p principal.Person
	if err := s.store.View(ctx, s.enter.System(ident.Platform, "host", access.Origin{}), func(ctx context.Context, r store.Reader) error {
		p, err = r.Persons().ByEmail(ctx, address)
		return err
	}); err != nil {
		return secret.Text{}, err
	}
	return s.ResetLink(ctx, nil, ident.Tenant{}, p.ID, access.Origin{})
}
