package audit

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Policy is whom a verifier trusts: the log's origin and key, never taken from the bundle.
type Policy struct {
	Origin   string
	Verifier Verifier
}

// ParsePolicy reads a policy file: lines "origin ORIGIN" and "log KEY", and comments after #.
func ParsePolicy(text string) (Policy, error) {
	var p Policy
	if len(text) > 16<<10 {
		return p, errors.New("audit: the policy file is too large")
	}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		fields := strings.Fields(line)
		var err error
		switch {
		case len(fields) == 0:
		case len(fields) == 2 && fields[0] == "origin" && p.Origin == "":
			p.Origin = fields[1]
		case len(fields) == 2 && fields[0] == "log" && p.Verifier == nil:
			p.Verifier, err = NewVerifier(fields[1])
		default:
			err = errors.New("unknown or repeated line")
		}
		if err != nil {
			return p, fmt.Errorf("audit: policy: %w: want one line \"origin ORIGIN\" and one \"log KEY\"", err)
		}
	}
	if p.Origin == "" || p.Verifier == nil {
		return p, errors.New("audit: policy: want one line \"origin ORIGIN\" and one \"log KEY\"")
	}
	return p, nil
}

// String is the policy file of an origin and a verifier key.
func PolicyFile(origin, key string) string { return "origin " + origin + "\nlog " + key + "\n" }

// Verdict is what a verification found.
type Verdict uint8

// The verdicts; their numbers are the exit codes of audit verify.
const (
	Good       Verdict = 0
	Tampered   Verdict = 1
	Incomplete Verdict = 3 // could not find out: the bundle is cut short, or nothing in it can be trusted, as when others signed it
)

// Report is the result of a verification.
type Report struct {
	Verdict     Verdict
	Entries     uint64 // that were read, a bad one included
	Checkpoints int    // that hold
	Size        uint64 // of the newest checkpoint that holds
	Bad         int64  // index of the first bad entry; -1 if none was found
	From, To    uint64 // if hashes were recomputed too: the entries [From, To) among which the bad one is; empty if it is a checkpoint
	Reason      string
	Private     int  // private values that were read; each belongs to the commitment that stands in its entry
	Since       bool // it was held against an older checkpoint: without one a roll-back cannot be seen
}

// Parallel calls f for 0 … n-1 in any order and returns when all are done. Core starts no goroutine; a caller may.
type Parallel func(n int, f func(int))

// Serial is the plain one.
func Serial(n int, f func(int)) {
	for i := range n {
		f(i)
	}
}

// What is taken from a bundle at most.
const (
	maxCheckpoints = 2_000_000
	maxChunkBytes  = 256 << 20
	maxHashBytes   = (2*chunkSize + 64) * tlog.HashSize // two an entry, and those of the subtrees that it completes
)

// Verify reads a bundle and holds it against a policy, and against an older checkpoint if there is one: leaves, sequence,
// time order, stored hashes, every kept checkpoint's signature and root, and the private values if they are in it. An error is a broken reader, not a verdict.
func Verify(r io.Reader, p Policy, since []byte, par Parallel) (Report, error) {
	v := verifier{policy: p, par: par, report: Report{Bad: -1, Since: since != nil}, tar: tar.NewReader(bufio.NewReaderSize(r, 1<<20))}
	if since != nil {
		c, err := OpenCheckpoint(since, p.Verifier)
		if err != nil || c.Origin != p.Origin {
			return v.stop(Incomplete, "The checkpoint given by --since is not signed by the policy's log key for its origin."), nil
		}
		v.since = &c
	}
	err := v.run()
	v.report.Entries = v.head.Size
	var found verdictError
	if errors.As(err, &found) {
		return v.report, nil
	}
	return v.report, err
}

// verdictError ends a verification; the report says why.
type verdictError struct{}

func (verdictError) Error() string { return "audit: a verdict was reached" }

type verifier struct {
	policy Policy
	par    Parallel
	tar    *tar.Reader
	report Report
	since  *Checkpoint

	text, raw, values bytes.Buffer // of the chunk at hand
	opened            bool         // the first chunk came with its private values: all must
	points            []Checkpoint
	held              uint64 // size of the last checkpoint that holds
	head              Head
	last              time.Time
}

func (v *verifier) stop(verdict Verdict, format string, args ...any) Report {
	v.report.Verdict, v.report.Reason = verdict, fmt.Sprintf(format, args...)
	return v.report
}

func (v *verifier) tampered(index uint64, format string, args ...any) error {
	v.stop(Tampered, format, args...)
	v.report.Bad = int64(index) //nolint:gosec // counted from 0
	return verdictError{}
}

func (v *verifier) incomplete(format string, args ...any) error {
	v.stop(Incomplete, format, args...)
	return verdictError{}
}

func (v *verifier) run() error {
	header, err := v.checkpoints()
	if err != nil {
		return err
	}
	end := v.points[len(v.points)-1].Size
	for n := uint64(0); v.head.Size < end; n++ {
		if header == nil {
			return v.tampered(v.head.Size, "The log ends after %d entries; its newest checkpoint says %d.", v.head.Size, end)
		}
		if header, err = v.chunk(header, n, end); err != nil {
			return err
		}
	}
	if header != nil {
		return v.tampered(v.head.Size, "There is more behind the newest checkpoint's last entry.")
	}
	if v.since != nil && v.since.Size > v.head.Size {
		return v.tampered(v.head.Size, "The log was rolled back: an older checkpoint says %d entries, this bundle has %d.", v.since.Size, v.head.Size)
	}
	v.report.Size, v.report.Checkpoints = end, len(v.points)
	if v.since == nil {
		v.report.Reason = "Held against no older checkpoint: that the whole log was rolled back could not be seen."
	}
	return nil
}

// checkpoints reads the leading checkpoints and answers the header behind them.
func (v *verifier) checkpoints() (*tar.Header, error) {
	for {
		h, err := v.next()
		if err != nil || h == nil || !strings.HasPrefix(h.Name, "checkpoint/") {
			if err == nil && len(v.points) == 0 {
				err = v.incomplete("The bundle holds no checkpoint: nothing in it can be trusted.")
			}
			return h, err
		}
		if h.Size > MaxCheckpoint || len(v.points) >= maxCheckpoints {
			return nil, v.incomplete("A checkpoint in the bundle is too large, or there are too many.")
		}
		raw, err := io.ReadAll(io.LimitReader(v.tar, MaxCheckpoint))
		if err != nil {
			return nil, v.incomplete("The bundle cannot be read to its end.")
		}
		c, err := OpenCheckpoint(raw, v.policy.Verifier)
		if errors.Is(err, errChanged) {
			v.stop(Tampered, "%s is not what the policy's log key signed.", v.name(raw))
			return nil, verdictError{}
		}
		if err != nil || c.Origin != v.policy.Origin {
			return nil, v.incomplete("%s is not signed by the policy's log key for its origin %s.", v.name(raw), v.policy.Origin)
		}
		if n := len(v.points); n > 0 && c.Size <= v.points[n-1].Size {
			return nil, v.tampered(c.Size, "The checkpoints are not in the order of their sizes.")
		}
		v.points = append(v.points, c)
	}
}

// name says which checkpoint the next one is: how manieth in the bundle, and of which size by its own words, if they are any.
func (v *verifier) name(signed []byte) string {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	name := fmt.Sprintf("Checkpoint %d of the bundle", len(v.points)+1)
	if c, err := parseCheckpoint(text + "\n"); err == nil {
		name += fmt.Sprintf(", which says that it is of size %d,", c.Size)
	}
	return name
}

// next is the next file's header; nil at the end.
func (v *verifier) next() (*tar.Header, error) {
	h, err := v.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, v.incomplete("The bundle is not a tar archive, or is cut short.")
	case h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > maxChunkBytes || sparse(h):
		return nil, v.incomplete("The bundle holds something that is no part of one.")
	}
	return h, nil
}

// sparse files are of any size at no cost to who writes them.
func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// file reads the file that must be next into b, whose memory serves every chunk.
func (v *verifier) file(h *tar.Header, name string, most int64, b *bytes.Buffer) ([]byte, error) {
	if h == nil || h.Name != name || h.Size > most {
		return nil, v.incomplete("The bundle lacks %s, holds its parts in another order, or a part is too large.", name)
	}
	b.Reset()
	b.Grow(int(min(h.Size, 4<<20)) + bytes.MinRead) // what a header says is believed so far
	if _, err := io.Copy(b, io.LimitReader(v.tar, most)); err != nil || int64(b.Len()) != h.Size {
		return nil, v.incomplete("The bundle is cut short in %s.", name)
	}
	return b.Bytes(), nil
}

// judged is what is computed of one leaf apart from the others.
type judged struct {
	hash   Hash
	seq    int64
	tenant string
	at     time.Time
	err    error
}

func (v *verifier) chunk(h *tar.Header, n, end uint64) (*tar.Header, error) {
	text, err := v.file(h, fmt.Sprintf("chunk/%012d/entries", n), maxChunkBytes, &v.text)
	if err != nil {
		return nil, err
	}
	if h, err = v.next(); err != nil {
		return nil, err
	}
	raw, err := v.file(h, fmt.Sprintf("chunk/%012d/hashes", n), maxHashBytes, &v.raw)
	if err != nil {
		return nil, err
	}
	if h, err = v.next(); err != nil {
		return nil, err
	}
	leaves := bytes.SplitN(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"), chunkSize+2)
	if len(text) == 0 {
		leaves = nil
	}
	if len(leaves) > chunkSize+1 { // one too many is told by its index, more are not worth the memory
		leaves = leaves[:chunkSize+1]
	}
	wrong := flaw{index: math.MaxUint64}
	if name := fmt.Sprintf("chunk/%012d/private", n); v.opened || n == 0 && h != nil && h.Name == name {
		v.opened = true
		values, err := v.file(h, name, maxChunkBytes, &v.values)
		if err != nil {
			return nil, err
		}
		wrong = v.private(values, leaves)
		if h, err = v.next(); err != nil {
			return nil, err
		}
	}
	results := make([]judged, len(leaves))
	v.blocks(len(leaves), func(i int) { results[i] = judge(leaves[i]) })
	for i := range results {
		index := v.head.Size
		if raw, err = v.entry(&results[i], raw); err != nil {
			return nil, err
		}
		if index == wrong.index {
			return nil, v.tampered(index, "Entry %d %s", index, wrong.reason)
		}
	}
	if v.head.Size < end && v.head.Size != (n+1)*chunkSize {
		return nil, v.tampered(v.head.Size, "An entry is missing: a part of the bundle is shorter than it must be.")
	}
	if len(raw) > 0 {
		return nil, v.tampered(v.head.Size, "There are more stored hashes than entries.")
	}
	return h, nil
}

// blocks calls f for 0 … n-1, in parallel by the dozen: what one call does is too little to be handed out alone.
func (v *verifier) blocks(n int, f func(int)) {
	const block = 64
	v.par((n+block-1)/block, func(i int) {
		for j := i * block; j < min((i+1)*block, n); j++ {
			f(j)
		}
	})
}

func judge(leaf []byte) judged {
	var p judgedBy
	j := judged{hash: tlog.RecordHash(leaf), err: errLeaf}
	if len(leaf) > MaxLeaf || !p.scan(leaf) {
		return j
	}
	j.tenant = p.Tenant
	if j.at, j.err = p.check(); j.err == nil {
		j.seq = *p.Seq
	}
	return j
}

// entry takes the next leaf into the tree and compares what is stored with what it makes.
func (v *verifier) entry(j *judged, raw []byte) ([]byte, error) {
	index := v.head.Size
	if index >= v.points[len(v.points)-1].Size {
		return nil, v.tampered(index, "There is more behind the newest checkpoint's last entry.")
	}
	stored := v.head.push(j.hash)
	if len(raw) < len(stored)*len(Hash{}) {
		return nil, v.tampered(index, "A stored hash of entry %d is missing.", index)
	}
	if Hash(raw[:len(Hash{})]) != stored[0] {
		return nil, v.tampered(index, "Entry %d is not what was hashed when it was written.", index)
	}
	for k := range stored {
		if Hash(raw[k*len(Hash{}):(k+1)*len(Hash{})]) != stored[k] {
			return nil, v.tampered(index, "A stored hash over entries up to %d does not follow from them.", index)
		}
	}
	switch {
	case j.err != nil:
		return nil, v.tampered(index, "Entry %d is not readable as one.", index)
	case uint64(j.seq) != index: //nolint:gosec // parseLeaf refuses negative ones
		return nil, v.tampered(index, "Entry %d says that it is entry %d.", index, j.seq)
	case !strings.HasSuffix(v.policy.Origin, "/audit/"+j.tenant):
		return nil, v.tampered(index, "Entry %d belongs to another log.", index)
	case j.at.Before(v.last):
		return nil, v.tampered(index, "Entry %d is dated before the one before it.", index)
	}
	v.last = j.at
	return raw[len(stored)*len(Hash{}):], v.checkpoint()
}

// checkpoint compares the tree with the checkpoints of its size.
func (v *verifier) checkpoint() error {
	size := v.head.Size
	if v.since != nil && v.since.Size == size && v.since.Root != v.head.Root() {
		return v.broken(size, "The log is not the one that the older checkpoint was made of.")
	}
	// The next checkpoint to hold is the first one larger than what was held.
	for v.report.Checkpoints < len(v.points) && v.points[v.report.Checkpoints].Size <= size {
		c := v.points[v.report.Checkpoints]
		if c.Size == size && c.Root != v.head.Root() {
			return v.broken(size, "The entries and hashes do not make the tree that the checkpoint of size %d was signed for.", size)
		}
		v.held = c.Size
		v.report.Checkpoints++
		v.report.Size = c.Size
	}
	return nil
}

// broken is the verdict when entry and hashes were changed together: the range is all that can be said.
func (v *verifier) broken(size uint64, format string, args ...any) error {
	v.stop(Tampered, format, args...)
	v.report.From, v.report.To = v.held, size
	return verdictError{}
}
