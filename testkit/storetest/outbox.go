package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// OpenOutbox opens an empty store with its outbox; the suite closes the store.
type OpenOutbox func(t testing.TB, o Options) (store.Store, store.Outbox)

// Mailroom is a world whose store has an outbox.
type Mailroom struct {
	*World
	Outbox store.Outbox
	device ident.Device
}

// NewMailroom opens a store for one check of its outbox.
func NewMailroom(t testing.TB, open OpenOutbox) *Mailroom {
	m := &Mailroom{device: ident.Device{9}}
	m.World = NewWorld(t, func(t testing.TB, o Options) (s store.Store) { s, m.Outbox = open(t, o); return s })
	return m
}

// OutboxCheck is one promise of store.Outbox.
type OutboxCheck struct {
	Name string
	Run  func(t testing.TB, m *Mailroom)
}

// OutboxChecks are all promises.
func OutboxChecks() []OutboxCheck {
	return []OutboxCheck{
		{"WhatIsWrittenGoesOutOnce", outOnce},
		{"ShardsThatHaveSomethingAreKnown", outKnown},
		{"WhatIsNotKeptDoesNotGoOut", outOnlyKept},
		{"KeyGoesOutInItsOrder", outOrder},
		{"WhatWasNotSentGoesOutAgain", outAgain},
		{"ShardIsOneRelaysAtATime", outAlone},
		{"NoTenantKeepsAnotherWaiting", outFair},
		{"ManyRelaysTurnNothingRound", outMany},
	}
}

// RunOutbox runs every check on stores of their own.
func RunOutbox(t *testing.T, open OpenOutbox) {
	for _, c := range OutboxChecks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, NewMailroom(t, open)) })
	}
}

// Sending is a row of a device whose reading goes out by a key.
func (w *World) Sending(d ident.Device, key, value string) store.Finished {
	f := w.row(d, 0, value)
	f.Out = &store.Outgoing{Event: f.Uplink.ID, Key: key, Value: []byte(value)}
	return f
}

func (m *Mailroom) out(key, value string) store.Finished { return m.Sending(m.device, key, value) }

// round hands a shard's records to publish, and answers them.
func (m *Mailroom) round(t testing.TB, r store.Round, publish func([]store.Sent) []error) (rs []store.Sent) {
	t.Helper()
	free, err := m.Outbox.Relay(m.ctx, r, func(ctx context.Context, got []store.Sent) []error {
		if len(got) == 0 {
			t.Error("nothing was handed over")
		}
		if err := m.Store.View(ctx, m.A, func(context.Context, store.Reader) error { return nil }); !errors.Is(err, store.ErrNested) {
			t.Errorf("the store was used while records are sent: %v", err)
		}
		rs = slices.Clone(got)
		return publish(got)
	})
	if err != nil || !free {
		t.Fatalf("relay: %v %v", free, err)
	}
	return rs
}

func sent(rs []store.Sent) []error { return make([]error, len(rs)) }

// all takes whatever there is, in as many rounds as it needs.
func (m *Mailroom) all(t testing.TB, limit int) (rs []store.Sent) {
	t.Helper()
	for shard := range store.OutboxShards {
		for {
			got := m.round(t, store.Round{Shard: shard, Limit: limit}, sent)
			if len(got) == 0 {
				break
			}
			for _, r := range got {
				if store.OutboxShard(r.Tenant, r.Key) != shard {
					t.Errorf("%s of %s lies in shard %d", r.Key, r.Tenant, shard)
				}
			}
			rs = append(rs, got...)
		}
	}
	return rs
}

func (m *Mailroom) values(rs []store.Sent, of access.Scope, key string) (vs []string) {
	for _, r := range rs {
		if r.Tenant == of.Tenant() && r.Key == key {
			vs = append(vs, string(r.Value))
		}
	}
	return vs
}

func same(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func outOnce(t testing.TB, m *Mailroom) {
	a := m.out("k", "a1")
	m.batch(t, m.A, a, m.out("k", "a2"), m.out("other", "a3"))
	m.batch(t, m.A, a) // the bus brings it again
	m.batch(t, m.B, m.out("k", "b1"))
	u := m.uplink(0, "finished")
	m.accept(t, m.A, u)
	f := m.out("k", "a4")
	u.Rev, u.Device, u.State = 1, m.device, f.Uplink.State
	f.Reading.Uplink, f.Outcome.Uplink, f.Out.Event, f.Uplink = u.ID, u.ID, u.ID, u
	m.ingest(t, m.A, func(ctx context.Context, fl store.Flow) error { return fl.Finish(ctx, f) })
	rs := m.all(t, 2)
	same(t, "a tenant's key", m.values(rs, m.A, "k"), "a1", "a2", "a4")
	same(t, "another key", m.values(rs, m.A, "other"), "a3")
	same(t, "another tenant's key of the same name", m.values(rs, m.B, "k"), "b1")
	if i := slices.IndexFunc(rs, func(r store.Sent) bool { return string(r.Value) == "a1" }); i < 0 || rs[i].Event != a.Uplink.ID {
		t.Errorf("the event of what goes out: %v", rs)
	}
	if again := m.all(t, 2); len(rs) != 5 || len(again) != 0 {
		t.Errorf("%d went out, and %d again", len(rs), len(again))
	}
}

func outKnown(t testing.TB, m *Mailroom) {
	known := func(what string, want ...int) {
		t.Helper()
		want = slices.Compact(slices.Sorted(slices.Values(want)))
		got, err := m.Outbox.Waiting(m.ctx)
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: shards %v, want %v; %v", what, got, want, err)
		}
	}
	known("before anything was written")
	var shards []int
	for n := range 5 {
		key := strconv.Itoa(n)
		m.batch(t, m.A, m.out(key, "a"))
		m.batch(t, m.B, m.out(key, "b"))
		shards = append(shards, store.OutboxShard(m.A.Tenant(), key), store.OutboxShard(m.B.Tenant(), key))
	}
	known("what waits", shards...)
	m.round(t, store.Round{Shard: shards[0], Limit: 100}, func(rs []store.Sent) []error {
		return slices.Repeat([]error{errors.New("not sent")}, len(rs))
	})
	known("what was not sent", shards...)
	m.all(t, 100)
	known("when all went out")
}

func outOnlyKept(t testing.TB, m *Mailroom) {
	first, twin, conflict := m.out("k", "p"), m.out("k", "p"), m.out("k", "q")
	first.Uplink.DedupeKey, twin.Uplink.DedupeKey, conflict.Uplink.DedupeKey = [32]byte{1}, [32]byte{1}, [32]byte{1}
	m.batch(t, m.A, first, twin, conflict)
	bad := m.out("k", "of a part that fails")
	bad.Outcome.ID = first.Outcome.ID
	stale := m.seen(t, m.A)
	stale.Revision += 7
	none := m.out("", "without a key")
	for i, err := range m.Store.IngestBatch(m.ctx, []store.Part{
		{Scope: m.A, Seen: m.seen(t, m.A), Rows: []store.Finished{m.out("k", "beside it"), bad}}, {Scope: m.A, Seen: stale, Rows: []store.Finished{m.out("k", "stale")}}, {Scope: m.A, Seen: m.seen(t, m.A), Rows: []store.Finished{none}},
	}) {
		if err == nil {
			t.Errorf("part %d was written", i)
		}
	}
	failed := errors.New("failed")
	wantIs(t, m.Store.Ingest(m.ctx, m.A, func(ctx context.Context, f store.Flow) error {
		u := m.uplink(0, "u")
		if _, err := f.Accept(ctx, []uplink.Uplink{u}); err != nil {
			return err
		}
		row := m.out("k", "rolled back")
		u.Rev, u.Device, u.State = 1, m.device, row.Uplink.State
		row.Reading.Uplink, row.Outcome.Uplink, row.Uplink = u.ID, u.ID, u
		return errors.Join(f.Finish(ctx, row), failed)
	}), failed, "a Finish that fails later")
	same(t, "what goes out", m.values(m.all(t, 100), m.A, "k"), "p")
}

func outOrder(t testing.TB, m *Mailroom) {
	var want []string
	for n := range 5 {
		var rows []store.Finished
		for i := range 7 {
			rows = append(rows, m.out("k", fmt.Sprintf("%d.%d", n, i)))
			want = append(want, fmt.Sprintf("%d.%d", n, i))
		}
		slices.SortFunc(rows, func(a, b store.Finished) int { return b.Uplink.ID.Compare(a.Uplink.ID) }) // ids say nothing of the order
		slices.Reverse(want[len(want)-7:])
		m.batch(t, m.A, rows...)
	}
	same(t, "the order of a key", m.values(m.all(t, 3), m.A, "k"), want...)
}

func outAgain(t testing.TB, m *Mailroom) {
	shard := store.OutboxShard(m.A.Tenant(), "k")
	r := store.Round{Shard: shard, Limit: 10}
	m.batch(t, m.A, m.out("k", "1"), m.out("k", "2"), m.out("k", "3"), m.out("k", "4"))
	away := errors.New("away")
	m.round(t, r, func(rs []store.Sent) []error { return []error{nil, away, away, nil} })
	same(t, "after two failed", m.values(m.round(t, r, func([]store.Sent) []error { return []error{nil} }), m.A, "k"), "2", "3")
	if _, err := m.Outbox.Relay(m.ctx, r, func(context.Context, []store.Sent) []error { panic("planted") }); err == nil {
		t.Error("a panic is no error")
	}
	ctx, cancel := context.WithCancel(m.ctx)
	if _, err := m.Outbox.Relay(ctx, r, func(_ context.Context, rs []store.Sent) []error { cancel(); return sent(rs) }); err == nil {
		t.Error("a relay that was told to stop let go of something")
	}
	// Its shard is free once the database has noticed.
	for began, free := time.Now(), false; !free && time.Since(began) < 10*time.Second; {
		var err error
		if free, err = m.Outbox.Relay(m.ctx, r, func(context.Context, []store.Sent) []error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "after an answer that was too short, a panic and a caller that went away", m.values(m.round(t, r, sent), m.A, "k"), "3")
	if rs := m.round(t, r, sent); len(rs) != 0 {
		t.Errorf("%v went out once more", rs)
	}
}

func outAlone(t testing.TB, m *Mailroom) {
	shard := store.OutboxShard(m.A.Tenant(), "k")
	m.batch(t, m.A, m.out("k", "1"))
	other := ""
	for n := 0; other == "" || store.OutboxShard(m.A.Tenant(), other) == shard; n++ {
		other = strconv.Itoa(n)
	}
	m.batch(t, m.A, m.out(other, "2"))
	m.round(t, store.Round{Shard: shard, Limit: 10}, func(rs []store.Sent) []error {
		free, err := m.Outbox.Relay(m.ctx, store.Round{Shard: shard, Limit: 10}, func(context.Context, []store.Sent) []error {
			t.Error("two are at one shard")
			return nil
		})
		if free || err != nil {
			t.Errorf("a shard that somebody is at: %v %v", free, err)
		}
		if got := m.round(t, store.Round{Shard: store.OutboxShard(m.A.Tenant(), other), Limit: 10}, sent); len(got) != 1 {
			t.Errorf("another shard has %v", got)
		}
		return sent(rs)
	})
}

func outFair(t testing.TB, m *Mailroom) {
	shard := store.OutboxShard(m.A.Tenant(), "k")
	var rows []store.Finished
	for n := range 100 {
		rows = append(rows, m.out("k", strconv.Itoa(n)))
	}
	m.batch(t, m.A, rows...)
	keyIn := func(of ident.Tenant) string {
		for n := 0; ; n++ {
			if key := strconv.Itoa(n); store.OutboxShard(of, key) == shard {
				return key
			}
		}
	}
	quiet := []access.Scope{m.Scope(ident.Tenant{5}, 0), m.B, m.Scope(ident.Tenant{0xc}, 0)} // before it, and behind it
	for _, s := range quiet {
		m.batch(t, s, m.out(keyIn(s.Tenant()), "quiet"))
	}
	away := func(rs []store.Sent) []error {
		errs := sent(rs)
		for i := range errs {
			errs[i] = errors.New("away")
		}
		return errs
	}
	of := func(rs []store.Sent) (ts []ident.Tenant) {
		for _, r := range rs {
			if !slices.Contains(ts, r.Tenant) {
				ts = append(ts, r.Tenant)
			}
		}
		return ts
	}
	if rs := m.round(t, store.Round{Shard: shard, Limit: 8}, away); len(of(rs)) != 4 || len(rs) > 8 {
		t.Errorf("%d records of %d tenants were handed over, want at most 8 of 4", len(rs), len(of(rs)))
	}
	if rs := m.round(t, store.Round{Shard: shard, Limit: 50, After: m.A.Tenant()}, away); !slices.Equal(of(rs), []ident.Tenant{m.B.Tenant(), quiet[2].Tenant()}) {
		t.Errorf("behind a tenant come %v", of(rs))
	}
	if rs := m.round(t, store.Round{Shard: shard, Limit: 50, Except: []ident.Tenant{m.A.Tenant(), m.B.Tenant()}}, away); !slices.Equal(of(rs), []ident.Tenant{quiet[0].Tenant(), quiet[2].Tenant()}) {
		t.Errorf("without two there are %v", of(rs))
	}
	only := []ident.Tenant{m.A.Tenant(), quiet[0].Tenant(), {0xd}} // the last has nothing
	if rs := m.round(t, store.Round{Shard: shard, Limit: 6, After: m.B.Tenant(), Except: only[:1], Only: only}, away); !slices.Equal(of(rs), []ident.Tenant{quiet[0].Tenant(), m.A.Tenant()}) || len(rs) > 6 || string(rs[1].Value) != "0" {
		t.Errorf("of two alone there are %d records, of %v", len(rs), of(rs))
	}
	if rs := m.round(t, store.Round{Shard: shard, Limit: 6, Only: only[2:]}, away); len(rs) != 0 {
		t.Errorf("of one who has nothing there is something of %v", of(rs))
	}
	if rs := m.round(t, store.Round{Shard: shard, Limit: 1, After: quiet[2].Tenant()}, away); len(rs) != 0 {
		t.Errorf("behind the last one come %v", of(rs))
	}
}

// outMany has several write, and several relay at once: records of a key that one wrote after another go out after them.
func outMany(t testing.TB, m *Mailroom) {
	const writers, keys, each = 4, 5, 12
	parts := make([][]store.Part, writers)
	for wr := range writers {
		for n := range each {
			var rows []store.Finished
			for k := range keys {
				rows = append(rows, m.out(strconv.Itoa(k), fmt.Sprintf("%d %d", wr, n)))
			}
			s := []access.Scope{m.A, m.B}[n%2]
			parts[wr] = append(parts[wr], store.Part{Scope: s, Seen: m.seen(t, s), Rows: rows})
		}
	}
	var writing, relaying sync.WaitGroup
	for wr := range writers {
		writing.Go(func() {
			for _, p := range parts[wr] {
				for _, err := range m.Store.IngestBatch(m.ctx, []store.Part{p}) {
					if err != nil {
						t.Errorf("batch: %v", err)
					}
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { writing.Wait(); close(written) }()
	var mu sync.Mutex
	got := map[string][]string{} // by tenant and key
	seen := map[ident.Uplink]bool{}
	for range 3 {
		relaying.Go(func() {
			for last := false; ; {
				select {
				case <-written:
					last = true
				default:
				}
				busy := false
				for shard := range store.OutboxShards {
					free, err := m.Outbox.Relay(m.ctx, store.Round{Shard: shard, Limit: 7}, func(_ context.Context, rs []store.Sent) []error {
						busy = true
						mu.Lock()
						defer mu.Unlock()
						for _, r := range rs {
							if seen[r.Event] {
								t.Errorf("%s went out twice", r.Event)
							}
							seen[r.Event] = true
							got[r.Tenant.String()+r.Key] = append(got[r.Tenant.String()+r.Key], string(r.Value))
						}
						return sent(rs)
					})
					if err != nil {
						t.Errorf("relay: %v", err)
						return
					}
					busy = busy || !free
				}
				if last && !busy {
					return
				}
			}
		})
	}
	relaying.Wait()
	for key, values := range got {
		last := map[string]int{}
		for _, v := range values {
			var wr string
			var n int
			if _, err := fmt.Sscan(v, &wr, &n); err != nil {
				t.Fatal(err)
			}
			if before, ok := last[wr]; ok && n < before {
				t.Errorf("of %s %d went out behind %d", key, n, before)
			}
			last[wr] = n
		}
	}
	if len(seen) != writers*keys*each {
		t.Errorf("%d of %d went out", len(seen), writers*keys*each)
	}
}
