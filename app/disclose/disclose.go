// Package disclose gives out what was kept: uplinks, readings, outcomes, and the audit log with its proofs. What was read of
// the audit log is itself recorded, before it is answered.
package disclose

import (
	"context"
	"sync"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/seal"
	"github.com/ringfence/ringfence/ports/store"
)

// Disclose is the use cases.
type Disclose struct {
	enter *enter.Enter
	store store.Store
	log   seal.Log

	exports sync.Map // ident.Tenant → true while one of its logs is exported
}

// New returns the use cases.
func New(e *enter.Enter, st store.Store, log seal.Log) *Disclose {
	return &Disclose{enter: e, store: st, log: log}
}

// Uplink answers one uplink to who has p at its ruler: uplink:read, or the permission by which it was just changed.
func (d *Disclose) Uplink(ctx context.Context, s access.Scope, id ident.Uplink, p access.Permission) (uplink.Uplink, error) {
	var u uplink.Uplink
	err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		u, err = r.Uplinks().Get(ctx, id)
		return err
	})
	if err == nil {
		err = s.Require(p, u.Node)
	}
	return u, err
}

// Uplinks lists uplinks within reach: of p, which is uplink:read, or quarantine:read for the quarantine's list.
func (d *Disclose) Uplinks(ctx context.Context, s access.Scope, p access.Permission, q store.Query, f store.UplinkFilter) (store.Page[uplink.Uplink], error) {
	var page store.Page[uplink.Uplink]
	q.Reach = s.Reach(p)
	err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		page, err = r.Uplinks().Find(ctx, q, f)
		return err
	})
	return page, err
}

// ReadingFilter narrows readings. Under is a node: it and everything below it.
type ReadingFilter struct {
	Device   ident.Device
	Under    ident.Node
	From, To time.Time
}

// Readings lists readings within reach, the newest first.
func (d *Disclose) Readings(ctx context.Context, s access.Scope, q store.Query, f ReadingFilter) (store.Page[uplink.Reading], error) {
	var page store.Page[uplink.Reading]
	q.Reach = s.Reach(access.ReadingRead)
	inner := store.ReadingFilter{Device: f.Device, From: f.From, To: f.To}
	if !f.Under.IsZero() {
		if inner.Nodes = s.Policy().Below(f.Under); inner.Nodes == nil {
			inner.Nodes = []ident.Node{} // a node of nobody's: nothing, like an empty one
		}
	}
	err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		page, err = r.Readings().Find(ctx, q, inner)
		return err
	})
	return page, err
}

// Latest answers a device's newest reading within reach.
func (d *Disclose) Latest(ctx context.Context, s access.Scope, id ident.Device) (uplink.Reading, error) {
	var out uplink.Reading
	reach := s.Reach(access.ReadingRead)
	if reach.IsEmpty() {
		return out, fault.Missing()
	}
	err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		out, err = r.Readings().Latest(ctx, id, reach)
		return err
	})
	return out, err
}

// Outcomes lists decoder runs within reach.
func (d *Disclose) Outcomes(ctx context.Context, s access.Scope, q store.Query, f store.OutcomeFilter) (store.Page[uplink.Outcome], error) {
	var page store.Page[uplink.Outcome]
	q.Reach = s.Reach(access.OutcomeRead)
	err := d.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		var err error
		page, err = r.Outcomes().Find(ctx, q, f)
		return err
	})
	return page, err
}
