package credential

import (
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
)

// Lifetimes (security.md §1.1).
const (
	SessionIdle     = 30 * time.Minute
	SessionIdleHigh = 15 * time.Minute // of people with a platform role
	SessionAbsolute = 12 * time.Hour
	AccessLife      = 10 * time.Minute
	RefreshIdle     = 7 * 24 * time.Hour
	RefreshAbsolute = 30 * 24 * time.Hour
	PersonalDefault = 30 * 24 * time.Hour
	PersonalMax     = 90 * 24 * time.Hour
	IngestionMax    = 730 * 24 * time.Hour
	OverlapMax      = 30 * 24 * time.Hour
	SetupLife       = time.Hour
	InviteLife      = 72 * time.Hour
	ResetLife       = 30 * time.Minute

	MaxSessions = 10 // a person; one more ends the oldest

	// How coarse last-used times are: a use within it of the last noted one writes nothing. A session's idle time is counted from
	// them; those of tokens and keys are for people to look at, and every minute they would make a write of each of many tenants' reads.
	TouchEvery = time.Minute
	NoteEvery  = 10 * time.Minute
)

// Stored is what every kept credential has: its public handle, and what proves it without being it.
type Stored struct {
	Accessor  string
	Verifier  [32]byte
	KID       string // the pepper's
	ExpiresAt time.Time
	RevokedAt time.Time // zero: in force
	LastUsed  time.Time // zero: never
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Live reports whether the credential is in force at a moment.
func (s Stored) Live(now time.Time) bool {
	return s.RevokedAt.IsZero() && now.Before(s.ExpiresAt) && !s.CreatedAt.After(now.Add(time.Minute))
}

// Session is a person's sign-in: a browser session by its own token, or the family of access and refresh tokens that one
// sign-in gave. Ending it ends all of them.
type Session struct {
	ID        ident.Session
	Rev       uint64
	Principal ident.Principal
	Browser   bool
	AMR       string
	Idle      time.Duration
	Stored
}

// Live also ends a session that was not used for its idle time.
func (s Session) Live(now time.Time) bool {
	return s.Stored.Live(now) && now.Before(later(s.LastUsed, s.CreatedAt).Add(s.Idle))
}

// Bearer is an access or a refresh token of a session.
type Bearer struct {
	ID        ident.Token
	Rev       uint64
	Kind      Kind // KindAccess or KindRefresh
	Session   ident.Session
	Principal ident.Principal
	SpentAt   time.Time // a refresh token is good for one use; a second one is theft
	Stored
}

// PAT is a personal access token: one tenant's record, narrowed to a list of permissions and never wider than what its
// owner may do when it is used.
type PAT struct {
	ID          ident.Token
	Rev         uint64
	Name        string
	Principal   ident.Principal
	Permissions access.Set
	Stored
}

// IngestionKey is a source's credential: it may submit uplinks and nothing else.
type IngestionKey struct {
	ID     ident.Key
	Rev    uint64
	Name   string
	Source ident.Source
	Stored
}

// Link is a one-time link of the platform: setup or reset. (An invitation is the tenant's: principal.Invitation.)
type Link struct {
	ID        ident.Link
	Rev       uint64
	Kind      Kind
	Principal ident.Principal // whose password a reset link sets; zero for setup
	By        access.Subject  // who made it, by what their token let them do; zero: the host's own command line
	Only      ident.Tenant    // the tenant whose administrator made it; zero: the platform's, or the host
	UsedAt    time.Time
	Stored
}

// Live also ends a link that was used.
func (l Link) Live(now time.Time) bool { return l.Stored.Live(now) && l.UsedAt.IsZero() }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
