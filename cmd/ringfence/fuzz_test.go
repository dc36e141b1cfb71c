package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/cmd/internal/settings"
)

// A file of settings is taken whole or refused with a sentence; what is taken is within each setting's bounds.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"listen: 127.0.0.1:8080\n", "devices: 9\nnodes: 0\n", "a: &a [*a]\n", "listen: [1]\n", "lisetn: x", "? {}\n: 1", "- 1", "\x00", "trusted_proxies: 10.0.0.0/8, ::1/128", "devices: 1\ndevices: 2", strings.Repeat("a: b\n", 100), "public_url: https://u:p@x/?q#f", "%YAML 9\n---\n"} {
		f.Add([]byte(s))
	}
	none := environment{lookup: func(string) (string, bool) { return "", false }}
	file := filepath.Join(f.TempDir(), "ringfence.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := loadConfig(file, nil, none)
		if err != nil {
			return
		}
		for _, s := range table {
			if v := c.str(s.Key); v != s.Default && s.Check(v) != nil {
				t.Fatalf("%s is %q", s.Key, v)
			}
		}
	})
}

func FuzzPrefixes(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8, ::1/128", "10.0.0.1/8", ",,", "10.0.0.0/33", "fe80::%eth0/64", "::ffff:10.0.0.0/104"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := settings.ParsePrefixes(s)
		for _, p := range got {
			if err != nil || !p.IsValid() || p != p.Masked() {
				t.Fatalf("%q became %v, %v", s, got, err)
			}
		}
	})
}
