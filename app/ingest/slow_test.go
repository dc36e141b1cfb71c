package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
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

// The one decoder that there is goes on while a tenant's script runs and runs: all that others sent is finished, be it in the same
// batch or read later, and of the tenant's own nothing is lost or passed over.
func TestWhoDecodesSlowlyDelaysNobodyElse(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	s := streamOf(newBench(t, sluggish{heavy{scripted{[]decoder.Category{decoder.Success}}, &sync.Once{}, func() { close(begun); <-end }}}, "x", tenant.DefaultLimits))
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
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: 20 * time.Second})
	}()
	finished := func(state string, want int64) {
		t.Helper()
		tick, late := time.NewTicker(time.Millisecond), time.After(30*time.Second)
		defer tick.Stop()
		for s.events.Counts()[`ringfence_events_finished_total{state="`+state+`"}`] < want {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("%d %s are wanted: %v", want, state, s.events.Counts())
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
	finished("quarantined", tenants*each) // their sources are nowhere
	send()
	finished("quarantined", 2*tenants*each)
	if n := s.events.Counts()[`ringfence_events_finished_total{state="processed"}`]; n != 0 || behind() == 0 {
		t.Errorf("%d are processed, and %d not finished, while the first is decoded", n, behind())
	}
	close(end)
	finished("processed", 1+mine)
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
