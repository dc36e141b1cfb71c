package ingest

import "context"

// Look is one of FollowBacklogs' looks at the store, when a test wants it.
func (g *Ingest) Look(ctx context.Context) { g.look(ctx) }
