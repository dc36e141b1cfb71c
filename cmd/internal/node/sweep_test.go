//go:build services

package node_test

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/isolation"
)

// target is the deployment's API, as the sweep asks it.
func (d *deployment) target() isolation.Target {
	d.t.Helper()
	at, err := url.Parse(d.base)
	if err != nil {
		d.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(at)
	return isolation.Target{
		Handler:    http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { r.Host = at.Host; proxy.ServeHTTP(w, r) }),
		SetupToken: d.setupToken(), Settle: func() { d.read(time.Minute) }, Bury: d.stream().Bury(d.t),
	}
}

// stream is the deployment's bus, as somebody who should not reaches it.
func (d *deployment) stream() isolation.Stream {
	return isolation.Stream{
		Topics: bus.TopicsUnder("rf"), Settle: func() { d.read(time.Minute) }, Publish: func(rs []bus.Record) []error { return d.carrier.Publish(d.t.Context(), rs) },
	}
}

// The scaled-out deployment's three processes are swept as the single binary is: over HTTP, and by records on Kafka that no door wrote.
func TestNoActorReachesAnotherTenantOfTheDeployment(t *testing.T) {
	d := bare(t)
	d.run("event-worker")
	r := isolation.Run(t, d.target(), isolation.Plan{Requests: long(1_000, 20_000)})
	t.Logf("%d requests on %d routes, %d findings", r.Requests, len(r.Routes), len(r.Findings))
}

func TestNoRecordOnKafkaReachesAnotherTenant(t *testing.T) {
	d := bare(t)
	d.run("event-worker")
	r := isolation.Records(t, d.target(), d.stream())
	for _, f := range r.Findings {
		t.Error(f)
	}
	if r.Topics < 150 {
		t.Errorf("%d records were tried", r.Topics)
	}
}

// Messages at the worker's broker whose topic, payload and connection say different tenants become nobody's but whose the connection
// lets them be.
func TestNoMessageAtTheWorkersBrokerReachesAnotherTenant(t *testing.T) {
	d := deploy(t)
	cs := d.customers(2, light)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	p := d.publisher(1)
	defer p.close()
	n := 0
	say := func(topic, application string) string {
		n++
		id := fmt.Sprintf("sweep-%d", n)
		body := fmt.Sprintf(`{"id":"%s","device":"pump-1","address_kind":"serial","application":"%s","payload_hex":"%02x"}`, id, application, n)
		p.says(topic, body)
		return id
	}
	want := map[string]int{} // events by tenant
	for i, mine := range cs {
		other := cs[1-i]
		for _, application := range []string{"", mine.id, other.id, other.source} {
			say("rf/"+mine.id+"/"+mine.source+"/up", application)
			say("rf/"+mine.id+"/"+mine.source+"/up/"+other.id+"/"+other.source, application)
			want[mine.id] += 2
			say("rf/"+mine.id+"/"+other.source+"/up", application) // nobody's
			say("rf/"+mine.id+"/"+d.source+"/up", application)
			say("rf/"+d.tenant+"/"+mine.source+"/up", application)
			say("rf/"+mine.source+"/"+mine.id+"/up", application)
			say("rf/"+strings.ToUpper(mine.id)+"/"+mine.source+"/up", application)
			say("rf/"+mine.id+"."+other.id+"/"+mine.source+"/up", application)
			say("up/"+mine.id, application) // the fixed tenant's, whatever it says
			want[d.tenant]++
		}
	}
	d.read(time.Minute)
	d.await("all messages are taken", time.Minute, func() error {
		kept, dead := d.count("SELECT count(*) FROM uplinks"), 0
		for part := range 4 {
			rs, err := d.carrier.Browse(t.Context(), "rf.uplinks.dead", part, 0, 10_000)
			if err != nil {
				return err
			}
			dead += len(rs)
		}
		if kept+dead != n {
			return fmt.Errorf("%d kept and %d dead letters of %d", kept, dead, n)
		}
		return nil
	})
	for tenant, events := range want {
		if got := d.count(`SELECT count(*) FROM uplinks WHERE tenant = '\x` + hexOf(t, tenant) + `'`); got != events {
			t.Errorf("%s has %d events, want %d", tenant, got, events)
		}
	}
}
