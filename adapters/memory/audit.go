package memory

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

type auditShelf struct{ h *handle }

func (s auditShelf) Head(context.Context) (audit.Head, error) {
	head := s.h.book.log.head
	head.Tenant, head.Edge = s.h.tenant, slices.Clone(head.Edge)
	return head, s.h.alive()
}

func (s auditShelf) Entry(_ context.Context, seq uint64) (audit.Entry, error) {
	if err := s.h.alive(); err != nil {
		return audit.Entry{}, err
	}
	if seq >= uint64(len(s.h.book.log.entries)) {
		return audit.Entry{}, fault.Missing()
	}
	e := s.h.book.log.entries[seq]
	e.Leaf, e.Private = bytes.Clone(e.Leaf), nil
	return e, nil
}

func (s auditShelf) Find(ctx context.Context, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	var p store.Page[audit.Entry]
	if err := s.h.alive(); err != nil || q.Reach.IsEmpty() {
		return p, err
	}
	seq := uint64(len(s.h.book.log.entries))
	if q.After != "" {
		after, err := strconv.ParseUint(q.After, 10, 63)
		if err != nil {
			return p, store.ErrCursor
		}
		seq = min(seq, after)
	}
	limit := limitOf(q)
	for seq > 0 {
		seq--
		e, err := s.Entry(ctx, seq)
		if err != nil {
			return store.Page[audit.Entry]{}, err
		}
		if !fits(e, f) {
			continue
		}
		if len(p.Items) == limit {
			p.Next = strconv.FormatUint(p.Items[limit-1].Seq, 10)
			break
		}
		if f.Private {
			for _, v := range s.h.book.log.entries[seq].Private {
				v.Sealed = bytes.Clone(v.Sealed)
				e.Private = append(e.Private, v)
			}
		}
		p.Items = append(p.Items, e)
	}
	return p, nil
}

func fits(e audit.Entry, f store.AuditFilter) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.Actor, e.Actor) && is(f.Action, e.Action) && is(f.Target, e.Target) && is(f.Outcome, e.Outcome) && is(f.Request, e.Request) &&
		(f.Org.IsZero() || slices.Contains(strings.Split(e.Path, "/"), f.Org.String())) &&
		between(e.At, f.From, f.To) && e.Seq >= f.FromSeq && (f.ToSeq == 0 || e.Seq < f.ToSeq)
}

func (s auditShelf) Hashes(_ context.Context, indexes []int64) ([]audit.Hash, error) {
	out := make([]audit.Hash, len(indexes))
	for i, idx := range indexes {
		if idx < 0 || idx >= int64(len(s.h.book.log.hashes)) {
			return nil, fault.Missing()
		}
		out[i] = s.h.book.log.hashes[idx]
	}
	return out, s.h.alive()
}

func (s auditShelf) Checkpoints(_ context.Context, after uint64, limit int) ([]audit.StoredCheckpoint, error) {
	var out []audit.StoredCheckpoint
	for _, c := range s.h.book.log.points {
		if c.Size > after && len(out) < limit {
			out = append(out, audit.StoredCheckpoint{Size: c.Size, Note: bytes.Clone(c.Note)})
		}
	}
	return out, s.h.alive()
}

// Directory answers what is asked before a tenant is known.
func (s *Store) Directory() store.Directory { return directory{s} }

type directory struct{ s *Store }

func (d directory) Locate(ctx context.Context, accessor string) (store.Location, error) {
	if err := d.s.enter(ctx); err != nil {
		return store.Location{}, err
	}
	l, ok := d.s.now.Load().places.get(accessor)
	if !ok {
		return l, fault.Missing()
	}
	return l, nil
}

func (d directory) Waiting(ctx context.Context, now time.Time, limit int) ([]store.Waiting, error) {
	if err := d.s.enter(ctx); err != nil {
		return nil, err
	}
	w := d.s.now.Load()
	var out []store.Waiting
	for key := range w.waiting.up("") {
		h := open(w, ident.Tenant([]byte(key)))
		due, err := uplinkShelf{h}.Due(ctx, now, 1)
		if err != nil {
			return nil, err
		}
		if len(due) > 0 {
			out = append(out, store.Waiting{Tenant: h.tenant, Oldest: due[0].ArrivedAt})
		}
	}
	slices.SortStableFunc(out, func(a, b store.Waiting) int { return a.Oldest.Compare(b.Oldest) })
	return out[:min(len(out), limit)], nil
}

func (d directory) Chores(ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error) {
	if err := d.s.enter(ctx); err != nil {
		return nil, err
	}
	var out []store.Waiting
	for key, b := range d.s.now.Load().books.up("") {
		if since, due := b.chores(); due && !since.After(now) && byAge(store.Waiting{Tenant: ident.Tenant([]byte(key)), Oldest: since}, after) > 0 {
			out = append(out, store.Waiting{Tenant: ident.Tenant([]byte(key)), Oldest: since})
		}
	}
	slices.SortFunc(out, byAge)
	return out[:min(len(out), limit)], nil
}

func byAge(a, b store.Waiting) int {
	return cmp.Or(a.Oldest.Compare(b.Oldest), a.Tenant.Compare(b.Tenant))
}

// chores is since when there is something for jobs to do.
func (b *book) chores() (since time.Time, due bool) {
	size := b.log.head.Size
	switch n := len(b.log.points); {
	case size == 0:
		return since, false
	case n == 0 || b.log.points[n-1].Size < size:
		return since, true
	}
	for _, f := range b.folds.up("") {
		if !due || f.Until.Before(since) {
			since, due = f.Until, true
		}
	}
	for place := range b.expiries.up("") {
		if over := momentOf(place); !due || over.Before(since) {
			since, due = over, true
		}
		break
	}
	return since, due
}

func (d directory) Tenants(ctx context.Context, after ident.Tenant, limit int) ([]ident.Tenant, error) {
	if err := d.s.enter(ctx); err != nil {
		return nil, err
	}
	var out []ident.Tenant
	for key, b := range d.s.now.Load().books.up(idKey(after) + "\x00") {
		if len(out) == limit {
			break
		}
		if b.log.head.Size > 0 {
			out = append(out, ident.Tenant([]byte(key)))
		}
	}
	return out, nil
}
