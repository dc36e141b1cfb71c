package disclose

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/ports/store"
)

// note records that the log is read, and commits it, before anything of it is answered: one entry a query.
func (d *Disclose) note(ctx context.Context, s access.Scope, a audit.Action, of audit.Target, reason string) error {
	ev, err := d.enter.Outcome(ctx, s, a, of, audit.OK, reason)
	if err != nil {
		return err
	}
	return d.store.Change(ctx, s, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil })
}

// Entries lists entries of the scope's tenant, newest first.
func (d *Disclose) Entries(ctx context.Context, s access.Scope, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	var page store.Page[audit.Entry]
	if err := d.note(ctx, s, audit.SensitiveRead, audit.Target{Kind: "audit", ID: "query"}, ""); err != nil {
		return page, err
	}
	q.Reach = access.Everywhere // the log as a whole is decided at the root, by the gate
	err := d.look(ctx, &s, func(ctx context.Context, r store.Reader) error {
		var err error
		page, err = r.Audit().Find(ctx, q, f)
		return err
	})
	return page, err
}

// Entry answers one entry.
func (d *Disclose) Entry(ctx context.Context, s access.Scope, seq uint64) (audit.Entry, error) {
	var e audit.Entry
	if err := d.note(ctx, s, audit.SensitiveRead, audit.Target{Kind: "audit_entry", ID: strconv.FormatUint(seq, 10)}, ""); err != nil {
		return e, err
	}
	err := d.look(ctx, &s, func(ctx context.Context, r store.Reader) error {
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
	if err := d.note(ctx, s, audit.SensitiveRead, audit.Target{Kind: "audit_proof", ID: strconv.FormatUint(seq, 10)}, ""); err != nil {
		return p, nil, err
	}
	c, err := d.Checkpoint(ctx, s.Tenant())
	if err != nil {
		return p, nil, err
	}
	err = d.look(ctx, &s, func(ctx context.Context, r store.Reader) error {
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

// Private answers what one entry's commitments were made of. What does not fit them is not answered: it was changed since.
func (d *Disclose) Private(ctx context.Context, s access.Scope, seq uint64) ([]audit.Opened, error) {
	if err := d.note(ctx, s, audit.SensitiveRead, audit.Target{Kind: "audit_entry", ID: strconv.FormatUint(seq, 10)}, withPrivate); err != nil {
		return nil, err
	}
	found, err := d.part(ctx, &s, store.AuditFilter{FromSeq: seq, ToSeq: seq + 1, Private: true}) // behind the last number there is nothing
	if err == nil && len(found) == 0 {
		err = fault.Missing()
	}
	if err != nil {
		return nil, err
	}
	values, err := d.opened(ctx, s.Tenant(), found)
	if err != nil {
		return nil, err
	}
	if wrong := audit.CheckPrivate(found[0].Leaf, values); wrong != "" {
		return nil, fault.New(fault.Conflict, "private_tampered", "What is kept beside the log was changed since: the entry %s", wrong)
	}
	return values, nil
}

// withPrivate is the reason by which the log tells a reading of private values from one of entries alone.
const withPrivate = "private_values"

// opened are entries' private values. One that does not open, since somebody changed what is kept of it, is left out: the
// check of the entry misses it.
func (d *Disclose) opened(ctx context.Context, t ident.Tenant, of []audit.Entry) ([]audit.Opened, error) {
	values := []audit.Opened{}
	for _, e := range of {
		for _, p := range e.Private {
			plain, err := d.enter.Sealer.Open(ctx, enter.PrivatePlace(t, e.ID), p.Sealed)
			if f := fault.As(err); f != nil && f.Code == "sealed_elsewhere" {
				continue
			}
			if err != nil {
				return nil, err
			}
			values = append(values, audit.Opened{Seq: e.Seq, Field: p.Field, New: p.New, Nonce: p.Nonce, Value: string(plain)})
		}
	}
	return values, nil
}

// Digest answers what the platform's log holds of a name that somebody tried to sign in with; by the newest key, or by that of
// an older entry's digest.
func (d *Disclose) Digest(ctx context.Context, s access.Scope, login, kid string) (string, error) {
	name, err := principal.NormalizeEmail(login)
	if err != nil {
		return "", err
	}
	newest, pepper := d.enter.Peppers.Current()
	if kid == "" {
		kid = newest
	} else {
		var ok bool
		if pepper, ok = d.enter.Peppers.Pepper(kid); !ok {
			return "", fault.New(fault.Invalid, "unknown_key", "No digest was made with this key. Give the word between the colons of an entry's digest.").WithField("/key", "no key of this name")
		}
	}
	return enter.Digest(s.Tenant(), kid, pepper, audit.FieldLogin, name), d.note(ctx, s, audit.SensitiveRead, audit.Target{Kind: "audit", ID: "digest"}, "")
}

// Export answers what writes the entries that fit a filter, the oldest first, a line of canonical JSON each.
func (d *Disclose) Export(ctx context.Context, s access.Scope, f store.AuditFilter) (write func(context.Context, io.Writer) error, err error) {
	if err := d.note(ctx, s, audit.AuditExported, audit.Target{Kind: "audit", ID: "entries"}, ""); err != nil {
		return nil, err
	}
	var head audit.Head
	if err := d.look(ctx, &s, func(ctx context.Context, r store.Reader) (err error) {
		head, err = r.Audit().Head(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	return d.alone(s, func(ctx context.Context, w io.Writer) error {
		for from := uint64(0); from < head.Size; from += exportAtOnce {
			f.FromSeq, f.ToSeq = from, min(from+exportAtOnce, head.Size)
			found, err := d.part(ctx, &s, f)
			for i := 0; i < len(found) && err == nil; i++ {
				_, err = w.Write(append(found[i].Leaf, '\n'))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// exportAtOnce bounds how many entries are in memory.
const exportAtOnce = 1000

// alone lets a tenant take one export at a time: each keeps a part of a log in memory for as long as its reader is slow.
func (d *Disclose) alone(s access.Scope, write func(context.Context, io.Writer) error) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		if _, running := d.exports.LoadOrStore(s.Tenant(), true); running {
			return fault.New(fault.Exhausted, "export_running", "An export of this log is running. Wait for its end.").WithRetry(10 * time.Second)
		}
		defer d.exports.Delete(s.Tenant())
		return write(ctx, w)
	}
}

// look reads what a request has noted that it reads, and what outlasts its request: where rights were narrowed since, it is
// decided anew whether it may go on, which s then says; what is noted is not noted twice for that.
func (d *Disclose) look(ctx context.Context, s *access.Scope, fn func(context.Context, store.Reader) error) error {
	err := d.store.View(ctx, *s, fn)
	for tries := 0; errors.Is(err, store.ErrStale) && tries < 32; tries++ {
		if *s, err = d.enter.Again(ctx, *s); err == nil {
			err = d.store.View(ctx, *s, fn)
		}
	}
	return err
}

// part reads entries in a transaction of its own. A reader who is slow holds none: what is behind a log's end never changes, so
// that an export needs no one snapshot.
func (d *Disclose) part(ctx context.Context, s *access.Scope, f store.AuditFilter) (found []audit.Entry, err error) {
	err = d.look(ctx, s, func(ctx context.Context, r store.Reader) error {
		found, err = entries(ctx, r, f)
		return err
	})
	return found, err
}

// entries are those that fit a filter, the oldest first.
func entries(ctx context.Context, r store.Reader, f store.AuditFilter) ([]audit.Entry, error) {
	var found []audit.Entry
	for q := (store.Query{Reach: access.Everywhere}); ; {
		page, err := r.Audit().Find(ctx, q, f)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Items...)
		if q.After = page.Next; q.After == "" {
			slices.Reverse(found)
			return found, nil
		}
	}
}

// Bundle answers what writes the whole log, to be verified without us, with private values or without. A checkpoint is made
// first and the bundle ends there; that it is taken is recorded by then, so that what refuses is an error and not a bundle cut
// short.
func (d *Disclose) Bundle(ctx context.Context, s access.Scope, private bool) (write func(context.Context, io.Writer) error, err error) {
	reason := ""
	if private {
		reason = withPrivate
	}
	if err := d.note(ctx, s, audit.AuditExported, audit.Target{Kind: "audit", ID: "bundle"}, reason); err != nil {
		return nil, err
	}
	end, err := d.Checkpoint(ctx, s.Tenant())
	if err != nil {
		return nil, err
	}
	return d.alone(s, func(ctx context.Context, w io.Writer) error {
		return d.bundle(ctx, &s, end, private, audit.NewBundleWriter(w))
	}), nil
}

func (d *Disclose) bundle(ctx context.Context, s *access.Scope, end audit.StoredCheckpoint, private bool, b *audit.BundleWriter) error {
	for after := uint64(0); after < end.Size; {
		var kept []audit.StoredCheckpoint
		if err := d.look(ctx, s, func(ctx context.Context, r store.Reader) (err error) {
			kept, err = r.Audit().Checkpoints(ctx, after, 1000)
			return err
		}); err != nil {
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
		if err := d.chunk(ctx, s, b, from, to, private); err != nil {
			return err
		}
	}
}

// chunk writes the entries [from, to), as they and their hashes are kept.
func (d *Disclose) chunk(ctx context.Context, s *access.Scope, b *audit.BundleWriter, from, to uint64, private bool) error {
	first, last := audit.HashRange(from, to)
	indexes := make([]int64, 0, last-first)
	for i := first; i < last; i++ {
		indexes = append(indexes, i)
	}
	var hashes []audit.Hash
	var found []audit.Entry
	if err := d.look(ctx, s, func(ctx context.Context, r store.Reader) (err error) {
		if hashes, err = r.Audit().Hashes(ctx, indexes); err == nil {
			found, err = entries(ctx, r, store.AuditFilter{FromSeq: from, ToSeq: to, Private: private})
		}
		return err
	}); err != nil {
		return err
	}
	leaves := make([][]byte, to-from)
	for _, e := range found { // one that is gone leaves a gap, which is found
		leaves[e.Seq-from] = e.Leaf
	}
	if err := b.Chunk(leaves, hashes); err != nil || !private {
		return err
	}
	values, err := d.opened(ctx, s.Tenant(), found)
	if err != nil {
		return err
	}
	return b.Private(values)
}

// Policy is the file that verifiers need: the log's origin and key.
func (d *Disclose) Policy(t ident.Tenant) string {
	return audit.PolicyFile(audit.Origin(d.log.Instance(), t), d.log.VerifierKey())
}
