package ingest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

const (
	batch        = 64               // uplinks of one tenant in one turn: fair between tenants, and one commit for all of them
	maxAttempts  = 3                // tries that ended as our own fault, before the uplink is left for replay
	strikes      = 3                // failures in a row that quarantine a version
	versionPause = 60 * time.Second // how long
	idle         = time.Second      // how often Process looks for uplinks whose waiting is over
)

// Run processes what waits until the context ends: one turn for every tenant that has work, the one that waits longest
// first, on as many workers as the engine has guests. At start it resumes whatever is still accepted.
func (g *Ingest) Run(ctx context.Context, workers int) error {
	tick := time.NewTicker(idle)
	defer tick.Stop()
	for {
		busy, err := g.turn(ctx, workers)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		if err != nil {
			g.lost(ctx, ident.Platform, "processing stopped for a moment", err)
		}
		if busy && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.wake:
		case <-tick.C:
		}
	}
}

// turn gives every waiting tenant one batch, and answers whether there was any work.
func (g *Ingest) turn(ctx context.Context, workers int) (bool, error) {
	waiting, err := g.store.Directory().Waiting(ctx, g.enter.Now(), 1024)
	if err != nil {
		return false, err
	}
	g.replaced(ctx)
	due := g.resumed()
	for _, w := range waiting {
		if !slices.Contains(due, w.Tenant) {
			due = append(due, w.Tenant)
		}
	}
	jobs := make(chan ident.Tenant)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	written := 0
	for range min(workers, len(due)) {
		wg.Go(func() {
			for t := range jobs {
				n := 0
				_, err := store.Turn(ctx, g.store, "process", t, func(ctx context.Context) (err error) {
					n, err = g.Process(ctx, t)
					return err
				})
				mu.Lock()
				written += n
				if err != nil && first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	for _, t := range due {
		jobs <- t
	}
	close(jobs)
	wg.Wait()
	return written > 0, first
}

// room is what one batch knows of its tenant, read in one snapshot.
type room struct {
	scope    access.Scope
	fuel     int64 // that the tenant may use here in a minute
	tree     org.Tree
	sources  map[ident.Source]source.Source
	devices  map[device.Address]*device.Device
	nodes    map[ident.Uplink]ident.Node // of the device when the uplink arrived, or was released; zero: none then
	decoders map[ident.Decoder]decoder.Decoder
	versions map[ident.Version]decoder.Version
	uplinks  []uplink.Uplink
	seen     store.Seen // what they are decided from
	wants    bool       // its decoded events on the bus
	out      bool       // and gets them
}

// Process decodes one batch of a tenant, and answers how many uplinks it finished or put off: with many of a paused version
// ahead, the next batch follows at once. That is no endless loop, for what is put off is due later than now; nor do those that
// come due again keep the healthy ones waiting, as long as all of a backlog is put off within versionPause (the default one in
// 20 s on a busy machine). Everything is checked again as it is now, the source, the device, the decoder, and whether it still is so
// in the write. Where something was changed meanwhile less is decided again; after some tries it is put off to the next turn, and so
// is what is being changed just then: others' turns do not wait for a change, nor does a connection.
func (g *Ingest) Process(ctx context.Context, t ident.Tenant) (int, error) {
	for some := batch; some > 0; some /= 8 {
		n, err := g.some(ctx, t, some)
		if errors.Is(err, store.ErrBusy) {
			return 0, nil
		}
		if !errors.Is(err, store.ErrStale) {
			return n, err
		}
		g.counts.add("ringfence_events_decided_again_total", 1)
	}
	return 0, nil
}

func (g *Ingest) some(ctx context.Context, t ident.Tenant, limit int) (int, error) {
	granted, err := g.enter.Limits(ctx, t)
	if err != nil {
		return 0, err
	}
	rm := room{scope: g.enter.System(t, "process", access.Origin{}), fuel: g.fuel(granted)}
	if err := g.hasten(ctx, rm.scope); err != nil {
		return 0, err
	}
	if err := g.store.View(ctx, rm.scope, func(ctx context.Context, r store.Reader) error { return rm.read(ctx, r, g.enter.Now(), limit) }); err != nil {
		return 0, err
	}
	rm.out = g.goesOut(ctx, t, rm.wants && len(rm.uplinks) > 0)
	finished := make([]store.Finished, 0, len(rm.uplinks))
	for _, u := range rm.uplinks {
		began := g.enter.Now()
		f, err := g.decode(ctx, &rm, u, new(patience))
		if err != nil {
			return 0, err
		}
		g.traces.step("decode", trace.Internal, t, u.ID, began, g.enter.Now(), string(f.Uplink.State))
		finished = append(finished, f)
	}
	if len(finished) == 0 {
		return 0, nil
	}
	written, done, began := 0, 0, g.enter.Now()
	err = g.store.Ingest(ctx, rm.scope, func(ctx context.Context, f store.Flow) error {
		written, done = 0, 0 // this may be run again
		if err := f.Recheck(ctx, rm.seen); err != nil {
			return err
		}
		for _, one := range finished {
			err := f.Finish(ctx, one)
			if errors.Is(err, store.ErrRevision) {
				continue // an administrator or another worker was first
			}
			if err != nil {
				return err
			}
			written++
			if one.Uplink.State != uplink.Accepted {
				done++ // it is no part of the backlog any more
			}
			if one.Uplink.State == uplink.Quarantined {
				if err := f.Fold(ctx, store.QuarantineFold(one.Uplink, one.Uplink.Reason), 1); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, one := range finished {
		u := &one.Uplink
		if g.traces.step("write", trace.Client, t, u.ID, began, g.enter.Now(), string(u.State)); u.State != uplink.Accepted {
			g.traces.end(u.ID)
		}
	}
	n, err := g.waiting(ctx, t)
	if err == nil {
		n.Add(-int64(done))
	}
	return written, err
}

func (rm *room) read(ctx context.Context, r store.Reader, now time.Time, limit int) error {
	*rm = room{
		scope: rm.scope, fuel: rm.fuel, sources: map[ident.Source]source.Source{}, devices: map[device.Address]*device.Device{}, nodes: map[ident.Uplink]ident.Node{},
		decoders: map[ident.Decoder]decoder.Decoder{}, versions: map[ident.Version]decoder.Version{},
	}
	own, err := r.Tenants().Get(ctx, rm.scope.Tenant())
	if err != nil {
		return err
	}
	if own.State != tenant.Active {
		return nil // what a suspended tenant sent before waits until it is resumed
	}
	rm.wants = own.KafkaOutput
	if rm.uplinks, err = r.Uplinks().Due(ctx, now, limit); err != nil || len(rm.uplinks) == 0 {
		return err
	}
	nodes, err := r.Nodes().All(ctx)
	if err != nil {
		return err
	}
	rm.tree = org.NewTree(nodes)
	seen := newSightings()
	for _, u := range rm.uplinks {
		if err := rm.source(ctx, r, u.Source); err != nil {
			return err
		}
		if err := rm.device(ctx, r, u); err != nil {
			return err
		}
		seen.note(rm, u)
	}
	rev, err := r.Revision(ctx)
	if err != nil {
		return err
	}
	head, err := r.Audit().Head(ctx)
	rm.seen = seen.seen(rev)
	rm.seen.Entries = head.Size
	return err
}

func (rm *room) source(ctx context.Context, r store.Reader, id ident.Source) error {
	if _, ok := rm.sources[id]; ok {
		return nil
	}
	s, err := r.Sources().Get(ctx, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	rm.sources[id] = s // zero: it is gone
	return nil
}

func (rm *room) device(ctx context.Context, r store.Reader, u uplink.Uplink) error {
	d, ok := rm.devices[u.Address]
	if !ok {
		found, err := r.Devices().ByAddress(ctx, u.Address)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil {
			d = &found
		}
		rm.devices[u.Address] = d
	}
	if d == nil {
		return nil
	}
	if rm.nodes[u.ID] = d.Node; u.RuledAt().Before(d.UpdatedAt) { // it may have stood elsewhere then: a new assignment is an update
		node, err := r.Devices().AssignedAt(ctx, d.ID, u.RuledAt())
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		rm.nodes[u.ID] = node
	}
	if _, ok := rm.decoders[d.Decoder]; ok || d.Decoder.IsZero() {
		return nil
	}
	dec, err := r.Decoders().Get(ctx, d.Decoder)
	if err != nil {
		return err
	}
	rm.decoders[dec.ID] = dec
	if dec.Active.IsZero() {
		return nil
	}
	v, err := r.Versions().Get(ctx, dec.Active)
	if err == nil {
		rm.versions[dec.Active] = v
	}
	return err
}

// refuses is the reason why an uplink goes to quarantine, or "".
func (rm *room) refuses(u uplink.Uplink) uplink.Reason {
	src, d := rm.sources[u.Source], rm.devices[u.Address]
	switch {
	case src.ID.IsZero():
		return uplink.OutsideSource
	case !u.ReleasedAt.IsZero() && src.Closed(u.ReleasedAt, 0):
		return uplink.SourceDisabled
	case len(src.Applications) > 0 && !slices.Contains(src.Applications, u.Application):
		return uplink.WrongApp
	case d == nil || rm.nodes[u.ID].IsZero():
		return uplink.UnknownDevice
	case d.State != device.Active:
		return uplink.DisabledDevice
	case len(src.Devices) > 0 && !slices.Contains(src.Devices, d.ID):
		return uplink.OutsideSource
	case !rm.tree.Under(rm.nodes[u.ID], src.Node):
		return uplink.OutsideSource
	}
	return ""
}

// decode decides what becomes of one uplink.
func (g *Ingest) decode(ctx context.Context, rm *room, u uplink.Uplink, pace *patience) (store.Finished, error) {
	now := g.enter.Now()
	u.UpdatedAt = now
	if reason := rm.refuses(u); reason != "" {
		u.State, u.Reason, u.Device = uplink.Quarantined, reason, ident.Device{}
		// It is seen by who reads the quarantine at the source's node. They learn which device it is if theirs is the device's node
		// too: of devices elsewhere, and behind barriers, not even that there is one.
		if d := rm.devices[u.Address]; d != nil && rm.tree.Inherits(rm.nodes[u.ID], rm.sources[u.Source].Node) {
			u.Device = d.ID
		}
		return store.Finished{Uplink: u}, nil
	}
	d := rm.devices[u.Address]
	u.Device, u.Node = d.ID, rm.nodes[u.ID]
	out := uplink.Outcome{Uplink: u.ID, Device: d.ID, Node: u.Node, Decoder: d.Decoder, Engine: g.engine.Version(), At: now}
	ident.Fresh(g.enter.Mint, &out.ID)
	v, ok := rm.versions[rm.decoders[d.Decoder].Active]
	if !ok {
		u.State, out.Category = uplink.Failed, decoder.NoDecoder
		return store.Finished{Uplink: u, Outcome: &out}, nil
	}
	out.Version, out.Hash = v.ID, v.Hash
	if until := g.pausedUntil(rm.scope.Tenant(), v.ID, rm.fuel, now); !until.IsZero() {
		u.NotBefore = until
		return store.Finished{Uplink: u}, nil
	}
	res, err := g.run(ctx, rm.scope.Tenant(), d, v, u, pace)
	if err != nil {
		if fault.Is(err, fault.Unavailable) || ctx.Err() != nil {
			return store.Finished{}, err
		}
		// Ours alone, and of this event alone: the others of its tenant must not suffer by it.
		g.log.ErrorContext(ctx, "an event cannot be decoded", slog.String("tenant_id", rm.scope.Tenant().String()), slog.String("event_id", u.ID.String()), slog.String("device_id", d.ID.String()), slog.String("cause", fault.Cause(err)))
		res = decoder.Result{Category: decoder.Internal, Message: "The decoder could not be run: a secret variable of the device cannot be opened, or the server is at fault. Its operator finds more in the log."}
	}
	out.Category, out.Fuel, out.Duration, out.Message = res.Category, res.Fuel, res.Duration, res.Message
	g.judged(rm.scope.Tenant(), u.ID, v, res, now)
	if res.Category == decoder.Internal {
		if u.Attempts++; u.Attempts < maxAttempts {
			u.NotBefore = now.Add(time.Second << u.Attempts)
			return store.Finished{Uplink: u, Outcome: &out}, nil
		}
	}
	if res.Category != decoder.Success {
		u.State = uplink.Failed
		return store.Finished{Uplink: u, Outcome: &out}, nil
	}
	u.State = uplink.Processed
	reading := uplink.Reading{
		Uplink: u.ID, Device: d.ID, Node: u.Node, Decoder: v.Decoder, Version: v.ID, At: u.ReceivedAt, FCnt: u.FCnt, HasFCnt: u.HasFCnt, Session: u.Session, Data: res.Data, Warnings: res.Warnings,
	}
	ident.Fresh(g.enter.Mint, &reading.ID)
	f := store.Finished{Uplink: u, Reading: &reading, Outcome: &out}
	if rm.out {
		f.Out, err = goingOut(rm.scope.Tenant(), reading)
	}
	return f, err
}

func (g *Ingest) run(ctx context.Context, t ident.Tenant, d *device.Device, v decoder.Version, u uplink.Uplink, pace *patience) (decoder.Result, error) {
	in, err := g.input(ctx, t, d, u)
	if err != nil {
		return decoder.Result{}, err
	}
	pace.decodes(false) // until there is a guest for it
	defer pace.decodes(true)
	return g.engine.Run(ctx, sandbox.Job{Began: func() { pace.decodes(true) }, Script: sandbox.Script{
		Tenant: t, Decoder: v.Decoder, Version: v.ID, Hash: v.Hash, Source: v.Source, Limits: decoder.DefaultLimits,
	}, Input: in})
}

func (g *Ingest) input(ctx context.Context, t ident.Tenant, d *device.Device, u uplink.Uplink) (decoder.Input, error) {
	in := decoder.Input{Bytes: u.Payload, FPort: u.FPort, RecvTime: u.ReceivedAt}
	for _, v := range d.Variables {
		value := secret.New(v.Value)
		if v.Secret {
			plain, err := g.enter.Sealer.Open(ctx, manage.VariablePlace(t, d.ID, v.Name), v.Sealed)
			if err != nil {
				return in, err
			}
			value = secret.New(string(plain))
		}
		in.Variables = append(in.Variables, decoder.Variable{Name: v.Name, Value: value, Secret: v.Secret})
	}
	return in, nil
}
