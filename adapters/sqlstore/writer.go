package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/uptrace/bun"

	"github.com/ringfence/ringfence/ports/store"
)

// writer is group commit: one goroutine owns the writing connection and runs waiting closures in turn inside one
// transaction, where one's failure leaves the others whole, and answers all of them after COMMIT. Cancellation never reaches a
// statement: a cancelled statement would roll back everybody's work and let the next insert commit by itself.
type writer struct {
	conn  bun.Conn
	begin string
	group int // closures of one transaction at most
	wary  int // groups that are still run in savepoints
	jobs  chan *job
	stmts map[string]*sql.Stmt // owned by the loop, as is the session
	all   *session             // that the closures of a group share

	mu   sync.RWMutex // held for reading while a job is handed over
	shut bool
}

type job struct {
	ctx context.Context //nolint:containedctx // it is the caller's own, looked at before and after its turn
	run func(context.Context, *session) error
	err error
	out chan error
}

// maxGroup bounds the closures of one transaction.
const maxGroup = 256

var _ transactor = (*writer)(nil)

func newWriter(ctx context.Context, db *bun.DB, begin string, d *Dialect) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("writing connection: %w", err)
	}
	w := &writer{conn: conn, begin: begin, group: maxGroup, jobs: make(chan *job, maxGroup), stmts: map[string]*sql.Stmt{}}
	w.all = &session{d: d, db: conn, prepare: w.stmt, heads: newHeads()}
	return w, nil
}

func (w *writer) closed() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.shut
}

func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.shut {
		w.shut = true
		close(w.jobs)
	}
}

// do waits for run's turn and for the commit of what it wrote.
func (w *writer) do(ctx context.Context, run func(context.Context, *session) error) error {
	return w.each(ctx, []func(context.Context, *session) error{run})[0]
}

func (w *writer) each(ctx context.Context, runs []func(context.Context, *session) error) []error {
	errs, jobs := make([]error, len(runs)), make([]*job, 0, len(runs))
	w.mu.RLock()
	for i := range runs {
		switch {
		case ctx.Err() != nil:
			errs[i] = ctx.Err()
		case w.shut:
			errs[i] = store.ErrClosed
		default:
			jobs = append(jobs, &job{ctx: ctx, run: runs[i], out: make(chan error, 1)})
			w.jobs <- jobs[i]
		}
	}
	w.mu.RUnlock()
	for i, j := range jobs {
		errs[i] = <-j.out // a caller that goes away is seen by the loop: its work is either whole or not there
	}
	return errs
}

func (w *writer) loop() {
	group := make([]*job, 0, maxGroup)
	for j := range w.jobs {
		group = w.gather(append(group[:0], j))
		broken := w.commit(group)
		for _, j := range group {
			if broken != nil {
				j.out <- away(broken)
			} else {
				j.out <- j.err
			}
		}
	}
	for _, s := range w.stmts {
		_ = s.Close()
	}
	_ = w.conn.Close()
}

// gather adds to a group who else waits. Each commit costs a sync, however many share it: who is about to ask, since the last
// commit answered all of them, is let ahead while that brings somebody, a few times at most; where nobody asks it takes no time.
func (w *writer) gather(group []*job) []*job {
	for range 3 {
		runtime.Gosched()
		before := len(group)
	more:
		for len(group) < w.group {
			select {
			case next, ok := <-w.jobs:
				if !ok {
					return group
				}
				group = append(group, next)
			default:
				break more
			}
		}
		if len(group) == before {
			break
		}
	}
	return group
}

// wary is how many groups run in savepoints after one that had to be run again.
const wary = 16

// commit runs a group and says what became of each closure. A non-nil error is the transaction's own: nothing of the group is
// kept. Savepoints cost as much as a small closure does, so that a group is tried without them first: if a closure fails, the
// transaction is rolled back and all of them run again, apart. That costs little: it happens once in so many groups at most.
func (w *writer) commit(group []*job) error {
	if len(group) == 1 || w.wary == 0 {
		if whole, err := w.run(group, false); whole || err != nil || len(group) == 1 {
			return err
		}
		w.wary = wary
	} else {
		w.wary--
	}
	_, err := w.run(group, true)
	return err
}

// run runs a group in one transaction, and answers whether it was committed. Unless closures are kept apart, the first one
// that fails rolls it back.
func (w *writer) run(group []*job, apart bool) (whole bool, broken error) {
	ctx := context.Background()
	if err := w.exec(ctx, w.begin); err != nil {
		return false, err
	}
	w.all.heads.begin()
	defer func() {
		if !whole {
			// The transaction may be gone already; what matters is that the next one begins cleanly.
			_ = w.exec(ctx, "ROLLBACK")
		}
	}()
	for _, j := range group {
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		if apart {
			w.all.heads.save()
			if err := w.exec(ctx, "SAVEPOINT job"); err != nil {
				return false, err
			}
		}
		own := context.WithoutCancel(j.ctx)
		j.err = protect(func() error { return j.run(own, w.all) })
		if j.err == nil {
			j.err = j.ctx.Err() // the caller went away before fn returned
		}
		if !apart {
			if j.err != nil {
				return false, nil
			}
			continue
		}
		if j.err != nil {
			w.all.heads.rollback()
			if err := w.exec(ctx, "ROLLBACK TO job"); err != nil {
				return false, err
			}
		}
		if err := w.exec(ctx, "RELEASE job"); err != nil {
			return false, err
		}
	}
	if err := w.all.keepHeads(ctx); err != nil {
		return false, err
	}
	if err := w.exec(ctx, "COMMIT"); err != nil {
		return false, err
	}
	return true, nil
}

func (w *writer) exec(ctx context.Context, query string) error {
	s, err := w.stmt(ctx, query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// stmt prepares a statement once. The loop alone calls it.
func (w *writer) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := w.stmts[query]; s != nil {
		return s, nil
	}
	s, err := w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, errors.Join(errors.New("prepare"), err)
	}
	w.stmts[query] = s
	return s, nil
}
