//go:build services

package node_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// latencies are the time from publishing to the commit of the reading, in milliseconds: median and p99 of some customers' events that
// were published in a span of time.
func (d *deployment) latencies(of []customer, from, to time.Time) (n int, p50, p99 float64) {
	d.t.Helper()
	ids := make([]string, len(of))
	for i, c := range of {
		ids[i] = "'\\x" + hexOf(d.t, c.id) + "'::bytea"
	}
	const late = "extract(epoch FROM pg_xact_commit_timestamp(r.xmin)) * 1000 - u.network / 1000.0"
	row := d.row(`SELECT count(*), coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY ` + late + `), 0), coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY ` + late + `), 0)
		FROM readings r JOIN uplinks u ON u.tenant = r.tenant AND u.id = r.uplink WHERE r.tenant IN (` + strings.Join(ids, ", ") + fmt.Sprintf(`) AND u.network >= %d AND u.network < %d`, from.UnixMicro(), to.UnixMicro()))
	if err := row.Scan(&n, &p50, &p99); err != nil {
		d.t.Fatal(err)
	}
	return n, p50, p99
}

// A tenant without fuel left, which goes on sending all that it may, costs the others nothing that they notice.
func TestATenantOutOfFuelDelaysNobodyElse(t *testing.T) {
	span := long(6*time.Second, 3*time.Minute)
	d := deploy(t)
	const greedy = "function decodeUplink(input) { let n = 0; for (let i = 0; i < 20000; i++) { n += i } return { data: { n } } }"
	quiet, hungry := d.customers(9, light), d.customers(1, greedy)
	d.granted(hungry[0], object{"fuel_per_minute": 1_000_000})
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(4)
	defer p.close()
	var publishing sync.WaitGroup
	run := func(during time.Duration, floods bool) (from, to time.Time) {
		ctx, end := context.WithTimeout(t.Context(), during)
		defer end()
		from = time.Now()
		publishing.Go(func() { p.flood(ctx, quiet, 180, 1<<30) })
		if floods {
			publishing.Go(func() { p.flood(ctx, hungry, 100, 1<<30) })
		}
		publishing.Wait()
		return from, time.Now()
	}
	run(2*time.Second, false) // decoders are loaded
	before, after := run(span, false)
	begun, ended := run(span, true)
	d.read(time.Minute)
	n, p50, p99 := d.latencies(quiet, before, after)
	m, during50, during99 := d.latencies(quiet, begun, ended)
	waiting := d.count("SELECT count(*) FROM uplinks WHERE state = 'accepted'")
	t.Logf("the others alone: %d events, p50 %.1f ms, p99 %.1f ms; beside a tenant out of fuel, of which %d events wait: %d events, p50 %.1f ms, p99 %.1f ms (%.2fx)", n, p50, p99, waiting, m, during50, during99, during99/p99)
	if waiting == 0 {
		t.Error("no event of the tenant out of fuel waits")
	}
	if bound := long(4.0, 1.5); during99 > bound*p99 { // a short run on a busy machine sees little more than its worst moment
		t.Errorf("p99 of the others grew %.2fx", during99/p99)
	}
}

// BenchmarkNeighbours compares the time from publishing to the reading of nine tenants that keep to their rates with the same
// while a tenth sends twenty times as much as it may.
func BenchmarkNeighbours(b *testing.B) {
	const rounds, quota = 5, 100
	d := deploy(b)
	cs := d.customers(10, light)
	for _, c := range cs {
		d.granted(c, object{"source_rate": quota, "ingest_rate": quota})
	}
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(4)
	defer p.close()
	quiet, flooding := cs[:9], cs[9:]
	var alone, beside, halves []float64
	for round := range rounds + 1 {
		for _, floods := range []bool{false, true} {
			ctx, end := context.WithTimeout(b.Context(), 6*time.Second)
			from := time.Now()
			var publishing sync.WaitGroup
			publishing.Go(func() { p.flood(ctx, quiet, len(quiet)*quota*8/10, 1<<30) })
			if floods {
				publishing.Go(func() { p.flood(ctx, flooding, 20*quota, 1<<30) })
			}
			publishing.Wait()
			end()
			to := time.Now()
			d.read(2 * time.Minute)
			_, p50, p99 := d.latencies(quiet, from, to)
			switch {
			case round == 0: // until all is warm
			case floods:
				beside, halves = append(beside, p99), append(halves, p50)
			default:
				alone = append(alone, p99)
			}
		}
	}
	b.ReportMetric(middle(alone), "p99-alone-ms")
	b.ReportMetric(middle(beside), "p99-beside-ms")
	b.ReportMetric(middle(halves), "p50-beside-ms")
	b.ReportMetric(middle(beside)/middle(alone), "x-alone")
}

// granted gives a customer limits of its own.
func (d *deployment) granted(c customer, limits object) {
	d.t.Helper()
	at := "/v1/platform/tenants/" + c.id + "/limits"
	limits["-rev"] = str(d.ask("GET", at, nil, 200), "-etag")
	d.ask("PATCH", at, limits, 200)
}
