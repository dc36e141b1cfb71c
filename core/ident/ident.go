// Package ident holds the typed identifiers of everything Ringfence keeps.
//
// An id is a UUIDv7 written as a three-letter prefix, an underscore and 26 characters of lower-case base32hex, with one
// spelling each. Every noun has a Go type of its own, so that a user's id cannot be passed where a tenant's is meant
// (foreign ids are never read as ours: security.md §4, rows 1 and 5). Ids are visible and hold their time of birth: they
// are names, never secrets.
package ident

import (
	"bytes"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind names what an id is of. Its implementations live in this package alone, so the list of nouns is closed.
type Kind interface{ prefix() string }

// ID is the identifier of one thing of kind K. The zero ID names nothing.
type ID[K Kind] [16]byte

// Size is the length of an id in bytes; Len is the length of its text behind the prefix and the underscore.
const (
	Size = 16
	Len  = 26
)

var encoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// ErrMalformed is returned for text that is not an id of the wanted kind in its one spelling.
var ErrMalformed = errors.New("ident: not an id of this kind")

// Make returns the UUIDv7 of a moment and ten random bytes, both chosen by the caller: core has no clock and no source of
// randomness.
func Make[K Kind](at time.Time, random [10]byte) ID[K] {
	var id ID[K]
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	copy(id[6:], random[:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Parse reads the text of an id. Another prefix, another spelling or another length is ErrMalformed.
func Parse[K Kind](s string) (ID[K], error) {
	var id ID[K]
	var k K
	p := k.prefix()
	if len(s) != len(p)+1+Len || !strings.HasPrefix(s, p) || s[len(p)] != '_' {
		return id, ErrMalformed
	}
	// By hand: ids are read for every event, and one that is strict needs no second look at what it wrote.
	var bits uint
	n, at := 0, 0
	for _, c := range []byte(s[len(p)+1:]) {
		switch {
		case c >= '0' && c <= '9':
			bits = bits<<5 | uint(c-'0')
		case c >= 'a' && c <= 'v':
			bits = bits<<5 | uint(c-'a'+10)
		default:
			return ID[K]{}, ErrMalformed
		}
		if n += 5; n >= 8 {
			n -= 8
			id[at] = byte(bits >> n)
			at++
		}
	}
	// One spelling each: spare bits are zero, and what names nothing is written as nothing.
	if bits&(1<<n-1) != 0 || id.IsZero() {
		return ID[K]{}, ErrMalformed
	}
	return id, nil
}

// FromBytes reads an id that was stored as its 16 bytes.
func FromBytes[K Kind](b []byte) (ID[K], error) {
	var id ID[K]
	if len(b) != Size {
		return id, ErrMalformed
	}
	copy(id[:], b)
	return id, nil
}

// Prefix is the three letters that ids of kind K begin with.
func Prefix[K Kind]() string {
	var k K
	return k.prefix()
}

// IsZero reports whether the id names nothing.
func (id ID[K]) IsZero() bool { return id == ID[K]{} }

// Time is the moment the id was made, to the millisecond.
func (id ID[K]) Time() time.Time {
	var ms int64
	for i := range 6 {
		ms = ms<<8 | int64(id[i])
	}
	return time.UnixMilli(ms).UTC()
}

// Compare orders ids by their bytes, which is by time of birth first.
func (id ID[K]) Compare(other ID[K]) int { return bytes.Compare(id[:], other[:]) }

// String is the one spelling of the id; the zero id is the empty string.
func (id ID[K]) String() string {
	if id.IsZero() {
		return ""
	}
	var k K
	return k.prefix() + "_" + encoding.EncodeToString(id[:])
}

// AppendText appends the one spelling.
func (id ID[K]) AppendText(b []byte) ([]byte, error) {
	if id.IsZero() {
		return b, nil
	}
	var k K
	return encoding.AppendEncode(append(append(b, k.prefix()...), '_'), id[:]), nil
}

// MarshalText writes the one spelling.
func (id ID[K]) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the one spelling; empty text is the zero id.
func (id *ID[K]) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = ID[K]{}
		return nil
	}
	got, err := Parse[K](string(b))
	if err != nil {
		return fmt.Errorf("%w: want %s_ and %d characters", err, Prefix[K](), Len)
	}
	*id = got
	return nil
}
