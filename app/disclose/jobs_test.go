package disclose_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// counting is a store that counts what it is asked, and is away for one tenant.
type counting struct {
	store.Store
	asked int
	away  ident.Tenant
}

func (c *counting) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	c.asked++
	if s.Tenant() == c.away {
		return errors.New("away")
	}
	return c.Store.View(ctx, s, fn)
}

func (c *counting) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	c.asked++
	return c.Store.Change(ctx, s, fn)
}

func (c *counting) Ingest(ctx context.Context, s access.Scope, fn func(context.Context, store.Flow) error) error {
	c.asked++
	return c.Store.Ingest(ctx, s, fn)
}

func (c *counting) Directory() store.Directory {
	c.asked++
	return c.Store.Directory()
}

// Of tenants in which nothing is due, jobs ask nothing, however many there are; one that fails keeps no other from its own.
func TestJobsLookAtTenantsWithSomethingDueAlone(t *testing.T) {
	keys, err := keyring.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	idle := map[int]int{}
	for _, tenants := range []int{10, 1000} {
		now := time.Now()
		cache := enter.NewCache(10)
		st := &counting{Store: memory.New(memory.Options{Now: func() time.Time { return now }, Revised: cache.Revised})}
		mint := ident.Mint{Now: func() time.Time { return now }, Random: func(b []byte) { _, _ = rand.Read(b) }}
		e := enter.New(st, cache, enter.Recorder{Mint: mint, Sealer: keys, Peppers: keys}, slog.New(slog.DiscardHandler))
		d := disclose.New(e, st, keys)
		scope := func(n int) access.Scope {
			return e.System(ident.Tenant{1, byte(n >> 8), byte(n)}, "jobs", access.Origin{})
		}
		write := func(n int, s access.Scope) {
			t.Helper()
			ev, err := e.Event(t.Context(), s, audit.NodeCreated, audit.Target{Kind: "node", ID: "n"})
			if err == nil {
				err = st.Change(t.Context(), s, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil })
			}
			if err == nil && n%2 == 0 {
				hour := now.Truncate(time.Hour)
				err = st.Ingest(t.Context(), s, func(ctx context.Context, f store.Flow) error {
					return f.Fold(ctx, store.Fold{Kind: "refusal", Key: "k", Node: ident.Node{1}, Bucket: hour, Until: hour.Add(time.Hour)}, 3)
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		run := func(want bool) int {
			t.Helper()
			st.asked = 0
			if err := d.Jobs(t.Context()); (err == nil) != want {
				t.Errorf("jobs: %v", err)
			}
			return st.asked
		}
		for n := range tenants {
			write(n, scope(n))
		}
		st.away = scope(3).Tenant()
		run(false)
		st.away = ident.Tenant{}
		if alone, again := run(true), run(true); again != 1 || alone <= again || alone > 12 {
			t.Errorf("of %d tenants one was left: %d questions, and then %d", tenants, alone, again)
		}
		now = now.Add(time.Hour)
		run(true)
		idle[tenants] = run(true)
		for n := range tenants {
			size, points := 1, 1
			if n%2 == 0 {
				size, points = 2, 2
			}
			if err := st.View(t.Context(), scope(n), func(ctx context.Context, r store.Reader) error {
				head, err := r.Audit().Head(ctx)
				if err != nil {
					return err
				}
				kept, err := r.Audit().Checkpoints(ctx, 0, 10)
				if head.Size != uint64(size) || len(kept) != points || kept[points-1].Size != head.Size { //nolint:gosec // small
					t.Errorf("tenant %d has %d entries and %d checkpoints", n, head.Size, len(kept))
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if idle[10] != 1 || idle[1000] != 1 {
		t.Errorf("with nothing due, by tenants: %v questions", idle)
	}
}
