package ingest

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// trials is the engine behind the tenants' fuel, for what people try.
type trials struct {
	sandbox.Engine

	g      *Ingest
	atOnce int
}

// Trials is the engine for scripts that are tried: dry runs, and whether a new text loads. A neighbour's uplinks come first:
// a tenant tries one script at a time, from the same fuel that its uplinks are decoded with, and all tenants together no more
// than atOnce, which leaves a guest to the uplinks if it is less than the engine has.
func (g *Ingest) Trials(atOnce int) sandbox.Engine { return trials{g.engine, g, max(atOnce, 1)} }

// Check loads a script if it may.
func (t trials) Check(ctx context.Context, s sandbox.Script) (decoder.Result, error) {
	return t.try(ctx, s.Tenant, func() (decoder.Result, error) { return t.Engine.Check(ctx, s) })
}

// Run runs a script if it may.
func (t trials) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	return t.try(ctx, j.Script.Tenant, func() (decoder.Result, error) { return t.Engine.Run(ctx, j) })
}

func (t trials) try(ctx context.Context, of ident.Tenant, run func() (decoder.Result, error)) (decoder.Result, error) {
	granted, err := t.g.enter.Limits(ctx, of)
	if err != nil {
		return decoder.Result{}, err
	}
	leave, ok := t.g.limiter.Enter("trial "+of.String(), 1)
	if !ok {
		return decoder.Result{}, busy("trials", "The tenant tries a script already. Wait until it has run.", time.Second)
	}
	defer leave()
	leaveAll, ok := t.g.limiter.Enter("trials", t.atOnce)
	if !ok {
		return decoder.Result{}, busy("trials", "As many scripts are tried as may be at the same time. Wait a moment.", time.Second)
	}
	defer leaveAll()
	now := t.g.enter.Now()
	t.g.failMu.Lock()
	until := t.g.spentUntil(of, t.g.fuel(granted), now)
	t.g.failMu.Unlock()
	if !until.IsZero() {
		return decoder.Result{}, busy("fuel", "The tenant's decoders have used all the fuel of this minute. Wait for the next.", until.Sub(now))
	}
	r, err := run()
	t.g.failMu.Lock()
	t.g.charge(of, r, now)
	t.g.failMu.Unlock()
	return r, err
}
