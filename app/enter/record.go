package enter

import (
	"context"
	"strings"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/seal"
)

// Recorder makes audit events complete: with an id, and with a nonce and a sealed copy for every personal value.
type Recorder struct {
	Mint   ident.Mint
	Sealer seal.Sealer
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
	place := seal.Place{Tenant: s.Tenant(), Table: "audit_private", Column: "sealed", Row: e.ID.String()}
	return audit.Complete(e, r.Mint.Random, func(plain string) ([]byte, error) { return r.Sealer.Seal(ctx, place, []byte(plain)) })
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
