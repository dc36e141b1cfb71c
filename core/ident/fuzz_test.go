package ident

import "testing"

func FuzzParse(f *testing.F) {
	for _, s := range []string{Platform.String(), "usr_" + Platform.String()[4:], Platform.String()[:29] + "1", "TNT" + Platform.String()[3:], Platform.String()[:4] + "00000000000000000000000000", "ten_", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Parse[tenantKind](s)
		if err != nil {
			if id != (Tenant{}) {
				t.Fatalf("%q is no id, and became %v", s, id)
			}
			return
		}
		if id.IsZero() || id.String() != s {
			t.Fatalf("%q became %q", s, id)
		}
		var again Tenant
		if err := again.UnmarshalText([]byte(s)); err != nil || again != id {
			t.Fatalf("%q read as text is %v, %v", s, again, err)
		}
	})
}
