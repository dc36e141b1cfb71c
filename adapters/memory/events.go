package memory

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// between reports whether a moment lies from one (inclusive) to another (not); zero is no bound.
func between(at, from, to time.Time) bool {
	return (from.IsZero() || !at.Before(from)) && (to.IsZero() || at.Before(to))
}

// got is one thing of a tree, or missing.
func got[V any](h *handle, t tree[V], key string) (V, error) {
	v, ok := t.get(key)
	if err := h.alive(); err != nil || ok {
		return v, err
	}
	return v, fault.Missing()
}

type uplinkShelf struct{ h *handle }

func lent(u uplink.Uplink) uplink.Uplink {
	u.Payload = bytes.Clone(u.Payload)
	return u
}

func (s uplinkShelf) Get(_ context.Context, id ident.Uplink) (uplink.Uplink, error) {
	u, err := got(s.h, s.h.book.uplinks, idKey(id))
	return lent(u), err
}

func (s uplinkShelf) List(ctx context.Context, q store.Query) (store.Page[uplink.Uplink], error) {
	return s.Find(ctx, q, store.UplinkFilter{})
}

func (s uplinkShelf) Find(_ context.Context, q store.Query, f store.UplinkFilter) (store.Page[uplink.Uplink], error) {
	return page(s.h, q, s.h.book.uplinks, func(u uplink.Uplink) (uplink.Uplink, bool, error) {
		return lent(u), within(q.Reach, u.Node) && (f.Device.IsZero() || f.Device == u.Device) && (f.Source.IsZero() || f.Source == u.Source) &&
			(f.State == "" || f.State == u.State) && between(u.ArrivedAt, f.From, f.To), nil
	})
}

func (s uplinkShelf) Due(_ context.Context, now time.Time, limit int) ([]uplink.Uplink, error) {
	var out []uplink.Uplink
	for _, id := range s.h.book.waiting.up("") {
		if len(out) == limit {
			break
		}
		if u, _ := s.h.book.uplinks.get(idKey(id)); !u.NotBefore.After(now) {
			out = append(out, lent(u))
		}
	}
	return out, s.h.alive()
}

func (s uplinkShelf) Backlog(context.Context) (int, error) { return s.h.book.waiting.n, s.h.alive() }

type readingShelf struct{ h *handle }

func (s readingShelf) at(place string) (uplink.Reading, error) {
	r, err := got(s.h, s.h.book.readings, place)
	r.Data, r.Warnings = bytes.Clone(r.Data), slices.Clone(r.Warnings)
	return r, err
}

func (s readingShelf) Find(_ context.Context, q store.Query, f store.ReadingFilter) (store.Page[uplink.Reading], error) {
	return page(s.h, q, s.h.book.readings, func(r uplink.Reading) (uplink.Reading, bool, error) {
		r.Data, r.Warnings = bytes.Clone(r.Data), slices.Clone(r.Warnings)
		return r, within(q.Reach, r.Node) && (f.Device.IsZero() || f.Device == r.Device) &&
			(f.Nodes == nil || slices.Contains(f.Nodes, r.Node)) && between(r.At, f.From, f.To), nil
	})
}

// Latest is the kept one if it is within reach, else the newest that is.
func (s readingShelf) Latest(ctx context.Context, d ident.Device, r access.Reach) (uplink.Reading, error) {
	if r.All {
		place, err := got(s.h, s.h.book.latest, idKey(d))
		if err != nil {
			return uplink.Reading{}, err
		}
		return s.at(place)
	}
	p, err := s.Find(ctx, store.Query{Reach: r, Limit: 1}, store.ReadingFilter{Device: d})
	if err == nil && len(p.Items) == 0 {
		err = fault.Missing()
	}
	if err != nil {
		return uplink.Reading{}, err
	}
	return p.Items[0], nil
}

type outcomeShelf struct{ h *handle }

func (s outcomeShelf) Get(_ context.Context, id ident.Outcome) (uplink.Outcome, error) {
	return got(s.h, s.h.book.outcomes, idKey(id))
}

func (s outcomeShelf) List(ctx context.Context, q store.Query) (store.Page[uplink.Outcome], error) {
	return s.Find(ctx, q, store.OutcomeFilter{})
}

func (s outcomeShelf) Find(_ context.Context, q store.Query, f store.OutcomeFilter) (store.Page[uplink.Outcome], error) {
	return page(s.h, q, s.h.book.outcomes, func(o uplink.Outcome) (uplink.Outcome, bool, error) {
		return o, within(q.Reach, o.Node) && (f.Uplink.IsZero() || f.Uplink == o.Uplink) && (f.Device.IsZero() || f.Device == o.Device) &&
			(f.Decoder.IsZero() || f.Decoder == o.Decoder) && (f.Category == "" || f.Category == o.Category) && between(o.At, f.From, f.To), nil
	})
}
