package storetest

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/ports/store"
)

func auditRows(t testing.TB, w *World) {
	var head audit.Head
	var leaves [][]byte
	var hashes []audit.Hash
	for i := range 9 {
		ev := w.event(fmt.Sprint(i))
		ev.Changes = []audit.Change{audit.Set("name", "", "x"), audit.Set("state", "", "active")}
		ev.Changes[0].New.Nonce, ev.Changes[0].New.Sealed = [16]byte{byte(i + 7)}, []byte("sealed")
		s := w.A
		out, err := audit.Append(head, audit.Context{Tenant: s.Tenant(), ActorKind: string(s.Actor().Kind), Actor: s.Actor().Name()}, []audit.Event{ev}, w.now)
		if err != nil {
			t.Fatal(err)
		}
		head = out.Head
		leaves, hashes = append(leaves, out.Entries[0].Leaf), append(hashes, out.Hashes...)
		if err := w.Store.Change(w.ctx, s, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil }); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Second)
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		got, err := r.Audit().Head(ctx)
		if err != nil || got.Size != 9 || got.Root() != head.Root() {
			t.Errorf("head: size %d, %v", got.Size, err)
		}
		idx := make([]int64, len(hashes))
		for i := range idx {
			idx[i] = int64(i)
		}
		stored, err := r.Audit().Hashes(ctx, idx)
		if err != nil {
			return err
		}
		for i := range hashes {
			if stored[i] != hashes[i] {
				t.Errorf("hash %d is another", i)
			}
		}
		for i := range leaves {
			e, err := r.Audit().Entry(ctx, uint64(i))                                    //nolint:gosec // small
			if err != nil || string(e.Leaf) != string(leaves[i]) || e.Seq != uint64(i) { //nolint:gosec // small
				t.Errorf("entry %d: %s, %v", i, e.Leaf, err)
			}
		}
		page, err := r.Audit().Find(ctx, store.Query{Reach: access.Everywhere, Limit: 4}, store.AuditFilter{FromSeq: 2, ToSeq: 8, Action: string(audit.DeviceCreated)})
		if err != nil || len(page.Items) != 4 || page.Items[0].Seq != 7 || page.Items[0].Private != nil || page.Next == "" {
			t.Errorf("a query: %d entries, %v", len(page.Items), err)
		}
		if page, err = r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, store.AuditFilter{ToSeq: 1, Private: true}); err != nil || len(page.Items) != 1 || fmt.Sprint(page.Items[0].Private) != fmt.Sprint([]audit.Private{{Field: "name", New: true, Nonce: [16]byte{7}, Sealed: []byte("sealed")}}) {
			t.Errorf("the first entry with its private values: %+v, %v", page.Items, err)
		}
		for _, f := range []store.AuditFilter{{FromSeq: 9}, {FromSeq: math.MaxUint64}, {FromSeq: math.MaxInt64 + 1, ToSeq: math.MaxUint64}} {
			if page, err = r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, f); err != nil || len(page.Items) != 0 {
				t.Errorf("behind the end, %+v: %d entries, %v", f, len(page.Items), err)
			}
		}
		page, err = r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, store.AuditFilter{FromSeq: 8, ToSeq: math.MaxUint64})
		if len(page.Items) != 1 {
			t.Errorf("%d entries up to the last number there is", len(page.Items))
		}
		return err
	})
}
