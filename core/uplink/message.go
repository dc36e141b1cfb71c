// Package uplink holds what devices said and what became of it: messages as network servers hand them over, uplinks,
// readings and outcomes. It also reads network servers' formats, since more than one adapter takes them in and none imports
// another; how a message arrives is the adapter's.
package uplink

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
)

// Message is an uplink as some network server told it, in our words.
type Message struct {
	DedupeID    string // the network server's deduplication id, or a plain sender's id
	Address     device.Address
	Application string
	Session     string // DevAddr or session key id
	FPort       int
	FCnt        uint64
	HasFCnt     bool
	Payload     []byte
	NetworkTime time.Time // zero: not told
}

// Bounds of a message, its texts and its payload, in bytes.
const (
	MaxBody    = 256 << 10
	MaxPayload = 4 << 10
	MaxText    = 128
)

// DedupeKey is equal for two messages that are the same event told twice by one source, and zero for one that is a duplicate
// of nothing. A network server's own id decides; without one it is the frame: address, session, port, counter and payload.
// The source is part of it: whether a source may speak for the device is known later, and one that may not must not have
// said what another's event is a duplicate of. A source has one format for life, so two formats' ids do not meet either.
func (m Message) DedupeKey(from ident.Source) [32]byte {
	h := sha256.New()
	h.Write(from[:])
	put := func(s string) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s))) //nolint:gosec // bounded by MaxText and MaxPayload
		h.Write(n[:])
		h.Write([]byte(s))
	}
	switch {
	case m.DedupeID != "":
		put("id")
		put(m.DedupeID)
		put(string(m.Address.Kind))
		put(m.Address.Value)
	case m.HasFCnt:
		put("frame")
		put(string(m.Address.Kind))
		put(m.Address.Value)
		put(m.Session)
		var n [16]byte
		binary.BigEndian.PutUint64(n[:], uint64(m.FPort)) //nolint:gosec // 0 to 255
		binary.BigEndian.PutUint64(n[8:], m.FCnt)
		h.Write(n[:])
		payload := m.PayloadHash()
		h.Write(payload[:])
	default:
		return [32]byte{}
	}
	return [32]byte(h.Sum(nil))
}

// PayloadHash tells whether two messages of one key really say the same.
func (m Message) PayloadHash() [32]byte { return sha256.Sum256(m.Payload) }

// How far a network server's clock may be from ours and still be believed.
const (
	MaxPast   = 24 * time.Hour
	MaxFuture = 5 * time.Minute
)

// ReceivedAt is the time that counts: the network server's if it is plausible, else the arrival by our clock.
func (m Message) ReceivedAt(arrived time.Time) time.Time {
	t := m.NetworkTime
	if t.IsZero() || t.Before(arrived.Add(-MaxPast)) || t.After(arrived.Add(MaxFuture)) {
		return arrived
	}
	return t.UTC().Truncate(time.Microsecond)
}
