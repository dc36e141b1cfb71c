package ingest_test

import (
	"context"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// halfway is a bus whose second topic lost something.
type halfway struct {
	bus.Bus
	left *int
}

func (h halfway) Join(ctx context.Context, group string, topics ...string) (bus.Member, error) {
	if topics[0] == bus.TopicsUnder("rf").Later {
		return nil, bus.ErrLost
	}
	m, err := h.Bus.Join(ctx, group, topics...)
	return leaving{m, h.left}, err
}

type leaving struct {
	bus.Member
	left *int
}

func (l leaving) Close() error { *l.left++; return l.Member.Close() }

// Who cannot read all that it should keeps no partition from those who can.
func TestWhoCannotJoinTheSecondGroupLeavesTheFirst(t *testing.T) {
	s := newStream(t, "x", tenant.DefaultLimits)
	left := 0
	s.events.Over(ingest.Durable{Bus: halfway{s.bus, &left}, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers"})
	err := s.events.Consume(t.Context(), ingest.Consuming{Group: "workers", Later: "workers-later", Decoders: 1, Writers: 1, Grace: time.Second})
	if f := fault.As(err); f == nil || f.Code != fault.As(bus.ErrLost).Code || left != 1 {
		t.Errorf("%v; the first group was left %d times", err, left)
	}
}
