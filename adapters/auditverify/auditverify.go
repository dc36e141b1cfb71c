// Package auditverify drives the verifier of core/audit from a command line: audit-verify, and ringfence audit verify.
package auditverify

import (
	"bufio"
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
audit-verify receipt.proof --policy policy.txt [--json]

Checks an exported audit log, every entry, hash, checkpoint and signature; or the receipt of one entry, and shows the entry.
The policy file names the log's origin and key; it is printed when the server first starts, and by: ringfence audit key.

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
	report, leaf, err := run(bundle, *policyFile, *sinceFile)
	if err != nil {
		fmt.Fprintln(stderr, "audit-verify:", err)
		return 3
	}
	if *asJSON {
		if err := json.NewEncoder(stdout).Encode(report); err != nil {
			return 3
		}
	} else {
		show(stdout, report, leaf)
	}
	return int(report.Verdict)
}

func run(file, policyFile, sinceFile string) (audit.Report, []byte, error) {
	if policyFile == "" {
		return audit.Report{}, nil, fmt.Errorf("no --policy: without the log's key nothing can be trusted; print it on the server with: ringfence audit key")
	}
	text, err := os.ReadFile(policyFile) //nolint:gosec // named by the user
	if err != nil {
		return audit.Report{}, nil, err
	}
	policy, err := audit.ParsePolicy(string(text))
	if err != nil {
		return audit.Report{}, nil, err
	}
	var since []byte
	if sinceFile != "" {
		if since, err = os.ReadFile(sinceFile); err != nil { //nolint:gosec // named by the user
			return audit.Report{}, nil, err
		}
	}
	f, err := os.Open(file) //nolint:gosec // named by the user
	if err != nil {
		return audit.Report{}, nil, err
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReader(f)
	if start, _ := in.Peek(64); audit.IsProof(string(start)) { // a bundle that is shorter fails below
		return receipt(in, policy)
	}
	report, err := audit.Verify(in, policy, since, onAllCores)
	return report, nil, err
}

// receipt checks the proof of one entry that carries the entry itself.
func receipt(in io.Reader, policy audit.Policy) (audit.Report, []byte, error) {
	r := audit.Report{Verdict: audit.Tampered, Bad: -1, Entries: 1}
	text, err := io.ReadAll(io.LimitReader(in, audit.MaxProof+1))
	if err != nil {
		return r, nil, err
	}
	proof, err := audit.ParseProof(string(text))
	if err != nil {
		return r, nil, err
	}
	if len(proof.Extra) == 0 {
		return r, nil, fmt.Errorf("the receipt does not carry its entry; get one that does with: ringfence audit prove")
	}
	r.From, r.To = proof.Index, proof.Index+1
	if err := audit.CheckProof(proof, proof.Extra, policy.Origin, policy.Verifier); err != nil {
		r.Reason = err.Error()
		return r, nil, nil
	}
	r.Verdict, r.Checkpoints = audit.Good, 1
	return r, proof.Extra, nil
}

func show(w io.Writer, r audit.Report, leaf []byte) {
	switch r.Verdict {
	case audit.Good:
		if leaf != nil {
			fmt.Fprintf(w, "good: this entry stands in the log, at %d\n%s\n", r.From, leaf)
			return
		}
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
