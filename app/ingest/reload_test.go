package ingest_test

import (
	"context"
	"crypto/sha256"
	"testing"

	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// A tenant whose loaded script has to make room for others' pays for loading it once.
func TestWhatOthersPushOutIsLoadedAgainAtNoCostOfItsTenants(t *testing.T) {
	const script = `for (var n = 0; n < 50000; n++) {} function decodeUplink(i) { return { data: { n: n } } }`
	engine := must[*quickjssandbox.Engine](t)(quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1, CacheBytes: 1 << 20}))
	t.Cleanup(func() { _ = engine.Close(context.Background()) })
	of := func(n byte) sandbox.Script {
		return sandbox.Script{Tenant: ident.Tenant{n}, Decoder: ident.Decoder{1}, Version: ident.Version{1}, Hash: sha256.Sum256([]byte(script)), Source: script, Limits: decoder.DefaultLimits}
	}
	loading := must[decoder.Result](t)(engine.Check(t.Context(), of(1))).Fuel
	limits := tenant.DefaultLimits
	limits.FuelPerMinute = 3 * loading
	b := newBench(t, engine, script, limits)
	loads := 0
	for n := range 8 {
		b.send(0, 1)
		b.want("decoded", n+1, 0, false)
		for other := range byte(12) { // 1 MiB has room for a few
			r := must[decoder.Result](t)(engine.Run(t.Context(), sandbox.Job{Script: of(100 + other), Input: decoder.Input{Bytes: []byte{1}, RecvTime: b.now}}))
			if r.Category != decoder.Success {
				t.Fatal(r.Category, r.Message)
			}
			if r.LoadFuel > 0 {
				loads++
			}
		}
	}
	if loads != 12 {
		t.Errorf("the others paid for %d loads, want one each", loads)
	}
}
