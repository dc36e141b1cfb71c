package redacttest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ringfence/ringfence/core/ident"
)

// Slips looks for secrets, by what they are, in what processes left behind, by where it was found: logs, metrics, records of a bus, a
// dump of a database. It finds each in the six encodings, and answers a line for each that is where it must not be. A text of fewer than
// eight bytes is no secret that could be found.
func Slips(secrets map[string]string, left map[string][]byte) (found []string) {
	f := finder{byHead: map[uint64][]needle{}}
	for _, what := range slices.Sorted(maps.Keys(secrets)) {
		if len(secrets[what]) < window {
			found = append(found, fmt.Sprintf("%s: shorter than %d bytes, so that nobody can look for it", what, window))
			continue
		}
		f.add(&canary{noun: secretNoun, place: what, text: secrets[what], owner: ident.Tenant{}})
	}
	for _, where := range slices.Sorted(maps.Keys(left)) {
		f.scan(left[where], func(h hit) { found = append(found, fmt.Sprintf("%s: %s, %s", where, h.of.place, h.encoding)) })
	}
	return found
}
