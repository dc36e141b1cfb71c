package ingest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// frozen is a store that can be made to answer nobody.
type frozen struct {
	store.Store
	mu    sync.Mutex
	thaws chan struct{}
	asked int // while it was frozen
}

func (f *frozen) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	f.mu.Lock()
	thaws := f.thaws
	if thaws != nil && ctx.Err() == nil {
		f.asked++
	}
	f.mu.Unlock()
	if thaws != nil {
		select {
		case <-thaws:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.Store.View(ctx, s, fn)
}

func (f *frozen) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thaws = make(chan struct{})
}

// thaw answers how often it was asked.
func (f *frozen) thaw() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.thaws != nil {
		close(f.thaws)
		f.thaws = nil
	}
	return f.asked
}

// icy is a stream on such a store, whose messages a process brings that remembers nobody yet.
func icy(t *testing.T) (*stream, *frozen) {
	t.Helper()
	f := &frozen{}
	s := streamOf(newBenchOn(t, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), func(now func() time.Time, revised store.Revised) store.Store {
		f.Store = inMemory(now, revised)
		return f
	}, scripted{[]decoder.Category{decoder.Success}}, "x", tenant.DefaultLimits))
	t.Cleanup(func() { f.thaw() })
	return s, f
}

func (s *stream) brought(topic string, n int) ingest.Brought {
	return ingest.Brought{Topic: topic, Payload: fmt.Appendf(nil, `{"id":"%s %d","device":"%s","payload":"AA=="}`, topic, n, known)}
}

func (s *stream) up(t ident.Tenant) string {
	return "rf/" + t.String() + "/" + s.way.ID.String() + "/up"
}

// While the store answers nobody, who is remembered goes on, and all of a call wait for one question.
func TestWhileTheStoreDoesNotAnswerWhoIsRememberedGoesOn(t *testing.T) {
	s, f := icy(t)
	own := ingest.Connection{Name: "own", Format: source.Plain, Owner: ingest.Checked, Topics: []uplink.Template{template(t, uplink.CheckedTopic)}}
	apps := ingest.Connection{Name: "apps", Format: source.Plain, Owner: ingest.ByApplication, Topics: []uplink.Template{template(t, "app/{application}/up")}}
	receive := func(c ingest.Connection, ds ...ingest.Brought) (which string) {
		t.Helper()
		for _, err := range s.unaware.Receive(t.Context(), c, ds) {
			switch {
			case err == nil:
				which += "d"
			case fault.Is(err, fault.Unavailable):
				which += "w"
			default:
				t.Errorf("%v", err)
			}
		}
		return which
	}
	mine, one, two := s.up(s.tenant), s.up(ident.Tenant{8, 6: 0x70, 8: 0x80}), s.up(ident.Tenant{9, 6: 0x70, 8: 0x80})
	if got := receive(own, s.brought(mine, 0)); got != "d" {
		t.Fatal(got)
	}
	f.freeze()
	if got := receive(own, s.brought(one, 1), s.brought(mine, 1), s.brought(two, 1), s.brought(one, 2), s.brought(mine, 2)); got != "wdwwd" {
		t.Errorf("durable and waiting are %s", got)
	}
	if got := receive(apps, s.brought("app/pumps/up", 1), s.brought("app/pumps/up", 2), s.brought("app/boilers/up", 1)); got != "www" {
		t.Errorf("durable and waiting are %s", got)
	}
	if asked := f.thaw(); asked > 3 { // one each, and one that began as the wait for the other was over; without that wait it were four
		t.Errorf("two calls waited for %d questions", asked)
	}
	if got := receive(own, s.brought(one, 1), s.brought(two, 1), s.brought(one, 2)) + receive(apps, s.brought("app/pumps/up", 1)); got != "dddd" {
		t.Errorf("once it answers, durable and waiting are %s", got)
	}
	s.consume()
	if dead := s.dead(); dead["no_source"] != 3 || dead["no_tenant"] != 1 || len(s.readings()) != 3 {
		t.Errorf("dead letters %v, %d readings", dead, len(s.readings()))
	}
}

// entering is a tracer that is told when each message comes in.
type entering struct{ each func() }

func (e entering) Enter(sender trace.Place) trace.Place { e.each(); return sender }
func (entering) Below(parent trace.Place) trace.Place   { return parent }
func (entering) Tell(trace.Span)                        {}

// What is told while a call is under way lets no message in before one of its topic that was not let in.
func TestNoMessageIsLetInBeforeAnotherOfItsTopic(t *testing.T) {
	s, f := icy(t)
	own := ingest.Connection{Name: "own", Format: source.Plain, Owner: ingest.Checked, Topics: []uplink.Template{template(t, uplink.CheckedTopic)}}
	n := 0
	s.unaware.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", Tracer: entering{func() {
		if n++; n != 2 {
			return
		}
		f.thaw() // after the first one was given up
		other := ingest.Brought{Topic: s.up(s.tenant) + "/other", Payload: []byte("{")}
		for ctx := t.Context(); s.unaware.Receive(ctx, own, []ingest.Brought{other})[0] != nil && ctx.Err() == nil; { // until the tenant is remembered
		}
	}}})
	f.freeze()
	topic := s.up(s.tenant)
	errs := s.unaware.Receive(t.Context(), own, []ingest.Brought{s.brought(topic, 1), s.brought(topic, 2), s.brought(topic+"/x", 3)})
	if errs[0] == nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("%v", errs)
	}
	if n < 3 {
		t.Fatal("nothing was told meanwhile")
	}
}
