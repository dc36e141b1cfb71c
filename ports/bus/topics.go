package bus

import "github.com/ringfence/ringfence/core/ident"

// Topics are the names of the topics that our processes share. No tenant reads them: they are everybody's.
type Topics struct {
	Uplinks  string // accepted events, in the form of core/uplink, by tenant and device
	Later    string // those that came faster than their tenant may send, by tenant, read when there is time
	Dead     string // what could not be used, with its reason in headers
	Expected string // what each topic is, kept by who made them
	out      string
}

// TopicsUnder returns the topics under a prefix, which is a part of no other deployment's on the same bus.
func TopicsUnder(prefix string) Topics {
	return Topics{Uplinks: prefix + ".uplinks", Later: prefix + ".uplinks.later", Dead: prefix + ".uplinks.dead", Expected: prefix + ".expected", out: prefix + ".out."}
}

// Out is the topic of one tenant's decoded events, so that its consumer can be given exactly its own.
func (t Topics) Out(of ident.Tenant) string { return t.out + of.String() }

// Names of the headers of our records.
const (
	EventHeader   = "rf-event-id"
	VersionHeader = "rf-version"
	TenantHeader  = "rf-tenant"
	TraceHeader   = "traceparent"
)
