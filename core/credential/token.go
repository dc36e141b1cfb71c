// Package credential holds what proves who somebody is: the one format of every token, the records of sessions, tokens,
// keys and links with their lifetimes, and the rules of passwords. Hashing of passwords is an adapter's.
package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"

	"github.com/ringfence/ringfence/core/secret"
)

// Kind is a kind of token; its word stands in the token's prefix.
type Kind string

// The kinds.
const (
	KindSession   Kind = "sid" // browser session, in the cookie __Host-sid
	KindAccess    Kind = "at"
	KindRefresh   Kind = "rt"
	KindPersonal  Kind = "pat"
	KindIngestion Kind = "ing"
	KindSetup     Kind = "set" // one-time links
	KindInvite    Kind = "inv"
	KindReset     Kind = "rst"
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{KindSession, KindAccess, KindRefresh, KindPersonal, KindIngestion, KindSetup, KindInvite, KindReset}
}

// Lengths of a token's parts behind rf_KIND_: 128 bits that may be shown, 256 bits that may not, and a checksum. The format
// is published so that secret scanners find tokens that leaked.
const (
	accessorLen = 22
	secretLen   = 43
	crcLen      = 6
	bodyLen     = accessorLen + secretLen + crcLen

	// RandomLen is how many random bytes a token is made of.
	RandomLen = 16 + 32
)

// Pattern finds tokens in text (RE2 syntax).
const Pattern = `rf_(?:sid|at|rt|pat|ing|set|inv|rst)_[0-9A-Za-z]{71}`

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ErrToken is returned for every text that is not a whole token, whatever is wrong with it.
var ErrToken = errors.New("credential: not a token")

// Token is a whole token, taken apart.
type Token struct {
	Kind     Kind
	Accessor string      // what people, logs and the audit see; it opens nothing
	Whole    secret.Text // what is presented, and kept nowhere
}

// Mint makes a token of RandomLen random bytes.
func Mint(kind Kind, random [RandomLen]byte) Token {
	accessor := encode(random[:16], accessorLen)
	body := accessor + encode(random[16:], secretLen)
	prefix := "rf_" + string(kind) + "_"
	return Token{Kind: kind, Accessor: accessor, Whole: secret.New(prefix + body + checksum(prefix+body))}
}

// Parse reads a token: exact length, alphabet, checksum and no value beyond its bits, or ErrToken. It asks no database, so
// junk costs nothing more.
func Parse(s string) (Token, error) {
	if len(s) > 3+3+1+bodyLen || !strings.HasPrefix(s, "rf_") {
		return Token{}, ErrToken
	}
	kind, body, ok := strings.Cut(s[3:], "_")
	if !ok || len(body) != bodyLen || !known(Kind(kind)) {
		return Token{}, ErrToken
	}
	if subtle.ConstantTimeCompare([]byte(checksum(s[:len(s)-crcLen])), []byte(s[len(s)-crcLen:])) != 1 {
		return Token{}, ErrToken
	}
	if !fits(body[:accessorLen], 128) || !fits(body[accessorLen:accessorLen+secretLen], 256) {
		return Token{}, ErrToken
	}
	return Token{Kind: Kind(kind), Accessor: body[:accessorLen], Whole: secret.New(s)}, nil
}

func known(k Kind) bool {
	for _, kind := range Kinds() {
		if k == kind {
			return true
		}
	}
	return false
}

// encode writes bytes as base62 of a fixed length.
func encode(b []byte, length int) string {
	out := make([]byte, length)
	n, base, digit := new(big.Int).SetBytes(b), big.NewInt(62), new(big.Int)
	for i := length - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = alphabet[digit.Int64()]
	}
	return string(out)
}

// fits reports whether a base62 text is in the alphabet and its value has at most the bits: 62^22 is a little more than
// 2^128, and a second spelling of the same bytes must not exist.
func fits(s string, bits int) bool {
	var limbs [9]uint32 // 288 bits, little endian
	for i := range len(s) {
		digit := strings.IndexByte(alphabet, s[i])
		if digit < 0 {
			return false
		}
		carry := uint64(digit)
		for j := range min((i+1)*6/32+1, len(limbs)) { // a digit adds less than six bits: the limbs above are zero
			carry += uint64(limbs[j]) * 62
			limbs[j] = uint32(carry) //nolint:gosec // the low half is meant
			carry >>= 32
		}
		if carry != 0 {
			return false
		}
	}
	for j := bits / 32; j < len(limbs); j++ {
		if limbs[j] != 0 {
			return false
		}
	}
	return true
}

// checksum is the CRC-32 (IEEE) of the text in six base62 digits.
func checksum(s string) string {
	var out [crcLen]byte
	n := crc32.ChecksumIEEE([]byte(s))
	for i := crcLen - 1; i >= 0; i-- {
		out[i] = alphabet[n%62]
		n /= 62
	}
	return string(out[:])
}

// Verifier is what is stored of a token: HMAC-SHA-256 under a pepper. A fast hash is right for secrets of 256 random bits.
func Verifier(pepper []byte, whole secret.Text) [32]byte {
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte(whole.Reveal()))
	var v [32]byte
	mac.Sum(v[:0])
	return v
}

// Match compares a token's verifier with a stored one in constant time.
func Match(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
