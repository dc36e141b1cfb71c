// Package trace says what Ringfence wants told of the way that an event or a request took: spans, below one another, of one
// trace from the door to the reading. What a span can say is a closed list of ids, numbers and words of ours, so that nothing
// foreign and no secret can be in one. An adapter that fills this port takes them to whoever looks at traces.
package trace

import (
	"context"
	"encoding/hex"
	"iter"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// Place is where in a trace some work stands: what W3C's traceparent says. The zero Place is none.
type Place struct {
	Trace [16]byte
	Span  [8]byte
	Kept  bool // the trace is told of; what a sender says of it counts for nothing (Tracer.Enter)
}

// IsZero reports whether there is no trace.
func (p Place) IsZero() bool { return p.Trace == [16]byte{} }

// ID is the trace's id as text; empty: there is none.
func (p Place) ID() string {
	if p.IsZero() {
		return ""
	}
	return hex.EncodeToString(p.Trace[:])
}

// length of a traceparent of version 00, the only one that is taken: what a later one means is not known.
const length = 55

// String is the place as a traceparent; empty: there is none.
func (p Place) String() string {
	if p.IsZero() {
		return ""
	}
	b := make([]byte, 0, length)
	b = hex.AppendEncode(append(b, "00-"...), p.Trace[:])
	b = hex.AppendEncode(append(b, '-'), p.Span[:])
	if p.Kept {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}

// Parse reads a traceparent. Whatever is not exactly one is the zero Place.
func Parse(s string) Place {
	if len(s) != length || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return Place{}
	}
	var b [25]byte
	n := 0
	for _, part := range [...]string{s[3:35], s[36:52], s[53:]} {
		for i := 0; i < len(part); i += 2 {
			high, low := digit(part[i]), digit(part[i+1])
			if high > 15 || low > 15 {
				return Place{}
			}
			b[n] = high<<4 | low
			n++
		}
	}
	p := Place{Trace: [16]byte(b[:16]), Span: [8]byte(b[16:24]), Kept: b[24]&1 == 1}
	if p.IsZero() || p.Span == [8]byte{} {
		return Place{}
	}
	return p
}

// Sent is where a message stands in a trace, as its sender says by exactly one of its properties; else nowhere.
func Sent(properties iter.Seq2[string, string]) (at Place) {
	n := 0
	for key, value := range properties {
		if key == "traceparent" {
			at = Parse(value)
			n++
		}
	}
	if n > 1 {
		return Place{}
	}
	return at
}

// digit is what a digit of lower-case hex says, or more than 15.
func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

type key struct{}

// With is a context of work that stands at a place.
func With(ctx context.Context, p Place) context.Context { return context.WithValue(ctx, key{}, p) }

// Of is the place of a context's work; zero: it has none.
func Of(ctx context.Context) Place {
	p, _ := ctx.Value(key{}).(Place)
	return p
}

// Kind is on which side of a hand-over a span stands.
type Kind int

// The kinds.
const (
	Internal Kind = iota
	Server        // answers a request
	Client        // asks another process and waits
	Producer      // hands something over
	Consumer      // takes it
)

// MaxLinks is how many links of a span are told.
const MaxLinks = 128

// Span is work that has ended. Its texts are words of ours, and never a sender's.
type Span struct {
	Name          string
	Kind          Kind
	Place, Parent Place
	Links         []Place // of the events of a batch, each in its own trace
	Began, Ended  time.Time

	Tenant ident.Tenant // as far as known
	Event  ident.Uplink // the one that it is about
	Topic  string       // of the bus
	Count  int          // events of a batch
	Status int          // of an HTTP answer
	Result string       // what became of it
	Failed bool
}

// Tracer draws and tells. It is safe for many callers at once, and none of its methods waits for anybody.
type Tracer interface {
	// Enter is the place of the span by which something comes in: in its sender's trace and below the sender's span if the sender
	// named one, else in a new trace. Whether it is kept is a lot that is drawn here: it must depend neither on the sender's flag
	// nor on the ids that the sender chose.
	Enter(sender Place) Place

	// Below is the place of a span below another of ours, kept if that is. Below none begins a new trace.
	Below(parent Place) Place

	// Tell takes a span of a kept place, or drops it and counts that. One that is not kept is nothing to tell.
	Tell(s Span)
}
