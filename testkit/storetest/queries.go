package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

// entriesByPlace asks for the entries on what stood at a node or below it: the path is the entry's own, of then.
func entriesByPlace(t testing.TB, w *World) {
	root, site, room, other := ident.Node{1}, ident.Node{2}, ident.Node{3}, ident.Node{4}
	path := func(nodes ...ident.Node) string {
		var words []string
		for _, n := range nodes {
			words = append(words, n.String())
		}
		return strings.Join(words, "/")
	}
	for _, p := range []string{path(root), path(root, site), "", path(root, site, room), path(root, other)} {
		ev := w.event("x")
		ev.Target.Path = p
		if err := w.Store.Change(w.ctx, w.A, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for node, want := range map[ident.Node][]uint64{root: {4, 3, 1, 0}, site: {3, 1}, room: {3}, other: {4}, {9}: nil, {}: {4, 3, 2, 1, 0}} {
			var got []uint64
			for q := (store.Query{Reach: access.Everywhere, Limit: 2}); ; {
				page, err := r.Audit().Find(ctx, q, store.AuditFilter{Org: node})
				if err != nil {
					return err
				}
				for _, e := range page.Items {
					got = append(got, e.Seq)
				}
				if q.After = page.Next; q.After == "" {
					break
				}
			}
			if len(got) != len(want) {
				t.Errorf("entries at or below %s: %v, want %v", node, got, want)
				continue
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("entries at or below %s: %v, want %v", node, got, want)
					break
				}
			}
		}
		return nil
	})
}

// membersByName asks for members by their whole name, which several may have.
func membersByName(t testing.TB, w *World) {
	for i, name := range []string{"Ana", "Ben", "Ana", "ana", "Ana B"} {
		m := principal.Member{Kind: principal.Human, Name: name, CreatedAt: w.now, UpdatedAt: w.now}
		set(w, &m.ID)
		s := w.A
		if i == 2 {
			s = w.B
		}
		put := func(m principal.Member) {
			w.change(t, s, func(ctx context.Context, wr store.Writer) error {
				_, err := wr.Members().Put(ctx, m)
				return err
			})
		}
		put(m)
		if i == 1 { // renamed
			m.Name, m.Rev = "Ana", 1
			put(m)
		}
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for name, want := range map[string]int{"Ana": 2, "Ben": 0, "ana": 1, "Ana B": 1, "": 0, "%": 0} {
			page, err := r.Members().Named(ctx, name, store.Query{Reach: access.Everywhere})
			if err != nil || len(page.Items) != want {
				t.Errorf("%q: %d members, want %d, %v", name, len(page.Items), want, err)
			}
			none, err := r.Members().Named(ctx, name, store.Query{})
			if err != nil || len(none.Items) > 0 {
				t.Errorf("%q without reach: %d members, %v", name, len(none.Items), err)
			}
		}
		first, err := r.Members().Named(ctx, "Ana", store.Query{Reach: access.Everywhere, Limit: 1})
		if err != nil || len(first.Items) != 1 || first.Next == "" {
			t.Fatalf("a page of one: %d, %v", len(first.Items), err)
		}
		second, err := r.Members().Named(ctx, "Ana", store.Query{Reach: access.Everywhere, Limit: 1, After: first.Next})
		if err != nil || len(second.Items) != 1 || second.Next != "" || second.Items[0].ID == first.Items[0].ID {
			t.Errorf("the next: %+v, %v", second, err)
		}
		return nil
	})
}

// recordsByName asks for what has a name, of each noun, by the whole name.
func recordsByName(t testing.TB, w *World) {
	here := ident.Node{1}
	byName(t, w, "nodes", func(r store.Reader) store.Named[ident.Node, org.Node] { return r.Nodes() }, func(ctx context.Context, wr store.Writer, n byte, rev uint64, name string) error {
		_, err := wr.Nodes().Put(ctx, org.Node{ID: ident.Node{n}, Rev: rev, Kind: org.Site, Name: name})
		return err
	})
	byName(t, w, "roles", func(r store.Reader) store.Named[ident.Role, access.Role] { return r.Roles() }, func(ctx context.Context, wr store.Writer, n byte, rev uint64, name string) error {
		_, err := wr.Roles().Put(ctx, access.Role{ID: ident.Role{n}, Rev: rev, Name: name})
		return err
	})
	byName(t, w, "groups", func(r store.Reader) store.Named[ident.Group, access.Group] { return r.Groups() }, func(ctx context.Context, wr store.Writer, n byte, rev uint64, name string) error {
		_, err := wr.Groups().Put(ctx, access.Group{ID: ident.Group{n}, Rev: rev, Name: name})
		return err
	})
	byName(t, w, "decoders", func(r store.Reader) store.Named[ident.Decoder, decoder.Decoder] { return r.Decoders() }, func(ctx context.Context, wr store.Writer, n byte, rev uint64, name string) error {
		_, err := wr.Decoders().Put(ctx, decoder.Decoder{ID: ident.Decoder{n}, Rev: rev, Name: name})
		return err
	})
	byName(t, w, "sources", func(r store.Reader) store.Named[ident.Source, source.Source] { return r.Sources() }, func(ctx context.Context, wr store.Writer, n byte, rev uint64, name string) error {
		_, err := wr.Sources().Put(ctx, source.Source{ID: ident.Source{n}, Rev: rev, Name: name, Node: here})
		return err
	})
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Nodes().Put(ctx, org.Node{ID: ident.Node{2}, Rev: 1, Kind: org.Site, Name: "ana", DeletedAt: w.now})
		return err
	})
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		if page, err := r.Nodes().Named(ctx, "ana", store.Query{Reach: access.Everywhere}); err != nil || len(page.Items) > 0 {
			t.Errorf("a tombstone is found: %v, %v", page.Items, err)
		}
		elsewhere := store.Query{Reach: access.Reach{Nodes: []ident.Node{{9}}}}
		nodes, err := r.Nodes().Named(ctx, "Ana", elsewhere)
		sources, err2 := r.Sources().Named(ctx, "Ana", elsewhere)
		if len(nodes.Items)+len(sources.Items) > 0 {
			t.Errorf("a name reached beyond the reach: %v, %v", nodes.Items, sources.Items)
		}
		return errors.Join(err, err2)
	})
}

func byName[K comparable, V any](t testing.TB, w *World, noun string, shelf func(store.Reader) store.Named[K, V], put func(ctx context.Context, wr store.Writer, n byte, rev uint64, name string) error) {
	write := func(s access.Scope, n byte, rev uint64, name string) {
		w.change(t, s, func(ctx context.Context, wr store.Writer) error { return put(ctx, wr, n, rev, name) })
	}
	write(w.B, 1, 0, "Ben")
	for i, name := range []string{"Ana", "ana", "Ana B", "Ben"} {
		write(w.A, byte(i+1), 0, name)
	}
	write(w.A, 4, 1, "Bea")
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for name, want := range map[string]int{"Ana": 1, "ana": 1, "Ana B": 1, "Ben": 0, "Bea": 1, "": 0, "%": 0, "An_": 0, " Ana": 0} {
			page, err := shelf(r).Named(ctx, name, store.Query{Reach: access.Everywhere})
			if err != nil || len(page.Items) != want {
				t.Errorf("%s, %q: %d, want %d, %v", noun, name, len(page.Items), want, err)
			}
			none, err := shelf(r).Named(ctx, name, store.Query{})
			if err != nil || len(none.Items) > 0 {
				t.Errorf("%s, %q without reach: %d, %v", noun, name, len(none.Items), err)
			}
		}
		_, err := shelf(r).Named(ctx, "Ana", store.Query{Reach: access.Everywhere, After: "x"})
		wantIs(t, err, store.ErrCursor, noun+" after a forged cursor")
		return nil
	})
}
