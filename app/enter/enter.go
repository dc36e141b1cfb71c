// Package enter answers who somebody is and what they may do: it authenticates every kind of credential and is the one gate
// that grants a Scope. Nothing else reaches a tenant's data.
package enter

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/seal"
	"github.com/ringfence/ringfence/ports/store"
)

// Identity is who a credential belongs to.
type Identity struct {
	Actor    access.Actor
	Subject  access.Subject
	Kind     credential.Kind
	Tenant   ident.Tenant // of a credential that is good in one tenant alone; zero for a person's own
	Session  ident.Session
	joined   []ident.Tenant // of a session's person: every tenant where they may be a member
	Source   ident.Source   // of an ingestion key
	Accessor string
}

// elsewhere reports that the identity can have no right in a tenant, without looking at the tenant: so one that is there takes
// as long to refuse as one that is not, and strangers do not fill the cache with others' policies.
func (id Identity) elsewhere(t ident.Tenant) bool {
	switch {
	case !id.Tenant.IsZero():
		return id.Tenant != t
	case id.Session.IsZero() || t == ident.Platform:
		return false
	}
	return !slices.Contains(id.joined, t)
}

// Enter is the gate. Its zero value opens nothing: use New.
type Enter struct {
	Recorder
	store    store.Store
	cache    *Cache
	log      *slog.Logger
	refusals refusals
}

// Cache holds what the gate remembers between requests. It is made before the store, which tells it of every change.
type Cache struct {
	policies *policies
	mapped   *mapped
	followed *followed
	homes    sync.Map // accessor → store.Location: whose a credential is never changes
	homesLen int
	mu       sync.Mutex
}

// NewCache returns a cache of at most tenants policies.
func NewCache(tenants int) *Cache {
	f := newFollowed(time.Now)
	return &Cache{policies: newPolicies(tenants), mapped: newMapped(source.MaxMappings, f), followed: f}
}

// Revised is to be given to the store.
func (c *Cache) Revised(t ident.Tenant, rev uint64) {
	c.policies.revised(t, rev)
	c.mapped.revised(t)
}

// New returns the gate of a store.
func New(st store.Store, cache *Cache, r Recorder, log *slog.Logger) *Enter {
	e := &Enter{Recorder: r, store: st, cache: cache, log: log}
	cache.policies.load = func(ctx context.Context, t ident.Tenant) (*standing, error) {
		got, err := read(ctx, st, e.System(t, "gate", access.Origin{}))
		if err != nil {
			return nil, err
		}
		if got.limits, err = granted(ctx, st, e.System(ident.Platform, "limits", access.Origin{}), t); err != nil {
			return nil, err
		}
		return got, nil
	}
	e.mappings(cache.mapped)
	return e
}

// System grants a scope for what nobody is signed in for. Each use is listed under Decisions in ARCHITECTURE.md.
func (e *Enter) System(t ident.Tenant, part string, o access.Origin) access.Scope {
	return access.Grant(t, access.Actor{Kind: access.System, System: part}, o, access.Decision{Allowed: true, Reason: "system"}, nil, access.Subject{}, e.Mint.Now())
}

// errCredential is the one answer to every credential that is not in force, whatever is wrong with it.
var errCredential = fault.New(fault.Unauthenticated, "bad_credential", "The credential is missing, expired or not valid. Sign in again, or use another token.")

// ErrCredential is that answer.
func ErrCredential() error { return errCredential }

// Authenticate answers whose a token is. Junk is refused by its checksum before anything is looked up.
func (e *Enter) Authenticate(ctx context.Context, presented secret.Text, o access.Origin) (Identity, error) {
	t, err := credential.Parse(presented.Reveal())
	if err != nil {
		return Identity{}, errCredential
	}
	switch t.Kind {
	case credential.KindSession, credential.KindAccess:
		return e.person(ctx, t, o)
	case credential.KindPersonal:
		return e.personal(ctx, t, o)
	case credential.KindIngestion:
		return e.ingestion(ctx, t, o)
	default: // refresh tokens and links have one place each where they are good
		return Identity{}, errCredential
	}
}

// Locate finds whose a token's record is. Tokens are checked against it with Match.
func (e *Enter) Locate(ctx context.Context, t credential.Token) (store.Location, error) {
	if home, ok := e.cache.homes.Load(t.Accessor); ok {
		return home.(store.Location), nil //nolint:forcetypeassert // nothing else is stored
	}
	home, err := e.store.Directory().Locate(ctx, t.Accessor)
	if fault.Is(err, fault.NotFound) || (err == nil && home.Kind != t.Kind) {
		return store.Location{}, errCredential
	}
	if err != nil {
		return store.Location{}, err
	}
	c := e.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.homesLen++; c.homesLen > maxHomes {
		c.homes.Clear()
		c.homesLen = 1
	}
	c.homes.Store(t.Accessor, home)
	return home, nil
}

const maxHomes = 100_000

// Match compares a presented token with what is stored of it.
func (e *Enter) Match(t credential.Token, kid string, stored [32]byte) error {
	pepper, ok := e.Peppers.Pepper(kid)
	if !ok || !credential.Match(credential.Verifier(pepper, t.Whole), stored) {
		return errCredential
	}
	return nil
}

// Issue makes a token and what is to be stored of it.
func (e *Enter) Issue(kind credential.Kind, life time.Duration) (secret.Text, credential.Stored) {
	var random [credential.RandomLen]byte
	e.Mint.Random(random[:])
	t := credential.Mint(kind, random)
	kid, pepper := e.Peppers.Current()
	now := e.Now()
	return t.Whole, credential.Stored{Accessor: t.Accessor, Verifier: credential.Verifier(pepper, t.Whole), KID: kid, ExpiresAt: now.Add(life), CreatedAt: now, UpdatedAt: now}
}

// Now is the clock in the resolution that is kept. (Truncate would say the same and take a tenth of a decision's time.)
func (e *Enter) Now() time.Time { return time.UnixMicro(e.Mint.Now().UnixMicro()).UTC() }

// person authenticates a session's cookie or an access token: platform records, good wherever the person is a member.
func (e *Enter) person(ctx context.Context, t credential.Token, o access.Origin) (Identity, error) {
	home, err := e.Locate(ctx, t)
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	var used time.Time
	now := e.Now()
	err = e.store.View(ctx, e.System(home.Tenant, "authenticate", o), func(ctx context.Context, r store.Reader) error {
		session := ident.Session(home.Row)
		stored := credential.Stored{}
		if t.Kind == credential.KindAccess {
			b, err := r.Bearers().Get(ctx, ident.Token(home.Row))
			if err != nil {
				return err
			}
			session, stored = b.Session, b.Stored
			if !b.Live(now) || b.Kind != t.Kind {
				return errCredential
			}
		}
		s, err := r.Sessions().Get(ctx, session)
		if err != nil {
			return err
		}
		if t.Kind == credential.KindSession {
			stored = s.Stored
		}
		if err := e.Match(t, stored.KID, stored.Verifier); err != nil {
			return err
		}
		p, err := r.Persons().Get(ctx, s.Principal)
		if err != nil {
			return err
		}
		if !s.Live(now) || p.Disabled() || s.Browser != (t.Kind == credential.KindSession) {
			return errCredential
		}
		used = s.LastUsed
		id = Identity{
			Actor:   access.Actor{Kind: access.Human, ID: p.ID, Accessor: t.Accessor, AMR: s.AMR},
			Subject: access.Subject{Principal: p.ID}, Kind: t.Kind, Session: s.ID, Accessor: s.Accessor, joined: p.Tenants,
		}
		return nil
	})
	if err != nil {
		return Identity{}, known(err)
	}
	return id, e.touch(ctx, home.Tenant, id.Accessor, used, credential.TouchEvery, now, o)
}

// known turns a record that is gone into a credential that is not in force.
func known(err error) error {
	if fault.Is(err, fault.NotFound) {
		return errCredential
	}
	return err
}

// touch notes a use, at most every so often.
func (e *Enter) touch(ctx context.Context, home ident.Tenant, accessor string, last time.Time, every time.Duration, now time.Time, o access.Origin) error {
	if now.Sub(last) < every {
		return nil
	}
	return e.store.Ingest(ctx, e.System(home, "authenticate", o), func(ctx context.Context, f store.Flow) error {
		return f.Touch(ctx, accessor, now)
	})
}

// personal authenticates a personal access token: the tenant's record, while the person is a member there and not disabled.
func (e *Enter) personal(ctx context.Context, t credential.Token, o access.Origin) (Identity, error) {
	home, err := e.Locate(ctx, t)
	if err != nil {
		return Identity{}, err
	}
	var pat credential.PAT
	now := e.Now()
	err = e.store.View(ctx, e.System(home.Tenant, "authenticate", o), func(ctx context.Context, r store.Reader) error {
		var err error
		if pat, err = r.Tokens().Get(ctx, ident.Token(home.Row)); err != nil {
			return err
		}
		if err := e.Match(t, pat.KID, pat.Verifier); err != nil {
			return err
		}
		if !pat.Live(now) {
			return errCredential
		}
		_, err = r.Members().Get(ctx, pat.Principal)
		return err
	})
	if err != nil {
		return Identity{}, known(err)
	}
	err = e.store.View(ctx, e.System(ident.Platform, "authenticate", o), func(ctx context.Context, r store.Reader) error {
		p, err := r.Persons().Get(ctx, pat.Principal)
		if err == nil && (p.Disabled() || pat.CreatedAt.Before(p.VoidBefore)) {
			err = errCredential
		}
		return err
	})
	if err != nil {
		return Identity{}, known(err)
	}
	id := Identity{
		Actor:   access.Actor{Kind: access.Human, ID: pat.Principal, Accessor: t.Accessor, AMR: "pat"},
		Subject: access.Subject{Principal: pat.Principal, Narrowed: true, Limit: pat.Permissions},
		Kind:    t.Kind, Tenant: home.Tenant, Accessor: t.Accessor,
	}
	return id, e.touch(ctx, home.Tenant, t.Accessor, pat.LastUsed, credential.NoteEvery, now, o)
}

// At says where the gate decides.
type At uint8

const (
	Root       At = iota // what stands on no node
	RootObject           // one thing that stands on no node: who may not even read it is told that nothing is there
	Anywhere             // what names its node later, or lists within reach
	Object               // one thing at a node: who may only read it is told later what they lack
)

// Gate lets an identity into a tenant for a permission. Another tenant, one that is not there and one that the identity is no
// member of are answered alike. Refusals are recorded.
func (e *Enter) Gate(ctx context.Context, id Identity, t ident.Tenant, p access.Permission, at At, o access.Origin) (access.Scope, error) {
	if id.elsewhere(t) || (t == ident.Platform) != p.OfPlatform() {
		return access.Scope{}, e.refuse(ctx, id, t, false, access.Decision{Permission: p, Reason: access.ReasonNoMembership}, o, fault.Missing())
	}
	st, err := e.standing(ctx, t)
	if fault.Is(err, fault.NotFound) {
		return access.Scope{}, e.refuse(ctx, id, t, false, access.Decision{Permission: p, Reason: access.ReasonNoMembership}, o, fault.Missing())
	}
	if err != nil {
		return access.Scope{}, err
	}
	member := st.policy.Member(id.Subject.Principal)
	if !member && t != ident.Platform {
		return access.Scope{}, e.refuse(ctx, id, t, false, access.Decision{Permission: p, Reason: access.ReasonNoMembership}, o, fault.Missing())
	}
	if err := st.admit(member); err != nil {
		return access.Scope{}, e.refuse(ctx, id, t, true, st.closed(p), o, err)
	}
	now := e.Now()
	var d access.Decision
	switch at {
	case Root, RootObject:
		d = st.policy.Decide(id.Subject, p, ident.Node{}, now)
	case Anywhere, Object:
		d = st.policy.Anywhere(id.Subject, p, now)
		if read := p.Read(); at == Object && !d.Allowed && read != p {
			if r := st.policy.Anywhere(id.Subject, read, now); r.Allowed {
				d = r // the object itself decides between 403 and 404
			}
		}
	}
	s := access.Grant(t, id.Actor, o, d, &st.policy, id.Subject, now)
	if d.Allowed {
		return s, nil
	}
	refusal := error(access.Refuse(p))
	switch at {
	case RootObject:
		refusal = s.Require(p, ident.Node{}) // decided already; here for which of the two refusals it is
	case Object:
		refusal = fault.Missing()
	case Root, Anywhere:
	}
	return access.Scope{}, e.refuse(ctx, id, t, member, d, o, refusal)
}

// ErrPerson is the answer to a token where a person is wanted.
func ErrPerson() error {
	return fault.New(fault.Denied, "person_needed", "This is for people who signed in, not for tokens of one tenant.")
}

// Self lets a person act on what is their own: platform records, under a scope that names them.
func (e *Enter) Self(id Identity, o access.Origin) (access.Scope, error) {
	if id.Actor.Kind != access.Human || !id.Tenant.IsZero() {
		return access.Scope{}, ErrPerson()
	}
	return e.As(ident.Platform, id.Actor, "self", o), nil
}

// Member lets a member into a tenant for what is their own there. What they may do beyond that is asked of the scope.
func (e *Enter) Member(ctx context.Context, id Identity, t ident.Tenant, o access.Origin) (access.Scope, error) {
	if id.elsewhere(t) || t == ident.Platform || id.Actor.Kind != access.Human {
		return access.Scope{}, fault.Missing()
	}
	st, err := e.standing(ctx, t)
	if err != nil {
		return access.Scope{}, err
	}
	member := st.policy.Member(id.Subject.Principal)
	if err := st.admit(member); err != nil || !member {
		if err == nil {
			err = fault.Missing()
		}
		return access.Scope{}, err
	}
	d := access.Decision{Allowed: true, Reason: "member", Revision: st.policy.Revision()}
	return access.Grant(t, id.Actor, o, d, &st.policy, id.Subject, e.Now()), nil
}

// Again decides anew what a scope was granted for at the tenant's root: for what goes on after its request was let in, once the
// store says that rights were narrowed meanwhile.
func (e *Enter) Again(ctx context.Context, s access.Scope) (access.Scope, error) {
	st, err := e.cache.policies.get(ctx, s.Tenant())
	if err != nil {
		return access.Scope{}, err
	}
	member := st.policy.Member(s.Subject().Principal)
	if err := st.admit(member); err != nil {
		return access.Scope{}, err
	}
	if !member && s.Tenant() != ident.Platform {
		return access.Scope{}, fault.Missing() // removed since: as to any other stranger
	}
	p, now := s.Decision().Permission, e.Now()
	d := st.policy.Decide(s.Subject(), p, ident.Node{}, now)
	if !d.Allowed {
		return access.Scope{}, access.Refuse(p)
	}
	return access.Grant(s.Tenant(), s.Actor(), s.Origin(), d, &st.policy, s.Subject(), now), nil
}

// As grants a scope to one whose right was proved otherwise than by a policy: a person on their own records, or the holder of
// a one-time link. For app/signin and the gate alone.
func (e *Enter) As(t ident.Tenant, a access.Actor, reason string, o access.Origin) access.Scope {
	return access.Grant(t, a, o, access.Decision{Allowed: true, Reason: reason}, nil, access.Subject{Principal: a.ID}, e.Now())
}

// Refused records that a handler refused what the gate had let in. It answers the error that the caller is to see.
func (e *Enter) Refused(ctx context.Context, id Identity, s access.Scope, err error) error {
	f := denied(err)
	if f == nil || f.Permission == "" || s.IsZero() {
		return err
	}
	p, perr := access.ParsePermission(f.Permission)
	if perr != nil {
		return err
	}
	return e.refuse(ctx, id, s.Tenant(), true, access.Decision{Permission: p, Reason: access.ReasonNoReach, Revision: s.Revision()}, s.Origin(), err)
}

// refusals counts each actor's refusals of the minute. Beyond the first ones they are folded into a counter in the store.
type refusals struct {
	mu     sync.Mutex
	minute time.Time
	count  map[string]int
}

const refusalsInFull = 20

func (r *refusals) next(actor string, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if minute := now.Truncate(time.Minute); minute != r.minute {
		r.minute, r.count = minute, map[string]int{}
	}
	r.count[actor]++
	return r.count[actor]
}

// refuse records a refusal, in the asked tenant's tree if the actor is a member there, else in the platform's, and answers
// the error to give. If it cannot be recorded the request fails as such: no effect without a record.
func (e *Enter) refuse(ctx context.Context, id Identity, t ident.Tenant, member bool, d access.Decision, o access.Origin, answer error) error {
	tree := ident.Platform
	if member {
		tree = t
	}
	now := e.Now()
	actor := id.Actor.Name()
	var err error
	if e.refusals.next(actor, now) <= refusalsInFull {
		if tree != t {
			d.Revision = 0 // it is another tree's
		}
		record := func() error {
			s := access.Grant(tree, id.Actor, o, d, nil, id.Subject, now)
			ev, err := e.Outcome(ctx, s, audit.AuthzFail, audit.Target{Kind: "permission", ID: d.Permission.String()}, audit.Denied, d.Reason)
			if err != nil {
				return err
			}
			return e.store.Change(ctx, s, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil })
		}
		if err = record(); errors.Is(err, store.ErrStale) { // what was refused stays refused: the policy of then is no condition
			d.Revision = 0
			err = record()
		}
	} else {
		minute := now.Truncate(time.Minute)
		fold := store.Fold{Kind: "refusal", Key: actor + " " + d.Permission.String(), Bucket: minute, Until: minute.Add(time.Minute)}
		err = e.store.Ingest(ctx, e.System(tree, "refusals", o), func(ctx context.Context, f store.Flow) error { return f.Fold(ctx, fold, 1) })
	}
	if err != nil {
		return fault.Wrap(errors.Join(answer, err), fault.Unavailable, "audit_unavailable", "The audit log cannot be written at the moment, so nothing is done. Try again.").WithRetry(time.Second)
	}
	return answer
}

// Ready asks the store something small: whether the server can serve.
func (e *Enter) Ready(ctx context.Context) error {
	return e.store.View(ctx, e.System(ident.Platform, "ready", access.Origin{}), func(ctx context.Context, r store.Reader) error {
		_, err := r.Revision(ctx)
		return err
	})
}

// Strangers answers the names of keys that are not those that the store knows by these names, and of those that it knows and
// that are not there, of the kinds of which this process was given any. What the store does not know yet, it knows from then on.
func (e *Enter) Strangers(ctx context.Context, keys seal.Marks) ([]string, error) {
	marks, err := keys.Marks()
	if err != nil {
		return nil, err
	}
	kind := func(name string) string { k, _, _ := strings.Cut(name, "-"); return k }
	given := map[string]bool{}
	for name := range marks {
		given[kind(name)] = true
	}
	var strange []string
	err = e.store.Ingest(ctx, e.System(ident.Platform, "keys", access.Origin{}), func(ctx context.Context, f store.Flow) error {
		kept, err := f.Marks(ctx, marks)
		strange = nil // fn may run again
		for name, mark := range kept {
			if mine, there := marks[name]; given[kind(name)] && (!there || mine != mark) {
				strange = append(strange, name)
			}
		}
		return err
	})
	slices.Sort(strange)
	return strange, err
}
