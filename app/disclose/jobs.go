package disclose

import (
	"context"
	"errors"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Jobs makes what is due: checkpoints of trees that grew, entries of counters whose time is over, and expiry. It runs once over
// the tenants that have something due; the caller repeats it.
func (d *Disclose) Jobs(ctx context.Context) error {
	var failed error
	now := d.enter.Now()
	for after := (store.Waiting{}); ; {
		page, err := d.store.Directory().Chores(ctx, now, after, 100)
		if err != nil || len(page) == 0 {
			return errors.Join(failed, err)
		}
		for _, due := range page {
			after = due
			if _, err := store.Turn(ctx, d.store, "jobs", due.Tenant, func(ctx context.Context) error { return d.jobs(ctx, due.Tenant) }); err != nil {
				failed = err
			}
		}
	}
}

func (d *Disclose) jobs(ctx context.Context, t ident.Tenant) error {
	now := d.enter.Now()
	s := d.enter.System(t, "jobs", access.Origin{})
	if err := d.fold(ctx, s, now); err != nil {
		return err
	}
	if _, err := d.Checkpoint(ctx, t); err != nil {
		return err
	}
	for removed := expireAtOnce; removed == expireAtOnce; {
		if err := d.store.Ingest(ctx, s, func(ctx context.Context, f store.Flow) error {
			var err error
			removed, err = f.Expire(ctx, now, expireAtOnce)
			return err
		}); err != nil {
			return err
		}
	}
	return d.store.Ingest(ctx, s, func(ctx context.Context, f store.Flow) error { return f.Rest(ctx) })
}

// expireAtOnce bounds one transaction, so that nobody waits long behind it.
const expireAtOnce = 1000

// fold turns counters whose time is over into audit entries with an exact count, and removes them, in one change.
func (d *Disclose) fold(ctx context.Context, s access.Scope, now time.Time) error {
	for {
		var due []store.Fold
		if err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
			var err error
			due, err = r.Folds(ctx, now, 100)
			return err
		}); err != nil || len(due) == 0 {
			return err
		}
		events := make([]audit.Event, 0, len(due))
		for _, f := range due {
			action, outcome := audit.QuarantineFolded, audit.OK
			if f.Kind == "refusal" {
				action, outcome = audit.AuthzFail, audit.Denied
			}
			ev, err := d.enter.Outcome(ctx, s, action, audit.Target{Kind: f.Kind, ID: f.Key}, outcome, "folded", audit.Set("bucket", "", f.Bucket.Format(time.RFC3339)))
			if err != nil {
				return err
			}
			ev.Count = f.Count
			events = append(events, ev)
		}
		err := d.store.Change(ctx, s, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
			return events, w.DropFolds(ctx, due)
		})
		if err != nil {
			return err
		}
	}
}
