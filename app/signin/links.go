package signin

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/label"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/limit"
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
		ready, err = hasAdmin(ctx, r, s.enter.Now())
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

// hasAdmin reports whether somebody administers the platform now: whose role is over, or who is disabled, helps nobody.
func hasAdmin(ctx context.Context, r store.Reader, now time.Time) (bool, error) {
	ms, err := r.Memberships().OfRole(ctx, access.PlatformAdmin)
	if err != nil {
		return false, err
	}
	for _, m := range ms {
		if !m.ExpiresAt.IsZero() && !now.Before(m.ExpiresAt) {
			continue
		}
		p, err := r.Persons().Get(ctx, m.Principal)
		if err != nil || !p.Disabled() {
			return err == nil, err
		}
	}
	return false, nil
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

// Opens refuses a setup or reset link that opens nothing, for its page; it spends nothing.
func (s *SignIn) Opens(ctx context.Context, presented secret.Text, kind credential.Kind, o access.Origin) error {
	_, err := s.link(ctx, presented, kind, o)
	if err != nil || kind != credential.KindSetup {
		return err
	}
	return s.store.View(ctx, s.enter.System(ident.Platform, "link", o), func(ctx context.Context, r store.Reader) error {
		ready, err := hasAdmin(ctx, r, s.enter.Now())
		if err == nil && ready {
			err = errLink()
		}
		return err
	})
}

func asLink(err error) error {
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unauthenticated) {
		return errLink()
	}
	return err
}

// perLink bounds how often one link is tried: a try may cost a hash of a password, and who holds a link need not be a friend.
var perLink = limit.Rate{Every: 10 * time.Second, Burst: 10}

// tried runs what a link's holder asks for with a new password. It is counted by link before anything is hashed, and by the
// network if it fails, as a sign-in is.
func (s *SignIn) tried(accessor string, o access.Origin, do func() error) error {
	prefix := "signin " + enter.Network(o.Address)
	if v := s.limiter.Take(prefix, 0, perPrefix); v.Remaining == 0 {
		return tooMany(perPrefix.Every)
	}
	if v := s.limiter.Take("link "+accessor, 1, perLink); !v.OK {
		return fault.New(fault.Exhausted, "link_throttled", "This link was tried too often. Wait before the next try.").WithRetry(v.RetryAfter)
	}
	err := do()
	switch fault.KindOf(err) {
	case fault.Invalid, fault.Unauthenticated, fault.Denied, fault.NotFound, fault.Conflict:
		s.limiter.Take(prefix, 1, perPrefix)
	case fault.Exhausted, fault.Unavailable, fault.Internal: // not the caller's doing
	}
	return err
}

// NewPerson is what somebody says of themselves when they first come in.
type NewPerson struct {
	Email    string
	Name     string
	Password secret.Text
}

// person makes the record of a new person, if free finds nothing against the address. It hashes, so it is called before a
// transaction.
func (s *SignIn) person(ctx context.Context, in NewPerson, free func(email string) error, tenants ...string) (principal.Person, error) {
	email, err := principal.NormalizeEmail(in.Email)
	if err != nil {
		return principal.Person{}, err
	}
	if err := label.Check(in.Name); err != nil {
		return principal.Person{}, err
	}
	if err := s.passwords.Check(in.Password, unfit(email, in.Name, tenants)); err != nil {
		return principal.Person{}, err
	}
	if err := free(email); err != nil {
		return principal.Person{}, err
	}
	now := s.enter.Now()
	p := principal.Person{Email: email, Name: in.Name, CreatedAt: now, UpdatedAt: now, PasswordSetAt: now}
	ident.Fresh(s.enter.Mint, &p.ID)
	p.Password, err = s.hashed(ctx, p.ID, in.Password)
	return p, err
}

// unfit is what a password must not consist of.
func unfit(email, name string, tenants []string) []string {
	return append([]string{email, name, "ringfence"}, tenants...)
}

// newPassword judges and hashes a password. The person's tenants are names that it must not consist of.
func (s *SignIn) newPassword(ctx context.Context, p principal.Person, password secret.Text, tenants []string) ([]byte, error) {
	if err := s.passwords.Check(password, unfit(p.Email, p.Name, tenants)); err != nil {
		return nil, err
	}
	return s.hashed(ctx, p.ID, password)
}

func (s *SignIn) hashed(ctx context.Context, id ident.Principal, password secret.Text) ([]byte, error) {
	phc, err := s.passwords.Hash(ctx, password)
	if err != nil {
		return nil, err
	}
	return s.enter.Sealer.Seal(ctx, passwordPlace(id), []byte(phc))
}

// FirstTenant is the tenant that a setup form may ask for.
type FirstTenant struct {
	Name string
	Kind org.Kind
}

// Setup makes one person platform administrator and, if asked, owner of a first tenant. The link is spent.
func (s *SignIn) Setup(ctx context.Context, presented secret.Text, in NewPerson, first *FirstTenant, o access.Origin) (p principal.Person, t *tenant.Tenant, err error) {
	l, err := s.link(ctx, presented, credential.KindSetup, o)
	if err != nil {
		return principal.Person{}, nil, err
	}
	err = s.tried(l.Accessor, o, func() (err error) {
		p, t, err = s.setUp(ctx, l, in, first, o)
		return err
	})
	return p, t, err
}

func (s *SignIn) setUp(ctx context.Context, l credential.Link, in NewPerson, first *FirstTenant, o access.Origin) (principal.Person, *tenant.Tenant, error) {
	var tenants []string
	if first != nil {
		if err := label.Check(first.Name); err != nil {
			return principal.Person{}, nil, err
		}
		tenants = []string{first.Name}
	}
	p, err := s.person(ctx, in, func(string) error { return nil }, tenants...)
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
		ready, err := hasAdmin(ctx, w.Read(), s.enter.Now())
		if err != nil {
			return nil, err
		}
		if ready { // somebody came in, or back, another way
			return nil, errLink()
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
		_, err = s.enter.Join(ctx, w, p, p.Email, access.Membership{Role: access.PlatformAdmin, Node: root, Recursive: true})
		return []audit.Event{done}, err
	}
	if first == nil {
		err = s.store.Change(ctx, ps, func(ctx context.Context, w store.Writer) ([]audit.Event, error) { return platform(ctx, w) })
		return p, nil, err
	}
	var id ident.Tenant
	ident.Fresh(s.enter.Mint, &id)
	ts := s.enter.As(id, actor, "setup", o)
	created, err := s.enter.Event(ctx, ts, audit.TenantCreated, enter.Target("tenant", id), audit.Set("name", "", first.Name))
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
		owner := access.Membership{Role: access.Owner, Node: t.Root, Recursive: true}
		ident.Fresh(s.enter.Mint, &owner.ID)
		added, err := s.added(ctx, ts, p.ID, owner, p.Email)
		if err != nil {
			return nil, nil, err
		}
		_, err = s.enter.Join(ctx, tw, p, p.Email, owner)
		return pe, []audit.Event{created, added}, err
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

// Accepted is what an invitation gave, and where.
type Accepted struct {
	Membership access.Membership
	Tenant     ident.Tenant
	Revision   uint64 // of the tenant's policy
}

// Accept takes an invitation: by somebody who is signed in, or by a new person with a name and a password. The inviter's
// right to grant the role is checked again, as it is now.
func (s *SignIn) Accept(ctx context.Context, presented secret.Text, by *enter.Identity, in NewPerson, o access.Origin) (out Accepted, err error) {
	id, inv, t, err := s.invitation(ctx, presented, o)
	if err != nil {
		return Accepted{}, err
	}
	if by != nil {
		return s.accept(ctx, id, inv, t, by, in, o)
	}
	err = s.tried(inv.Accessor, o, func() (err error) {
		out, err = s.accept(ctx, id, inv, t, nil, in, o)
		return err
	})
	return out, err
}

func (s *SignIn) accept(ctx context.Context, id ident.Tenant, inv principal.Invitation, t tenant.Tenant, by *enter.Identity, in NewPerson, o access.Origin) (Accepted, error) {
	var p principal.Person
	var err error
	if by != nil {
		if _, err := s.enter.Self(*by, o); err != nil {
			return Accepted{}, err
		}
	} else {
		in.Email = inv.Email
		// Whether the address is somebody's is the last that is looked at: what it takes to learn that is an invitation used up.
		if p, err = s.person(ctx, in, func(email string) error { return s.free(ctx, email, o) }, t.Name); err != nil {
			return Accepted{}, err
		}
	}
	actor := access.Actor{Kind: access.Human, ID: p.ID, AMR: "link"}
	if by != nil {
		actor = by.Actor
	}
	ps, ts := s.enter.As(ident.Platform, actor, "invitation", o), s.enter.As(id, actor, "invitation", o)
	joined, err := s.enter.Event(ctx, ps, audit.MemberAdded, enter.Target("user", actor.ID), audit.Set("to", "", id.String()))
	if err != nil {
		return Accepted{}, err
	}
	given := access.Membership{Role: inv.Role, Node: inv.Node, Recursive: inv.Recursive}
	ident.Fresh(s.enter.Mint, &given.ID)
	added, err := s.added(ctx, ts, actor.ID, given, inv.Email)
	if err != nil {
		return Accepted{}, err
	}
	out := Accepted{Tenant: id}
	err = s.store.Across(ctx, ps, ts, func(ctx context.Context, pw, tw store.Writer) ([]audit.Event, []audit.Event, error) {
		current, err := tw.Invitations().Get(ctx, inv.ID)
		if err != nil || current.Rev != inv.Rev {
			return nil, nil, errLink()
		}
		if err := s.mayStillInvite(ctx, pw, tw, inv); err != nil {
			return nil, nil, err
		}
		own := p
		if by != nil {
			if own, err = stillIn(ctx, pw, *by); err != nil {
				return nil, nil, err
			}
		}
		if !slices.Contains(own.Tenants, id) {
			own.Tenants = append(slices.Clone(own.Tenants), id)
		}
		if _, err := pw.Persons().Put(ctx, own); err != nil {
			if e := fault.As(err); e != nil && e.Code == "taken" {
				err = errTaken()
			}
			return nil, nil, err
		}
		// A link that another tenant made for its own member would open this one. Reset looks again; this is the same, sooner.
		if err := dropResets(ctx, pw, own.ID, func(l credential.Link) bool { return !l.Only.IsZero() }); err != nil {
			return nil, nil, err
		}
		if out.Membership, err = s.enter.Join(ctx, tw, own, inv.Email, given); err != nil {
			return nil, nil, err
		}
		out.Revision = tw.Revision()
		return []audit.Event{joined}, []audit.Event{added}, tw.Invitations().Delete(ctx, inv.ID, inv.Rev)
	})
	return out, err
}

// added tells a tenant's log of a member and of what the membership gives.
func (s *SignIn) added(ctx context.Context, ts access.Scope, who ident.Principal, m access.Membership, email string) (audit.Event, error) {
	return s.enter.Event(ctx, ts, audit.MemberAdded, enter.Target("member", who), audit.Set("membership", "", m.ID.String()), audit.Set("role", "", m.Role.String()),
		audit.Set("node", "", m.Node.String()), audit.Set("recursive", "", strconv.FormatBool(m.Recursive)), audit.Set("email", "", email))
}

// free refuses an address that is somebody's, before a password is hashed for nothing.
func (s *SignIn) free(ctx context.Context, email string, o access.Origin) error {
	err := s.store.View(ctx, s.enter.System(ident.Platform, "invitation", o), func(ctx context.Context, r store.Reader) error {
		_, err := r.Persons().ByEmail(ctx, email)
		return err
	})
	switch {
	case err == nil:
		return errTaken()
	case fault.Is(err, fault.NotFound):
		return nil
	}
	return err
}

func errTaken() error {
	return fault.New(fault.Conflict, "sign_in_first", "If you have an account on this platform, sign in first and open the link again.")
}

// stillIn is the person of a session that has not ended meanwhile: whoever ended it, by a reset perhaps, is to have all of
// the account or nothing.
func stillIn(ctx context.Context, w store.Writer, by enter.Identity) (principal.Person, error) {
	if _, err := w.Sessions().Get(ctx, by.Session); err != nil {
		return principal.Person{}, gone(err)
	}
	p, err := w.Persons().Get(ctx, by.Subject.Principal)
	if err == nil && p.Disabled() {
		err = enter.ErrCredential()
	}
	return p, gone(err)
}

// mayStillInvite refuses an invitation whose inviter could not grant its role now, or a first owner's once there is one.
func (s *SignIn) mayStillInvite(ctx context.Context, home, w store.Writer, inv principal.Invitation) error {
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
	if inviter, err := home.Persons().Get(ctx, inv.Inviter); err != nil || inviter.Disabled() {
		return asLink(orLink(err))
	}
	policy := access.Compile(records)
	held := policy.HeldUntil(access.Subject{Principal: inv.Inviter}, inv.Node, inv.Recursive, s.enter.Now(), time.Time{})
	if !held.Has(access.MembershipGrant) || !access.PermissionsOf(records, inv.Role).Within(held) {
		return errLink()
	}
	return nil
}
