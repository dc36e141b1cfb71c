package archtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	settingsBegin = "<!-- settings: written by make goldens -->\n"
	settingsEnd   = "<!-- /settings -->"
)

// The README's table of settings is what the server says of itself.
func TestTheREADMEListsEachSetting(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "run", "-trimpath", "./cmd/ringfence", "config", "show", "--defaults", "--markdown")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly -buildvcs=false", "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ringfence config show --defaults --markdown: %v\n%s", err, &stderr)
	}
	table := strings.TrimSpace(string(out)) + "\n"
	if strings.Count(table, "\n") < 10 {
		t.Fatalf("no table of settings: %q", table)
	}
	text := page(t, "README.md")
	before, rest, ok := strings.Cut(text, settingsBegin)
	had, after, end := strings.Cut(rest, settingsEnd)
	switch {
	case !ok || !end:
		t.Fatal("README.md has no place for the settings")
	case *update:
		if err := os.WriteFile(filepath.Join(root, "README.md"), []byte(before+settingsBegin+table+settingsEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
	case had != table:
		t.Error("README.md: the table of settings is not what ringfence config show --defaults --markdown prints; make goldens writes it")
	}
}
