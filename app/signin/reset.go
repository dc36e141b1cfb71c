package signin

import (
	"context"
	"errors"
	"slices"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// ResetLink makes a link that sets a person's password, and voids the one before. By a tenant's scope the person must belong
// to that tenant alone. Whoever makes one for somebody could use it, so they hold all that the person holds there. A request
// that is repeated makes none, and its error is a Replay.
func (s *SignIn) ResetLink(ctx context.Context, sc access.Scope, person ident.Principal, once enter.Once) (secret.Text, error) {
	whole, stored := s.enter.Issue(credential.KindReset, credential.ResetLife)
	link := credential.Link{Kind: credential.KindReset, Principal: person, Stored: stored}
	ident.Fresh(s.enter.Mint, &link.ID)
	if policy := sc.Policy(); policy != nil {
		link.By = sc.Subject()
		if lacked, exceeds := policy.Exceeds(person, link.By, sc.At()); exceeds {
			return secret.Text{}, fault.New(fault.Denied, "permission_denied", "This person holds the permission %s where, or for as long as, you do not. Ask somebody who does for a reset link.", lacked).WithPermission(lacked.String())
		}
	}
	ps := sc
	if sc.Tenant() != ident.Platform {
		link.Only = sc.Tenant()
		ps = s.enter.As(ident.Platform, sc.Actor(), "reset", sc.Origin())
	}
	started, err := s.enter.Event(ctx, ps, audit.ResetStarted, enter.Target("user", person))
	if err != nil {
		return secret.Text{}, err
	}
	make1 := func(ctx context.Context, w store.Writer) error {
		p, err := w.Persons().Get(ctx, person)
		if err != nil {
			return err
		}
		if !link.Only.IsZero() {
			if err := belongsTo(ctx, w, p, link.Only); err != nil {
				return err
			}
		}
		if err := dropResets(ctx, w, person, func(l credential.Link) bool { return l.Only == link.Only }); err != nil {
			return err
		}
		_, err = w.Links().Put(ctx, link)
		return err
	}
	if link.Only.IsZero() {
		return whole, s.store.Change(ctx, ps, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
			return []audit.Event{started}, s.once(ctx, ps, w, once, func() error { return make1(ctx, w) })
		})
	}
	own, err := s.enter.Event(ctx, sc, audit.ResetStarted, enter.Target("member", person))
	if err != nil {
		return secret.Text{}, err
	}
	// The tenant is locked too: its policy, by which the scope was decided, is that of this moment, or the scope is stale.
	return whole, s.store.Across(ctx, ps, sc, func(ctx context.Context, pw, tw store.Writer) ([]audit.Event, []audit.Event, error) {
		if _, err := tw.Members().Get(ctx, person); err != nil {
			return nil, nil, err
		}
		return []audit.Event{started}, []audit.Event{own}, s.once(ctx, ps, pw, once, func() error { return make1(ctx, pw) })
	})
}

// once runs what the path of a request names, unless it was done before.
func (s *SignIn) once(ctx context.Context, scope access.Scope, w store.Writer, o enter.Once, fn func() error) error {
	return s.enter.Once(ctx, scope, w, o, func() (string, error) { return "", fn() })
}

// belongsTo refuses a person who is a member of another tenant than one, or works for the platform: what they do there is
// not that tenant's. It is asked in the transaction that makes a link and in the one that uses it.
func belongsTo(ctx context.Context, w store.Writer, p principal.Person, only ident.Tenant) error {
	elsewhere, err := isAdmin(ctx, w.Read(), p.ID)
	for _, t := range p.Tenants {
		if err != nil || elsewhere {
			break
		}
		if t == only {
			continue
		}
		var other tenant.Tenant
		other, err = w.Tenants().Get(ctx, t)
		elsewhere = other.State != tenant.Deleted // for ever
	}
	if err == nil && elsewhere {
		err = fault.New(fault.Denied, "ask_the_platform", "This person belongs to more than this tenant. Ask the platform's administrator for a reset link.")
	}
	return err
}

// dropResets voids a person's reset links of some kind.
func dropResets(ctx context.Context, w store.Writer, person ident.Principal, which func(credential.Link) bool) error {
	links, err := w.Read().Links().Of(ctx, person)
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Kind == credential.KindReset && which(l) {
			if err := w.Links().Delete(ctx, l.ID, l.Rev); err != nil {
				return err
			}
		}
	}
	return nil
}

// Reset sets a new password by a link, and ends every session and token that the person had.
func (s *SignIn) Reset(ctx context.Context, presented secret.Text, password secret.Text, o access.Origin) error {
	l, err := s.link(ctx, presented, credential.KindReset, o)
	if err != nil {
		return err
	}
	return s.tried(l.Accessor, o, func() error { return s.reset(ctx, l, password, o) })
}

func (s *SignIn) reset(ctx context.Context, l credential.Link, password secret.Text, o access.Origin) error {
	sc := s.enter.As(ident.Platform, access.Actor{Kind: access.Human, ID: l.Principal, AMR: "link"}, "reset", o)
	var p principal.Person
	var tenants []string
	if err := s.store.View(ctx, sc, func(ctx context.Context, r store.Reader) (err error) {
		if p, err = r.Persons().Get(ctx, l.Principal); err == nil && l.CreatedAt.Before(p.VoidBefore) {
			err = errLink()
		}
		if err == nil {
			tenants, err = namesOf(ctx, r, p)
		}
		return err
	}); err != nil {
		return asLink(err)
	}
	sealed, err := s.newPassword(ctx, p, password, tenants)
	if err != nil {
		return err
	}
	return s.setPassword(ctx, sc, p, sealed, &l, enter.Once{})
}

// namesOf are the names of a person's tenants, as the platform's register has them.
func namesOf(ctx context.Context, r store.Reader, p principal.Person) ([]string, error) {
	var names []string
	for _, id := range p.Tenants {
		t, err := r.Tenants().Get(ctx, id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		names = append(names, t.Name)
	}
	return names, nil
}

// ChangePassword sets the caller's own password, who must know the present one. Every session ends, this one too.
func (s *SignIn) ChangePassword(ctx context.Context, id enter.Identity, present, next secret.Text, once enter.Once, o access.Origin) error {
	sc, err := s.enter.Self(id, o)
	if err != nil {
		return err
	}
	var p principal.Person
	var tenants []string
	if err := s.store.View(ctx, sc, func(ctx context.Context, r store.Reader) (err error) {
		if err = s.enter.Repeated(ctx, r, once); err != nil { // by then the present password is another one
			return err
		}
		if p, err = r.Persons().Get(ctx, id.Subject.Principal); err == nil {
			tenants, err = namesOf(ctx, r, p)
		}
		return err
	}); err != nil {
		return err
	}
	ok, _, err := s.verify(ctx, &p, p.Email, present, o)
	if err != nil {
		return err
	}
	if !ok {
		if err := s.store.View(ctx, sc, func(ctx context.Context, r store.Reader) error { return s.enter.Repeated(ctx, r, once) }); err != nil {
			return err // done by the first try of this request, while this one waited
		}
		return s.wrong(ctx, p, o)
	}
	sealed, err := s.newPassword(ctx, p, next, tenants)
	if f := fault.As(err); f != nil && len(f.Fields) > 0 { // everywhere else there is but one password
		own := *f
		own.Fields = []fault.Field{{Pointer: "/new_password", Detail: f.Fields[0].Detail}}
		err = &own
	}
	if err != nil {
		return err
	}
	if err = s.setPassword(ctx, sc, p, sealed, nil, once); errors.Is(err, errSignIn()) {
		err = s.wrong(ctx, p, o)
	}
	return err
}

// wrong records that the present password was not right, and says so.
func (s *SignIn) wrong(ctx context.Context, p principal.Person, o access.Origin) error {
	err := s.failed(ctx, p, p.Email, o)
	if errors.Is(err, errSignIn()) {
		err = fault.New(fault.Unauthenticated, "wrong_password", "The present password is not right, and nothing was changed. After several failures in a row each further try takes longer.").WithField("/password", "not the present one")
	}
	return err
}

// setPassword keeps a new password, by a link or by somebody who knew the last one. A tenant's link is looked at again with
// the tenant locked: rights change while it is open.
func (s *SignIn) setPassword(ctx context.Context, sc access.Scope, of principal.Person, sealed []byte, l *credential.Link, once enter.Once) error {
	ev, err := s.enter.Event(ctx, sc, audit.PasswordSet, enter.Target("user", of.ID), audit.Set("password", "set", "set"))
	if err != nil {
		return err
	}
	if l != nil && !l.Only.IsZero() {
		ts := s.enter.As(l.Only, sc.Actor(), "reset", sc.Origin())
		var own audit.Event
		if own, err = s.enter.Event(ctx, ts, audit.PasswordSet, enter.Target("member", of.ID), audit.Set("password", "set", "set")); err != nil {
			return err
		}
		err = s.store.Across(ctx, sc, ts, func(ctx context.Context, pw, tw store.Writer) ([]audit.Event, []audit.Event, error) {
			return []audit.Event{ev}, []audit.Event{own}, s.keepPassword(ctx, pw, tw, of, sealed, l)
		})
	} else {
		err = s.store.Change(ctx, sc, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
			return []audit.Event{ev}, s.once(ctx, sc, w, once, func() error { return s.keepPassword(ctx, w, w, of, sealed, l) })
		})
	}
	if err != nil {
		return err
	}
	return s.store.Ingest(ctx, s.enter.System(ident.Platform, "signin", sc.Origin()), func(ctx context.Context, f store.Flow) error {
		return f.SetFailures(ctx, principal.Failure{Key: of.ID.String()})
	})
}

// keepPassword writes the password and ends what the person had: sessions, tokens and open links. home is where the maker of
// the link stood: a tenant, or the platform itself.
func (s *SignIn) keepPassword(ctx context.Context, w, home store.Writer, of principal.Person, sealed []byte, l *credential.Link) error {
	now := s.enter.Now()
	p, err := w.Persons().Get(ctx, of.ID)
	if err != nil {
		return err
	}
	if l == nil && !p.VoidBefore.Equal(of.VoidBefore) { // what was right then is not the present one any more
		return errSignIn()
	}
	if l != nil {
		if err := spend(ctx, w, *l, now); err != nil {
			return err
		}
		if l.CreatedAt.Before(p.VoidBefore) {
			return errLink()
		}
		if err := s.stillReset(ctx, w, home, p, *l); err != nil {
			return err
		}
	}
	p.Password, p.PasswordSetAt, p.VoidBefore, p.UpdatedAt = sealed, now, now, now
	if _, err := w.Persons().Put(ctx, p); err != nil {
		return err
	}
	open, err := w.Read().Sessions().Of(ctx, of.ID)
	if err != nil {
		return err
	}
	for _, old := range open {
		if err := drop(ctx, w, old); err != nil {
			return err
		}
	}
	return dropResets(ctx, w, of.ID, func(credential.Link) bool { return true })
}

// stillReset refuses a link that its maker could not make now.
func (s *SignIn) stillReset(ctx context.Context, w, home store.Writer, p principal.Person, l credential.Link) error {
	if l.By.Principal.IsZero() { // the host's
		return nil
	}
	maker, err := w.Persons().Get(ctx, l.By.Principal)
	if err != nil || maker.Disabled() || l.CreatedAt.Before(maker.VoidBefore) { // whoever had the maker's session may have made it
		return asLink(orLink(err))
	}
	right := access.PlatformPersonReset
	if !l.Only.IsZero() {
		right = access.MemberReset
		if err := belongsTo(ctx, w, p, l.Only); err != nil {
			if fault.Is(err, fault.Denied) {
				err = errLink()
			}
			return err
		}
		t, err := home.Tenants().Get(ctx, l.Only)
		if err != nil || t.State != tenant.Active || !slices.Contains(p.Tenants, l.Only) {
			return asLink(orLink(err))
		}
	}
	records, err := home.Read().Policy(ctx)
	if err != nil {
		return err
	}
	records.Platform = l.Only.IsZero()
	policy, now := access.Compile(records), s.enter.Now()
	if _, exceeds := policy.Exceeds(p.ID, l.By, now); exceeds || !policy.Decide(l.By, right, ident.Node{}, now).Allowed {
		return errLink()
	}
	return nil
}

// orLink is the error, or that of a link that opens nothing.
func orLink(err error) error {
	if err == nil {
		return errLink()
	}
	return err
}

// HostReset makes a reset link for a sign-in address, for who stands at the host itself: when nobody can sign in any more.
func (s *SignIn) HostReset(ctx context.Context, email string) (secret.Text, error) {
	address, err := principal.NormalizeEmail(email)
	if err != nil {
		return secret.Text{}, err
	}
	host := s.enter.System(ident.Platform, "host", access.Origin{})
	var p principal.Person
	if err := s.store.View(ctx, host, func(ctx context.Context, r store.Reader) error {
		p, err = r.Persons().ByEmail(ctx, address)
		return err
	}); err != nil {
		return secret.Text{}, err
	}
	return s.ResetLink(ctx, host, p.ID, enter.Once{})
}
