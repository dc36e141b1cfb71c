package keyring

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/seal"
)

func opened(t *testing.T, dir string) *Keyring {
	t.Helper()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedValuesOpenAtTheirPlaceAlone(t *testing.T) {
	k := opened(t, filepath.Join(t.TempDir(), "keys"))
	var places []seal.Place
	for _, tenant := range []ident.Tenant{{1}, {2}} {
		for _, table := range []string{"persons", "devices"} {
			for _, column := range []string{"a", "ab"} {
				for _, row := range []string{"1", "b1"} {
					places = append(places, seal.Place{Tenant: tenant, Table: table, Column: column, Row: row})
				}
			}
		}
	}
	sealed := make([][]byte, len(places))
	for i, p := range places {
		var err error
		if sealed[i], err = k.Seal(t.Context(), p, []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range places {
		for j := range places {
			got, err := k.Open(t.Context(), places[j], sealed[i])
			if (i == j) != (err == nil) || (err == nil && string(got) != "value") {
				t.Errorf("the value of %v at %v: %q, %v", places[i], places[j], got, err)
			}
			if err != nil && fault.As(err).Code != "sealed_elsewhere" {
				t.Errorf("refused with %v", err)
			}
		}
	}
	again, err := k.Seal(t.Context(), places[0], []byte("value"))
	if err != nil || bytes.Equal(again, sealed[0]) {
		t.Errorf("the same ciphertext twice: %v", err)
	}
	for i := range sealed[0] {
		b := bytes.Clone(sealed[0])
		b[i] ^= 1
		if _, err := k.Open(t.Context(), places[0], b); err == nil {
			t.Errorf("byte %d may be changed", i)
		}
		if _, err := k.Open(t.Context(), places[0], b[:i]); err == nil {
			t.Errorf("it may be cut at %d", i)
		}
	}
}

func TestKeysAreMadeOnceAndANewOneSeals(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first := opened(t, dir)
	p := seal.Place{Tenant: ident.Tenant{1}, Table: "t"}
	old, err := first.Seal(t.Context(), p, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	fresh := make([]byte, 32)
	for i := range fresh {
		fresh[i] = byte(i*37 + 11)
	}
	if err := os.WriteFile(filepath.Join(dir, "seal-0002.key"), []byte(base64.StdEncoding.EncodeToString(fresh)), 0o600); err != nil {
		t.Fatal(err)
	}
	second := opened(t, dir)
	if got, err := second.Open(t.Context(), p, old); err != nil || string(got) != "x" {
		t.Errorf("the old key's value: %q, %v", got, err)
	}
	next, err := second.Seal(t.Context(), p, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Open(t.Context(), p, next); err == nil {
		t.Error("a value of the new key opened with the old one")
	}
	if first.Instance() != second.Instance() || first.VerifierKey() != second.VerifierKey() {
		t.Error("the log's key changed at a second start")
	}
	if v, err := audit.NewVerifier(first.VerifierKey()); err != nil || v.Name() != first.Instance() {
		t.Errorf("the verifier key is none: %v", err)
	}
}

func TestKnownAndWeakKeysAreRefused(t *testing.T) {
	weak := [][]byte{nil, []byte("short"), make([]byte, 32), bytes.Repeat([]byte("0123456789abcdef"), 2), bytes.Repeat([]byte{1, 2}, 16)}
	for _, w := range known {
		for _, pad := range []string{"Zx9$kQ2!mW7@pL4#vR8%nT1^", "q7Lm0-PzV3_xT8=bN5+yH2~kD9"} {
			weak = append(weak, []byte(w + pad + pad)[:max(32, len(w)+20)], []byte(pad+w+pad))
		}
	}
	for _, key := range weak {
		if Strong(key) == nil {
			t.Errorf("%q passes for a key", key)
		}
	}
	for _, w := range known {
		if len(w) < 5 {
			t.Errorf("%q is so short that random keys would hold it", w)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, err := Open(filepath.Join(f.TempDir(), "keys"))
	if err != nil {
		f.Fatal(err)
	}
	p := seal.Place{Tenant: ident.Tenant{1}, Table: "t"}
	sealed, err := k.Seal(f.Context(), p, []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{1, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := k.Open(t.Context(), p, b); err == nil && !bytes.Equal(b, sealed) {
			t.Fatalf("opened %q", got)
		}
	})
}
