package credential

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzCheckPassword(f *testing.F) {
	for _, s := range []string{"correct horse battery staple", "passwordpassword", "aaaaaaaaaaaaaaaa", "ringfenceringfence1", strings.Repeat("ß", 130), "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5\xf4\xf3\xf2\xf1\xf0", "İİİİİİİİİİİİİİİİ"} {
		f.Add(s, "Acme")
	}
	known := func(s string) bool { return s == "password" }
	f.Fuzz(func(t *testing.T, s, word string) {
		if CheckPassword(s, known, []string{word, "ringfence"}) != nil {
			return
		}
		if n := utf8.RuneCountInString(s); n < MinPassword || len(s) > MaxPassword || strings.EqualFold(strings.ReplaceAll(strings.ToLower(s), "password", ""), "") {
			t.Fatalf("taken: %q", s)
		}
	})
}
