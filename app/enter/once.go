package enter

import (
	"context"
	"errors"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/store"
)

// Once makes a request safe to repeat (Idempotency-Key). The zero Once does not.
type Once struct {
	Key     [32]byte // of principal, tenant, route and the caller's key
	Request [32]byte // of method, path and body
}

// Replay is the error of what was done before under the same key: what it made or changed is to be read again.
type Replay struct{ Object string } // id of what was made; empty if the path names what was changed

// Error says that nothing was done.
func (r *Replay) Error() string { return "done before: " + r.Object }

// claimLife is how long an Idempotency-Key is remembered.
const claimLife = 24 * time.Hour

// Once runs fn unless the request's key was used before; then nothing is done, and the error is a Replay. The key is claimed
// in the same transaction, so that a request that fails claims nothing. What was made since the scope was decided may not be
// within its reach yet: then the repeat is stale, and decided again.
func (e *Enter) Once(ctx context.Context, s access.Scope, w store.Writer, o Once, fn func() (object string, err error)) error {
	if o == (Once{}) {
		_, err := fn()
		return err
	}
	err := e.Repeated(ctx, w.Read(), o)
	if replay := (*Replay)(nil); errors.As(err, &replay) && s.Revision() != 0 && s.Revision() < w.Revision() {
		return store.ErrStale
	}
	if err != nil {
		return err
	}
	old, err := w.Claims().Get(ctx, o.Key)
	if err == nil { // outlived
		err = w.Claims().Delete(ctx, old.ID, old.Rev)
	} else if fault.Is(err, fault.NotFound) {
		err = nil
	}
	if err != nil {
		return err
	}
	object, err := fn()
	if err != nil {
		return err
	}
	_, err = w.Claims().Put(ctx, store.Claim{ID: o.Key, Request: o.Request, Object: object, ExpiresAt: e.Now().Add(claimLife)})
	return err
}

// Repeated answers a Replay if the request was made before, and a fault if another one was under its key.
func (e *Enter) Repeated(ctx context.Context, r store.Reader, o Once) error {
	if o == (Once{}) {
		return nil
	}
	claim, err := r.Claims().Get(ctx, o.Key)
	switch {
	case fault.Is(err, fault.NotFound) || (err == nil && !claim.ExpiresAt.After(e.Now())):
		return nil
	case err != nil:
		return err
	case claim.Request != o.Request:
		return fault.New(fault.Invalid, "idempotency_key_reused", "This Idempotency-Key was used for another request. Use a new key for a new request.")
	}
	return &Replay{Object: claim.Object}
}
