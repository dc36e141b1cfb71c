package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

// mapping puts a mapping, which must be possible.
func (w *World) mapping(t testing.TB, s access.Scope, connection, application string, to ident.Tenant) source.Mapping {
	t.Helper()
	m := source.Mapping{Connection: connection, Application: application, Tenant: to, Source: ident.Source{1}, CreatedAt: w.now, UpdatedAt: w.now}
	set(w, &m.ID)
	w.change(t, s, func(ctx context.Context, wr store.Writer) (err error) {
		m, err = wr.Mappings().Put(ctx, m)
		return err
	})
	return m
}

// mappings are the platform's; a tenant's of the same connection and application would be another one.
func mappings(t testing.TB, w *World) {
	a, b := w.A.Tenant(), w.B.Tenant()
	eu := w.mapping(t, w.Platform, "eu", "1", a)
	beside := w.mapping(t, w.Platform, "eu", "ü 2", b)
	longer := w.mapping(t, w.Platform, "eu-1", "1", a)
	w.mapping(t, w.A, "us", "1", a)
	w.mapping(t, w.A, "eu", "1", b)
	again := eu
	again.Rev, again.Source = 0, ident.Source{2}
	set(w, &again.ID)
	put := func(ctx context.Context, wr store.Writer) error { _, err := wr.Mappings().Put(ctx, again); return err }
	err := w.try(w.Platform, put)
	if wantKind(t, err, fault.Conflict, "an application that is somebody's"); fault.As(err) != nil && fault.As(err).Code != "taken" {
		t.Errorf("it is refused as %s", fault.As(err).Code)
	}
	w.view(t, w.Platform, func(ctx context.Context, r store.Reader) error {
		shelf := r.Mappings()
		for _, m := range []source.Mapping{eu, beside, longer} {
			got, err := shelf.ByApplication(ctx, m.Connection, m.Application)
			read, err2 := shelf.Get(ctx, m.ID)
			if err != nil || err2 != nil || got != m || read != m {
				t.Errorf("%s: by application %+v, %v; by id %+v, %v; want %+v", m.Claim(), got, err, read, err2, m)
			}
		}
		for _, of := range [][2]string{{"us", "1"}, {"eu", ""}, {"", "1"}, {"EU", "1"}, {"eu", "%"}, {"e", "u/1"}, {"eu-1", "ü 2"}} {
			_, err := shelf.ByApplication(ctx, of[0], of[1])
			wantKind(t, err, fault.NotFound, fmt.Sprintf("%q", of))
		}
		everywhere := store.Query{Reach: access.Everywhere}
		for f, want := range map[store.MappingFilter][]ident.Mapping{
			{}: {longer.ID, beside.ID, eu.ID}, {Connection: "eu"}: {beside.ID, eu.ID}, {Connection: "eu-1"}: {longer.ID}, {Connection: "us"}: nil, {Connection: "e"}: nil, {Connection: "%"}: nil,
			{Tenant: a}: {longer.ID, eu.ID}, {Connection: "eu", Tenant: a}: {eu.ID}, {Tenant: ident.Platform}: nil,
		} {
			if got, err := found(ctx, shelf, everywhere, f); err != nil || !slices.Equal(got, want) {
				t.Errorf("%+v: %v, want %v, %v", f, got, want, err)
			}
			if got, err := found(ctx, shelf, store.Query{}, f); err != nil || len(got) > 0 {
				t.Errorf("%+v without reach: %v, %v", f, got, err)
			}
		}
		first, err := found(ctx, shelf, store.Query{Reach: access.Everywhere, Limit: 1}, store.MappingFilter{Connection: "eu"})
		_, forged := shelf.Find(ctx, store.Query{Reach: access.Everywhere, After: "x"}, store.MappingFilter{})
		wantIs(t, forged, store.ErrCursor, "after a forged cursor")
		n, err2 := shelf.Count(ctx)
		if n != 3 || !slices.Equal(first, []ident.Mapping{beside.ID, eu.ID}) {
			t.Errorf("%d are counted, want 3; over pages of one: %v", n, first)
		}
		return errors.Join(err, err2)
	})
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		_, err := r.Mappings().Get(ctx, eu.ID)
		wantKind(t, err, fault.NotFound, "the platform's mapping under a tenant's scope")
		got, err := r.Mappings().ByApplication(ctx, "eu", "1")
		if err != nil || got.Tenant != b {
			t.Errorf("a tenant's scope finds %+v, %v", got, err)
		}
		return nil
	})
	w.view(t, w.B, func(ctx context.Context, r store.Reader) error {
		got, err := found(ctx, r.Mappings(), store.Query{Reach: access.Everywhere}, store.MappingFilter{})
		n, err2 := r.Mappings().Count(ctx)
		_, err3 := r.Mappings().ByApplication(ctx, "eu", "1")
		if wantKind(t, err3, fault.NotFound, "another tenant's mapping"); len(got) > 0 || n > 0 {
			t.Errorf("another tenant finds %v and counts %d", got, n)
		}
		return errors.Join(err, err2)
	})
	before := w.revision(t, w.Platform)
	w.change(t, w.Platform, func(ctx context.Context, wr store.Writer) error { return wr.Mappings().Delete(ctx, eu.ID, eu.Rev) })
	w.view(t, w.Platform, func(ctx context.Context, r store.Reader) error {
		_, err := r.Mappings().ByApplication(ctx, "eu", "1")
		wantKind(t, err, fault.NotFound, "an application whose mapping is gone")
		return nil
	})
	w.change(t, w.Platform, put)
	if after := w.revision(t, w.Platform); after != before+2 {
		t.Errorf("the revision went from %d to %d over two changes of mappings", before, after)
	}
}

// tenures are the platform's, one an application, and each follows the one before.
func tenures(t testing.TB, w *World) {
	a, b := w.A.Tenant(), w.B.Tenant()
	m := source.Mapping{Connection: "eu", Application: "ü 1", Tenant: a, CreatedAt: w.now}
	end := func(s access.Scope, past source.Tenure, m source.Mapping) (kept source.Tenure) {
		t.Helper()
		w.change(t, s, func(ctx context.Context, wr store.Writer) (err error) {
			kept, err = wr.Tenures().Put(ctx, past.After(m, w.now.Add(time.Hour)))
			return err
		})
		return kept
	}
	first := end(w.Platform, source.Tenure{}, m)
	beside := m
	beside.Application = "2"
	other := end(w.Platform, source.Tenure{}, beside)
	wantKind(t, w.try(w.Platform, func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Tenures().Put(ctx, source.Tenure{}.After(m, w.now))
		return err
	}), fault.Conflict, "a second one of an application")
	m.Tenant, m.CreatedAt = b, w.now.Add(2*time.Hour)
	last := end(w.Platform, first, m)
	if own := end(w.A, source.Tenure{}, beside); own.Rev != 1 {
		t.Errorf("a tenant's of the same application is of revision %d", own.Rev)
	}
	stale := first.After(m, w.now)
	wantIs(t, w.try(w.Platform, func(ctx context.Context, wr store.Writer) error {
		_, err := wr.Tenures().Put(ctx, stale)
		return err
	}), store.ErrRevision, "one that does not follow the last")
	w.view(t, w.Platform, func(ctx context.Context, r store.Reader) error {
		for _, want := range []source.Tenure{last, other} {
			if got, err := r.Tenures().Get(ctx, source.TenureID(want.Claim)); err != nil || got != want || got.Others != (want == last) {
				t.Errorf("%+v, %v, want %+v", got, err, want)
			}
		}
		_, err := r.Tenures().Get(ctx, source.TenureID("eu/3"))
		wantKind(t, err, fault.NotFound, "an application that nobody had")
		return nil
	})
	for what, s := range map[string]access.Scope{"a tenant that has one of another application": w.A, "another tenant": w.B} {
		w.view(t, s, func(ctx context.Context, r store.Reader) error {
			_, err := r.Tenures().Get(ctx, last.ID)
			wantKind(t, err, fault.NotFound, "the platform's, under the scope of "+what)
			return nil
		})
	}
}

// found are the ids that a filter finds, over all pages.
func found(ctx context.Context, shelf store.Mappings, q store.Query, f store.MappingFilter) (ids []ident.Mapping, err error) {
	for {
		page, err := shelf.Find(ctx, q, f)
		for _, m := range page.Items {
			ids = append(ids, m.ID)
		}
		if q.After = page.Next; err != nil || q.After == "" {
			return ids, err
		}
	}
}

// revision is a tenant's policy revision.
func (w *World) revision(t testing.TB, s access.Scope) (rev uint64) {
	t.Helper()
	w.view(t, s, func(ctx context.Context, r store.Reader) (err error) { rev, err = r.Revision(ctx); return err })
	return rev
}
