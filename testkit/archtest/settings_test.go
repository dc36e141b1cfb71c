package archtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/mqttlink"
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
	listed(t, "settings", strings.TrimSpace(string(out))+"\n")
}

// Its table of what a connection to an MQTT broker is told is what reads the file of them.
func TestTheREADMEListsEachKeyOfAConnection(t *testing.T) {
	var table strings.Builder
	table.WriteString("| key | what it is |\n|---|---|\n")
	for _, k := range mqttlink.Keys() {
		fmt.Fprintf(&table, "| `%s` | %s |\n", k[0], k[1])
	}
	listed(t, "connections", table.String())
}

// listed compares a table of the README with what it is to be, or writes it.
func listed(t *testing.T, name, table string) {
	t.Helper()
	if strings.Count(table, "\n") < 10 {
		t.Fatalf("no table of %s: %q", name, table)
	}
	begin, last := "<!-- "+name+": written by make goldens -->\n", "<!-- /"+name+" -->"
	text := page(t, "README.md")
	before, rest, ok := strings.Cut(text, begin)
	had, after, end := strings.Cut(rest, last)
	switch {
	case !ok || !end:
		t.Fatalf("README.md has no place for the %s", name)
	case *update:
		if err := os.WriteFile(filepath.Join(root, "README.md"), []byte(before+begin+table+last+after), 0o600); err != nil {
			t.Fatal(err)
		}
	case had != table:
		t.Errorf("README.md: the table of %s is not what the program says; make goldens writes it", name)
	}
}
