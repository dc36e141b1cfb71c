//go:build services

package node_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/bus"
)

// output lets the tenant's decoded events go out, to a consumer of its own: the tenant says that it wants them, and an administrator of
// Kafka makes its topic and its rights.
func (d *deployment) output(user string) (password secret.Text) {
	d.t.Helper()
	own := d.ask("GET", "/v1/tenants/"+d.tenant, nil, 200)
	d.ask("PATCH", "/v1/tenants/"+d.tenant, object{"kafka_output": true, "-rev": str(own, "-etag")}, 200)
	password = secret.New(word())
	if err := d.carrier.SetUser(d.t.Context(), user, password); err != nil {
		d.t.Fatal(err)
	}
	d.consumer(d.id(), user)
	return password
}

func (d *deployment) id() ident.Tenant {
	d.t.Helper()
	t, err := ident.ParseTenant(d.tenant)
	if err != nil {
		d.t.Fatal(err)
	}
	return t
}

func (d *deployment) consumer(t ident.Tenant, user string) {
	d.t.Helper()
	d.consumers[t.String()] = user
	d.topics()
}

// wentOut are the events in the tenant's topic, in the order in which each came first, with how often.
func (d *deployment) wentOut() map[string]int {
	d.t.Helper()
	topic, out := bus.TopicsUnder("rf").Out(d.id()), map[string]int{}
	for part := range 3 {
		for at := int64(0); ; {
			rs, err := d.carrier.Browse(d.t.Context(), topic, part, at, 1000)
			if err != nil {
				d.t.Fatal(err)
			}
			if len(rs) == 0 {
				break
			}
			for _, r := range rs {
				var form struct {
					Event  string `json:"event_id"`
					Tenant string `json:"tenant_id"`
				}
				if err := json.Unmarshal(r.Value, &form); err != nil || form.Tenant != d.tenant {
					d.t.Fatalf("%s: %v", r.Value, err)
				}
				out[form.Event]++
				at = r.Offset + 1
			}
		}
	}
	return out
}

// The example of README: a tenant's own consumer is given exactly its data.
func TestATenantsConsumerReadsItsDecodedEventsAndNobodyElses(t *testing.T) {
	d := deploy(t)
	password := d.output("acme-consumer")
	other := ident.Tenant{9, 6: 0x70, 8: 0x80}
	rivals := secret.New(word())
	if err := d.carrier.SetUser(t.Context(), "rival-consumer", rivals); err != nil {
		t.Fatal(err)
	}
	d.consumer(other, "rival-consumer")
	d.run("mqtt-ingestion-worker")
	d.run("event-worker")
	d.publish(0, 50)
	d.whole(50, 30*time.Second)
	topics := bus.TopicsUnder("rf")
	open := func(user string, password secret.Text) *kafkabus.Bus {
		b, err := kafkabus.Open(kafkabus.Options{Brokers: []string{d.kafka.Addr()}, User: user, Password: password})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	acme, rival := open("acme-consumer", password), open("rival-consumer", rivals)
	m, err := acme.Join(t.Context(), kafkabus.GroupsOf("rf", d.id())+"app", topics.Out(d.id()))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	d.await("the consumer has all", 30*time.Second, func() error {
		rs, err := m.Fetch(t.Context(), 100, time.Second)
		if err != nil {
			return err
		}
		for _, r := range rs {
			got[string(r.Headers[0].Value)] = true
		}
		if len(got) != 50 {
			return fmt.Errorf("%d events", len(got))
		}
		return nil
	})
	for what, try := range map[string]func() error{
		"another tenant's topic": func() error { _, err := rival.Browse(t.Context(), topics.Out(d.id()), 0, 0, 1); return err },
		"another tenant's group": func() error {
			_, err := rival.Lags(t.Context(), kafkabus.GroupsOf("rf", d.id())+"app", topics.Out(other))
			return err
		},
		"the topic of all tenants": func() error { _, err := acme.Browse(t.Context(), topics.Uplinks, 0, 0, 1); return err },
		"the dead letters":         func() error { _, err := acme.Browse(t.Context(), topics.Dead, 0, 0, 1); return err },
		"writing to its own": func() error {
			return acme.Publish(t.Context(), []bus.Record{{Topic: topics.Out(d.id()), Key: "k", Value: []byte("forged")}})[0]
		},
	} {
		if err := try(); err == nil {
			t.Errorf("%s: nobody refused it", what)
		}
	}
}
