package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stream runs go test -json on one planted package and answers what it said.
func stream(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":       "module example.com/planted\n\ngo 1.26\n",
		"a_test.go":    "package a\n\nimport \"testing\"\n\n" + source,
		"none/none.go": "package none\n", // a package without tests is no skipped test
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, _ := cmd.Output() // it fails where the planted test does; what it printed is judged
	return string(out)
}

func TestEachWayToShowNothingFails(t *testing.T) {
	const without = "func TestAsks(t *testing.T) { t.Skip(\"left out: Mosquitto\") }"
	const passes = "func TestPasses(t *testing.T) {}\n"
	for _, c := range []struct {
		name, source, err string
		prints            []string
		left              []string
	}{
		{"all is well", passes, "", []string{"1 passed, 0 failed, 0 skipped", "ok "}, nil},
		{"a skip", passes + "func TestLooksAway(t *testing.T) { t.Skip() }", "1 tests were skipped", []string{"1 passed, 0 failed, 1 skipped"}, nil},
		{"a skip within", "func TestOuter(t *testing.T) { t.Run(\"inner\", func(t *testing.T) { t.Skip() }) }", "example.com/planted.TestOuter/inner", nil, nil},
		{"a failure", passes + "func TestFails(t *testing.T) { t.Error(\"the reason\") }", "1 tests and 0 packages failed", []string{"the reason", "FAIL", "1 passed, 1 failed, 0 skipped"}, nil},
		{"a panic", "func TestPanics(t *testing.T) { panic(\"the reason\") }", "failed", []string{"the reason"}, nil},
		{"a package that does not compile", "func TestX(t *testing.T) { undefinedName() }", "packages failed", []string{"undefinedName"}, nil},
		{"a failing TestMain", "func TestMain(m *testing.M) { println(\"the reason\"); panic(1) }", "packages failed", nil, nil},
		{"no test at all", "var _ testing.TB", "no test ran", nil, nil},
		{"a server that was left out", passes + without, "", []string{"1 passed, 0 failed, 0 skipped", "1 left out, for want of Mosquitto: example.com/planted.TestAsks"}, []string{"Mosquitto"}},
		{"a server that was not", passes + without, "1 tests were skipped", nil, []string{"RabbitMQ"}},
		{"nothing was left out", passes + without, "1 tests were skipped", nil, nil},
		{"another reason", passes + "func TestAsks(t *testing.T) { t.Skip(\"Mosquitto is slow\") }", "1 tests were skipped", nil, []string{"Mosquitto"}},
		{"all was left out", without, "no test ran", nil, []string{"Mosquitto"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var printed strings.Builder
			v, err := judge(strings.NewReader(stream(t, c.source)), &printed, c.left)
			if err != nil {
				t.Fatal(err)
			}
			switch got := v.err(); {
			case c.err == "" && got != nil:
				t.Errorf("judged %v", got)
			case c.err != "" && (got == nil || !strings.Contains(got.Error(), c.err)):
				t.Errorf("judged %v, wanted %q", got, c.err)
			}
			for _, p := range c.prints {
				if !strings.Contains(printed.String(), p) {
					t.Errorf("%q is not in\n%s", p, printed.String())
				}
			}
		})
	}
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	var printed strings.Builder
	if _, err := judge(strings.NewReader("{\"Action\":\"pass\"}\nFAIL\n"), &printed, nil); err == nil {
		t.Error("a line of another program was taken for an event")
	}
}

func TestTheLongestSuitesComeFirst(t *testing.T) {
	var events, printed strings.Builder
	for _, e := range []string{"quick\",\"Elapsed\":0.5", "slow\",\"Elapsed\":90", "middling\",\"Elapsed\":30"} {
		events.WriteString("{\"Action\":\"pass\",\"Package\":\"" + e + "}\n")
	}
	if _, err := judge(strings.NewReader(events.String()), &printed, nil); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(printed.String(), "minutes:")
	var at []int
	for _, p := range []string{"  1.50  slow", "  0.50  middling", "  0.01  quick"} {
		at = append(at, strings.Index(table, p))
	}
	if at[0] < 0 || !slices.IsSorted(at) {
		t.Errorf("not by time: %s", table)
	}
}
