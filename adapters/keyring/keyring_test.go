package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
	fresh := sha256.Sum256([]byte("a key for a test"))
	if err := os.WriteFile(filepath.Join(dir, "seal-0002.key"), []byte(base64.StdEncoding.EncodeToString(fresh[:])), 0o600); err != nil {
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
	for _, w := range strings.Fields(known) {
		for _, pad := range []string{"Zx9$kQ2!mW7@pL4#vR8%nT1^", "q7Lm0-PzV3_xT8=bN5+yH2~kD9"} {
			weak = append(weak, []byte(w + pad + pad)[:max(32, len(w)+20)], []byte(pad+w+pad))
		}
	}
	for _, key := range weak {
		if Strong(key) == nil {
			t.Errorf("%q passes for a key", key)
		}
	}
	for _, w := range strings.Fields(known) {
		if len(w) < 5 {
			t.Errorf("%q is so short that random keys would hold it", w)
		}
	}
}

// A new key in the place of a lost one would start, and hide that nothing which the old one sealed opens any more.
func TestOneKeyUnderTwoNamesIsRefused(t *testing.T) {
	for _, copied := range []string{"pepper-0001.key", "pepper-0002.key", "seal-0002.key"} {
		dir := filepath.Join(t.TempDir(), "keys")
		opened(t, dir)
		text, err := os.ReadFile(filepath.Join(dir, "seal-0001.key")) //nolint:gosec // made by this test
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, copied), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "seal-0001.key and ") || !strings.Contains(err.Error(), copied) {
			t.Errorf("seal-0001.key as %s: %v", copied, err)
		}
	}
}

func TestAKeyGoneSinceTheFirstStartIsNotReplaced(t *testing.T) {
	for _, name := range []string{"seal-0001.key", "pepper-0001.key", "audit.key"} {
		dir := filepath.Join(t.TempDir(), "keys")
		opened(t, dir)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "put it back from your backup") {
			t.Errorf("%s is gone: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was made anew", name)
		}
	}
}

func TestAnotherInstancesLogKeyIsRefused(t *testing.T) {
	here, there := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "keys")
	opened(t, here)
	opened(t, there)
	if err := os.Rename(filepath.Join(there, "audit.key"), filepath.Join(here, "audit.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(here); err == nil || !strings.Contains(err.Error(), "another instance") {
		t.Errorf("another's log key: %v", err)
	}
}

func TestWhatIsNoPlainClosedFileOfOurNamesIsRefused(t *testing.T) {
	random := sha256.Sum256([]byte("a key for a test"))
	good := base64.StdEncoding.EncodeToString(random[:])
	for what, put := range map[string]func(file string) error{
		"a pipe":           func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"a folder":         func(file string) error { return os.Mkdir(file, 0o700) },
		"a link":           func(file string) error { return os.Symlink("/dev/zero", file) },
		"open to others":   func(file string) error { return os.WriteFile(file, []byte(good), 0o640) }, //nolint:gosec // that is the case
		"too large":        func(file string) error { return os.WriteFile(file, bytes.Repeat([]byte("A"), maxFile+1), 0o600) },
		"of two spellings": func(file string) error { return os.WriteFile(file, []byte(good[:20]+"\n"+good[20:]), 0o600) },
		"letters": func(file string) error {
			return os.WriteFile(file, []byte("changemeNowOrNeverPleaseThisIsAFineSecretKey="), 0o600)
		},
		"counted up": func(file string) error {
			key := make([]byte, keySize)
			for i := range key {
				key[i] = byte(i)
			}
			return os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)), 0o600)
		},
	} {
		dir := filepath.Join(t.TempDir(), "keys")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := put(filepath.Join(dir, "seal-0001.key")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("a key that is %s passes", what)
		}
	}
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "seal-2.key"), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "four digits") {
		t.Errorf("a name whose order is not that of its age: %v", err)
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
