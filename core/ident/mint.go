package ident

import "time"

// Mint makes new ids. Clock and randomness are its owner's, so that a test can fix both.
type Mint struct {
	Now    func() time.Time
	Random func([]byte) // fills the slice; a source that cannot is fatal, as crypto/rand is
}

// New returns a new id of kind K.
func New[K Kind](m Mint) ID[K] {
	var random [10]byte
	m.Random(random[:])
	return Make[K](m.Now(), random)
}

// Fresh sets id to a new one; its kind follows from where it is kept.
func Fresh[K Kind](m Mint, id *ID[K]) { *id = New[K](m) }

// NewEntry returns a new audit entry's id.
func NewEntry(m Mint) Entry { return New[entryKind](m) }
