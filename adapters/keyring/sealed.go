package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/seal"
)

// Sealed values are: version, key id's length and id, salt, ciphertext with its tag. Each has a key of its own, derived from
// the sealing key, the tenant and the random salt, so that no key is used too often for its nonce, and none twice.
const (
	sealVersion = 1
	saltSize    = 32
	tagSize     = 16
)

// Seal encrypts with AES-256-GCM under a key for this value alone.
func (k *Keyring) Seal(_ context.Context, p seal.Place, plain []byte) ([]byte, error) {
	if k.sealing == "" {
		return nil, errNotGiven
	}
	out := make([]byte, 0, 2+len(k.sealing)+saltSize+len(plain)+tagSize)
	out = append(out, sealVersion, byte(len(k.sealing)))
	out = append(out, k.sealing...)
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails: the runtime stops the program instead
	out = append(out, salt...)
	aead, err := own(k.seals[k.sealing], salt, p.Tenant)
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, make([]byte, aead.NonceSize()), plain, placed(p, k.sealing)), nil
}

// Open decrypts at the value's own place.
func (k *Keyring) Open(_ context.Context, p seal.Place, sealed []byte) ([]byte, error) {
	kid, salt, text, ok := split(sealed)
	if !ok {
		return nil, elsewhere()
	}
	key, ok := k.seals[kid]
	if !ok {
		return nil, elsewhere()
	}
	aead, err := own(key, salt, p.Tenant)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), text, placed(p, kid))
	if err != nil {
		return nil, elsewhere()
	}
	return plain, nil
}

// split takes a sealed value apart.
func split(sealed []byte) (kid string, salt, text []byte, ok bool) {
	if len(sealed) < 2 || sealed[0] != sealVersion {
		return "", nil, nil, false
	}
	n, rest := int(sealed[1]), sealed[2:]
	if len(rest) < n+saltSize+tagSize {
		return "", nil, nil, false
	}
	return string(rest[:n]), rest[n : n+saltSize], rest[n+saltSize:], true
}

func elsewhere() error {
	return fault.New(fault.Internal, "sealed_elsewhere", "A sealed value does not open at its place.")
}

// own is the cipher of one value.
func own(key, salt []byte, t ident.Tenant) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, salt, "ringfence seal v1 "+string(t[:]), keySize)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "seal", "A value could not be sealed.")
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "seal", "A value could not be sealed.")
	}
	return cipher.NewGCM(block)
}

// placed is the additional data: every part with its length before it, so that no two places look alike.
func placed(p seal.Place, kid string) []byte {
	aad := append([]byte(nil), p.Tenant[:]...)
	for _, part := range []string{p.Table, p.Column, p.Row, kid} {
		aad = binary.BigEndian.AppendUint32(aad, uint32(len(part))) //nolint:gosec // names and ids
		aad = append(aad, part...)
	}
	return aad
}
