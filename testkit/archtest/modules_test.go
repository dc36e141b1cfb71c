package archtest_test

import (
	"flag"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/testkit/archtest"
)

var update = flag.Bool("update", false, "write the golden files")

const goldens = "testdata/modules"

func TestEachBinaryLinksTheModulesOfItsGolden(t *testing.T) {
	binaries, err := archtest.Binaries(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{}
	for _, binary := range binaries {
		file := filepath.Join(goldens, path.Base(binary)+".golden")
		wanted[file] = true
		modules, err := archtest.Modules(t.Context(), root, binary)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, file, strings.Join(modules, "\n")+"\n")
	}
	files, err := filepath.Glob(filepath.Join(goldens, "*.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !wanted[file] {
			t.Errorf("%s is the golden of no binary", file)
		}
	}
}

// golden compares a text with a file, or writes it there.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%v; make goldens writes it", err)
		return
	}
	if got == string(want) {
		return
	}
	have, had := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for _, l := range have {
		if !slices.Contains(had, l) {
			t.Errorf("%s lacks %q", file, l)
		}
	}
	for _, l := range had {
		if !slices.Contains(have, l) {
			t.Errorf("%s has %q, which is gone; make goldens writes it", file, l)
		}
	}
}

// Who imports the rules alone, or verifies an audit log with what we ship for it, downloads one module.
func TestWhoImportsCoreAloneDownloadsOneModule(t *testing.T) {
	for _, pkg := range []string{"./core/...", "./cmd/audit-verify"} {
		if _, err := os.Stat(filepath.Join(root, strings.TrimSuffix(pkg, "/..."))); err != nil {
			t.Errorf("%s is not there: %v", pkg, err)
			continue
		}
		modules, err := archtest.Modules(t.Context(), root, pkg)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range modules {
			if !strings.HasPrefix(m, "golang.org/x/mod ") {
				t.Errorf("%s links %s", pkg, m)
			}
		}
	}
}
