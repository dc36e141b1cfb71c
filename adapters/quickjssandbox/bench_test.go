package quickjssandbox

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/testkit/measure"
)

// typical is a codec of the size that vendors ship.
const typical = `function decodeUplink(input) {
  var out = {}, b = input.bytes;
  for (var i = 0; i < b.length;) {
    var ch = b[i++], type = b[i++];
    if (type === 0x67) { var v = (b[i] << 8) | b[i + 1]; if (v > 32767) v -= 65536; out["temperature_" + ch] = v / 10; i += 2 }
    else if (type === 0x68) { out["humidity_" + ch] = b[i] / 2; i += 1 }
    else if (type === 0x75) { out["battery_" + ch] = b[i]; i += 1 }
    else break;
  }
  return { data: out, warnings: out.battery_1 < 10 ? ["battery low"] : [] };
}`

// small is a codec of a device with two values.
const small = `function decodeUplink(input) { return { data: { temperature: (input.bytes[0] << 8 | input.bytes[1]) / 100, battery: input.bytes[2] } } }`

func benched(b testing.TB, tenant, n byte, source string) sandbox.Job {
	b.Helper()
	return sandbox.Job{Script: sandbox.Script{Tenant: ident.Tenant{tenant}, Decoder: ident.Decoder{n}, Version: ident.Version{n, tenant}, Hash: sha256.Sum256([]byte(source)), Source: source, Limits: decoder.DefaultLimits},
		Input: decoder.Input{Bytes: []byte{1, 0x75, 99, 3, 0x67, 1, 16, 4, 0x68, 101, 5, 0x67, 255, 215}, FPort: 85, RecvTime: time.Unix(1_790_000_000, 0)}}
}

func engineFor(b testing.TB, o Options) *Engine {
	b.Helper()
	o.Instances = max(o.Instances, 1)
	e, err := New(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close(context.WithoutCancel(b.Context())) })
	return e
}

// bare answers a decode that restores nothing before each call.
func bare(b testing.TB, e *Engine, job sandbox.Job) func() {
	b.Helper()
	in := <-e.guests
	b.Cleanup(func() { e.guests <- in })
	im, _, err := e.load(in, job.Script, epoch)
	if err != nil {
		b.Fatal(err)
	}
	in.restore(im, job.Script.Tenant)
	n := 0
	return func() {
		if n++; n%512 == 0 { // the guest frees nothing by itself: begin anew before it is full
			in.restore(im, job.Script.Tenant)
		}
		text, err := inputText(job.Input)
		if err != nil {
			b.Fatal(err)
		}
		in.arm(decoder.DefaultLimits.RunFuel, e.o.Guard.Run, job.Input.RecvTime)
		out, err := in.decode(&im.frame, text)
		if err != nil {
			b.Fatal(err)
		}
		if r := output(out, nil); r.Category != decoder.Success {
			b.Fatal(r)
		}
	}
}

// decodes is the way of an engine through jobs.
func decodes(b *testing.B, name string, e *Engine, job func(int) sandbox.Job) measure.Way {
	b.Helper()
	return measure.Way{Name: name, Do: func(times int) {
		for n := range times {
			if r, err := e.Run(b.Context(), job(n)); err != nil || r.Category != decoder.Success {
				b.Fatalf("%+v, %v", r, err)
			}
		}
	}}
}

// BenchmarkDecode is a decode as it is done, beside one without metering and one that restores nothing; and what it takes when
// neighbours take turns.
func BenchmarkDecode(b *testing.B) {
	same := func(j sandbox.Job) func(int) sandbox.Job { return func(int) sandbox.Job { return j } }
	one, other := benched(b, 1, 1, typical), benched(b, 1, 2, small)
	call := bare(b, engineFor(b, Options{}), one)
	crowd := make([]sandbox.Job, 1000)
	for i := range crowd {
		crowd[i] = benched(b, byte(i%100), byte(i/100), fmt.Sprintf("%s // %d", typical, i))
		crowd[i].Script.Version = ident.Version{byte(i), byte(i >> 8)}
	}
	costs := measure.InTurn(b, 7, 300*time.Millisecond,
		decodes(b, "typical", engineFor(b, Options{}), same(one)),
		decodes(b, "typical-unmetered", engineFor(b, Options{unmetered: true}), same(one)),
		measure.Way{Name: "typical-not-isolated", Do: func(n int) {
			for range n {
				call()
			}
		}},
		decodes(b, "small", engineFor(b, Options{}), same(other)),
		decodes(b, "small-unmetered", engineFor(b, Options{unmetered: true}), same(other)),
		decodes(b, "thousand-decoders", engineFor(b, Options{CacheBytes: 1 << 30}), func(n int) sandbox.Job { return crowd[n*7919%1000] }),
		decodes(b, "first-load", engineFor(b, Options{CacheBytes: 1}), func(n int) sandbox.Job {
			return benched(b, 1, byte(n), fmt.Sprintf("%s // %d", typical, n))
		}))
	measure.Report(b, costs)
	b.ReportMetric(costs[0].Against(costs[2]), "x-isolated")
	b.ReportMetric(costs[0].Against(costs[1]), "x-metered-typical")
	b.ReportMetric(costs[3].Against(costs[4]), "x-metered-small")
}
