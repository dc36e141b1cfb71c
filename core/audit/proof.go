package audit

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Proof is a receipt that a customer can keep: an entry's place in a signed tree, in C2SP's tlog-proof format. With the
// leaf's bytes and the log's verifier key it is checked by anybody, without a server.
type Proof struct {
	Index      uint64
	Path       []Hash
	Checkpoint []byte // the signed note
	Extra      []byte // the entry's leaf, if the receipt carries it; checked by nothing but CheckProof
}

const proofHeader = "c2sp.org/tlog-proof@v1"

// Prove makes the proof that entry index stands in the tree of a signed checkpoint. hashes reads stored hashes by index.
func Prove(index, size uint64, checkpoint []byte, hashes func([]int64) ([]Hash, error)) (Proof, error) {
	path, err := tlog.ProveRecord(int64(size), int64(index), tlog.HashReaderFunc(hashes)) //nolint:gosec // sizes stay below 2^63
	if err != nil {
		return Proof{}, err
	}
	return Proof{Index: index, Path: path, Checkpoint: checkpoint}, nil
}

// String is the proof in its published form.
func (p Proof) String() string {
	var b strings.Builder
	b.WriteString(proofHeader + "\n")
	if len(p.Extra) > 0 {
		b.WriteString("extra " + base64.StdEncoding.EncodeToString(p.Extra) + "\n")
	}
	b.WriteString("index " + strconv.FormatUint(p.Index, 10) + "\n")
	for _, h := range p.Path {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteString("\n")
	b.Write(p.Checkpoint)
	return b.String()
}

// MaxProof bounds a proof's text, with the leaf that it may carry.
const (
	MaxProof = 64<<10 + (MaxLeaf+2)/3*4
	maxPath  = 63
)

var errProof = errors.New("audit: not a proof of this entry")

// IsProof tells a receipt from a bundle by its first line.
func IsProof(text string) bool { return strings.HasPrefix(text, proofHeader+"\n") }

// ParseProof reads a proof's published form.
func ParseProof(text string) (Proof, error) {
	var p Proof
	head, checkpoint, ok := strings.Cut(text, "\n\n")
	if !ok || len(text) > MaxProof {
		return p, errProof
	}
	lines := strings.Split(head, "\n")
	if lines[0] != proofHeader {
		return p, errProof
	}
	lines = lines[1:]
	if len(lines) > 0 {
		if extra, ok := strings.CutPrefix(lines[0], "extra "); ok {
			var err error
			if p.Extra, err = base64.StdEncoding.Strict().DecodeString(extra); err != nil || len(p.Extra) > MaxLeaf {
				return Proof{}, errProof
			}
			lines = lines[1:]
		}
	}
	if len(lines) == 0 || len(lines) > 1+maxPath {
		return p, errProof
	}
	digits, ok := strings.CutPrefix(lines[0], "index ")
	index, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil || strconv.FormatUint(index, 10) != digits {
		return p, errProof
	}
	p.Index = index
	for _, line := range lines[1:] {
		raw, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(raw) != len(Hash{}) {
			return p, errProof
		}
		p.Path = append(p.Path, Hash(raw))
	}
	p.Checkpoint = []byte(checkpoint)
	return p, nil
}

// CheckProof answers nil if the leaf stands at the proof's index in the log of an origin whose key is trusted.
func CheckProof(p Proof, leaf []byte, origin string, verifier Verifier) error {
	c, err := OpenCheckpoint(p.Checkpoint, verifier)
	if err != nil {
		return err
	}
	if c.Origin != origin || p.Index >= c.Size {
		return errProof
	}
	if tlog.CheckRecord(tlog.RecordProof(p.Path), int64(c.Size), c.Root, int64(p.Index), tlog.RecordHash(leaf)) != nil { //nolint:gosec // read with 63 bits
		return errProof
	}
	return nil
}
