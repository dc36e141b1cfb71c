// Package signin is how people come in: setup, passwords, sessions, refresh tokens, invitations and resets. What they may do
// afterwards is app/enter.
package signin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/identity"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/ports/seal"
	"github.com/ringfence/ringfence/ports/store"
)

// SignIn is the use cases of coming in.
type SignIn struct {
	enter     *enter.Enter
	store     store.Store
	passwords identity.Passwords
	limiter   limit.Limiter
	turns     *enter.Turns[string]
	decoy     func() ([]byte, error) // what is opened for who has no password, so that it takes as long
}

// New returns the use cases.
func New(e *enter.Enter, st store.Store, p identity.Passwords, l limit.Limiter) *SignIn {
	return &SignIn{enter: e, store: st, passwords: p, limiter: l, turns: enter.NewTurns[string](maxTurns), decoy: sync.OnceValues(func() ([]byte, error) {
		return e.Sealer.Seal(context.Background(), passwordPlace(ident.Principal{}), make([]byte, phcLen))
	})}
}

// phcLen is about how long a PHC string is.
const phcLen = 97

// Granted is what a sign-in gives: a browser's session token, or an access and a refresh token.
type Granted struct {
	Session   credential.Session
	Cookie    secret.Text
	Access    secret.Text
	Refresh   secret.Text
	ExpiresAt time.Time // of Cookie or Access
}

// errSignIn is the one answer to every sign-in that fails, whatever is wrong.
func errSignIn() *fault.Error {
	return fault.New(fault.Unauthenticated, "bad_sign_in", "The e-mail address or the password is not right. After several failures in a row each further try takes longer.")
}

// perPrefix bounds failures of one network, whatever names it tries. Tries at the same time may go over it by as many as
// passwords are looked at together, which ports/identity bounds.
var perPrefix = limit.Rate{Every: 3 * time.Second, Burst: 20}

// Login checks a password and opens a session. Names that nobody has cost the same work.
func (s *SignIn) Login(ctx context.Context, email string, password secret.Text, browser bool, o access.Origin) (Granted, error) {
	name, err := principal.NormalizeEmail(email)
	if err != nil {
		return Granted{}, err
	}
	prefix := "signin " + enter.Network(o.Address)
	p, err := s.named(ctx, name, o)
	if err != nil {
		return Granted{}, err
	}
	// Asked before the password is looked at: a refusal that only a wrong one meets would tell the right one.
	if v := s.limiter.Take(prefix, 0, perPrefix); v.Remaining == 0 {
		return Granted{}, tooMany(perPrefix.Every)
	}
	ok, stale, err := s.verify(ctx, &p, name, password, o)
	if err != nil {
		return Granted{}, err
	}
	if !ok {
		s.limiter.Take(prefix, 1, perPrefix)
		return Granted{}, s.failed(ctx, p, name, o)
	}
	phc := ""
	if stale {
		if phc, err = s.passwords.Hash(ctx, password); err != nil {
			return Granted{}, err
		}
	}
	g, err := s.session(ctx, p, phc, stale, browser, o)
	if errors.Is(err, errSignIn()) {
		return Granted{}, s.failed(ctx, p, name, o)
	}
	return g, err
}

// named is who has a name, or nobody.
func (s *SignIn) named(ctx context.Context, name string, o access.Origin) (p principal.Person, err error) {
	err = s.store.View(ctx, s.enter.System(ident.Platform, "signin", o), func(ctx context.Context, r store.Reader) error {
		var err error
		if p, err = r.Persons().ByEmail(ctx, name); fault.Is(err, fault.NotFound) {
			err = nil // the transaction ends alike, which is seen by the time it takes
		}
		return err
	})
	return p, err
}

func tooMany(after time.Duration) error {
	return fault.New(fault.Exhausted, "sign_in_throttled", "Too many sign-ins failed. Wait before the next try.").WithRetry(after)
}

// failureKey counts by person, and names that nobody has by a digest of the normalised name: no variant starts anew.
func failureKey(p principal.Person, name string) string {
	if !p.ID.IsZero() {
		return p.ID.String()
	}
	sum := sha256.Sum256([]byte(name))
	return "name:" + hex.EncodeToString(sum[:16])
}

// maxTurns bounds who waits until the tries for an account that came before have been looked at. Each is counted before its
// password is, so that tries at the same time cannot outrun the count, and those that were right are forgotten before the next.
const maxTurns = 32

// verify looks at the password of an account, or of a name that nobody has, when it is the account's turn, as the account is by
// then. A right one of somebody who may come in ends the count of failures.
func (s *SignIn) verify(ctx context.Context, p *principal.Person, name string, password secret.Text, o access.Origin) (ok, stale bool, err error) {
	key := failureKey(*p, name)
	done, err := s.turns.Take(ctx, key)
	if errors.Is(err, enter.ErrTurns) {
		err = tooMany(time.Second)
	}
	if err != nil {
		return false, false, err
	}
	defer done()
	before, err := s.attempt(ctx, key, o)
	if err != nil {
		return false, false, err
	}
	now, err := s.named(ctx, name, o)
	phc := ""
	if err == nil {
		if now.ID == p.ID {
			*p = now
		}
		phc, err = s.open(ctx, *p)
	}
	if err == nil {
		ok, stale, err = s.passwords.Verify(ctx, phc, password)
	}
	ok = ok && !p.Disabled()
	if err == nil && !ok {
		return false, false, nil
	}
	looked := err == nil
	kept := s.store.Ingest(context.WithoutCancel(ctx), s.enter.System(ident.Platform, "signin", o), func(ctx context.Context, f store.Flow) error {
		if looked {
			return f.SetFailures(ctx, principal.Failure{Key: key})
		}
		// Nobody is to be locked out by a server that is busy, or by going away before it had looked.
		seen, err := f.Read().Failures(ctx, key)
		if err != nil || seen.Count != before.Count+1 {
			return err
		}
		before.Key = key
		return f.SetFailures(ctx, before)
	})
	if err == nil {
		err = kept
	}
	return ok && err == nil, stale, err
}

// attempt counts a try before the password is looked at, so that no try goes uncounted, and answers the count before it.
func (s *SignIn) attempt(ctx context.Context, key string, o access.Origin) (before principal.Failure, err error) {
	now := s.enter.Now()
	var wait time.Duration
	locked := false
	err = s.store.Ingest(ctx, s.enter.System(ident.Platform, "signin", o), func(ctx context.Context, f store.Flow) error {
		wait, locked = 0, false
		seen, err := f.Read().Failures(ctx, key)
		if err != nil {
			return err
		}
		before = seen
		if locked = seen.Count >= credential.MaxFailures; locked {
			return nil
		}
		if wait = seen.Last.Add(credential.Wait(seen.Count)).Sub(now); wait > 0 {
			return nil
		}
		return f.SetFailures(ctx, principal.Failure{Key: key, Count: seen.Count + 1, Last: now})
	})
	switch {
	case err != nil:
		return before, err
	case locked:
		return before, fault.New(fault.Exhausted, "sign_in_locked", "Too many sign-ins in a row failed. Ask an administrator for a reset link.")
	case wait > 0:
		return before, tooMany(wait)
	}
	return before, nil
}

// failed records a failed sign-in: nobody is the actor, the account, if there is one, the target. The name that was tried stands
// there as a digest, so that tries of one name are found and the name is not.
func (s *SignIn) failed(ctx context.Context, p principal.Person, name string, o access.Origin) error {
	sc := s.enter.As(ident.Platform, access.Actor{Kind: access.Anonymous}, "signin", o)
	target := audit.Target{Kind: "user"}
	if !p.ID.IsZero() {
		target.ID = p.ID.String()
	}
	ev, err := s.enter.Outcome(ctx, sc, audit.LoginFail, target, audit.Fail, "bad_sign_in", audit.Set(audit.FieldLogin, "", name))
	if err != nil {
		return err
	}
	if err := s.store.Change(ctx, sc, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil }); err != nil {
		return err
	}
	return errSignIn()
}

func passwordPlace(p ident.Principal) seal.Place {
	return seal.Place{Tenant: ident.Platform, Table: "persons", Column: "password", Row: p.String()}
}

// open answers the person's PHC string; empty if there is none.
func (s *SignIn) open(ctx context.Context, p principal.Person) (string, error) {
	if len(p.Password) == 0 {
		sealed, err := s.decoy()
		if err == nil {
			_, err = s.enter.Sealer.Open(ctx, passwordPlace(ident.Principal{}), sealed)
		}
		return "", err
	}
	phc, err := s.enter.Sealer.Open(ctx, passwordPlace(p.ID), p.Password)
	return string(phc), err
}

// session opens a session for a person whose password was right. A stale hash is renewed with it.
func (s *SignIn) session(ctx context.Context, p principal.Person, phc string, stale, browser bool, o access.Origin) (Granted, error) {
	sc := s.enter.As(ident.Platform, access.Actor{Kind: access.Human, ID: p.ID, AMR: "pwd"}, "signin", o)
	sealed := p.Password
	if stale {
		var err error
		if sealed, err = s.enter.Sealer.Seal(ctx, passwordPlace(p.ID), []byte(phc)); err != nil {
			return Granted{}, err
		}
	}
	now := s.enter.Now()
	g := Granted{Session: credential.Session{Principal: p.ID, Browser: browser, AMR: "pwd", Idle: credential.SessionIdle}}
	ident.Fresh(s.enter.Mint, &g.Session.ID)
	life := credential.RefreshAbsolute
	if browser {
		life = credential.SessionAbsolute
	} else {
		g.Session.Idle = credential.RefreshIdle
	}
	whole, stored := s.enter.Issue(credential.KindSession, life)
	g.Session.Stored = stored
	var bearers []credential.Bearer
	if browser {
		g.Cookie, g.ExpiresAt = whole, stored.ExpiresAt
	} else {
		bearers = s.bearers(&g)
	}
	ev, err := s.enter.Event(ctx, sc, audit.LoginSuccess, enter.Target("user", p.ID), audit.Set("session", "", g.Session.ID.String()))
	if err != nil {
		return Granted{}, err
	}
	err = s.store.Change(ctx, sc, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		current, err := w.Persons().Get(ctx, p.ID)
		if err != nil {
			return nil, err
		}
		if current.Disabled() || !current.VoidBefore.Equal(p.VoidBefore) { // disabled or reset since the password was read
			return nil, errSignIn()
		}
		admin, err := isAdmin(ctx, w.Read(), p.ID)
		if err != nil {
			return nil, err
		}
		own := g.Session // a copy: fn may run again
		if admin && browser {
			own.Idle = credential.SessionIdleHigh
		}
		if stale && bytes.Equal(current.Password, p.Password) { // nobody renewed it meanwhile
			current.Password, current.UpdatedAt = sealed, now
			if _, err := w.Persons().Put(ctx, current); err != nil {
				return nil, err
			}
		}
		if err := s.makeRoom(ctx, w, p.ID, now); err != nil {
			return nil, err
		}
		if _, err := w.Sessions().Put(ctx, own); err != nil {
			return nil, err
		}
		for _, b := range bearers {
			if _, err := w.Bearers().Put(ctx, b); err != nil {
				return nil, err
			}
		}
		return []audit.Event{ev}, nil
	})
	return g, err
}

// bearers gives a session its next access and refresh tokens.
func (s *SignIn) bearers(g *Granted) []credential.Bearer {
	make1 := func(kind credential.Kind, life time.Duration) (secret.Text, credential.Bearer) {
		b := credential.Bearer{Kind: kind, Session: g.Session.ID, Principal: g.Session.Principal}
		ident.Fresh(s.enter.Mint, &b.ID)
		var whole secret.Text
		whole, b.Stored = s.enter.Issue(kind, life)
		return whole, b
	}
	var a, r credential.Bearer
	g.Access, a = make1(credential.KindAccess, credential.AccessLife)
	g.Refresh, r = make1(credential.KindRefresh, credential.RefreshIdle)
	if r.ExpiresAt.After(g.Session.ExpiresAt) && !g.Session.ExpiresAt.IsZero() {
		r.ExpiresAt = g.Session.ExpiresAt
	}
	g.ExpiresAt = a.ExpiresAt
	return []credential.Bearer{a, r}
}

// isAdmin reports whether a person has any membership on the platform.
func isAdmin(ctx context.Context, r store.Reader, p ident.Principal) (bool, error) {
	ms, err := r.Memberships().Of(ctx, p)
	return len(ms) > 0, err
}

// makeRoom ends the oldest sessions, so that one more is at most MaxSessions, and removes those that are over.
func (s *SignIn) makeRoom(ctx context.Context, w store.Writer, p ident.Principal, now time.Time) error {
	open, err := w.Read().Sessions().Of(ctx, p)
	if err != nil {
		return err
	}
	live := 0
	for _, old := range open { // newest first
		if old.Live(now) {
			if live++; live < credential.MaxSessions {
				continue
			}
		}
		if err := drop(ctx, w, old); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a session and its tokens.
func drop(ctx context.Context, w store.Writer, old credential.Session) error {
	family, err := w.Read().Bearers().Family(ctx, old.ID)
	if err != nil {
		return err
	}
	for _, b := range family {
		if err := w.Bearers().Delete(ctx, b.ID, b.Rev); err != nil {
			return err
		}
	}
	return w.Sessions().Delete(ctx, old.ID, old.Rev)
}
