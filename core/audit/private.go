package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Private is what a commitment needs to be opened again. It lives beside the log, not in it.
type Private struct {
	Field  string
	New    bool // of the new value, or of the old one
	Nonce  [16]byte
	Sealed []byte
}

// Opened is a private value whose seal was opened: with it, anybody sees that the entry's commitment is one to this value.
type Opened struct {
	Seq   uint64
	Field string // where it comes from, src.ip and src.ua, beside the fields of changes
	New   bool
	Nonce [16]byte
	Value string
}

// private are an event's values that need a row of their own: of each change the old one first, then where it came from.
func private(e Event) []Private {
	var rows []Private
	keep := func(field string, isNew bool, p Personal) {
		if p.Value != "" && ClassOf(e.Target.Kind, field) == Commit {
			rows = append(rows, Private{Field: field, New: isNew, Nonce: p.Nonce, Sealed: p.Sealed})
		}
	}
	for _, ch := range e.Changes {
		keep(ch.Field, false, ch.Old)
		keep(ch.Field, true, ch.New)
	}
	keep(fieldAddress, true, e.Address)
	keep(fieldAgent, true, e.Agent)
	return rows
}

// commitment is a commitment that a leaf holds.
type commitment struct {
	field, sum string
	isNew      bool
}

// commitmentsOf are all of a leaf's.
func commitmentsOf(p parsed) []commitment {
	var out []commitment
	see := func(field string, isNew bool, shown string) {
		if sum, ok := strings.CutPrefix(shown, committed); ok && ClassOf(p.Target.Kind, field) == Commit {
			out = append(out, commitment{field, sum, isNew})
		}
	}
	for _, ch := range p.Changes {
		see(ch.Field, false, ch.Old)
		see(ch.Field, true, ch.New)
	}
	see(fieldAddress, true, p.Src.IP)
	see(fieldAgent, true, p.Src.UA)
	return out
}

// CheckPrivate says what is wrong with an entry's private values: each commitment of the leaf needs the one that it was made
// of, and there are no others; their order says nothing. Empty if nothing is wrong.
func CheckPrivate(leaf []byte, values []Opened) string {
	p, _, err := parseLeaf(leaf)
	if err != nil {
		return "is not readable as one."
	}
	want := commitmentsOf(p)
	if len(values) > len(want) {
		return "never was committed to one of its private values."
	}
	values = slices.Clone(values)
	for _, w := range want {
		of := func(o Opened) bool { return o.Field == w.field && o.New == w.isNew }
		fits := func(o Opened) bool {
			return of(o) && Commitment(o.Field, Personal{Value: o.Value, Nonce: o.Nonce}) == w.sum
		}
		i := slices.IndexFunc(values, fits)
		switch {
		case i >= 0:
			values = slices.Delete(values, i, i+1)
		case slices.ContainsFunc(values, of):
			return fmt.Sprintf("was committed to another private value of %s.", w.field)
		default:
			return fmt.Sprintf("lacks the private value of %s.", w.field)
		}
	}
	return ""
}

// line writes a private value as it stands in a bundle.
func (o Opened) line() []byte {
	w := writer{}
	w.open()
	w.str("field", o.Field)
	w.key("new")
	w.b = fmt.Append(w.b, o.New)
	w.str("nonce", hex.EncodeToString(o.Nonce[:]))
	w.num("seq", int64(o.Seq)) //nolint:gosec // sizes stay below 2^63
	w.str("value", o.Value)
	w.close()
	return append(w.b, '\n')
}

// parseOpened reads a line back, its end included, in its one spelling.
func parseOpened(line []byte) (o Opened, ok bool) {
	if len(line) > MaxLeaf {
		return o, false
	}
	var in struct {
		Field string
		New   bool
		Nonce string
		Seq   uint64
		Value string
	}
	if json.Unmarshal(line, &in) != nil {
		return o, false
	}
	o = Opened{Seq: in.Seq, Field: in.Field, New: in.New, Value: in.Value}
	n, err := hex.Decode(o.Nonce[:], []byte(in.Nonce)[:min(len(in.Nonce), 2*len(o.Nonce))])
	return o, err == nil && n == len(o.Nonce) && bytes.Equal(line, o.line())
}

// flaw is the first entry of a chunk whose private values are not right; of index math.MaxUint64 if there is none.
type flaw struct {
	index  uint64
	reason string
}

// maxPrivate bounds the private values of a chunk; an entry has two in the mean.
const maxPrivate = 64 * chunkSize

// private holds a chunk's private values against its leaves, which are judged for themselves later.
func (v *verifier) private(text []byte, leaves [][]byte) flaw {
	lines := bytes.SplitAfterN(text, []byte("\n"), maxPrivate+1)
	values, read := make([]Opened, len(lines)), make([]bool, len(lines)) // a line that is cut short is not read
	v.blocks(len(lines), func(i int) { values[i], read[i] = parseOpened(lines[i]) })
	from, next := v.head.Size, 0
	reasons := make([]string, len(leaves))
	parts := make([][]Opened, len(leaves))
	for i := range leaves {
		start := next
		for next < len(values) && read[next] && values[next].Seq == from+uint64(i) { //nolint:gosec // an index
			next++
		}
		parts[i] = values[start:next]
	}
	v.blocks(len(leaves), func(i int) { reasons[i] = CheckPrivate(leaves[i], parts[i]) })
	if rest := bytes.Join(lines[next:], nil); len(rest) > 0 && len(leaves) > 0 && reasons[len(leaves)-1] == "" {
		reasons[len(leaves)-1] = "is followed by private values that are no entry's, or not readable."
	}
	v.report.Private += next
	if i := slices.IndexFunc(reasons, func(r string) bool { return r != "" }); i >= 0 {
		return flaw{from + uint64(i), reasons[i]} //nolint:gosec // an index
	}
	return flaw{index: math.MaxUint64}
}
