package decoder

import (
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// Decoder is a tenant's named script. Its versions are immutable; Active names the one that runs, or none.
type Decoder struct {
	ID        ident.Decoder
	Rev       uint64
	Name      string
	Active    ident.Version   // zero: none is active
	Previous  []ident.Version // earlier active ones, newest first, for rolling back; at most MaxPrevious
	Latest    int             // number of the newest version
	CreatedAt time.Time
	UpdatedAt time.Time
}

// MaxPrevious bounds how far a decoder can be rolled back.
const MaxPrevious = 10

// Version is one immutable text of a decoder.
type Version struct {
	ID        ident.Version
	Rev       uint64
	Decoder   ident.Decoder
	Number    int // counts from 1 within the decoder
	Source    string
	Hash      [32]byte // SHA-256 of Source
	Author    ident.Principal
	CreatedAt time.Time
	UpdatedAt time.Time
}
