package mqttlink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
)

// maxFile bounds a file of connections, in bytes.
const maxFile = 256 << 10

// setting is a key of a connection in the file.
type setting struct {
	key, about string
	set        func(c *Connection, v *yaml.Node) error
}

// Keys are those that a connection of a file may have, each with what it is, in the order in which a reader wants to know them.
func Keys() (keys [][2]string) {
	for _, s := range settings() {
		if s.about != "" {
			keys = append(keys, [2]string{s.key, s.about})
		}
	}
	return keys
}

// settings are all of them, in the order in which errors name them.
func settings() []setting {
	text := func(at func(*Connection) *string) func(*Connection, *yaml.Node) error {
		return func(c *Connection, v *yaml.Node) error { return scalar(v, "text", at(c)) }
	}
	truth := func(at func(*Connection) *bool) func(*Connection, *yaml.Node) error {
		return func(c *Connection, v *yaml.Node) error { return scalar(v, "true or false", at(c)) }
	}
	number := func(at func(*Connection) *int) func(*Connection, *yaml.Node) error {
		return func(c *Connection, v *yaml.Node) error {
			if err := scalar(v, "a whole number", at(c)); err != nil {
				return err
			}
			if *at(c) < 1 {
				return errors.New("want 1 or more")
			}
			return nil
		}
	}
	return []setting{
		{"name", "A word of yours, also in client ids, metrics and mappings: a-z, 0-9 and -", text(func(c *Connection) *string { return &c.Name })},
		{"url", "`mqtts://host:port`, or `mqtt://host:port`", text(func(c *Connection) *string { return &c.URL })},
		{"ca_file", "Who may have signed the broker's certificate, PEM; absent: whom the system trusts", text(func(c *Connection) *string { return &c.CAFile })},
		{"cert_file", "Our certificate, PEM, for a broker that wants one", text(func(c *Connection) *string { return &c.CertFile })},
		{"key_file", "Its key, PEM", text(func(c *Connection) *string { return &c.KeyFile })},
		{"plaintext", "Allow `mqtt://` to another machine, where nobody else listens", truth(func(c *Connection) *bool { return &c.Plaintext })},
		{"anonymous", "Allow a broker on another machine that does not ask who we are", truth(func(c *Connection) *bool { return &c.Anonymous })},
		{"username", "Who we are", text(func(c *Connection) *string { return &c.Username })},
		{"password_file", "Holds the password; read again at every connection", text(func(c *Connection) *string { return &c.PasswordFile })},
		{"password", "", func(*Connection, *yaml.Node) error {
			return errors.New("a secret does not stand in this file; want password_file, which names one that holds it")
		}},
		{"filters", "What is subscribed to, 16 at most; absent: what the format publishes by (`plain`: none). A level `{application}`, `{device}` or `{event}` is any one, and tells it; `+` is any one, `#` at the end any number. With `tenant_from: application` each names `{application}`", func(c *Connection, v *yaml.Node) error {
			if v.Kind != yaml.SequenceNode || len(v.Content) > maxFilters {
				return fmt.Errorf("want a list of at most %d", maxFilters)
			}
			for _, n := range v.Content {
				var f string
				if err := scalar(n, "a list of texts", &f); err != nil {
					return err
				}
				c.Filters = append(c.Filters, f)
			}
			return nil
		}},
		{"group", "Workers of one group share the messages (`$share`); absent: one worker gets all", text(func(c *Connection) *string { return &c.Group })},
		{"presence", "Members of a group tell each other that they are there, at `rf/members/#`, which the broker must let them publish and subscribe to; absent: as soon as there is a group", truth(func(c *Connection) *bool { return &c.Presence })},
		{"session_days", "How long the broker keeps what a worker that is away has not taken, 1 to 90; absent: 7", func(c *Connection, v *yaml.Node) error {
			var days int
			if err := scalar(v, "a whole number", &days); err != nil {
				return err
			}
			if days < 1 || days > int(maxSession/(24*time.Hour)) {
				return fmt.Errorf("want 1 to %d", maxSession/(24*time.Hour))
			}
			c.SessionExpiry = time.Duration(days) * 24 * time.Hour
			return nil
		}},
		{"max_in_flight", "Messages read and not acknowledged; absent: 1,000", number(func(c *Connection) *int { return &c.MaxInFlight })},
		{"max_in_flight_bytes", "And their bytes; absent: 32 MiB", number(func(c *Connection) *int { return &c.MaxInFlightBytes })},
		{"max_packet", "A longer packet is cut while it is read, and recorded as too large; absent: 512 KiB", number(func(c *Connection) *int { return &c.MaxPacket })},
		{"ask_max_packet", "Also ask the broker for no longer ones: it drops them, and nobody learns of it", truth(func(c *Connection) *bool { return &c.AskMaxPacket })},
		{"format", "`chirpstack` (v4, JSON), `tts` (The Things Stack v3) or `plain`", func(c *Connection, v *yaml.Node) error {
			err := scalar(v, "text", (*string)(&c.Format))
			if err == nil && !c.Format.Valid() {
				err = errors.New("want chirpstack, tts or plain")
			}
			return err
		}},
		{"tenant_from", "Whose messages are: `fixed`, all of one source; `application`, by the application id in the topic, which the platform has mapped (`/v1/platform/mappings`); `checked`, by topics `rf/{tenant}/{source}/up`, which the broker must have checked by asking us", func(c *Connection, v *yaml.Node) error {
			err := scalar(v, "text", (*string)(&c.TenantFrom))
			if err == nil && c.TenantFrom != Fixed && c.TenantFrom != Application && c.TenantFrom != Checked {
				err = errors.New("want fixed, application or checked")
			}
			return err
		}},
		{"tenant", "Of `fixed`: the tenant, `ten_…`", func(c *Connection, v *yaml.Node) error { return id(v, &c.Tenant) }},
		{"source", "Of `fixed`: its source, `src_…`", func(c *Connection, v *yaml.Node) error { return id(v, &c.Source) }},
	}
}

// scalar reads one value. What stands there is not repeated: somebody may have written a secret in the wrong line.
func scalar(v *yaml.Node, want string, into any) error {
	if v.Kind != yaml.ScalarNode || v.Tag == "!!null" || len(v.Value) > maxPath || v.Decode(into) != nil {
		return errors.New("want " + want)
	}
	if s, ok := into.(*string); ok && (*s == "" || strings.ContainsFunc(*s, func(r rune) bool { return r < ' ' || r == 0x7f })) {
		return errors.New("want " + want + ", on one line")
	}
	return nil
}

type parser interface{ UnmarshalText(text []byte) error }

func id(v *yaml.Node, into parser) error {
	if v.Kind != yaml.ScalarNode || into.UnmarshalText([]byte(v.Value)) != nil {
		return errors.New("want an id, as the API tells it")
	}
	return nil
}

// Parse reads a file of connections: a YAML list of them. Every mistake is told at once, with its line; an unknown key is told
// with the nearest known one. No value is ever repeated, and a password stands in a file of its own.
func Parse(file []byte) ([]Connection, error) {
	if len(file) > maxFile {
		return nil, invalid([]error{fmt.Errorf("the file is larger than %d bytes", maxFile)})
	}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(file))
	if err := d.Decode(&doc); err != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.SequenceNode {
		return nil, invalid([]error{errors.New("want a YAML list of connections, each beginning with - name: NAME")})
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, invalid([]error{errors.New("want one YAML document")})
	}
	list := doc.Content[0].Content
	if len(list) == 0 || len(list) > maxConnected {
		return nil, invalid([]error{fmt.Errorf("%d connections: want 1 to %d", len(list), maxConnected)})
	}
	var wrong []error
	var out []Connection
	for _, n := range list {
		c, errs := parse(n)
		if slices.ContainsFunc(out, func(other Connection) bool { return c.Name != "" && other.Name == c.Name }) {
			errs = append(errs, errors.New("name: another connection has it"))
		}
		for _, err := range errs {
			wrong = append(wrong, fmt.Errorf("connection at line %d: %w", n.Line, err))
		}
		out = append(out, c)
	}
	if err := invalid(wrong); err != nil {
		return nil, err
	}
	return out, nil
}

// parse reads one connection.
func parse(n *yaml.Node) (c Connection, wrong []error) {
	if n.Kind != yaml.MappingNode {
		return c, []error{errors.New("want lines of KEY: VALUE")}
	}
	known, seen := settings(), map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(known, func(s setting) bool { return s.key == key.Value })
		switch {
		case key.Kind != yaml.ScalarNode || len(key.Value) > maxName || at < 0:
			wrong = append(wrong, fmt.Errorf("line %d: there is no such key; did you mean %s?", key.Line, nearest(key.Value, known)))
		case seen[key.Value]:
			wrong = append(wrong, fmt.Errorf("%s: it stands there twice", known[at].key))
		default:
			seen[key.Value] = true
			if err := known[at].set(&c, v); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", known[at].key, err))
			}
		}
	}
	if len(wrong) > 0 { // what follows would only say the same again
		return c, wrong
	}
	if c.Group != "" && !seen["presence"] {
		c.Presence = true
	}
	if len(c.Filters) == 0 {
		c.Filters = usual(c)
	}
	return c, append(c.Check(), c.whose()...)
}

// usual are the filters of a connection that names none.
func usual(c Connection) []string {
	switch {
	case c.TenantFrom == Checked:
		return []string{CheckedFilter}
	case c.Format == source.ChirpStack:
		return []string{uplink.ChirpStackTopic}
	case c.Format == source.TTS:
		return []string{uplink.TTSTopic}
	}
	return nil
}

// whose looks whether it is said whose the messages are.
func (c Connection) whose() (wrong []error) {
	bad := func(s string) { wrong = append(wrong, errors.New(s)) }
	if c.Format == "" {
		bad("format: want chirpstack, tts or plain")
	}
	fixed := c.Tenant != ident.Tenant{} || c.Source != ident.Source{}
	switch c.TenantFrom {
	case Fixed:
		if c.Tenant == (ident.Tenant{}) || c.Source == (ident.Source{}) {
			bad("tenant and source: want both, since tenant_from is fixed")
		}
	case Application, Checked:
		if fixed {
			bad("tenant and source: want neither, unless tenant_from is fixed")
		}
		if c.TenantFrom == Checked && !slices.Equal(c.Filters, []string{CheckedFilter}) {
			bad("filters: want none, or " + CheckedFilter + " alone, since tenant_from is checked")
		}
	default:
		bad("tenant_from: want fixed, application or checked")
	}
	return wrong
}

// nearest is the known key that takes the fewest edits.
func nearest(key string, known []setting) string {
	key = key[:min(len(key), maxName)]
	best, least := "", 1<<30
	for _, s := range known {
		if n := distance(key, s.key); n < least {
			best, least = s.key, n
		}
	}
	if best == "password" {
		return "password_file"
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
