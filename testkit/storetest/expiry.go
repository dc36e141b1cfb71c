package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// mortal is one record of each noun that Expire removes, with what it leaves in the directory.
type mortal struct {
	session   ident.Session
	bearer    ident.Token
	link      ident.Link
	claim     [32]byte
	accessors []string
}

// mortals puts one record of each noun that outlives its time at a moment, and a personal token that Expire leaves.
func (w *World) mortals(t testing.TB, at time.Time) (m mortal, kept ident.Token) {
	t.Helper()
	stored := func() credential.Stored {
		w.ids++
		m.accessors = append(m.accessors, fmt.Sprintf("accessor%014d", w.ids))
		return credential.Stored{Accessor: m.accessors[len(m.accessors)-1], KID: "1", ExpiresAt: at, CreatedAt: w.now, UpdatedAt: w.now}
	}
	set(w, &m.session)
	set(w, &m.bearer)
	set(w, &m.link)
	set(w, &kept)
	w.ids++
	m.claim = [32]byte{1, byte(w.ids >> 8), byte(w.ids)}
	var who ident.Principal
	set(w, &who)
	w.change(t, w.A, func(ctx context.Context, wr store.Writer) error {
		if _, err := wr.Sessions().Put(ctx, credential.Session{ID: m.session, Principal: who, Idle: time.Hour, Stored: stored()}); err != nil {
			return err
		}
		if _, err := wr.Bearers().Put(ctx, credential.Bearer{ID: m.bearer, Kind: credential.KindRefresh, Session: m.session, Principal: who, Stored: stored()}); err != nil {
			return err
		}
		if _, err := wr.Links().Put(ctx, credential.Link{ID: m.link, Kind: credential.KindReset, Principal: who, Stored: stored()}); err != nil {
			return err
		}
		if _, err := wr.Claims().Put(ctx, store.Claim{ID: m.claim, ExpiresAt: at}); err != nil {
			return err
		}
		pat := credential.PAT{ID: kept, Name: "ci", Principal: who, Stored: stored()}
		m.accessors = m.accessors[:len(m.accessors)-1]
		_, err := wr.Tokens().Put(ctx, pat)
		return err
	})
	return m, kept
}

// left reports how many of the four are still there.
func (w *World) left(t testing.TB, m mortal) int {
	t.Helper()
	n := 0
	count := func(err error) {
		if err == nil {
			n++
		} else if !fault.Is(err, fault.NotFound) {
			t.Errorf("reading: %v", err)
		}
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		_, err := r.Sessions().Get(ctx, m.session)
		count(err)
		_, err = r.Bearers().Get(ctx, m.bearer)
		count(err)
		_, err = r.Links().Get(ctx, m.link)
		count(err)
		_, err = r.Claims().Get(ctx, m.claim)
		count(err)
		return nil
	})
	return n
}

func expiry(t testing.TB, w *World) {
	expire := func(at time.Time, limit int) int {
		t.Helper()
		var n int
		w.ingest(t, w.A, func(ctx context.Context, f store.Flow) error {
			var err error
			n, err = f.Expire(ctx, at, limit)
			return err
		})
		return n
	}
	over := w.now.Add(time.Hour)
	m, kept := w.mortals(t, over)
	later, _ := w.mortals(t, over.Add(time.Hour))
	w.accept(t, w.A, w.uplink(1, "p"))

	if n := expire(over.Add(-time.Microsecond), 100); n != 0 || w.left(t, m) != 4 {
		t.Errorf("a microsecond before their time %d rows went, %d of 4 are left", n, w.left(t, m))
	}
	w.ingest(t, w.B, func(ctx context.Context, f store.Flow) error {
		_, err := f.Expire(ctx, over.Add(store.DedupeWindow), 100)
		return err
	})
	if w.left(t, m) != 4 {
		t.Errorf("another tenant's expiry took %d of ours", 4-w.left(t, m))
	}
	if n := expire(over, 3); n != 3 || w.left(t, m) != 1 {
		t.Errorf("with a limit of 3 there went %d rows, %d of 4 are left", n, w.left(t, m))
	}
	if n := expire(over, 100); n != 1 || w.left(t, m) != 0 || w.left(t, later) != 4 {
		t.Errorf("then %d rows went; %d of what is over and %d of 4 that are not are left", n, w.left(t, m), w.left(t, later))
	}
	for _, a := range m.accessors {
		if _, err := w.Store.Directory().Locate(w.ctx, a); !fault.Is(err, fault.NotFound) {
			t.Errorf("the directory still finds what is gone: %v", err)
		}
	}
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		_, err := r.Tokens().Get(ctx, kept)
		if err != nil {
			t.Errorf("a personal token that is over is to be seen by its owner: %v", err)
		}
		return nil
	})
	if n := expire(over.Add(store.DedupeWindow), 100); n != 5 {
		t.Errorf("at the end %d rows went, want four records and a dedupe key", n)
	}
}
