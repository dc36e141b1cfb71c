package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of go test -json (see go doc test2json); build lines have ImportPath in place of Package.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// verdict counts leaves and parents alike, as go test does.
type verdict struct {
	passed, failed, skipped int
	broken                  []string // packages that failed outside any test: they did not build, or TestMain failed
	skips                   []string
	left                    []string // what asks a server that was left out
}

// leftOut are the servers that deploy/testbed/with left out; in CI it leaves out none.
func leftOut() []string {
	if os.Getenv("CI") == "true" || os.Getenv("TESTBED_LEFT_OUT") == "" {
		return nil
	}
	return strings.Split(os.Getenv("TESTBED_LEFT_OUT"), ",")
}

func (v verdict) err() error {
	switch {
	case v.failed > 0 || len(v.broken) > 0:
		return fmt.Errorf("%d tests and %d packages failed", v.failed, len(v.broken))
	case v.skipped > 0:
		return fmt.Errorf("%d tests were skipped, which is a failure here: %s", v.skipped, strings.Join(v.skips, ", "))
	case v.passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// judge reads the events of one run in which servers were left out, prints a line per suite with its time, what failed with its
// output, and the sums.
func judge(events io.Reader, w io.Writer, left []string) (verdict, error) {
	var v verdict
	output := map[string][]string{} // by package and test, kept until it is known whether it passed
	key := func(e event) string { return e.Package + e.ImportPath + " " + e.Test }
	failedIn := map[string]bool{}
	type suite struct {
		name    string
		seconds float64
	}
	var suites []suite

	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return v, fmt.Errorf("a line that is not from test2json: %.200q", line)
		}
		switch {
		case e.Action == "output" || e.Action == "build-output":
			if !strings.HasPrefix(e.Output, "=== ") {
				output[key(e)] = append(output[key(e)], e.Output)
			}
		case e.Action == "build-fail":
			fmt.Fprintf(w, "%s", strings.Join(output[key(e)], ""))
		case e.Test != "" && e.Action == "fail":
			v.failed++
			failedIn[e.Package] = true
			fmt.Fprintf(w, "--- %s %s\n%s", e.Package, e.Test, strings.Join(output[key(e)], ""))
		case e.Test != "" && e.Action == "skip" && slices.ContainsFunc(left, func(name string) bool {
			return strings.Contains(strings.Join(output[key(e)], ""), ": left out: "+name+"\n")
		}):
			v.left = append(v.left, e.Package+"."+e.Test)
		case e.Test != "" && e.Action == "skip":
			v.skipped++
			v.skips = append(v.skips, e.Package+"."+e.Test)
		case e.Test != "" && e.Action == "pass":
			v.passed++
			delete(output, key(e))
		case e.Action == "fail":
			word := "FAIL"
			if !failedIn[e.Package] {
				v.broken = append(v.broken, e.Package)
				fmt.Fprintf(w, "%s", strings.Join(output[key(e)], ""))
			}
			fmt.Fprintf(w, "%-4s %7.1f s  %s\n", word, e.Elapsed, e.Package)
		case e.Action == "pass":
			fmt.Fprintf(w, "ok   %7.1f s  %s\n", e.Elapsed, e.Package)
			suites = append(suites, suite{e.Package, e.Elapsed})
		}
	}
	if err := lines.Err(); err != nil {
		return v, err
	}
	slices.SortFunc(suites, func(a, b suite) int { return int(b.seconds*1000) - int(a.seconds*1000) })
	fmt.Fprintln(w, "longest suites, in minutes:")
	for _, s := range suites[:min(10, len(suites))] {
		fmt.Fprintf(w, "  %6.2f  %s\n", s.seconds/60, s.name)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", v.passed, v.failed+len(v.broken), v.skipped)
	if len(v.left) > 0 {
		fmt.Fprintf(w, "%d left out, for want of %s: %s\n", len(v.left), strings.Join(left, " and "), strings.Join(v.left, ", "))
	}
	return v, nil
}
