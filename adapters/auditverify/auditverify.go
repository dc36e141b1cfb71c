// Package auditverify drives the verifier of core/audit from a command line: audit-verify, and ringfence audit verify.
package auditverify

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/ringfence/ringfence/core/audit"
)

const usage = `For example:

  audit-verify audit.tar --policy policy.txt
  audit-verify 42.proof --policy policy.txt --json

Usage: audit-verify BUNDLE --policy FILE [--since CHECKPOINT] [--json]
       audit-verify RECEIPT --policy FILE [--json]

Checks an exported audit log, every entry, hash, checkpoint, signature and private value; or the receipt of one entry, and shows the entry.

  --policy FILE       the log's origin and key; printed when the server first starts, and by: ringfence audit key, or platform-api audit-key
  --since CHECKPOINT  a file with an older checkpoint of the log; without it a roll-back of the whole log cannot be seen
  --json              one JSON document, for machines:
                      {"verdict": "good", "tampered" or "incomplete", "entries": that were read, "checkpoints": that hold,
                       "size": of the newest of them, "first_bad": index of the first bad entry or null,
                       "range": [from, to), the entries among which it is, or that the receipt is of, or null; if neither is
                       there the reason names the bad checkpoint,
                       "private": private values that were read, each of which is what its entry was committed to,
                       "since": whether an older checkpoint was given, "reason": a sentence, "entry": of a receipt}

Exit: 0 good, 1 tampered (the first bad entry or checkpoint is named), 2 wrong usage, 3 could not find out.
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
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, usage)
			return 0
		} else if err != nil {
			fmt.Fprintf(stderr, "audit-verify: %v\n\n%s", err, usage)
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
		if err := json.NewEncoder(stdout).Encode(document(report, leaf)); err != nil {
			return 3
		}
	} else {
		show(stdout, report, leaf)
	}
	return int(report.Verdict)
}

func run(file, policyFile, sinceFile string) (audit.Report, []byte, error) {
	if policyFile == "" {
		return audit.Report{}, nil, fmt.Errorf("no --policy: without the log's key nothing can be trusted; print it on the server with: ringfence audit key, or platform-api audit-key")
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
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(400) // little lives long here: collecting it four times as often costs a tenth of the time
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

// reportJSON is a report for machines, as the usage tells it.
type reportJSON struct {
	Verdict     string          `json:"verdict"`
	Entries     uint64          `json:"entries"`
	Checkpoints int             `json:"checkpoints"`
	Size        uint64          `json:"size"`
	FirstBad    *int64          `json:"first_bad"`
	Range       *[2]uint64      `json:"range"`
	Private     int             `json:"private"`
	Since       bool            `json:"since"`
	Reason      string          `json:"reason"`
	Entry       json.RawMessage `json:"entry,omitempty"`
}

func document(r audit.Report, leaf []byte) reportJSON {
	words := map[audit.Verdict]string{audit.Good: "good", audit.Tampered: "tampered", audit.Incomplete: "incomplete"}
	j := reportJSON{Verdict: words[r.Verdict], Entries: r.Entries, Checkpoints: r.Checkpoints, Size: r.Size, Private: r.Private, Since: r.Since, Reason: r.Reason, Entry: leaf}
	if r.Bad >= 0 && r.Verdict == audit.Tampered {
		j.FirstBad = &r.Bad
	}
	if r.From < r.To {
		j.Range = &[2]uint64{r.From, r.To}
	}
	return j
}

func show(w io.Writer, r audit.Report, leaf []byte) {
	switch r.Verdict {
	case audit.Good:
		if leaf != nil {
			fmt.Fprintf(w, "good: this entry stands in the log, at %d\n%s\n", r.From, leaf)
			return
		}
		fmt.Fprintf(w, "good: %d entries, %d checkpoints", r.Entries, r.Checkpoints)
		if r.Private > 0 {
			fmt.Fprintf(w, ", %d private values", r.Private)
		}
		fmt.Fprintln(w)
	case audit.Tampered:
		switch {
		case r.Bad >= 0:
			fmt.Fprintf(w, "TAMPERED: first bad entry %d\n", r.Bad)
		case r.From < r.To:
			fmt.Fprintf(w, "TAMPERED: among entries %d to %d\n", r.From, r.To-1)
		default:
			fmt.Fprintln(w, "TAMPERED: a checkpoint")
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
