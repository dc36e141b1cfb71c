// Package keyring fills ports/seal with keys in a folder of their own, made at first start, readable by their owner alone
// and never in the database.
package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/seal"
)

// Keyring is the adapter. Use Open.
type Keyring struct {
	seals    map[string][]byte
	peppers  map[string][]byte
	sealing  string // the newest of each
	pepper   string
	instance string
	signer   note.Signer
	verifier string
}

var (
	_ seal.Sealer  = (*Keyring)(nil)
	_ seal.Peppers = (*Keyring)(nil)
	_ seal.Log     = (*Keyring)(nil)
)

// keySize is the size of every symmetric key.
const keySize = 32

// Open reads the keys of a folder, and makes them if there are none. A folder or file that others may read, and a key that
// is known, weak or cut short, is refused: the server does not start with it.
func Open(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if err := closed(dir); err != nil {
		return nil, err
	}
	k := &Keyring{seals: map[string][]byte{}, peppers: map[string][]byte{}}
	var err error
	if k.sealing, err = load(dir, "seal", k.seals); err != nil {
		return nil, err
	}
	if k.pepper, err = load(dir, "pepper", k.peppers); err != nil {
		return nil, err
	}
	return k, k.loadLog(dir)
}

// closed refuses what others than the owner may read or write.
func closed(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("keys: %s is a symbolic link; put the key itself there", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("keys: %s can be read by others; run chmod go-rwx %s", path, path)
	}
	return nil
}

// load reads all keys NAME-ID.key of a folder; ids sort by age, so the last is the newest.
func load(dir, name string, into map[string][]byte) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, name+"-*.key"))
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	if len(files) == 0 {
		key := make([]byte, keySize)
		_, _ = rand.Read(key) // never fails: the runtime stops the program instead
		file := filepath.Join(dir, name+"-0001.key")
		if err := write(file, base64.StdEncoding.EncodeToString(key)+"\n"); err != nil {
			return "", err
		}
		files = []string{file}
	}
	slices.Sort(files)
	newest := ""
	for _, file := range files {
		text, err := read(file)
		if err != nil {
			return "", err
		}
		key, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return "", fmt.Errorf("keys: %s is not base64", file)
		}
		if err := Strong(key); err != nil {
			return "", fmt.Errorf("keys: %s: %w", file, err)
		}
		newest = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), name+"-"), ".key")
		into[newest] = key
	}
	return newest, nil
}

// read takes a small file that only its owner can read.
func read(file string) (string, error) {
	if err := closed(file); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(file) //nolint:gosec // a name of ours in the operator's folder
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	if len(raw) > 4096 {
		return "", fmt.Errorf("keys: %s is too large for a key", file)
	}
	return strings.TrimSpace(string(raw)), nil
}

// write makes a new file, whole or not at all.
func write(file, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	_, err = tmp.WriteString(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("keys: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

func (k *Keyring) loadLog(dir string) error {
	file := filepath.Join(dir, "audit.key")
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		var id [8]byte
		_, _ = rand.Read(id[:])
		secret, _, err := note.GenerateKey(rand.Reader, fmt.Sprintf("ringfence-%x", id))
		if err != nil {
			return fmt.Errorf("keys: %w", err)
		}
		if err := write(file, secret+"\n"); err != nil {
			return err
		}
	}
	text, err := read(file)
	if err != nil {
		return err
	}
	if k.signer, err = note.NewSigner(text); err != nil {
		return fmt.Errorf("keys: %s is not a note signer key", file)
	}
	k.instance = k.signer.Name()
	k.verifier, err = verifierKey(k.instance, text)
	return err
}

// verifierKey is the public half of a signer key, whose last part is its algorithm and Ed25519 seed.
func verifierKey(name, skey string) (string, error) {
	parts := strings.SplitN(skey, "+", 5) // PRIVATE+KEY+name+hash+key, where the key may hold a plus itself
	raw, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(raw) != 1+32 {
		return "", errors.New("keys: audit.key has a wrong length")
	}
	return publicNote(name, raw[1:])
}

// Instance is the name that stands in every checkpoint's origin.
func (k *Keyring) Instance() string { return k.instance }

// Signer signs checkpoints.
func (k *Keyring) Signer() audit.Signer { return k.signer }

// VerifierKey is what verifiers outside trust.
func (k *Keyring) VerifierKey() string { return k.verifier }

// Current is the newest pepper.
func (k *Keyring) Current() (string, []byte) { return k.pepper, k.peppers[k.pepper] }

// Pepper is a kept one.
func (k *Keyring) Pepper(kid string) ([]byte, bool) { p, ok := k.peppers[kid]; return p, ok }

// Sealed values are: version, key id's length and id, salt, ciphertext. Each has a key of its own, derived from the key and
// the random salt, so that no key is used too often for its nonce.
const (
	sealVersion = 1
	saltSize    = 32
)

// Seal encrypts with AES-256-GCM under a key for this value alone.
func (k *Keyring) Seal(_ context.Context, p seal.Place, plain []byte) ([]byte, error) {
	out := make([]byte, 0, 2+len(k.sealing)+saltSize+len(plain)+16)
	out = append(out, sealVersion, byte(len(k.sealing)))
	out = append(out, k.sealing...)
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt)
	out = append(out, salt...)
	aead, err := derive(k.seals[k.sealing], salt)
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, make([]byte, aead.NonceSize()), plain, placed(p, k.sealing)), nil
}

// Open decrypts at the value's own place.
func (k *Keyring) Open(_ context.Context, p seal.Place, sealed []byte) ([]byte, error) {
	if len(sealed) < 2 || sealed[0] != sealVersion || len(sealed) < 2+int(sealed[1])+saltSize {
		return nil, elsewhere()
	}
	kid, rest := string(sealed[2:2+sealed[1]]), sealed[2+sealed[1]:]
	key, ok := k.seals[kid]
	if !ok {
		return nil, elsewhere()
	}
	aead, err := derive(key, rest[:saltSize])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), rest[saltSize:], placed(p, kid))
	if err != nil {
		return nil, elsewhere()
	}
	return plain, nil
}

func elsewhere() error {
	return fault.New(fault.Internal, "sealed_elsewhere", "A sealed value does not open at its place.")
}

func derive(key, salt []byte) (cipher.AEAD, error) {
	own, err := hkdf.Key(sha256.New, key, salt, "ringfence seal v1", keySize)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "seal", "A value could not be sealed.")
	}
	block, err := aes.NewCipher(own)
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

// Derive answers a key for another purpose, such as sealing cursors, that is the same at every start.
func (k *Keyring) Derive(purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, k.seals[k.sealing], nil, "ringfence "+purpose, keySize)
}
