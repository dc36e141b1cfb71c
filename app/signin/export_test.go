package signin

import "github.com/ringfence/ringfence/core/principal"

// FailureKey is the key that failures of a name that nobody has are counted by.
func FailureKey(name string) string { return failureKey(principal.Person{}, name) }
