// Package secret holds values that never print: every verb, JSON and slog show "[redacted]". What must leave (a token
// shown once, a key given to a cipher) is taken out by Reveal, which is easy to search for. There is no comparison
// operator worth using on a secret: Equal takes constant time.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every secret prints as.
const Redacted = "[redacted]"

// Text is a secret in text form. The zero Text is empty. It is not comparable with == on purpose.
type Text struct {
	_ [0]func()
	s string
}

// New returns the secret with the given text.
func New(s string) Text { return Text{s: s} }

// Reveal is the text itself. Never log what it returns, nor put it in an error.
func (t Text) Reveal() string { return t.s }

// IsZero reports whether the secret is empty.
func (t Text) IsZero() bool { return t.s == "" }

// Equal compares two secrets in constant time for texts of equal length.
func (t Text) Equal(other Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.s), []byte(other.s)) == 1
}

// String, GoString, Format, MarshalText, MarshalJSON and LogValue all hide the text.
func (Text) String() string { return Redacted }

// GoString hides the text under %#v.
func (Text) GoString() string { return Redacted }

// Format hides the text under every verb.
func (Text) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, Redacted) }

// MarshalText hides the text.
func (Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON hides the text.
func (Text) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// LogValue hides the text.
func (Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// UnmarshalText reads a secret from input, such as a password in a form.
func (t *Text) UnmarshalText(b []byte) error {
	t.s = string(b)
	return nil
}
