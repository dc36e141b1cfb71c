package access

import "testing"

func FuzzParsePermission(f *testing.F) {
	for _, s := range []string{DeviceRead.String(), "device:READ", "*", "", "none", "device:read "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePermission(s)
		if (err == nil) != (p != None) || err == nil && p.String() != s {
			t.Fatalf("%q became %v, %v", s, p, err)
		}
	})
}
