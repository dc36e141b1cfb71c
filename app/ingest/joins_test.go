package ingest_test

import (
	"context"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// halfway is a bus of which a topic is missing, for a while.
type halfway struct {
	bus.Bus
	missing      string
	tries        *int
	joined, left *int
	enough       func() // both were joined
}

func (h halfway) Join(ctx context.Context, group string, topics ...string) (bus.Member, error) {
	if topics[0] == h.missing && *h.tries < 2 {
		*h.tries++
		return nil, bus.ErrTopic
	}
	*h.joined++
	m, err := h.Bus.Join(ctx, group, topics...)
	if topics[0] == bus.TopicsUnder("rf").Uplinks {
		h.enough()
	}
	return leaving{m, h.left}, err
}

type leaving struct {
	bus.Member
	left *int
}

func (l leaving) Close() error { *l.left++; return l.Member.Close() }

// Who cannot read all that it should keeps no partition meanwhile from those who can.
func TestWhoCannotJoinBothGroupsIsInNone(t *testing.T) {
	topics := bus.TopicsUnder("rf")
	for missing, before := range map[string]int{topics.Uplinks: 2, topics.Later: 0} {
		s := newStream(t, "x", tenant.DefaultLimits)
		var tries, joined, left int
		ctx, enough := context.WithTimeout(t.Context(), 10*time.Second)
		s.events.Over(ingest.Durable{Bus: halfway{s.bus, missing, &tries, &joined, &left, enough}, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers"})
		err := s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: time.Second})
		if err != nil || tries != 2 || joined != before+2 || left != joined {
			t.Errorf("%s was missing twice: groups were joined %d times, and left %d times; %v", missing, joined, left, err)
		}
	}
}
