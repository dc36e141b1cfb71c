package kafkabus

import (
	"context"
	"encoding/json"
	"math"

	"github.com/ringfence/ringfence/ports/bus"
)

// What each topic of ours is stands in a topic of its own, written by Apply and Accept and read by who joins a group: that of a
// group's marks would go with the topic that they are of. It has one partition and is compacted; the last record of a name
// counts.

// expectation is what a topic is to be.
type expectation struct {
	ID         string `json:"id"`
	Partitions int    `json:"partitions"`
}

// holds reports whether a topic is what it was.
func (e expectation) holds(d described) bool { return e.ID == d.id && d.partitions >= e.Partitions }

// expectations reads them all. Without a topic for them there are none.
func (b *Bus) expectations(ctx context.Context) (map[string]expectation, error) {
	all := map[string]expectation{}
	if b.o.Expected == "" {
		return all, nil
	}
	if _, _, err := b.places(ctx, b.o.Expected); err != nil {
		return nil, err
	}
	rs, err := b.between(ctx, place{b.o.Expected, 0}, 0, math.MaxInt64, math.MaxInt)
	if err != nil {
		return nil, err
	}
	for _, r := range rs {
		var e expectation
		if json.Unmarshal(r.Value, &e) == nil && e.ID != "" {
			all[r.Key] = e
		}
	}
	return all, nil
}

// expect keeps what topics are from now on.
func (b *Bus) expect(ctx context.Context, what map[string]expectation) error {
	var rs []bus.Record
	for name, e := range what {
		value, err := json.Marshal(e)
		if err != nil {
			return err
		}
		rs = append(rs, bus.Record{Topic: b.o.Expected, Key: name, Value: value})
	}
	for _, err := range b.Publish(ctx, rs) {
		if err != nil {
			return err
		}
	}
	return nil
}

// expectedOf is what the topics of a new member are to be: what is kept, or without a topic for that what they are now.
func (b *Bus) expectedOf(ctx context.Context, topics []string, seen map[string]described) (map[string]expectation, error) {
	kept, err := b.expectations(ctx)
	if err != nil {
		return nil, err
	}
	want := map[string]expectation{}
	for _, name := range topics {
		e, ok := kept[name]
		switch {
		case ok:
			want[name] = e
		case b.o.Expected == "":
			want[name] = expectation{seen[name].id, seen[name].partitions}
		default: // nobody has applied it
			return nil, bus.ErrTopic
		}
	}
	return want, nil
}
