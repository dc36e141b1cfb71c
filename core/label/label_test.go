package label

import (
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/fault"
)

func TestANameIsTextThatShowsWhatItIs(t *testing.T) {
	for _, s := range []string{"Ana", "Acme Water", "Zoë 水 مياه", "👩‍🔧 crew", strings.Repeat("x", Max)} {
		if err := Check(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"", " ", "\u3000", strings.Repeat("x", Max+1), "a\x00b", "a\x1b[2Jb", "a\nb", "a\r\nb", "a\tb", "a\x7fb", "a\u0085b", "a\u2028b", "a\u2029b",
		"a\u202eb", "a\u2066b", "a\u200fb", "a\u061cb", "\xff", "a\xc3", "\xed\xa0\x80",
	} {
		err := Check(s)
		if f := fault.As(err); f == nil || f.Kind != fault.Invalid || f.Code != "bad_name" {
			t.Errorf("%q: %v", s, err)
		} else if strings.TrimSpace(s) != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%q is repeated", s)
		}
	}
}
