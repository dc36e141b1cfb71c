//go:build services

package mqttlink_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// Messages of 300 B from a session that the broker has queued, to a Take that does nothing: the link alone, and Mosquitto.
func BenchmarkMessages(b *testing.B) {
	broker := mosquitto(b, servers.Options{})
	var taken atomic.Int64
	o := mqttlink.Options{
		Take: func(_ context.Context, ms []mqttlink.Message) []error {
			taken.Add(int64(len(ms)))
			return make([]error, len(ms))
		},
		Log: slog.New(slog.DiscardHandler), Name: "w",
	}
	reached := func(ls *mqttlink.Links, name string, n int64) {
		eventually(b, name, func() bool { return count(ls, name) >= n })
	}
	ls, err := mqttlink.Open(b.Context(), []mqttlink.Connection{broker.connection()}, o)
	if err != nil {
		b.Fatal(err)
	}
	reached(ls, "subscribes_total", 1)
	if err := ls.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	fill(b, broker, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	if ls, err = mqttlink.Open(b.Context(), []mqttlink.Connection{broker.connection()}, o); err != nil {
		b.Fatal(err)
	}
	reached(ls, "acknowledged_total", int64(b.N))
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	if err := ls.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
}
