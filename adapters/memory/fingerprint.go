package memory

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/ringfence/ringfence/core/ident"
)

// Fingerprint is a digest of all that a tenant has. Tests hold with it that nobody else's request changed a thing.
func (s *Store) Fingerprint(t ident.Tenant) string {
	b := open(s.now.Load(), t).book
	h := sha256.New()
	for i := range nouns {
		write(h, b.records[i])
		write(h, b.labels[i])
	}
	write(h, b.expiries)
	write(h, b.addresses)
	write(h, b.assignments)
	write(h, b.seen)
	write(h, b.touched)
	write(h, b.uplinks)
	write(h, b.waiting)
	write(h, b.dedupe)
	write(h, b.readings)
	write(h, b.latest)
	write(h, b.outcomes)
	write(h, b.folds)
	write(h, b.failures)
	write(h, b.marks)
	fmt.Fprintf(h, "%+v %d", b.log, b.revision)
	return hex.EncodeToString(h.Sum(nil))
}

func write[V any](w io.Writer, t tree[V]) {
	for k, v := range t.up("") {
		fmt.Fprintf(w, "%q %+v\n", k, v)
	}
	fmt.Fprintln(w, t.n)
}
