package archtest_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/testkit/archtest"
)

// planted reads a module from one file: what it shows, the places that must be found, and its files under headers.
func planted(t *testing.T, file string) (dir string, want []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	files := map[string]string{"go.mod": "module example.com/planted\n\ngo 1.26\n"}
	name := ""
	for line := range strings.Lines(string(text)) {
		if head, ok := strings.CutPrefix(line, "-- "); ok {
			name = strings.TrimSuffix(strings.TrimSpace(head), " --")
		} else if name != "" {
			files[name] += line
		} else if place, ok := strings.CutPrefix(line, "want: "); ok {
			want = append(want, strings.TrimSpace(place))
		}
	}
	for name, text := range files {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, want
}

// Each planted module breaks the rule that its file is named for in the places it says, and no other rule anywhere.
func TestPlantedViolationsAreFound(t *testing.T) {
	files, err := filepath.Glob("testdata/planted/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	caught := map[string]bool{"stale-exemption": true} // has a test of its own
	for _, file := range files {
		rule := strings.TrimSuffix(filepath.Base(file), ".txtar")
		caught[rule] = true
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			dir, want := planted(t, file)
			found, err := archtest.Check(t.Context(), dir, archtest.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range found {
				if v.Rule != rule {
					t.Errorf("another rule is broken too: %s", v)
				}
				got = append(got, v.Where)
			}
			got = slices.Compact(got)
			slices.Sort(got)
			slices.Sort(want)
			if len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("found %q\nwanted %q", got, want)
			}
		})
	}
	for rule := range archtest.Reasons {
		if !caught[rule] {
			t.Errorf("nothing is planted for the rule %s", rule)
		}
	}
}

func TestEachRuleHasAReason(t *testing.T) {
	for rule := range maps.Keys(archtest.Reasons) {
		if len(archtest.Reasons[rule]) < 20 {
			t.Errorf("%s: %q is no reason", rule, archtest.Reasons[rule])
		}
	}
}

func TestAnExemptionCoversItsPlaceAlone(t *testing.T) {
	dir, _ := planted(t, "testdata/planted/init.txtar")
	check := func(list ...archtest.Exemption) []string {
		found, err := archtest.Check(t.Context(), dir, archtest.Options{Exempt: list})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range found {
			got = append(got, v.Rule+" "+v.Where)
		}
		return got
	}
	for _, c := range []struct {
		name   string
		exempt archtest.Exemption
		want   []string
	}{
		{"its file", archtest.Exemption{Rule: "init", File: "core/a/a.go"}, []string{"init core/a/a_test.go:3"}},
		{"its folder", archtest.Exemption{Rule: "init", File: "core/a/"}, nil},
		{"another rule", archtest.Exemption{Rule: "skip", File: "core/a/"}, []string{"stale-exemption core/a/", "init core/a/a.go:8", "init core/a/a_test.go:3"}},
		{"another file", archtest.Exemption{Rule: "init", File: "core/b/b.go"}, []string{"init core/a/a.go:8", "init core/a/a_test.go:3", "stale-exemption core/b/b.go"}},
	} {
		if got := check(c.exempt); !slices.Equal(got, c.want) {
			t.Errorf("%s: found %q, wanted %q", c.name, got, c.want)
		}
	}
}
