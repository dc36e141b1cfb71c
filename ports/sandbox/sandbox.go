// Package sandbox says what Ringfence wants of an engine that runs tenants' decoder scripts. Scripts are hostile until
// proved otherwise: an engine that fills this port is proved by testkit/sandboxtest.
package sandbox

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
)

// Engine runs decoder scripts.
//
// An engine must:
//   - stop every script within its fuel plus one quantum, and within twice the outer guard of wall-clock time;
//   - count fuel deterministically: the same script, input and engine version cost the same number on every run and machine;
//   - bound the script's memory exactly, off the Go heap;
//   - let nothing survive a call: neither into the tenant's next call, nor into another tenant's;
//   - give the script no file, network, environment, real clock or randomness: Date.now() is the input's RecvTime,
//     and 0 while the script loads, whichever uplink comes first and whenever the version was made;
//   - give the same output bytes for the same script, input and engine version;
//   - answer a failing script with an Outcome, never with an error: errors are the engine's own faults,
//     or the caller's: an input that decoder.Input.Check refuses is refused with its fault, of kind Invalid;
//   - say memory only of a script that used its memory up, whatever a script throws, and give every failure a message;
//   - hide secret variables in whatever comes out, overlapping ones too; in a failure's message, which may be the engine's own
//     and name a secret in part, also every five characters in a row of one;
//   - give out, secrets hidden, only what core/strictjson reads: data that it would refuse is decoder.BadOutput;
//   - call a Job's Began, if there is one, once, when it has room for the call and before it does anything of it;
//   - be safe for concurrent use.
type Engine interface {
	// Check loads a script without running it on an input, so that one that does not load is refused when it is saved.
	// The answer's category is decoder.Success, or says why the script does not load.
	Check(ctx context.Context, script Script) (decoder.Result, error)

	// Run loads the script, if it is not cached under its key, and runs it on one input.
	Run(ctx context.Context, job Job) (decoder.Result, error)

	// Version identifies the engine, its prelude and its fixed limits; it is recorded with every outcome.
	Version() string

	// Close releases what the engine holds. Calls after Close answer a fault of kind Unavailable.
	Close(ctx context.Context) error
}

// Script is one immutable version of a tenant's decoder. Tenant, Decoder, Version and Hash together with the engine's
// version are the cache key: two tenants never share an image, even of the same text.
type Script struct {
	Tenant  ident.Tenant
	Decoder ident.Decoder
	Version ident.Version
	Hash    [32]byte // SHA-256 of Source
	Source  string   // at most decoder.MaxScript bytes
	Limits  decoder.Limits
}

// Job is one call of a script.
type Job struct {
	Script Script
	Input  decoder.Input
	Began  func() // tells who measures what scripts take that it does not wait for others' any more; nil: nobody
}

// Guard is the outer wall-clock bound of one call. It is not the tenant's limit (fuel is): a call that it stops has the
// category internal, which is no verdict on the script.
type Guard struct {
	Run  time.Duration
	Load time.Duration
}
