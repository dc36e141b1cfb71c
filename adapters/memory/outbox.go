package memory

import (
	"bytes"
	"context"
	"slices"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

var _ store.Outbox = (*Store)(nil)

// Relay hands over what a shard has.
func (s *Store) Relay(ctx context.Context, r store.Round, publish func(context.Context, []store.Sent) []error) (bool, error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	if !s.relayed[r.Shard].CompareAndSwap(false, true) {
		return false, nil
	}
	defer s.relayed[r.Shard].Store(false)
	rs, places := s.now.Load().outgoing(r)
	if len(rs) == 0 {
		return true, nil
	}
	var errs []error
	if err := protect(func() error { errs = publish(store.Enter(ctx), rs); return nil }); err != nil {
		return true, err
	}
	return true, s.write(ctx, func(w *world) error {
		for i, err := range errs {
			if err == nil && i < len(rs) {
				h := open(w, rs[i].Tenant)
				h.book.outbox[r.Shard] = h.book.outbox[r.Shard].drop(places[i])
				h.keep(w)
			}
		}
		return nil
	})
}

// Waiting are the shards that have something.
func (s *Store) Waiting(ctx context.Context) (shards []int, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	w := s.now.Load()
	for shard := range store.OutboxShards {
		if rs, _ := w.outgoing(store.Round{Shard: shard, Limit: 1}); len(rs) > 0 {
			shards = append(shards, shard)
		}
	}
	return shards, nil
}

// outgoing are the oldest records of a shard, of each tenant as many as of the others, and where they lie.
func (w *world) outgoing(r store.Round) (rs []store.Sent, places []string) {
	var tenants []ident.Tenant
	after := r.After
	if len(r.Only) > 0 {
		after = ident.Tenant{}
	}
	for key := range w.sending[r.Shard].up(string(after[:])) {
		t := ident.Tenant([]byte(key))
		wanted := t != after && !slices.Contains(r.Except, t)
		if len(r.Only) > 0 {
			wanted = slices.Contains(r.Only, t)
		}
		if wanted && len(tenants) < r.Limit {
			tenants = append(tenants, t)
		}
	}
	for _, t := range tenants {
		b, _ := w.books.get(string(t[:]))
		n := 0
		for place, o := range b.outbox[r.Shard].up("") {
			if n == max(r.Limit/len(tenants), 1) {
				break
			}
			o.Value = bytes.Clone(o.Value)
			n, rs, places = n+1, append(rs, store.Sent{Tenant: t, Outgoing: o}), append(places, place)
		}
	}
	return rs, places
}
