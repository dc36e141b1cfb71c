// Package fault holds the errors that cross rooms: callers act on the kind, people read the message, and only the log
// sees the cause, once, at the outermost room. A message never echoes input, a secret or a driver's text.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller can do about an error.
type Kind uint8

// The kinds. The zero Kind is Internal, so that an error nobody classified is our bug and never the caller's.
const (
	Internal        Kind = iota // our bug; nothing the caller can do
	Invalid                     // readable but wrong: mend the input
	Unauthenticated             // who are you
	Denied                      // known but not entitled
	NotFound                    // not there, or not yours: the two are never told apart
	Conflict                    // at odds with the present state
	Exhausted                   // a limit is used up; RetryAfter says when to come back, if at all
	Unavailable                 // a part we need is away; try again
)

var kindNames = [...]string{"internal", "invalid", "unauthenticated", "denied", "not_found", "conflict", "exhausted", "unavailable"}

// String is the kind's name in snake case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// Error is an error with a kind. Make one with New or Wrap, refine it with the With methods.
type Error struct {
	Kind       Kind
	Code       string        // for programs: a stable snake_case word such as "quota_exceeded"; empty means the kind's name
	Message    string        // for people: a sentence that says what to do
	Permission string        // Denied: the permission that is missing
	Fields     []Field       // Invalid: which parts of the input, as JSON pointers
	RetryAfter time.Duration // Exhausted, Unavailable: when to come back; 0 = unknown
	Limit, Use int64         // Exhausted counts of things: the limit and the use
	cause      error
}

// Field is one wrong part of an input.
type Field struct {
	Pointer string // RFC 6901, "" is the whole
	Detail  string
}

// New returns an error of a kind with a message for people.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of a kind that keeps its cause for the log.
func Wrap(cause error, kind Kind, code, format string, args ...any) *Error {
	e := New(kind, code, format, args...)
	e.cause = cause
	return e
}

// Error is the message for people, with neither cause nor code.
func (e *Error) Error() string { return e.Message }

// Unwrap is the cause, for errors.Is and the log.
func (e *Error) Unwrap() error { return e.cause }

// Is matches another *Error of the same kind and code, so that sentinel comparison works on copies.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Code == e.Code
}

// WithField returns a copy that names one more wrong part of the input.
func (e *Error) WithField(pointer, detail string) *Error {
	c := *e
	c.Fields = append(c.Fields[:len(c.Fields):len(c.Fields)], Field{pointer, detail})
	return &c
}

// WithPermission returns a copy that names the permission that is missing.
func (e *Error) WithPermission(p string) *Error {
	c := *e
	c.Permission = p
	return &c
}

// WithRetry returns a copy that says when to come back.
func (e *Error) WithRetry(after time.Duration) *Error {
	c := *e
	c.RetryAfter = after
	return &c
}

// WithUse returns a copy that carries a limit and the use of it.
func (e *Error) WithUse(limit, use int64) *Error {
	c := *e
	c.Limit, c.Use = limit, use
	return &c
}

// KindOf is the kind of an error: Internal for what has none. Nil has no kind and must not be asked.
func KindOf(err error) Kind {
	if e := As(err); e != nil {
		return e.Kind
	}
	return Internal
}

// As is the first *Error in an error's chain, or nil.
func As(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// Is reports whether an error is of a kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Missing is the one answer for what is not there and for what is another tenant's: byte for byte the same.
func Missing() *Error {
	return New(NotFound, "not_found", "There is nothing here that you can see. Check the id, and that you are a member of its tenant.")
}

// Stale is the answer to a change made from a revision that is no longer the latest.
func Stale() *Error {
	return New(Conflict, "stale_revision", "The resource has changed since you read it. Read it again and repeat your change with its new revision.")
}
