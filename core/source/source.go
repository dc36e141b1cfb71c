// Package source holds the configured ways in for events. A source's credential decides the tenant, never the body.
package source

import (
	"slices"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// Format is the form of a source's messages.
type Format string

// The formats that can be taken in over HTTP; the words are those of /v1/ingest/{format}.
const (
	ChirpStack Format = "chirpstack"
	TTS        Format = "tts"
	Plain      Format = "plain"
)

// Valid reports whether the format is known.
func (f Format) Valid() bool { return f == ChirpStack || f == TTS || f == Plain }

// State is whether a source's credentials open anything.
type State string

// The states.
const (
	Active   State = "active"
	Disabled State = "disabled"
)

// MaxAllowed bounds the lists that narrow a source.
const MaxAllowed = 1_000

// Ended says when a key of the source was revoked, for events that were let in by it and are not finished yet.
type Ended struct {
	Accessor string
	At       time.Time
}

// maxEnded is how many of them are kept: keys are few, and nothing waits on a bus for long.
const maxEnded = 16

// End notes that a key was revoked.
func (s *Source) End(accessor string, at time.Time) {
	s.Ended = append(slices.Clone(s.Ended), Ended{accessor, at})
	if n := len(s.Ended) - maxEnded; n > 0 {
		s.Ended = s.Ended[n:]
	}
}

// Source is one way in. It stands on a node and speaks for the devices at or below it.
type Source struct {
	ID           ident.Source
	Rev          uint64
	Name         string
	Node         ident.Node
	Format       Format
	State        State
	Account      ident.Principal // the service account that acts for it
	Applications []string        // if any: only messages of these application ids
	Devices      []ident.Device  // if any: only these devices
	Ended        []Ended         `json:",omitempty"` // keys that were revoked lately, oldest first
	CreatedAt    time.Time
	UpdatedAt    time.Time
}
