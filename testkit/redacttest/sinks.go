package redacttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// columns are where a name or a payload may stand in the database. Anywhere else it is a finding, and a secret everywhere.
func columns(noun string) []string { return places()[noun] }

func nouns() []string { return slices.Sorted(maps.Keys(places())) }

func places() map[string][]string {
	return map[string][]string{
		"tenant name":        {"tenants.body", "nodes.label", "nodes.body"}, // its root is named after it
		"node name":          {"nodes.label", "nodes.body"},
		"person's name":      {"persons.body", "members.body", "members.label"},
		"e-mail address":     {"persons.label", "persons.body", "members.body", "invitations.body"},
		"role name":          {"roles.label", "roles.body"},
		"group name":         {"groups.label", "groups.body"},
		"decoder name":       {"decoders.label", "decoders.body"},
		"script":             {"versions.body"},
		"device name":        {"devices.label", "devices.body"},
		"device address":     {"devices.body", "device_addresses.value", "uplinks.address"},
		"variable name":      {"devices.body"},
		"variable":           {"devices.body", "readings.data", "readings.warnings", "outcomes.message"}, // a script may show it: it is none of the secret ones
		"source name":        {"sources.label", "sources.body", "members.body", "members.label"},         // its service account is named after it
		"mapped application": {"mappings.label", "mappings.body", "tenures.body"},
		"application":        {"sources.body", "uplinks.application"},
		"token name":         {"tokens.body"},
		"key name":           {"source_keys.body"},
		"network session":    {"uplinks.session", "readings.session"},
		"payload":            {"uplinks.payload", "readings.data", "readings.warnings", "outcomes.message"},
		"sender's id":        {}, // it is hashed into the key of duplicates and kept nowhere
	}
}

// platformNouns are what the platform's operator sees of tenants.
var platformNouns = []string{"tenant name", "person's name", "e-mail address", "mapped application"}

// stands notes that a name was found where it belongs: one that is found nowhere at all would have tried nothing.
func (c *check) stands(of *canary) {
	if c.stood == nil {
		c.stood = map[*canary]bool{}
	}
	if !c.stood[of] {
		c.stood[of] = true
		c.result.Stood[of.noun]++
	}
}

// glance looks at what was logged since the last time, and at the metrics.
func (c *check) glance(when string) {
	logs := c.target.Logs()
	fresh := logs[c.logged:]
	c.logged = len(logs)
	c.finder.scan(fresh, func(h hit) { c.find("logs %s: %s of %s, the %s", when, h.encoding, h.of.place, h.of.noun) })
	c.finder.scan(c.target.Metrics(), func(h hit) { c.find("metrics %s: %s of %s, the %s", when, h.encoding, h.of.place, h.of.noun) })
}

// look looks into everything that the server leaves behind.
func (c *check) look(when string) {
	c.t.Helper()
	c.logged = 0 // a secret may have been logged before it was known to be one
	c.glance(when)
	c.leaves(when)
	c.target.Dump(func(table, column string, value []byte) {
		at := table + "." + column
		c.finder.scan(value, func(h hit) {
			if h.of.noun == secretNoun || !slices.Contains(columns(h.of.noun), at) {
				c.find("database, %s: %s of %s, the %s", at, h.encoding, h.of.place, h.of.noun)
				return
			}
			c.stands(h.of)
		})
	})
	for name, raw := range c.target.Files() {
		c.finder.scan(raw, func(h hit) {
			if h.of.noun == secretNoun { // names stand in the file as well; whose column it is only the dump can tell
				c.find("file %s: %s of %s, the secret", name, h.encoding, h.of.place)
			}
		})
	}
}

// leaves looks into every entry of every log: secrets, names and payloads stand in none of them.
func (c *check) leaves(when string) {
	c.t.Helper()
	trees, err := c.target.Trouble.Directory().Tenants(c.t.Context(), ident.Tenant{}, 100)
	if err != nil {
		c.t.Fatal(err)
	}
	if !slices.Contains(trees, ident.Platform) {
		trees = append(trees, ident.Platform)
	}
	for _, tree := range trees {
		var all []string // told when the store is left again, since the first may end everything
		s := access.Grant(tree, access.Actor{Kind: access.System, System: "redacttest"}, access.Origin{}, access.Decision{Allowed: true}, nil, access.Subject{}, time.Time{})
		err := c.target.Trouble.View(c.t.Context(), s, func(ctx context.Context, r store.Reader) error {
			head, err := r.Audit().Head(ctx)
			for seq := uint64(0); err == nil && seq < head.Size; seq++ {
				e, eerr := r.Audit().Entry(ctx, seq)
				if err = eerr; err == nil {
					c.finder.scan(e.Leaf, func(h hit) {
						all = append(all, fmt.Sprintf("audit %s, %s of %s: %s of %s, the %s", when, e.Action, e.Kind, h.encoding, h.of.place, h.of.noun))
					})
				}
			}
			return err
		})
		if err != nil {
			c.t.Fatalf("reading the log of %s: %v", tree, err)
		}
		for _, text := range all {
			c.find("%s", text)
		}
	}
}
