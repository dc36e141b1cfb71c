package storetest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
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

// Script does what tenants do to their logs, with a fixed clock and fixed ids, and answers the logs as text: changes that
// succeed and fail, of several events and with personal values, refusals, changes of two trees at once, a clock that is set back.
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

	var b strings.Builder
	for _, s := range []access.Scope{w.Platform, w.A, w.B} {
		w.view(t, s, func(ctx context.Context, r store.Reader) error {
			head, err := r.Audit().Head(ctx)
			if err != nil {
				return err
			}
			rev, err := r.Revision(ctx)
			root := head.Root()
			fmt.Fprintf(&b, "tenant %s size %d revision %d root %x\n", s.Tenant(), head.Size, rev, root[:])
			for seq := range head.Size {
				e, eerr := r.Audit().Entry(ctx, seq)
				err = errors.Join(err, eerr)
				fmt.Fprintf(&b, "%s\n", e.Leaf)
			}
			return err
		})
	}
	return b.String()
}
