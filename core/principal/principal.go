// Package principal holds who can act: people, who belong to the platform, and their memberships of a tenant, which is all
// that a tenant sees of them. What they may do is core/access; how they prove who they are is core/credential.
package principal

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// Person is a human principal: a record of the platform. Its e-mail address is its sign-in name, unique on the platform,
// and while no mail is sent it is an unproven label that decides nothing.
type Person struct {
	ID            ident.Principal
	Rev           uint64
	Email         string // normalised by NormalizeEmail
	Name          string // display name
	Password      []byte // PHC string sealed with the envelope key (AAD = principal id); empty: none set
	PasswordSetAt time.Time
	VoidBefore    time.Time      // tokens made before are void: set by a reset
	Tenants       []ident.Tenant // every tenant where it is a member, deleted ones too
	DisabledAt    time.Time
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// Disabled reports whether the person may not sign in and none of their credentials work.
func (p Person) Disabled() bool { return !p.DisabledAt.IsZero() }

// MemberKind says what a tenant's member is.
type MemberKind string

// The kinds of members.
const (
	Human   MemberKind = "human"
	Service MemberKind = "service" // a service account, such as a source's
)

// Member is what a tenant knows of a principal: removing it removes the principal's memberships and tokens of the tenant.
type Member struct {
	ID        ident.Principal
	Rev       uint64
	Kind      MemberKind
	Name      string       // display name, personal
	Email     string       // invited address, personal; empty for service accounts
	Source    ident.Source // the source whose account it is; zero for people
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Invitation is an open offer of a membership, accepted by its one-time link. It is the tenant's record.
type Invitation struct {
	ID         ident.Link
	Rev        uint64
	Accessor   string
	Verifier   [32]byte
	KID        string // which pepper the verifier was made with
	Email      string // personal
	Role       ident.Role
	Node       ident.Node
	Recursive  bool
	Inviter    ident.Principal // whose right to grant is checked again when it is accepted
	ByPlatform bool            // the first owner's, made by the platform
	ExpiresAt  time.Time
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// Failure counts sign-in failures in a row of one name. It is keyed by the person's id, or for unknown names by a digest of
// the normalised name, so that no variant of a name starts a new count.
type Failure struct {
	Key   string
	Count int
	Last  time.Time
}

// NormalizeEmail is the one form in which an address is kept and compared: trimmed and in lower case.
func NormalizeEmail(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || domain == "" || len(s) > 254 || !utf8.ValidString(s) || strings.ContainsAny(s, " \t\r\n\x00<>\"(),:;[]\\") || strings.Contains(domain, "@") {
		return "", fault.New(fault.Invalid, "bad_email", "Give an e-mail address of at most 254 characters, such as ana@example.com.").WithField("/email", "not an e-mail address")
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return "", fault.New(fault.Invalid, "bad_email", "Give an e-mail address without control characters.").WithField("/email", "control character")
		}
	}
	return s, nil
}
