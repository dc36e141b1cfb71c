package source

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
)

// MaxMappings is how many mappings a platform has at most: whoever lets messages in may remember all of them.
const MaxMappings = 100_000

// MaxConnection bounds the name of a connection, in bytes.
const MaxConnection = 64

// Mapping says whose the messages of one application are that one of the operator's connections brings: a network server
// serves many tenants, and no message may say itself which of them it is of. It is a record of the platform's. A connection
// and an application have one mapping at most; a source may have several. What it maps to is never changed in place.
type Mapping struct {
	ID          ident.Mapping
	Rev         uint64
	Connection  string // as the configuration of those who hold it names it
	Application string // as the network server names it
	Tenant      ident.Tenant
	Source      ident.Source
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Claim is what is unique about a mapping: neither half holds a slash.
func (m Mapping) Claim() string { return Claim(m.Connection, m.Application) }

// Claim names an application of a connection.
func Claim(connection, application string) string { return connection + "/" + application }

// Check refuses a mapping of what cannot be.
func (m Mapping) Check() error {
	if err := CheckConnection(m.Connection); err != nil {
		return err
	}
	return CheckApplication(m.Application)
}

// CheckConnection refuses what is no name of a connection.
func CheckConnection(name string) error {
	if name == "" || len(name) > MaxConnection || name[0] == '-' || name[len(name)-1] == '-' || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}) {
		return fault.New(fault.Invalid, "bad_connection", "A connection's name has 1 to %d lower-case letters, digits and hyphens, the hyphens within.", MaxConnection).WithField("/connection", "not such a name")
	}
	return nil
}

// CheckApplication refuses what is no application id that a topic could name.
func CheckApplication(id string) error {
	if id == "" || len(id) > uplink.MaxText || !utf8.ValidString(id) || strings.ContainsAny(id, "/+#") || strings.ContainsFunc(id, unicode.IsControl) {
		return fault.New(fault.Invalid, "bad_application", "An application id has 1 to %d bytes of text, without control characters and without / + #.", uplink.MaxText).WithField("/application_id", "not such an id")
	}
	return nil
}
