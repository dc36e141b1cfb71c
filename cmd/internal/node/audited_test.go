//go:build services

package node_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/audittest"
)

// settled waits until all events are finished, those that the database queues too.
func (d *deployment) settled() {
	d.t.Helper()
	d.read(time.Minute)
	d.await("nothing is queued", time.Minute, func() error {
		if n := d.count("SELECT count(*) FROM due"); n != 0 {
			return fmt.Errorf("%d events are", n)
		}
		return nil
	})
}

// tell has the database do something, as its administrator.
func (d *deployment) tell(statements ...string) {
	d.t.Helper()
	if err := d.server.Ask(d.t.Context(), d.name, statements...); err != nil {
		d.t.Fatal(err)
	}
}

// buries puts a message that an application sent while it was nobody's among the dead letters, as the MQTT worker does.
func (d *deployment) buries(connection, application string) {
	d.t.Helper()
	value := []byte(`{"device":"70b3d57ed0000001","payload":"AA=="}`)
	l := uplink.Letter{Reason: "no_tenant", Via: "connection:" + connection, Origin: "up", Size: len(value), Hash: sha256.Sum256(value), At: time.Now(), Format: string(source.Plain), Owner: string(ingest.ByApplication), Told: uplink.Told{Application: application}}
	r := bus.Record{Topic: bus.TopicsUnder("rf").Dead, Key: application, Value: value}
	for _, f := range l.Fields() {
		r.Headers = append(r.Headers, bus.Header{Name: f.Name, Value: []byte(f.Value)})
	}
	if err := d.carrier.Publish(d.t.Context(), []bus.Record{r})[0]; err != nil {
		d.t.Fatal(err)
	}
}

// The deployment records what its routes declare, over its own three processes, as the single binary does; and while its database cannot
// keep an entry it changes nothing.
func TestEveryChangeOfTheDeploymentIsRecordedAsItsRouteDeclares(t *testing.T) {
	d := bare(t)
	d.run("event-worker")
	st, err := postgres.Open(t.Context(), postgres.Options{URL: secret.New(d.runtime), Now: time.Now, Revised: func(ident.Tenant, uint64) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	d.tell(`CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full'; END $$`)
	r := audittest.Run(t, audittest.Target{
		Handler: d.target().Handler, SetupToken: d.setupToken(), Store: st, Settle: d.settled, Bury: d.buries,
		Break: func(broken bool) {
			if broken {
				d.tell("CREATE TRIGGER audit_entries_full BEFORE INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION full()")
			} else {
				d.tell("DROP TRIGGER audit_entries_full ON audit_entries")
			}
		},
		Rows: func(id ident.Tenant) string {
			digest, err := d.server.Fingerprint(t.Context(), d.name, id, "failures", "touched", "known", "audit_checkpoints") // what is kept without an entry, and by jobs
			if err != nil {
				t.Fatal(err)
			}
			return digest
		},
	})
	t.Logf("%d operations, %d refusals", r.Operations, r.Refusals)
	if r.Operations < 71 || r.Refusals < 190 {
		t.Errorf("%d operations, %d refusals were made", r.Operations, r.Refusals)
	}
}
