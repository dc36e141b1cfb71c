package sqlstore_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/measure"
)

const readingsEach = 20

// settled is a store with tenants who have one device each, and its readings.
func settled(b *testing.B, tenants int) *sqlstore.Store {
	b.Helper()
	s := opened(b)
	for n := range tenants {
		err := s.Ingest(b.Context(), scoped(tenantNumber(n)), func(ctx context.Context, f store.Flow) error {
			for i := range readingsEach {
				u := uplink.Uplink{Source: ident.Source{1}, Node: ident.Node{1}, State: uplink.Accepted, Payload: []byte{1}, ArrivedAt: time.Now(), ReceivedAt: time.Now()}
				ident.Fresh(mint, &u.ID)
				if _, err := f.Accept(ctx, []uplink.Uplink{u}); err != nil {
					return err
				}
				u.Rev, u.Device, u.State = 1, ident.Device{1}, uplink.Processed
				r := uplink.Reading{Uplink: u.ID, Device: u.Device, Node: u.Node, At: u.ReceivedAt.Add(time.Duration(i) * time.Second), Data: []byte(`{"celsius":21.5}`)}
				ident.Fresh(mint, &r.ID)
				if err := f.Finish(ctx, store.Finished{Uplink: u, Reading: &r}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func tenantNumber(n int) (t ident.Tenant) {
	binary.BigEndian.PutUint32(t[:], uint32(n+1)) //nolint:gosec // small
	return t
}

// BenchmarkReads is a page of a device's readings and its latest value, of a random tenant among 10 and among 10,000, in turn,
// so that both see the same noise.
func BenchmarkReads(b *testing.B) {
	few, many := settled(b, 10), settled(b, 10_000)
	read := func(s *sqlstore.Store, t ident.Tenant) {
		err := s.View(b.Context(), scoped(t), func(ctx context.Context, r store.Reader) error {
			page, err := r.Readings().Find(ctx, store.Query{Limit: 50, Reach: access.Everywhere}, store.ReadingFilter{Device: ident.Device{1}})
			if err == nil && len(page.Items) != readingsEach {
				err = fmt.Errorf("%d readings, want %d", len(page.Items), readingsEach)
			}
			if err == nil {
				_, err = r.Readings().Latest(ctx, ident.Device{1}, access.Everywhere)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	way := func(name string, s *sqlstore.Store, tenants int) measure.Way {
		return measure.Way{Name: name, Do: func(n int) {
			for range n {
				read(s, tenantNumber(rand.IntN(tenants))) //nolint:gosec // which, not what
			}
		}}
	}
	costs := measure.InTurn(b, 11, 300*time.Millisecond, way("of-10", few, 10), way("of-10000", many, 10_000))
	measure.Report(b, costs)
	b.ReportMetric(costs[1].Against(costs[0]), "x-of-10-tenants")
}
