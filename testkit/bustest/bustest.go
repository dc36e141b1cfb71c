// Package bustest proves that an adapter fills ports/bus: every must of the port is a check with a sentence for its name.
// Adapters outside this repository run it the same way as ours. It measures no speed, and asks nothing about who may read.
package bustest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/bus"
)

// Server is what carries the records of one check. It may be shared by checks that run after one another: each makes topics
// and groups with names of its own.
type Server struct {
	// Open answers a bus of its own to the server, as another process has one. The check closes it.
	Open func(t testing.TB) bus.Bus
	// Create makes a topic, and does not accept that one of the name was there before.
	Create func(t testing.TB, topic string, partitions int)

	// What follows is asked only of who offers it.

	// Delete takes a topic away.
	Delete func(t testing.TB, topic string)
	// Trim lets go of the records of a partition below a place.
	Trim func(t testing.TB, topic string, partition int, below int64)
	// Grow adds partitions, so that there are as many.
	Grow func(t testing.TB, topic string, partitions int)
	// Accept says that what was lost of a topic is known.
	Accept func(t testing.TB, topic string)
	// Cut silences a bus that Open answered for good, as if its process had been killed.
	Cut func(t testing.TB, b bus.Bus)
	// Restart ends the server at once, as kill -9 does, and starts it again.
	Restart func(t testing.TB)
}

// Offer is something that not every bus can do for the suite. What is not offered is not checked.
type Offer string

// What may be offered.
const (
	Losing     Offer = "losing" // Delete, Trim, Accept
	Growing    Offer = "growing"
	Cutting    Offer = "cutting"
	Restarting Offer = "restarting"
)

// Start answers a server for one check.
type Start func(t testing.TB) *Server

// Check is one promise of the port.
type Check struct {
	Name  string
	Needs Offer // "" is nothing
	Run   func(t testing.TB, s *Server)
}

// Run runs every check that needs no more than is offered.
func Run(t *testing.T, start Start, offers ...Offer) {
	for _, c := range Checks() {
		if c.Needs == "" || slices.Contains(offers, c.Needs) {
			t.Run(c.Name, func(t *testing.T) { c.Run(t, start(t)) })
		}
	}
}

// Checks are all promises.
func Checks() []Check {
	return []Check{
		{"WhatIsReadIsWhatWasWritten", "", content},
		{"RecordsOfAKeyKeepTheirOrder", "", ordered},
		{"ARecordFailsForItsOwnSakeAlone", "", alone},
		{"BoundsAreThePorts", "", bounds},
		{"NoCallMakesATopic", "", missing},
		{"ManyPublishersAtOnceKeepTheirOrders", "", publishers},
		{"NothingOfACallersIsKept", "", owned},
		{"ANewGroupBeginsWithTheOldest", "", oldest},
		{"WhatWasNotCommittedComesAgain", "", again},
		{"GroupsAreApart", "", apart},
		{"AGroupSharesItsPartitions", "", shared},
		{"NothingIsPassedOverWhileMembersComeAndGo", "", comings},
		{"MarksNeverGoBack", "", monotone},
		{"AMarkAheadIsRefused", "", ahead},
		{"AMarkOfAnothersPartitionChangesNothing", "", anothers},
		{"NoPartitionWaitsForEver", "", fair},
		{"FetchObeysItsLimits", "", limits},
		{"BrowsingMovesNothing", "", browsing},
		{"LagsAreTrue", "", lags},
		{"CallsEndWithTheirContext", "", contexts},
		{"AClosedBusIsClosed", "", closing},
		{"ADeadMembersRecordsComeToAnother", Cutting, dead},
		{"AddedPartitionsAreReadFromTheirBeginning", Growing, grown},
		{"ATopicThatIsGoneIsLost", Losing, gone},
		{"ATopicMadeAnewIsLostUntilAccepted", Losing, anew},
		{"FewerPartitionsAreLostUntilAccepted", Losing, fewer},
		{"AMarkBelowWhatIsKeptIsLostUntilAccepted", Losing, trimmed},
		{"AReaderIsNotTakenPastWhatItHasYetToRead", Losing, overtaken},
		{"WhatWasAcknowledgedOutlivesTheServer", Restarting, outlives},
	}
}

// patience is how long a check waits for what must come: groups may take seconds to settle. A test that says how patient it
// is, as one that expects a failure does, is asked.
func patience(t testing.TB) time.Duration {
	if p, ok := t.(interface{ Patience() time.Duration }); ok {
		return p.Patience()
	}
	return time.Minute
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience(t))
	t.Cleanup(cancel)
	return ctx
}

// named is a name that nothing else has.
func named(what string) string { return "bustest." + what + "." + rand.Text()[:12] }

func opened(t testing.TB, s *Server) bus.Bus {
	t.Helper()
	b := s.Open(t)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// topic makes one with a bus to it.
func topic(t testing.TB, s *Server, partitions int) (bus.Bus, string) {
	t.Helper()
	name := named("topic")
	s.Create(t, name, partitions)
	return opened(t, s), name
}

func joined(t testing.TB, b bus.Bus, group string, topics ...string) bus.Member {
	t.Helper()
	m, err := b.Join(soon(t), group, topics...)
	if err != nil {
		t.Fatalf("joining: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// numbered are records k0..k(keys-1) in turn, whose values count from a number on.
func numbered(topic string, keys, from, n int) []bus.Record {
	rs := make([]bus.Record, n)
	for i := range rs {
		rs[i] = bus.Record{Topic: topic, Key: fmt.Sprint("k", (from+i)%keys), Value: fmt.Appendf(nil, "%08d", from+i)}
	}
	return rs
}

func published(t testing.TB, b bus.Bus, rs []bus.Record) {
	t.Helper()
	errs := b.Publish(soon(t), rs)
	if len(errs) != len(rs) {
		t.Fatalf("%d answers for %d records", len(errs), len(rs))
	}
	for i, err := range errs {
		if err != nil {
			t.Fatalf("record %d of %d: %v", i, len(rs), err)
		}
	}
}

// fetched reads until there are n records or more. The bus may be away for a moment.
func fetched(t testing.TB, m bus.Member, n int) (rs []bus.Record) {
	t.Helper()
	ctx := soon(t)
	for len(rs) < n {
		more, err := m.Fetch(ctx, 1000, time.Second)
		if err != nil && (!errors.Is(err, bus.ErrAway) || ctx.Err() != nil) {
			t.Fatalf("after %d of %d records: %v", len(rs), n, err)
		}
		rs = append(rs, more...)
	}
	return rs
}

// quiet fails if a member is given anything for a while.
func quiet(t testing.TB, m bus.Member) {
	t.Helper()
	if rs, err := m.Fetch(soon(t), 1000, 300*time.Millisecond); err != nil || len(rs) > 0 {
		t.Fatalf("%d records too many, %v", len(rs), err)
	}
}

// marks are those that a reader of all these has.
func marks(rs []bus.Record) []bus.Mark {
	var all []bus.Mark
	for _, r := range rs {
		i := slices.IndexFunc(all, func(m bus.Mark) bool { return m.Topic == r.Topic && m.Partition == r.Partition })
		if i < 0 {
			i = len(all)
			all = append(all, bus.Mark{Topic: r.Topic, Partition: r.Partition})
		}
		all[i].Next = max(all[i].Next, r.Offset+1)
	}
	return all
}

// committed commits until it is done: a group that settles takes no marks.
func committed(t testing.TB, m bus.Member, ms []bus.Mark) {
	t.Helper()
	ctx := soon(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := m.Commit(ctx, ms)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("committing: %v", err)
		case <-tick.C:
		}
	}
}

// behind is what a group has yet to read, by its marks.
func behind(t testing.TB, b bus.Bus, group string, topics ...string) (n int64) {
	t.Helper()
	ls, err := b.Lags(soon(t), group, topics...)
	if err != nil {
		t.Fatalf("lags: %v", err)
	}
	for _, l := range ls {
		n += l.Behind()
	}
	return n
}

// lagsOf asks until every partition answers: those of a topic that was just made may have nobody yet who leads them.
func lagsOf(t testing.TB, b bus.Bus, group, topic string) (ls []bus.Lag) {
	t.Helper()
	eventually(t, "all partitions answer", func() (told bool) {
		var err error
		if ls, err = b.Lags(soon(t), group, topic); err != nil && !errors.Is(err, bus.ErrAway) {
			t.Fatalf("lags: %v", err)
		}
		return err == nil
	})
	return ls
}

// values are the records' values, sorted, each once.
func values(rs []bus.Record) []string {
	all := make([]string, len(rs))
	for i, r := range rs {
		all[i] = string(r.Value)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// eventually asks until the answer is yes.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	ctx := soon(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}
