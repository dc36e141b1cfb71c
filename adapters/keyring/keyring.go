// Package keyring fills ports/seal with keys in a folder of their own, made at first start, readable by their owner alone
// and never in the database. It holds keys; what is sealed, peppered or signed with them is others' business.
package keyring

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/ringfence/ringfence/core/audit"
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
	_ seal.Marks   = (*Keyring)(nil)
	_ seal.Log     = (*Keyring)(nil)
)

// keySize is the size of every symmetric key.
const keySize = 32

// The folder's files: seal-0001.key, seal-0002.key, …, pepper-0001.key, …, each 32 random bytes in base64, of which the last
// is used for what is new and all are kept for what is old; the log's signing key; and, written when all of them were there
// for the first time, the instance's name, which is no secret.
const (
	sealName     = "seal"
	pepperName   = "pepper"
	auditFile    = "audit.key"
	instanceFile = "instance"
)

// Open reads the keys of a folder, and makes them at first start. A folder or file that others may read, and a key that is
// known, weak or cut short, is refused: the server does not start with it. So is a folder from which a key is gone since:
// a new one in its place would hide that whatever the old one sealed is lost.
func Open(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if err := closed(dir, fs.ModeDir); err != nil {
		return nil, err
	}
	started, err := read(filepath.Join(dir, instanceFile))
	first := errors.Is(err, fs.ErrNotExist)
	if err != nil && !first {
		return nil, err
	}
	k := &Keyring{}
	if k.sealing, k.seals, err = load(dir, sealName, first); err != nil {
		return nil, err
	}
	if k.pepper, k.peppers, err = load(dir, pepperName, first); err != nil {
		return nil, err
	}
	if err := k.distinct(dir); err != nil {
		return nil, err
	}
	if err := k.loadLog(dir, first); err != nil {
		return nil, err
	}
	if !first && started != k.instance {
		return nil, fmt.Errorf("keys: %s is the log key of another instance than %q; put the right one back from your backup", filepath.Join(dir, auditFile), started)
	}
	if first {
		if err := create(filepath.Join(dir, instanceFile), k.instance); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Ephemeral makes keys that nobody keeps: for tests and examples, whose store is forgotten too.
func Ephemeral() (*Keyring, error) {
	const id = "0001"
	k := &Keyring{sealing: id, pepper: id, seals: map[string][]byte{id: fresh()}, peppers: map[string][]byte{id: fresh()}}
	text, err := freshLog()
	if err != nil {
		return nil, err
	}
	k.signer, k.verifier, err = parseLog(text)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	k.instance = k.signer.Name()
	return k, nil
}

func fresh() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: the runtime stops the program instead
	return key
}

// freshLog makes a signer key with a name of its own.
func freshLog() (string, error) {
	var id [8]byte
	_, _ = rand.Read(id[:])
	text, _, err := note.GenerateKey(rand.Reader, fmt.Sprintf("ringfence-%x", id))
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	return text, nil
}

// distinct refuses one key under two names: whoever learns it by the one use has the other.
func (k *Keyring) distinct(dir string) error {
	var files []string
	var all [][]byte
	for _, of := range []struct {
		name string
		keys map[string][]byte
	}{{sealName, k.seals}, {pepperName, k.peppers}} {
		for _, id := range slices.Sorted(maps.Keys(of.keys)) {
			files, all = append(files, filepath.Join(dir, of.name+"-"+id+".key")), append(all, of.keys[id])
		}
	}
	for i := range all {
		for j := range i {
			if subtle.ConstantTimeCompare(all[i], all[j]) == 1 {
				return fmt.Errorf("keys: %s and %s hold the same key; put the right ones back from your backup; one that nothing was made with yet is replaced by: head -c 32 /dev/urandom | base64", files[j], files[i])
			}
		}
	}
	return nil
}

func lost(file string) error {
	return fmt.Errorf("keys: %s is gone since the first start; put it back from your backup, since nothing else opens what it sealed", file)
}

// numbered are the names that load takes: of one length, so that their order is that of their age.
var numbered = regexp.MustCompile(`^(?:seal|pepper)-[0-9]{4}\.key$`)

// load reads all keys NAME-NNNN.key of a folder. The last is the newest.
func load(dir, name string, first bool) (string, map[string][]byte, error) {
	files, err := filepath.Glob(filepath.Join(dir, name+"-*.key"))
	if err != nil {
		return "", nil, fmt.Errorf("keys: %w", err)
	}
	if len(files) == 0 {
		file := filepath.Join(dir, name+"-0001.key")
		if !first {
			return "", nil, lost(file)
		}
		if err := create(file, base64.StdEncoding.EncodeToString(fresh())); err != nil {
			return "", nil, err
		}
		files = []string{file}
	}
	slices.Sort(files)
	newest, keys := "", map[string][]byte{}
	for _, file := range files {
		if !numbered.MatchString(filepath.Base(file)) {
			return "", nil, fmt.Errorf("keys: %s is not named like %s-0001.key, with four digits", file, name)
		}
		text, err := read(file)
		if err != nil {
			return "", nil, err
		}
		key, err := parse(text)
		if err != nil {
			return "", nil, fmt.Errorf("keys: %s: %w", file, err)
		}
		newest = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), name+"-"), ".key")
		keys[newest] = key
	}
	return newest, keys, nil
}

// parse reads a symmetric key in its one spelling.
func parse(text string) ([]byte, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(key) != text {
		return nil, errors.New("this is not base64; make a key with: head -c 32 /dev/urandom | base64")
	}
	if err := wellKnown(text); err != nil { // typed in as if base64 were letters
		return nil, err
	}
	return key, Strong(key)
}

func (k *Keyring) loadLog(dir string, first bool) error {
	file := filepath.Join(dir, auditFile)
	text, err := read(file)
	if errors.Is(err, fs.ErrNotExist) {
		if !first {
			return lost(file)
		}
		made, gerr := freshLog()
		if gerr != nil {
			return gerr
		}
		if err := create(file, made); err != nil {
			return err
		}
		text, err = read(file)
	}
	if err != nil {
		return err
	}
	if k.signer, k.verifier, err = parseLog(text); err != nil {
		return fmt.Errorf("keys: %s: %w", file, err)
	}
	k.instance = k.signer.Name()
	return nil
}

// parseLog reads a signer key of x/mod's notes: PRIVATE+KEY+name+hash+key, where the last part is the algorithm and the
// Ed25519 seed in base64, which may hold a plus itself.
func parseLog(text string) (note.Signer, string, error) {
	bad := errors.New("this is not the Ed25519 signer key of a note")
	signer, err := note.NewSigner(text)
	if err != nil {
		return nil, "", bad
	}
	parts := strings.SplitN(text, "+", 5)
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[len(parts)-1])
	if err != nil || len(raw) != 1+keySize {
		return nil, "", bad
	}
	if err := Strong(raw[1:]); err != nil {
		return nil, "", err
	}
	verifier, err := publicNote(signer.Name(), raw[1:])
	return signer, verifier, err
}

// Instance is the name that stands in every checkpoint's origin.
func (k *Keyring) Instance() string { return k.instance }

// Signer signs checkpoints.
func (k *Keyring) Signer() audit.Signer { return k.signer }

// VerifierKey is what verifiers outside trust.
func (k *Keyring) VerifierKey() string { return k.verifier }

// Current is the newest pepper.
func (k *Keyring) Current() (string, []byte) { return k.pepper, slices.Clone(k.peppers[k.pepper]) }

// Pepper is a kept one.
func (k *Keyring) Pepper(kid string) ([]byte, bool) {
	p, ok := k.peppers[kid]
	return slices.Clone(p), ok
}

// Marks tells the keys apart, by the names of their files.
func (k *Keyring) Marks() (map[string][32]byte, error) {
	marks := map[string][32]byte{}
	if k.verifier != "" {
		marks[auditFile] = sha256.Sum256([]byte(k.verifier))
	}
	for name, keys := range map[string]map[string][]byte{sealName: k.seals, pepperName: k.peppers} {
		for id, key := range keys {
			file := name + "-" + id + ".key"
			mark, err := hkdf.Key(sha256.New, key, nil, "ringfence mark "+file, keySize)
			if err != nil {
				return nil, fmt.Errorf("keys: %w", err)
			}
			marks[file] = [32]byte(mark)
		}
	}
	return marks, nil
}

// Derive answers a key for another purpose, such as sealing cursors, that is the same at every start until a newer sealing
// key is added: for what may be lost then.
func (k *Keyring) Derive(purpose string) ([]byte, error) {
	if k.sealing == "" {
		return nil, errNotGiven
	}
	return hkdf.Key(sha256.New, k.seals[k.sealing], nil, "ringfence "+purpose, keySize)
}
