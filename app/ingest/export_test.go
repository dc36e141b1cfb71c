package ingest

import "context"

// Look is one of FollowBacklogs' looks at the store, when a test wants it.
func (g *Ingest) Look(ctx context.Context) { g.look(ctx) }

// Asking reports whether a tenant's topic is being asked for.
func (g *Ingest) Asking() bool {
	g.outs.mu.Lock()
	defer g.outs.mu.Unlock()
	return g.outs.asking
}
