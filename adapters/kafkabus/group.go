package kafkabus

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ringfence/ringfence/ports/bus"
)

// protocolName is what all members of a group must share out partitions by.
const protocolName = "ringfence"

// run is the life of a member.
func (m *member) run() {
	defer m.b.work.Done()
	defer close(m.ended)
	memberID := ""
	var last *generation
	progress, renewed := time.Now(), time.Now()
	for m.context.Err() == nil && !m.isLost() {
		g, id, err := m.enter(memberID, last)
		memberID = id
		m.mu.Lock()
		m.trouble = nil
		if err != nil && (settled(err) || time.Since(progress) > wait) { // a group takes a moment to settle
			m.trouble = told(err)
		}
		m.mu.Unlock()
		switch {
		case errors.Is(err, bus.ErrLost):
			m.lose()
		case errors.Is(err, kafka.RebalanceInProgress), errors.Is(err, kafka.MemberIDRequired):
			continue
		case err != nil:
			if time.Since(renewed) > m.b.o.Stuck {
				m.rebuild(&memberID)
				renewed = time.Now()
			}
			m.sleep(m.b.o.Backoff)
			continue
		}
		if err == nil {
			memberID = m.attend(g)
			last, progress, renewed = g, time.Now(), time.Now()
		}
	}
	m.leave(context.WithoutCancel(m.context), memberID) // who has lost something leaves too, so that an operator can accept it
	m.mu.Lock()
	m.gen = nil
	m.wake()
	m.mu.Unlock()
}

func (m *member) leave(ctx context.Context, memberID string) {
	if memberID != "" {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		_, _ = m.b.kafka().LeaveGroup(ctx, &kafka.LeaveGroupRequest{GroupID: m.group, Members: []kafka.LeaveGroupRequestMember{{ID: memberID}}})
	}
}

func (m *member) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.context.Done():
	}
}

// lose is for good: what was lost must be looked at.
func (m *member) lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.lost {
		m.lost = true
		close(m.losing)
		m.b.counts.lost.Add(1)
		m.wake()
	}
}

func (m *member) isLost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

// rebuild leaves all connections behind, and who we were.
func (m *member) rebuild(memberID *string) {
	m.b.counts.rebuilt.Add(1)
	m.b.renew()
	m.leave(m.context, *memberID)
	*memberID = ""
}

// enter joins and begins a generation. It also answers who we are in the group by now.
func (m *member) enter(memberID string, last *generation) (*generation, string, error) {
	o := m.b.o
	ctx, cancel := context.WithTimeout(m.context, o.Session+o.Rebalance+wait)
	defer cancel()
	client := m.b.kafka()
	joined, err := client.JoinGroup(ctx, &kafka.JoinGroupRequest{
		GroupID: m.group, MemberID: memberID, SessionTimeout: o.Session, RebalanceTimeout: o.Rebalance, ProtocolType: "consumer",
		Protocols: []kafka.GroupProtocol{{Name: protocolName, Metadata: kafka.GroupProtocolSubscription{Topics: m.topics}}},
	})
	if err == nil {
		err = joined.Error
	}
	if errors.Is(err, kafka.MemberIDRequired) && joined != nil {
		return nil, joined.MemberID, err
	}
	if err != nil {
		return nil, still(memberID, err), err
	}
	memberID = joined.MemberID
	var deal []kafka.SyncGroupRequestAssignment
	if joined.LeaderID == memberID {
		if deal, err = m.deal(ctx, joined.Members); err != nil {
			return nil, memberID, err
		}
	}
	synced, err := client.SyncGroup(ctx, &kafka.SyncGroupRequest{
		GroupID: m.group, GenerationID: joined.GenerationID, MemberID: memberID, ProtocolType: "consumer", ProtocolName: protocolName, Assignments: deal,
	})
	if err == nil {
		err = synced.Error
	}
	if err != nil {
		return nil, still(memberID, err), err
	}
	g := &generation{id: joined.GenerationID, memberID: memberID, alive: time.Now(), shares: map[place]*share{}}
	var mine []place
	for topic, ps := range synced.Assignment.AssignedPartitions {
		for _, p := range ps {
			mine = append(mine, place{topic, p})
		}
	}
	if err := m.begin(ctx, g, mine, last); err != nil {
		return nil, memberID, err
	}
	return g, memberID, nil
}

// still is our member id, unless the coordinator no longer knows it.
func still(memberID string, err error) string {
	if errors.Is(err, kafka.UnknownMemberId) || errors.Is(err, kafka.IllegalGeneration) {
		return ""
	}
	return memberID
}

// deal shares the partitions out: those of each topic in turn to the members that read it.
func (m *member) deal(ctx context.Context, members []kafka.JoinGroupResponseMember) ([]kafka.SyncGroupRequestAssignment, error) {
	slices.SortFunc(members, func(a, b kafka.JoinGroupResponseMember) int { return compare(a.ID, b.ID) })
	var topics []string
	hands := map[string]map[string][]int{}
	for _, one := range members {
		hands[one.ID] = map[string][]int{}
		topics = append(topics, one.Metadata.Topics...)
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	seen, err := m.b.describe(ctx, topics)
	if err != nil {
		return nil, err
	}
	for _, topic := range topics {
		turn := 0
		for p := range seen[topic].partitions {
			for range members {
				one := members[turn%len(members)]
				turn++
				if slices.Contains(one.Metadata.Topics, topic) {
					hands[one.ID][topic] = append(hands[one.ID][topic], p)
					break
				}
			}
		}
	}
	var deal []kafka.SyncGroupRequestAssignment
	for _, one := range members {
		deal = append(deal, kafka.SyncGroupRequestAssignment{MemberID: one.ID, Assignment: kafka.GroupProtocolAssignment{AssignedPartitions: hands[one.ID]}})
	}
	return deal, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// begin finds out where to go on in each partition, or what is lost.
func (m *member) begin(ctx context.Context, g *generation, mine []place, last *generation) error {
	if err := m.verify(ctx); err != nil {
		return err
	}
	marks, err := m.b.committed(ctx, m.group, mine)
	if err != nil {
		return err
	}
	first, end, err := m.b.ends(ctx, mine)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range mine {
		s := &share{mark: max(marks[at], 0), end: end[at], moved: time.Now(), looked: time.Now(), room: make(chan struct{}, 1)}
		if s.next = marks[at]; s.next < 0 {
			s.next = first[at]
		}
		// Between two generations that follow one another nobody else can have had it.
		if last != nil && last.id+1 == g.id && last.memberID == g.memberID && last.shares[at] != nil {
			s.next = max(s.next, last.shares[at].next)
		}
		if s.next < first[at] {
			return bus.ErrLost
		}
		s.read = s.next
		g.shares[at] = s
	}
	g.context, g.cancel = context.WithCancel(m.context)
	m.gen = g
	m.b.counts.joined.Add(1)
	m.wake()
	for at, s := range g.shares {
		g.work.Add(1)
		go m.ahead(g, at, s)
	}
	return nil
}

// attend keeps a generation alive until it is over, and answers who we are then.
func (m *member) attend(g *generation) (memberID string) {
	memberID = g.memberID
	beat, watch := time.NewTicker(m.b.o.Heartbeat), time.NewTicker(m.b.o.Watch)
	defer beat.Stop()
	defer watch.Stop()
	pulse, coordinator := newWire(m.b.dialer), ""
	defer pulse.close()
	var watching sync.WaitGroup
	var looking atomic.Bool
	changed := make(chan struct{}, 1)
	for over := false; !over; {
		select {
		case <-m.context.Done():
			over = true
		case <-m.losing:
			over = true
		case <-changed:
			over = true
		case <-watch.C:
			if m.isStuck(g) {
				m.rebuild(&memberID)
				over = true
			}
			if looking.CompareAndSwap(false, true) { // a slow answer must not hold the heartbeat up
				watching.Go(func() {
					defer looking.Store(false)
					m.look(g, changed)
				})
			}
		case <-beat.C:
			err := m.pulse(pulse, &coordinator, g)
			m.mu.Lock()
			switch {
			case err == nil:
				g.alive = time.Now()
			case errors.Is(err, kafka.RebalanceInProgress):
				over = true
			case errors.Is(err, kafka.UnknownMemberId), errors.Is(err, kafka.IllegalGeneration), errors.Is(err, kafka.GroupAuthorizationFailed):
				memberID, over = "", true
			default: // a coordinator that moves or is away: as long as it may believe in us
				over = time.Since(g.alive) > m.b.o.Session
			}
			m.mu.Unlock()
		}
	}
	m.mu.Lock()
	g.paused = true
	m.mu.Unlock()
	g.cancel()
	g.work.Wait()
	watching.Wait()
	return memberID
}

// pulse sends a heartbeat to the coordinator, which is looked for once it is not where it was.
func (m *member) pulse(w *wire, coordinator *string, g *generation) error {
	ctx, cancel := context.WithTimeout(m.context, max(m.b.o.Heartbeat, time.Second))
	defer cancel()
	if *coordinator == "" {
		found, err := m.b.kafka().FindCoordinator(ctx, &kafka.FindCoordinatorRequest{Key: m.group, KeyType: kafka.CoordinatorKeyTypeConsumer})
		if err == nil {
			err = found.Error
		}
		if err != nil {
			return err
		}
		*coordinator = net.JoinHostPort(found.Coordinator.Host, strconv.Itoa(found.Coordinator.Port))
	}
	err := w.heartbeat(ctx, *coordinator, m.group, g.memberID, g.id)
	var code kafka.Error
	if err != nil && (!errors.As(err, &code) || code == kafka.NotCoordinatorForGroup || code == kafka.GroupCoordinatorNotAvailable) {
		*coordinator = ""
		w.drop()
	}
	return err
}

// look compares the topics with what is expected, asks for a new deal when one has grown, and finds out how far they go by
// another question than that for records.
func (m *member) look(g *generation, changed chan<- struct{}) {
	ctx, cancel := context.WithTimeout(g.context, wait)
	defer cancel()
	err := m.verify(ctx)
	if errors.Is(err, bus.ErrLost) {
		m.lose()
	}
	if err == nil && m.hasGrown() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	m.mu.Lock()
	mine := slices.Collect(maps.Keys(g.shares))
	m.mu.Unlock()
	_, end, err := m.b.ends(ctx, mine)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, s := range g.shares {
		s.end = max(s.end, end[at])
	}
}

// isStuck reports whether there are records that we have not read for long, though nothing keeps us.
func (m *member) isStuck(g *generation) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range g.shares {
		if len(s.ready) > 0 {
			s.looked = time.Now()
		}
		if len(s.ready) > 0 || s.read >= s.end {
			s.moved = time.Now()
		}
		if time.Since(s.moved) > m.b.o.Stuck || time.Since(s.looked) > m.b.o.Stuck {
			return true
		}
	}
	return false
}
