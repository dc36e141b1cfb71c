package trace_test

import (
	"strings"
	"testing"

	"github.com/ringfence/ringfence/ports/trace"
)

const told = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestATraceparentIsReadExactlyOrNotAtAll(t *testing.T) {
	p := trace.Parse(told)
	if p.String() != told || p.ID() != "0af7651916cd43dd8448eb211c80319c" || !p.Kept {
		t.Errorf("%q of %s", p, told)
	}
	if p := trace.Parse(told[:53] + "02"); p.Kept || p.IsZero() { // a flag of another meaning
		t.Errorf("%q", p)
	}
	for _, wrong := range []string{
		"", told[1:], told + "0", strings.ToUpper(told), "01" + told[2:], "ff" + told[2:], strings.Replace(told, "-", "_", 1), told[:35] + "_" + told[36:], told[:52] + "x" + told[53:],
		"00-" + strings.Repeat("0", 32) + told[35:], told[:36] + strings.Repeat("0", 16) + told[52:], told[:3] + "g" + told[4:], told[:54] + "\n", told + "-extra", strings.Repeat("0", 55),
	} {
		if p := trace.Parse(wrong); p != (trace.Place{}) {
			t.Errorf("%q is read as %q", wrong, p)
		}
	}
	if none := (trace.Place{Kept: true}); none.String() != "" || none.ID() != "" {
		t.Errorf("no place is told as %q", none)
	}
}

func TestAContextCarriesItsPlace(t *testing.T) {
	p := trace.Parse(told)
	if trace.Of(t.Context()) != (trace.Place{}) || trace.Of(trace.With(t.Context(), p)) != p {
		t.Error("the place is not what it was")
	}
}

// What every message costs, whoever asks for traces.
func TestReadingAPlaceAllocatesNothing(t *testing.T) {
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if trace.Parse(told).IsZero() || !trace.Of(ctx).IsZero() {
			t.Fatal("another place")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever is read is told again as it was, but for flags that mean nothing here.
func FuzzParse(f *testing.F) {
	for _, s := range []string{told, told[:53] + "ff", "", strings.Repeat("-", 55), "00-" + strings.Repeat("0", 52)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := trace.Parse(s)
		if p == (trace.Place{}) {
			return
		}
		if again := p.String(); len(s) != len(again) || s[:53] != again[:53] || trace.Parse(again) != p {
			t.Errorf("%q is read as %q", s, again)
		}
	})
}
