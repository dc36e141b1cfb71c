package keyring

import (
	"encoding/base64"
	"strings"
	"testing"
)

func FuzzParseKey(f *testing.F) {
	f.Add(base64.StdEncoding.EncodeToString(fresh()))
	f.Add(strings.Repeat("A", 43) + "=")
	f.Add(strings.Repeat("changeme", 5) + "+w==")
	f.Add("====")
	f.Fuzz(func(t *testing.T, s string) {
		key, err := parse(s)
		if err == nil && (len(key) < keySize || base64.StdEncoding.EncodeToString(key) != s) {
			t.Fatalf("%q was taken for a key", s)
		}
	})
}

func FuzzParseLog(f *testing.F) {
	made, err := freshLog()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made)
	f.Add("PRIVATE+KEY+a+00000000+AQ==")
	f.Add(strings.Replace(made, "PRIVATE", "PUBLIC", 1))
	f.Add(made[:len(made)-4])
	f.Fuzz(func(t *testing.T, s string) {
		signer, verifier, err := parseLog(s)
		if err == nil && (signer == nil || !strings.HasPrefix(verifier, signer.Name()+"+") || !strings.HasPrefix(s, "PRIVATE+KEY+")) {
			t.Fatalf("%q was taken for a signer key: %q", s, verifier)
		}
	})
}
