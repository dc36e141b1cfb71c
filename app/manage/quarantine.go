package manage

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// Release puts a quarantined uplink back to work: every check is made again, at the node of that moment.
func (m *Manage) Release(ctx context.Context, c *Call, id ident.Uplink) (uplink.Uplink, error) {
	return m.settle(ctx, c, id, access.QuarantineRelease, audit.QuarantineReleased, uplink.Accepted, uplink.Quarantined)
}

// Discard gives a quarantined uplink up.
func (m *Manage) Discard(ctx context.Context, c *Call, id ident.Uplink) (uplink.Uplink, error) {
	return m.settle(ctx, c, id, access.QuarantineDiscard, audit.QuarantineDropped, uplink.Discarded, uplink.Quarantined)
}

// Replay puts an uplink whose decode failed, or that had no decoder, back to work.
func (m *Manage) Replay(ctx context.Context, c *Call, id ident.Uplink) (uplink.Uplink, error) {
	return m.settle(ctx, c, id, access.UplinkReplay, audit.UplinkReplayed, uplink.Accepted, uplink.Failed)
}

func (m *Manage) settle(ctx context.Context, c *Call, id ident.Uplink, p access.Permission, a audit.Action, to, from uplink.State) (uplink.Uplink, error) {
	var out uplink.Uplink
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		u, err := w.Read().Uplinks().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := c.Scope.Require(p, u.Node); err != nil {
			return nil, err
		}
		if u.State != from {
			return nil, fault.New(fault.Conflict, "uplink_state", "The uplink is %s; this applies to %s ones.", u.State, from)
		}
		was := u.State
		u.State, u.UpdatedAt, u.NotBefore, u.Attempts = to, m.now(), time.Time{}, 0
		if to == uplink.Accepted {
			u.Reason = ""
		}
		if a == audit.QuarantineReleased {
			u.ReleasedAt = u.UpdatedAt
		}
		if out, err = w.Settle(ctx, u); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, a, enter.Target("uplink", id, c.Scope.Path(u.Node)...), audit.Set("state", string(was), string(to))))
	})
	if err == nil && to == uplink.Accepted {
		m.again(c.Scope.Tenant(), ident.Version{})
	}
	return out, err
}
