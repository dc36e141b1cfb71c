//go:build !linux && !darwin

package quickjssandbox

import "context"

func withMemory(ctx context.Context) context.Context { return ctx }
