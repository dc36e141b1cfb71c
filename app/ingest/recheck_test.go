package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

// meddled is an engine during whose runs something happens.
type meddled struct {
	scripted

	runs      int
	meanwhile func(run int)
}

func (e *meddled) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	e.runs++
	e.meanwhile(e.runs)
	return e.scripted.Run(ctx, j)
}

func meddling(t *testing.T) (*bench, *meddled) {
	t.Helper()
	e := &meddled{scripted: scripted{[]decoder.Category{decoder.Success}}, meanwhile: func(int) {}}
	return newBench(t, e, "one", tenant.DefaultLimits), e
}

// An administrator is answered while an event is decoded: what is written then is as things are since.
func TestWhatIsChangedWhileAnEventIsDecodedHoldsForIt(t *testing.T) {
	disabled := device.Disabled
	for _, c := range []struct {
		what   string
		change func(b *bench, d device.Device)
		state  uplink.State
		reason uplink.Reason
		runs   int
	}{
		{"the device is disabled", func(b *bench, d device.Device) {
			must[device.Device](b.t)(b.admin.UpdateDevice(b.t.Context(), b.may(access.DeviceUpdate), d.ID, d.Rev, manage.DevicePatch{State: &disabled}))
		}, uplink.Quarantined, uplink.DisabledDevice, 1},
		{"the device is deleted", func(b *bench, d device.Device) {
			if err := b.admin.DeleteDevice(b.t.Context(), b.may(access.DeviceDelete), d.ID, d.Rev); err != nil {
				b.t.Error(err)
			}
		}, uplink.Quarantined, uplink.UnknownDevice, 1},
		{"the source speaks for others alone", func(b *bench, d device.Device) {
			others := []ident.Device{b.register("70b3d57ed0000998", d.Node).ID}
			must[source.Source](b.t)(b.admin.UpdateSource(b.t.Context(), b.may(access.SourceWrite), b.way.ID, b.way.Rev, manage.SourcePatch{Devices: &others}))
		}, uplink.Quarantined, uplink.OutsideSource, 1},
		{"another version is activated", func(b *bench, _ device.Device) { b.activate("two") }, uplink.Processed, "", 2},
		{"the tenant is suspended", func(b *bench, _ device.Device) {
			must[tenant.Tenant](b.t)(b.admin.SetTenantState(b.t.Context(), b.may(access.PlatformTenantSuspend), b.tenant, tenant.Suspended))
		}, uplink.Accepted, "", 1},
		{"something else is changed", func(b *bench, d device.Device) { b.register("70b3d57ed0000999", d.Node) }, uplink.Processed, "", 1},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "_"), func(t *testing.T) {
			b, engine := meddling(t)
			d := b.register(stranger, b.node("North"))
			u := b.says(b.scope, b.way, "1", stranger, 0).ID
			b.now = b.now.Add(time.Second)
			engine.meanwhile = func(run int) {
				if run == 1 {
					c.change(b, d)
				}
			}
			for must[int](t)(b.events.Process(t.Context(), b.tenant)) > 0 {
				continue
			}
			if c.state == uplink.Accepted {
				must[tenant.Tenant](t)(b.admin.SetTenantState(t.Context(), b.may(access.PlatformTenantResume), b.tenant, tenant.Active))
			}
			got, rs := b.uplink(u), b.readingsOf(d.ID)
			if got.State != c.state || got.Reason != c.reason || engine.runs != c.runs {
				t.Errorf("it is %s %s after %d runs", got.State, got.Reason, engine.runs)
			}
			if c.state == uplink.Processed {
				by := []string{"", "one", "two"}[c.runs]
				if len(rs) != 1 || string(rs[0].Data) != fmt.Sprintf(`{"by":%q}`, by) {
					t.Errorf("readings %+v, want one by %s", rs, by)
				}
			} else if len(rs) != 0 {
				t.Errorf("readings %+v", rs)
			}
		})
	}
}

// A tenant whose tree changes faster than a batch is decoded has fewer decided at once, and keeps no worker for itself.
func TestATenantThatChangesAllTheTimeIsPutOff(t *testing.T) {
	b, engine := meddling(t)
	for n := range 70 {
		b.says(b.scope, b.way, fmt.Sprint(n), known, 0)
	}
	engine.meanwhile = func(int) { b.node(fmt.Sprint(engine.runs)) }
	if n := must[int](t)(b.events.Process(t.Context(), b.tenant)); n != 0 || engine.runs != 64+8+1 {
		t.Errorf("%d are finished after %d runs", n, engine.runs)
	}
	if r, w := b.seen(); r != 0 || w != 70 {
		t.Errorf("%d readings, %d wait", r, w)
	}
	slower := engine.runs + 60
	engine.meanwhile = func(run int) {
		if run < slower {
			b.node(fmt.Sprint(run))
		}
	}
	if r, w := b.process(); r != 70 || w != 0 {
		t.Errorf("in the end %d readings, %d wait", r, w)
	}
	if n := b.events.Counts()["ringfence_events_decided_again_total"]; n != 4 {
		t.Errorf("decided again %d times", n)
	}
}

// Over a bus such a tenant's events are decided some times, one that fails counts as one, and then they wait in the store, where they
// stand in nobody's way.
func TestWhatIsStaleTooOftenWaitsInTheStore(t *testing.T) {
	e := &meddled{scripted: scripted{[]decoder.Category{decoder.Success, decoder.Fuel}}}
	s := streamOf(newBench(t, e, "one", tenant.DefaultLimits))
	e.meanwhile = func(run int) {
		if run < 10 {
			s.node(fmt.Sprint(run))
		}
	}
	u := s.says(s.scope, s.way, "1", known, 1)
	s.consume()
	if got := s.uplink(u.ID); got.State != uplink.Accepted || e.runs != 3 {
		t.Errorf("after %d runs it is %s", e.runs, got.State)
	}
	for range 3 {
		must[int](t)(s.events.Process(t.Context(), s.tenant))
	}
	if until := s.events.Paused(s.active); !until.IsZero() || s.uplink(u.ID).State != uplink.Failed {
		t.Errorf("one event's failure is three: %s, it is %s", until, s.uplink(u.ID).State)
	}
}

// locked is a store whose one tenant is being changed.
type locked struct {
	store.Store

	changing atomic.Bool
}

type lockedFlow struct{ store.Flow }

func (lockedFlow) Recheck(context.Context, store.Seen) error { return store.ErrBusy }

func (l *locked) Ingest(ctx context.Context, s access.Scope, fn func(context.Context, store.Flow) error) error {
	return l.Store.Ingest(ctx, s, func(ctx context.Context, f store.Flow) error {
		if l.changing.Load() {
			f = lockedFlow{f}
		}
		return fn(ctx, f)
	})
}

// What waits of a tenant that is being changed is left to the next turn: that is no failure, and nobody waits for it.
func TestWhatWaitsOfATenantThatIsBeingChangedHasItsNextTurn(t *testing.T) {
	var s *locked
	b := newBenchOn(t, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), func(now func() time.Time, revised store.Revised) store.Store {
		s = &locked{Store: inMemory(now, revised)}
		return s
	}, scripted{[]decoder.Category{decoder.Success}}, "x", tenant.DefaultLimits)
	b.says(b.scope, b.way, "1", known, 0)
	s.changing.Store(true)
	if n, err := b.events.Process(t.Context(), b.tenant); n != 0 || err != nil {
		t.Errorf("%d are finished: %v", n, err)
	}
	s.changing.Store(false)
	if r, w := b.process(); r != 1 || w != 0 {
		t.Errorf("then %d readings, %d wait", r, w)
	}
}
