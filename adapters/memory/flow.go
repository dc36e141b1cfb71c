package memory

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

type flow struct{ h *handle }

var _ store.Flow = flow{}

func (f flow) Read() store.Reader { return reader(f) }

// Accept keeps uplinks and their dedupe keys.
func (f flow) Accept(_ context.Context, us []uplink.Uplink) ([]store.Verdict, error) {
	if err := f.h.alive(); err != nil {
		return nil, err
	}
	verdicts := make([]store.Verdict, len(us))
	for i, u := range us {
		verdicts[i] = f.h.accept(u)
	}
	return verdicts, nil
}

// accept keeps an uplink, unless its key is another's.
func (h *handle) accept(u uplink.Uplink) store.Verdict {
	v := store.Verdict{ID: u.ID}
	if u.DedupeKey != ([32]byte{}) {
		key, expires := string(u.DedupeKey[:]), u.ArrivedAt.Add(store.DedupeWindow)
		switch held, taken := h.book.dedupe.get(key); {
		case !taken || !held.expires.After(u.ArrivedAt):
			h.expireKey(key, held.expires, expires)
			h.book.dedupe = h.book.dedupe.put(key, first{u.ID, u.PayloadHash, expires})
		case held.hash == u.PayloadHash:
			return store.Verdict{ID: held.id, Duplicate: true}
		default:
			v.Conflict = true
			u.State, u.Reason, u.Device = uplink.Quarantined, uplink.DedupeConflict, ident.Device{}
		}
	}
	u.Rev = 1
	u.Payload = bytes.Clone(u.Payload)
	h.queue(u)
	return v
}

// dedupeKeys stands beside the nouns among what expires.
const dedupeKeys = nouns

func (h *handle) expireKey(key string, old, at time.Time) {
	place := func(t time.Time) string { return moment(t) + string(rune(dedupeKeys)) + key }
	if !old.IsZero() {
		h.book.expiries = h.book.expiries.drop(place(old))
	}
	h.book.expiries = h.book.expiries.put(place(at), mortal{dedupeKeys, key})
}

// queue keeps an uplink, and its place among those that wait.
func (h *handle) queue(u uplink.Uplink) {
	key, place := idKey(u.ID), moment(u.ArrivedAt)+idKey(u.ID)
	h.book.uplinks = h.book.uplinks.put(key, u)
	if u.State == uplink.Accepted {
		h.book.waiting = h.book.waiting.put(place, u.ID)
	} else {
		h.book.waiting = h.book.waiting.drop(place)
	}
}

// replace writes an uplink's mutable part, comparing its revision.
func (h *handle) replace(u uplink.Uplink) (uplink.Uplink, error) {
	if err := h.alive(); err != nil {
		return u, err
	}
	stored, ok := h.book.uplinks.get(idKey(u.ID))
	switch {
	case !ok:
		return u, fault.Missing()
	case stored.Rev != u.Rev:
		return u, store.ErrRevision
	}
	u.Rev++
	stored.Rev, stored.Device, stored.Node, stored.State, stored.Reason = u.Rev, u.Device, u.Node, u.State, u.Reason
	stored.Attempts, stored.NotBefore, stored.ReleasedAt, stored.UpdatedAt = u.Attempts, u.NotBefore, u.ReleasedAt, u.UpdatedAt
	h.queue(stored)
	return u, nil
}

// Recheck compares what was seen.
func (f flow) Recheck(_ context.Context, seen store.Seen) error {
	if err := f.h.alive(); err != nil {
		return err
	}
	if f.h.otherwise(seen) {
		return store.ErrStale
	}
	return nil
}

// Finish writes what became of an uplink.
func (f flow) Finish(_ context.Context, done store.Finished) error {
	u := done.Uplink
	if _, err := f.h.replace(u); err != nil {
		return err
	}
	if !u.Device.IsZero() && u.State != uplink.Quarantined {
		f.h.sawDevice(u)
	}
	return f.h.told(done)
}

func (h *handle) sawDevice(u uplink.Uplink) {
	h.book.seen = later(h.book.seen, idKey(u.Device), u.ReceivedAt)
}

// told keeps an outcome and a reading, if there are any.
func (h *handle) told(done store.Finished) error {
	b := &h.book
	if o := done.Outcome; o != nil {
		if _, taken := b.outcomes.get(idKey(o.ID)); taken {
			return errTaken
		}
		b.outcomes = b.outcomes.put(idKey(o.ID), *o)
	}
	if done.Reading == nil {
		return nil
	}
	r := *done.Reading
	place := moment(r.At) + string(binary.BigEndian.AppendUint64(nil, r.FCnt)) + idKey(r.Uplink)
	if _, taken := b.readings.get(place); taken {
		return errTaken
	}
	r.Data, r.Warnings = bytes.Clone(r.Data), slices.Clone(r.Warnings)
	b.readings = b.readings.put(place, r)
	if old, ok := b.latest.get(idKey(r.Device)); !ok || place > old {
		b.latest = b.latest.put(idKey(r.Device), place)
	}
	if o := done.Out; o != nil {
		shard, kept := store.OutboxShard(h.tenant, o.Key), *o
		kept.Value = bytes.Clone(o.Value)
		b.sent++
		b.outbox[shard] = b.outbox[shard].put(string(binary.BigEndian.AppendUint64(nil, b.sent)), kept)
	}
	return nil
}

var errTaken = fault.New(fault.Conflict, "exists", "A record of this id exists already.")

// Hasten lets what waits until a moment go on.
func (f flow) Hasten(_ context.Context, until time.Time, limit int) (int, error) {
	var waiting []uplink.Uplink
	for _, id := range f.h.book.waiting.up("") {
		if len(waiting) == limit {
			break
		}
		if u, _ := f.h.book.uplinks.get(idKey(id)); u.NotBefore.Equal(until) {
			waiting = append(waiting, u)
		}
	}
	for _, u := range waiting {
		u.NotBefore = time.Time{}
		if _, err := f.h.replace(u); err != nil {
			return 0, err
		}
	}
	return len(waiting), f.h.alive()
}

// later keeps the later of two moments.
func later(t tree[time.Time], key string, at time.Time) tree[time.Time] {
	if old, ok := t.get(key); ok && !at.After(old) {
		return t
	}
	return t.put(key, at)
}

// Touch notes a use.
func (f flow) Touch(_ context.Context, accessor string, at time.Time) error {
	f.h.book.touched = later(f.h.book.touched, accessor, at)
	return f.h.alive()
}

// SetFailures keeps a count.
func (f flow) SetFailures(_ context.Context, p principal.Failure) error {
	if p.Count == 0 {
		f.h.book.failures = f.h.book.failures.drop(p.Key)
	} else {
		f.h.book.failures = f.h.book.failures.put(p.Key, p)
	}
	return f.h.alive()
}

// Marks keeps what is new.
func (f flow) Marks(_ context.Context, keys map[string][32]byte) (map[string][32]byte, error) {
	for name, mark := range keys {
		if _, kept := f.h.book.marks.get(name); !kept {
			f.h.book.marks = f.h.book.marks.put(name, mark)
		}
	}
	return maps.Collect(f.h.book.marks.up("")), f.h.alive()
}

func foldKey(f store.Fold) string {
	return moment(f.Bucket) + f.Kind + "\x00" + f.Key + "\x00" + idKey(f.Node)
}

// Fold counts.
func (f flow) Fold(_ context.Context, c store.Fold, n int64) error {
	f.h.count(c, n)
	return f.h.alive()
}

func (h *handle) count(c store.Fold, n int64) {
	old, _ := h.book.folds.get(foldKey(c))
	c.Count = old.Count + n
	h.book.folds = h.book.folds.put(foldKey(c), c)
}

// Checkpoint keeps a larger one.
func (f flow) Checkpoint(_ context.Context, c audit.StoredCheckpoint) error {
	l := &f.h.book.log
	if n := len(l.points); n > 0 && l.points[n-1].Size >= c.Size {
		return fault.New(fault.Conflict, "old_checkpoint", "A checkpoint of this size or a later one is kept already.")
	}
	l.points = append(l.points, audit.StoredCheckpoint{Size: c.Size, Note: bytes.Clone(c.Note)})
	return f.h.alive()
}

// Rest has nothing to note: what is due is asked of what is there.
func (f flow) Rest(context.Context) error { return f.h.alive() }

// Expire removes what is over, oldest first.
func (f flow) Expire(ctx context.Context, now time.Time, limit int) (int, error) {
	if err := f.h.alive(); err != nil {
		return 0, err
	}
	over, end := make([]mortal, 0, limit), moment(now.Add(time.Microsecond))
	var places []string
	for place, m := range f.h.book.expiries.up("") {
		if len(over) == limit || place >= end {
			break
		}
		over, places = append(over, m), append(places, place)
	}
	for i, m := range over {
		f.h.book.expiries = f.h.book.expiries.drop(places[i])
		if err := f.remove(m); err != nil {
			return 0, err
		}
	}
	return len(over), ctx.Err()
}

func (f flow) remove(m mortal) error {
	switch m.noun {
	case dedupeKeys:
		f.h.book.dedupe = f.h.book.dedupe.drop(m.key)
		return nil
	case sessionNoun:
		return expire(f.h, sessions, m.key)
	case bearerNoun:
		return expire(f.h, bearers, m.key)
	case linkNoun:
		return expire(f.h, links, m.key)
	default:
		return expire(f.h, claims, m.key)
	}
}

func expire[K comparable, V any](h *handle, n *noun[K, V], key string) error {
	s := put(h, n)
	r, ok := s.rows().get(key)
	if !ok {
		return nil
	}
	return s.remove(key, r)
}
