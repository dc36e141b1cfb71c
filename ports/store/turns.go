package store

import (
	"context"

	"github.com/ringfence/ringfence/core/ident"
)

// Turns is filled by a store that several processes share, so that work which each of them could do for a tenant is done by one
// at a time. It spares work twice; it is no lock that correctness may rest on.
type Turns interface {
	// Turn runs do and answers true, unless another process has the turn for this job and tenant.
	//
	// It must:
	//   - give the turn to one caller at a time, over all processes;
	//   - take it from a process that is killed at once, and from one that stands still within a minute;
	//   - answer do's error as it is.
	Turn(ctx context.Context, job string, t ident.Tenant, do func(context.Context) error) (had bool, err error)
}

// Turn runs do in its turn; at once, if the store is one process's own.
func Turn(ctx context.Context, st Store, job string, t ident.Tenant, do func(context.Context) error) (bool, error) {
	if s, ok := st.(Turns); ok {
		return s.Turn(ctx, job, t, do)
	}
	return true, do(ctx)
}
