//go:build linux

package quickjssandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

// outward are attempts to reach what is outside; none has a way to.
const outward = `function decodeUplink(input) {
  var tried = [];
  ["fetch('http://192.0.2.1')", "require('fs').readFileSync('/etc/passwd')", "import('os')", "new WebSocket('ws://192.0.2.1')", "process.exit(1)", "std.open('/etc/passwd')", "os.exec(['id'])", "new Worker('x')", "load('/etc/passwd')", "print('x')", "Date.now()", "Math.random()"]
    .forEach(function (what) { try { eval(what); tried.push(what) } catch (e) {} });
  return { data: { tried: tried } };
}`

// A guest's imports are ours: none of them opens, reads, writes, connects or starts anything.
func TestAScriptMakesNoSystemCall(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err == nil {
		err = exec.CommandContext(t.Context(), strace, "-qq", "-o", os.DevNull, os.Args[0], "-test.list=^$").Run() //nolint:gosec // ourselves
	}
	if err != nil {
		t.Log("strace cannot be had here: only what a script finds is checked")
		tried(t)
		return
	}
	sandboxtest.InChild(t, func(t *testing.T) {
		if os.Getenv(tracedEnv) != "" {
			tried(t)
			return
		}
		if seen := calls(t, strace, "as it is"); len(seen) > 0 {
			t.Errorf("while the script ran the process made these calls: %v", seen)
		}
		if seen := calls(t, strace, planted); seen["openat"] == 0 {
			t.Errorf("the trace does not show a file that was opened: %v", seen)
		}
	})
}

// calls runs this very test under strace and counts the system calls between the two marks. The Go runtime's own are left out:
// it keeps threads and memory whether or not there is a guest.
func calls(t *testing.T, strace, how string) map[string]int {
	t.Helper()
	log := filepath.Join(t.TempDir(), "calls")
	traced := exec.CommandContext(t.Context(), strace, append([]string{"-f", "-y", "-qq", "-o", log}, os.Args...)...) //nolint:gosec // this very test
	traced.Env = append(os.Environ(), tracedEnv+"="+how)
	if out, err := traced.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	_, between, ok1 := strings.Cut(string(text), begins)
	between, _, ok2 := strings.Cut(between, ends)
	if !ok1 || !ok2 {
		t.Fatal("the marks are not in the trace")
	}
	own := []string{
		"futex", "madvise", "mmap", "munmap", "mprotect", "nanosleep", "clock_nanosleep", "sched_yield", "restart_syscall", "rt_sigreturn", "rt_sigprocmask", "sigaltstack", "tgkill",
		"getpid", "gettid", "epoll_pwait", "clone", "clone3", "prctl", "rseq", "set_robust_list", "timer_settime", "timer_create", "timer_delete",
	}
	seen := map[string]int{"write": -1} // the second mark's
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\((.*)$`).FindAllStringSubmatch(between, -1) {
		if strings.Contains(m[2], "[eventfd]") {
			continue // the runtime wakes its own poller
		}
		if !slices.Contains(own, m[1]) {
			seen[m[1]]++
		}
	}
	if seen["write"] == 0 {
		delete(seen, "write")
	}
	t.Logf("%s: %d lines of trace, not the runtime's own: %v", how, strings.Count(between, "\n"), seen)
	return seen
}

const (
	tracedEnv    = "RINGFENCE_SANDBOX_TRACED"
	planted      = "planted: the engine reads a file"
	begins, ends = "the script runs from here", "the script has run"
)

// tried runs the script between two marks in the trace.
func tried(t *testing.T) {
	t.Helper()
	e, job := engineFor(t, Options{}), benched(t, 1, 1, outward)
	run := func() {
		r, err := e.Run(t.Context(), job)
		if want := `{"tried":["import('os')","Date.now()","Math.random()"]}`; err != nil || r.Category != decoder.Success || string(r.Data) != want {
			t.Fatalf("%s %s %s, %v; want %s", r.Category, r.Data, r.Message, err, want)
		}
	}
	run() // loads the script: the engine looks at its own memory's pages
	fmt.Fprintln(os.Stderr, begins)
	for range 100 {
		run()
	}
	if os.Getenv(tracedEnv) == planted {
		if _, err := os.ReadFile(os.DevNull); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintln(os.Stderr, ends)
}
