package kafkabus_test

import (
	"context"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/ports/bus"
)

// benches measures on a topic of four partitions with records of 300 bytes.
func benches(b *testing.B, o kafkabus.Options, topic string) {
	rs := make([]bus.Record, 200)
	for i := range rs {
		rs[i] = bus.Record{Topic: topic, Key: string(rune('a' + i%50)), Value: make([]byte, 300)}
	}
	b.Run("Publish200", func(b *testing.B) {
		one := open(b, o)
		b.ReportAllocs()
		for b.Loop() {
			good(b, one.Publish(context.Background(), rs))
		}
		b.ReportMetric(float64(b.N)*200/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("PublishOneFromMany", func(b *testing.B) {
		one := open(b, o)
		b.ReportAllocs()
		b.SetParallelism(100)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				good(b, one.Publish(context.Background(), rs[:1]))
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("FetchAndCommit", func(b *testing.B) {
		one := open(b, o)
		for range 500 {
			good(b, one.Publish(context.Background(), rs))
		}
		b.ReportAllocs()
		read := 0
		var spent time.Duration
		for b.Loop() {
			m := join(b, one, "bench."+time.Now().Format("150405.000000000"), topic)
			n := 0
			var began time.Time
			for n < 50_000 {
				got, err := m.Fetch(context.Background(), 1000, time.Second)
				if err != nil {
					b.Fatal(err)
				}
				if began.IsZero() && len(got) > 0 {
					began = time.Now()
				}
				n += len(got)
				if len(got) > 0 {
					last := got[len(got)-1]
					_ = m.Commit(context.Background(), []bus.Mark{{Topic: topic, Partition: last.Partition, Next: last.Offset + 1}})
				}
			}
			spent += time.Since(began)
			read += n
			_ = m.Close()
		}
		b.ReportMetric(float64(read)/spent.Seconds(), "records/s")
	})
}

func BenchmarkOnAFakeKafka(b *testing.B) {
	_, p := fake(b)
	create(b, p, "bench", 4)
	benches(b, p.options, "bench")
}
