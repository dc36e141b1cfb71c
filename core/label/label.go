// Package label is the one rule of the names that people give: to themselves, to tenants, and to what tenants have. What a
// name means, and whether it must be unique, is its noun's.
package label

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/fault"
)

// Max is how many bytes a name has at most.
const Max = 200

// Check refuses what is no name: nothing at all, too much, no text, and what a terminal or a page would obey instead of
// showing it (control characters, line breaks, changes of the writing direction).
func Check(s string) error {
	switch {
	case strings.TrimSpace(s) == "" || len(s) > Max || !utf8.ValidString(s):
		return fault.New(fault.Invalid, "bad_name", "A name has 1 to %d bytes of text.", Max).WithField("/name", "empty or too long")
	case strings.ContainsFunc(s, hidden):
		return fault.New(fault.Invalid, "bad_name", "A name has no control characters.").WithField("/name", "control character")
	}
	return nil
}

func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}
