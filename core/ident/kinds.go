package ident

// The closed list of nouns that have ids. A new noun adds its kind, its alias and its row in the test's table.
type (
	tenantKind     struct{}
	nodeKind       struct{}
	principalKind  struct{}
	groupKind      struct{}
	roleKind       struct{}
	membershipKind struct{}
	deviceKind     struct{}
	decoderKind    struct{}
	versionKind    struct{}
	sourceKind     struct{}
	keyKind        struct{}
	tokenKind      struct{}
	sessionKind    struct{}
	linkKind       struct{}
	importKind     struct{}
	uplinkKind     struct{}
	readingKind    struct{}
	outcomeKind    struct{}
	entryKind      struct{}
	requestKind    struct{}
	mappingKind    struct{}
)

func (tenantKind) prefix() string     { return "ten" }
func (nodeKind) prefix() string       { return "nod" }
func (principalKind) prefix() string  { return "usr" }
func (groupKind) prefix() string      { return "grp" }
func (roleKind) prefix() string       { return "rol" }
func (membershipKind) prefix() string { return "mem" }
func (deviceKind) prefix() string     { return "dev" }
func (decoderKind) prefix() string    { return "dec" }
func (versionKind) prefix() string    { return "ver" }
func (sourceKind) prefix() string     { return "src" }
func (keyKind) prefix() string        { return "key" }
func (tokenKind) prefix() string      { return "tok" }
func (sessionKind) prefix() string    { return "ses" }
func (linkKind) prefix() string       { return "lnk" }
func (importKind) prefix() string     { return "imp" }
func (uplinkKind) prefix() string     { return "upl" }
func (readingKind) prefix() string    { return "rdg" }
func (outcomeKind) prefix() string    { return "out" }
func (entryKind) prefix() string      { return "aud" }
func (requestKind) prefix() string    { return "req" }
func (mappingKind) prefix() string    { return "map" }

type (
	// Tenant names a tenant.
	Tenant = ID[tenantKind]
	// Node names an org node.
	Node = ID[nodeKind]
	// Principal names a human, a service account or the system: whoever can act.
	Principal = ID[principalKind]
	// Group names a group of principals.
	Group = ID[groupKind]
	// Role names a role, built in or a tenant's own.
	Role = ID[roleKind]
	// Membership names one grant of a role at a node.
	Membership = ID[membershipKind]
	// Device names a device.
	Device = ID[deviceKind]
	// Decoder names a decoder; Version names one immutable version of it.
	Decoder = ID[decoderKind]
	Version = ID[versionKind]
	// Source names a configured way in for events.
	Source = ID[sourceKind]
	// Key names an ingestion key.
	Key = ID[keyKind]
	// Token names a personal access token, an access token or a refresh token.
	Token = ID[tokenKind]
	// Session names a signed-in session or a family of refresh tokens.
	Session = ID[sessionKind]
	// Link names a one-time link.
	Link = ID[linkKind]
	// Import names a bulk import.
	Import = ID[importKind]
	// Uplink names one accepted event; it runs through answer, outcome, reading and log.
	Uplink = ID[uplinkKind]
	// Reading names what a decoder made of an uplink.
	Reading = ID[readingKind]
	// Outcome names the record of one run of a decoder.
	Outcome = ID[outcomeKind]
	// Entry names an audit entry.
	Entry = ID[entryKind]
	// Request names one request to the API.
	Request = ID[requestKind]
	// Mapping names what says whose an application of a network server is.
	Mapping = ID[mappingKind]
)

// Platform is the operator's own tenant: its id is fixed and never served under /v1/tenants/.
var Platform = Tenant{0x01, 0x90, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x01}

// ParseTenant reads a tenant's id.
func ParseTenant(s string) (Tenant, error) { return Parse[tenantKind](s) }

// ParseSource reads a source's id.
func ParseSource(s string) (Source, error) { return Parse[sourceKind](s) }

// ParseUplink reads an event's id.
func ParseUplink(s string) (Uplink, error) { return Parse[uplinkKind](s) }
