//go:build services

package node_test

import (
	"fmt"
	"testing"
	"time"
)

// A version is in quarantine in the memory of the worker whose decoders it stopped; that another is active now, the API knows.
func TestWhatWaitsForAQuarantinedVersionGoesOnWhenTheAPIRollsItBack(t *testing.T) {
	d := deploy(t)
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	const failed, waiting = 3, 20
	at := "/v1/tenants/" + d.tenant + "/decoders/" + d.decoder
	endless := str(d.ask("POST", at+"/versions", object{"source": "function decodeUplink(input) { for (;;) {} }"}, 201), "id")
	d.ask("POST", at+"/activate", object{"version_id": endless, "-rev": str(d.ask("GET", at, nil, 200), "-etag")}, 200)
	d.publish(0, failed+waiting)
	inState := func(state string, n int) func() error {
		return func() error {
			if got := d.count("SELECT count(*) FROM uplinks WHERE state = '" + state + "'"); got != n {
				return fmt.Errorf("%d of %d are %s", got, n, state)
			}
			return nil
		}
	}
	d.await("the version is in quarantine", time.Minute, inState("accepted", waiting))
	before := str(d.ask("GET", at, nil, 200), "-etag")
	began := time.Now()
	d.ask("POST", at+"/rollback", object{"-rev": before}, 200)
	d.await("what waits for it is decoded by the version before", time.Minute, inState("processed", waiting))
	t.Logf("after %v", time.Since(began).Round(time.Millisecond))
	d.await("what it was tried with stays as it is", time.Second, inState("failed", failed))
}
