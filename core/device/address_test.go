package device

import (
	"strings"
	"testing"
)

func TestAnAddressHasOneSpelling(t *testing.T) {
	for _, s := range []string{"a84041ffff1e2d3c", "A84041FFFF1E2D3C", "A8-40-41-FF-FF-1E-2D-3C", "a8:40:41:ff:ff:1e:2d:3c"} {
		if a, err := ParseAddress(DevEUI, s); err != nil || a != (Address{DevEUI, "a84041ffff1e2d3c"}) {
			t.Errorf("%s: %v, %v", s, a, err)
		}
	}
	if a, err := ParseAddress(Serial, "Pump/7 "[:6]); err != nil || a.Value != "Pump/7" {
		t.Errorf("a serial is kept as it is: %v, %v", a, err)
	}
}

func TestWhatIsNoAddressIsRefused(t *testing.T) {
	for _, c := range []struct {
		kind  AddressKind
		value string
	}{
		{DevEUI, ""}, {DevEUI, "a84041ffff1e2d3"}, {DevEUI, "a84041ffff1e2d3cc"}, {DevEUI, "g84041ffff1e2d3c"}, {DevEUI, "a84041ffff1e2d3c\n"},
		{DevEUI, strings.Repeat("-", 1<<20)}, {DevEUI, "ａ84041ffff1e2d3"}, {DevEUI, "0x84041ffff1e2d3"}, {DevEUI, "K84041ffff1e2d3c"},
		{Serial, ""}, {Serial, strings.Repeat("a", MaxAddress+1)}, {Serial, "a b"}, {Serial, "a\x00"}, {Serial, "a\x7f"}, {Serial, "\xff"}, {Serial, "a\r\nb"},
		{"", "a"}, {"colour", "red"},
	} {
		if a, err := ParseAddress(c.kind, c.value); err == nil {
			t.Errorf("%s %.40q became %v", c.kind, c.value, a)
		}
	}
}

// What was brought to its one spelling stays as it is.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"a84041ffff1e2d3c", "A8-40-41-FF-FF-1E-2D-3C", "pump-7", "İ84041ffff1e2d3c", "----------------------"} {
		f.Add(true, s)
		f.Add(false, s)
	}
	f.Fuzz(func(t *testing.T, eui bool, s string) {
		kind := Serial
		if eui {
			kind = DevEUI
		}
		a, err := ParseAddress(kind, s)
		if err != nil {
			return
		}
		if again, err := ParseAddress(a.Kind, a.Value); err != nil || again != a || len(a.Value) > MaxAddress {
			t.Fatalf("%q became %v, then %v, %v", s, a, again, err)
		}
	})
}
