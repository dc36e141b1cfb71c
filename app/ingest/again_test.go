package ingest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

func (b *bench) node(name string) ident.Node {
	b.t.Helper()
	c := b.may(access.NodeCreate)
	return must[org.Node](b.t)(b.admin.CreateNode(b.t.Context(), c, c.Scope.Policy().Root(), org.Site, name)).ID
}

func (b *bench) register(eui string, at ident.Node) device.Device {
	b.t.Helper()
	return must[device.Device](b.t)(b.admin.CreateDevice(b.t.Context(), b.may(access.DeviceCreate), manage.NewDevice{
		Name: eui, Node: at, Decoder: b.dec, Addresses: []device.Address{{Kind: device.DevEUI, Value: eui}}}))
}

// says sends one event in some source's name.
func (b *bench) says(s access.Scope, from source.Source, id, eui string, payload byte) store.Verdict {
	b.t.Helper()
	b.now = b.now.Add(time.Millisecond)
	m := must[uplink.Message](b.t)(uplink.Parse("plain", fmt.Appendf(nil, `{"id":%q,"device":%q,"payload_hex":"%02x"}`, id, eui, payload), ""))
	return must[store.Verdict](b.t)(b.events.Accept(b.t.Context(), s, from, m))
}

func (b *bench) uplink(id ident.Uplink) uplink.Uplink {
	b.t.Helper()
	return must[uplink.Uplink](b.t)(b.out.Uplink(b.t.Context(), b.may(access.UplinkRead).Scope, id, access.UplinkRead))
}

func (b *bench) readingsOf(d ident.Device) []uplink.Reading {
	b.t.Helper()
	return must[store.Page[uplink.Reading]](b.t)(b.out.Readings(b.t.Context(), b.may(access.ReadingRead).Scope, store.Query{Limit: 9}, disclose.ReadingFilter{Device: d})).Items
}

const stranger = "70b3d57ed0000777"

func TestAReleasedUplinkIsJudgedAsThingsAreWhenItIsReleased(t *testing.T) {
	b := newBench(t, scripted{[]decoder.Category{decoder.Success}}, "x", tenant.DefaultLimits)
	north, south := b.node("North"), b.node("South")
	u := b.says(b.scope, b.way, "1", stranger, 0).ID
	release := func() {
		t.Helper()
		b.now = b.now.Add(time.Second)
		must[uplink.Uplink](t)(b.admin.Release(t.Context(), b.may(access.QuarantineRelease), u))
		b.process()
	}
	b.process()
	release()
	if got := b.uplink(u); got.State != uplink.Quarantined || got.Reason != uplink.UnknownDevice {
		t.Fatalf("released while nobody knows the device: %s %s", got.State, got.Reason)
	}
	b.now = b.now.Add(time.Second)
	d := b.register(stranger, north)
	b.now = b.now.Add(time.Second)
	must[device.Device](t)(b.admin.AssignDevice(t.Context(), b.may(access.DeviceAssign), d.ID, d.Rev, south))
	release()
	got, rs := b.uplink(u), b.readingsOf(d.ID)
	if got.State != uplink.Processed || got.Node != south || len(rs) != 1 || rs[0].Node != south || !rs[0].At.Equal(got.ArrivedAt) {
		t.Errorf("%s %s, ruled by %v; readings %+v; want it processed, at its own time, at the node of its release %v", got.State, got.Reason, got.Node, rs, south)
	}
	outs := must[store.Page[uplink.Outcome]](t)(b.out.Outcomes(t.Context(), b.may(access.ReadingRead).Scope, store.Query{Limit: 9}, store.OutcomeFilter{Uplink: u})).Items
	if len(outs) != 1 || outs[0].Node != south {
		t.Errorf("outcomes %+v", outs)
	}
}

func TestAReleaseOpensNothingThatTheSourceMayNotSpeakFor(t *testing.T) {
	b := newBench(t, scripted{[]decoder.Category{decoder.Success}}, "x", tenant.DefaultLimits)
	north, south := b.node("North"), b.node("South")
	scope, way := b.source("north", north)
	u := b.says(scope, way, "1", stranger, 0).ID
	b.process()
	b.now = b.now.Add(time.Second)
	d := b.register(stranger, south)
	b.now = b.now.Add(time.Second)
	must[uplink.Uplink](t)(b.admin.Release(t.Context(), b.may(access.QuarantineRelease), u))
	b.process()
	if got := b.uplink(u); got.State != uplink.Quarantined || got.Reason != uplink.OutsideSource || len(b.readingsOf(d.ID)) != 0 {
		t.Errorf("%s %s", got.State, got.Reason)
	}
}

func TestAReplayedUplinkStaysWhereItWasSent(t *testing.T) {
	b := newBench(t, scripted{[]decoder.Category{decoder.Success, decoder.Exception}}, "x", tenant.DefaultLimits)
	north, south := b.node("North"), b.node("South")
	d := b.register(stranger, north)
	u := b.says(b.scope, b.way, "1", stranger, 1).ID
	b.process()
	b.now = b.now.Add(time.Second)
	must[device.Device](t)(b.admin.AssignDevice(t.Context(), b.may(access.DeviceAssign), d.ID, d.Rev, south))
	b.now = b.now.Add(time.Second)
	must[uplink.Uplink](t)(b.admin.Replay(t.Context(), b.may(access.UplinkReplay), u))
	b.process()
	if got := b.uplink(u); got.Node != north || !got.ReleasedAt.IsZero() {
		t.Errorf("ruled by %v, released at %v; want its first node %v", got.Node, got.ReleasedAt, north)
	}
}

func TestNoSourceDecidesWhatIsADuplicateOfAnothersEvents(t *testing.T) {
	b := newBench(t, scripted{[]decoder.Category{decoder.Success, decoder.Success}}, "x", tenant.DefaultLimits)
	north, south := b.node("North"), b.node("South")
	d := b.register(stranger, south)
	evil, evilWay := b.source("north", north)
	good, goodWay := b.source("south", south)
	b.says(evil, evilWay, "42", stranger, 0) // the same
	b.says(evil, evilWay, "43", stranger, 0) // and another payload
	for id, payload := range map[string]byte{"42": 0, "43": 1} {
		if v := b.says(good, goodWay, id, stranger, payload); v.Duplicate || v.Conflict {
			t.Errorf("event %s: %+v", id, v)
		}
		if v := b.says(good, goodWay, id, stranger, payload); !v.Duplicate {
			t.Errorf("event %s told twice by its own source: %+v", id, v)
		}
	}
	b.process()
	if rs := b.readingsOf(d.ID); len(rs) != 2 {
		t.Errorf("%d readings, want both of the honest source", len(rs))
	}
}

func TestWhatWaitsForAVersionGoesOnWhenAnotherTakesItsPlace(t *testing.T) {
	for _, how := range []string{"activated", "rolled back"} {
		b := newBench(t, scripted{[]decoder.Category{decoder.Success, decoder.Fuel}}, "one", tenant.DefaultLimits)
		b.activate("two")
		b.send(0, 1, 1, 1, 0, 0)
		b.want("in quarantine", 0, 2, true)
		if how == "activated" {
			b.activate("three")
		} else {
			d := must[decoder.Decoder](t)(b.admin.Decoder(t.Context(), b.may(access.DecoderRead).Scope, b.dec))
			b.active = must[decoder.Decoder](t)(b.admin.RollBack(t.Context(), b.may(access.DecoderActivate), b.dec, d.Rev)).Active
		}
		b.want("when another was "+how, 2, 0, false)
	}
}

func TestWhatWaitsForFuelDoesNotGoOnForAnotherVersion(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.FuelPerMinute = 100
	b := newBench(t, scripted{[]decoder.Category{decoder.Success}}, "one", limits)
	b.activate("two")
	b.send(0, 0, 0)
	b.want("over its fuel", 1, 1, false)
	d := must[decoder.Decoder](t)(b.admin.Decoder(t.Context(), b.may(access.DecoderRead).Scope, b.dec))
	must[decoder.Decoder](t)(b.admin.RollBack(t.Context(), b.may(access.DecoderActivate), b.dec, d.Rev))
	b.want("with another version", 1, 1, false)
}

func TestTheBacklogIsCountedExactlyThroughReleases(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.Backlog = 2
	b := newBench(t, scripted{[]decoder.Category{decoder.Success}}, "x", limits)
	for range 3 { // a release that were not counted would make room each time it is worked off
		u := b.says(b.scope, b.way, fmt.Sprint(b.now), stranger, 0).ID
		b.process()
		must[uplink.Uplink](t)(b.admin.Release(t.Context(), b.may(access.QuarantineRelease), u))
		b.process()
	}
	admit := func() error {
		_, err := b.events.Admit(t.Context(), b.scope, b.way, tenant.Limits{})
		return err
	}
	b.send(0, 0)
	if err := admit(); err != nil {
		t.Errorf("with one that waits: %v", err)
	}
	b.send(0, 0)
	if err := admit(); !fault.Is(err, fault.Exhausted) {
		t.Errorf("with two: %v", err)
	}
}

// gated is an engine that holds a dry run until it is let go.
type gated struct {
	scripted

	begun, free chan struct{}
}

func (g gated) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	if j.Script.Source == "held" {
		g.begun <- struct{}{}
		<-g.free
	}
	return g.scripted.Run(ctx, j)
}

func limitedBy(t *testing.T, what string, err error, code string) {
	t.Helper()
	if f := fault.As(err); f == nil || f.Kind != fault.Exhausted || f.Code != code || f.RetryAfter <= 0 {
		t.Errorf("%s: %v, want %s and when to come back", what, err, code)
	}
}

func TestDryRunsAreOneAtATimeAndComeFromTheTenantsFuel(t *testing.T) {
	limits := tenant.DefaultLimits
	limits.FuelPerMinute = 300
	engine := gated{scripted{[]decoder.Category{decoder.Success}}, make(chan struct{}), make(chan struct{})}
	b := newBench(t, engine, "x", limits)
	b.now = b.now.Add(time.Minute)
	try := func(source string) error {
		_, err := b.admin.DryRun(t.Context(), b.may(access.DecoderTest).Scope, b.dec, ident.Version{}, source, decoder.Input{Bytes: []byte{0}})
		return err
	}
	first := make(chan error)
	go func() { first <- try("held") }()
	<-engine.begun
	limitedBy(t, "a second one beside it", try("y"), "limited_trials")
	_, err := b.admin.CreateVersion(t.Context(), b.may(access.DecoderWrite), b.dec, "z")
	limitedBy(t, "a text that is to be loaded beside it", err, "limited_trials")
	b.send(0, 0)
	b.want("uplinks do not wait for it", 1, 0, false)
	close(engine.free)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := try("y"); err != nil {
		t.Errorf("the third hundred: %v", err)
	}
	limitedBy(t, "a fourth", try("y"), "limited_fuel")
	_, err = b.admin.CreateVersion(t.Context(), b.may(access.DecoderWrite), b.dec, "z")
	limitedBy(t, "a load check", err, "limited_fuel")
	b.send(0, 0)
	b.want("uplinks use the same fuel", 1, 1, false)
	b.now = b.now.Add(time.Minute)
	if err := try("y"); err != nil {
		t.Errorf("in the next minute: %v", err)
	}
	b.want("in the next minute", 2, 0, false)
}

func TestTrialsOfAllTenantsTogetherLeaveAGuestToUplinks(t *testing.T) {
	engine := gated{scripted{[]decoder.Category{decoder.Success}}, make(chan struct{}), make(chan struct{})}
	b := newBench(t, engine, "x", tenant.DefaultLimits)
	trials := b.events.Trials(1)
	run := func(of ident.Tenant, source string) error {
		_, err := trials.Run(t.Context(), sandbox.Job{Script: sandbox.Script{Tenant: of, Source: source}, Input: decoder.Input{Bytes: []byte{0}}})
		return err
	}
	first := make(chan error)
	go func() { first <- run(b.tenant, "held") }()
	<-engine.begun
	limitedBy(t, "another tenant's beside it", run(ident.Platform, "y"), "limited_trials")
	close(engine.free)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := run(ident.Platform, "y"); err != nil {
		t.Errorf("when it has run: %v", err)
	}
}
