package credential

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/fault"
)

// Rules of passwords (NIST SP 800-63B-4, OWASP ASVS 5.0 6.2): long enough, not known, and nothing else. The password is
// the only factor, so it is long.
const (
	MinPassword = 15  // characters
	MaxPassword = 256 // bytes
)

// CheckPassword judges a normalised password. common says whether a text is in the set of known passwords; context words
// are the person's, tenant's and product's names, which a password must not consist of.
func CheckPassword(password string, common func(string) bool, context []string) error {
	switch {
	case len(password) > MaxPassword:
		return badPassword("A password may have %d bytes. Choose a shorter one.", MaxPassword)
	case utf8.RuneCountInString(password) < MinPassword:
		return badPassword("A password has at least %d characters, of any kind. A few words in a row are easy to remember.", MinPassword)
	}
	folded := strings.ToLower(password)
	if unit := repetition(folded); common(folded) || common(unit) || utf8.RuneCountInString(unit) < 4 {
		return badPassword("This password is on lists of known ones, or repeats one. Choose another.")
	}
	plain := letters(folded)
	rest := plain
	for _, name := range context {
		for _, word := range append([]string{name}, strings.Fields(name)...) { // the name, and the words that it is made of
			if word = letters(strings.ToLower(word)); utf8.RuneCountInString(word) >= 4 {
				rest = strings.ReplaceAll(rest, word, "")
			}
		}
	}
	if utf8.RuneCountInString(rest) < utf8.RuneCountInString(plain)/2 {
		return badPassword("This password consists mostly of names that belong to the account. Choose another.")
	}
	return nil
}

// letters is a text without what separates its words, which a name is easily disguised by.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, s)
}

func badPassword(format string, args ...any) error {
	e := fault.New(fault.Invalid, "weak_password", format, args...)
	return e.WithField("/password", e.Message)
}

// repetition is the shortest text that a text repeats; the text itself if it repeats nothing.
func repetition(s string) string {
	if i := strings.Index((s + s)[1:], s) + 1; i > 0 && i < len(s) {
		return s[:i]
	}
	return s
}

// Throttling of sign-in (security.md §1.2): from the fifth failure in a row a wait that doubles, up to MaxWait; after
// MaxFailures only a reset opens the account again.
const (
	FreeFailures = 4
	MaxFailures  = 100
	MaxWait      = 900 * time.Second
)

// Wait is how long after the last of a number of failures in a row the next try is looked at.
func Wait(failures int) time.Duration {
	if failures <= FreeFailures {
		return 0
	}
	wait := time.Second
	for i := FreeFailures + 1; i < failures && wait < MaxWait; i++ {
		wait *= 2
	}
	return min(wait, MaxWait)
}
