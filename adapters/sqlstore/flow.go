package sqlstore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

type flow struct{ h *handle }

var _ store.Flow = flow{}

func (f flow) Read() store.Reader { return reader(f) }

const uplinkColumns = "id, rev, source, device, node, state, reason, address_kind, address, application, session, fport, fcnt, has_fcnt, payload, dedupe, payload_hash, arrived, network, received, attempts, not_before, released, updated"

func (h *handle) insert(ctx context.Context, u *uplink.Uplink) error {
	_, err := h.exec(ctx, "INSERT INTO uplinks (tenant, "+uplinkColumns+") VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		h.tenant[:], u.ID[:], u.Source[:], u.Device[:], u.Node[:], string(u.State), string(u.Reason), string(u.Address.Kind), u.Address.Value, u.Application,
		u.Session, u.FPort, int64(u.FCnt), u.HasFCnt, notNil(u.Payload), u.DedupeKey[:], u.PayloadHash[:], micros(u.ArrivedAt), micros(u.NetworkTime), micros(u.ReceivedAt), //nolint:gosec // kept bit for bit
		u.Attempts, micros(u.NotBefore), micros(u.ReleasedAt), micros(u.UpdatedAt))
	return err
}

// notNil binds empty bytes as empty: a nil slice would bind NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// replace writes an uplink's mutable part, comparing its revision.
func (h *handle) replace(ctx context.Context, u uplink.Uplink) (uplink.Uplink, error) {
	n, err := h.exec(ctx, "UPDATE uplinks SET rev = rev + 1, device = ?, node = ?, state = ?, reason = ?, attempts = ?, not_before = ?, released = ?, updated = ? WHERE tenant = ? AND id = ? AND rev = ?",
		u.Device[:], u.Node[:], string(u.State), string(u.Reason), u.Attempts, micros(u.NotBefore), micros(u.ReleasedAt), micros(u.UpdatedAt), h.tenant[:], u.ID[:], int64(u.Rev)) //nolint:gosec // counts up by one
	if err != nil {
		return u, err
	}
	if n == 0 {
		if _, err := (uplinkShelf{h}).Get(ctx, u.ID); err != nil {
			return u, err
		}
		return u, store.ErrRevision
	}
	u.Rev++
	return u, nil
}

func (f flow) Accept(ctx context.Context, us []uplink.Uplink) ([]store.Verdict, error) {
	verdicts := make([]store.Verdict, len(us))
	for i := range us {
		v, err := f.h.accept(ctx, us[i])
		if err != nil {
			return nil, err
		}
		verdicts[i] = v
	}
	return verdicts, nil
}

// accept keeps an uplink, unless its key is another's.
func (h *handle) accept(ctx context.Context, u uplink.Uplink) (store.Verdict, error) {
	v := store.Verdict{ID: u.ID}
	if u.DedupeKey != ([32]byte{}) {
		first, err := h.claim(ctx, &u)
		if err != nil {
			return v, err
		}
		if first != nil && first.hash == u.PayloadHash {
			return store.Verdict{ID: first.id, Duplicate: true}, nil
		}
		if first != nil {
			v.Conflict = true
			u.State, u.Reason, u.Device = uplink.Quarantined, uplink.DedupeConflict, ident.Device{}
		}
	}
	return v, h.insert(ctx, &u)
}

type firstUplink struct {
	id   ident.Uplink
	hash [32]byte
}

// claim takes an uplink's dedupe key, or answers who has it.
func (h *handle) claim(ctx context.Context, u *uplink.Uplink) (*firstUplink, error) {
	over := micros(u.ArrivedAt.Add(store.DedupeWindow))
	if err := h.joined(ctx); err != nil {
		return nil, err
	}
	if sooner := h.session.d.Sooner; sooner != "" {
		if _, err := h.exec(ctx, sooner, over, h.tenant[:], over); err != nil {
			return nil, err
		}
	}
	n, err := h.exec(ctx, `INSERT INTO dedupe (tenant, key, uplink, payload_hash, expires) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (tenant, key) DO UPDATE SET uplink = excluded.uplink, payload_hash = excluded.payload_hash, expires = excluded.expires WHERE dedupe.expires <= ?`,
		h.tenant[:], u.DedupeKey[:], u.ID[:], u.PayloadHash[:], over, micros(u.ArrivedAt))
	if err != nil || n > 0 {
		return nil, err
	}
	var id, hash []byte
	if err := h.one(ctx, "SELECT uplink, payload_hash FROM dedupe WHERE tenant = ? AND key = ?", []any{h.tenant[:], u.DedupeKey[:]}, &id, &hash); err != nil {
		return nil, err
	}
	return &firstUplink{ident.Uplink(id), [32]byte(hash)}, nil
}

// Recheck has Changes wait until what is written behind it is committed, and waits for none: it would keep its connection meanwhile.
func (f flow) Recheck(ctx context.Context, seen store.Seen) error {
	if s := f.h.session; s.d.ShowFree != "" && s.shared != f.h.tenant {
		if f.h.dead {
			return store.ErrDead
		}
		if err := s.showFree(ctx, f.h.tenant); err != nil {
			return err
		}
	}
	return f.h.recheck(ctx, &seen)
}

func (f flow) Finish(ctx context.Context, done store.Finished) error {
	if _, err := f.h.replace(ctx, done.Uplink); err != nil {
		return err
	}
	if done.Uplink.State != uplink.Quarantined {
		if err := f.h.saw(ctx, &done.Uplink); err != nil {
			return err
		}
	}
	return f.h.told(ctx, &done)
}

// saw notes a sign of life of an uplink's device.
func (h *handle) saw(ctx context.Context, u *uplink.Uplink) error {
	if u.Device.IsZero() {
		return nil
	}
	_, err := h.exec(ctx, "INSERT INTO seen (tenant, device, at) VALUES (?, ?, ?) ON CONFLICT (tenant, device) DO UPDATE SET at = excluded.at WHERE excluded.at > seen.at", h.tenant[:], u.Device[:], micros(u.ReceivedAt))
	return err
}

func (h *handle) outcome(ctx context.Context, o *uplink.Outcome) error {
	_, err := h.exec(ctx, "INSERT INTO outcomes (tenant, id, uplink, device, node, decoder, version, hash, engine, category, fuel, duration, message, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		h.tenant[:], o.ID[:], o.Uplink[:], o.Device[:], o.Node[:], o.Decoder[:], o.Version[:], o.Hash[:], o.Engine, string(o.Category), o.Fuel, int64(o.Duration), o.Message, micros(o.At))
	return err
}

// told keeps an outcome and a reading, if there are any.
func (h *handle) told(ctx context.Context, done *store.Finished) error {
	if done.Outcome != nil {
		if err := h.outcome(ctx, done.Outcome); err != nil {
			return err
		}
	}
	r := done.Reading
	if r == nil {
		return nil
	}
	warnings, err := encode(r.Warnings)
	if err != nil {
		return err
	}
	if _, err := h.exec(ctx, "INSERT INTO readings (tenant, device, at, id, uplink, node, decoder, version, fcnt, has_fcnt, session, data, warnings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		h.tenant[:], r.Device[:], micros(r.At), r.ID[:], r.Uplink[:], r.Node[:], r.Decoder[:], r.Version[:], int64(r.FCnt), r.HasFCnt, r.Session, notNil(r.Data), warnings); err != nil { //nolint:gosec // kept bit for bit
		return err
	}
	_, err = h.exec(ctx, "INSERT INTO latest (tenant, device, at, fcnt, uplink, id) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, device) DO UPDATE SET at = excluded.at, fcnt = excluded.fcnt, uplink = excluded.uplink, id = excluded.id WHERE (excluded.at, excluded.fcnt, excluded.uplink) > (latest.at, latest.fcnt, latest.uplink)",
		h.tenant[:], r.Device[:], micros(r.At), int64(r.FCnt), r.Uplink[:], r.ID[:]) //nolint:gosec // kept bit for bit
	if o := done.Out; o != nil && err == nil {
		err = h.send(ctx, o)
	}
	return err
}

// send keeps what goes out. Where there is one writer, it counts by itself.
func (h *handle) send(ctx context.Context, o *store.Outgoing) error {
	shard := store.OutboxShard(h.tenant, o.Key)
	if h.session.d.Parts {
		_, err := h.exec(ctx, "INSERT INTO outbox (tenant, shard, event, key, value) VALUES (?, ?, ?, ?, ?)", h.tenant[:], shard, o.Event[:], o.Key, notNil(o.Value))
		return err
	}
	_, err := h.exec(ctx, "INSERT INTO outbox (tenant, shard, id, event, key, value) SELECT ?, ?, coalesce((SELECT max(id) FROM outbox WHERE tenant = ? AND shard = ?), 0) + 1, ?, ?, ?",
		h.tenant[:], shard, h.tenant[:], shard, o.Event[:], o.Key, notNil(o.Value))
	return err
}

func (f flow) Hasten(ctx context.Context, until time.Time, limit int) (int, error) {
	if f.h.session.d.Parts {
		ids, err := f.h.queued(ctx, "not_before = ?", until, limit)
		if err != nil || len(ids) == 0 {
			return 0, err
		}
		n, err := f.h.exec(ctx, "UPDATE uplinks SET rev = rev + 1, not_before = 0 WHERE tenant = ? AND id = ANY(?) AND state = 'accepted' AND not_before = ?", f.h.tenant[:], ids, micros(until))
		return int(n), err
	}
	n, err := f.h.exec(ctx, "UPDATE uplinks SET rev = rev + 1, not_before = 0 WHERE tenant = ? AND id IN (SELECT id FROM uplinks WHERE tenant = ? AND state = 'accepted' AND not_before = ? LIMIT ?)",
		f.h.tenant[:], f.h.tenant[:], micros(until), limit)
	return int(n), err
}

func (f flow) Touch(ctx context.Context, accessor string, at time.Time) error {
	_, err := f.h.exec(ctx, "INSERT INTO touched (tenant, accessor, at) VALUES (?, ?, ?) ON CONFLICT (tenant, accessor) DO UPDATE SET at = excluded.at WHERE excluded.at > touched.at", f.h.tenant[:], accessor, micros(at))
	return err
}

func (f flow) SetFailures(ctx context.Context, p principal.Failure) error {
	if p.Count == 0 {
		_, err := f.h.exec(ctx, "DELETE FROM failures WHERE tenant = ? AND key = ?", f.h.tenant[:], p.Key)
		return err
	}
	_, err := f.h.exec(ctx, "INSERT INTO failures (tenant, key, count, last) VALUES (?, ?, ?, ?) ON CONFLICT (tenant, key) DO UPDATE SET count = excluded.count, last = excluded.last", f.h.tenant[:], p.Key, p.Count, micros(p.Last))
	return err
}

func (f flow) Marks(ctx context.Context, keys map[string][32]byte) (map[string][32]byte, error) {
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		mark := keys[name]
		if _, err := f.h.exec(ctx, "INSERT INTO marks (tenant, name, mark) VALUES (?, ?, ?) ON CONFLICT (tenant, name) DO NOTHING", f.h.tenant[:], name, mark[:]); err != nil {
			return nil, err
		}
	}
	rows, err := f.h.query(ctx, "SELECT name, mark FROM marks WHERE tenant = ?", f.h.tenant[:])
	if err != nil {
		return nil, away(err)
	}
	defer func() { _ = rows.Close() }()
	kept := map[string][32]byte{}
	for rows.Next() {
		var name string
		var mark []byte
		if err := rows.Scan(&name, &mark); err != nil {
			return nil, away(err)
		}
		m := [32]byte{}
		copy(m[:], mark)
		kept[name] = m
	}
	return kept, away(rows.Err())
}

func (f flow) Fold(ctx context.Context, c store.Fold, n int64) error {
	if err := f.h.joined(ctx); err != nil {
		return err
	}
	_, err := f.h.exec(ctx, "INSERT INTO folds (tenant, kind, key, node, bucket, until, count) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, kind, key, node, bucket) DO UPDATE SET count = folds.count + excluded.count",
		f.h.tenant[:], c.Kind, c.Key, c.Node[:], micros(c.Bucket), micros(c.Until), n)
	return err
}

func (f flow) Checkpoint(ctx context.Context, c audit.StoredCheckpoint) error {
	if err := f.h.alone(ctx, "checkpoints"); err != nil {
		return err
	}
	n, err := f.h.exec(ctx, "INSERT INTO audit_checkpoints (tenant, size, note) SELECT ?, ?, ? WHERE coalesce((SELECT max(size) FROM audit_checkpoints WHERE tenant = ?), -1) < ?",
		f.h.tenant[:], int64(c.Size), c.Note, f.h.tenant[:], int64(c.Size)) //nolint:gosec // below 2^63
	if err == nil && n == 0 {
		err = fault.New(fault.Conflict, "old_checkpoint", "A checkpoint of this size or a later one is kept already.")
	}
	return err
}

// joined has Rest and Changes wait for what this transaction writes: of what will be due for jobs, and of what was decided.
func (h *handle) joined(ctx context.Context) error {
	if h.session.d.ShowShared == "" || h.session.shared == h.tenant {
		return nil
	}
	if h.dead {
		return store.ErrDead
	}
	h.session.shown = ident.Tenant{} // it is said once more
	err := h.session.show(ctx, h.tenant, h.session.d.ShowShared)
	h.session.shared = h.session.shown
	return err
}

// Rest looks for what is due next once all who write for the tenant have ended, and before the next one begins.
func (f flow) Rest(ctx context.Context) error {
	t := f.h.tenant[:]
	if err := f.h.session.show(ctx, f.h.tenant, f.h.session.d.ShowAlone); err != nil {
		return err
	}
	_, err := f.h.exec(ctx, `UPDATE known SET due = coalesce((SELECT min(at) FROM (
		SELECT 0 AS at FROM audit_heads WHERE tenant = ? AND size > coalesce((SELECT max(size) FROM audit_checkpoints WHERE tenant = ?), 0)
		UNION ALL SELECT min(until) FROM folds WHERE tenant = ?
		UNION ALL SELECT min(expires) FROM dedupe WHERE tenant = ?
		UNION ALL SELECT min(expires) FROM claims WHERE tenant = ? AND expires IS NOT NULL
		UNION ALL SELECT min(expires) FROM bearers WHERE tenant = ? AND expires IS NOT NULL
		UNION ALL SELECT min(expires) FROM sessions WHERE tenant = ? AND expires IS NOT NULL
		UNION ALL SELECT min(expires) FROM links WHERE tenant = ? AND expires IS NOT NULL) x), 9223372036854775807) WHERE tenant = ?`, t, t, t, t, t, t, t, t, t)
	return err
}

// Expire looks at the tenant's own rows.
func (f flow) Expire(ctx context.Context, now time.Time, limit int) (int, error) {
	n, err := f.h.exec(ctx, "DELETE FROM dedupe WHERE tenant = ? AND key "+f.h.session.d.among("SELECT key FROM dedupe WHERE tenant = ? AND expires <= ? LIMIT ?"), f.h.tenant[:], f.h.tenant[:], micros(now), limit)
	total := int(n)
	if err != nil || total >= limit {
		return total, err
	}
	for _, expire := range []func(context.Context, time.Time, int) (int, error){
		put(f.h, claims).expire, put(f.h, bearers).expire, put(f.h, sessions).expire, put(f.h, links).expire,
	} {
		n, err := expire(ctx, now, limit-total)
		total += n
		if err != nil || total >= limit {
			return total, err
		}
	}
	return total, nil
}

// found collects rows.
func found[V any](ctx context.Context, h *handle, scan func(*sql.Rows) (V, error), q string, args ...any) ([]V, error) {
	rows, err := h.query(ctx, q, args...)
	if err != nil {
		return nil, away(err)
	}
	defer func() { _ = rows.Close() }()
	var out []V
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, away(err)
		}
		out = append(out, v)
	}
	return out, away(rows.Err())
}

// conditions builds a WHERE clause of constant parts.
type conditions struct {
	parts []string
	args  []any
}

func (h *handle) where(r access.Reach) *conditions {
	c := &conditions{parts: []string{"tenant = ?"}, args: []any{h.tenant[:]}}
	if !r.All {
		c.in("node", r.Nodes)
	}
	return c
}

func (c *conditions) and(on bool, part string, args ...any) {
	if on {
		c.parts, c.args = append(c.parts, part), append(c.args, args...)
	}
}

func (c *conditions) in(column string, nodes []ident.Node) {
	args := make([]any, len(nodes))
	for i := range nodes {
		args[i] = nodes[i][:]
	}
	c.and(true, column+" IN ("+strings.TrimSuffix(strings.Repeat("?,", len(nodes)), ",")+")", args...)
}

func (c *conditions) String() string { return strings.Join(c.parts, " AND ") }

// paged runs a query that is ordered by id, newest first.
func paged[V any](ctx context.Context, h *handle, q store.Query, c *conditions, scan func(*sql.Rows) (V, error), head string, id func(V) []byte) (store.Page[V], error) {
	var page store.Page[V]
	if q.Reach.IsEmpty() {
		return page, nil
	}
	if q.After != "" {
		after, err := hex.DecodeString(q.After)
		if err != nil || len(after) != ident.Size {
			return page, store.ErrCursor
		}
		c.and(true, "id < ?", after)
	}
	limit := limitOf(q)
	vs, err := found(ctx, h, scan, head+" WHERE "+c.String()+" ORDER BY id DESC LIMIT ?", append(c.args, limit+1)...)
	if err != nil {
		return page, err
	}
	if len(vs) > limit {
		vs = vs[:limit]
		page.Next = hex.EncodeToString(id(vs[limit-1]))
	}
	page.Items = vs
	return page, nil
}

type uplinkShelf struct{ h *handle }

func scanUplink(rows *sql.Rows) (uplink.Uplink, error) {
	var u uplink.Uplink
	var id, src, dev, node, dedupe, hash []byte
	var rev, fcnt, arrived, network, received, notBefore, released, updated int64
	var state, reason, kind string
	err := rows.Scan(&id, &rev, &src, &dev, &node, &state, &reason, &kind, &u.Address.Value, &u.Application, &u.Session, &u.FPort, &fcnt, &u.HasFCnt,
		&u.Payload, &dedupe, &hash, &arrived, &network, &received, &u.Attempts, &notBefore, &released, &updated)
	if err != nil {
		return u, err
	}
	u.ID, u.Rev, u.Source, u.Device, u.Node = ident.Uplink(id), uint64(rev), ident.Source(src), ident.Device(dev), ident.Node(node) //nolint:gosec // counts up by one
	u.State, u.Reason, u.Address.Kind = uplink.State(state), uplink.Reason(reason), device.AddressKind(kind)
	u.FCnt, u.DedupeKey, u.PayloadHash = uint64(fcnt), [32]byte(dedupe), [32]byte(hash) //nolint:gosec // kept bit for bit
	u.ArrivedAt, u.NetworkTime, u.ReceivedAt, u.NotBefore, u.ReleasedAt, u.UpdatedAt = moment(arrived), moment(network), moment(received), moment(notBefore), moment(released), moment(updated)
	return u, nil
}

func (s uplinkShelf) Get(ctx context.Context, id ident.Uplink) (uplink.Uplink, error) {
	return first(found(ctx, s.h, scanUplink, "SELECT "+uplinkColumns+" FROM uplinks WHERE tenant = ? AND id = ?", s.h.tenant[:], id[:]))
}

func first[V any](vs []V, err error) (V, error) {
	if err == nil && len(vs) == 0 {
		err = fault.Missing()
	}
	if err != nil {
		var none V
		return none, err
	}
	return vs[0], nil
}

func (s uplinkShelf) List(ctx context.Context, q store.Query) (store.Page[uplink.Uplink], error) {
	return s.Find(ctx, q, store.UplinkFilter{})
}

func (s uplinkShelf) Find(ctx context.Context, q store.Query, f store.UplinkFilter) (store.Page[uplink.Uplink], error) {
	c := s.h.where(q.Reach)
	c.and(!f.Device.IsZero(), "device = ?", f.Device[:])
	c.and(!f.Source.IsZero(), "source = ?", f.Source[:])
	switch f.State {
	case "":
	case uplink.Quarantined: // in this form the partial index serves
		c.and(true, "state = 'quarantined'")
	default:
		c.and(true, "state = ?", string(f.State))
	}
	c.and(!f.From.IsZero(), "arrived >= ?", micros(f.From))
	c.and(!f.To.IsZero(), "arrived < ?", micros(f.To))
	return paged(ctx, s.h, q, c, scanUplink, "SELECT "+uplinkColumns+" FROM uplinks", func(u uplink.Uplink) []byte { return u.ID[:] })
}

// queued are ids of what waits, from the table that follows the queue: of uplinks in parts, all would have to be asked.
func (h *handle) queued(ctx context.Context, when string, at time.Time, limit int) ([][]byte, error) {
	return found(ctx, h, func(rows *sql.Rows) (id []byte, err error) { return id, rows.Scan(&id) },
		"SELECT id FROM due WHERE tenant = ? AND "+when+" ORDER BY arrived, id LIMIT ?", h.tenant[:], micros(at), limit)
}

func (s uplinkShelf) Due(ctx context.Context, now time.Time, limit int) ([]uplink.Uplink, error) {
	if s.h.session.d.Parts {
		ids, err := s.h.queued(ctx, "not_before <= ?", now, limit)
		if err != nil || len(ids) == 0 {
			return nil, err
		}
		return found(ctx, s.h, scanUplink, "SELECT "+uplinkColumns+" FROM uplinks WHERE tenant = ? AND id = ANY(?) AND state = 'accepted' ORDER BY arrived, id", s.h.tenant[:], ids)
	}
	return found(ctx, s.h, scanUplink, "SELECT "+uplinkColumns+" FROM uplinks WHERE tenant = ? AND state = 'accepted' AND not_before <= ? ORDER BY arrived, id LIMIT ?", s.h.tenant[:], micros(now), limit)
}

func (s uplinkShelf) Backlog(ctx context.Context) (int, error) {
	var n int
	from := "uplinks WHERE tenant = ? AND state = 'accepted'"
	if s.h.session.d.Parts {
		from = "due WHERE tenant = ?"
	}
	err := s.h.one(ctx, "SELECT count(*) FROM "+from, []any{s.h.tenant[:]}, &n)
	return n, err
}

type readingShelf struct{ h *handle }

const readingColumns = "id, uplink, device, node, decoder, version, at, fcnt, has_fcnt, session, data, warnings"

func scanReading(rows *sql.Rows) (uplink.Reading, error) {
	var r uplink.Reading
	var id, up, dev, node, dec, ver, data, warnings []byte
	var at, fcnt int64
	if err := rows.Scan(&id, &up, &dev, &node, &dec, &ver, &at, &fcnt, &r.HasFCnt, &r.Session, &data, &warnings); err != nil {
		return r, err
	}
	r.ID, r.Uplink, r.Device, r.Node, r.Decoder, r.Version = ident.Reading(id), ident.Uplink(up), ident.Device(dev), ident.Node(node), ident.Decoder(dec), ident.Version(ver)
	r.At, r.FCnt, r.Data = moment(at), uint64(fcnt), data //nolint:gosec // kept bit for bit
	return r, json.Unmarshal(warnings, &r.Warnings)
}

// placeSize is that of a reading's place in their order, as a cursor: time, counter, uplink.
const placeSize = 8 + 8 + ident.Size

func (s readingShelf) Find(ctx context.Context, q store.Query, f store.ReadingFilter) (store.Page[uplink.Reading], error) {
	var page store.Page[uplink.Reading]
	if q.Reach.IsEmpty() || (f.Nodes != nil && len(f.Nodes) == 0) {
		return page, nil
	}
	c := s.h.where(q.Reach)
	c.and(!f.Device.IsZero(), "device = ?", f.Device[:])
	if f.Nodes != nil {
		c.in("node", f.Nodes)
	}
	c.and(!f.From.IsZero(), "at >= ?", micros(f.From))
	c.and(!f.To.IsZero(), "at < ?", micros(f.To))
	if q.After != "" {
		raw, err := hex.DecodeString(q.After)
		if err != nil || len(raw) != placeSize {
			return page, store.ErrCursor
		}
		c.and(true, "(at, fcnt, uplink) < (?, ?, ?)", int64(binary.BigEndian.Uint64(raw)), int64(binary.BigEndian.Uint64(raw[8:])), raw[16:]) //nolint:gosec // kept bit for bit
	}
	limit := limitOf(q)
	vs, err := found(ctx, s.h, scanReading, "SELECT "+readingColumns+" FROM readings WHERE "+c.String()+" ORDER BY at DESC, fcnt DESC, uplink DESC LIMIT ?", append(c.args, limit+1)...)
	if err != nil {
		return page, err
	}
	if len(vs) > limit {
		vs = vs[:limit]
		last := vs[limit-1]
		key := binary.BigEndian.AppendUint64(make([]byte, 0, placeSize), uint64(micros(last.At))) //nolint:gosec // kept bit for bit
		page.Next = hex.EncodeToString(append(binary.BigEndian.AppendUint64(key, last.FCnt), last.Uplink[:]...))
	}
	page.Items = vs
	return page, nil
}

// Latest is the kept one if it is within reach, else the newest that is.
func (s readingShelf) Latest(ctx context.Context, d ident.Device, r access.Reach) (uplink.Reading, error) {
	if r.All {
		var at int64
		var id []byte
		if err := s.h.one(ctx, "SELECT at, id FROM latest WHERE tenant = ? AND device = ?", []any{s.h.tenant[:], d[:]}, &at, &id); err != nil {
			return uplink.Reading{}, err
		}
		// It may have outlived its time: then there is none.
		return first(found(ctx, s.h, scanReading, "SELECT "+readingColumns+" FROM readings WHERE tenant = ? AND device = ? AND at = ? AND id = ?", s.h.tenant[:], d[:], at, id))
	}
	page, err := s.Find(ctx, store.Query{Reach: r, Limit: 1}, store.ReadingFilter{Device: d})
	return first(page.Items, err)
}

// madeAfter begins no later than the id of anything that came of an uplink, by clocks that differ a little.
func madeAfter(u ident.Uplink) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(u.Time().Add(-uplink.MaxFuture).UnixMilli())<<16)[:6] //nolint:gosec // ids are of 48 bits of time
}

type outcomeShelf struct{ h *handle }

const outcomeColumns = "id, uplink, device, node, decoder, version, hash, engine, category, fuel, duration, message, at"

func scanOutcome(rows *sql.Rows) (uplink.Outcome, error) {
	var o uplink.Outcome
	var id, up, dev, node, dec, ver, hash []byte
	var category string
	var duration, at int64
	if err := rows.Scan(&id, &up, &dev, &node, &dec, &ver, &hash, &o.Engine, &category, &o.Fuel, &duration, &o.Message, &at); err != nil {
		return o, err
	}
	o.ID, o.Uplink, o.Device, o.Node, o.Decoder, o.Version = ident.Outcome(id), ident.Uplink(up), ident.Device(dev), ident.Node(node), ident.Decoder(dec), ident.Version(ver)
	o.Hash, o.Category, o.Duration, o.At = [32]byte(hash), decoder.Category(category), time.Duration(duration), moment(at)
	return o, nil
}

func (s outcomeShelf) Get(ctx context.Context, id ident.Outcome) (uplink.Outcome, error) {
	return first(found(ctx, s.h, scanOutcome, "SELECT "+outcomeColumns+" FROM outcomes WHERE tenant = ? AND id = ?", s.h.tenant[:], id[:]))
}

func (s outcomeShelf) List(ctx context.Context, q store.Query) (store.Page[uplink.Outcome], error) {
	return s.Find(ctx, q, store.OutcomeFilter{})
}

func (s outcomeShelf) Find(ctx context.Context, q store.Query, f store.OutcomeFilter) (store.Page[uplink.Outcome], error) {
	c := s.h.where(q.Reach)
	c.and(!f.Uplink.IsZero(), "uplink = ?", f.Uplink[:])
	c.and(!f.Uplink.IsZero() && s.h.session.d.Parts, "id >= ?", madeAfter(f.Uplink)) // and so not in parts of before
	c.and(!f.Device.IsZero(), "device = ?", f.Device[:])
	c.and(!f.Decoder.IsZero(), "decoder = ?", f.Decoder[:])
	c.and(f.Category != "", "category = ?", string(f.Category))
	c.and(!f.From.IsZero(), "at >= ?", micros(f.From))
	c.and(!f.To.IsZero(), "at < ?", micros(f.To))
	return paged(ctx, s.h, q, c, scanOutcome, "SELECT "+outcomeColumns+" FROM outcomes", func(o uplink.Outcome) []byte { return o.ID[:] })
}
