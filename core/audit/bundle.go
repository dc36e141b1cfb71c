package audit

import (
	"archive/tar"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// A bundle is a tar archive that holds all of one log, in this order:
//
//	checkpoint/SIZE      every kept checkpoint, a signed note each, the smallest first; the last is the bundle's end
//	chunk/N/entries      the leaves of entries N*4096 and following, a line each
//	chunk/N/hashes       the hashes that the store keeps for them, 32 bytes each, in the order of their indexes
//	chunk/N/private      on request, in all chunks or in none: what the entries' commitments were made of, a line each of
//	                     {"field":…,"new":…,"nonce":…,"seq":…,"value":…}, in the order of the entries
//
// Chunks follow one another without a gap, each full but the last. It is read in one pass with the memory of one chunk,
// and holds no key: who verifies brings the log's key along.
const chunkSize = 4096

// BundleWriter writes a bundle. Use its methods in the order Checkpoint…, (Chunk, Private if asked for)…, Close.
type BundleWriter struct {
	tar  *tar.Writer
	next uint64
}

// NewBundleWriter writes to w.
func NewBundleWriter(w io.Writer) *BundleWriter { return &BundleWriter{tar: tar.NewWriter(w)} }

func (b *BundleWriter) file(name string, data []byte) error {
	if err := b.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o444, Size: int64(len(data)), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := b.tar.Write(data)
	return err
}

// Checkpoint adds a kept checkpoint.
func (b *BundleWriter) Checkpoint(c StoredCheckpoint) error {
	return b.file(fmt.Sprintf("checkpoint/%020d", c.Size), c.Note)
}

// ChunkRange is the entries that the next chunk holds, of a log of a size: [from, to); empty at the end.
func (b *BundleWriter) ChunkRange(size uint64) (from, to uint64) {
	return b.next, min(b.next+chunkSize, size)
}

// HashRange is the indexes of the stored hashes that belong to entries [from, to): [first, end).
func HashRange(from, to uint64) (first, end int64) {
	return tlog.StoredHashIndex(0, int64(from)), tlog.StoredHashIndex(0, int64(to)) //nolint:gosec // sizes stay below 2^63
}

// StoredWith is the entry whose append stored the hash of an index, and its place among the hashes stored with that entry.
func StoredWith(index int64) (seq uint64, place int) {
	level, n := tlog.SplitStoredHashIndex(index)
	return uint64(n+1)<<level - 1, level //nolint:gosec // never negative
}

// Chunk adds the next entries' leaves, and their stored hashes.
func (b *BundleWriter) Chunk(leaves [][]byte, hashes []Hash) error {
	var text, raw []byte
	for _, l := range leaves {
		text = append(append(text, l...), '\n')
	}
	for _, h := range hashes {
		raw = append(raw, h[:]...)
	}
	n := b.next / chunkSize
	b.next += uint64(len(leaves))
	if err := b.file(fmt.Sprintf("chunk/%012d/entries", n), text); err != nil {
		return err
	}
	return b.file(fmt.Sprintf("chunk/%012d/hashes", n), raw)
}

// Private adds what the commitments of the chunk written last were made of, in the order of the entries.
func (b *BundleWriter) Private(values []Opened) error {
	var text []byte
	for _, v := range values {
		text = append(text, v.line()...)
	}
	return b.file(fmt.Sprintf("chunk/%012d/private", (b.next-1)/chunkSize), text)
}

// Close ends the archive.
func (b *BundleWriter) Close() error { return b.tar.Close() }
