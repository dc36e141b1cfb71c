package disclose

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// note records that the log is read, and commits it, before anything of it is answered: one entry a query.
func (d *Disclose) note(ctx context.Context, s access.Scope, a audit.Action, of audit.Target) error {
	ev, err := d.enter.Outcome(ctx, s, a, of, audit.OK, "")
	if err != nil {
		return err
	}
	return d.store.Change(ctx, s, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil })
}

// Entries lists entries of the scope's tenant, newest first.
func (d *Disclose) Entries(ctx context.Context, s access.Scope, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	var page store.Page[audit.Entry]
	if err := d.note(ctx, s, audit.SensitiveRead, audit.Target{Kind: "audit", ID: "query"}); err != nil {
		return page, err
	}
	q.Reach = access.Everywhere // the log as a whole is decided at the root, by the gate
	err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		page, err = r.Audit().Find(ctx, q, f)
		return err
	})
	return page, err
}

// Entry answers one entry.
func (d *Disclose) Entry(ctx context.Context, s access.Scope, seq uint64) (audit.Entry, error) {
	var e audit.Entry
	if err := d.note(ctx, s, audit.SensitiveRead, audit.Target{Kind: "audit_entry", ID: strconv.FormatUint(seq, 10)}); err != nil {
		return e, err
	}
	err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		e, err = r.Audit().Entry(ctx, seq)
		return err
	})
	return e, err
}

// Proof answers a receipt that an entry stands in the log, with its leaf.
func (d *Disclose) Proof(ctx context.Context, s access.Scope, seq uint64) (audit.Proof, []byte, error) {
	var p audit.Proof
	var leaf []byte
	if err := d.note(ctx, s, audit.SensitiveRead, audit.Target{Kind: "audit_proof", ID: strconv.FormatUint(seq, 10)}); err != nil {
		return p, nil, err
	}
	c, err := d.Checkpoint(ctx, s.Tenant())
	if err != nil {
		return p, nil, err
	}
	err = d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		e, err := r.Audit().Entry(ctx, seq)
		if err != nil {
			return err
		}
		if seq >= c.Size {
			return fault.Missing()
		}
		leaf = e.Leaf
		p, err = audit.Prove(seq, c.Size, c.Note, func(idx []int64) ([]audit.Hash, error) { return r.Audit().Hashes(ctx, idx) })
		return err
	})
	return p, leaf, err
}

// LatestCheckpoint answers a signed checkpoint of the log as it is now. It holds no content, so reading it is not recorded.
func (d *Disclose) LatestCheckpoint(ctx context.Context, s access.Scope) (audit.StoredCheckpoint, error) {
	return d.Checkpoint(ctx, s.Tenant())
}

// Checkpoint signs a tenant's tree head and keeps it, if the tree has grown since the last one.
func (d *Disclose) Checkpoint(ctx context.Context, t ident.Tenant) (audit.StoredCheckpoint, error) {
	s := d.enter.System(t, "checkpoint", access.Origin{})
	var head audit.Head
	var last audit.StoredCheckpoint
	err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		if head, err = r.Audit().Head(ctx); err != nil || head.Size == 0 {
			return err
		}
		kept, err := r.Audit().Checkpoints(ctx, head.Size-1, 1)
		if len(kept) > 0 {
			last = kept[0]
		}
		return err
	})
	if err != nil || last.Size > 0 {
		return last, err
	}
	signed, err := audit.Checkpoint{Origin: audit.Origin(d.log.Instance(), t), Size: head.Size, Root: head.Root()}.Sign(d.log.Signer())
	if err != nil {
		return last, fault.Wrap(err, fault.Internal, "sign", "The checkpoint could not be signed.")
	}
	next := audit.StoredCheckpoint{Size: head.Size, Note: signed}
	err = d.store.Ingest(ctx, s, func(ctx context.Context, f store.Flow) error { return f.Checkpoint(ctx, next) })
	if fault.Is(err, fault.Conflict) {
		err = nil // another one was quicker; this one is as true
	}
	return next, err
}

// Bundle answers what writes the whole log, to be verified without us. A checkpoint is made first and the bundle ends there;
// that it is taken is recorded by then, so that what refuses is an error and not a bundle cut short.
func (d *Disclose) Bundle(ctx context.Context, s access.Scope) (write func(context.Context, io.Writer) error, err error) {
	if err := d.note(ctx, s, audit.AuditExported, audit.Target{Kind: "audit", ID: "bundle"}); err != nil {
		return nil, err
	}
	end, err := d.Checkpoint(ctx, s.Tenant())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, w io.Writer) error { return d.bundle(ctx, s, end, w) }, nil
}

func (d *Disclose) bundle(ctx context.Context, s access.Scope, end audit.StoredCheckpoint, w io.Writer) error {
	return d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		b := audit.NewBundleWriter(w)
		for after := uint64(0); after < end.Size; {
			kept, err := r.Audit().Checkpoints(ctx, after, 1000)
			if err != nil {
				return err
			}
			if len(kept) == 0 {
				return fault.New(fault.Internal, "no_checkpoint", "The log's newest checkpoint is not kept.")
			}
			for _, c := range kept {
				if after = c.Size; c.Size > end.Size {
					break
				}
				if err := b.Checkpoint(c); err != nil {
					return err
				}
			}
		}
		for {
			from, to := b.ChunkRange(end.Size)
			if from >= to {
				return b.Close()
			}
			if err := d.chunk(ctx, r, b, from, to); err != nil {
				return err
			}
		}
	})
}

func (d *Disclose) chunk(ctx context.Context, r store.Reader, b *audit.BundleWriter, from, to uint64) error {
	leaves := make([][]byte, to-from)
	q, f := store.Query{Reach: access.Everywhere}, store.AuditFilter{FirstSeq: from, LastSeq: to - 1}
	for {
		page, err := r.Audit().Find(ctx, q, f)
		if err != nil {
			return err
		}
		for _, e := range page.Items {
			if e.Seq >= from && e.Seq < to {
				leaves[e.Seq-from] = e.Leaf
			}
		}
		if page.Next == "" {
			break
		}
		q.After = page.Next
	}
	first, last := audit.HashRange(from, to)
	indexes := make([]int64, 0, last-first)
	for i := first; i < last; i++ {
		indexes = append(indexes, i)
	}
	hashes, err := r.Audit().Hashes(ctx, indexes)
	if err != nil {
		return err
	}
	return b.Chunk(leaves, hashes)
}

// Policy is the file that verifiers need: the log's origin and key.
func (d *Disclose) Policy(t ident.Tenant) string {
	return audit.PolicyFile(audit.Origin(d.log.Instance(), t), d.log.VerifierKey())
}

// Jobs makes what is due: checkpoints of trees that grew, entries of counters whose time is over, and expiry. It runs over
// all tenants once; the caller repeats it.
func (d *Disclose) Jobs(ctx context.Context) error {
	var failed error
	for after := (ident.Tenant{}); ; {
		page, err := d.store.Directory().Tenants(ctx, after, 500)
		if err != nil || len(page) == 0 {
			return errors.Join(failed, err)
		}
		for _, t := range page {
			after = t
			if err := d.jobs(ctx, t); err != nil {
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
	return nil
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
