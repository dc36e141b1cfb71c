package archtest_test

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/testkit/archtest"
)

// ship builds every binary of the module in dir as the Makefile does, and answers the folder they are in.
func ship(t *testing.T, dir string) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", bin+"/", "./cmd/...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// copyModule copies what git would commit.
func copyModule(t *testing.T, to string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // deleted, not yet committed
		} else if err != nil {
			t.Fatal(err)
		}
		write(t, to, name, string(text))
	}
}

// Two clean builds in different folders give the same bytes, and each binary links what its golden says, without cgo.
func TestSameSourceSameBytes(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "another", "place")
	copyModule(t, elsewhere)
	here, there := ship(t, root), ship(t, elsewhere)
	binaries, err := archtest.Binaries(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if len(binaries) == 0 {
		t.Fatal("no binary")
	}
	for _, b := range binaries {
		name := path.Base(b)
		one, err := os.ReadFile(filepath.Join(here, name))
		if err != nil {
			t.Fatal(err)
		}
		two, err := os.ReadFile(filepath.Join(there, name))
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(one) != sha256.Sum256(two) {
			t.Errorf("%s differs between two folders", name)
		}
		linked(t, name, one)
	}
}

// linked holds what a binary says of itself against its golden.
func linked(t *testing.T, name string, binary []byte) {
	t.Helper()
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value != "0" {
			t.Errorf("%s is built with cgo", name)
		}
	}
	var modules []string
	for _, d := range info.Deps {
		modules = append(modules, d.Path+" "+d.Version)
	}
	slices.Sort(modules)
	golden(t, filepath.Join(goldens, name+".golden"), strings.Join(modules, "\n")+"\n")
}
