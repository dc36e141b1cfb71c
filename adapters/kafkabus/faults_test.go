package kafkabus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/ports/bus"
)

const (
	keyProduce     = 0
	keyFetch       = 1
	keyListOffsets = 2
	keyMetadata    = 3
	keyCommit      = 8
)

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func create(t testing.TB, p *place, name string, partitions int) {
	t.Helper()
	p.server().Create(t, name, partitions)
}

// sent are n records of some keys, whose values count.
func sent(topic string, keys, from, n int) []bus.Record {
	rs := make([]bus.Record, n)
	for i := range rs {
		rs[i] = bus.Record{Topic: topic, Key: fmt.Sprint("k", (from+i)%keys), Value: fmt.Appendf(nil, "%06d", from+i)}
	}
	return rs
}

func good(t testing.TB, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

// all reads a topic without a group.
func all(t testing.TB, b bus.Bus, topic string, partitions int) (rs []bus.Record) {
	t.Helper()
	for p := range partitions {
		more, err := b.Browse(soon(t), topic, p, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, more...)
	}
	return rs
}

// firsts fails unless the first time of each record comes in the order of its key, and says how many there are twice.
func firsts(t testing.TB, rs []bus.Record, n int) (twice int) {
	t.Helper()
	seen, last := map[string]bool{}, map[string]string{}
	for _, r := range rs {
		if seen[string(r.Value)] {
			twice++
			continue
		}
		seen[string(r.Value)] = true
		if last[r.Key] > string(r.Value) {
			t.Fatalf("of key %s %s came for the first time after %s", r.Key, r.Value, last[r.Key])
		}
		last[r.Key] = string(r.Value)
	}
	if len(seen) != n {
		t.Fatalf("%d records are there, want %d", len(seen), n)
	}
	return twice
}

// refusal is an answer to a produce request with an error for each of its partitions.
func refusal(r kmsg.Request, code int16) kmsg.Response {
	asked := r.(*kmsg.ProduceRequest)
	answer := asked.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range asked.Topics {
		one := kmsg.NewProduceResponseTopic()
		one.Topic, one.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode = p.Partition, code
			one.Partitions = append(one.Partitions, part)
		}
		answer.Topics = append(answer.Topics, one)
	}
	return answer
}

// Every way in which a broker or the network fails a batch: it is sent again, and nothing overtakes it.
func TestABatchThatFailsIsSentAgainAndNothingOvertakesIt(t *testing.T) {
	for name, fault := range map[string]func(*kfake.Cluster, kmsg.Request) (kmsg.Response, error, bool){
		"not the leader":                     func(_ *kfake.Cluster, r kmsg.Request) (kmsg.Response, error, bool) { return refusal(r, 6), nil, true },
		"too few replicas":                   func(_ *kfake.Cluster, r kmsg.Request) (kmsg.Response, error, bool) { return refusal(r, 19), nil, true },
		"too few replicas after it was kept": func(_ *kfake.Cluster, r kmsg.Request) (kmsg.Response, error, bool) { return refusal(r, 20), nil, true },
		"it took too long":                   func(_ *kfake.Cluster, r kmsg.Request) (kmsg.Response, error, bool) { return refusal(r, 7), nil, true },
		"an error nobody knows":              func(_ *kfake.Cluster, r kmsg.Request) (kmsg.Response, error, bool) { return refusal(r, 999), nil, true },
		"the connection is cut": func(*kfake.Cluster, kmsg.Request) (kmsg.Response, error, bool) {
			return nil, errors.New("cut"), true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := fake(t)
			create(t, p, "t", 2)
			b := open(t, p.options)
			var n atomic.Int64
			c.ControlKey(keyProduce, func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if n.Add(1)%2 == 1 { // every other batch
					return fault(c, r)
				}
				return nil, nil, false
			})
			var wg sync.WaitGroup
			for caller := range 4 {
				wg.Go(func() {
					for part := range 5 {
						rs := sent("t", 3, caller*10_000+part*500, 500)
						for i := range rs {
							rs[i].Key = fmt.Sprint(caller, rs[i].Key)
						}
						good(t, b.Publish(soon(t), rs))
					}
				})
			}
			wg.Wait()
			firsts(t, all(t, b, "t", 2), 4*5*500)
			if b.Watch()["ringfence_bus_publish_retries_total"] == 0 {
				t.Error("nothing was sent again")
			}
		})
	}
}

// An acknowledgement that is lost leaves a record there twice, the first time in its order.
func TestALostAcknowledgementDoublesARecordAndLosesNone(t *testing.T) {
	_, p := fake(t)
	create(t, p, "t", 1)
	l := &line{}
	o := p.options
	o.Dial = l.dial
	b := open(t, o)
	good(t, b.Publish(soon(t), sent("t", 1, 0, 1)))
	for from := 1; from < 4001; from += 400 {
		l.lose.Store(int64(from/400) % 3)
		good(t, b.Publish(soon(t), sent("t", 5, from, 400)))
	}
	if firsts(t, all(t, b, "t", 1), 4001) == 0 {
		t.Error("no acknowledgement was lost")
	}
}

// What stands behind a record that failed must not be there before it.
func TestOnceOneRecordFailsTheRestOfItsKeyFailsToo(t *testing.T) {
	c, p := fake(t)
	create(t, p, "t", 1)
	b := open(t, p.options)
	var block atomic.Bool
	block.Store(true)
	c.ControlKey(keyProduce, func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if block.Load() {
			return refusal(r, 7), nil, true
		}
		return nil, nil, false
	})
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	rs := sent("t", 1, 0, 3000) // three batches
	errs := b.Publish(short, rs)
	for i, err := range errs {
		if !errors.Is(err, bus.ErrAway) {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	block.Store(false)
	good(t, b.Publish(soon(t), rs))
	firsts(t, all(t, b, "t", 1), 3000)
	if used := b.Watch()["ringfence_bus_in_flight_bytes"]; used != 0 {
		t.Errorf("%d bytes are on their way for ever", used)
	}
}

// A user without rights is told so at once, for the records of that topic alone.
func TestARefusalIsToldAtOnce(t *testing.T) {
	c, p := fake(t)
	create(t, p, "t", 1)
	b := open(t, p.options)
	c.ControlKey(keyProduce, func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return refusal(r, 29), nil, true
	})
	for _, err := range b.Publish(soon(t), sent("t", 1, 0, 2500)) {
		if err == nil || !strings.Contains(err.Error(), "--apply") {
			t.Fatalf("%v", err)
		}
	}
}

// A broker's limit may be lower than ours: the record that is too large is found among others.
func TestARecordThatABrokerFindsTooLargeFailsAlone(t *testing.T) {
	c, p := fake(t)
	create(t, p, "t", 1)
	b := open(t, p.options)
	c.ControlKey(keyProduce, func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if len(r.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records) > 50_000 {
			return refusal(r, 10), nil, true
		}
		return nil, nil, false
	})
	rs := sent("t", 4, 0, 800)
	rs[333].Value = make([]byte, 60_000)
	errs := b.Publish(soon(t), rs)
	for i, err := range errs {
		if (i == 333) != errors.Is(err, bus.ErrTooLarge) || i != 333 && err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	firsts(t, all(t, b, "t", 1), 799)
}

// What is on its way is bounded, and who publishes more waits.
func TestWhatIsOnItsWayIsBounded(t *testing.T) {
	c, p := fake(t)
	create(t, p, "t", 1)
	o := p.options
	o.InFlight = 8 << 20
	b := open(t, o)
	good(t, b.Publish(soon(t), sent("t", 1, 0, 1)))
	release := make(chan struct{})
	var once sync.Once
	unblock := func() { once.Do(func() { close(release) }) }
	defer unblock()
	c.ControlKey(keyProduce, func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	for range 40 {
		wg.Go(func() {
			rs := []bus.Record{{Topic: "t", Key: "k", Value: make([]byte, 1<<20)}, {Topic: "t", Key: "k", Value: make([]byte, 1<<19)}}
			for _, err := range b.Publish(ctx, rs) {
				if err == nil {
					t.Error("published while nothing is answered")
				}
			}
		})
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 10 {
		<-tick.C
		if used := b.Watch()["ringfence_bus_in_flight_bytes"]; used > 8<<20 {
			t.Fatalf("%d bytes on their way, at most %d", used, 8<<20)
		}
	}
	wg.Wait()
	unblock()
	good(t, b.Publish(soon(t), sent("t", 1, 1, 1)))
}

func join(t testing.TB, b bus.Bus, group string, topics ...string) bus.Member {
	t.Helper()
	m, err := b.Join(soon(t), group, topics...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// drain fetches until so many different values came, and commits what came.
func drain(t testing.TB, m bus.Member, n int) (rs []bus.Record) {
	t.Helper()
	ctx, seen := soon(t), map[string]bool{}
	for len(seen) < n {
		more, err := m.Fetch(ctx, 500, time.Second)
		if err != nil && (!errors.Is(err, bus.ErrAway) || ctx.Err() != nil) {
			t.Fatalf("after %d of %d: %v", len(seen), n, err)
		}
		for _, r := range more {
			seen[string(r.Value)] = true
		}
		rs = append(rs, more...)
		if len(more) > 0 {
			marks := map[int]int64{}
			for _, r := range more {
				marks[r.Partition] = r.Offset + 1
			}
			for p, next := range marks {
				_ = m.Commit(ctx, []bus.Mark{{Topic: more[0].Topic, Partition: p, Next: next}})
			}
		}
	}
	return rs
}

// noHoles fails if a record of a partition came before those in front of it.
func noHoles(t testing.TB, rs []bus.Record) {
	t.Helper()
	next := map[int]int64{}
	for _, r := range rs {
		if r.Offset > next[r.Partition] {
			t.Fatalf("of partition %d %d came before %d", r.Partition, r.Offset, next[r.Partition])
		}
		next[r.Partition] = max(next[r.Partition], r.Offset+1)
	}
}

// Each question that a reader asks fails now and then, or its connections break: nothing is passed over.
func TestAReaderGoesOnAfterEveryFault(t *testing.T) {
	c, p := fake(t, kfake.NumBrokers(3))
	create(t, p, "t", 3)
	l := &line{}
	o := p.options
	o.Dial, o.Metadata = l.dial, 50*time.Millisecond
	b := open(t, o)
	var n atomic.Int64
	for _, key := range []int16{keyFetch, keyListOffsets, keyMetadata, keyCommit, 9, 10, 11, 12, 14} {
		c.ControlKey(key, func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			if n.Add(1)%7 == 0 {
				return nil, errors.New("cut"), true
			}
			return nil, nil, false
		})
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for turn := 0; ; turn++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			switch turn % 3 {
			case 0:
				l.drop()
			case 1:
				c.RehashCoordinators()
			case 2:
				c.ShufflePartitionLeaders()
			}
		}
	})
	o.Dial = nil
	plain := open(t, o)
	wg.Go(func() {
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for from := 0; from < 4000; from += 50 {
			<-pace.C
			good(t, plain.Publish(soon(t), sent("t", 9, from, 50)))
		}
	})
	noHoles(t, drain(t, join(t, b, "g", "t"), 4000))
	close(done)
	wg.Wait()
}

// A fetch that is answered with nothing although there is something: the member begins anew by itself.
func TestAMemberThatIsStuckBeginsAnew(t *testing.T) {
	c, p := fake(t)
	create(t, p, "t", 1)
	o := p.options
	o.Stuck = time.Second
	b := open(t, o)
	good(t, b.Publish(soon(t), sent("t", 1, 0, 10)))
	var stuck atomic.Bool
	stuck.Store(true)
	c.ControlKey(keyFetch, func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := r.(*kmsg.FetchRequest)
		if !stuck.Load() || asked.Topics[0].Topic != "t" {
			return nil, nil, false
		}
		answer := asked.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = "t"
		part := kmsg.NewFetchResponseTopicPartition()
		part.Partition = asked.Topics[0].Partitions[0].Partition
		topic.Partitions = append(topic.Partitions, part)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
	m := join(t, b, "g", "t")
	for b.Watch()["ringfence_bus_stuck_total"] == 0 {
		if _, err := m.Fetch(soon(t), 1, 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	stuck.Store(false)
	drain(t, m, 10)
}

// first fetches until something comes.
func first(t *testing.T, m bus.Member, limit int) (rs []bus.Record) {
	t.Helper()
	for ctx := soon(t); len(rs) == 0; {
		var err error
		if rs, err = m.Fetch(ctx, limit, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	return rs
}

// An idle member is not stuck.
func TestAMemberWithoutWorkIsLeftAlone(t *testing.T) {
	_, p := fake(t)
	create(t, p, "t", 2)
	o := p.options
	o.Stuck = 3 * time.Second
	b := open(t, o)
	m := join(t, b, "g", "t")
	for range 40 {
		if rs, err := m.Fetch(soon(t), 1, 100*time.Millisecond); err != nil || len(rs) > 0 {
			t.Fatalf("%d records, %v", len(rs), err)
		}
	}
	good(t, b.Publish(soon(t), sent("t", 9, 0, 30)))
	first(t, m, 5) // and one whose caller takes its time
	<-time.After(o.Stuck + time.Second)
	if w := b.Watch(); w["ringfence_bus_stuck_total"] != 0 || w["ringfence_bus_generations_total"] != 1 {
		t.Errorf("%v", w)
	}
}

// A commit is given up after a second, and is no loss.
func TestACommitIsGivenUpSoon(t *testing.T) {
	c, p := fake(t)
	create(t, p, "t", 1)
	b := open(t, p.options)
	good(t, b.Publish(soon(t), sent("t", 1, 0, 10)))
	m := join(t, b, "g", "t")
	first(t, m, 10)
	release := make(chan struct{})
	c.ControlKey(keyCommit, func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	began := time.Now()
	err := m.Commit(soon(t), []bus.Mark{{Topic: "t", Next: 1}})
	if took := time.Since(began); !errors.Is(err, bus.ErrAway) || took > 10*time.Second { // it would wait for the release
		t.Errorf("%v after %v", err, took)
	}
	close(release)
	for ctx := soon(t); m.Commit(ctx, []bus.Mark{{Topic: "t", Next: 1}}) != nil; {
		if ctx.Err() != nil {
			t.Fatal("the next one is given up too")
		}
	}
}

// Who is frozen does not hand out what may be another's by now.
func TestAFrozenMemberHandsOutNothingOld(t *testing.T) {
	_, p := fake(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	create(t, p, "t", 1)
	l := &line{}
	o := p.options
	o.Dial, o.Session, o.Rebalance = l.dial, time.Second, 500*time.Millisecond
	frozen := open(t, o)
	b := open(t, p.options)
	good(t, b.Publish(soon(t), sent("t", 1, 0, 100)))
	m := join(t, frozen, "g", "t")
	first(t, m, 1)
	l.close()
	heir := join(t, b, "g", "t")
	drain(t, heir, 100)
	if rs, err := m.Fetch(soon(t), 100, 200*time.Millisecond); len(rs) > 0 {
		t.Errorf("%d records that are another's by now, %v", len(rs), err)
	}
	if err := m.Commit(soon(t), []bus.Mark{{Topic: "t", Next: 1}}); err == nil {
		t.Error("a frozen member committed")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]kafkabus.Options{
		"no broker": {}, "an empty broker": {Brokers: []string{"a:1", ""}}, "no password": {Brokers: []string{"a:1"}, User: "u"},
	} {
		if b, err := kafkabus.Open(o); err == nil {
			_ = b.Close()
			t.Errorf("%s: no error", name)
		}
	}
	for brokers, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:9092": true, "localhost:9092": true, "10.0.0.1:9092": false, "kafka:9092": false, "127.0.0.1:1,kafka:9092": false, "nonsense": false} {
		if got := kafkabus.Loopback(strings.Split(brokers, ",")); got != want {
			t.Errorf("%s: %v", brokers, got)
		}
	}
}

// Who joins a group that has lost something says so at the first look, before it takes part: it would be taken for one that reads.
func TestWhoJoinsAGroupThatLostSomethingSaysSoAtOnce(t *testing.T) {
	_, p := fake(t)
	s := p.server()
	for topic, loses := range map[string]func(topic string){
		"anew": func(topic string) { s.Delete(t, topic); s.Create(t, topic, 2) },
		"trimmed": func(topic string) {
			for part := range 2 {
				s.Trim(t, topic, part, 40) // of about 60
			}
		},
	} {
		create(t, p, topic, 2)
		b := open(t, p.options)
		good(t, b.Publish(soon(t), sent(topic, 9, 0, 60)))
		m := join(t, b, topic, topic)
		drain(t, m, 60) // about 30 of each partition, and commits them
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		good(t, b.Publish(soon(t), sent(topic, 9, 60, 60)))
		loses(topic)
		const joined = "ringfence_bus_generations_total"
		before := b.Watch()[joined]
		if rs, err := join(t, b, topic, topic).Fetch(soon(t), 1, 0); !errors.Is(err, bus.ErrLost) || len(rs) > 0 {
			t.Errorf("%s: %d records, %v", topic, len(rs), err)
		}
		if n := b.Watch()[joined]; n != before {
			t.Errorf("%s: it took part", topic)
		}
	}
}
