package storetest

import (
	"context"
	"crypto/ed25519"
	_ "embed"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// What a store may not decide is fixed here: the same script leaves the same log on every adapter, byte for byte, for ever.
//
//go:embed testdata/audit.golden
var goldenLog string

func golden(t testing.TB, w *World) {
	got := Script(t, w)
	if got == goldenLog {
		return
	}
	have, want := strings.Split(got, "\n"), strings.Split(goldenLog, "\n")
	for i := range min(len(have), len(want)) {
		if have[i] != want[i] {
			t.Errorf("line %d of the log:\n  have %s\n  want %s", i+1, have[i], want[i])
			return
		}
	}
	t.Errorf("the log has %d lines, want %d", len(have), len(want))
}

// fixedKey signs the script's checkpoints: the same bytes in every run. It says nothing about who may sign.
type fixedKey struct{}

func (fixedKey) Name() string    { return "storetest.example/audit" }
func (fixedKey) KeyHash() uint32 { return 7 }
func (fixedKey) Sign(msg []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), msg), nil
}

// Script does what tenants do to their logs, with a fixed clock, fixed ids and a fixed key, and answers as text what is kept:
// changes that succeed and fail, of several events and with personal values, refusals, changes of two trees at once, a clock
// that is set back, checkpoints, and a list that is longer than its pages.
func Script(t testing.TB, w *World) string {
	t.Helper()
	personal := func(field, value string, n byte) audit.Change {
		c := audit.Set(field, "", value)
		c.New.Nonce, c.New.Sealed = [16]byte{n}, []byte("sealed")
		return c
	}
	human := access.Grant(w.A.Tenant(), access.Actor{Kind: access.Human, ID: ident.Principal{5}, Accessor: "acc", AMR: "pwd"},
		access.Origin{Request: ident.Request{6}, Trace: "0af7651916cd43dd8448eb211c80319c"}, access.Decision{Allowed: true}, nil, access.Subject{}, w.now)
	refusal := access.Grant(w.A.Tenant(), access.Actor{Kind: access.Anonymous}, access.Origin{}, access.Decision{}, nil, access.Subject{}, w.now)
	append1 := func(s access.Scope, fail error, evs ...audit.Event) {
		t.Helper()
		err := w.Store.Change(w.ctx, s, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) { return evs, fail })
		if !errors.Is(err, fail) {
			t.Fatalf("change: %v, want %v", err, fail)
		}
	}
	checkpoint := func(s access.Scope) {
		t.Helper()
		var head audit.Head
		w.view(t, s, func(ctx context.Context, r store.Reader) (err error) { head, err = r.Audit().Head(ctx); return err })
		signed, err := audit.Checkpoint{Origin: audit.Origin("storetest.example", s.Tenant()), Size: head.Size, Root: head.Root()}.Sign(fixedKey{})
		if err != nil {
			t.Fatal(err)
		}
		w.ingest(t, s, func(ctx context.Context, f store.Flow) error {
			return f.Checkpoint(ctx, audit.StoredCheckpoint{Size: head.Size, Note: signed})
		})
	}
	mine := fault.New(fault.Conflict, "mine", "Mine.")
	for i := range 12 {
		ev := w.event(fmt.Sprintf("dev_%d", i))
		ev.Changes = []audit.Change{personal("name", "Ana's pump", byte(i)), audit.Set("state", "", "active")}
		ev.Address = audit.Personal{Value: "192.0.2.7", Nonce: [16]byte{9}, Sealed: []byte("sealed")}
		append1(w.A, nil, ev)
		append1(human, mine, w.event("never"))
		append1(human, nil, w.event("a"), w.event("b"), w.event("c"))
		w.now = w.now.Add(1234567 * time.Microsecond)
	}
	checkpoint(w.A)
	denied := w.event("denied")
	denied.Outcome, denied.Action, denied.Reason, denied.Count = audit.Denied, audit.AuthzFail, "not_found", 41
	append1(refusal, nil, denied)
	pe, te := w.event("p"), w.event("t")
	if err := w.Store.Across(w.ctx, w.Platform, w.B, func(ctx context.Context, p, tw store.Writer) ([]audit.Event, []audit.Event, error) {
		_, err := tw.Roles().Put(ctx, access.Role{ID: ident.Role{7}, Name: "reader", Permissions: access.SetOf(access.NodeRead)})
		return []audit.Event{pe}, []audit.Event{te}, err
	}); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(-time.Hour)
	append1(w.A, nil, w.event("after the clock was set back"))

	for i := range 7 {
		w.device(t, w.A, ident.Node{byte(i%2 + 1)}, fmt.Sprintf("serial%d", i))
	}
	checkpoint(w.A)
	checkpoint(w.Platform)

	var b strings.Builder
	for _, s := range []access.Scope{w.Platform, w.A, w.B} {
		w.view(t, s, func(ctx context.Context, r store.Reader) error {
			return errors.Join(writeLog(ctx, &b, s.Tenant(), r), writeDevices(ctx, &b, r))
		})
	}
	return b.String()
}

// writeLog writes a tenant's log as it is read back: head, entries, the hashes of its tree by tlog index, checkpoints.
func writeLog(ctx context.Context, b *strings.Builder, id ident.Tenant, r store.Reader) error {
	head, err := r.Audit().Head(ctx)
	if err != nil {
		return err
	}
	rev, err := r.Revision(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "tenant %s size %d revision %d root %x\n", id, head.Size, rev, [32]byte(head.Root()))
	for seq := range head.Size {
		e, err := r.Audit().Entry(ctx, seq)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "%s\n", e.Leaf)
	}
	indexes := make([]int64, 2*int(head.Size)-bits.OnesCount64(head.Size)) //nolint:gosec // the script's few
	for i := range indexes {
		indexes[i] = int64(i)
	}
	hashes, err := r.Audit().Hashes(ctx, indexes)
	if err != nil {
		return err
	}
	for i, h := range hashes {
		fmt.Fprintf(b, "hash %d %x\n", i, [32]byte(h))
	}
	points, err := r.Audit().Checkpoints(ctx, 0, store.MaxPage)
	for _, c := range points {
		fmt.Fprintf(b, "checkpoint %d %q\n", c.Size, c.Note)
	}
	return err
}

// writeDevices writes the order of a list, page by page.
func writeDevices(ctx context.Context, b *strings.Builder, r store.Reader) error {
	for q := (store.Query{Reach: access.Everywhere, Limit: 3}); ; {
		p, err := r.Devices().List(ctx, q)
		if err != nil {
			return err
		}
		fmt.Fprint(b, "devices")
		for _, d := range p.Items {
			fmt.Fprintf(b, " %s", d.ID)
		}
		fmt.Fprintln(b)
		if q.After = p.Next; p.Next == "" {
			return nil
		}
	}
}
