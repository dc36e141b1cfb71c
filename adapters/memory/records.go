package memory

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/store"
)

// noun says how one kind of record is kept.
type noun[K comparable, V any] struct {
	id     nounID
	key    func(K) string
	of     func(V) K
	rev    func(*V) *uint64
	index  func(V, *row)                    // sets node, label, hidden and expires
	placed bool                             // it stands on a node: lists are filtered by it
	unique bool                             // its label is
	policy bool                             // decisions are made from it
	adds   bool                             // but a new one changes none that was made
	apart  func(h *handle, v *V) bool       // nor does this one ever, in this tree
	check  func(exists bool) error          // more than the revision must hold, or nil
	after  func(h *handle, old, v *V) error // keeps what is beside the record; old or v is nil
	load   func(h *handle, v *V)            // adds what is beside the record
}

// shelf reads a noun; records writes it too.
type shelf[K comparable, V any] struct {
	h *handle
	n *noun[K, V]
}

type records[K comparable, V any] struct{ shelf[K, V] }

func on[K comparable, V any](h *handle, n *noun[K, V]) shelf[K, V] { return shelf[K, V]{h, n} }

func put[K comparable, V any](h *handle, n *noun[K, V]) records[K, V] { return records[K, V]{on(h, n)} }

func (s shelf[K, V]) rows() *tree[row] { return &s.h.book.records[s.n.id] }

func (s shelf[K, V]) decode(r row) (V, error) {
	var v V
	if err := json.Unmarshal(r.body, &v); err != nil {
		return v, fault.Wrap(err, fault.Internal, "decode", "A stored record could not be read.")
	}
	*s.n.rev(&v) = r.rev
	if s.n.load != nil {
		s.n.load(s.h, &v)
	}
	return v, nil
}

// Get answers one record.
func (s shelf[K, V]) Get(_ context.Context, id K) (V, error) {
	var none V
	if err := s.h.alive(); err != nil {
		return none, err
	}
	r, ok := s.rows().get(s.n.key(id))
	if !ok {
		return none, fault.Missing()
	}
	return s.decode(r)
}

// List answers a page, newest first.
func (s shelf[K, V]) List(_ context.Context, q store.Query) (store.Page[V], error) {
	return s.list(q, func(V, row) bool { return true })
}

// Named answers a page of those that have this name.
func (s shelf[K, V]) Named(_ context.Context, name string, q store.Query) (store.Page[V], error) {
	return s.list(q, func(_ V, r row) bool { return r.label == name })
}

func (s shelf[K, V]) list(q store.Query, fits func(V, row) bool) (store.Page[V], error) {
	return page(s.h, q, *s.rows(), func(r row) (V, bool, error) {
		if r.hidden || s.n.placed && !within(q.Reach, r.node) {
			var none V
			return none, false, nil
		}
		v, err := s.decode(r)
		return v, err == nil && fits(v, r), err
	})
}

// page runs down a tree from a query's cursor, which is the last key that was answered.
func page[R, V any](h *handle, q store.Query, t tree[R], take func(R) (v V, fits bool, err error)) (store.Page[V], error) {
	var p store.Page[V]
	if err := h.alive(); err != nil || q.Reach.IsEmpty() {
		return p, err
	}
	below, err := hex.DecodeString(q.After)
	if err != nil || len(below) > 64 {
		return p, store.ErrCursor
	}
	limit, last := limitOf(q), ""
	for key, r := range t.down(string(below)) {
		v, fits, err := take(r)
		if err != nil {
			return store.Page[V]{}, err
		}
		if !fits {
			continue
		}
		if len(p.Items) == limit {
			p.Next = hex.EncodeToString([]byte(last))
			break
		}
		p.Items, last = append(p.Items, v), key
	}
	return p, nil
}

// Count answers how many are alive.
func (s shelf[K, V]) Count(context.Context) (int, error) { return s.h.book.alive[s.n.id], s.h.alive() }

// lives is 1 for what lists answer.
func (r row) lives() int {
	if r.rev == 0 || r.hidden {
		return 0
	}
	return 1
}

// all answers every record that fits, oldest first, tombstones included.
func (s shelf[K, V]) all(fits func(V) bool) ([]V, error) {
	if err := s.h.alive(); err != nil {
		return nil, err
	}
	var out []V
	for _, r := range s.rows().up("") {
		v, err := s.decode(r)
		if err != nil {
			return nil, err
		}
		if fits(v) {
			out = append(out, v)
		}
	}
	return out, nil
}

func every[V any](V) bool { return true }

// Put inserts or replaces.
func (s records[K, V]) Put(_ context.Context, v V) (V, error) {
	var none V
	if err := s.h.alive(); err != nil {
		return none, err
	}
	rev, key := *s.n.rev(&v), s.n.key(s.n.of(v))
	stored, exists := s.rows().get(key)
	switch {
	case rev == 0 && exists:
		return none, fault.New(fault.Conflict, "exists", "A record of this id exists already.")
	case rev != 0 && !exists:
		return none, fault.Missing()
	case rev != 0 && stored.rev != rev:
		return none, store.ErrRevision
	}
	if s.n.check != nil {
		if err := s.n.check(exists); err != nil {
			return none, err
		}
	}
	old, err := s.before(stored, exists)
	if err != nil {
		return none, err
	}
	*s.n.rev(&v) = rev + 1
	body, err := json.Marshal(v)
	if err != nil {
		return none, fault.Wrap(err, fault.Internal, "encode", "A record could not be written.")
	}
	fresh := row{rev: rev + 1, body: body}
	s.n.index(v, &fresh)
	if err := s.name(key, stored.label, fresh.label); err != nil {
		return none, err
	}
	s.mortal(key, stored.expires, fresh.expires)
	*s.rows() = s.rows().put(key, fresh)
	s.h.book.alive[s.n.id] += fresh.lives() - stored.lives()
	s.wrote(old)
	if s.n.after != nil {
		if err := s.n.after(s.h, old, &v); err != nil {
			return none, err
		}
	}
	return v, nil
}

// wrote notes what a write means for decisions; old is what was there before, or nil.
func (s records[K, V]) wrote(old *V) {
	s.h.written = true
	if s.n.policy {
		s.h.policyWritten = true
		s.h.narrowed = s.h.narrowed || !s.n.adds || (old != nil && (s.n.apart == nil || !s.n.apart(s.h, old)))
	}
}

// before is the record that is about to be replaced, or nil.
func (s records[K, V]) before(r row, exists bool) (*V, error) {
	if !exists {
		return nil, nil
	}
	old, err := s.decode(r)
	return &old, err
}

// Delete removes a record of a revision.
func (s records[K, V]) Delete(_ context.Context, id K, rev uint64) error {
	if err := s.h.alive(); err != nil {
		return err
	}
	r, ok := s.rows().get(s.n.key(id))
	switch {
	case !ok:
		return fault.Missing()
	case r.rev != rev:
		return store.ErrRevision
	}
	return s.remove(s.n.key(id), r)
}

func (s records[K, V]) remove(key string, r row) error {
	old, err := s.decode(r)
	if err != nil {
		return err
	}
	if err := s.name(key, r.label, ""); err != nil {
		return err
	}
	s.mortal(key, r.expires, time.Time{})
	*s.rows() = s.rows().drop(key)
	s.h.book.alive[s.n.id] -= r.lives()
	s.wrote(&old)
	if s.n.after != nil {
		return s.n.after(s.h, &old, nil)
	}
	return nil
}

// name keeps a unique label's owner.
func (s records[K, V]) name(key, old, label string) error {
	if !s.n.unique {
		return nil
	}
	names := &s.h.book.labels[s.n.id]
	if owner, ok := names.get(label); ok && label != "" && owner != key {
		return fault.New(fault.Conflict, "taken", "Another record of this tenant has this name or address already. Choose another.")
	}
	if old != "" && old != label {
		*names = names.drop(old)
	}
	if label != "" {
		*names = names.put(label, key)
	}
	return nil
}

// mortal keeps when a record's time is over.
func (s records[K, V]) mortal(key string, old, at time.Time) {
	place := func(t time.Time) string { return moment(t) + string(rune(s.n.id)) + key }
	if !old.IsZero() {
		s.h.book.expiries = s.h.book.expiries.drop(place(old))
	}
	if !at.IsZero() {
		s.h.book.expiries = s.h.book.expiries.put(place(at), mortal{s.n.id, key})
	}
}
