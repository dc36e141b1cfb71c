package accesstest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/accesstest"
)

func inMemory(_ testing.TB, revised store.Revised) store.Store {
	return memory.New(memory.Options{Revised: revised})
}

func onSQLite(t testing.TB, revised store.Revised) store.Store {
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "a.db"), Now: time.Now, Revised: revised})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func parts(t *testing.T, open func(testing.TB, store.Revised) store.Store) accesstest.Parts {
	keys, err := keyring.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	p := accesstest.Parts{Open: open, Keys: keys, Changes: 10_000, Worlds: 100}
	if os.Getenv("RINGFENCE_LONG") != "" {
		p.Changes, p.Worlds = 50_000, 5_000
	}
	return p
}

func TestTheGateOnMemoryKeepsItsPromises(t *testing.T) {
	accesstest.RunGate(t, parts(t, inMemory))
}

func TestTheGateOnSQLiteKeepsItsPromises(t *testing.T) {
	p := parts(t, onSQLite)
	p.Changes, p.Worlds = p.Changes*2/5, p.Worlds/20 // a change is a transaction on a disk
	for _, c := range accesstest.GateChecks() {
		if c.Name != "EveryAnswerIsOfTheOldPolicyOrOfTheNew" { // that is the cache's part, whatever the store
			t.Run(c.Name, func(t *testing.T) { c.Run(t, p) })
		}
	}
}

// late is a store that tells its news two at a time.
func late(t testing.TB, revised store.Revised) store.Store {
	var mu sync.Mutex
	waiting := false
	return inMemory(t, func(of ident.Tenant, rev uint64) {
		mu.Lock()
		waiting = !waiting
		tell := !waiting
		mu.Unlock()
		if tell {
			revised(of, rev)
		}
	})
}

// mute is a store that tells no news.
func mute(t testing.TB, _ store.Revised) store.Store {
	return inMemory(t, func(ident.Tenant, uint64) {})
}

// lying is a store whose reads are not of one moment, or keep something back.
type lying struct {
	store.Store
	read func(store.Reader) store.Reader
}

func (l lying) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	return l.Store.View(ctx, s, func(ctx context.Context, r store.Reader) error { return fn(ctx, l.read(r)) })
}

func (l lying) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	return l.Store.Change(ctx, s, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		return fn(ctx, lyingWriter{w, l.read})
	})
}

type lyingWriter struct {
	store.Writer
	read func(store.Reader) store.Reader
}

func (w lyingWriter) Read() store.Reader { return w.read(w.Writer.Read()) }

// torn reads the first membership as it was at the read before.
type torn struct {
	store.Reader
	mu   *sync.Mutex
	last map[ident.Membership]access.Membership
}

func (r torn) Policy(ctx context.Context) (access.Records, error) {
	records, err := r.Reader.Policy(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range records.Memberships[:min(2, len(records.Memberships))] {
		if old, ok := r.last[m.ID]; ok {
			records.Memberships[i] = old
		}
		r.last[m.ID] = m
	}
	return records, err
}

// blind does not see what a group or a role was given.
type blind struct {
	store.Reader
	group, role bool
}

func (r blind) Memberships() store.Memberships { return blindMemberships{r.Reader.Memberships(), r} }

type blindMemberships struct {
	store.Memberships
	blind blind
}

func (m blindMemberships) OfGroup(ctx context.Context, g ident.Group) ([]access.Membership, error) {
	if m.blind.group {
		return nil, nil
	}
	return m.Memberships.OfGroup(ctx, g)
}

func (m blindMemberships) OfRole(ctx context.Context, r ident.Role) ([]access.Membership, error) {
	if m.blind.role {
		return nil, nil
	}
	return m.Memberships.OfRole(ctx, r)
}

func TestEveryPlantedBugOfAGateIsCaught(t *testing.T) {
	reading := func(read func(store.Reader) store.Reader) func(testing.TB, store.Revised) store.Store {
		return func(t testing.TB, revised store.Revised) store.Store { return lying{inMemory(t, revised), read} }
	}
	var mu sync.Mutex
	last := map[ident.Membership]access.Membership{}
	for _, c := range []struct {
		bug, check, says string
		open             func(testing.TB, store.Revised) store.Store
	}{
		{"the cache is told late", "EveryAnswerIsOfTheOldPolicyOrOfTheNew", "answered between", late},
		{"the cache is told nothing", "NoAllowBeginsAfterARevokeWasAcknowledged", "no order", mute},
		{"a policy is of two moments", "EveryAnswerIsOfTheOldPolicyOrOfTheNew", "neither of the two",
			reading(func(r store.Reader) store.Reader { return torn{r, &mu, last} })},
		{"what a group was given is not looked at", "NobodyGrantsThemselvesMore", "which no actor had",
			reading(func(r store.Reader) store.Reader { return blind{r, true, false} })},
		{"where a role was given is not looked at", "NobodyGrantsThemselvesMore", "which no actor had",
			reading(func(r store.Reader) store.Reader { return blind{r, false, true} })},
	} {
		t.Run(strings.ReplaceAll(c.bug+" "+c.check, " ", "_"), func(t *testing.T) {
			caught, said := false, ""
			for tries := 0; tries < 20 && !caught; tries++ { // some bugs need two callers to meet: on a busy machine they may not at once
				p := parts(t, c.open)
				p.Changes, p.Worlds, p.Patience = 1000, 400, time.Second/5
				for _, check := range accesstest.GateChecks() {
					if check.Name == c.check {
						said = ran(t, func(r *recorder) { check.Run(r, p) })
						caught = strings.Contains(said, c.says)
					}
				}
			}
			if !caught {
				t.Errorf("not caught: %q", said)
			}
		})
	}
}
