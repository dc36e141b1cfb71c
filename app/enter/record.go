package enter

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strings"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/seal"
)

// Recorder makes audit events complete: with an id, with a nonce and a sealed copy for every personal value, and with a digest
// for every one that is useful for equality alone.
type Recorder struct {
	Mint    ident.Mint
	Sealer  seal.Sealer
	Peppers seal.Peppers
}

// Event is an event of the scope's tenant that succeeded.
func (r Recorder) Event(ctx context.Context, s access.Scope, a audit.Action, t audit.Target, changes ...audit.Change) (audit.Event, error) {
	return r.Outcome(ctx, s, a, t, audit.OK, "", changes...)
}

// Outcome is an event that ended in some way.
func (r Recorder) Outcome(ctx context.Context, s access.Scope, a audit.Action, t audit.Target, o audit.Outcome, reason string, changes ...audit.Change) (audit.Event, error) {
	e := audit.Event{
		ID: ident.NewEntry(r.Mint), Action: a, Target: t, Outcome: o, Reason: reason, Changes: changes,
		Address: audit.Personal{Value: s.Origin().Address}, Agent: audit.Personal{Value: s.Origin().Agent},
	}
	place := PrivatePlace(s.Tenant(), e.ID)
	return audit.Complete(e, r.Mint.Random,
		func(plain string) ([]byte, error) { return r.Sealer.Seal(ctx, place, []byte(plain)) },
		func(field, value string) string {
			kid, pepper := r.Peppers.Current()
			return Digest(s.Tenant(), kid, pepper, field, value)
		})
}

// PrivatePlace is where an entry's private values are sealed to.
func PrivatePlace(t ident.Tenant, e ident.Entry) seal.Place {
	return seal.Place{Tenant: t, Table: "audit_private", Column: "sealed", Row: e.String()}
}

// Digest is what an entry of a tenant's log holds of a value that is useful for equality alone. The tenant's audit key follows
// from a pepper: digests of two tenants say nothing of one another.
func Digest(t ident.Tenant, kid string, pepper []byte, field, value string) string {
	key := hmac.New(sha256.New, pepper)
	key.Write([]byte("ringfence audit digest v1 " + t.String())) // a hash never fails
	return audit.Digest(kid, key.Sum(nil), field, value)
}

// Target names what an event is about; path is the way from the root to its node.
func Target[K ident.Kind](kind string, id ident.ID[K], path ...ident.Node) audit.Target {
	words := make([]string, len(path))
	for i, n := range path {
		words[i] = n.String()
	}
	return audit.Target{Kind: kind, ID: id.String(), Path: strings.Join(words, "/")}
}

// denied is the fault that a refusal is answered with, or nil for any other error.
func denied(err error) *fault.Error {
	if e := fault.As(err); e != nil && e.Kind == fault.Denied {
		return e
	}
	return nil
}
