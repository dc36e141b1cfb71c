package memory

import (
	"encoding/binary"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// book is all that one tenant has. Copying it is a snapshot of it.
type book struct {
	records  [nouns]tree[row] // of administration, each noun's by id
	alive    [nouns]int
	labels   [nouns]tree[string]
	expiries tree[mortal] // by time, then noun and key: what Expire takes

	addresses   tree[ident.Device] // of living devices, by kind and value
	assignments tree[ident.Node]   // by device, then time
	seen        tree[time.Time]    // by device
	touched     tree[time.Time]    // by accessor

	uplinks  tree[uplink.Uplink]
	waiting  tree[ident.Uplink] // accepted ones, by arrival
	dedupe   tree[first]
	readings tree[uplink.Reading] // by time, then id
	latest   tree[string]         // of readings, by device
	outcomes tree[uplink.Outcome]
	outbox   [store.OutboxShards]tree[store.Outgoing] // by number
	sent     uint64                                   // the last number
	folds    tree[store.Fold]                         // by bucket, then kind, key and node
	failures tree[principal.Failure]
	marks    tree[[32]byte]

	log      log
	revision uint64
	narrowed uint64 // the last revision that may have narrowed a decision
}

// row is one record as it is kept: as bytes, so that nobody holds a part of what is stored.
type row struct {
	rev     uint64
	node    ident.Node
	label   string
	hidden  bool // a tombstone: Get answers it, lists do not
	expires time.Time
	body    []byte
}

// mortal is what Expire removes when its time has come.
type mortal struct {
	noun nounID
	key  string
}

// first is who took a dedupe key.
type first struct {
	id      ident.Uplink
	hash    [32]byte
	expires time.Time
}

// log is a tenant's audit log. Its slices only grow, so that an older log that shares them sees what it saw.
type log struct {
	head    audit.Head
	entries []audit.Entry
	hashes  []audit.Hash // by tlog index
	points  []audit.StoredCheckpoint
}

func (l log) with(a audit.Appended) log {
	l.head = a.Head
	l.entries = append(l.entries, a.Entries...)
	l.hashes = append(l.hashes[:a.FirstIndex], a.Hashes...)
	return l
}

// handle is what Reader, Writer and Flow hold: one tenant's book, their own copy of it.
type handle struct {
	tenant        ident.Tenant
	book          book
	moved         map[string]*store.Location // places that are new, or nil where they are gone
	known         func(accessor string) (store.Location, bool)
	dead          bool
	written       bool // anything but events
	policyWritten bool // something that decisions are made from
	narrowed      bool // and not only what is new and changes none
}

func open(w *world, t ident.Tenant) *handle {
	h := &handle{tenant: t, known: w.places.get}
	if b, ok := w.books.get(string(t[:])); ok {
		h.book = *b
	}
	return h
}

func (h *handle) kill() { h.dead = true }

// alive refuses a handle that outlived its function.
func (h *handle) alive() error {
	if h.dead {
		return store.ErrDead
	}
	return nil
}

// keep puts the book into a state, and what the directory is to know of it.
func (h *handle) keep(w *world) {
	b := h.book // a copy: the handle is dead, but not its memory
	key := string(h.tenant[:])
	w.books = w.books.put(key, &b)
	if b.waiting.n > 0 {
		w.waiting = w.waiting.put(key, struct{}{})
	} else {
		w.waiting = w.waiting.drop(key)
	}
	for i := range b.outbox {
		if b.outbox[i].n > 0 {
			w.sending[i] = w.sending[i].put(key, struct{}{})
		} else {
			w.sending[i] = w.sending[i].drop(key)
		}
	}
	for accessor, l := range h.moved {
		if l != nil {
			w.places = w.places.put(accessor, *l)
		} else {
			w.places = w.places.drop(accessor)
		}
	}
}

// locate notes in the directory whose a credential is. An accessor is never taken from whom it belongs to.
func (h *handle) locate(accessor string, kind credential.Kind, id [16]byte) {
	l := store.Location{Tenant: h.tenant, Kind: kind, Row: id}
	if old, ok := h.known(accessor); ok && (old.Tenant != l.Tenant || old.Row != l.Row) {
		return
	}
	h.move(accessor, &l)
}

func (h *handle) unlocate(accessor string) {
	if old, ok := h.known(accessor); ok && old.Tenant != h.tenant {
		return
	}
	h.move(accessor, nil)
	h.book.touched = h.book.touched.drop(accessor)
}

func (h *handle) move(accessor string, l *store.Location) {
	if h.moved == nil {
		h.moved = map[string]*store.Location{}
	}
	h.moved[accessor] = l
}

// moment is a time as a part of a key: later is larger.
func moment(at time.Time) string {
	var b [8]byte
	us := int64(0)
	if !at.IsZero() {
		us = at.UnixMicro()
	}
	binary.BigEndian.PutUint64(b[:], uint64(us)^1<<63) //nolint:gosec // the sign bit turned: negative times come first
	return string(b[:])
}

// momentOf is the time that a key begins with.
func momentOf(key string) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64([]byte(key[:8])) ^ 1<<63)).UTC() //nolint:gosec // as moment made it
}

// within reports whether a reach covers a node.
func within(r access.Reach, n ident.Node) bool {
	if r.All {
		return true
	}
	for _, one := range r.Nodes {
		if one == n {
			return true
		}
	}
	return false
}

func limitOf(q store.Query) int {
	if q.Limit <= 0 || q.Limit > store.MaxPage {
		return store.MaxPage
	}
	return q.Limit
}
