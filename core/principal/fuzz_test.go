package principal

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzNormalizeEmail(f *testing.F) {
	for _, s := range []string{"ana@example.com", " Ana@Example.COM ", "İ@x", "a@b@c", "@", "a\x00@b", "\xff@b", strings.Repeat("ı", 130) + "@b", "a\u00a0b@c", "a@b\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := NormalizeEmail(s)
		if err != nil {
			return
		}
		if again, err := NormalizeEmail(got); err != nil || again != got {
			t.Fatalf("%q became %q, then %q, %v", s, got, again, err)
		}
		if len(got) > 254 || !utf8.ValidString(got) || strings.ContainsAny(got, " \r\n\x00<>") || strings.Count(got, "@") != 1 {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
