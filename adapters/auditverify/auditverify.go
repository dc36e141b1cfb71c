// Package auditverify drives the verifier of core/audit from a command line: audit-verify, and ringfence audit verify.
package auditverify

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/ringfence/ringfence/core/audit"
)

const usage = `audit-verify bundle.tar --policy policy.txt [--since old.checkpoint] [--json]

Checks an exported audit log: every entry, hash, checkpoint and signature. The policy file names the log's origin and key; it
is printed when the server first starts, and by: ringfence audit key.

Exit: 0 good, 1 tampered (the first bad entry is named), 2 wrong usage, 3 could not find out.
`

// Main runs the command and answers its exit code.
func Main(args []string, _ io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("audit-verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	policyFile := flags.String("policy", "", "")
	sinceFile := flags.String("since", "", "")
	asJSON := flags.Bool("json", false, "")
	var bundle string
	for len(args) > 0 { // flags may stand before and after the bundle's name
		if err := flags.Parse(args); err != nil {
			fmt.Fprint(stderr, usage)
			return 2
		}
		if args = flags.Args(); len(args) > 0 {
			if bundle != "" {
				fmt.Fprint(stderr, usage)
				return 2
			}
			bundle, args = args[0], args[1:]
		}
	}
	if bundle == "" {
		fmt.Fprint(stderr, usage)
		return 2
	}
	report, err := run(bundle, *policyFile, *sinceFile)
	if err != nil {
		fmt.Fprintln(stderr, "audit-verify:", err)
		return 3
	}
	if *asJSON {
		if err := json.NewEncoder(stdout).Encode(report); err != nil {
			return 3
		}
	} else {
		show(stdout, report)
	}
	return int(report.Verdict)
}

func run(bundle, policyFile, sinceFile string) (audit.Report, error) {
	if policyFile == "" {
		return audit.Report{}, fmt.Errorf("no --policy: without the log's key nothing can be trusted; print it on the server with: ringfence audit key")
	}
	text, err := os.ReadFile(policyFile) //nolint:gosec // named by the user
	if err != nil {
		return audit.Report{}, err
	}
	policy, err := audit.ParsePolicy(string(text))
	if err != nil {
		return audit.Report{}, err
	}
	var since []byte
	if sinceFile != "" {
		if since, err = os.ReadFile(sinceFile); err != nil { //nolint:gosec // named by the user
			return audit.Report{}, err
		}
	}
	f, err := os.Open(bundle) //nolint:gosec // named by the user
	if err != nil {
		return audit.Report{}, err
	}
	defer func() { _ = f.Close() }()
	return audit.Verify(f, policy, since, onAllCores)
}

func show(w io.Writer, r audit.Report) {
	switch r.Verdict {
	case audit.Good:
		fmt.Fprintf(w, "good: %d entries, %d checkpoints\n", r.Entries, r.Checkpoints)
	case audit.Tampered:
		if r.Bad >= 0 {
			fmt.Fprintf(w, "TAMPERED: first bad entry %d\n", r.Bad)
		} else {
			fmt.Fprintf(w, "TAMPERED: among entries %d to %d\n", r.From, r.To-1)
		}
	case audit.Incomplete:
		fmt.Fprintln(w, "incomplete: could not find out")
	}
	if r.Reason != "" {
		fmt.Fprintln(w, r.Reason)
	}
}

// onAllCores is audit.Parallel with goroutines.
func onAllCores(n int, f func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
}
