package kafkabus

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/bus"
)

// What follows takes an administrator's credential: no binary of ours may do it with its own.

// Topic is one that is to be there.
type Topic struct {
	Name       string
	Partitions int
	Replicas   int               // 0: as the cluster has it
	Settings   map[string]string // by Kafka's names
}

// largest is max.message.bytes: the largest record, with what Kafka adds to one.
const largest = bus.MaxValue + bus.MaxKey + bus.MaxHeaderBytes + 16<<10

// Create makes a topic, and keeps what it is unless something is kept already: a topic that took the place of another is
// something that Accept must be told of. It waits until the topic is seen.
func (b *Bus) Create(ctx context.Context, t Topic) error {
	if !bus.Named(t.Name) {
		return bus.ErrName
	}
	config := kafka.TopicConfig{Topic: t.Name, NumPartitions: max(t.Partitions, 1), ReplicationFactor: t.Replicas}
	if t.Replicas <= 0 {
		config.ReplicationFactor = -1
	}
	settings := t.Settings
	if settings == nil {
		settings = map[string]string{"max.message.bytes": strconv.Itoa(largest)}
	}
	for name, value := range settings {
		config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	err := b.asked(ctx, func(ctx context.Context) error {
		answer, err := b.kafka().CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{config}})
		if err == nil {
			err = answer.Errors[t.Name]
		}
		if errors.Is(err, kafka.TopicAlreadyExists) {
			return nil // perhaps by the try before
		}
		return administered(err)
	})
	if err != nil {
		return err
	}
	d, err := b.settledAt(ctx, t.Name, config.NumPartitions)
	if err != nil || b.o.Expected == "" || t.Name == b.o.Expected {
		return err
	}
	kept, err := b.expectations(ctx)
	if err != nil {
		return err
	}
	if _, ok := kept[t.Name]; ok {
		return nil
	}
	return b.expect(ctx, map[string]expectation{t.Name: {d.id, d.partitions}})
}

// Grow adds partitions to a topic, so that there are as many. There are never less. Keys move to other partitions by it: records
// of a key keep their order only if what was there before is read first.
func (b *Bus) Grow(ctx context.Context, topic string, partitions int) error {
	seen, err := b.describe(ctx, []string{topic})
	if err == nil {
		err = seen[topic].err()
	}
	if err != nil || seen[topic].partitions >= partitions {
		return err
	}
	err = b.asked(ctx, func(ctx context.Context) error {
		answer, err := b.kafka().CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(partitions)}}})
		if err == nil {
			err = answer.Errors[topic]
		}
		return administered(err)
	})
	if err != nil {
		return err
	}
	d, err := b.settledAt(ctx, topic, partitions)
	if err != nil || b.o.Expected == "" {
		return err
	}
	kept, err := b.expectations(ctx)
	if err != nil {
		return err
	}
	if e, ok := kept[topic]; ok && e.ID != d.id {
		return nil // it stays lost
	}
	return b.expect(ctx, map[string]expectation{topic: {d.id, d.partitions}})
}

// settledAt waits until a topic is seen with so many partitions.
func (b *Bus) settledAt(ctx context.Context, topic string, partitions int) (described, error) {
	for n := 0; ; n++ {
		seen, err := b.describe(ctx, []string{topic})
		if err == nil && seen[topic].code == 0 && seen[topic].partitions >= partitions {
			return seen[topic], nil
		}
		if err != nil && !fault.Is(err, fault.Unavailable) {
			return described{}, err
		}
		if !b.pause(ctx, n) {
			if err == nil {
				err = ctx.Err()
			}
			return described{}, away(err)
		}
	}
}

// administered tells what an administrator can mend.
func administered(err error) error {
	switch {
	case err == nil:
		return nil
	case isDenied(err):
		return errDenied
	case errors.Is(err, kafka.InvalidReplicationFactor), errors.Is(err, kafka.InvalidPartitionNumber), errors.Is(err, kafka.InvalidConfiguration), errors.Is(err, kafka.PolicyViolation):
		return fault.Wrap(err, fault.Invalid, "kafka_settings", "Kafka refuses a topic's settings. Ask for no more replicas than there are brokers, and for settings that the cluster allows.")
	case errors.Is(err, kafka.SecurityDisabled):
		return fault.Wrap(err, fault.Conflict, "kafka_without_acls", "The Kafka cluster has no authorizer, so that anybody may do anything. Set authorizer.class.name on its brokers.")
	}
	return err
}

// Accepted is what Accept did.
type Accepted struct {
	Topic  string
	Anew   bool // the topic is another than it was
	Groups []bus.Lag
	Group  []string // whose mark each of Groups is; Committed is what it was, First where it goes on
}

var errActive = fault.New(fault.Conflict, "group_active", "A group still reads the topic. Stop its members, wait until Kafka has let go of them, and accept again.")

// Accept says that what was lost of topics is known: what they are now is what they are to be, and each group's marks that lie
// outside, or are of a topic that is gone, are put to the oldest record kept.
func (b *Bus) Accept(ctx context.Context, topics ...string) ([]Accepted, error) {
	kept, err := b.expectations(ctx)
	if err != nil {
		return nil, err
	}
	places, seen, err := b.places(ctx, topics...)
	if err != nil {
		return nil, err
	}
	first, end, err := b.ends(ctx, places)
	if err != nil {
		return nil, err
	}
	groups, err := b.groups(ctx)
	if err != nil {
		return nil, err
	}
	var all []Accepted
	now := map[string]expectation{}
	for _, topic := range topics {
		d := seen[topic]
		a := Accepted{Topic: topic, Anew: kept[topic].ID != "" && kept[topic].ID != d.id}
		now[topic] = expectation{d.id, d.partitions}
		for _, group := range groups {
			mine := slices.DeleteFunc(slices.Clone(places), func(at place) bool { return at.topic != topic })
			marks, err := b.committed(ctx, group, mine)
			if err != nil {
				return nil, err
			}
			for _, at := range mine {
				if mark := marks[at]; mark >= 0 && (a.Anew || mark < first[at] || mark > end[at]) && mark != first[at] {
					a.Group = append(a.Group, group)
					a.Groups = append(a.Groups, bus.Lag{Topic: topic, Partition: at.part, Committed: mark, First: first[at], End: end[at]})
				}
			}
		}
		all = append(all, a)
	}
	for _, a := range all {
		for i, l := range a.Groups {
			if err := b.reset(ctx, a.Group[i], l); err != nil {
				return nil, err
			}
		}
	}
	if b.o.Expected == "" {
		return all, nil
	}
	return all, b.expect(ctx, now)
}

func (b *Bus) groups(ctx context.Context) (names []string, err error) {
	err = b.asked(ctx, func(ctx context.Context) error {
		answer, err := b.kafka().ListGroups(ctx, &kafka.ListGroupsRequest{})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			return administered(err)
		}
		names = nil
		for _, g := range answer.Groups {
			names = append(names, g.GroupID)
		}
		return nil
	})
	return names, err
}

// reset puts the mark of a group without members to the oldest record. A group whose last member has just fallen silent needs
// as long as a session to know.
func (b *Bus) reset(ctx context.Context, group string, l bus.Lag) error {
	until := time.Now().Add(b.o.Session + b.o.Rebalance)
	for n := 0; ; n++ {
		err := b.asked(ctx, func(ctx context.Context) error {
			answer, err := b.kafka().OffsetCommit(ctx, &kafka.OffsetCommitRequest{
				GroupID: group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{l.Topic: {{Partition: l.Partition, Offset: l.First}}},
			})
			if err != nil {
				return err
			}
			for _, p := range answer.Topics[l.Topic] {
				if errors.Is(p.Error, kafka.UnknownMemberId) || errors.Is(p.Error, kafka.IllegalGeneration) || errors.Is(p.Error, kafka.RebalanceInProgress) {
					return errActive
				}
				if p.Error != nil {
					return administered(p.Error)
				}
			}
			return nil
		})
		if !errors.Is(err, errActive) || time.Now().After(until) || !b.pause(ctx, n) {
			return err
		}
	}
}
