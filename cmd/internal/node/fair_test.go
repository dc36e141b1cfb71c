//go:build services

package node_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// latencies are the time from publishing to the commit of the reading, in milliseconds: median, p90 and p99 of some customers' events
// that were published in a span of time.
func (d *deployment) latencies(of []customer, from, to time.Time) (n int, p50, p90, p99 float64) {
	d.t.Helper()
	ids := make([]string, len(of))
	for i, c := range of {
		ids[i] = "'\\x" + hexOf(d.t, c.id) + "'::bytea"
	}
	const late = "extract(epoch FROM pg_xact_commit_timestamp(r.xmin)) * 1000 - u.network / 1000.0"
	row := d.row(`SELECT count(*), coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY ` + late + `), 0), coalesce(percentile_cont(0.9) WITHIN GROUP (ORDER BY ` + late + `), 0), coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY ` + late + `), 0)
		FROM readings r JOIN uplinks u ON u.tenant = r.tenant AND u.id = r.uplink WHERE r.tenant IN (` + strings.Join(ids, ", ") + fmt.Sprintf(`) AND u.network >= %d AND u.network < %d`, from.UnixMicro(), to.UnixMicro()))
	if err := row.Scan(&n, &p50, &p90, &p99); err != nil {
		d.t.Fatal(err)
	}
	return n, p50, p90, p99
}

// A tenant without fuel left, which goes on sending all that it may, costs the others nothing that they notice. The short run compares medians
// of rounds in turn, so that what else the machine does is in both; the long one has a round of three minutes each. A machine that is at its
// end is slowed down by whatever is sent beside: there, what one with fuel costs them is no delay by the one without.
func TestATenantOutOfFuelDelaysNobodyElse(t *testing.T) {
	rounds, during := long(5, 1), long(3*time.Second, 3*time.Minute)
	d := deploy(t)
	const greedy = "function decodeUplink(input) { let n = 0; for (let i = 0; i < 20000; i++) { n += i } return { data: { n } } }"
	quiet, other, hungry := d.customers(9, light), d.customers(1, light), d.customers(1, greedy)
	d.granted(hungry[0], object{"fuel_per_minute": 1_000_000})
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(4)
	defer p.close()
	run := func(while time.Duration, beside ...customer) (late [3]float64) {
		ctx, end := context.WithTimeout(t.Context(), while)
		defer end()
		var publishing sync.WaitGroup
		acked, from := 0, time.Now()
		publishing.Go(func() { acked = p.flood(ctx, quiet, 180, 1<<30) })
		if len(beside) > 0 {
			publishing.Go(func() { p.flood(ctx, beside, 100, 1<<30) })
		}
		publishing.Wait()
		to := time.Now()
		p.through(2 * time.Minute) // nothing is left to the next round
		n, p50, p90, p99 := d.latencies(quiet, from, to)
		if n < acked || acked == 0 {
			t.Errorf("of the others' %d events %d were read", acked, n)
		}
		return [3]float64{p50, p90, p99}
	}
	run(2*time.Second, other...) // decoders are loaded
	tried(t, func() (missed error) {
		var late [3][3][]float64 // alone, beside the tenant, and beside one with fuel
		measure := func(i int, beside ...customer) {
			for k, ms := range run(during, beside...) {
				late[i][k] = append(late[i][k], ms)
			}
		}
		for round := range rounds {
			if round%2 == 0 { // else what grows would count for one of them
				measure(0)
			}
			measure(1, hungry...)
			if round%2 == 1 {
				measure(0)
			}
		}
		waiting := d.count("SELECT count(*) FROM uplinks WHERE state = 'accepted'")
		if waiting == 0 {
			t.Error("no event of the tenant out of fuel waits")
		}
		of := []string{"p50", "p90", "p99"}
		for k, bound := range []float64{1.5, 2, long(3, 1.5)} {
			alone, beside := middle(late[0][k]), middle(late[1][k])
			t.Logf("%s of the others: %.1f ms alone, %.1f ms beside a tenant out of fuel, of which %d events wait: %.2fx", of[k], alone, beside, waiting, beside/alone)
			if beside <= bound*alone {
				continue
			}
			for len(late[2][0]) < rounds {
				measure(2, other...)
			}
			if fed := middle(late[2][k]); beside > bound*max(alone, fed) {
				t.Logf("beside one with fuel %.1f ms", fed)
				missed = errors.Join(missed, fmt.Errorf("%s of the others grew %.2fx: alone %.1f, beside %.1f", of[k], beside/alone, late[0][k], late[1][k]))
			}
		}
		return missed
	})
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
			_, p50, _, p99 := d.latencies(quiet, from, to)
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
