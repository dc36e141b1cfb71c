//go:build services

package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/measure"
	"github.com/ringfence/ringfence/testkit/storetest"
)

const batchRows = 1_000

// decoded is a row as an event worker makes it: 40 bytes of payload, a key, a reading of 120 bytes and its outcome.
func decoded(d ident.Device, now time.Time) store.Finished {
	u := uplink.Uplink{Source: ident.Source{1}, Device: d, Node: ident.Node{1}, State: uplink.Processed, Application: "app", Session: "01b4f7a2", FPort: 2, FCnt: 7, HasFCnt: true, Payload: make([]byte, 40), ArrivedAt: now, ReceivedAt: now, UpdatedAt: now}
	u.Address.Kind, u.Address.Value = "dev_eui", "a84041ffff1e2d3c"
	ident.Fresh(mint, &u.ID)
	mint.Random(u.DedupeKey[:])
	r := &uplink.Reading{Uplink: u.ID, Device: d, Node: u.Node, Decoder: ident.Decoder{1}, Version: ident.Version{1}, At: now, FCnt: 7, HasFCnt: true, Session: u.Session,
		Data: []byte(`{"battery":3.604,"humidity":54.3,"temperature":21.53,"pressure":1013.25,"position":{"lat":48.2082,"lon":16.3738},"ok":true}`)}
	o := &uplink.Outcome{Uplink: u.ID, Device: d, Node: u.Node, Decoder: r.Decoder, Version: r.Version, Engine: "quickjs-ng 0.11.0", Category: decoder.Success, Fuel: 12345, Duration: time.Millisecond, At: now}
	ident.Fresh(mint, &r.ID)
	ident.Fresh(mint, &o.ID)
	return store.Finished{Uplink: u, Reading: r, Outcome: o}
}

// batches are 1,000 new rows of so many tenants' devices, 20 each.
func batches(tenants int) []store.Part {
	parts, now := make([]store.Part, tenants), time.Now().UTC()
	for n := range parts {
		id := ident.Tenant{1, byte(tenants)}
		binary.BigEndian.PutUint32(id[4:], uint32(n)) //nolint:gosec // small
		parts[n].Scope = new(storetest.World).Scope(id, 0)
	}
	for n := range batchRows {
		p := &parts[n%tenants]
		p.Rows = append(p.Rows, decoded(ident.Device{9, byte(n / tenants % 20)}, now.Add(time.Duration(n)*time.Microsecond)))
	}
	return parts
}

// without takes from what each way took what the last one did, which made the rows and wrote none.
func without(costs []measure.Cost) []measure.Cost {
	made := costs[len(costs)-1]
	for _, c := range costs[:len(costs)-1] {
		for i := range c.Rounds {
			c.Rounds[i] -= made.Rounds[i]
		}
	}
	return costs[:len(costs)-1]
}

// perSecond reports rows.
func perSecond(b *testing.B, costs []measure.Cost) {
	b.Helper()
	measure.Report(b, costs)
	for _, c := range costs {
		b.ReportMetric(batchRows*1e9/c.Median(), c.Name+"-rows/s")
	}
}

// BenchmarkReadings writes 1,000 readings the way that batches do, behind the wall, and by one COPY of the table's owner into a
// table that is the same without it.
func BenchmarkReadings(b *testing.B) {
	b.ReportAllocs()
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(b)
	if err := server.Ask(b.Context(), name, "SET ROLE ringfence_owner", "CREATE TABLE copied (LIKE readings INCLUDING ALL) PARTITION BY RANGE (at)", "CREATE TABLE copied_all PARTITION OF copied FOR VALUES FROM (0) TO (4102444800000000)"); err != nil {
		b.Fatal(err)
	}
	owner, err := pgx.Connect(b.Context(), server.URL(name, "owner").Reveal())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = owner.Close(context.Background()) })
	db := connect(b, server.URL(name, "runtime"))
	columns := []string{"tenant", "device", "at", "id", "uplink", "node", "decoder", "version", "fcnt", "has_fcnt", "session", "data", "warnings"}
	copied := func(parts []store.Part) error {
		rows := make([][]any, 0, batchRows)
		for _, p := range parts {
			t := p.Scope.Tenant()
			for _, f := range p.Rows {
				r := f.Reading
				rows = append(rows, []any{t[:], r.Device[:], r.At.UnixMicro(), r.ID[:], r.Uplink[:], r.Node[:], r.Decoder[:], r.Version[:], int64(r.FCnt), r.HasFCnt, r.Session, []byte(r.Data), []byte("null")}) //nolint:gosec // small
			}
		}
		_, err := owner.CopyFrom(b.Context(), pgx.Identifier{"copied"}, columns, pgx.CopyFromRows(rows))
		return err
	}
	way := func(name string, tenants int, write func([]store.Part) error) measure.Way {
		return measure.Way{Name: name, Do: func(times int) {
			for range times {
				if err := write(batches(tenants)); err != nil {
					b.Fatal(err)
				}
			}
		}}
	}
	written := func(parts []store.Part) error { return postgres.Readings(b.Context(), db, parts) }
	costs := without(measure.InTurn(b, 9, 700*time.Millisecond, way("copy-1", 1, copied), way("one", 1, written), way("copy-10", 10, copied), way("ten", 10, written), way("made", 1, func([]store.Part) error { return nil })))
	perSecond(b, costs)
	b.ReportMetric(costs[0].Against(costs[1]), "x-copy-of-1")
	b.ReportMetric(costs[2].Against(costs[3]), "x-copy-of-10")
}

// BenchmarkIngestBatch is a batch of 1,000 rows: uplink, key, reading, outcome, last-seen and latest.
func BenchmarkIngestBatch(b *testing.B) {
	b.ReportAllocs()
	server := pgtest.New(pgtest.Oldest)
	st := open(b, server.URL(server.Database(b), "runtime"), storetest.Options{Now: time.Now}, 0)
	b.Cleanup(func() { _ = st.Close() })
	way := func(tenants int) measure.Way {
		return measure.Way{Name: fmt.Sprintf("of-%d", tenants), Do: func(times int) {
			for range times {
				for _, err := range st.IngestBatch(b.Context(), batches(tenants)) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		}}
	}
	perSecond(b, without(measure.InTurn(b, 7, time.Second, way(1), way(10), way(200), measure.Way{Name: "made", Do: func(times int) {
		for range times {
			batches(1)
		}
	}})))
}
