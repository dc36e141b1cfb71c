package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// output says whether the tenant wants its decoded events.
func (s *stream) output(wanted bool) {
	s.t.Helper()
	c := s.may(access.TenantUpdate)
	own := must[tenant.Tenant](s.t)(s.admin.Tenant(s.t.Context(), s.may(access.TenantRead).Scope))
	must[tenant.Tenant](s.t)(s.admin.UpdateTenant(s.t.Context(), c, own.Rev, manage.TenantPatch{KafkaOutput: &wanted}))
}

// relay sends what there is to send.
func (s *stream) relay(o store.Outbox) {
	s.t.Helper()
	ctx, end := context.WithTimeout(s.t.Context(), hang)
	defer end()
	done := make(chan struct{})
	go func() { s.events.Relay(ctx, o, 3); close(done) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.waiting() > 0 && ctx.Err() == nil {
		<-tick.C
	}
	end()
	<-done
}

// waiting is how many records wait to be sent, without those of topics that are missing.
func (s *stream) waiting() (n int) {
	s.t.Helper()
	for shard := range store.OutboxShards {
		free, err := s.store.Relay(s.t.Context(), store.Round{Shard: shard, Limit: 1000}, func(_ context.Context, rs []store.Sent) []error {
			n += len(rs)
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		if !free {
			n++ // a relay is at it
		}
	}
	return n
}

// learned waits until nobody's topic is being asked for.
func (s *stream) learned() {
	s.t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.NewTimer(hang)
	defer tick.Stop()
	defer late.Stop()
	for s.events.Asking() {
		select {
		case <-tick.C:
		case <-late.C:
			s.t.Fatal("it is not known whether a topic is there")
		}
	}
}

func TestDecodedEventsGoOutFromWhenTheTenantWantsThemAndItsTopicIsThere(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	s.says(s.scope, s.way, "1", known, 0) // nobody wants it
	s.consume()
	if n := s.waiting(); n != 0 {
		t.Fatalf("%d records wait for nobody", n)
	}
	s.output(true)
	first := s.says(s.scope, s.way, "2", known, 0) // nobody knows that there is no topic
	s.consume()
	s.learned()
	s.says(s.scope, s.way, "2 again", known, 0) // there is none
	s.consume()
	if n := s.waiting(); n != 1 {
		t.Fatalf("%d records wait, want that of before it was known", n)
	}
	mine := s.topics.Out(s.tenant)
	if err := s.broker.Create(mine, 3); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(11 * time.Second) // it is looked for now and then
	s.says(s.scope, s.way, "2 once more", known, 0)
	s.consume()
	s.learned()
	v := s.says(s.scope, s.way, "3", known, 0)
	s.says(s.scope, s.way, "4", known, 2)    // no reading
	s.says(s.scope, s.way, "5", stranger, 0) // nobody's
	s.consume()
	if n := s.waiting(); n != 2 {
		t.Fatalf("%d records wait, want that of one more reading", n)
	}
	s.relay(s.store)
	rs := slices.DeleteFunc(s.all(mine), func(r bus.Record) bool { return string(r.Headers[0].Value) == first.ID.String() })
	if len(rs) != 1 {
		t.Fatalf("%d records went out beside the first", len(rs))
	}
	var got struct {
		Version int             `json:"version"`
		Event   string          `json:"event_id"`
		Tenant  string          `json:"tenant_id"`
		Device  string          `json:"device_id"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(rs[0].Value, &got); err != nil || got.Event != v.ID.String() || got.Tenant != s.tenant.String() || got.Version != uplink.DecodedVersion || len(got.Data) < 3 {
		t.Errorf("%s (%v)", rs[0].Value, err)
	}
	headers := map[string]string{}
	for _, h := range rs[0].Headers {
		headers[h.Name] = string(h.Value)
	}
	want := map[string]string{bus.EventHeader: v.ID.String(), bus.TenantHeader: s.tenant.String(), bus.VersionHeader: "1"}
	if fmt.Sprint(headers) != fmt.Sprint(want) || rs[0].Key != s.tenant.String()+"/"+got.Device {
		t.Errorf("headers %v, key %q", headers, rs[0].Key)
	}
	s.output(false)
	s.says(s.scope, s.way, "6", known, 0)
	s.consume()
	if n := s.waiting(); n != 0 {
		t.Errorf("%d records wait although the tenant wants none any more", n)
	}
}

// The bus has no answer about one tenant's topic, at once or after a while: that holds up neither its events nor anybody's, and what goes
// out waits.
func TestATopicThatNobodyKnowsOfHoldsUpNoEvent(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	answer, asked, answers := error(bus.ErrAway), 0, make(chan struct{})
	s.events.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", There: func(_ context.Context, topics ...string) error {
		<-answers // none comes while there are events to be decided
		if asked++; len(topics) != 1 || topics[0] != s.topics.Out(s.tenant) {
			t.Errorf("asked for %v", topics)
		}
		return answer
	}})
	s.output(true)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	step := func(what string, waiting, asks int) {
		t.Helper()
		s.says(s.scope, s.way, what, known, 0)
		s.consume()
		for s.events.Asking() {
			select {
			case answers <- struct{}{}:
			case <-tick.C:
			}
		}
		if n := s.waiting(); n != waiting || asked != asks {
			t.Errorf("%s: %d records wait, want %d; asked %d times, want %d", what, n, waiting, asked, asks)
		}
	}
	step("never seen", 1, 1)
	step("nobody is asked again at once", 2, 1)
	s.now, answer = s.now.Add(11*time.Second), bus.ErrTopic
	step("nobody has answered yet", 3, 2)
	step("it is missing", 3, 2)
	s.now, answer = s.now.Add(11*time.Second), bus.ErrAway
	step("it was missing", 3, 3)
	s.now, answer = s.now.Add(11*time.Second), nil
	step("it is still taken to be missing", 3, 4)
	step("it is there", 4, 4)
	if n := len(s.readings()); n != 7 {
		t.Errorf("%d readings", n)
	}
}

// One tenant's missing topic, or one record that no bus takes, keeps nobody waiting.
func TestWhatCannotGoOutKeepsNobodyElseWaiting(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	for _, topic := range []ident.Tenant{{2}, {3}} {
		if err := s.broker.Create(s.topics.Out(topic), 3); err != nil {
			t.Fatal(err)
		}
	}
	box := &box{left: []store.Sent{
		{Tenant: ident.Tenant{1}, Outgoing: store.Outgoing{Event: ident.Uplink{1}, Key: "k", Value: []byte("nowhere")}},
		{Tenant: ident.Tenant{2}, Outgoing: store.Outgoing{Event: ident.Uplink{2}, Key: "k", Value: make([]byte, bus.MaxValue+1)}},
		{Tenant: ident.Tenant{2}, Outgoing: store.Outgoing{Event: ident.Uplink{3}, Key: "k", Value: []byte("behind it")}},
		{Tenant: ident.Tenant{3}, Outgoing: store.Outgoing{Event: ident.Uplink{4}, Key: "k", Value: []byte("another's")}},
	}}
	ctx, end := context.WithTimeout(t.Context(), hang)
	defer end()
	box.done = func() {
		if len(box.left) == 1 && box.excepted {
			end()
		}
	}
	s.events.Relay(ctx, box, 1)
	if len(box.left) != 1 || string(box.left[0].Value) != "nowhere" || !box.excepted {
		t.Errorf("%d are left, without the tenant that has no topic: %v", len(box.left), box.excepted)
	}
	for tn, want := range map[ident.Tenant]string{{2}: "behind it", {3}: "another's"} {
		if rs := s.all(s.topics.Out(tn)); len(rs) != 1 || string(rs[0].Value) != want {
			t.Errorf("tenant %s got %d records", tn, len(rs))
		}
	}
	if got := s.dead(); fmt.Sprint(got) != "map[cannot_go_out:1]" {
		t.Errorf("dead letters %v", got)
	}
}

// box is an outbox of one shard.
type box struct {
	sync.Mutex

	left     []store.Sent
	excepted bool // a round was asked for without the tenant that has no topic
	done     func()
}

func (b *box) Waiting(context.Context) ([]int, error) { return []int{0}, nil }

func (b *box) Relay(ctx context.Context, r store.Round, publish func(context.Context, []store.Sent) []error) (bool, error) {
	b.Lock()
	defer b.Unlock()
	defer b.done()
	if r.Shard != 0 {
		return true, nil
	}
	var rs, keep []store.Sent
	for _, s := range b.left {
		switch {
		case len(r.Only) > 0 && !slices.Contains(r.Only, s.Tenant):
			keep = append(keep, s)
		case len(r.Except) == 1 && s.Tenant == r.Except[0]:
			b.excepted, keep = true, append(keep, s)
		default:
			rs = append(rs, s)
		}
	}
	if len(rs) == 0 {
		return true, nil
	}
	for i, err := range publish(ctx, rs) {
		if err != nil {
			keep = append(keep, rs[i])
		}
	}
	b.left = keep
	return true, nil
}
