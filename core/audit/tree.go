package audit

import (
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// Head is all that appending needs of a tree: its size, the time of its last entry and its right edge, which is the roots
// of its complete subtrees, the largest first. No old hash has to be read.
type Head struct {
	Tenant ident.Tenant
	Size   uint64
	Last   time.Time
	Edge   []Hash
}

// Root is the tree's root hash: RFC 6962's hash of the empty string for the empty tree.
func (h Head) Root() Hash {
	if len(h.Edge) == 0 {
		return emptyRoot
	}
	root := h.Edge[len(h.Edge)-1]
	for i := len(h.Edge) - 2; i >= 0; i-- {
		root = tlog.NodeHash(h.Edge[i], root)
	}
	return root
}

// emptyRoot is SHA-256 of nothing (RFC 6962 §2.1).
var emptyRoot = Hash{
	0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
}

// push adds a leaf's hash and returns the hashes to store, in the order of their indexes: the leaf's and those of the
// subtrees that it completes.
func (h *Head) push(leaf Hash) []Hash {
	stored := []Hash{leaf}
	for bit := h.Size; bit&1 == 1; bit >>= 1 {
		last := len(h.Edge) - 1
		leaf = tlog.NodeHash(h.Edge[last], leaf)
		h.Edge = h.Edge[:last]
		stored = append(stored, leaf)
	}
	h.Edge = append(h.Edge, leaf)
	h.Size++
	return stored
}

// Appended is what a store keeps of one append, in its own transaction.
type Appended struct {
	Head       Head
	Entries    []Entry
	FirstIndex int64  // index of Hashes[0]; the others follow without a gap
	Hashes     []Hash // two an entry on average
}

// MaxEvents bounds the events of one change: the largest import of devices has one for each, and its own.
const MaxEvents = 1_001

// Append turns events into entries. It is the only way to one: every store calls it inside the change's transaction and
// keeps what comes back. The entries' time is the later of the clock and the last entry's, so that a clock that was set
// back is no tampering.
func Append(head Head, c Context, events []Event, now time.Time) (Appended, error) {
	if len(events) == 0 || len(events) > MaxEvents {
		return Appended{}, fault.New(fault.Internal, "bad_events", "A change declared no audit event, or too many.")
	}
	at := now.UTC().Truncate(time.Microsecond)
	if head.Last.After(at) {
		at = head.Last
	}
	h := Head{Tenant: c.Tenant, Size: head.Size, Last: at, Edge: append([]Hash(nil), head.Edge...)}
	out := Appended{FirstIndex: tlog.StoredHashIndex(0, int64(head.Size)), Entries: make([]Entry, 0, len(events))} //nolint:gosec // sizes stay below 2^63
	for _, e := range events {
		if e.ID.IsZero() || e.Action == "" || e.Target.Kind == "" || e.Outcome == "" {
			return Appended{}, fault.New(fault.Internal, "bad_event", "An audit event has no id, action, target or outcome.")
		}
		seq := h.Size
		raw := leaf(c, e, seq, at)
		if len(raw) > MaxLeaf {
			return Appended{}, fault.New(fault.Internal, "big_event", "An audit event is too large.")
		}
		out.Entries = append(out.Entries, Entry{
			Seq: seq, ID: e.ID, At: at, Actor: c.Actor, Action: string(e.Action), Target: e.Target.ID, Kind: e.Target.Kind,
			Path: e.Target.Path, Outcome: string(e.Outcome), Request: c.RequestID, Leaf: raw, Private: private(e),
		})
		out.Hashes = append(out.Hashes, h.push(tlog.RecordHash(raw))...)
	}
	out.Head = h
	return out, nil
}
