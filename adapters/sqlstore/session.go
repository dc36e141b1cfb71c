package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/uptrace/bun"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Dialect is what one database wants said otherwise than another.
type Dialect struct {
	Bind       func(query string, args []any) (string, []any) // says how arguments are written; nil: ? as it stands
	Show       string                                         // statement that takes a tenant (hex): from there on a transaction sees its rows alone; "": the database has no wall of its own
	Enter      string                                         // Show as a query that also answers the tenant's narrowed revision; "": it is asked like all else
	ShowShared string                                         // ShowAlone, for one of those who write what is waited for
	ShowFree   string                                         // ShowShared as a query of the tenant, twice, for one who does not wait: it answers "" if the tenant is being changed
	ShowAlone  string                                         // Show, and the tenant's changes and parts of batches that are under way are waited for
	Batch      Batch                                          // nil: row by row
	Refused    func(error) (asked, always bool)               // a statement was refused, not the database away; and for what it says, so that it would be again
	Snapshot   sql.IsolationLevel                             // of a View
	LockHead   string                                         // end of a query that locks what it reads; "": nobody else writes
	LockName   string                                         // statement that locks a name until the transaction ends; "": nobody else writes
	TryLock    string                                         // query that locks a name until the transaction ends, and answers whether it could; "": nobody else works on the database
	Spoils     bool                                           // a refused statement takes its transaction along
	Again      func(error) bool                               // a transaction that failed so is run again; nil: none is
	Told       func(error) error                              // what is wrong with a statement, where somebody can mend it; nil: as the driver says it
	Parts      bool                                           // what is many lies in parts by its time, and a table, due, says what waits
	Sooner     string                                         // statement (moment, tenant, moment): something is due for jobs at a moment; "": the database notices
	Greatest   string                                         // function: the larger of two values
	Waiting    string                                         // query (now, limit): tenants that have something to process (hex), and since when
	Tenants    string                                         // query (after, limit): tenants that there is a log of, in order
	Changed    string                                         // query (since): where to go on from, beside each tenant (hex) that was changed since; "": Options.Foreign
	Now        string                                         // since, for who has seen nothing yet and wants to be told of what comes
}

// Batch writes parts that come in their order, in the transaction that a connection has open. The second error is of all of them.
type Batch func(ctx context.Context, conn *sql.Conn, parts []*store.Part, how Manner) ([]error, error)

// Manner is how parts are written.
type Manner struct {
	Plain bool // no key of theirs is taken; one that is not so has ErrApart, and nothing of it is written
	Wait  bool // for changes of their tenants; else the error of who would have to is store.ErrBusy
}

// asked is what both a transaction and a pool are asked by.
type asked interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// raw is a transaction without bun, which writes arguments into the text, where the driver takes them apart from it.
func (d *Dialect) raw(tx bun.Tx) asked {
	if d.Bind == nil {
		return tx
	}
	return tx.Tx
}

func (d *Dialect) rawPool(db *bun.DB) asked {
	if d.Bind == nil {
		return db
	}
	return db.DB
}

// among is a condition: what a query answers, which is so little that each is looked up by itself. Said as an array, PostgreSQL
// does not think of reading the table instead.
func (d *Dialect) among(query string) string {
	if d.Parts {
		return "= ANY(ARRAY(" + query + "))"
	}
	return "IN (" + query + ")"
}

// session is one transaction (or, for look-ups before a tenant is known, the pool) as handles ask it.
type session struct {
	d       *Dialect
	db      bun.IDB // for queries that bun makes
	raw     asked   // for our own, unless they are prepared
	prepare func(context.Context, string) (*sql.Stmt, error)
	heads   *heads       // that a writing transaction has met; nil when reading
	shown   ident.Tenant // whose rows the database shows
	shared  ident.Tenant // whose changes wait for this transaction
}

// show tells the database whose rows are asked for from now on, where it has a wall of its own.
func (s *session) show(ctx context.Context, t ident.Tenant, how string) error {
	if how == "" || t == s.shown {
		return nil
	}
	if _, err := s.exec(ctx, how, []any{hex.EncodeToString(t[:])}); err != nil {
		return away(err)
	}
	s.shown = t
	return nil
}

// showFree is show for one of those who write what Changes wait for, who does not wait for them.
func (s *session) showFree(ctx context.Context, t ident.Tenant) error {
	s.shown = ident.Tenant{} // until it is said
	name, whose := hex.EncodeToString(t[:]), ""
	rows, err := s.query(ctx, s.d.ShowFree, []any{name, name})
	if err != nil {
		return away(err)
	}
	defer func() { _ = rows.Close() }()
	if rows.Next() {
		err = rows.Scan(&whose)
	}
	if err = errors.Join(err, rows.Err()); err != nil {
		return away(err)
	}
	if whose == "" {
		return store.ErrBusy
	}
	s.shown, s.shared = t, t
	return nil
}

// stated is a statement of ours as the driver is asked it.
func (s *session) stated(q string, args []any) (string, []any) {
	if q = Guarded(q); s.d.Bind != nil {
		return s.d.Bind(q, args)
	}
	return q, args
}

func (s *session) query(ctx context.Context, q string, args []any) (*sql.Rows, error) {
	q, args = s.stated(q, args)
	if s.prepare == nil {
		return s.raw.QueryContext(ctx, q, args...)
	}
	stmt, err := s.prepare(ctx, q)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

func (s *session) exec(ctx context.Context, q string, args []any) (int64, error) {
	q, args = s.stated(q, args)
	var res sql.Result
	var err error
	if s.prepare == nil {
		res, err = s.raw.ExecContext(ctx, q, args...)
	} else {
		var stmt *sql.Stmt
		if stmt, err = s.prepare(ctx, q); err == nil {
			res, err = stmt.ExecContext(ctx, args...)
		}
	}
	if err != nil && s.d.Told != nil {
		err = s.d.Told(err)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// apart runs fn so that a statement of it that is refused leaves the transaction usable.
func (s *session) apart(ctx context.Context, fn func() error) error {
	if !s.d.Spoils {
		return fn()
	}
	if _, err := s.raw.ExecContext(ctx, "SAVEPOINT apart"); err != nil {
		return err
	}
	shown := s.shown
	if err := fn(); err != nil {
		s.shown = shown // what was said since the savepoint is taken back with it
		_, undone := s.raw.ExecContext(ctx, "ROLLBACK TO apart")
		return errors.Join(err, undone)
	}
	_, err := s.raw.ExecContext(ctx, "RELEASE apart")
	return err
}

// pooled gives every write a transaction of its own: the database keeps them apart.
type pooled struct {
	db *bun.DB
	d  *Dialect

	mu   sync.RWMutex // held for reading while a transaction is under way
	shut bool
}

var _ transactor = (*pooled)(nil)

// attempts is how often a transaction is run that failed for no fault of its own.
const attempts = 3

// again runs a transaction, once more while the database says that it should be.
func (d *Dialect) again(run func() error) error {
	for n := 1; ; n++ {
		err := run()
		if err == nil || d.Again == nil || n == attempts || !d.Again(err) {
			return err
		}
	}
}

func (p *pooled) do(ctx context.Context, run func(context.Context, *session) error) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.shut {
		return store.ErrClosed
	}
	return p.d.again(func() error { return p.once(ctx, run) })
}

func (p *pooled) once(ctx context.Context, run func(context.Context, *session) error) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return away(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing, once it is committed
	s := &session{d: p.d, db: tx, raw: p.d.raw(tx), heads: newHeads()}
	if err := protect(func() error { return run(ctx, s) }); err != nil {
		return err
	}
	if err := s.keepHeads(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // the caller went away before fn returned
	}
	return away(tx.Commit())
}

func (p *pooled) each(ctx context.Context, runs []func(context.Context, *session) error) []error {
	errs := make([]error, len(runs))
	for i, run := range runs {
		errs[i] = p.do(ctx, run)
	}
	return errs
}

func (p *pooled) closed() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.shut
}

func (p *pooled) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
}
