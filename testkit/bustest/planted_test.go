package bustest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/bustest"
)

// recorder is a test that a check may fail without failing ours.
type recorder struct {
	testing.TB
	patience time.Duration
	mu       sync.Mutex
	failed   string
}

func (r *recorder) fail(what string)          { r.mu.Lock(); r.failed += what + "\n"; r.mu.Unlock() }
func (r *recorder) Helper()                   {}
func (r *recorder) Patience() time.Duration   { return r.patience }
func (r *recorder) Error(a ...any)            { r.fail(fmt.Sprint(a...)) }
func (r *recorder) Errorf(f string, a ...any) { r.fail(fmt.Sprintf(f, a...)) }
func (r *recorder) Fatal(a ...any)            { r.fail(fmt.Sprint(a...)); runtime.Goexit() }
func (r *recorder) Fatalf(f string, a ...any) { r.fail(fmt.Sprintf(f, a...)); runtime.Goexit() }

// fails answers how the check of a name fails.
func fails(t *testing.T, name string, bug string) string {
	t.Helper()
	for _, c := range bustest.Checks() {
		if c.Name != name {
			continue
		}
		r, done := &recorder{TB: t, patience: 2 * time.Second}, make(chan struct{})
		if bug == "" { // however busy the machine is
			r.patience = time.Minute
		}
		go func() {
			defer close(done)
			c.Run(r, planted(bug)(r))
		}()
		<-done
		return r.failed
	}
	t.Fatalf("there is no check %s", name)
	return ""
}

// bugged is a server that is right, or has one bug.
type bugged struct {
	bug string
	k   *memory.Broker

	mu      sync.Mutex
	n       int
	kept    []byte
	values  map[string][]byte
	marks   map[bus.Mark]int64 // by topic and partition
	browsed int64
	again   bool

	calls atomic.Int64
	meet  chan struct{}
}

// Fetches and publishes of a bugged server.
type (
	wrapped struct {
		bus.Bus
		s       *bugged
		members []*reader
	}
	reader struct {
		bus.Member
		w      *wrapped
		group  string
		topics []string
		buffer []bus.Record
		given  []bus.Record
		told   bool
	}
)

func planted(bug string) bustest.Start {
	return func(testing.TB) *bustest.Server {
		s := &bugged{bug: bug, k: memory.NewBroker(memory.BrokerOptions{}), values: map[string][]byte{}, marks: map[bus.Mark]int64{}, meet: make(chan struct{})}
		done := func(t testing.TB, err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		return &bustest.Server{
			Open: func(testing.TB) bus.Bus { return &wrapped{Bus: s.k.Bus(), s: s} },
			Create: func(t testing.TB, topic string, n int) {
				done(t, s.k.Create(topic, n))
				if bug == "a new topic is the old one" || bug == "a smaller topic is the old one" {
					done(t, s.k.Accept(topic))
				}
			},
			Delete: func(t testing.TB, topic string) { done(t, s.k.Delete(topic)) },
			Trim: func(t testing.TB, topic string, p int, below int64) {
				done(t, s.k.Trim(topic, p, below))
				if bug == "a mark outside is no mark" {
					done(t, s.k.Accept(topic))
				}
			},
			Grow:   func(t testing.TB, topic string, n int) { done(t, s.k.Grow(topic, n)) },
			Accept: func(t testing.TB, topic string) { done(t, s.k.Accept(topic)) },
			Cut: func(_ testing.TB, b bus.Bus) {
				w := b.(*wrapped)
				if bug == "the dead are as if they had done all" {
					for _, m := range w.members {
						_ = m.Member.Commit(context.Background(), marks(m.given))
					}
				}
				if bug != "the dead keep what they have" {
					_ = w.Bus.Close()
				}
			},
			Restart: func(testing.TB) { s.again = true },
		}
	}
}

func marks(rs []bus.Record) (all []bus.Mark) {
	for _, r := range rs {
		all = append(all, bus.Mark{Topic: r.Topic, Partition: r.Partition, Next: r.Offset + 1})
	}
	return all
}

func (w *wrapped) Publish(ctx context.Context, rs []bus.Record) []error {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	rs = slices.Clone(rs)
	good := make([]error, len(rs))
	switch s.bug {
	case "headers are dropped":
		for i := range rs {
			rs[i].Headers = nil
		}
	case "records of a call are turned round":
		slices.Reverse(rs)
		errs := w.Bus.Publish(ctx, rs)
		slices.Reverse(errs)
		return errs
	case "keys are spread":
		for i := range rs {
			s.n++
			rs[i].Key = fmt.Sprintf("%s~%d", rs[i].Key, s.n)
		}
	case "one bad record spoils the call":
		if i := slices.IndexFunc(rs, func(r bus.Record) bool { return r.Check() != nil }); i >= 0 {
			for j := range good {
				good[j] = rs[i].Check()
			}
			return good
		}
	case "what follows a bad record is dropped":
		if i := slices.IndexFunc(rs, func(r bus.Record) bool { return r.Check() != nil }); i >= 0 {
			copy(good, w.Bus.Publish(ctx, rs[:i+1]))
			return good
		}
	case "topics are made when they are missing":
		for _, r := range rs {
			_ = s.k.Create(r.Topic, 1)
		}
	case "what is too large is cut":
		for i := range rs {
			rs[i].Value = rs[i].Value[:min(len(rs[i].Value), bus.MaxValue)]
		}
	case "the largest is refused":
		for i, err := range w.Bus.Publish(ctx, rs) {
			if good[i] = err; len(rs[i].Value) == bus.MaxValue {
				good[i] = bus.ErrTooLarge
			}
		}
		return good
	case "callers' bytes are kept":
		s.kept = rs[0].Value
	case "who comes in between is dropped":
		s.calls.Add(1)
		s.mu.Unlock()
		alone := true
		select {
		case s.meet <- struct{}{}:
		case <-s.meet:
			alone = false
		case <-time.After(5 * time.Millisecond):
		}
		s.mu.Lock()
		if !alone {
			return good
		}
	case "contexts are not looked at":
		ctx = context.Background()
	}
	return w.Bus.Publish(ctx, rs)
}

func (w *wrapped) Join(ctx context.Context, group string, topics ...string) (bus.Member, error) {
	s := w.s
	switch s.bug {
	case "all groups are one":
		group = "one"
	case "everybody is a group":
		s.mu.Lock()
		s.n++
		group = fmt.Sprint(group, s.n)
		s.mu.Unlock()
	case "no name is a name":
		if !bus.Named(group) {
			group = "nameless"
		}
	}
	fresh := false
	if ls, err := w.Bus.Lags(ctx, group, topics...); err == nil {
		fresh = !slices.ContainsFunc(ls, func(l bus.Lag) bool { return l.Committed >= 0 })
	}
	m, err := w.Bus.Join(ctx, group, topics...)
	if err != nil {
		return nil, err
	}
	r := &reader{Member: m, w: w, group: group, topics: topics}
	s.mu.Lock()
	w.members = append(w.members, r)
	s.mu.Unlock()
	if fresh && s.bug == "a new group begins with the newest" {
		_, _ = m.Fetch(ctx, 1<<20, 0)
	}
	return r, nil
}

func (w *wrapped) Browse(ctx context.Context, topic string, partition int, from int64, limit int) ([]bus.Record, error) {
	switch w.s.bug {
	case "browsing moves marks":
		w.s.mu.Lock()
		w.s.browsed++
		w.s.mu.Unlock()
	case "browsing begins where it likes":
		from = 0
	}
	return w.Bus.Browse(ctx, topic, partition, from, limit)
}

func (w *wrapped) Lags(ctx context.Context, group string, topics ...string) ([]bus.Lag, error) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	ls, err := w.Bus.Lags(ctx, group, topics...)
	for i := range ls {
		switch s.bug {
		case "the last mark counts", "another's marks count":
			if next, ok := s.marks[bus.Mark{Topic: ls[i].Topic, Partition: ls[i].Partition}]; ok {
				ls[i].Committed = next
			}
		case "browsing moves marks":
			ls[i].Committed += s.browsed
		case "nothing yet is the beginning":
			ls[i].Committed = max(ls[i].Committed, 0)
		case "the oldest is now":
			ls[i].Oldest = time.Now()
		}
	}
	return ls, err
}

func (w *wrapped) Close() error {
	if w.s.bug == "a closed bus goes on" {
		return nil
	}
	return w.Bus.Close()
}

func (m *reader) Fetch(ctx context.Context, limit int, wait time.Duration) ([]bus.Record, error) {
	s := m.w.s
	s.mu.Lock()
	bug := s.bug
	s.mu.Unlock()
	var rs []bus.Record
	var err error
	switch bug {
	case "a limit is a hint":
		return m.Member.Fetch(ctx, 2*limit, wait)
	case "who waits is told late":
		ended := time.After(wait)
		for len(rs) < limit {
			more, err := m.Member.Fetch(ctx, limit-len(rs), min(wait, 50*time.Millisecond))
			if rs = append(rs, more...); err != nil {
				return rs, err
			}
			select {
			case <-ended:
				return rs, nil
			default:
			}
		}
		return rs, nil
	case "nobody waits":
		return m.Member.Fetch(ctx, limit, 0)
	case "what is read ahead is done when its reader leaves", "the fullest comes first":
		for len(m.buffer) <= limit { // who leaves always has some left
			var more []bus.Record
			if more, err = m.Member.Fetch(ctx, 1<<20, wait); err != nil || len(more) == 0 {
				break
			}
			m.buffer, m.given = append(m.buffer, more...), append(m.given, more...)
		}
		if bug == "the fullest comes first" {
			count := map[int]int{}
			for _, r := range m.buffer {
				count[r.Partition]++
			}
			slices.SortStableFunc(m.buffer, func(a, b bus.Record) int { return count[b.Partition] - count[a.Partition] })
		}
		n := min(limit, len(m.buffer))
		rs, m.buffer = m.buffer[:n], m.buffer[n:]
		return rs, err
	case "contexts are not looked at":
		ctx = context.Background()
		wait = min(wait, time.Second)
	}
	rs, err = m.Member.Fetch(ctx, limit, wait)
	m.given = append(m.given, rs...)
	for i, r := range rs {
		switch bug {
		case "keys are spread":
			rs[i].Key, _, _ = strings.Cut(r.Key, "~")
		case "callers' bytes are kept":
			rs[i].Value = s.kept
		case "readers share their bytes":
			at := fmt.Sprint(r.Topic, r.Partition, r.Offset)
			if s.values[at] == nil {
				s.values[at] = r.Value
			}
			rs[i].Value = s.values[at]
		}
	}
	switch {
	case bug == "what is fetched is done":
		_ = m.Member.Commit(ctx, marks(rs))
	case bug == "added partitions begin late":
		rs = slices.DeleteFunc(rs, func(r bus.Record) bool { return r.Partition > 0 && r.Offset == 0 })
	case bug == "the last is lost in a restart" && s.again:
		rs = slices.DeleteFunc(rs, func(r bus.Record) bool { return string(r.Value) == "00000299" })
	case errors.Is(err, bus.ErrLost) && bug == "a loss is told once" && m.told, errors.Is(err, bus.ErrLost) && bug == "a loss is an empty topic":
		return nil, nil
	case errors.Is(err, bus.ErrLost) && bug == "a loss is passed over":
		_ = m.Member.Close()
		for _, topic := range m.topics {
			_ = s.k.Accept(topic)
		}
		if m.Member, err = m.w.Bus.Join(ctx, m.group, m.topics...); err == nil {
			return m.Member.Fetch(ctx, limit, wait)
		}
	}
	m.told = m.told || err != nil
	return rs, err
}

func (m *reader) Commit(ctx context.Context, all []bus.Mark) error {
	s := m.w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, mark := range all {
		at := bus.Mark{Topic: mark.Topic, Partition: mark.Partition}
		if s.bug == "the last mark counts" || mark.Next > s.marks[at] {
			s.marks[at] = mark.Next
		}
	}
	switch s.bug {
	case "marks are forgotten":
		return nil
	case "marks ahead are taken":
		for _, mark := range all {
			if err := m.Member.Commit(ctx, []bus.Mark{mark}); err != nil && !errors.Is(err, bus.ErrMark) {
				return err
			}
		}
		return nil
	}
	return m.Member.Commit(ctx, all)
}

func (m *reader) Close() error {
	if m.w.s.bug == "what is read ahead is done when its reader leaves" {
		_ = m.Member.Commit(context.Background(), marks(m.given))
	}
	return m.Member.Close()
}

func TestEachPlantedBugIsCaughtByTheCheckNamedForIt(t *testing.T) {
	for _, c := range bustest.Checks() {
		if how := fails(t, c.Name, ""); how != "" {
			t.Errorf("%s fails without a bug: %s", c.Name, how)
		}
	}
	caught := map[string]bool{}
	for bug, check := range map[string]string{
		"headers are dropped":                               "WhatIsReadIsWhatWasWritten",
		"records of a call are turned round":                "RecordsOfAKeyKeepTheirOrder",
		"keys are spread":                                   "RecordsOfAKeyKeepTheirOrder",
		"one bad record spoils the call":                    "ARecordFailsForItsOwnSakeAlone",
		"what follows a bad record is dropped":              "ARecordFailsForItsOwnSakeAlone",
		"what is too large is cut":                          "BoundsAreThePorts",
		"the largest is refused":                            "BoundsAreThePorts",
		"no name is a name":                                 "BoundsAreThePorts",
		"topics are made when they are missing":             "NoCallMakesATopic",
		"who comes in between is dropped":                   "ManyPublishersAtOnceKeepTheirOrders",
		"callers' bytes are kept":                           "NothingOfACallersIsKept",
		"readers share their bytes":                         "NothingOfACallersIsKept",
		"a new group begins with the newest":                "ANewGroupBeginsWithTheOldest",
		"marks are forgotten":                               "WhatWasNotCommittedComesAgain",
		"what is fetched is done":                           "WhatWasNotCommittedComesAgain",
		"all groups are one":                                "GroupsAreApart",
		"everybody is a group":                              "AGroupSharesItsPartitions",
		"what is read ahead is done when its reader leaves": "NothingIsPassedOverWhileMembersComeAndGo",
		"the last mark counts":                              "MarksNeverGoBack",
		"marks ahead are taken":                             "AMarkAheadIsRefused",
		"another's marks count":                             "AMarkOfAnothersPartitionChangesNothing",
		"the fullest comes first":                           "NoPartitionWaitsForEver",
		"a limit is a hint":                                 "FetchObeysItsLimits",
		"who waits is told late":                            "FetchObeysItsLimits",
		"nobody waits":                                      "FetchObeysItsLimits",
		"browsing moves marks":                              "BrowsingMovesNothing",
		"browsing begins where it likes":                    "BrowsingMovesNothing",
		"nothing yet is the beginning":                      "LagsAreTrue",
		"the oldest is now":                                 "LagsAreTrue",
		"contexts are not looked at":                        "CallsEndWithTheirContext",
		"a closed bus goes on":                              "AClosedBusIsClosed",
		"the dead keep what they have":                      "ADeadMembersRecordsComeToAnother",
		"the dead are as if they had done all":              "ADeadMembersRecordsComeToAnother",
		"added partitions begin late":                       "AddedPartitionsAreReadFromTheirBeginning",
		"a loss is told once":                               "ATopicThatIsGoneIsLost",
		"a loss is an empty topic":                          "ATopicThatIsGoneIsLost",
		"a new topic is the old one":                        "ATopicMadeAnewIsLostUntilAccepted",
		"a smaller topic is the old one":                    "FewerPartitionsAreLostUntilAccepted",
		"a mark outside is no mark":                         "AMarkBelowWhatIsKeptIsLostUntilAccepted",
		"a loss is passed over":                             "AReaderIsNotTakenPastWhatItHasYetToRead",
		"the last is lost in a restart":                     "WhatWasAcknowledgedOutlivesTheServer",
	} {
		caught[check] = true
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			if fails(t, check, bug) == "" {
				t.Errorf("%s did not catch it", check)
			}
		})
	}
	for _, c := range bustest.Checks() {
		if !caught[c.Name] {
			t.Errorf("%s has no bug planted for it", c.Name)
		}
	}
}
