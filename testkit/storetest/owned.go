package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// owned puts two records of each kind for one owner, one for another, and one of each in another tenant.
func owned(t testing.TB, w *World) {
	var mine, other ident.Principal
	set(w, &mine)
	set(w, &other)
	stored := func() credential.Stored {
		w.ids++
		return credential.Stored{Accessor: fmt.Sprintf("owned%017d", w.ids), ExpiresAt: w.now, CreatedAt: w.now, UpdatedAt: w.now}
	}
	var sessions []ident.Session
	var tokens []ident.Token
	var links []ident.Link
	for i, who := range []ident.Principal{mine, other, mine, mine} {
		s, p, l := credential.Session{Principal: who, Stored: stored()}, credential.PAT{Principal: who, Stored: stored()}, credential.Link{Kind: credential.KindReset, Principal: who, Stored: stored()}
		set(w, &s.ID)
		set(w, &p.ID)
		set(w, &l.ID)
		scope := w.A
		if i == 3 {
			scope = w.B
		} else if who == mine {
			sessions, tokens, links = append(sessions, s.ID), append(tokens, p.ID), append(links, l.ID)
		}
		w.change(t, scope, func(ctx context.Context, wr store.Writer) error {
			if _, err := wr.Sessions().Put(ctx, s); err != nil {
				return err
			}
			if _, err := wr.Tokens().Put(ctx, p); err != nil {
				return err
			}
			_, err := wr.Links().Put(ctx, l)
			return err
		})
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		ofOwner(ctx, t, "sessions", r.Sessions(), mine, sessions, func(v credential.Session) ident.Session { return v.ID })
		ofOwner(ctx, t, "tokens", r.Tokens(), mine, tokens, func(v credential.PAT) ident.Token { return v.ID })
		ofOwner(ctx, t, "links", r.Links(), mine, links, func(v credential.Link) ident.Link { return v.ID })
		return nil
	})
}

func ofOwner[K comparable, V any](ctx context.Context, t testing.TB, what string, shelf store.Owned[K, V], who ident.Principal, oldest []K, id func(V) K) {
	t.Helper()
	vs, err := shelf.Of(ctx, who)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	var got []K
	for _, v := range vs {
		got = append(got, id(v))
	}
	slices.Reverse(got)
	if !slices.Equal(got, oldest) {
		t.Errorf("%s of one owner: %v, want %v, newest first", what, got, oldest)
	}
}
