package sqlstore

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"time"
)

// head reads the tenant's audit head and policy revision; both are zero while nothing was written.
func (h *handle) head(ctx context.Context) (audit.Head, uint64, error) {
	head := audit.Head{Tenant: h.tenant}
	var size, last, rev int64
	var edge []byte
	err := h.one(ctx, "SELECT size, last, edge, revision FROM audit_heads WHERE tenant = ?", []any{h.tenant[:]}, &size, &last, &edge, &rev)
	if fault.Is(err, fault.NotFound) {
		return head, 0, nil
	}
	if err != nil {
		return head, 0, err
	}
	head.Size, head.Last = uint64(size), moment(last) //nolint:gosec // written from a uint64 below 2^63
	for i := 0; i+len(audit.Hash{}) <= len(edge); i += len(audit.Hash{}) {
		head.Edge = append(head.Edge, audit.Hash(edge[i:i+len(audit.Hash{})]))
	}
	return head, uint64(rev), nil //nolint:gosec // as above
}

// keep writes what audit.Append gave, and the head last.
func (h *handle) keep(ctx context.Context, a audit.Appended, revision uint64) error {
	t := h.tenant[:]
	entries := make([]any, 0, 12*len(a.Entries))
	for i := range a.Entries {
		e := &a.Entries[i]
		entries = append(entries, t, int64(e.Seq), e.ID[:], micros(e.At), e.Actor, e.Action, e.Kind, e.Target, e.Path, e.Outcome, e.Request, e.Leaf) //nolint:gosec // below 2^63
	}
	if err := h.insertAll(ctx, "audit_entries (tenant, seq, id, at, actor, action, kind, target, path, outcome, request, leaf)", 12, entries, ""); err != nil {
		return err
	}
	hashes := make([]any, 0, 3*len(a.Hashes))
	for i := range a.Hashes {
		hashes = append(hashes, t, a.FirstIndex+int64(i), a.Hashes[i][:])
	}
	if err := h.insertAll(ctx, "audit_hashes (tenant, idx, hash)", 3, hashes, ""); err != nil {
		return err
	}
	private := make([]any, 0, 6*len(a.Private))
	for i := range a.Private {
		p := &a.Private[i]
		private = append(private, t, int64(p.Seq), p.Field, p.New, p.Nonce[:], p.Sealed) //nolint:gosec // below 2^63
	}
	if err := h.insertAll(ctx, "audit_private (tenant, seq, field, new, nonce, sealed)", 6, private, " ON CONFLICT DO NOTHING"); err != nil {
		return err
	}
	edge := make([]byte, 0, len(a.Head.Edge)*len(audit.Hash{}))
	for _, e := range a.Head.Edge {
		edge = append(edge, e[:]...)
	}
	_, err := h.exec(ctx, "INSERT INTO audit_heads (tenant, size, last, edge, revision) VALUES (?, ?, ?, ?, ?) ON CONFLICT (tenant) DO UPDATE SET size = excluded.size, last = excluded.last, edge = excluded.edge, revision = excluded.revision",
		t, int64(a.Head.Size), micros(a.Head.Last), edge, int64(revision)) //nolint:gosec // below 2^63
	return err
}

// insertAll inserts the rows whose values stand in args, some in a statement: each execution costs more than a further row.
func (h *handle) insertAll(ctx context.Context, into string, columns int, args []any, tail string) error {
	const most = 8 // rows of one statement, so that few are prepared
	one := "(?" + strings.Repeat(", ?", columns-1) + ")"
	for len(args) > 0 {
		n := min(most, len(args)/columns)
		if _, err := h.exec(ctx, "INSERT INTO "+into+" VALUES "+one+strings.Repeat(", "+one, n-1)+tail, args[:n*columns]...); err != nil {
			return err
		}
		args = args[n*columns:]
	}
	return nil
}

type auditShelf struct{ h *handle }

func (s auditShelf) Head(ctx context.Context) (audit.Head, error) {
	head, _, err := s.h.head(ctx)
	return head, err
}

const entryColumns = "seq, id, at, actor, action, kind, target, path, outcome, request, leaf"

func (s auditShelf) Entry(ctx context.Context, seq uint64) (audit.Entry, error) {
	found, err := s.entries(ctx, "SELECT "+entryColumns+" FROM audit_entries WHERE tenant = ? AND seq = ?", s.h.tenant[:], int64(seq)) //nolint:gosec // a larger one is simply not there
	if err == nil && len(found) == 0 {
		err = fault.Missing()
	}
	if err != nil {
		return audit.Entry{}, err
	}
	return found[0], nil
}

func (s auditShelf) entries(ctx context.Context, q string, args ...any) ([]audit.Entry, error) {
	rows, err := s.h.query(ctx, q, args...)
	if err != nil {
		return nil, away(err)
	}
	defer func() { _ = rows.Close() }()
	var out []audit.Entry
	for rows.Next() {
		var e audit.Entry
		var seq, at int64
		var id []byte
		if err := rows.Scan(&seq, &id, &at, &e.Actor, &e.Action, &e.Kind, &e.Target, &e.Path, &e.Outcome, &e.Request, &e.Leaf); err != nil {
			return nil, away(err)
		}
		e.Seq, e.ID, e.At = uint64(seq), ident.Entry(id), moment(at) //nolint:gosec // written from a uint64
		out = append(out, e)
	}
	return out, away(rows.Err())
}

func (s auditShelf) Find(ctx context.Context, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	var page store.Page[audit.Entry]
	if q.Reach.IsEmpty() {
		return page, nil
	}
	where, args := []string{"tenant = ?"}, []any{s.h.tenant[:]}
	and := func(cond string, on bool, arg any) {
		if on {
			where, args = append(where, cond), append(args, arg)
		}
	}
	and("actor = ?", f.Actor != "", f.Actor)
	and("action = ?", f.Action != "", f.Action)
	and("target = ?", f.Target != "", f.Target)
	and("outcome = ?", f.Outcome != "", f.Outcome)
	and("request = ?", f.Request != "", f.Request)
	and("instr('/' || path || '/', ?) > 0", !f.Org.IsZero(), "/"+f.Org.String()+"/")
	and("at >= ?", !f.From.IsZero(), micros(f.From))
	and("at < ?", !f.To.IsZero(), micros(f.To))
	and("seq >= ?", f.FirstSeq > 0, int64(f.FirstSeq)) //nolint:gosec // a larger one is simply not there
	and("seq <= ?", f.LastSeq > 0, int64(f.LastSeq))   //nolint:gosec // as above
	if q.After != "" {
		after, err := strconv.ParseInt(q.After, 10, 64)
		if err != nil || after < 0 {
			return page, store.ErrCursor
		}
		and("seq < ?", true, after)
	}
	limit := limitOf(q)
	found, err := s.entries(ctx, "SELECT "+entryColumns+" FROM audit_entries WHERE "+strings.Join(where, " AND ")+" ORDER BY seq DESC LIMIT ?", append(args, limit+1)...) //nolint:gosec // the conditions are constants
	if err != nil {
		return page, err
	}
	if len(found) > limit {
		found = found[:limit]
		page.Next = strconv.FormatUint(found[limit-1].Seq, 10)
	}
	page.Items = found
	return page, nil
}

func (s auditShelf) Hashes(ctx context.Context, indexes []int64) ([]audit.Hash, error) {
	out := make([]audit.Hash, len(indexes))
	for i, idx := range indexes {
		var raw []byte
		if err := s.h.one(ctx, "SELECT hash FROM audit_hashes WHERE tenant = ? AND idx = ?", []any{s.h.tenant[:], idx}, &raw); err != nil {
			return nil, err
		}
		if len(raw) != len(audit.Hash{}) {
			return nil, fault.New(fault.Internal, "bad_hash", "A stored hash has a wrong length.")
		}
		out[i] = audit.Hash(raw)
	}
	return out, nil
}

func (s auditShelf) Checkpoints(ctx context.Context, after uint64, limit int) ([]audit.StoredCheckpoint, error) {
	rows, err := s.h.query(ctx, "SELECT size, note FROM audit_checkpoints WHERE tenant = ? AND size > ? ORDER BY size LIMIT ?", s.h.tenant[:], int64(after), limit) //nolint:gosec // below 2^63
	if err != nil {
		return nil, away(err)
	}
	defer func() { _ = rows.Close() }()
	var out []audit.StoredCheckpoint
	for rows.Next() {
		var c audit.StoredCheckpoint
		var size int64
		if err := rows.Scan(&size, &c.Note); err != nil {
			return nil, away(err)
		}
		c.Size = uint64(size) //nolint:gosec // written from a uint64
		out = append(out, c)
	}
	return out, away(rows.Err())
}

// directory answers without a tenant: each method is one question, on look-up keys alone.
type directory struct{ s *Store }

func (d directory) Locate(ctx context.Context, accessor string) (store.Location, error) {
	var l store.Location
	if err := enter(ctx); err != nil {
		return l, err
	}
	var t, id []byte
	var kind string
	h := &handle{db: d.s.o.Read}
	err := h.one(ctx, "SELECT tenant, kind, id FROM locations WHERE accessor = ?", []any{accessor}, &t, &kind, &id)
	if err != nil {
		return l, err
	}
	return store.Location{Tenant: ident.Tenant(t), Kind: credential.Kind(kind), Row: [16]byte(id)}, nil
}

// Waiting skips from tenant to tenant along the queue's index: it costs as much as there are tenants waiting, however long
// their queues are.
func (d directory) Waiting(ctx context.Context, now time.Time, limit int) ([]store.Waiting, error) {
	if err := enter(ctx); err != nil {
		return nil, err
	}
	h := &handle{db: d.s.o.Read}
	rows, err := h.query(ctx, `WITH RECURSIVE t(tenant) AS (
		SELECT min(tenant) FROM uplinks WHERE state = 'accepted'
		UNION ALL SELECT (SELECT min(tenant) FROM uplinks WHERE state = 'accepted' AND tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL)
		SELECT hex(tenant), due FROM (SELECT tenant, (SELECT arrived FROM uplinks u WHERE u.tenant = t.tenant AND u.state = 'accepted' AND u.not_before <= ? ORDER BY arrived LIMIT 1) AS due FROM t WHERE tenant IS NOT NULL)
		WHERE due IS NOT NULL ORDER BY due LIMIT ?`, micros(now), limit)
	if err != nil {
		return nil, away(err)
	}
	defer func() { _ = rows.Close() }()
	var out []store.Waiting
	for rows.Next() {
		var t string
		var due int64
		if err := rows.Scan(&t, &due); err != nil {
			return nil, away(err)
		}
		raw, err := hex.DecodeString(t)
		if err != nil || len(raw) != ident.Size {
			return nil, fault.New(fault.Internal, "bad_tenant", "A stored tenant id has a wrong length.")
		}
		out = append(out, store.Waiting{Tenant: ident.Tenant(raw), Oldest: moment(due)})
	}
	return out, away(rows.Err())
}

func (d directory) Tenants(ctx context.Context, after ident.Tenant, limit int) ([]ident.Tenant, error) {
	if err := enter(ctx); err != nil {
		return nil, err
	}
	h := &handle{db: d.s.o.Read}
	rows, err := h.query(ctx, "SELECT tenant FROM audit_heads WHERE tenant > ? ORDER BY tenant LIMIT ?", after[:], limit)
	if err != nil {
		return nil, away(err)
	}
	defer func() { _ = rows.Close() }()
	var out []ident.Tenant
	for rows.Next() {
		var t []byte
		if err := rows.Scan(&t); err != nil {
			return nil, away(err)
		}
		out = append(out, ident.Tenant(t))
	}
	return out, away(rows.Err())
}
