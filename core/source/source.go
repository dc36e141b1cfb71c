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

// Fed says from when to when an application of a connection was mapped to the source: what came within is the source's.
type Fed struct {
	Claim    string
	From, To time.Time
}

// maxFed is how many of them are kept. Of what is not, nobody knows any more whose it was: it is nobody's.
const maxFed = 64

// Unmap notes that a mapping to the source ended.
func (s *Source) Unmap(m Mapping, at time.Time) {
	s.Fed = append(slices.Clone(s.Fed), Fed{m.Claim(), m.CreatedAt, at})
	s.Fed = s.Fed[max(0, len(s.Fed)-maxFed):]
}

// Had reports whether an application was mapped to the source at a moment, by a mapping that ended since, and when that began. One that
// began within a while after the moment counts, since clocks differ.
func (s Source) Had(claim string, at time.Time, while time.Duration) (began time.Time, ok bool) {
	i := slices.IndexFunc(s.Fed, func(f Fed) bool {
		return f.Claim == claim && !at.After(f.To) && !at.Add(while).Before(f.From)
	})
	if i < 0 {
		return began, false
	}
	return s.Fed[i].From, true
}

// Lost reports whether the mapping of an application that began at a moment is known to have ended.
func (s Source) Lost(claim string, began time.Time) bool {
	return slices.ContainsFunc(s.Fed, func(f Fed) bool { return f.Claim == claim && f.From.Equal(began) })
}

// Span is for how long the source was disabled; without an end, it still is.
type Span struct{ From, To time.Time }

// maxOff is how many of them are kept.
const maxOff = 16

// Turn notes since when the source is in a state. It is told of every change of the source, before UpdatedAt is: of one that was
// disabled before spans were kept, its last change is the last moment that it can have been.
func (s *Source) Turn(to State, at time.Time) {
	off := slices.Clone(s.Off)
	if s.State == Disabled && !s.off() {
		off = append(off, Span{From: s.UpdatedAt})
	}
	switch {
	case s.State != Disabled && to == Disabled:
		off = append(off, Span{From: at})
	case s.State == Disabled && to != Disabled:
		off[len(off)-1].To = at
	}
	s.Off, s.State = off[max(0, len(off)-maxOff):], to
}

func (s *Source) off() bool { return len(s.Off) > 0 && s.Off[len(s.Off)-1].To.IsZero() }

// Closed reports whether the source was disabled at a moment, and had been for a while.
func (s *Source) Closed(at time.Time, since time.Duration) bool {
	if s.State == Disabled && !s.off() && at.After(s.UpdatedAt.Add(since)) {
		return true
	}
	return slices.ContainsFunc(s.Off, func(o Span) bool { return at.After(o.From.Add(since)) && (o.To.IsZero() || !at.After(o.To)) })
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
	Off          []Span          `json:",omitempty"` // when it was disabled lately, oldest first
	Fed          []Fed           `json:",omitempty"` // by mappings that ended lately, oldest first
	CreatedAt    time.Time
	UpdatedAt    time.Time
}
