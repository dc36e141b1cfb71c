package localauth

import (
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/secret"
)

func FuzzNormal(f *testing.F) {
	for _, s := range []string{"correct horse battery staple", "e\u0301\u00a0x", "\u200d", "a\x00b", "\xff", "ｆｕｌｌ", strings.Repeat("x", 2000), "\u1100\u1161\u11a8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := normal(secret.New(s))
		if err != nil {
			return
		}
		if again, err := normal(secret.New(got)); len(got) <= 4*credential.MaxPassword && (err != nil || again != got) {
			t.Fatalf("%q became %q, then %q, %v", s, got, again, err)
		}
		if strings.ContainsAny(got, "\x00\n\x7f") {
			t.Fatalf("%q has a control character", got)
		}
	})
}
