package decoder

import (
	"encoding/json"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
)

// Bounds of what a script is given and may give back.
const (
	MaxScript  = 64 << 10  // bytes of source text
	MaxOutput  = 256 << 10 // bytes of the JSON of data, warnings and errors
	MaxDepth   = 32        // nesting of the output
	MaxPayload = 4 << 10   // bytes of a device's payload
	MaxMessage = 512       // bytes of an outcome's message
	MinYear    = 1970      // of a receive time, which is what a script's clock says:
	MaxYear    = 2261      // nanoseconds since then, in 63 bits
)

// Category says how a run ended.
type Category string

// The categories. All but Duplicate, Internal and NoDecoder are verdicts on the script.
const (
	Success   Category = "success"
	Fuel      Category = "fuel"       // used up its fuel
	Memory    Category = "memory"     // wanted more than its memory
	Stack     Category = "stack"      // recursed too deep
	Exception Category = "exception"  // threw, or its validate stage objected
	BadOutput Category = "bad-output" // gave something that is no output: not JSON, too large, too deep
	Load      Category = "load"       // does not load: syntax, or no entry point
	NoDecoder Category = "no-decoder" // the device names none; the uplink is kept
	Duplicate Category = "duplicate"  // of an earlier event, which the outcome names; nothing else is kept
	Internal  Category = "internal"   // ours: no verdict, retried, then left for replay
)

// Limits of one run. The tenant's limit is fuel; memory is per instance.
type Limits struct {
	RunFuel  int64 // default 1,000,000
	LoadFuel int64 // default 5,000,000
}

// DefaultLimits are the limits that hold unless a platform administrator sets others.
var DefaultLimits = Limits{RunFuel: 1_000_000, LoadFuel: 5_000_000}

// Input is what a script sees of an uplink (TS013-1.0.0 decodeUplink input).
type Input struct {
	Bytes     []byte
	FPort     int
	RecvTime  time.Time
	Variables []Variable
}

// Check answers what is out of its bounds.
func (in Input) Check() error {
	if len(in.Bytes) > MaxPayload {
		return fault.New(fault.Invalid, "payload_too_large", "A device's payload may have %d bytes.", MaxPayload)
	}
	if y := in.RecvTime.UTC().Year(); y < MinYear || y > MaxYear {
		return fault.New(fault.Invalid, "bad_time", "A receive time is of the years %d to %d.", MinYear, MaxYear).WithField("/recv_time", "out of range")
	}
	return nil
}

// Variable is a device's variable. Secret ones are given to the script but masked wherever text comes out of it.
type Variable struct {
	Name   string
	Value  secret.Text
	Secret bool
}

// Result is what one run gave: the reading's content or the reason there is none.
type Result struct {
	Category Category
	Data     json.RawMessage // canonical bytes of the object; nil unless Success
	Warnings []string
	Errors   []string      // the script's own errors; a non-empty list is the category exception
	Fuel     int64         // fuel used, deterministic
	LoadFuel int64         // fuel that loading the script took before this run; 0 if it was loaded already, also if it had to make room for other tenants' since, so not deterministic
	Duration time.Duration // wall clock, not deterministic
	Message  string        // at most MaxMessage bytes, secrets masked; empty on success
}
