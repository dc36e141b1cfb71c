package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

// sluggish is an engine that takes long, and longest the first time.
type sluggish struct{ heavy }

func (e sluggish) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	j.Began()
	<-time.After(3 * time.Millisecond)
	return e.heavy.Run(ctx, j)
}

// narrow is an engine with as many guests as it has room for. Who is slow holds one for as long as it takes, the first time.
type narrow struct {
	sluggish

	guests chan struct{}
	slow   *ident.Tenant
}

func (e narrow) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	e.guests <- struct{}{}
	defer func() { <-e.guests }()
	if j.Script.Tenant == *e.slow {
		return e.sluggish.Run(ctx, j)
	}
	j.Began()
	return e.scripted.Run(ctx, j)
}

// alike gives a tenant what the first one's events are decoded with.
func (s *stream) alike(of tenant.Tenant, n byte) {
	s.t.Helper()
	mine := s.gate.System(s.tenant, "process", access.Origin{})
	var way source.Source
	var d device.Device
	var dec decoder.Decoder
	var v decoder.Version
	err := s.store.View(s.t.Context(), mine, func(ctx context.Context, r store.Reader) (err error) {
		if way, err = r.Sources().Get(ctx, s.way.ID); err != nil {
			return err
		}
		if d, err = r.Devices().ByAddress(ctx, device.Address{Kind: device.DevEUI, Value: known}); err != nil {
			return err
		}
		if dec, err = r.Decoders().Get(ctx, d.Decoder); err != nil {
			return err
		}
		v, err = r.Versions().Get(ctx, dec.Active)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	way.Account, way.Node, way.Rev = ident.Principal{n, 6: 0x70, 8: 0x80}, of.Root, 0
	d.Node, d.Rev, dec.Rev, v.Rev = of.Root, 0, 0, 0
	scope := s.gate.System(of.ID, "process", access.Origin{})
	event := must[audit.Event](s.t)(s.gate.Event(s.t.Context(), scope, audit.SourceCreated, audit.Target{Kind: "source", ID: way.ID.String()}))
	if err := s.store.Change(s.t.Context(), scope, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		_, m := w.Members().Put(ctx, principal.Member{ID: way.Account, Kind: principal.Service, Name: "gateway", Source: way.ID})
		_, ms := w.Memberships().Put(ctx, access.Membership{ID: ident.Membership{n, 6: 0x70, 8: 0x81}, Principal: way.Account, Role: access.SourceAccount, Node: of.Root, Recursive: true})
		_, ws := w.Sources().Put(ctx, way)
		_, ds := w.Decoders().Put(ctx, dec)
		_, vs := w.Versions().Put(ctx, v)
		_, de := w.Devices().Put(ctx, d)
		return []audit.Event{event}, errors.Join(m, ms, ws, ds, vs, de)
	}); err != nil {
		s.t.Fatal(err)
	}
}

// One of the two decoders that there are, and one of the engine's two guests, go on while a tenant's script runs and runs: all that
// others sent is decoded and finished, be it in the same batch or read later, and of the tenant's own nothing is lost or passed over.
func TestWhoDecodesSlowlyDelaysNobodyElse(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	slow := new(ident.Tenant)
	s := streamOf(newBench(t, narrow{sluggish{heavy{scripted{[]decoder.Category{decoder.Success}}, &sync.Once{}, func() { close(begun); <-end }}}, make(chan struct{}, 2), slow}, "x", tenant.DefaultLimits))
	*slow = s.tenant
	const mine, tenants, each = 80, 3, 10
	var quiet []bus.Record
	send := func() {
		for n := range mine / 2 {
			s.says(s.scope, s.way, fmt.Sprint(time.Now(), n), known, 0)
		}
		s.publish(quiet...)
	}
	s.says(s.scope, s.way, "first", known, 0)
	for n := range tenants {
		made, _, err := s.admin.CreateTenant(t.Context(), s.may(access.PlatformTenantCreate), fmt.Sprint("Quiet ", n), org.Customer, "bob@quiet.example")
		if err != nil {
			t.Fatal(err)
		}
		s.alike(made, byte(n+1))
		r := s.all(s.topics.Uplinks)[0]
		r.Key, r.Value = made.ID.String()+"/dev_eui:"+known, []byte(strings.ReplaceAll(string(r.Value), s.tenant.String(), made.ID.String()))
		r.Headers[2].Value = []byte(made.ID.String())
		for range each {
			quiet = append(quiet, r)
		}
	}
	send()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 2, Writers: 1, Grace: 20 * time.Second})
	}()
	finished := func(want int64) {
		t.Helper()
		tick, late := time.NewTicker(time.Millisecond), time.After(30*time.Second)
		defer tick.Stop()
		for s.events.Counts()[`ringfence_events_finished_total{state="processed"}`] < want {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("%d are wanted: %v", want, s.events.Counts())
			}
		}
	}
	behind := func() (n int64) {
		for _, l := range must[[]bus.Lag](t)(s.bus.Lags(t.Context(), "workers", s.topics.Uplinks)) {
			n += l.Behind()
		}
		return n
	}
	<-begun
	finished(tenants * each)
	send()
	finished(2 * tenants * each)
	if n := len(s.readings()); n != 0 || behind() == 0 {
		t.Errorf("%d are processed, and %d not finished, while the first is decoded", n, behind())
	}
	close(end)
	finished(2*tenants*each + 1 + mine)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := behind(); n != 0 || len(s.readings()) != 1+mine {
		t.Errorf("%d are not finished, %d readings", n, len(s.readings()))
	}
	seen := map[ident.Uplink]bool{}
	for _, r := range s.readings() {
		seen[r.Uplink] = true
	}
	if len(seen) != 1+mine {
		t.Errorf("readings of %d events", len(seen))
	}
}

// lingering is a store that takes its time to say where a device stood, and counts how often it is asked.
type lingering struct {
	store.Store

	asked *atomic.Int64
}

func (l lingering) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	return l.Store.View(ctx, s, func(ctx context.Context, r store.Reader) error { return fn(ctx, lingeringReader{r, l.asked}) })
}

type lingeringReader struct {
	store.Reader

	asked *atomic.Int64
}

func (l lingeringReader) Devices() store.Devices {
	return lingeringDevices{l.Reader.Devices(), l.asked}
}

type lingeringDevices struct {
	store.Devices

	asked *atomic.Int64
}

func (l lingeringDevices) AssignedAt(ctx context.Context, id ident.Device, at time.Time) (ident.Node, error) {
	l.asked.Add(1)
	<-time.After(2 * time.Millisecond)
	return l.Devices.AssignedAt(ctx, id, at)
}

// Where their device stood is asked once of events that came before it was changed, though they take many turns.
func TestWhatWasReadForSlowEventsIsNotReadInEachTurn(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	l := lingering{asked: new(atomic.Int64)}
	s := streamOf(newBenchOn(t, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), func(now func() time.Time, revised store.Revised) store.Store {
		l.Store = inMemory(now, revised)
		return l
	}, sluggish{heavy{scripted{[]decoder.Category{decoder.Success}}, &sync.Once{}, func() { close(begun); <-end }}}, "x", tenant.DefaultLimits))
	const events = 90
	d, name := s.register(stranger, s.node("North")), "renamed"
	for n := range events {
		s.says(s.scope, s.way, fmt.Sprint(n), stranger, 0)
	}
	s.now = s.now.Add(time.Minute)
	must[device.Device](t)(s.admin.UpdateDevice(t.Context(), s.may(access.DeviceUpdate), d.ID, d.Rev, manage.DevicePatch{Name: &name}))
	go func() {
		<-begun
		<-time.After(300 * time.Millisecond) // longer than a turn
		close(end)
	}()
	s.consume()
	if n, rs := l.asked.Load(), len(s.readings()); n > 3*events || rs != events {
		t.Errorf("%d readings; where their device stood was asked %d times", rs, n)
	}
}
