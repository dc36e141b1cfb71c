package sandboxtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/ports/sandbox"
)

const (
	// MaxGrowth is how much more memory the process may hold at any moment of a hostile script than before the first.
	MaxGrowth = 64 << 20
	// MaxSlowdown bounds the p99 of the tenant who comes next, as a multiple of its p99 when nobody harms it.
	MaxSlowdown = 3.0

	guard      = time.Second // the default outer guard of a run; a load has five of it
	quantum    = 8192        // how much more than its fuel a script may use
	childEnv   = "RINGFENCE_SANDBOXTEST_CHILD"
	rounds     = 5
	tries      = 3                // of all rounds: a busy machine breaks one now and then, a slow engine all
	childLimit = 30 * time.Minute // whoever hangs
)

// RunMeasured proves what an engine promises of memory and time: in a process of its own, built without the race detector
// and without cgo, since both would be measured too. open makes the engine there, with the default limits.
func RunMeasured(t *testing.T, open func(t testing.TB) sandbox.Engine) {
	InChild(t, func(t *testing.T) {
		e := open(t)
		for _, c := range Measured() {
			t.Run(c.Name, func(t *testing.T) { c.Run(t, e) })
		}
	})
}

// Measured are the promises that depend on how the process was built: run them by RunMeasured or in InChild.
func Measured() []Check {
	return []Check{
		{"MemoryOfTheProcessIsBounded", memory},
		{"ScriptsAreStoppedInTime", stopped},
		{"TheNextTenantIsNotSlowed", slowed},
	}
}

// InChild runs a test in a process of its own, built from the same package without the race detector and without cgo. It
// must be the first thing that a test does, and its folder that of the package, as go test has it.
func InChild(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		run(t)
		return
	}
	binary := filepath.Join(t.TempDir(), "child.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, ".") //nolint:gosec // the package itself
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the child: %v\n%s", err, out)
	}
	child := exec.CommandContext(t.Context(), binary, "-test.v", "-test.count=1", "-test.timeout="+childLimit.String(), "-test.run=^"+t.Name()+"$") //nolint:gosec // built above
	child.Env = append(os.Environ(), childEnv+"="+t.Name())
	out, err := child.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")) {
		t.Fatalf("in a process of its own: %v\n%s", err, out)
	}
	t.Logf("in a process of its own:\n%s", out)
}

// limits of a hostile script: its fuel, and the clock's guard of the call that runs it, which may load it first.
func (h Hostile) limits() (int64, time.Duration) {
	if h.AtLoad {
		return decoder.DefaultLimits.LoadFuel, 5 * guard
	}
	return decoder.DefaultLimits.RunFuel, guard
}

func memory(t testing.TB, e sandbox.Engine) {
	if runtime.GOOS != "linux" {
		t.Log("the memory of the process is not measured here: it needs Linux's /proc")
		return
	}
	run(t, e, Job(2, quiet))
	debug.FreeOSMemory()
	before, worst, name := resident(t), int64(0), ""
	for _, h := range Corpus() {
		// From here on the kernel remembers the highest value anew.
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, e, Job(1, h.Script))
		run(t, e, Job(2, quiet))
		grown := status(t, "VmHWM:") - before
		if grown > MaxGrowth {
			t.Errorf("%s: the process grew by %d MiB, more than %d", h.Name, grown>>20, MaxGrowth>>20)
		}
		if grown > worst {
			worst, name = grown, h.Name
		}
	}
	t.Logf("%d scripts: the process held %.1f MiB before, at most %.1f MiB more (%s)", len(Corpus()), mib(before), mib(worst), name)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func resident(t testing.TB) int64 { return status(t, "VmRSS:") }

// status is a field of the kernel's account of this process, in bytes.
func status(t testing.TB, field string) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("the kernel says nothing of %s", field)
	return 0
}

func stopped(t testing.TB, e sandbox.Engine) {
	var worst time.Duration
	var most int64
	name := ""
	for _, h := range Corpus() {
		fuel, outer := h.limits()
		began := time.Now()
		r := run(t, e, Job(1, h.Script))
		took := time.Since(began)
		if took > 2*outer {
			t.Errorf("%s: stopped after %v, more than twice the outer guard of %v", h.Name, took, outer)
		}
		if r.Fuel > fuel+quantum || r.Category == decoder.Internal {
			t.Errorf("%s: %s after %d fuel of %d", h.Name, r.Category, r.Fuel, fuel)
		}
		if took > worst {
			worst, name = took, h.Name
		}
		most = max(most, r.Fuel)
	}
	t.Logf("%d scripts: stopped after %v at most (%s), with %d fuel at most", len(Corpus()), worst.Round(time.Microsecond), name, most)
}

// slowed compares the neighbour's decode right after each hostile script with its decode after work of the same length that
// harms nobody: at one pace, since a guest that rested is slower than one that is never left alone. Both in turns, and less
// what the kernel let the thread wait for a core, so that what else the machine does falls on both or on neither.
func slowed(t testing.TB, e sandbox.Engine) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	want := run(t, e, Job(2, quiet))
	timed := func(what string) time.Duration {
		began, waited := time.Now(), waitedForCore()
		r := run(t, e, Job(2, quiet))
		took := time.Since(began) - (waitedForCore() - waited)
		if r.Category != decoder.Success || !bytes.Equal(r.Data, want.Data) || r.Fuel != want.Fuel {
			t.Fatalf("%s: the neighbour's decode is %s %s, %d fuel; want %s, %d fuel", what, r.Category, r.Data, r.Fuel, want.Data, want.Fuel)
		}
		return took
	}
	var ratios []float64
	for try := 1; ; try++ {
		got, held := compared(t, e, timed)
		if ratios = append(ratios, got...); held {
			break
		}
		if try == tries {
			t.Errorf("the neighbour's p99 is more than %.0f times its quiet one: %.2f", MaxSlowdown, ratios)
			break
		}
	}
	t.Logf("after a hostile script the neighbour's p99 is %.2f times its quiet one", ratios)
}

// compared answers the ratios of the neighbour's p99 and whether their median is within the bound.
func compared(t testing.TB, e sandbox.Engine, timed func(what string) time.Duration) (ratios []float64, held bool) {
	broken := 0
	// The median of all rounds is over the bound, or is not, as soon as more than half of them are.
	for broken <= rounds/2 && len(ratios)-broken <= rounds/2 {
		var alone, after []time.Duration
		for range 2 {
			for _, h := range Corpus() {
				began := time.Now()
				run(t, e, Job(1, h.Script))
				took := time.Since(began)
				after = append(after, timed(h.Name))
				for began = time.Now(); time.Since(began) < took; {
					continue
				}
				alone = append(alone, timed("alone"))
			}
		}
		q, n := p99(alone), p99(after)
		ratio := float64(n) / float64(q)
		if ratios = append(ratios, ratio); ratio > MaxSlowdown {
			broken++
		}
		t.Logf("the neighbour's p50 and p99: %v, %v alone; %v, %v after a hostile script", alone[len(alone)/2], q, after[len(after)/2], n)
	}
	return ratios, broken <= rounds/2
}

// waitedForCore is how long this thread could run but had no core; zero where the kernel does not say.
func waitedForCore() time.Duration {
	text, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		return 0
	}
	var ran, waited time.Duration
	if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
		return 0
	}
	return waited
}

func p99(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)*99/100]
}
