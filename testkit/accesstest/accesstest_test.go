package accesstest_test

import (
	"bytes"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/testkit/accesstest"
)

func compiled(r access.Records) accesstest.Policy { return access.Compile(r) }

// unraced runs a test in a child without the race detector, if this binary has it, and reports whether it did: in a pure
// function the detector finds nothing and costs six times.
func unraced(t *testing.T) bool {
	info, ok := debug.ReadBuildInfo()
	if !ok || !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return false
	}
	child := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-timeout=90m", "-run=^"+t.Name()+"$", ".")
	child.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := child.CombinedOutput()
	if t.Logf("%s", out); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestCoreDecidesAsTheModelSays(t *testing.T) {
	sets := 100_000
	if os.Getenv("RINGFENCE_LONG") != "" {
		sets = 1_000_000
	}
	if unraced(t) {
		sets = 1000
	}
	accesstest.Run(t, accesstest.Options{Compile: compiled, Sets: sets, Seed: 1})
}

// The reference is believed by reading it, so it stays short.
func TestTheReferenceIsAtMostEightyLines(t *testing.T) {
	text, err := os.ReadFile("reference.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && !bytes.HasPrefix(line, []byte("//")) {
			lines++
		}
	}
	if lines > 80 {
		t.Errorf("the reference has %d lines", lines)
	}
}
