package tenant

// Limits are what one tenant may use (security.md §1.6). Rates are per second. A zero field means the server's setting.
type Limits struct {
	SourceRate, SourceBurst int // ingest, per source
	IngestRate, IngestBurst int // ingest, per tenant
	InFlight                int // ingest requests at the same time, per tenant
	Backlog                 int // accepted uplinks that wait to be processed
	FuelPerMinute           int64
	PrincipalRate           int // API, per principal
	PrincipalBurst          int
	TenantRate              int // API, per tenant
	Devices, Nodes, Members int // counts of things
	Groups, Roles           int
	Memberships             int
	Decoders, Versions      int // Versions are kept per decoder
	Sources, KeysPerSource  int
	TokensPerPerson         int
	Invitations             int
}

// DefaultLimits hold unless the server or a platform administrator says otherwise.
var DefaultLimits = Limits{
	SourceRate: 100, SourceBurst: 500, IngestRate: 1_000, IngestBurst: 5_000, InFlight: 8, Backlog: 50_000,
	FuelPerMinute: 600_000_000,
	PrincipalRate: 50, PrincipalBurst: 100, TenantRate: 500,
	Devices: 100_000, Nodes: 2_000, Members: 5_000, Groups: 500, Roles: 200, Memberships: 20_000,
	Decoders: 500, Versions: 50, Sources: 100, KeysPerSource: 2, TokensPerPerson: 5, Invitations: 200,
}
