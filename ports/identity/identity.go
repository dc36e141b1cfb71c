// Package identity says what Ringfence wants of whoever knows people: passwords today, OpenID providers later.
package identity

import (
	"context"

	"github.com/ringfence/ringfence/core/secret"
)

// Passwords hashes and checks local passwords.
type Passwords interface {
	// Check judges a new password by the rules of core/credential, after bringing it to its one form. context are words of
	// the account's that it must not consist of. The error is a fault of kind Invalid that does not repeat the password.
	Check(password secret.Text, context []string) error

	// Hash answers a PHC string that Verify accepts for this password alone. It must bound how many hashes are made at the
	// same time and answer a fault of kind Exhausted, with a time to come back, beyond that.
	Hash(ctx context.Context, password secret.Text) (phc string, err error)

	// Verify compares a password with a PHC string. With an empty one it must do the same work and answer false, so that a
	// name nobody has takes as long as a wrong password. stale says that the hash should be made again with today's cost.
	Verify(ctx context.Context, phc string, password secret.Text) (ok, stale bool, err error)
}
