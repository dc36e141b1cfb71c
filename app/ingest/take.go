package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/ports/store"
)

// Delivery is one message at a door, whatever brought it.
type Delivery struct {
	Format   source.Format          // that the door says the message is in; empty: it is in the source's
	Event    string                 // kind of event, if the door says it beside the message, as ChirpStack does
	Body     func() ([]byte, error) // reads it, once it is admitted; its errors are the sender's answers
	Patience time.Duration          // how long what is over a rate waits for room before it is refused
}

// Receipt is what became of a delivery.
type Receipt struct {
	store.Verdict
	Ignored bool // well-formed, and no uplink: it was not kept

	Rate   limit.Verdict // of the rate that decided; none if it was not a rate
	Policy string        // whose that rate is: source, or tenant
}

// Take is all that a message goes through, whichever door it came by: admitted by rate and backlog before it is read, a place
// among the tenant's, parsed by the source's format, made durable. When it answers nil, the event outlives a power cut or is
// none, and may be acknowledged. Refusals of kinds Exhausted and Unavailable are worth sending again; no others are.
func (g *Ingest) Take(ctx context.Context, id enter.Identity, o access.Origin, d Delivery) (Receipt, error) {
	scope, src, granted, err := g.enter.Source(ctx, id, o)
	if err != nil {
		return Receipt{}, err
	}
	if d.Format != "" && d.Format != src.Format {
		return Receipt{}, fault.New(fault.Denied, "wrong_format", "This source's events are taken in at /v1/ingest/%s.", src.Format)
	}
	until := time.NewTimer(d.Patience)
	defer until.Stop()
	out := Receipt{Policy: "source"}
	for {
		out.Rate, err = g.Admit(ctx, scope, src, granted)
		if !waits(ctx, d, until, err) {
			break
		}
	}
	if f := fault.As(err); f != nil && f.Code == "limited_tenant_rate" {
		out.Policy = "tenant"
	}
	if err != nil {
		return out, err
	}
	body, err := d.Body()
	if err != nil {
		return out, err
	}
	leave, err := g.begin(ctx, scope, granted, d, until)
	if err != nil {
		return Receipt{}, err // the source's rate has room: it is not what refused
	}
	defer leave()
	m, err := uplink.Parse(string(src.Format), body, d.Event)
	if errors.Is(err, uplink.ErrIgnored) {
		out.Ignored = true
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Verdict, err = g.Accept(ctx, scope, src, m)
	return out, err
}

// begin is Begin, with the delivery's patience.
func (g *Ingest) begin(ctx context.Context, s access.Scope, granted tenant.Limits, d Delivery, until *time.Timer) (leave func(), err error) {
	for {
		leave, err = g.Begin(s, granted)
		if f := fault.As(err); f != nil {
			err = f.WithRetry(placeEvery)
		}
		if !waits(ctx, d, until, err) {
			break
		}
	}
	if f := fault.As(err); f != nil {
		err = f.WithRetry(time.Second)
	}
	return leave, err
}

// placeEvery is how soon a patient delivery looks for a place again: one is given back within milliseconds.
const placeEvery = 20 * time.Millisecond

// waits lets time pass until there may be room, if the delivery has patience left. It answers whether to try again.
func waits(ctx context.Context, d Delivery, until *time.Timer, err error) bool {
	f := fault.As(err)
	if f == nil || f.Kind != fault.Exhausted || d.Patience <= 0 {
		return false
	}
	room := time.NewTimer(f.RetryAfter)
	defer room.Stop()
	select {
	case <-room.C:
		return true
	case <-until.C:
	case <-ctx.Done():
	}
	until.Reset(0) // it fires once: whoever asks next is told too
	return false
}
