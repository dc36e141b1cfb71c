package ingest

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// Bounds of what is remembered of tenants between batches. Beyond one, everything is read again.
const (
	maxRooms   = 2_000
	maxDevices = 20_000
)

// part is what is to be written for one tenant, and the events that it finishes, row by row.
type part struct {
	store.Part
	of     []*pending
	tries  int
	astray []*pending // that are not the tenant's, and must not be written for it
}

// apart is the part as one part a row.
func (p *part) apart() []*part {
	out := make([]*part, len(p.of))
	for i := range p.of {
		out[i] = &part{Part: store.Part{Scope: p.Scope, Seen: p.Seen, Rows: p.Rows[i : i+1]}, of: p.of[i : i+1]}
	}
	return out
}

// timely is the part without what is of a time that the store keeps nothing of, whatever its operator does: that is buried. The rest
// waits for the operator.
func (c *consumer) timely(ctx context.Context, p *part) *part {
	c.g.log.ErrorContext(ctx, "events wait: the database is not prepared for their time; run ringfence maintain", slog.String("tenant_id", p.Scope.Tenant().String()), slog.Int("events", len(p.of)))
	if c.g.durable.Span == nil {
		return p
	}
	span, err := c.g.durable.Span(ctx)
	if err != nil {
		return p
	}
	out := &part{Part: store.Part{Scope: p.Scope, Seen: p.Seen}, tries: p.tries}
	var not []*pending
	for i, of := range p.of {
		if u := p.Rows[i].Uplink; !span.holds(u.ID, u.ReceivedAt) {
			not = append(not, of)
			continue
		}
		out.Rows, out.of = append(out.Rows, p.Rows[i]), append(out.of, of)
	}
	c.refuse(ctx, not, "time_not_kept")
	return out
}

// quarters is what is remembered of a tenant: a room that batches share. It is used while the gate knows of no change; that
// nothing changed unknown to the gate is checked by the write.
type quarters struct {
	mu    sync.Mutex
	known enter.Known
	rev   uint64
	room
}

type rooms struct {
	mu      sync.Mutex
	known   map[kind]*quarters
	devices int // remembered in all
}

func (r *rooms) of(k kind) *quarters {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxRooms || r.devices >= maxDevices {
		clear(r.known)
		r.devices = 0
	}
	q := r.known[k]
	if q == nil {
		q = &quarters{}
		r.known[k] = q
	}
	return q
}

func (r *rooms) forget(t ident.Tenant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, kind{tenant: t})
	delete(r.known, kind{t, true})
}

func (r *rooms) more(devices int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.devices += devices
}

// decideTurn makes parts of events of one tenant, until somebody has had enough. Events that nothing can be made of are buried. It
// waits as long as the store is away; it answers nothing if it is told to stop.
func (c *consumer) decideTurn(ctx context.Context, t ident.Tenant, ps []*pending, p *patience) (out turn) {
	var made *part
	var rest []*pending
	err := c.insist(ctx, "a tenant's records cannot be read", func(ctx context.Context) (err error) {
		made, rest, err = c.decideFor(ctx, t, ps, p)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return turn{}
	case fault.Is(err, fault.NotFound):
		c.refuse(ctx, ps, "tenant_gone")
	case err != nil && len(ps) > 1: // one of them is to blame: each for itself
		for i := range ps {
			if i > 0 && p.over() {
				return turn{out.parts, append(out.rest, ps[i:]...)}
			}
			one := c.decideTurn(ctx, t, ps[i:i+1], p)
			out.parts, out.rest = append(out.parts, one.parts...), append(out.rest, one.rest...)
		}
	case err != nil:
		c.g.lost(ctx, t, "an event cannot be decided", err)
		c.refuse(ctx, ps, "cannot_be_decided")
	default:
		c.refuse(ctx, made.astray, "not_its_tenants")
		if out.rest = rest; len(made.of) > 0 {
			out.parts = []*part{made}
		}
	}
	return out
}

// decideFor decides the events of one tenant, by its records as they are now. What is left when somebody has had enough it answers as
// the rest; the first one is always decided.
func (c *consumer) decideFor(ctx context.Context, t ident.Tenant, ps []*pending, pace *patience) (made *part, rest []*pending, err error) {
	g := c.g
	pace.decodes(false)
	known, err := g.enter.Known(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	if known.Tenant().State == tenant.Deleted {
		return nil, nil, fault.Missing()
	}
	q := c.rooms.of(kind{t, ps[0].put})
	pace.decodes(true)
	q.mu.Lock()
	defer q.mu.Unlock()
	pace.decodes(false)
	made = &part{}
	if ps, made.astray, err = c.owned(ctx, known, ps); err != nil {
		return nil, nil, err
	}
	us := make([]uplink.Uplink, len(ps))
	for i, p := range ps {
		us[i] = p.event.Uplink(ident.Node{})
	}
	if err := c.furnish(ctx, q, t, known, us); err != nil {
		return nil, nil, err
	}
	q.out = g.goesOut(ctx, t, known.Tenant().KafkaOutput)
	made.Part, made.of = store.Part{Scope: q.scope, Rows: make([]store.Finished, 0, len(ps))}, ps
	seen := newSightings()
	pace.decodes(true)
	for i, p := range ps {
		if i > 0 && !p.put && us[i].State != uplink.Quarantined && pace.over() { // what needs no script takes no time
			made.of, rest = ps[:i:i], ps[i:]
			break
		}
		u := us[i]
		src := q.sources[u.Source]
		u.Node = src.Node
		if src.ID.IsZero() {
			u.Node = known.Tenant().Root
		}
		seen.note(&q.room, u)
		if rev := known.Source(u.Source).Rev; rev > 0 && rev < seen.sources[u.Source] {
			seen.sources[u.Source] = rev // whose an event is, and whether it was revoked, is decided by this one
		}
		if id, rev, ok := known.Key(p.event.Via); ok {
			seen.keys[id] = rev
		}
		began := g.enter.Now()
		row, err := c.row(ctx, q, p, u, pace)
		if err != nil {
			return nil, nil, err
		}
		g.spent("decode", trace.Internal, p, began, string(row.Uplink.State))
		made.Rows = append(made.Rows, row)
	}
	made.Seen = seen.seen(q.rev)
	return made, rest, nil
}

// owned parts the events that were the tenant's from those that a connection brought of an application that was not mapped to it
// when they were let in. Before any is called astray, all that is known is read again.
func (c *consumer) owned(ctx context.Context, known enter.Known, ps []*pending) (own, astray []*pending, err error) {
	own = make([]*pending, 0, len(ps))
	fresh, pasts := false, map[string]source.Tenure{}
	for _, p := range ps {
		e := p.event
		connection, mapped := strings.CutPrefix(e.Via, uplink.ViaMapping)
		its := !mapped
		for tries := 0; mapped && !its && tries < 2; tries++ {
			if tries > 0 && !fresh {
				if known, err = c.g.enter.Fresh(ctx, e.Tenant); err != nil {
					return nil, nil, err
				}
				fresh = true
			}
			var began time.Time
			if began, its, err = c.g.enter.Owned(ctx, known, e.Source, connection, e.Message.Application, e.ArrivedAt); err != nil {
				return nil, nil, err
			}
			if its {
				over, err := c.g.heldOver(ctx, began, e, connection, pasts)
				if err != nil {
					return nil, nil, err
				}
				if over {
					its = false
					break
				}
			}
		}
		if its {
			own = append(own, p)
		} else {
			astray = append(astray, p)
		}
	}
	return own, astray, nil
}

// heldLongest is for how long a broker may have kept a message: a clock that is further behind tells nothing.
const heldLongest = 90 * 24 * time.Hour

// since is when an event came at the latest: a broker may have kept it for long, and the network server tells when it had it.
func since(e uplink.Event) time.Time {
	if t := e.Message.NetworkTime; t.Before(e.ArrivedAt) && t.After(e.ArrivedAt.Add(-heldLongest)) {
		return t
	}
	return e.ArrivedAt
}

// heldOver reports whether an event that is whose its application was when it was let in came before that mapping began, and may be of who
// had the application then. Who that was is asked once for an application, and of what is so old alone.
func (g *Ingest) heldOver(ctx context.Context, began time.Time, e uplink.Event, connection string, pasts map[string]source.Tenure) (bool, error) {
	came := since(e)
	if !came.Before(e.ArrivedAt) || !began.After(came) {
		return false, nil
	}
	claim := source.Claim(connection, e.Message.Application)
	past, ok := pasts[claim]
	if !ok {
		var err error
		if past, err = g.enter.Tenure(ctx, connection, e.Message.Application); err != nil {
			return false, err
		}
		pasts[claim] = past
	}
	return !past.Alone(e.Tenant, came), nil
}

// row is what becomes of one event.
func (c *consumer) row(ctx context.Context, q *quarters, p *pending, u uplink.Uplink, pace *patience) (store.Finished, error) {
	switch {
	case u.State == uplink.Quarantined: // by whoever let it in
		return store.Finished{Uplink: u}, nil
	case q.known.Revoked(u.Source, p.event.Via, u.ArrivedAt):
		u.State, u.Reason = uplink.Quarantined, uplink.Revoked
		return store.Finished{Uplink: u}, nil
	case p.put, q.known.Tenant().State != tenant.Active: // what a suspended tenant sent before waits until it is resumed
		return store.Finished{Uplink: u}, nil
	}
	return c.g.decode(ctx, &q.room, u, pace)
}

// furnish reads what is not known of a tenant to decide these uplinks.
func (c *consumer) furnish(ctx context.Context, q *quarters, t ident.Tenant, known enter.Known, us []uplink.Uplink) error {
	if q.known != known || !known.Still() {
		q.room = room{
			scope: c.g.enter.System(t, "process", access.Origin{}), fuel: c.g.fuel(known.Limits()),
			sources: map[ident.Source]source.Source{}, devices: map[device.Address]*device.Device{}, decoders: map[ident.Decoder]decoder.Decoder{}, versions: map[ident.Version]decoder.Version{},
		}
		q.known, q.rev = enter.Known{}, 0
	}
	read := q.nodes // of what was read and not decided
	q.nodes = map[ident.Uplink]ident.Node{}
	fresh := q.known == known
	var missing []uplink.Uplink
	for _, u := range us {
		d, ok := q.devices[u.Address]
		node, was := read[u.ID]
		if _, from := q.sources[u.Source]; ok && from && was {
			q.nodes[u.ID] = node
		} else if !ok || !from || d != nil && u.RuledAt().Before(d.UpdatedAt) {
			missing = append(missing, u)
		} else if d != nil {
			q.nodes[u.ID] = d.Node
		}
	}
	if fresh && len(missing) == 0 {
		return nil
	}
	had := len(q.devices)
	err := c.g.store.View(ctx, q.scope, func(ctx context.Context, r store.Reader) error {
		if !fresh {
			nodes, err := r.Nodes().All(ctx)
			if err != nil {
				return err
			}
			q.tree = org.NewTree(nodes)
			if q.rev, err = r.Revision(ctx); err != nil {
				return err
			}
		}
		for _, u := range missing {
			if err := q.source(ctx, r, u.Source); err != nil {
				return err
			}
			if err := q.device(ctx, r, u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		q.known = enter.Known{} // what was read in part is read again
		return err
	}
	c.rooms.more(len(q.devices) - had)
	q.known = known
	return nil
}

// sightings are the revisions that rows are decided from.
type sightings struct {
	sources  map[ident.Source]uint64
	keys     map[ident.Key]uint64
	devices  map[ident.Device]uint64
	decoders map[ident.Decoder]uint64
	unknown  map[device.Address]bool
}

func newSightings() *sightings {
	return &sightings{sources: map[ident.Source]uint64{}, keys: map[ident.Key]uint64{}, devices: map[ident.Device]uint64{}, decoders: map[ident.Decoder]uint64{}, unknown: map[device.Address]bool{}}
}

func (s *sightings) note(rm *room, u uplink.Uplink) {
	if src := rm.sources[u.Source]; !src.ID.IsZero() {
		s.sources[src.ID] = src.Rev
	}
	d := rm.devices[u.Address]
	if d == nil {
		s.unknown[u.Address] = true
		return
	}
	s.devices[d.ID] = d.Rev
	if dec := rm.decoders[d.Decoder]; !dec.ID.IsZero() {
		s.decoders[dec.ID] = dec.Rev
	}
}

func (s *sightings) seen(rev uint64) store.Seen {
	out := store.Seen{Revision: rev, Sources: s.sources, Keys: s.keys, Devices: s.devices, Decoders: s.decoders}
	for a := range s.unknown {
		out.Unknown = append(out.Unknown, a)
	}
	slices.SortFunc(out.Unknown, func(a, b device.Address) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	return out
}

// spent tells what an event took of whoever finishes it, if its trace is kept.
func (g *Ingest) spent(on string, kind trace.Kind, p *pending, began time.Time, result string) {
	if d := g.durable; p.at.Kept && d.Tracer != nil {
		d.Tracer.Tell(trace.Span{Name: on, Kind: kind, Place: d.Tracer.Below(p.at), Parent: p.at, Began: began, Ended: g.enter.Now(), Tenant: p.event.Tenant, Event: p.event.ID, Result: result})
	}
}

// told logs what became of events, one line each with the event's id and trace, and counts it.
func (g *Ingest) told(ctx context.Context, p *part) {
	states := map[uplink.State]int64{}
	for i, row := range p.Rows {
		states[row.Uplink.State]++
		if row.Uplink.State == uplink.Quarantined || g.log.Enabled(ctx, slog.LevelDebug) {
			level := slog.LevelDebug
			if row.Uplink.State == uplink.Quarantined {
				level = slog.LevelInfo
			}
			g.log.LogAttrs(ctx, level, "event finished", slog.String("event_id", row.Uplink.ID.String()), slog.String("tenant_id", p.Scope.Tenant().String()),
				slog.String("state", string(row.Uplink.State)), slog.String("reason", string(row.Uplink.Reason)), slog.String("trace_id", p.of[i].at.ID()))
		}
	}
	for state, n := range states {
		g.counts.add(`ringfence_events_finished_total{state="`+string(state)+`"}`, n)
	}
}
