// Package seal says what Ringfence wants of whatever keeps its keys: values sealed to their place, peppers for the
// verifiers of tokens, and the key that signs checkpoints. No key leaves it but a pepper, which is worthless alone. What is
// sealed, and where it is kept, it does not know.
package seal

import (
	"context"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
)

// Place is where a sealed value stands. A value opens at its own place alone: moved to another row, column, table or tenant
// it is refused.
type Place struct {
	Tenant ident.Tenant
	Table  string
	Column string
	Row    string
}

// Sealer encrypts values at rest.
//
// It must:
//   - bind the ciphertext to the place and to the key that made it, and refuse (fault of kind Internal, code
//     "sealed_elsewhere", which says nothing of the value) to open it anywhere else, or after any change, cut or addition;
//   - give another ciphertext each time, with no bound on how often one key may be used;
//   - open whatever any of its kept keys has sealed, and seal with the newest;
//   - take an empty value for a value, neither keep nor change what it is given, and serve any number of callers at once.
type Sealer interface {
	Seal(ctx context.Context, p Place, plain []byte) ([]byte, error)
	Open(ctx context.Context, p Place, sealed []byte) ([]byte, error)
}

// Peppers are the keys of tokens' verifiers.
//
// Current must answer the newest, Pepper any that is kept, by its id: at least 32 random bytes, the same at every start. An
// id that it does not keep has no pepper. What a caller does to the answer must not reach the key.
type Peppers interface {
	Current() (kid string, pepper []byte)
	Pepper(kid string) ([]byte, bool)
}

// Marks tells keys apart without showing them.
//
// Marks must answer, by its name, a mark of every key that is kept: the same at every start, another for every other key, and
// nothing that helps to find the key.
type Marks interface {
	Marks() (map[string][32]byte, error)
}

// Log holds the key that signs the audit log's checkpoints, and the instance's name, both fixed at first start.
//
// What Signer signs must verify with VerifierKey, whose name, like Signer's, is the instance's.
type Log interface {
	Instance() string
	Signer() audit.Signer
	VerifierKey() string // the policy line that verifiers outside trust
}
