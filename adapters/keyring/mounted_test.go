package keyring

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/seal"
)

// asMounted copies keys as Kubernetes mounts a secret: links through a folder that is replaced as a whole.
func asMounted(t *testing.T, from string, mode os.FileMode, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..2026"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..2026", filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "..2026", name), text, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, "..2026", name), mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAProcessHasTheKeysThatAreMountedForItAndNoOthers(t *testing.T) {
	made := filepath.Join(t.TempDir(), "keys")
	all, err := Init(made)
	if err != nil {
		t.Fatal(err)
	}
	place := seal.Place{Tenant: ident.Tenant{1}, Table: "devices", Column: "variable", Row: "1"}
	sealed, err := all.Seal(t.Context(), place, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	one, err := Read(asMounted(t, made, 0o440, "seal-0001.key"), Seals)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := one.Open(t.Context(), place, sealed); err != nil || string(plain) != "value" {
		t.Errorf("%s, %v", plain, err)
	}
	if _, ok := one.Pepper("0001"); ok || one.Signer() != nil || one.Instance() != "" {
		t.Error("it has keys that nobody gave it")
	}
	marks, err := one.Marks()
	if err != nil || len(marks) != 1 {
		t.Errorf("marks %v, %v", marks, err)
	}
	whole, err := Read(asMounted(t, made, 0o400, "seal-0001.key", "pepper-0001.key", "audit.key"), Seals, Peppers, Log)
	if err != nil || whole.Instance() != all.Instance() || whole.VerifierKey() != all.VerifierKey() {
		t.Errorf("%v", err)
	}
	none, err := Read(made)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.Seal(t.Context(), place, []byte("value")); err == nil {
		t.Error("a process without a key seals")
	}
	if _, err := none.Derive("cursors"); err == nil {
		t.Error("a process without a key derives one")
	}
}

func TestMountedKeysThatOthersReachAreRefused(t *testing.T) {
	made := filepath.Join(t.TempDir(), "keys")
	if _, err := Init(made); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o444, 0o460, 0o644, 0o402} {
		if _, err := Read(asMounted(t, made, mode, "seal-0001.key"), Seals); err == nil || !strings.Contains(err.Error(), "0440") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	outside := t.TempDir()
	if err := os.Symlink(filepath.Join(made, "seal-0001.key"), filepath.Join(outside, "seal-0001.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(outside, Seals); err == nil {
		t.Error("a link out of the folder is followed")
	}
	if _, err := Read(t.TempDir(), Seals); err == nil || !strings.Contains(err.Error(), "keys init") {
		t.Errorf("no keys: %v", err)
	}
	if _, err := Read(asMounted(t, made, 0o400, "seal-0001.key"), Seals, Log); err == nil || !strings.Contains(err.Error(), "audit.key") {
		t.Errorf("a part is missing: %v", err)
	}
}

func TestKeysAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("made twice: %v", err)
	}
}
