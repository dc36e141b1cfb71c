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
	"github.com/ringfence/ringfence/ports/store"
)

// watched counts the reading transactions that are open, and answers private values that somebody changed.
type watched struct {
	store.Store
	open    int
	changed func([]audit.Private) []audit.Private
}

func (w *watched) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	w.open++
	defer func() { w.open-- }()
	return w.Store.View(ctx, s, func(ctx context.Context, r store.Reader) error { return fn(ctx, tampered{r, w}) })
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
	keys, err := keyring.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	cache := enter.NewCache(10)
	w := &watched{Store: memory.New(memory.Options{Revised: cache.Revised})}
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	e := enter.New(w, cache, enter.Recorder{Mint: mint, Sealer: keys, Peppers: keys}, slog.New(slog.DiscardHandler))
	s := e.System(ident.Tenant{7}, "checkpoint", access.Origin{Address: "192.0.2.1", Agent: "test"})
	for range entries {
		ev, err := e.Event(t.Context(), s, audit.NodeCreated, audit.Target{Kind: "node", ID: "n"}, audit.Set("name", "", "pump"))
		if err == nil {
			err = w.Change(t.Context(), s, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return disclose.New(e, w, keys), w, s
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
