package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/store"
)

func stale(t testing.TB, w *World) {
	rev := w.policyOf(t, w.A, func(ctx context.Context, wr store.Writer) error { // new ones, of what changes no decision by being there
		if _, err := w.tryRole(ctx, wr); err != nil {
			return err
		}
		_, err := wr.Memberships().Put(ctx, access.Membership{ID: ident.Membership{1}, Node: ident.Node{1}, Principal: ident.Principal{1}})
		return err
	})
	ran := false
	write := func(context.Context, store.Writer) ([]audit.Event, error) {
		ran = true
		return []audit.Event{w.event("x")}, nil
	}
	look := func(context.Context, store.Reader) error {
		ran = true
		return nil
	}
	// Each write with what is to become of a decision that was made just before it.
	for _, c := range []struct {
		what    string
		narrows bool
		put     func(context.Context, store.Writer) error
	}{
		{"a new role", false, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Roles().Put(ctx, access.Role{ID: ident.Role{8}, Name: "s"})
			return err
		}},
		{"a new group", false, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Groups().Put(ctx, access.Group{ID: ident.Group{1}, Name: "g"})
			return err
		}},
		{"a new node", false, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Nodes().Put(ctx, org.Node{ID: ident.Node{1}, Kind: org.Site, Name: "n"})
			return err
		}},
		{"a new member", false, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Members().Put(ctx, principal.Member{ID: ident.Principal{1}, Kind: principal.Human})
			return err
		}},
		{"a new tenant", false, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Tenants().Put(ctx, tenant.Tenant{ID: w.A.Tenant(), Name: "a", State: tenant.Active})
			return err
		}},
		{"a new membership", true, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Memberships().Put(ctx, access.Membership{ID: ident.Membership{2}, Node: ident.Node{1}, Principal: ident.Principal{1}})
			return err
		}},
		{"a role that is changed", true, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Roles().Put(ctx, access.Role{ID: ident.Role{8}, Rev: 1, Name: "t"})
			return err
		}},
		{"a group that is changed", true, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Groups().Put(ctx, access.Group{ID: ident.Group{1}, Rev: 1, Name: "h"})
			return err
		}},
		{"a node that is changed", true, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Nodes().Put(ctx, org.Node{ID: ident.Node{1}, Rev: 1, Kind: org.Site, Name: "m"})
			return err
		}},
		{"a tenant that is changed", true, func(ctx context.Context, wr store.Writer) error {
			_, err := wr.Tenants().Put(ctx, tenant.Tenant{ID: w.A.Tenant(), Rev: 1, Name: "a", State: tenant.Suspended})
			return err
		}},
		{"another tenant, as the platform's register has them", false, func(ctx context.Context, wr store.Writer) error {
			other, err := wr.Tenants().Put(ctx, tenant.Tenant{ID: w.B.Tenant(), Name: "b", State: tenant.Active})
			if err == nil {
				other.Name = "c"
				_, err = wr.Tenants().Put(ctx, other)
			}
			return err
		}},
		{"a member that is removed", true, func(ctx context.Context, wr store.Writer) error {
			return wr.Members().Delete(ctx, ident.Principal{1}, 1)
		}},
		{"a new node beside a role that is removed", true, func(ctx context.Context, wr store.Writer) error {
			if err := wr.Roles().Delete(ctx, ident.Role{8}, 2); err != nil {
				return err
			}
			_, err := wr.Nodes().Put(ctx, org.Node{ID: ident.Node{2}, Kind: org.Site, Name: "n"})
			return err
		}},
	} {
		before := rev
		if rev = w.policyOf(t, w.A, c.put); rev != before+1 {
			t.Errorf("%s: revision %d after %d", c.what, rev, before)
		}
		ran = false
		told := len(w.tellings())
		err := w.Store.Change(w.ctx, w.Scope(w.A.Tenant(), before), write)
		switch got := errors.Is(err, store.ErrStale); {
		case got != c.narrows || ran == c.narrows:
			t.Errorf("%s: a decision of before: %v, and its function ran: %v", c.what, err, ran)
		case c.narrows && !slices.Contains(w.tellings()[told:], w.A.Tenant()):
			t.Errorf("%s: Revised was not told of a stale scope", c.what)
		}
		ran, told = false, len(w.tellings())
		err = w.Store.View(w.ctx, w.Scope(w.A.Tenant(), before), look)
		switch got := errors.Is(err, store.ErrStale); {
		case got != c.narrows || ran == c.narrows:
			t.Errorf("%s: reading by a decision of before: %v, and its function ran: %v", c.what, err, ran)
		case c.narrows && !slices.Contains(w.tellings()[told:], w.A.Tenant()):
			t.Errorf("%s: Revised was not told of a stale reader", c.what)
		}
		if err := w.Store.View(w.ctx, w.Scope(w.A.Tenant(), rev), look); err != nil {
			t.Errorf("%s: reading by a decision of now: %v", c.what, err)
		}
	}
	ran = false
	across := w.Store.Across(w.ctx, w.Platform, w.Scope(w.A.Tenant(), rev-1), func(context.Context, store.Writer, store.Writer) ([]audit.Event, []audit.Event, error) {
		ran = true
		return []audit.Event{w.event("x")}, []audit.Event{w.event("x")}, nil
	})
	wantIs(t, across, store.ErrStale, "a scope of an older revision beside the platform's")
	if ran {
		t.Error("the function of a stale scope ran")
	}
	if err := w.Store.Change(w.ctx, w.Scope(w.A.Tenant(), rev), write); err != nil {
		t.Errorf("a scope of the present revision: %v", err)
	}
}

// policyOf changes what decisions are made from, and answers the revision after it.
func (w *World) policyOf(t testing.TB, s access.Scope, fn func(context.Context, store.Writer) error) (rev uint64) {
	t.Helper()
	w.change(t, s, fn)
	w.view(t, s, func(ctx context.Context, r store.Reader) error {
		var err error
		rev, err = r.Revision(ctx)
		return err
	})
	return rev
}

// tellings are the tenants that Revised was told of.
func (w *World) tellings() []ident.Tenant {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}
