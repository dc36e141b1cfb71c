package ingest

import (
	"context"
	"sync"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// asides are parts of tenants whose records are being changed, which may take as long as the change does. Each tenant's are written
// apart from all others', beside the writers, which go on.
type asides struct {
	places chan struct{} // where a tenant's are written: so many at the same time
	lanes  sync.WaitGroup

	mu sync.Mutex
	of map[ident.Tenant][]*part // each tenant with a lane of its own, until it has none left
}

// newAsides has half as many places as there are writers: who stands in one keeps a connection of the store's for as long as a change
// takes, and all else that is asked of the store needs some.
func newAsides(writers int) *asides {
	return &asides{places: make(chan struct{}, max(writers/2, 1)), of: map[ident.Tenant][]*part{}}
}

// aside has a part written apart.
func (c *consumer) aside(ctx context.Context, p *part) {
	c.g.counts.add("ringfence_parts_aside_total", 1)
	b, t := c.asides, p.Scope.Tenant()
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting, laned := b.of[t]
	if b.of[t] = append(waiting, p); !laned {
		b.lanes.Go(func() { c.lane(ctx, t) })
	}
}

// lane writes a tenant's parts. Whatever comes of a try, others have theirs before the next.
func (c *consumer) lane(ctx context.Context, t ident.Tenant) {
	b := c.asides
	for {
		select {
		case <-ctx.Done():
			return
		case b.places <- struct{}{}:
		}
		parts := b.take(t)
		_ = c.settle(ctx, parts, true) // what is left is not finished, and read again by whoever comes next
		<-b.places
		if len(parts) == 0 {
			return
		}
	}
}

// take answers as many of a tenant's parts as one batch may have; if there are none, its lane is over.
func (b *asides) take(t ident.Tenant) []*part {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.of[t]
	if len(all) == 0 {
		delete(b.of, t)
		return nil
	}
	n := min(len(all), store.MaxParts)
	b.of[t] = all[n:]
	return all[:n:n]
}
