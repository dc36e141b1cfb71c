package uplink

import (
	"encoding/json"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
)

// State is how far an uplink has come.
type State string

// The states.
const (
	Accepted    State = "accepted"    // durable, to be processed
	Processed   State = "processed"   // decoded, or kept without a decoder; see its outcome
	Failed      State = "failed"      // its decode failed; kept for replay
	Quarantined State = "quarantined" // refused with a reason; waits for release or discard
	Discarded   State = "discarded"   // given up by an administrator
)

// Reason says why an uplink is in quarantine: stable words.
type Reason string

// The reasons.
const (
	UnknownDevice  Reason = "unknown_device"     // no device of the tenant has the address
	DisabledDevice Reason = "device_disabled"    // known, but switched off
	OutsideSource  Reason = "outside_source"     // the device is not at or below the source's node, or not on its list
	WrongApp       Reason = "wrong_application"  // the application id is not on the source's list
	DedupeConflict Reason = "duplicate_mismatch" // the key of an earlier uplink with another payload
	TopicMismatch  Reason = "topic_mismatch"     // the topic that it came by names another application or device than the message
	WrongFormat    Reason = "wrong_format"       // the connection reads another format than the source's
	SourceDisabled Reason = "source_disabled"    // brought by a connection, or released, while its source was disabled
	TenantStopped  Reason = "tenant_suspended"   // brought by a connection while its tenant was suspended
	Revoked        Reason = "revoked"            // let in after its key or source was revoked, by a process that did not know yet
)

// Uplink is one raw message of a device as it was accepted. Its id is the event id that runs through everything.
type Uplink struct {
	ID          ident.Uplink
	Rev         uint64
	Source      ident.Source
	Device      ident.Device // zero until processed, and where none was registered
	Node        ident.Node   // its ruler: the device's node at RuledAt, or the source's node
	State       State
	Reason      Reason
	Address     device.Address
	Application string
	Session     string
	FPort       int
	FCnt        uint64
	HasFCnt     bool
	Payload     []byte
	DedupeKey   [32]byte // zero: nothing is a duplicate of it
	PayloadHash [32]byte
	ArrivedAt   time.Time // our clock
	NetworkTime time.Time // as the network server said; zero: it did not
	ReceivedAt  time.Time // the one of the two that counts
	Attempts    int       // tries that ended as category internal
	NotBefore   time.Time // waits until then, behind a quarantined decoder version or an exhausted budget
	ReleasedAt  time.Time // when an administrator last let it out of quarantine; zero: never
	UpdatedAt   time.Time
}

// RuledAt is the moment whose assignment decides who rules an uplink: its arrival, or its release, since whoever releases it
// lets it in as things are then. A device that was registered in between is known then, and one that was moved has moved.
func (u Uplink) RuledAt() time.Time {
	if u.ReleasedAt.IsZero() {
		return u.ArrivedAt
	}
	return u.ReleasedAt
}

// Reading is what a decoder made of an uplink. Readings of a device are ordered by (At, ID).
type Reading struct {
	ID       ident.Reading
	Uplink   ident.Uplink
	Device   ident.Device
	Node     ident.Node
	Decoder  ident.Decoder
	Version  ident.Version
	At       time.Time // the uplink's ReceivedAt
	FCnt     uint64
	HasFCnt  bool
	Session  string
	Data     json.RawMessage
	Warnings []string
}

// Outcome is the record of one run of a decoder, or of the lack of one.
type Outcome struct {
	ID       ident.Outcome
	Uplink   ident.Uplink
	Device   ident.Device
	Node     ident.Node
	Decoder  ident.Decoder
	Version  ident.Version
	Hash     [32]byte
	Engine   string
	Category decoder.Category
	Fuel     int64
	Duration time.Duration
	Message  string
	At       time.Time // when it ran, by our clock
}
