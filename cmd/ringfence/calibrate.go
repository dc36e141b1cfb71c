package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/core/secret"
)

type calibrateCmd struct {
	machine
	For time.Duration `help:"How long one sign-in may compute; 50ms to 150ms is usual." default:"100ms"`
}

// mostPasses is what the setting password_time takes.
const mostPasses = 16

// Run measures what a password's hash costs on this machine and says which settings take about as long as is wanted. It
// changes nothing.
func (k calibrateCmd) Run(ctx context.Context, env environment) error {
	if k.For <= 0 {
		return fmt.Errorf("%w: want a time, such as --for 100ms", errConfig)
	}
	cost, took, err := calibrated(k.For, func(c localauth.Cost) (time.Duration, error) { return hashing(ctx, c) })
	if err != nil {
		return err
	}
	ms := took.Round(time.Millisecond).Milliseconds()
	if took > 2*k.For {
		fmt.Fprintln(env.stderr, "ringfence: nothing that is safe is that quick here; these are the cheapest settings that the server takes")
	}
	return k.say(env, fmt.Sprintf("# %d ms for one sign-in on this machine, with nothing else going on\npassword_memory_kib: %d\npassword_time: %d\n", ms, cost.Memory, cost.Time),
		map[string]any{"milliseconds": ms, "password_memory_kib": cost.Memory, "password_time": cost.Time})
}

// calibrated is the dearest cost that takes no longer than is wanted: the default's memory, in as many passes as fit. It is
// never below the floor, however slow the machine.
func calibrated(want time.Duration, measure func(localauth.Cost) (time.Duration, error)) (localauth.Cost, time.Duration, error) {
	cost := localauth.DefaultCost
	took, err := measure(cost)
	switch {
	case err != nil:
		return cost, 0, err
	case took > want:
		cost = localauth.FloorCost
	case want/took > 1:
		cost.Time = uint32(min(want/took, mostPasses)) //nolint:gosec // small
	default:
		return cost, took, nil
	}
	took, err = measure(cost)
	return cost, took, err
}

// hashing is the shortest of a few hashes: what else goes on makes them longer, and nothing makes them shorter.
func hashing(ctx context.Context, c localauth.Cost) (time.Duration, error) {
	p, err := localauth.New(localauth.Options{Cost: c, Parallel: 1})
	if err != nil {
		return 0, err
	}
	best := time.Duration(0)
	for range 5 {
		begun := time.Now()
		if _, err := p.Hash(ctx, secret.New("as long as a password is")); err != nil {
			return 0, err
		}
		if took := time.Since(begun); best == 0 || took < best {
			best = took
		}
	}
	return max(best, 1), nil
}
