package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// handle is what Reader, Writer and Flow hold: one transaction, one tenant.
type handle struct {
	session       *session
	tenant        ident.Tenant
	dead          bool
	written       bool // anything but events
	policyWritten bool // something that decisions are made from
	narrowed      bool // and not only what is new and changes none
}

func (h *handle) kill() { h.dead = true }

// ready refuses a handle that outlived its function, and shows the database whose rows it is about to be asked for.
func (h *handle) ready(ctx context.Context) error {
	if h.dead {
		return store.ErrDead
	}
	return h.session.show(ctx, h.tenant, h.session.d.Show)
}

func (h *handle) query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	if err := h.ready(ctx); err != nil {
		return nil, err
	}
	return h.session.query(ctx, q, args)
}

func (h *handle) exec(ctx context.Context, q string, args ...any) (int64, error) {
	n, err := h.run(ctx, q, args...)
	return n, away(err)
}

// run is exec with the driver's own error.
func (h *handle) run(ctx context.Context, q string, args ...any) (int64, error) {
	if err := h.ready(ctx); err != nil {
		return 0, err
	}
	return h.session.exec(ctx, q, args)
}

// alone waits until no other writing transaction is about this name of the tenant's, and makes the later ones wait.
func (h *handle) alone(ctx context.Context, name string) error {
	if h.session.d.LockName == "" || h.session.heads == nil {
		return nil
	}
	_, err := h.exec(ctx, h.session.d.LockName, h.tenant.String()+" "+name)
	return err
}

// one scans a single row, and answers fault.Missing() if there is none.
func (h *handle) one(ctx context.Context, q string, args []any, into ...any) error {
	rows, err := h.query(ctx, q, args...)
	if err != nil {
		return away(err)
	}
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return away(err)
		}
		return fault.Missing()
	}
	return away(rows.Scan(into...))
}

// row is how every record of administration is kept.
type row struct {
	bun.BaseModel `bun:"alias:r"`

	Tenant []byte `bun:"type:blob,pk"`
	ID     []byte `bun:"type:blob,pk"`
	Rev    uint64
	Node   []byte  `bun:"type:blob,nullzero"`
	Owner  []byte  `bun:"type:blob,nullzero"`
	Label  *string `bun:",nullzero"`
	State  string
	Body   []byte `bun:"type:blob"`

	Expires *int64 `bun:",nullzero"`
}

// noun says how one kind of record is kept: its table, and what of it has a column.
type noun[K comparable, V any] struct {
	table   string
	key     func(V) []byte
	bytes   func(K) []byte
	rev     func(*V) *uint64
	index   func(V, *row)                                         // sets Node, Owner, Label, State and Expires
	placed  bool                                                  // it stands on a node: lists are filtered by it
	policy  bool                                                  // decisions are made from it
	adds    bool                                                  // but a new one changes none that was made
	apart   func(h *handle, v *V) bool                            // nor does this one ever, in this tree
	counted int                                                   // a tenant may have so many: which of kept.alive
	check   func(old *V, v V) error                               // more than the revision must hold, or nil
	after   func(ctx context.Context, h *handle, old, v *V) error // keeps what is beside the row; old or v is nil
	load    func(ctx context.Context, h *handle, v *V) error      // adds what is beside the row
}

// shelf reads a noun; records writes it too.
type shelf[K comparable, V any] struct {
	h *handle
	n *noun[K, V]
}

type records[K comparable, V any] struct{ shelf[K, V] }

func (s shelf[K, V]) decode(ctx context.Context, rev uint64, body []byte) (V, error) {
	var v V
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fault.Wrap(err, fault.Internal, "decode", "A stored record could not be read.")
	}
	*s.n.rev(&v) = rev
	if s.n.load != nil {
		return v, s.n.load(ctx, s.h, &v)
	}
	return v, nil
}

func (s shelf[K, V]) query() *bun.SelectQuery {
	return s.h.session.db.NewSelect().Model((*row)(nil)).ModelTableExpr("? AS r", bun.Ident(s.n.table)).Column("tenant", "id", "rev", "node", "owner", "label", "state", "body").
		Where(ofTenant, s.h.tenant[:])
}

// fetch reads one record as it is stored. What reads or writes one record is prepared once; bun makes the queries that vary.
func (s shelf[K, V]) fetch(ctx context.Context, id []byte) (rev uint64, body []byte, err error) {
	err = s.h.one(ctx, "SELECT rev, body FROM "+s.n.table+" WHERE tenant = ? AND id = ?", []any{s.h.tenant[:], id}, &rev, &body)
	return rev, body, err
}

// Get answers one record.
func (s shelf[K, V]) Get(ctx context.Context, id K) (V, error) {
	rev, body, err := s.fetch(ctx, s.n.bytes(id))
	if err != nil {
		var none V
		return none, err
	}
	return s.decode(ctx, rev, body)
}

// List answers a page, newest first.
func (s shelf[K, V]) List(ctx context.Context, q store.Query) (store.Page[V], error) {
	return s.list(ctx, q, func(sq *bun.SelectQuery) *bun.SelectQuery { return sq.Where("r.state <> 'deleted'") })
}

// Named answers a page of those that have this name.
func (s shelf[K, V]) Named(ctx context.Context, name string, q store.Query) (store.Page[V], error) {
	return s.list(ctx, q, func(sq *bun.SelectQuery) *bun.SelectQuery {
		return sq.Where("r.state <> 'deleted'").Where("r.label = ?", name)
	})
}

func (s shelf[K, V]) list(ctx context.Context, q store.Query, narrow func(*bun.SelectQuery) *bun.SelectQuery) (store.Page[V], error) {
	var page store.Page[V]
	if err := s.h.ready(ctx); err != nil {
		return page, err
	}
	if q.Reach.IsEmpty() {
		return page, nil
	}
	limit := limitOf(q)
	sq := narrow(s.query()).OrderExpr("r.id DESC").Limit(int64(limit) + 1)
	if s.n.placed {
		sq = within(sq, q.Reach)
	}
	if q.After != "" {
		after, err := hex.DecodeString(q.After)
		if err != nil || len(after) == 0 || len(after) > 32 {
			return page, store.ErrCursor
		}
		sq = sq.Where("r.id < ?", after)
	}
	var rows []row
	if err := sq.Scan(ctx, &rows); err != nil {
		return page, away(err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		page.Next = hex.EncodeToString(rows[limit-1].ID)
	}
	items, err := s.decodeAll(ctx, rows)
	page.Items = items
	return page, err
}

// all answers every record that fits, oldest first: for nouns whose number is bounded.
func (s shelf[K, V]) all(ctx context.Context, narrow func(*bun.SelectQuery) *bun.SelectQuery) ([]V, error) {
	if err := s.h.ready(ctx); err != nil {
		return nil, err
	}
	var rows []row
	if err := narrow(s.query()).OrderExpr("r.id").Scan(ctx, &rows); err != nil {
		return nil, away(err)
	}
	return s.decodeAll(ctx, rows)
}

func (s shelf[K, V]) decodeAll(ctx context.Context, rows []row) ([]V, error) {
	vs := make([]V, 0, len(rows))
	for _, r := range rows {
		v, err := s.decode(ctx, r.Rev, r.Body)
		if err != nil {
			return nil, err
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// Count answers how many are alive. Each writer keeps the number: to count them would take as long as there are many.
func (s shelf[K, V]) Count(ctx context.Context) (int, error) {
	k, err := s.h.kept(ctx)
	return int(k.alive[s.n.counted]), err
}

// counts keeps the number of those alive, where one became another; nil is none.
func (s records[K, V]) counts(ctx context.Context, old, v *V) error {
	change := s.lives(v) - s.lives(old)
	if s.n.counted == 0 || change == 0 {
		return nil
	}
	k, err := s.h.kept(ctx)
	if err != nil {
		return err
	}
	k.alive[s.n.counted] += change
	s.h.session.heads.move(s.h.tenant, k)
	return nil
}

// lives is 1 for what lists answer.
func (s records[K, V]) lives(v *V) int64 {
	if v == nil {
		return 0
	}
	var r row
	if s.n.index(*v, &r); r.State == deleted {
		return 0
	}
	return 1
}

// deleted is the state of a tombstone: Get answers it, lists do not.
const deleted = "deleted"

func (s shelf[K, V]) count(ctx context.Context, where string, args ...any) (int, error) {
	if err := s.h.ready(ctx); err != nil {
		return 0, err
	}
	n, err := s.query().Where(where, args...).Count(ctx)
	return int(n), away(err)
}

// Put inserts or replaces.
func (s records[K, V]) Put(ctx context.Context, v V) (V, error) {
	var none V
	rev := *s.n.rev(&v)
	key := s.n.key(v)
	var old *V
	if rev != 0 {
		was, err := s.at(ctx, key, rev)
		if err != nil {
			return none, err
		}
		old = &was
	}
	if s.n.check != nil {
		if err := s.n.check(old, v); err != nil {
			return none, err
		}
	}
	*s.n.rev(&v) = rev + 1
	body, err := encode(v)
	if err != nil {
		return none, err
	}
	r := row{Tenant: s.h.tenant[:], ID: key, Rev: rev + 1, Body: body}
	s.n.index(v, &r)
	if r.State == "" {
		r.State = "-"
	}
	var n int64
	err = s.h.session.apart(ctx, func() error {
		var err error
		n, err = s.write(ctx, r, old != nil)
		return err
	})
	if err != nil {
		return none, taken(err)
	}
	if n == 0 {
		return none, fault.New(fault.Conflict, "exists", "A record of this id exists already.")
	}
	return v, s.wrote(ctx, old, &v)
}

// write replaces a row, or inserts it if there is none of its id.
func (s records[K, V]) write(ctx context.Context, r row, replace bool) (int64, error) {
	if replace {
		return s.h.run(ctx, "UPDATE "+s.n.table+" SET rev = ?, node = ?, owner = ?, label = ?, state = ?, body = ?, expires = ? WHERE tenant = ? AND id = ?",
			r.Rev, r.Node, r.Owner, r.Label, r.State, r.Body, r.Expires, r.Tenant, r.ID)
	}
	return s.h.run(ctx, "INSERT INTO "+s.n.table+" (tenant, id, rev, node, owner, label, state, body, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, id) DO NOTHING",
		r.Tenant, r.ID, r.Rev, r.Node, r.Owner, r.Label, r.State, r.Body, r.Expires)
}

// at answers a record if it is stored at this revision.
func (s records[K, V]) at(ctx context.Context, key []byte, rev uint64) (V, error) {
	var none V
	stored, body, err := s.fetch(ctx, key)
	if err != nil {
		return none, err
	}
	if stored != rev {
		return none, store.ErrRevision
	}
	return s.decode(ctx, rev, body)
}

// Delete removes a record of a revision.
func (s records[K, V]) Delete(ctx context.Context, id K, rev uint64) error {
	key := s.n.bytes(id)
	old, err := s.at(ctx, key, rev)
	if err != nil {
		return err
	}
	return s.remove(ctx, key, &old)
}

func (s records[K, V]) remove(ctx context.Context, key []byte, old *V) error {
	if _, err := s.h.exec(ctx, "DELETE FROM "+s.n.table+" WHERE tenant = ? AND id = ?", s.h.tenant[:], key); err != nil {
		return err
	}
	return s.wrote(ctx, old, nil)
}

// wrote is the end of every write: what is kept beside the row, where one became another; nil is none.
func (s records[K, V]) wrote(ctx context.Context, old, v *V) error {
	s.h.written = true
	if s.n.policy {
		s.h.policyWritten = true
		s.h.narrowed = s.h.narrowed || !s.n.adds || (old != nil && (s.n.apart == nil || !s.n.apart(s.h, old)))
	}
	if err := s.counts(ctx, old, v); err != nil || s.n.after == nil {
		return err
	}
	return s.n.after(ctx, s.h, old, v)
}

// expire removes at most limit records whose time is over, those first that are over longest.
func (s records[K, V]) expire(ctx context.Context, now time.Time, limit int) (int, error) {
	if err := s.h.ready(ctx); err != nil || limit <= 0 {
		return 0, err
	}
	var rows []row
	if err := s.query().Where("r.expires <= ?", micros(now)).OrderExpr("r.expires, r.id").Limit(int64(limit)).Scan(ctx, &rows); err != nil {
		return 0, away(err)
	}
	for i, r := range rows {
		old, err := s.decode(ctx, r.Rev, r.Body)
		if err != nil {
			return i, err
		}
		if err := s.remove(ctx, r.ID, &old); err != nil {
			return i, err
		}
	}
	return len(rows), nil
}

func (r *row) expireAt(at time.Time) {
	us := micros(at)
	r.Expires = &us
}

// within narrows a query to a reach.
func within(sq *bun.SelectQuery, r access.Reach) *bun.SelectQuery {
	if r.All {
		return sq
	}
	return sq.Where("r.node IN (?)", bun.List(blobs(r.Nodes)))
}

func blobs(nodes []ident.Node) [][]byte {
	out := make([][]byte, len(nodes))
	for i := range nodes {
		out[i] = nodes[i][:]
	}
	return out
}

func limitOf(q store.Query) int {
	if q.Limit <= 0 || q.Limit > store.MaxPage {
		return store.MaxPage
	}
	return q.Limit
}

// taken recognises a unique constraint's refusal. The driver's text is looked at and never shown.
func taken(err error) error {
	if strings.Contains(err.Error(), "UNIQUE constraint") || strings.Contains(err.Error(), "duplicate key") {
		return fault.Wrap(err, fault.Conflict, "taken", "Another record of this tenant has this name or address already. Choose another.")
	}
	return away(err)
}
