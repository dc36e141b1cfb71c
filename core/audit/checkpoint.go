package audit

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/ringfence/ringfence/core/ident"
)

// Checkpoint is a tree head as C2SP tlog-checkpoint writes it.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   Hash
}

// StoredCheckpoint is a signed checkpoint as it is kept.
type StoredCheckpoint struct {
	Size uint64
	Note []byte // the signed note
}

// Origin is the origin line of a tenant's log on an instance.
func Origin(instance string, t ident.Tenant) string { return instance + "/audit/" + t.String() }

// String is the checkpoint's text, without signatures.
func (c Checkpoint) String() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// Sign returns the checkpoint as a signed note.
func (c Checkpoint) Sign(signer note.Signer) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.String()}, signer)
}

// MaxCheckpoint bounds a signed checkpoint's bytes.
const MaxCheckpoint = 16 << 10

var errCheckpoint = errors.New("audit: not a checkpoint signed by this log's key")

// OpenCheckpoint checks a signed note against the log's key and reads its checkpoint. Extension lines are allowed and
// ignored, as C2SP asks.
func OpenCheckpoint(signed []byte, verifier note.Verifier) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, errCheckpoint
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, errCheckpoint
	}
	return parseCheckpoint(n.Text)
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" || lines[0] == "" {
		return Checkpoint{}, errCheckpoint
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return Checkpoint{}, errCheckpoint
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(raw) != len(Hash{}) {
		return Checkpoint{}, errCheckpoint
	}
	c := Checkpoint{Origin: lines[0], Size: size}
	copy(c.Root[:], raw)
	return c, nil
}

// Signer and Verifier are x/mod's, named here so that ports and app need no other module.
type (
	Signer   = note.Signer
	Verifier = note.Verifier
)

// NewVerifier reads a verifier key as note.NewVerifier does.
func NewVerifier(key string) (Verifier, error) { return note.NewVerifier(key) }
