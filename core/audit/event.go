// Package audit holds the log that proves itself: what an event is, how it becomes an entry, one RFC 6962 tree a tenant,
// signed C2SP checkpoints, proofs, bundles and the verifier that needs none of our servers. It keeps nothing and signs
// nothing by itself: stores append, app signs.
package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/ringfence/ringfence/core/ident"
)

// Outcome says how what an entry tells of ended.
type Outcome string

// The outcomes.
const (
	OK     Outcome = "success"
	Fail   Outcome = "failure"
	Denied Outcome = "denied"
)

// Target is what was acted on.
type Target struct {
	Kind string // the noun, such as "device"; it decides the classes of the changes' fields
	ID   string
	Path string // org path, ids joined by "/"; empty for what stands on no node
}

// Event is what a use case declares to have happened. It arrives complete at the store: ids, nonces and sealed values come
// from app (see Complete); only sequence, time, actor and revision are added while it is appended.
type Event struct {
	ID      ident.Entry
	Action  Action
	Target  Target
	Outcome Outcome
	Reason  string // a stable word; empty if there is nothing to say
	Count   int64  // of folded entries: how many; 0 otherwise
	Changes []Change
	Address Personal // where the request came from
	Agent   Personal
}

// Change is one field's old and new value. How it is written follows from the field's class.
type Change struct {
	Field    string
	Old, New Personal
}

// Personal is a value and what it takes to commit to it. Only Nonce and Sealed outlive the append, beside the log, and they
// can be destroyed without breaking a proof. Of a value that is useful for equality alone, the digest is all that is kept.
type Personal struct {
	Value  string
	Nonce  [16]byte
	Sealed []byte
	Digest string
}

// Set is a change of a field from one value to another; empty means absent.
func Set(field, old, new string) Change {
	return Change{Field: field, Old: Personal{Value: old}, New: Personal{Value: new}}
}

// Complete returns the event with a nonce and a sealed copy for every value that will be written as a commitment, and a digest
// for every one that will be written as one. What is sealed is text: bytes that are none become U+FFFD first.
func Complete(e Event, random func([]byte), seal func(string) ([]byte, error), digest func(field, value string) string) (Event, error) {
	fill := func(field string, p *Personal) error {
		if p.Value == "" {
			return nil
		}
		var err error
		switch ClassOf(e.Target.Kind, field) {
		case Commit:
			p.Value = strings.ToValidUTF8(p.Value, "\ufffd")
			random(p.Nonce[:])
			p.Sealed, err = seal(p.Value)
		case Equal:
			p.Digest = digest(field, p.Value)
		case Clear, Secret:
		}
		return err
	}
	changes := make([]Change, len(e.Changes))
	copy(changes, e.Changes)
	e.Changes = changes
	for i := range changes {
		if err := fill(changes[i].Field, &changes[i].Old); err != nil {
			return e, err
		}
		if err := fill(changes[i].Field, &changes[i].New); err != nil {
			return e, err
		}
	}
	if err := fill(fieldAddress, &e.Address); err != nil {
		return e, err
	}
	return e, fill(fieldAgent, &e.Agent)
}

const (
	fieldAddress = "src.ip"
	fieldAgent   = "src.ua"
	// FieldLogin is the name that somebody tried to sign in with: anybody's, or nobody's here.
	FieldLogin = "login"
)

// Commitment is what an entry holds of a personal value: SHA-256(nonce ‖ field ‖ 0 ‖ value) in hex.
func Commitment(field string, p Personal) string {
	b := append(make([]byte, 0, 128), p.Nonce[:]...)
	b = append(append(append(b, field...), 0), p.Value...)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// committed begins what an entry holds of a personal value.
const committed = "sha256:"

// Digest is what an entry holds of a value that is useful for equality alone: an HMAC with the tenant's audit key, whose id
// stands in it. Whoever may ask for the digest of a candidate (audit hash) finds the entries that hold it; nobody else does.
func Digest(kid string, key []byte, field, value string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(append(append([]byte(field), 0), value...)) // a hash never fails
	return "hmac-sha256:" + kid + ":" + hex.EncodeToString(mac.Sum(nil))
}

// Class says how a field's values are written.
type Class uint8

// The classes. A field that nobody declared is committed, never written in clear. A field keeps its class: the verifier asks
// for a private value of whatever is committed.
const (
	Commit Class = iota
	Clear
	Secret
	Equal // written as a digest, for equality
)

// ClassOf is the class of a field of a kind of target. Names, addresses, payloads and free text are personal or the
// tenant's own and are never declared clear.
func ClassOf(kind, field string) Class {
	if c, ok := classes[kind+"."+field]; ok {
		return c
	}
	return classes["*."+field] // Commit is the zero Class
}

var classes = map[string]Class{
	"*.state": Clear, "*.kind": Clear, "*.node": Clear, "*.parent": Clear, "*.role": Clear, "*.principal": Clear,
	"*.group": Clear, "*.recursive": Clear, "*.expires_at": Clear, "*.barrier": Clear, "*.permissions": Clear,
	"*.members": Clear, "*.groups": Clear, "*.decoder": Clear, "*.version": Clear, "*.number": Clear, "*.hash": Clear,
	"*.format": Clear, "*.source": Clear, "*.device": Clear, "*.devices": Clear, "*.key": Clear, "*.keys": Clear, "*.membership": Clear, "*.accessor": Clear,
	"*.count": Clear, "*.rows": Clear, "*.created": Clear, "*.failed": Clear, "*.bucket": Clear, "*.permission": Clear,
	"*.size": Clear, "*.root": Clear, "*.from": Clear, "*.to": Clear, "*.session": Clear, "*.family": Clear,
	"*.password": Secret, "*.secret": Secret, "*.variables": Secret, "*.token": Secret,
	"mapping.connection": Clear, "mapping.tenant": Clear, "dead_letter.event": Clear, "dead_letter.tenant": Clear, "dead_letter.reason": Clear, "dead_letter.heir": Clear,
	"limits.*": Clear, "*.limit": Clear,
	"*." + FieldLogin: Equal,
}
