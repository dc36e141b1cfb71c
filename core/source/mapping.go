package source

import (
	"crypto/sha256"
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

// Tenure says who had an application of a connection last, after its mapping ended: by it is known whose what came earlier may be. It
// is a record of the platform's, one an application. Mappings that follow one another to one tenant are one tenure.
type Tenure struct {
	ID     [32]byte // TenureID
	Rev    uint64
	Claim  string
	Tenant ident.Tenant
	From   time.Time // since when nobody else had the application
	Until  time.Time // when the last mapping ended
	Others bool      // somebody else had it before, or it is not known since when
}

// TenureID names the one of an application.
func TenureID(claim string) [32]byte { return sha256.Sum256([]byte(claim)) }

// After is the tenure when a mapping ended at a moment; it was the zero one if none ever had. A moment before the mapping began is of
// another clock than its beginning: it ended no earlier than that, and began nobody knows when.
func (t Tenure) After(m Mapping, at time.Time) Tenure {
	astray := at.Before(m.CreatedAt)
	if astray {
		at = m.CreatedAt
	}
	if t.Tenant != m.Tenant {
		t.Tenant, t.From, t.Others = m.Tenant, m.CreatedAt, astray || !t.Tenant.IsZero()
	}
	t.Claim, t.Until = m.Claim(), at
	t.ID = TenureID(t.Claim)
	return t
}

// Alone reports whether nobody but a tenant ever had the application, or not since a moment: it had it by then, and to the end of the
// tenure.
func (t Tenure) Alone(of ident.Tenant, since time.Time) bool {
	return t.Tenant.IsZero() || t.Tenant == of && (!t.Others || !since.Before(t.From))
}

// Nobodys reports whether it is known that nobody had the application at a moment before today's mapping.
func (t Tenure) Nobodys(at time.Time) bool {
	return at.After(t.Until) || at.Before(t.From) && !t.Others
}

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
