//go:build services

package kafkabus_test

import (
	"crypto/rand"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/testkit/bustest"
)

// real is Apache Kafka, as its administrator, with a topic of what is expected that no other test has.
func real(t testing.TB, addr string, admin servers.Login) *place {
	t.Helper()
	o := quick(kafkabus.Options{Brokers: []string{addr}, User: admin.User, Password: secret.New(admin.Password)})
	b := open(t, o)
	ctx := soon(t)
	o.Expected = "expected." + rand.Text()
	if err := b.Create(ctx, kafkabus.Topic{Name: o.Expected, Partitions: 1, Settings: map[string]string{"cleanup.policy": "compact"}}); err != nil {
		t.Fatal(err)
	}
	raw, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.SASL(scram.Auth{User: admin.User, Pass: admin.Password}.AsSha512Mechanism()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(raw.Close)
	return newPlace(o, raw)
}

func shared(t testing.TB) *place {
	t.Helper()
	addr, admin := servers.SharedKafka(t)
	return real(t, addr, admin)
}

func TestTheBusFillsThePortOnKafka(t *testing.T) {
	p := shared(t)
	bustest.Run(t, func(testing.TB) *bustest.Server { return p.server() }, bustest.Losing, bustest.Growing, bustest.Cutting)
}

func BenchmarkOnKafka(b *testing.B) {
	p := shared(b)
	create(b, p, p.options.Expected+".bench", 4)
	benches(b, p.options, p.options.Expected+".bench")
}
