package kafkabus

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/ringfence/ringfence/ports/bus"
)

// fetched is what one look at a partition gave.
type fetched struct {
	records []bus.Record
	next    int64 // where to look next
	first   int64 // the oldest kept
	end     int64
}

// fetch looks at a partition once, from a place on, and answers at most about so much.
func (b *Bus) fetch(ctx context.Context, at place, from int64, most, bytes int) (f fetched, err error) {
	answer, err := b.kafka().Fetch(ctx, &kafka.FetchRequest{
		Topic: at.topic, Partition: at.part, Offset: from, MinBytes: 1, MaxBytes: int64(min(bytes, maxPoll)), MaxWait: pollWait,
	})
	if err != nil {
		return f, err
	}
	defer func() {
		if c, ok := answer.Records.(io.Closer); ok {
			_ = c.Close()
		}
	}()
	if answer.Error != nil {
		drained(answer.Records)
		return f, answer.Error
	}
	f.next, f.first, f.end = from, answer.LogStartOffset, answer.HighWatermark
	batches := []kafka.RecordReader{answer.Records}
	if s, ok := answer.Records.(*protocol.RecordStream); ok {
		batches = s.Records
	}
	size := 0
	for _, batch := range batches {
		_, control := batch.(*protocol.ControlBatch) // of transactions, which nobody here makes
		for {
			rec, err := batch.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil { // cut off in the middle: what is whole counts
				if len(f.records) > 0 || f.next > from {
					return f, nil
				}
				return f, err
			}
			if rec.Offset < from || size >= bytes || len(f.records) >= most {
				release(rec)
				continue
			}
			f.next = rec.Offset + 1
			if control {
				release(rec)
				continue
			}
			r, err := read(at, rec)
			if err != nil {
				return f, err
			}
			size += r.Size() + recordOverhead
			f.records = append(f.records, r)
		}
	}
	return f, nil
}

// read makes a record of Kafka's ours.
func read(at place, rec *kafka.Record) (r bus.Record, err error) {
	defer release(rec)
	key, err := kafka.ReadAll(rec.Key)
	if err != nil {
		return r, err
	}
	value, err := kafka.ReadAll(rec.Value)
	if err != nil {
		return r, err
	}
	r = bus.Record{Topic: at.topic, Key: string(key), Value: value, Partition: at.part, Offset: rec.Offset, Time: rec.Time}
	for _, h := range rec.Headers {
		r.Headers = append(r.Headers, bus.Header{Name: h.Key, Value: slices.Clone(h.Value)})
	}
	return r, nil
}

// ends are the places of the oldest record kept and of the next one, by partition.
func (b *Bus) ends(ctx context.Context, places []place) (first, end map[place]int64, err error) {
	ask := map[string][]kafka.OffsetRequest{}
	for _, at := range places {
		ask[at.topic] = append(ask[at.topic], kafka.FirstOffsetOf(at.part), kafka.LastOffsetOf(at.part))
	}
	err = b.asked(ctx, func(ctx context.Context) error {
		first, end = map[place]int64{}, map[place]int64{}
		if len(places) == 0 {
			return nil
		}
		answer, err := b.kafka().ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: ask})
		if err != nil {
			return err
		}
		for topic, ps := range answer.Topics { // in no order
			for _, p := range ps {
				if p.Error != nil {
					return p.Error
				}
				first[place{topic, p.Partition}], end[place{topic, p.Partition}] = p.FirstOffset, p.LastOffset
			}
		}
		if len(first) != len(places) {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	return first, end, err
}

// committed are a group's marks, -1 where it has none.
func (b *Bus) committed(ctx context.Context, group string, places []place) (marks map[place]int64, err error) {
	ask := map[string][]int{}
	for _, at := range places {
		ask[at.topic] = append(ask[at.topic], at.part)
	}
	err = b.asked(ctx, func(ctx context.Context) error {
		marks = map[place]int64{}
		if len(places) == 0 {
			return nil
		}
		answer, err := b.kafka().OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: ask})
		if err != nil {
			return err
		}
		if errors.Is(answer.Error, kafka.GroupIdNotFound) { // nobody has joined it yet
			for _, at := range places {
				marks[at] = -1
			}
			return nil
		}
		if answer.Error != nil {
			return answer.Error
		}
		for topic, ps := range answer.Topics {
			for _, p := range ps {
				if p.Error != nil {
					return p.Error
				}
				marks[place{topic, p.Partition}] = p.CommittedOffset
			}
		}
		if len(marks) != len(places) {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	return marks, err
}

// places are all partitions of topics, which must be there.
func (b *Bus) places(ctx context.Context, topics ...string) (all []place, seen map[string]described, err error) {
	if b.ended() {
		return nil, nil, bus.ErrClosed
	}
	if ctx.Err() != nil {
		return nil, nil, away(ctx.Err())
	}
	if seen, err = b.describe(ctx, topics); err != nil {
		return nil, nil, err
	}
	for _, name := range topics {
		if err := seen[name].err(); err != nil {
			return nil, nil, err
		}
		for p := range seen[name].partitions {
			all = append(all, place{name, p})
		}
	}
	return all, seen, nil
}

// Browse reads without a group.
func (b *Bus) Browse(ctx context.Context, topic string, partition int, from int64, limit int) ([]bus.Record, error) {
	all, _, err := b.places(ctx, topic)
	if err != nil {
		return nil, err
	}
	at := place{topic, partition}
	if !slices.Contains(all, at) {
		return nil, bus.ErrTopic
	}
	return b.between(ctx, at, from, math.MaxInt64, limit)
}

// between reads a partition from a place, or the oldest record, up to another, or its end as of now.
func (b *Bus) between(ctx context.Context, at place, from, to int64, limit int) (rs []bus.Record, err error) {
	first, end, err := b.ends(ctx, []place{at})
	if err != nil {
		return nil, err
	}
	from, to = max(from, first[at]), min(to, end[at])
	for from < to && len(rs) < limit {
		var f fetched
		if err := b.asked(ctx, func(ctx context.Context) (err error) {
			f, err = b.fetch(ctx, at, from, limit-len(rs), maxAhead)
			return err
		}); err != nil {
			return nil, err
		}
		for _, r := range f.records {
			if r.Offset < to {
				rs = append(rs, r)
			}
		}
		from = f.next
	}
	return rs, nil
}

// Lags says how far a group has come.
func (b *Bus) Lags(ctx context.Context, group string, topics ...string) ([]bus.Lag, error) {
	if !bus.Named(group) {
		return nil, bus.ErrName
	}
	places, _, err := b.places(ctx, topics...)
	if err != nil {
		return nil, err
	}
	marks, err := b.committed(ctx, group, places)
	if err != nil {
		return nil, err
	}
	first, end, err := b.ends(ctx, places)
	if err != nil {
		return nil, err
	}
	lags := make([]bus.Lag, len(places))
	for i, at := range places {
		l := bus.Lag{Topic: at.topic, Partition: at.part, Committed: marks[at], First: first[at], End: end[at]}
		if l.Behind() > 0 {
			rs, err := b.between(ctx, at, max(l.Committed, l.First), l.End, 1)
			if err != nil && !errors.Is(err, errDenied) && ctx.Err() == nil { // who may only write, or waits no longer, is told how many there are
				return nil, err
			}
			if len(rs) > 0 {
				l.Oldest = rs[0].Time
			}
		}
		lags[i] = l
	}
	return lags, nil
}
