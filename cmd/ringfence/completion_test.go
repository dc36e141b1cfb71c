package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// script is what completes in a shell.
func script(t *testing.T, shell string) string {
	t.Helper()
	code, out, errs := told(t, nil, "", "completion", shell)
	if code != exitDone || errs != "" {
		t.Fatalf("%s: exit %d %s", shell, code, errs)
	}
	return out
}

func TestEveryCommandAndFlagIsCompletedInEveryShell(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Name("ringfence"))
	if err != nil {
		t.Fatal(err)
	}
	leaves := parser.Model.Leaves(false)
	if len(leaves) < 14 {
		t.Fatalf("%d commands", len(leaves))
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		text := script(t, shell)
		for _, n := range leaves {
			at := n.FullPath()
			wants := []string{"'" + at + "'"}
			for _, f := range n.Flags {
				if shell == "fish" {
					wants = append(wants, "'__ringfence_at "+at+"' -l "+f.Name+" ")
				} else {
					wants = append(wants, " --"+f.Name)
				}
			}
			if up := strings.TrimSuffix(at, " "+n.Name); shell == "fish" {
				wants = append(wants, "'__ringfence_at "+up+"' -a "+n.Name+" ")
			}
			for _, want := range wants {
				if !strings.Contains(text, want) {
					t.Errorf("%s: %s is not there", shell, want)
				}
			}
		}
	}
	if code, _, errs := told(t, nil, "", "completion", "tcsh"); code != exitUsage || !strings.Contains(errs, "fish") {
		t.Errorf("another shell: exit %d %s", code, errs)
	}
}

func TestBashCompletesWhatWasBegun(t *testing.T) {
	text := script(t, "bash")
	sh := func(script string, args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), "bash", append([]string{"--norc", "-c", script, "bash"}, args...)...)
		c.Dir, c.Stdin = t.TempDir(), strings.NewReader(text)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return string(out)
	}
	if out := sh("bash -n"); out != "" {
		t.Error(out)
	}
	for line, want := range map[string]string{
		"ringfence ver":                                "version",
		"ringfence admin ":                             "reset --help -h --config --set",
		"ringfence audit k":                            "key",
		"ringfence --set data=x audit key --j":         "--json",
		"ringfence config show --m":                    "--markdown",
		"ringfence completion ":                        "bash zsh fish --help -h --config --set",
		"ringfence --config ":                          "",    // file names
		"ringfence --config serve audit k":             "key", // a value is no command
		"ringfence audit verify au":                    "",
		"ringfence version --server":                   "", // another command's
		"ringfence audit export ten_x --token-file /k": "",
	} {
		words := strings.Split(line, " ")
		got := sh(`source /dev/stdin; complete -p ringfence >/dev/null || exit 1; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ringfence; echo "${COMPREPLY[*]}"`, words...)
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	parser, err := kong.New(&commands{}, kong.Name("ringfence"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range parser.Model.Leaves(false) {
		words := strings.Split(n.FullPath(), " ")
		got := sh(`source /dev/stdin; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ringfence; echo "${COMPREPLY[*]}"`, words...)
		if !slices.Contains(strings.Fields(got), n.Name) {
			t.Errorf("%s: %q", n.FullPath(), got)
		}
		got = sh(`source /dev/stdin; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ringfence; echo "${COMPREPLY[*]}"`, append(words, "--")...)
		for _, f := range n.Flags {
			if !slices.Contains(strings.Fields(got), "--"+f.Name) {
				t.Errorf("%s --%s: %q", n.FullPath(), f.Name, got)
			}
		}
	}
}
