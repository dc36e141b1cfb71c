package sqlstore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"time"
)

// kept is the row of a tenant that every change of it writes: its audit head, its policy revision and how many records are
// alive of what it may have so many of. All are zero while nothing was written.
type kept struct {
	head     audit.Head
	revision uint64
	narrowed uint64 // the last revision that may have narrowed a decision
	alive    [counters]int64
}

// What is counted, in the order in which it is stored: 8 bytes each, big endian. A new one goes to the end.
const (
	_ = iota
	rolesAlive
	groupsAlive
	membershipsAlive
	membersAlive
	invitationsAlive
	devicesAlive
	decodersAlive
	sourcesAlive
	mappingsAlive
	counters
)

// heads are those that the writing transaction has met: each is read once and written once in it, however many changes of
// its tenant are in the group. The writer's loop alone uses them.
type heads struct {
	met   map[ident.Tenant]kept
	moved []ident.Tenant // those to write
	undo  []kept         // as they were before the closure that runs now
	saved int            // how many had moved before it
}

func newHeads() *heads { return &heads{met: map[ident.Tenant]kept{}} }

// begin forgets what an earlier transaction met.
func (hs *heads) begin() {
	clear(hs.met)
	hs.moved = hs.moved[:0]
	hs.save()
}

// move is the end of a change: the head is written with the others before COMMIT.
func (hs *heads) move(t ident.Tenant, to kept) {
	hs.undo = append(hs.undo, hs.met[t])
	hs.met[t] = to
	if !slices.Contains(hs.moved, t) {
		hs.moved = append(hs.moved, t)
	}
}

// save makes what moved so far the state that rollback goes back to.
func (hs *heads) save() { hs.undo, hs.saved = hs.undo[:0], len(hs.moved) }

func (hs *heads) rollback() {
	for _, was := range slices.Backward(hs.undo) {
		hs.met[was.head.Tenant] = was
	}
	hs.moved = hs.moved[:hs.saved]
	hs.save()
}

// kept is the tenant's, as this transaction sees it.
func (h *handle) kept(ctx context.Context) (kept, error) {
	if err := h.ready(ctx); err != nil {
		return kept{}, err // before the heads are looked at, which are the transaction's
	}
	if heads := h.session.heads; heads != nil {
		if k, ok := heads.met[h.tenant]; ok {
			return k, nil
		}
	}
	k, err := h.readHead(ctx, "")
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	if heads := h.session.heads; heads != nil && err == nil {
		heads.met[h.tenant] = k
	}
	return k, err
}

// opened is the last revision that may have narrowed a decision in the tenant. Where the database has a wall of its own it is said
// by the statement that opens it, and costs nothing.
func (h *handle) opened(ctx context.Context) (uint64, error) {
	query, args := "SELECT narrowed FROM audit_heads WHERE tenant = ?", []any{h.tenant[:]}
	if h.session.d.Enter != "" {
		query, args = h.session.d.Enter, []any{hex.EncodeToString(h.tenant[:])}
		h.session.shown = h.tenant
	}
	var narrowed sql.NullInt64
	err := h.one(ctx, query, args, &narrowed)
	if fault.Is(err, fault.NotFound) { // nothing was ever changed
		err = nil
	}
	return uint64(narrowed.Int64), err //nolint:gosec // written from one below 2^63
}

// locked is kept, with the tenant's head locked for this transaction: changes of one tenant are serial.
func (h *handle) locked(ctx context.Context) (kept, error) {
	lock := h.session.d.LockHead
	if lock == "" { // nobody else writes
		return h.kept(ctx)
	}
	if err := h.session.show(ctx, h.tenant, h.session.d.ShowAlone); err != nil {
		return kept{}, err
	}
	k, err := h.readHead(ctx, lock)
	if fault.Is(err, fault.NotFound) { // there is nothing to lock yet, nor anything to read
		if err := h.writeHead(ctx, " ON CONFLICT DO NOTHING", k); err != nil {
			return k, err
		}
		k, err = h.readHead(ctx, lock)
	}
	if err == nil {
		h.session.heads.met[h.tenant] = k
	}
	return k, err
}

func (h *handle) readHead(ctx context.Context, lock string) (kept, error) {
	k := kept{head: audit.Head{Tenant: h.tenant}}
	var size, last, rev, narrowed int64
	var edge, alive []byte
	if err := h.one(ctx, "SELECT size, last, edge, revision, narrowed, alive FROM audit_heads WHERE tenant = ?"+lock, []any{h.tenant[:]}, &size, &last, &edge, &rev, &narrowed, &alive); err != nil {
		return k, err
	}
	for i := range min(len(k.alive)-1, len(alive)/8) {
		k.alive[i+1] = int64(binary.BigEndian.Uint64(alive[8*i:])) //nolint:gosec // written from one
	}
	k.head.Size, k.head.Last, k.revision, k.narrowed = uint64(size), moment(last), uint64(rev), uint64(narrowed) //nolint:gosec // written from ones below 2^63
	for i := 0; i+len(audit.Hash{}) <= len(edge); i += len(audit.Hash{}) {
		k.head.Edge = append(k.head.Edge, audit.Hash(edge[i:i+len(audit.Hash{})]))
	}
	return k, nil
}

// keepHeads writes the heads that moved: the last statements of a transaction.
func (s *session) keepHeads(ctx context.Context) error {
	for _, t := range s.heads.moved {
		h := &handle{session: s, tenant: t}
		if err := h.writeHead(ctx, " ON CONFLICT (tenant) DO UPDATE SET size = excluded.size, last = excluded.last, edge = excluded.edge, revision = excluded.revision, narrowed = excluded.narrowed, alive = excluded.alive", s.heads.met[t]); err != nil {
			return err
		}
	}
	return nil
}

func (h *handle) writeHead(ctx context.Context, conflict string, k kept) error {
	edge := make([]byte, 0, len(k.head.Edge)*len(audit.Hash{}))
	for _, e := range k.head.Edge {
		edge = append(edge, e[:]...)
	}
	alive := make([]byte, 0, 8*len(k.alive))
	for _, n := range k.alive[1:] {
		alive = binary.BigEndian.AppendUint64(alive, uint64(n)) //nolint:gosec // kept bit for bit
	}
	_, err := h.exec(ctx, "INSERT INTO audit_heads (tenant, size, last, edge, revision, narrowed, alive) VALUES (?, ?, ?, ?, ?, ?, ?)"+conflict,
		h.tenant[:], int64(k.head.Size), micros(k.head.Last), edge, int64(k.revision), int64(k.narrowed), alive) //nolint:gosec // below 2^63
	return err
}

// keep writes what audit.Append gave: one row an entry, with the hashes that its append stored and its private values.
func (h *handle) keep(ctx context.Context, a audit.Appended, revision uint64) error {
	for i := range a.Entries {
		e := &a.Entries[i]
		first, end := audit.HashRange(e.Seq, e.Seq+1)
		hashes := make([]byte, 0, int(end-first)*len(audit.Hash{}))
		for _, hash := range a.Hashes[first-a.FirstIndex : end-a.FirstIndex] {
			hashes = append(hashes, hash[:]...)
		}
		private, err := privateFields(e.Private)
		if err != nil {
			return err
		}
		if _, err := h.exec(ctx, "INSERT INTO audit_entries (tenant, seq, id, at, actor, action, kind, target, path, outcome, request, leaf, hashes, private) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			h.tenant[:], int64(e.Seq), e.ID[:], micros(e.At), e.Actor, e.Action, e.Kind, e.Target, e.Path, e.Outcome, e.Request, e.Leaf, hashes, private); err != nil { //nolint:gosec // below 2^63
			return err
		}
	}
	k, err := h.kept(ctx)
	if k.head, k.revision = a.Head, revision; h.narrowed {
		k.narrowed = revision
	}
	h.session.heads.move(h.tenant, k)
	return err
}

// privateField is how a value that was committed to is kept beside its entry.
type privateField struct {
	Field         string
	New           bool
	Nonce, Sealed string // hex
}

// privateFields are an entry's private values as they are kept; nil if there are none.
func privateFields(of []audit.Private) ([]byte, error) {
	if len(of) == 0 {
		return nil, nil
	}
	out := make([]privateField, len(of))
	for i, p := range of {
		out[i] = privateField{p.Field, p.New, hex.EncodeToString(p.Nonce[:]), hex.EncodeToString(p.Sealed)}
	}
	return encode(out)
}

// opened are an entry's private values as a caller gets them back. One that cannot be read is left out: whoever changed it is
// found by whoever checks the entry, whose other values are needed for that.
func opened(kept []byte) []audit.Private {
	var in []privateField
	_ = json.Unmarshal(kept, &in) // as far as it goes
	var out []audit.Private
	for _, p := range in {
		nonce, nerr := hex.DecodeString(p.Nonce)
		sealed, serr := hex.DecodeString(p.Sealed)
		if nerr == nil && serr == nil && len(nonce) == len(audit.Private{}.Nonce) {
			out = append(out, audit.Private{Field: p.Field, New: p.New, Nonce: [16]byte(nonce), Sealed: sealed})
		}
	}
	return out
}

type auditShelf struct{ h *handle }

func (s auditShelf) Head(ctx context.Context) (audit.Head, error) {
	k, err := s.h.kept(ctx)
	return k.head, err
}

const entryColumns = "SELECT seq, id, at, actor, action, kind, target, path, outcome, request, leaf, "

func (s auditShelf) Entry(ctx context.Context, seq uint64) (audit.Entry, error) {
	found, err := s.entries(ctx, entryColumns+"NULL FROM audit_entries WHERE tenant = ? AND seq = ?", s.h.tenant[:], int64(seq)) //nolint:gosec // a larger one is simply not there
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
		var id, private []byte
		err := rows.Scan(&seq, &id, &at, &e.Actor, &e.Action, &e.Kind, &e.Target, &e.Path, &e.Outcome, &e.Request, &e.Leaf, &private)
		if err != nil {
			return nil, away(err)
		}
		e.Private = opened(private)
		e.Seq, e.ID, e.At = uint64(seq), ident.Entry(id), moment(at) //nolint:gosec // written from a uint64
		out = append(out, e)
	}
	return out, away(rows.Err())
}

func (s auditShelf) Find(ctx context.Context, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	var page store.Page[audit.Entry]
	if q.Reach.IsEmpty() || f.FromSeq > math.MaxInt64 {
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
	and("replace('/' || path || '/', ?, '') <> '/' || path || '/'", !f.Org.IsZero(), "/"+f.Org.String()+"/")
	and("at >= ?", !f.From.IsZero(), micros(f.From))
	and("at < ?", !f.To.IsZero(), micros(f.To))
	and("seq >= ?", f.FromSeq > 0, int64(f.FromSeq))                //nolint:gosec // looked at above
	and("seq < ?", f.ToSeq > 0, int64(min(f.ToSeq, math.MaxInt64))) //nolint:gosec // all there are
	if q.After != "" {
		after, err := strconv.ParseInt(q.After, 10, 64)
		if err != nil || after < 0 {
			return page, store.ErrCursor
		}
		and("seq < ?", true, after)
	}
	limit := limitOf(q)
	columns := entryColumns + "NULL"
	if f.Private {
		columns = entryColumns + "private"
	}
	found, err := s.entries(ctx, columns+" FROM audit_entries WHERE "+strings.Join(where, " AND ")+" ORDER BY seq DESC LIMIT ?", append(args, limit+1)...) //nolint:gosec // the conditions are constants
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
	var raw []byte // of the entry read last: neighbours are often stored with the same one
	var of uint64
	for i, idx := range indexes {
		if idx < 0 {
			return nil, fault.Missing()
		}
		seq, place := audit.StoredWith(idx)
		if raw == nil || seq != of {
			raw, of = nil, seq
			if err := s.h.one(ctx, "SELECT hashes FROM audit_entries WHERE tenant = ? AND seq = ?", []any{s.h.tenant[:], int64(seq)}, &raw); err != nil { //nolint:gosec // a larger one is simply not there
				return nil, err
			}
		}
		if at := place * len(audit.Hash{}); len(raw) < at+len(audit.Hash{}) {
			return nil, fault.New(fault.Internal, "bad_hash", "A stored hash is missing.")
		} else {
			out[i] = audit.Hash(raw[at : at+len(audit.Hash{})])
		}
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
	err := d.handle().one(ctx, "SELECT tenant, kind, id FROM locations WHERE accessor = ?", []any{accessor}, &t, &kind, &id)
	if err != nil {
		return l, err
	}
	return store.Location{Tenant: ident.Tenant(t), Kind: credential.Kind(kind), Row: [16]byte(id)}, nil
}

// Waiting costs as much as there are tenants waiting, however long their queues are.
func (d directory) Waiting(ctx context.Context, now time.Time, limit int) ([]store.Waiting, error) {
	if err := enter(ctx); err != nil {
		return nil, err
	}
	return found(ctx, d.handle(), func(rows *sql.Rows) (store.Waiting, error) {
		var t string
		var due int64
		if err := rows.Scan(&t, &due); err != nil {
			return store.Waiting{}, err
		}
		raw, err := hex.DecodeString(t)
		if err != nil || len(raw) != ident.Size {
			return store.Waiting{}, fault.New(fault.Internal, "bad_tenant", "A stored tenant id has a wrong length.")
		}
		return store.Waiting{Tenant: ident.Tenant(raw), Oldest: moment(due)}, nil
	}, d.s.o.Dialect.Waiting, micros(now), limit)
}

func (d directory) Chores(ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error) {
	if err := enter(ctx); err != nil {
		return nil, err
	}
	return found(ctx, d.handle(), func(rows *sql.Rows) (store.Waiting, error) {
		var t []byte
		var due int64
		err := rows.Scan(&t, &due)
		if err != nil {
			return store.Waiting{}, err
		}
		return store.Waiting{Tenant: ident.Tenant(t), Oldest: moment(due)}, nil
	}, "SELECT tenant, due FROM known WHERE due <= ? AND (due, tenant) > (?, ?) ORDER BY due, tenant LIMIT ?", micros(now), micros(after.Oldest), after.Tenant[:], limit)
}

func (d directory) Tenants(ctx context.Context, after ident.Tenant, limit int) ([]ident.Tenant, error) {
	if err := enter(ctx); err != nil {
		return nil, err
	}
	return found(ctx, d.handle(), func(rows *sql.Rows) (ident.Tenant, error) {
		var t []byte
		err := rows.Scan(&t)
		if err != nil {
			return ident.Tenant{}, err
		}
		return ident.Tenant(t), nil
	}, d.s.o.Dialect.Tenants, after[:], limit)
}

// handle asks the pool itself, for no tenant.
func (d directory) handle() *handle {
	return &handle{session: &session{d: &d.s.o.Dialect, db: d.s.o.Read, raw: d.s.o.Dialect.rawPool(d.s.o.Read)}}
}
