package ingest_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

// scripted is an engine whose verdict stands in the payload's first byte.
type scripted struct{ verdicts []decoder.Category }

func (scripted) Check(context.Context, sandbox.Script) (decoder.Result, error) {
	return decoder.Result{Category: decoder.Success}, nil
}

func (e scripted) Run(_ context.Context, j sandbox.Job) (decoder.Result, error) {
	r := decoder.Result{Category: e.verdicts[j.Input.Bytes[0]], Fuel: 100}
	if r.Category == decoder.Success {
		r.Data = []byte(`{"by":"` + j.Script.Source + `"}`)
	} else {
		r.Message = "It failed."
	}
	return r, nil
}

func (scripted) Version() string             { return "scripted" }
func (scripted) Close(context.Context) error { return nil }

// bench is the application on the memory adapters with one tenant, a decoder, two devices and a clock that a test moves.
type bench struct {
	t      *testing.T
	now    time.Time
	store  *memory.Store
	gate   *enter.Enter
	events *ingest.Ingest

	unaware *ingest.Ingest // a process that nobody tells of changes

	admin  *manage.Manage
	out    *disclose.Disclose
	may    func(access.Permission) *manage.Call
	scope  access.Scope
	way    source.Source
	tenant ident.Tenant
	dec    ident.Decoder
	active ident.Version
	sent   int

	ahead atomic.Int64 // nanoseconds that the clock is ahead of now, for who changes it while others look
}

func must[V any](t *testing.T) func(V, error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newBench(t *testing.T, engine sandbox.Engine, script string, limits tenant.Limits) *bench {
	t.Helper()
	return newBenchOn(t, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), inMemory, engine, script, limits)
}

// opening opens a store that tells of changes.
type opening func(now func() time.Time, revised store.Revised) store.Store

func inMemory(now func() time.Time, revised store.Revised) store.Store {
	return memory.New(memory.Options{Now: now, Revised: revised})
}

func newBenchOn(t *testing.T, begin time.Time, open opening, engine sandbox.Engine, script string, limits tenant.Limits) *bench {
	t.Helper()
	b := &bench{t: t, now: begin}
	clock := func() time.Time { return b.now.Add(time.Duration(b.ahead.Load())) }
	ctx, from := t.Context(), access.Origin{Address: "192.0.2.1"}
	cache, limiter, keys, log := enter.NewCache(100), memlimit.New(clock, 1000), must[*keyring.Keyring](t)(keyring.Ephemeral()), slog.New(slog.DiscardHandler)
	records := open(clock, cache.Revised)
	b.store, _ = records.(*memory.Store)
	recorder := enter.Recorder{Mint: ident.Mint{Now: clock, Random: func(b []byte) { _, _ = rand.Read(b) }}, Sealer: keys, Peppers: keys}
	b.gate = enter.New(records, cache, recorder, log)
	b.unaware = ingest.New(enter.New(records, enter.NewCache(100), recorder, log), records, engine, limiter, limits, log)
	gate := b.gate
	people := signin.New(gate, records, must[*localauth.Passwords](t)(localauth.New(localauth.Options{})), limiter)
	b.events = ingest.New(gate, records, engine, limiter, limits, log)
	b.admin, b.out = manage.New(gate, records, b.events.Trials(2), limits, b.events.Again), disclose.New(gate, records, keys)
	link, ana := must[secret.Text](t)(people.SetupLink(ctx)), signin.NewPerson{Email: "ana@acme.example", Name: "Ana", Password: secret.New("four random words here")}
	_, acme, err := people.Setup(ctx, link, ana, &signin.FirstTenant{Name: "Acme Water"}, from)
	if err != nil {
		t.Fatal(err)
	}
	b.tenant = acme.ID
	session := must[signin.Granted](t)(people.Login(ctx, ana.Email, ana.Password, false, from))
	who := must[enter.Identity](t)(gate.Authenticate(ctx, session.Access, from))
	b.may = func(p access.Permission) *manage.Call {
		t.Helper()
		in := b.tenant
		if p.OfPlatform() {
			in = ident.Platform
		}
		return &manage.Call{Scope: must[access.Scope](t)(gate.Gate(ctx, who, in, p, enter.Root, from))}
	}
	b.dec = must[decoder.Decoder](t)(b.admin.CreateDecoder(ctx, b.may(access.DecoderWrite), "level")).ID
	b.activate(script)
	other := must[decoder.Decoder](t)(b.admin.CreateDecoder(ctx, b.may(access.DecoderWrite), "other")).ID
	was := b.dec
	b.dec = other
	b.activate(`function decodeUplink(input) { return { data: { other: 1 } } }`)
	b.dec, b.active = was, must[decoder.Decoder](t)(b.admin.Decoder(ctx, b.may(access.DecoderRead).Scope, was)).Active
	for i, d := range []ident.Decoder{b.dec, other} {
		at := device.Address{Kind: device.DevEUI, Value: fmt.Sprintf("70b3d57ed000000%d", i)}
		must[device.Device](t)(b.admin.CreateDevice(ctx, b.may(access.DeviceCreate), manage.NewDevice{Name: at.Value, Addresses: []device.Address{at}, Decoder: d}))
	}
	b.scope, b.way = b.source("gateway", ident.Node{})
	return b
}

// source makes a source at a node, zero for the root, and answers what it sends with.
func (b *bench) source(name string, at ident.Node) (access.Scope, source.Source) {
	b.t.Helper()
	ctx, from := b.t.Context(), access.Origin{Address: "192.0.2.1"}
	way := must[source.Source](b.t)(b.admin.CreateSource(ctx, b.may(access.SourceWrite), source.Source{Name: name, Node: at, Format: source.Plain}))
	_, key, err := b.admin.CreateKey(ctx, b.may(access.SourceKeyCreate), way.ID, "first", 24*time.Hour, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	scope, way, _, err := b.gate.Source(ctx, must[enter.Identity](b.t)(b.gate.Authenticate(ctx, key, from)), from)
	if err != nil {
		b.t.Fatal(err)
	}
	return scope, way
}

// activate makes a version of the decoder and lets it run.
func (b *bench) activate(script string) {
	b.t.Helper()
	ctx := b.t.Context()
	v := must[decoder.Version](b.t)(b.admin.CreateVersion(ctx, b.may(access.DecoderWrite), b.dec, script))
	d := must[decoder.Decoder](b.t)(b.admin.Decoder(ctx, b.may(access.DecoderRead).Scope, b.dec))
	must[decoder.Decoder](b.t)(b.admin.Activate(ctx, b.may(access.DecoderActivate), b.dec, d.Rev, v.ID))
	b.active = v.ID
}

// send accepts uplinks of a device, each with one byte of payload.
func (b *bench) send(dev int, payload ...byte) {
	b.t.Helper()
	for _, p := range payload {
		b.sent++
		b.now = b.now.Add(time.Millisecond) // uplinks are worked off in the order of their arrival
		m := must[uplink.Message](b.t)(uplink.Parse("plain", fmt.Appendf(nil, `{"id":"%d","device":"70b3d57ed000000%d","payload_hex":"%02x"}`, b.sent, dev, p), ""))
		must[store.Verdict](b.t)(b.events.Accept(b.t.Context(), b.scope, b.way, m))
	}
}

// process works until nothing more can be done now, and says how many readings there are and how many uplinks wait.
func (b *bench) process() (readings, waiting int) {
	b.t.Helper()
	for must[int](b.t)(b.events.Process(b.t.Context(), b.tenant)) > 0 {
		continue
	}
	return b.seen()
}

// seen is how many readings there are and how many uplinks wait.
func (b *bench) seen() (readings, waiting int) {
	b.t.Helper()
	readings = len(must[store.Page[uplink.Reading]](b.t)(b.out.Readings(b.t.Context(), b.may(access.ReadingRead).Scope, store.Query{Limit: 200}, disclose.ReadingFilter{})).Items)
	page := must[store.Page[uplink.Uplink]](b.t)(b.out.Uplinks(b.t.Context(), b.may(access.UplinkRead).Scope, access.UplinkRead, store.Query{Limit: 200}, store.UplinkFilter{}))
	for _, u := range page.Items {
		if u.State == uplink.Accepted {
			waiting++
		}
	}
	return readings, waiting
}

func (b *bench) want(when string, readings, waiting int, paused bool) {
	b.t.Helper()
	r, w := b.process()
	if until := b.events.Paused(b.active); r != readings || w != waiting || until.IsZero() == paused {
		b.t.Fatalf("%s: %d readings, %d wait, quarantined until %v; want %d, %d, %v", when, r, w, until, readings, waiting, paused)
	}
}

const hostile = `function decodeUplink(input) {
  if (input.bytes[0] === 1) for (;;) {}
  if (input.bytes[0] === 2) { var a = []; for (;;) a.push(new Uint8Array(1 << 20)) }
  return { data: { ok: input.bytes[0] } }
}`

func TestAVersionThatFailsThreeTimesInARowIsQuarantinedForAMinuteAndUplinksWait(t *testing.T) {
	engine := must[*quickjssandbox.Engine](t)(quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1}))
	t.Cleanup(func() { _ = engine.Close(context.Background()) })
	b := newBench(t, engine, hostile, tenant.DefaultLimits)
	b.send(0, 7, 1, 2)
	b.want("after two failures", 1, 0, false)
	b.send(0, 1, 7, 7)
	b.want("after the third", 1, 2, true)
	until := b.events.Paused(b.active)
	if !until.Equal(b.now.Add(time.Minute)) {
		t.Errorf("quarantined until %v, a minute is %v", until, b.now.Add(time.Minute))
	}
	b.send(0, 7)
	b.send(1, 7, 7)
	b.want("meanwhile another decoder's uplinks do not wait", 3, 3, true)

	// The tenant sees why: each failure is an outcome with its category and a sentence.
	page := must[store.Page[uplink.Outcome]](t)(b.out.Outcomes(t.Context(), b.may(access.ReadingRead).Scope, store.Query{Limit: 50}, store.OutcomeFilter{}))
	seen := map[decoder.Category]int{}
	for _, o := range page.Items {
		seen[o.Category]++
		if o.Category != decoder.Success && (o.Message == "" || o.Version != b.active || o.Fuel == 0 || o.Hash == [32]byte{} || !strings.HasPrefix(o.Engine, "quickjs")) {
			t.Errorf("%+v says too little", o)
		}
	}
	if seen[decoder.Fuel] != 2 || seen[decoder.Memory] != 1 || seen[decoder.Success] != 3 {
		t.Errorf("outcomes %v", seen)
	}

	b.now = until.Add(-time.Millisecond)
	b.want("a moment before the minute is over", 3, 3, true)
	b.now = b.now.Add(time.Millisecond)
	b.want("when it is over", 6, 0, false)
	b.send(0, 1, 1, 7)
	b.want("the count begins anew", 7, 0, false)
}

// told is an engine that says when it has run another version's script than the one that fails.
type told struct {
	scripted

	ran chan struct{}
}

func (e told) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	if j.Script.Source != "fails" {
		close(e.ran)
	}
	return e.scripted.Run(ctx, j)
}

func TestThousandsOfAPausedVersionKeepNoOtherDecoderWaiting(t *testing.T) {
	engine := told{scripted{[]decoder.Category{decoder.Success, decoder.Fuel}}, make(chan struct{})}
	b := newBench(t, engine, "fails", tenant.DefaultLimits)
	b.send(0, 1, 1, 1)
	b.want("in quarantine", 0, 0, true)
	b.send(0, make([]byte, 5000)...)
	b.send(1, 0)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.events.Run(ctx, 1) }()
	select {
	case <-engine.ran:
	case <-time.After(time.Minute): // a pause of a second after each batch would make it 79
		t.Error("the healthy decoder is not reached")
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestANewVersionTakesEffectAtOnce(t *testing.T) {
	b := newBench(t, scripted{[]decoder.Category{decoder.Success, decoder.Fuel}}, "one", tenant.DefaultLimits)
	b.send(0, 0)
	b.process()
	b.send(0, 1, 1, 1)
	b.want("in quarantine", 1, 0, true)
	b.activate("two")
	b.send(0, 0)
	b.want("a version that never failed", 2, 0, false)
	page := must[store.Page[uplink.Reading]](t)(b.out.Readings(t.Context(), b.may(access.ReadingRead).Scope, store.Query{Limit: 9}, disclose.ReadingFilter{}))
	if got := string(page.Items[0].Data) + string(page.Items[1].Data); !strings.Contains(got, "one") || !strings.Contains(got, "two") || page.Items[0].Version == page.Items[1].Version {
		t.Errorf("readings %s", got)
	}
}

func TestOnlyFuelAndMemoryInARowCount(t *testing.T) {
	verdicts := []decoder.Category{decoder.Success, decoder.Fuel, decoder.Memory, decoder.Stack, decoder.Exception, decoder.BadOutput, decoder.Load, decoder.Internal}
	for _, c := range []struct {
		name        string
		payloads    []byte
		quarantined bool
	}{
		{"three in a row", []byte{1, 2, 1}, true},
		{"a pass between", []byte{1, 1, 0, 1, 1}, false},
		{"another failure between", []byte{1, 2, 4, 2, 1}, false},
		{"other failures", []byte{3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6}, false},
		{"our own fault is no verdict: it does not count", []byte{1, 1, 7}, false},
		{"nor does it forgive", []byte{1, 1, 7, 1}, true},
	} {
		b := newBench(t, scripted{verdicts}, "x", tenant.DefaultLimits)
		b.send(0, c.payloads...)
		b.process()
		if got := !b.events.Paused(b.active).IsZero(); got != c.quarantined {
			t.Errorf("%s: quarantined is %v", c.name, got)
		}
	}
}

func TestOurOwnFaultIsTriedAgainAndThenLeft(t *testing.T) {
	b := newBench(t, scripted{[]decoder.Category{decoder.Internal}}, "x", tenant.DefaultLimits)
	b.send(0, 0)
	for _, after := range []time.Duration{0, 2 * time.Second, 4 * time.Second} {
		b.want("before", 0, 1, false)
		b.now = b.now.Add(after)
	}
	b.want("after the third try", 0, 0, false)
	page := must[store.Page[uplink.Outcome]](t)(b.out.Outcomes(t.Context(), b.may(access.ReadingRead).Scope, store.Query{Limit: 50}, store.OutcomeFilter{}))
	if len(page.Items) != 3 || page.Items[0].Category != decoder.Internal {
		t.Errorf("%+v", page.Items)
	}
}

func TestATenantOverItsFuelWaitsForTheNextMinute(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.FuelPerMinute = 250
	b := newBench(t, scripted{[]decoder.Category{decoder.Success}}, "x", limits)
	b.now = b.now.Add(10 * time.Second)
	b.send(0, 0, 0, 0, 0, 0)
	b.want("in this minute", 3, 2, false)
	b.now = b.now.Truncate(time.Minute).Add(time.Minute - time.Second)
	b.want("at its end", 3, 2, false)
	b.now = b.now.Add(time.Second)
	b.want("in the next", 5, 0, false)
}
