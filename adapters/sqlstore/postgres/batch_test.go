//go:build services

package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// A text that is none is refused for ever, a day that no partition was made for until one is; neither harms another tenant.
func TestAPartThatTheDatabaseRefusesFailsAlone(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		st := open(t, server.URL(server.Database(t), "runtime"), storetest.Options{Now: time.Now}, 0)
		t.Cleanup(func() { _ = st.Close() })
		scopes := make([]access.Scope, 4)
		for i := range scopes {
			scopes[i] = new(storetest.World).Scope(ident.Tenant{byte(i + 1)}, 0)
		}
		parts := make([]store.Part, len(scopes))
		for i := range parts {
			parts[i] = store.Part{Scope: scopes[i], Rows: []store.Finished{decoded(ident.Device{1}, time.Now()), decoded(ident.Device{2}, time.Now())}}
		}
		parts[1].Rows[1].Uplink.Application = "\x00"
		parts[2].Rows[1].Reading.At = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
		errs := st.IngestBatch(t.Context(), parts)
		if errs[0] != nil || errs[3] != nil || fault.KindOf(errs[1]) != fault.Invalid {
			t.Errorf("%v", errs)
		}
		if f := fault.As(errs[2]); f == nil || f.Kind != fault.Unavailable || f.Code != "no_partition" {
			t.Errorf("of a day without a partition: %v", errs[2])
		}
		for i, want := range []int{2, 0, 0, 2} {
			if err := st.View(t.Context(), scopes[i], func(ctx context.Context, r store.Reader) error {
				us, err := r.Uplinks().Find(ctx, store.Query{Reach: access.Everywhere}, store.UplinkFilter{State: uplink.Processed})
				if len(us.Items) != want {
					t.Errorf("tenant %d has %d uplinks, want %d", i, len(us.Items), want)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	})
}

// Whoever is faster by a moment has the key, and the slower one is told whose it is; what it writes with it of another tenant is not
// harmed.
func TestAKeyThatIsTakenWhileABatchIsWrittenIsTold(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		database := server.Database(t)
		st := open(t, server.URL(database, "runtime"), storetest.Options{Now: time.Now}, 0)
		t.Cleanup(func() { _ = st.Close() })
		db := connect(t, server.URL(database, ""))
		scopes := []access.Scope{new(storetest.World).Scope(ident.Tenant{1}, 0), new(storetest.World).Scope(ident.Tenant{2}, 0)}
		parts := make([]store.Part, len(scopes))
		for i := range parts {
			parts[i] = store.Part{Scope: scopes[i], Rows: []store.Finished{decoded(ident.Device{1}, time.Now()), decoded(ident.Device{2}, time.Now())}}
		}
		late := &parts[0].Rows[1].Uplink
		first, owner := ident.Uplink(born(t)), scopes[0].Tenant()
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO dedupe (tenant, key, uplink, payload_hash, expires) VALUES ($1, $2, $3, $4, $5)", owner[:], late.DedupeKey[:], first[:], late.PayloadHash[:], late.ArrivedAt.Add(time.Hour).UnixMicro()); err != nil {
			t.Fatal(err)
		}
		done := make(chan []error, 1)
		go func() { done <- st.IngestBatch(t.Context(), parts) }()
		for waiting := 0; waiting == 0; {
			if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND locktype = 'transactionid' AND datname = current_database()").Scan(&waiting); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(<-done...); err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{1, 2} {
			if err := st.View(t.Context(), scopes[i], func(ctx context.Context, r store.Reader) error {
				us, err := r.Uplinks().Find(ctx, store.Query{Reach: access.Everywhere}, store.UplinkFilter{State: uplink.Processed})
				if len(us.Items) != want {
					t.Errorf("tenant %d has %d uplinks, want %d", i, len(us.Items), want)
				}
				told, err2 := r.Outcomes().Find(ctx, store.Query{Reach: access.Everywhere}, store.OutcomeFilter{Uplink: late.ID})
				if i == 0 && (len(told.Items) != 1 || told.Items[0].Message != store.DuplicateOutcome(*late, first).Message) {
					t.Errorf("of the late one is told %+v", told.Items)
				}
				return errors.Join(err, err2)
			}); err != nil {
				t.Error(err)
			}
		}
	})
}

// A Change of one tenant is under way for as long as it takes: other tenants' parts do not wait for it, its own do where that is
// asked for, and none of them passes another.
func TestASlowChangeDelaysNoOtherTenantsParts(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	st := open(t, server.URL(name, "runtime"), storetest.Options{Now: time.Now}, 0)
	t.Cleanup(func() { _ = st.Close() })
	scopes := make([]access.Scope, 3)
	for i := range scopes {
		scopes[i] = new(storetest.World).Scope(ident.Tenant{byte(i + 1)}, 0)
	}
	part := func(n int) store.Part {
		return store.Part{Scope: scopes[n], Rows: []store.Finished{decoded(ident.Device{1}, time.Now())}}
	}
	begun, over, changed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		changed <- st.Change(t.Context(), scopes[1], func(context.Context, store.Writer) ([]audit.Event, error) {
			close(begun)
			<-over
			ev := audit.Event{Action: audit.DeviceCreated, Target: audit.Target{Kind: "test", ID: "x"}, Outcome: audit.OK}
			ident.Fresh(mint, &ev.ID)
			return []audit.Event{ev}, nil
		})
	}()
	release := sync.OnceFunc(func() { close(over) })
	defer release() // the store waits for it
	<-begun
	soon, cancel := context.WithTimeout(t.Context(), 8*time.Second) // less than a lock is waited for
	defer cancel()
	strange := part(1)
	strange.Rows[0].Uplink.Application = "\x00" // so that each is written alone
	for what, parts := range map[string][]store.Part{"together": {part(0), part(1), part(1), part(2)}, "alone": {part(1), part(1)}, "each alone": {part(0), part(1), part(1), part(2), {Scope: scopes[2], Rows: strange.Rows}}} {
		errs := st.IngestBatch(soon, parts)
		for i, p := range parts {
			if its := p.Scope.Tenant() == scopes[1].Tenant(); i < 4 && (its != errors.Is(errs[i], store.ErrBusy) || !its && errs[i] != nil) {
				t.Fatalf("%s: %v", what, errs)
			}
		}
	}
	has := func(n, want int) {
		t.Helper()
		if err := st.View(t.Context(), scopes[n], func(ctx context.Context, r store.Reader) error {
			us, err := r.Uplinks().Find(ctx, store.Query{Reach: access.Everywhere}, store.UplinkFilter{State: uplink.Processed})
			if len(us.Items) != want {
				t.Errorf("tenant %d has %d uplinks, want %d", n, len(us.Items), want)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	for n, want := range []int{2, 0, 2} {
		has(n, want)
	}
	alone := make(chan []error, 1)
	waiting := []store.Part{part(1), part(1)}
	waiting[0].Wait, waiting[1].Wait = true, true
	go func() { alone <- st.IngestBatch(t.Context(), waiting) }()
	db := connect(t, server.URL(name, ""))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for waits := 0; waits == 0; <-tick.C {
		if err := db.QueryRowContext(soon, "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = $1 AND locktype = 'advisory' AND NOT granted", name).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	release()
	if err := <-changed; err != nil {
		t.Error(err)
	}
	for _, err := range <-alone {
		if err != nil {
			t.Error(err)
		}
	}
	has(1, 2)
}
