package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// sluggish is an engine that takes long, and longest the first time.
type sluggish struct{ heavy }

func (e sluggish) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
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
