package ingest_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/tenant"
)

// Another process than the one that has a version in quarantine rolls it back: of that it is told no more than that something changed.
func TestWhatWaitsForAVersionGoesOnWhenAnotherProcessRollsItBack(t *testing.T) {
	engine := scripted{[]decoder.Category{decoder.Success, decoder.Fuel}}
	b := newBench(t, engine, "one", tenant.DefaultLimits)
	b.activate("two")
	worker := ingest.New(b.gate, b.store, engine, memlimit.New(func() time.Time { return b.now }, 1000), tenant.DefaultLimits, slog.New(slog.DiscardHandler))
	b.send(0, 1, 1, 1, 0, 0)
	must[int](t)(worker.Process(t.Context(), b.tenant))
	d := must[decoder.Decoder](t)(b.admin.Decoder(t.Context(), b.may(access.DecoderRead).Scope, b.dec))
	if worker.Paused(d.Active).IsZero() || !b.events.Paused(d.Active).IsZero() {
		t.Fatal("the version wants to be in quarantine with the worker alone")
	}
	must[decoder.Decoder](t)(b.admin.RollBack(t.Context(), b.may(access.DecoderActivate), b.dec, d.Rev))
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- worker.Run(ctx, 1) }()
	tick, late := time.NewTicker(10*time.Millisecond), time.NewTimer(30*time.Second)
	defer tick.Stop()
	defer late.Stop()
	for readings := 0; readings < 2; {
		select {
		case <-tick.C:
			readings, _ = b.seen()
		case <-late.C:
			t.Error("what waits for the version before waits on")
			readings = 2
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
