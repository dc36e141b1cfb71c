package archtest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/testkit/archtest"
)

var pages = []string{"README.md", "ARCHITECTURE.md", "CLAIMS.md", "BENCHMARKS.md", "SECURITY.md", "CONTRIBUTING.md"}

// What the pages tell a reader to do or to open is there.
func TestThePagesPointAtWhatIsThere(t *testing.T) {
	makefile := page(t, "Makefile")
	target := regexp.MustCompile("(?m)(?:`|^)make ([a-z-]+(?: [a-z-]+)*)(?:`|  )")
	there, err := archtest.Tests(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, name := range pages {
		text := page(t, name)
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			for _, goal := range strings.Fields(m[1]) {
				if !strings.Contains(makefile, "\n"+goal+":") {
					t.Errorf("%s: there is no make %s", name, goal)
				}
			}
		}
		for _, test := range archtest.NamedTests(text) {
			if !there[test] {
				t.Errorf("%s: there is no %s", name, test)
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestTheSecurityPageSaysHowToReport(t *testing.T) {
	text := page(t, "SECURITY.md")
	for _, part := range []string{
		"## Reporting a vulnerability", "Report a vulnerability", "within 2 working days", "## Severity",
		"is always a defect, and always critical", "## Supported versions", "## How a fix is made",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("SECURITY.md does not say %q", part)
		}
	}
}

// CI runs the README's test command and nothing else.
func TestCIRunsTheCommandOfTheREADME(t *testing.T) {
	if !strings.Contains(page(t, "README.md"), "\nmake test ") || !strings.HasSuffix(page(t, ".ci/run"), "\nexec make test\n") {
		t.Error("README.md and .ci/run do not name the same command")
	}
	if info, err := os.Stat(filepath.Join(root, ".ci/run")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf(".ci/run cannot be run: %v", err)
	}
	if !strings.Contains(page(t, "LICENSE"), "Apache License\n                           Version 2.0") {
		t.Error("LICENSE is not Apache-2.0")
	}
}
