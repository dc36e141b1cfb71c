package disclose_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

// watched counts the reading transactions that are open, and answers private values that somebody changed.
type watched struct {
	store.Store
	open    int
	stale   int // of them that were refused
	changed func([]audit.Private) []audit.Private
}

func (w *watched) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	w.open++
	defer func() { w.open-- }()
	err := w.Store.View(ctx, s, func(ctx context.Context, r store.Reader) error { return fn(ctx, tampered{r, w}) })
	if errors.Is(err, store.ErrStale) {
		w.stale++
	}
	return err
}

type tampered struct {
	store.Reader
	w *watched
}

func (r tampered) Audit() store.Audit { return private{r.Reader.Audit(), r.w} }

type private struct {
	store.Audit
	w *watched
}

func (p private) Find(ctx context.Context, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	page, err := p.Audit.Find(ctx, q, f)
	for i := range page.Items {
		if p.w.changed != nil && len(page.Items[i].Private) == 3 { // of those that were made here
			page.Items[i].Private = p.w.changed(page.Items[i].Private)
		}
	}
	return page, err
}

// writes is a reader who lets do look at each part.
type writes func([]byte) error

func (w writes) Write(p []byte) (int, error) { return len(p), w(p) }

func logged(t *testing.T, entries int) (*disclose.Disclose, *watched, access.Scope) {
	t.Helper()
	d, w, e := made(t)
	s := e.System(ident.Tenant{7}, "checkpoint", access.Origin{Address: "192.0.2.1", Agent: "test"})
	for range entries {
		w.change(t, e, s, func(context.Context, store.Writer) error { return nil })
	}
	return d, w, s
}

// change makes an entry with private values.
func (w *watched) change(t *testing.T, e *enter.Enter, s access.Scope, fn func(context.Context, store.Writer) error) {
	t.Helper()
	ev, err := e.Event(t.Context(), s, audit.NodeCreated, audit.Target{Kind: "node", ID: "n"}, audit.Set("name", "", "pump"))
	if err == nil {
		err = w.Change(t.Context(), s, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
			return []audit.Event{ev}, fn(ctx, wr)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func made(t *testing.T) (*disclose.Disclose, *watched, *enter.Enter) {
	t.Helper()
	keys, err := keyring.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	cache := enter.NewCache(10)
	w := &watched{Store: memory.New(memory.Options{Revised: cache.Revised})}
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	e := enter.New(w, cache, enter.Recorder{Mint: mint, Sealer: keys, Peppers: keys}, slog.New(slog.DiscardHandler))
	return disclose.New(e, w, keys), w, e
}

// Who reads an export slowly holds no transaction meanwhile, and takes one export of a log at a time.
func TestAnExportHoldsNobodyUp(t *testing.T) {
	d, w, s := logged(t, 3)
	for name, export := range map[string]func() (func(context.Context, io.Writer) error, error){
		"entries": func() (func(context.Context, io.Writer) error, error) {
			return d.Export(t.Context(), s, store.AuditFilter{})
		},
		"bundle": func() (func(context.Context, io.Writer) error, error) { return d.Bundle(t.Context(), s, true) },
	} {
		write, err := export()
		if err != nil {
			t.Fatal(err)
		}
		parts := 0
		err = write(t.Context(), writes(func([]byte) error {
			if parts++; w.open > 0 {
				t.Errorf("%s: written with %d transactions open", name, w.open)
			}
			if parts == 1 {
				again, err := export()
				if err == nil {
					err = again(t.Context(), writes(func([]byte) error { return nil }))
				}
				if f := fault.As(err); f == nil || f.Code != "export_running" {
					t.Errorf("%s: a second one at the same time: %v", name, err)
				}
			}
			return nil
		}))
		if err != nil || parts < 3 {
			t.Errorf("%s: %d parts, %v", name, parts, err)
		}
	}
	write, err := d.Export(t.Context(), s, store.AuditFilter{})
	gone := errors.New("gone")
	if err == nil {
		err = write(t.Context(), writes(func([]byte) error { return gone }))
	}
	if !errors.Is(err, gone) {
		t.Errorf("a reader who went away: %v", err)
	}
	if write, err = d.Export(t.Context(), s, store.AuditFilter{}); err == nil {
		err = write(t.Context(), writes(func([]byte) error { return nil }))
	}
	if err != nil {
		t.Errorf("after one that broke off: %v", err)
	}
}

// What was narrowed in the middle of an export is decided anew, once, and ends it for whoever was removed.
func TestAnExportGoesOnByTheRightsOfNow(t *testing.T) {
	d, w, e := made(t)
	own, reader, system := ident.Tenant{7}, ident.Principal{7}, e.System(ident.Tenant{7}, "test", access.Origin{})
	w.change(t, e, system, func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Tenants().Put(ctx, tenant.Tenant{ID: own, Name: "acme", State: tenant.Active})
		return err
	})
	w.change(t, e, system, func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Nodes().Put(ctx, org.Node{ID: ident.Node{1}, Kind: org.Customer, Name: "acme"})
		return err
	})
	w.change(t, e, system, func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Members().Put(ctx, principal.Member{ID: reader, Kind: principal.Human})
		return err
	})
	w.change(t, e, system, func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Memberships().Put(ctx, access.Membership{ID: ident.Membership{1}, Principal: reader, Role: access.Owner, Node: ident.Node{1}, Recursive: true})
		return err
	})
	for range 2000 { // three readings of a thousand
		w.change(t, e, system, func(context.Context, store.Writer) error { return nil })
	}
	who := enter.Identity{Actor: access.Actor{Kind: access.Human, ID: reader}, Subject: access.Subject{Principal: reader}, Tenant: own}
	for _, c := range []struct {
		what string
		put  func(context.Context, store.Writer) error
		want error
	}{
		{"another's membership", func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Memberships().Put(ctx, access.Membership{ID: ident.Membership{2}, Principal: ident.Principal{8}, Role: access.Owner, Node: ident.Node{1}})
			return err
		}, nil},
		{"the reader's removal", func(ctx context.Context, wr store.Writer) error { return wr.Members().Delete(ctx, reader, 1) }, fault.Missing()},
	} {
		s, err := e.Gate(t.Context(), who, own, access.AuditExport, enter.Root, access.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		write, err := d.Export(t.Context(), s, store.AuditFilter{})
		if err != nil {
			t.Fatal(err)
		}
		began, parts := w.stale, 0
		err = write(t.Context(), writes(func([]byte) error {
			if parts++; parts == 1 {
				w.change(t, e, system, c.put)
			}
			return nil
		}))
		if !errors.Is(err, c.want) || w.stale != began+1 {
			t.Errorf("beside %s: %v after %d parts, refused %d times", c.what, err, parts, w.stale-began)
		}
	}
}

// Private values that somebody changed beside the log are not answered as an entry's, and are named by the verifier.
func TestChangedPrivateValuesAreNotAnswered(t *testing.T) {
	d, w, s := logged(t, 3)
	if values, err := d.Private(t.Context(), s, 1); err != nil || len(values) != 3 || values[0].Value != "pump" {
		t.Fatalf("untouched: %v, %v", values, err)
	}
	for name, change := range map[string]func([]audit.Private) []audit.Private{
		"swapped":   func(p []audit.Private) []audit.Private { p[1].Sealed, p[2].Sealed = p[2].Sealed, p[1].Sealed; return p },
		"broken":    func(p []audit.Private) []audit.Private { p[0].Sealed[40] ^= 1; return p },
		"gone":      func(p []audit.Private) []audit.Private { return p[1:] },
		"all gone":  func([]audit.Private) []audit.Private { return nil },
		"elsewhere": func(p []audit.Private) []audit.Private { p[0].Field = "note"; return p },
	} {
		w.changed = change
		values, err := d.Private(t.Context(), s, 1)
		if f := fault.As(err); f == nil || f.Code != "private_tampered" || values != nil {
			t.Errorf("%s: %v, %v", name, values, err)
		}
		write, err := d.Bundle(t.Context(), s, true)
		if err != nil {
			t.Fatal(err)
		}
		var bundle bytes.Buffer
		if err := write(t.Context(), &bundle); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		policy, err := audit.ParsePolicy(d.Policy(s.Tenant()))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := audit.Verify(&bundle, policy, nil, audit.Serial); err != nil || r.Verdict != audit.Tampered || r.Bad != 0 {
			t.Errorf("%s: the verifier says %+v, %v", name, r, err)
		}
	}
}
