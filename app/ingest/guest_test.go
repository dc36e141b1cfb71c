package ingest

import (
	"context"
	"testing"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// waited is an engine that looks at a clock while it waits and while it runs.
type waited struct {
	sandbox.Engine

	pace           *patience
	waits, decodes bool
}

func (e *waited) Run(_ context.Context, j sandbox.Job) (decoder.Result, error) {
	_, decodes := e.pace.spent()
	e.waits = !decodes
	j.Began()
	_, e.decodes = e.pace.spent()
	return decoder.Result{}, nil
}

func TestWhoWaitsForAGuestIsNotSlow(t *testing.T) {
	e := &waited{pace: new(patience)}
	e.pace.decodes(true)
	if _, err := (&Ingest{engine: e}).run(t.Context(), ident.Tenant{1}, &device.Device{}, decoder.Version{}, uplink.Uplink{}, e.pace); err != nil {
		t.Fatal(err)
	}
	if _, decodes := e.pace.spent(); !decodes || !e.waits || !e.decodes {
		t.Errorf("it is counted afterwards: %t; while it waits it is not: %t; while it runs it is: %t", decodes, e.waits, e.decodes)
	}
}
