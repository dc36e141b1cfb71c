package audit

import (
	"encoding/base64"
	"errors"
	"slices"
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

// A note that only others signed says nothing of this log; one that this log's key signed otherwise, or that is none, was changed.
var (
	errCheckpoint = errors.New("audit: not a checkpoint signed by this log's key")
	errChanged    = errors.New("audit: not what this log's key signed")
)

// OpenCheckpoint checks a signed note against the log's key and reads its checkpoint. Extension lines are allowed and
// ignored, as C2SP asks.
func OpenCheckpoint(signed []byte, verifier note.Verifier) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, errCheckpoint
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	var foreign *note.UnverifiedNoteError
	if errors.As(err, &foreign) && !renamed(foreign.Note, verifier) {
		return Checkpoint{}, errCheckpoint
	}
	if err != nil {
		return Checkpoint{}, errChanged
	}
	for _, s := range n.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil { // a second spelling of the same signature
			return Checkpoint{}, errChanged
		}
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, errChanged
	}
	return c, nil
}

// renamed reports whether a signature that stands under another key's name is this key's.
func renamed(n *note.Note, verifier note.Verifier) bool {
	return slices.ContainsFunc(n.UnverifiedSigs, func(s note.Signature) bool {
		raw, err := base64.StdEncoding.DecodeString(s.Base64)
		return err == nil && len(raw) > 4 && verifier.Verify([]byte(n.Text), raw[4:]) // behind the key's hash
	})
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
