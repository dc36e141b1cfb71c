package storetest_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// misordered answers readings in another order.
type misordered struct {
	store.Readings
	compare func(a, b uplink.Reading) int // of one moment, newest first
	skip    bool                          // a page begins with the next moment
	latest  bool                          // it is the latest alone
}

func (m misordered) Find(ctx context.Context, q store.Query, f store.ReadingFilter) (store.Page[uplink.Reading], error) {
	page, err := m.Readings.Find(ctx, q, f)
	if m.skip && q.After != "" {
		page.Items = page.Items[:0]
	}
	if m.compare != nil && !m.latest {
		slices.SortStableFunc(page.Items, m.compare)
	}
	return page, err
}

func (m misordered) Latest(ctx context.Context, d ident.Device, r access.Reach) (uplink.Reading, error) {
	if !m.latest {
		return m.Readings.Latest(ctx, d, r)
	}
	page, err := m.Readings.Find(ctx, store.Query{Reach: r}, store.ReadingFilter{Device: d})
	if err != nil || len(page.Items) == 0 {
		return uplink.Reading{}, fault.Missing()
	}
	return slices.MinFunc(page.Items, m.compare), nil
}

func TestReadingsInAnotherOrderAreFound(t *testing.T) {
	byTime := func(next func(a, b uplink.Reading) int) func(a, b uplink.Reading) int {
		return func(a, b uplink.Reading) int {
			if c := b.At.Compare(a.At); c != 0 {
				return c
			}
			return next(a, b)
		}
	}
	byID := byTime(func(a, b uplink.Reading) int { return b.ID.Compare(a.ID) })
	byEvent := byTime(func(a, b uplink.Reading) int { return b.Uplink.Compare(a.Uplink) })
	byCounter := func(a, b uplink.Reading) int { return int(b.FCnt&0xff) - int(a.FCnt&0xff) } //nolint:gosec // of a byte
	for bug, m := range map[string]misordered{
		"lists are as they were written":         {compare: byID},
		"lists are as events were let in":        {compare: byEvent},
		"a counter has a byte":                   {compare: byTime(byCounter)},
		"a page begins with the next moment":     {skip: true},
		"the latest is what was written last":    {compare: byID, latest: true},
		"the latest is the newest event":         {compare: byEvent, latest: true},
		"the latest has the highest counter":     {compare: func(a, b uplink.Reading) int { return int(b.FCnt) - int(a.FCnt) }, latest: true}, //nolint:gosec // 32 bits
		"the latest's counter is of a byte only": {compare: byTime(byCounter), latest: true},
	} {
		t.Run(strings.ReplaceAll(bug, " ", "_"), func(t *testing.T) {
			if !caught(t, "ReadingsAreInTheOrderOfTheirDevice", byReader(reading{read: func(r store.Readings) store.Readings { m.Readings = r; return m }}), nil) {
				t.Errorf("not caught: %s", bug)
			}
		})
	}
	for bug, change := range map[string]func(*store.Finished){
		"a batch forgets counters": func(f *store.Finished) {
			r := *f.Reading
			r.FCnt, f.Reading = 0, &r
		},
		"a batch is of one moment": func(f *store.Finished) {
			r := *f.Reading
			r.At, f.Reading = f.Uplink.ArrivedAt, &r
		},
	} {
		t.Run(strings.ReplaceAll(bug, " ", "_"), func(t *testing.T) {
			if !caught(t, "ReadingsAreInTheOrderOfTheirDevice", func(s store.Store) store.Store { return batching{s, byRows(change)} }, nil) {
				t.Errorf("not caught: %s", bug)
			}
		})
	}
}
