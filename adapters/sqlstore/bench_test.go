package sqlstore_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/measure"
	"github.com/ringfence/ringfence/testkit/storetest"
)

func opened(b *testing.B) *sqlstore.Store {
	b.Helper()
	s, err := sqlite.Open(b.Context(), sqlite.Options{Path: filepath.Join(b.TempDir(), "ringfence.db"), Now: time.Now, Version: "bench", Node: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

var mint = ident.Mint{Now: time.Now, Random: func(p []byte) { _, _ = rand.Read(p) }}

func scoped(t ident.Tenant) access.Scope { return new(storetest.World).Scope(t, 0) }

// BenchmarkChange is the making of a device, audited and not, by one caller and by 64, who share a transaction unless it is
// serial. Every one of them is synced to the disk before it is answered.
func BenchmarkChange(b *testing.B) {
	way := func(name string, callers int, audited, serial bool) measure.Way {
		s := opened(b)
		if serial {
			s.Serial()
		}
		scope := scoped(ident.Tenant{1})
		return measure.Way{Name: name, Do: func(n int) {
			var left atomic.Int64
			left.Store(int64(n))
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := makeDevice(b.Context(), s, scope, audited); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		}}
	}
	costs := measure.InTurn(b, 7, 700*time.Millisecond,
		way("one", 1, true, false), way("one-unaudited", 1, false, false),
		way("grouped", 64, true, false), way("grouped-unaudited", 64, false, false), way("serial", 64, true, true))
	measure.Report(b, costs)
	one, oneBare, grouped, groupedBare, serial := costs[0], costs[1], costs[2], costs[3], costs[4]
	b.ReportMetric(oneBare.Against(one), "x-audited-one")
	b.ReportMetric(groupedBare.Against(grouped), "x-audited-grouped")
	b.ReportMetric(serial.Against(grouped), "x-grouped-of-serial")
}

func makeDevice(ctx context.Context, s *sqlstore.Store, scope access.Scope, audited bool) error {
	now := time.Now()
	d := device.Device{Name: "pump", Node: ident.Node{1}, State: device.Active, CreatedAt: now, UpdatedAt: now}
	ident.Fresh(mint, &d.ID)
	d.Addresses = []device.Address{{Kind: device.Serial, Value: d.ID.String()}}
	if !audited {
		return s.Unaudited(ctx, scope, func(ctx context.Context, w store.Writer) error {
			_, err := w.Devices().Put(ctx, d)
			return err
		})
	}
	ev, err := audit.Complete(audit.Event{ID: ident.NewEntry(mint), Action: audit.DeviceCreated, Target: audit.Target{Kind: "device", ID: d.ID.String()}, Outcome: audit.OK,
		Changes: []audit.Change{audit.Set("state", "", string(d.State)), audit.Set("name", "", d.Name)}, Address: audit.Personal{Value: "192.0.2.7"}, Agent: audit.Personal{Value: "bench/1.0"}}, mint.Random, func(plain string) ([]byte, error) { return []byte(plain), nil }, nil)
	if err != nil {
		return err
	}
	return s.Change(ctx, scope, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		_, err := w.Devices().Put(ctx, d)
		return []audit.Event{ev}, err
	})
}
