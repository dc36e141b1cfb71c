package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ringfence/ringfence/core/tenant"
)

// setting is one thing that can be configured. This table is the only place where it is named, described and checked: the
// README's table is made from it.
type setting struct {
	key, def, doc string
	check         func(string) error
}

var errConfig = errors.New("configuration")

var d, most = tenant.DefaultLimits, tenant.MaxLimits

var settings = []setting{
	{"data", "data", "Folder of database and keys; made at first start, readable by its owner alone", notEmpty},
	{"listen", "127.0.0.1:8080", "Address of the API", address},
	{"metrics_listen", "127.0.0.1:9090", "Address of the metrics, which are at `/metrics` in plain HTTP; empty: none", optional(address)},
	{"metrics_plain_http", "false", "Allow the metrics on an address that is not loopback", boolean},
	{"public_url", "", "What links begin with, such as `https://iot.example.com`; empty: made from `listen`, with the machine's own name if that is every address", optional(origin)},
	{"tls_cert_file", "", "Certificate chain, PEM; with `tls_key_file` the API speaks TLS", any1},
	{"tls_key_file", "", "Its key, PEM", any1},
	{"plain_http", "false", "Allow plain HTTP, of API and metrics, on an address that is not loopback: for a proxy in front that ends TLS", boolean},
	{"trusted_proxies", "", "Networks whose `X-Forwarded-For` is believed, such as `10.0.0.0/8`, separated by commas", prefixes},
	{"docs", "true", "Serve `/openapi.json`, `/openapi.yaml` and `/docs`", boolean},
	{"log_level", "info", "`debug`, `info`, `warn` or `error`", oneOf("debug", "info", "warn", "error")},
	{"known_passwords_file", "", "More known passwords to refuse, one a line", any1},
	{"password_memory_kib", "47104", "Argon2id memory in KiB", number(8, 1<<20)},
	{"password_time", "1", "Argon2id passes", number(1, 16)},
	{"processing", "true", "Decode what was accepted; `false`: events are taken in and wait, for maintenance", boolean},
	{"decoder_workers", "0", "Decoders at the same time; 0: as many as cores", number(0, 256)},
	{"decoder_cache_bytes", "67108864", "Memory for loaded decoders", number(1<<20, 1<<40)},
	{"max_connections", "2000", "Connections at the same time", number(1, 1<<20)},
	{"max_connections_per_address", "100", "Connections of one address at the same time", number(1, 1<<20)},
	limited("source_rate", d.SourceRate, most.SourceRate, "Events a second, per source"),
	limited("source_burst", d.SourceBurst, most.SourceBurst, "Events at once, per source"),
	limited("ingest_rate", d.IngestRate, most.IngestRate, "Events a second, per tenant"),
	limited("ingest_burst", d.IngestBurst, most.IngestBurst, "Events at once, per tenant"),
	limited("ingest_in_flight", d.InFlight, most.InFlight, "Ingest requests at the same time, per tenant"),
	limited("ingest_backlog", d.Backlog, most.Backlog, "Uplinks that may wait to be decoded, per tenant"),
	limited("fuel_per_minute", int(d.FuelPerMinute), int(most.FuelPerMinute), "Decoder fuel a minute, per tenant"),
	limited("principal_rate", d.PrincipalRate, most.PrincipalRate, "API requests a second, per person or account"),
	limited("principal_burst", d.PrincipalBurst, most.PrincipalBurst, "API requests at once, per person or account"),
	limited("tenant_rate", d.TenantRate, most.TenantRate, "API requests a second, per tenant"),
	limited("devices", d.Devices, most.Devices, "Devices a tenant may have"),
	limited("nodes", d.Nodes, most.Nodes, "Org nodes a tenant may have"),
	limited("members", d.Members, most.Members, "Members a tenant may have, open invitations included"),
	limited("invitations", d.Invitations, most.Invitations, "Open invitations a tenant may have"),
	limited("groups", d.Groups, most.Groups, "Groups a tenant may have"),
	limited("roles", d.Roles, most.Roles, "Roles of its own a tenant may have"),
	limited("memberships", d.Memberships, most.Memberships, "Memberships a tenant may have"),
	limited("decoders", d.Decoders, most.Decoders, "Decoders a tenant may have"),
	limited("versions", d.Versions, most.Versions, "Versions kept of a decoder"),
	limited("sources", d.Sources, most.Sources, "Sources a tenant may have"),
	limited("keys_per_source", d.KeysPerSource, most.KeysPerSource, "Ingestion keys of a source at the same time"),
	limited("tokens_per_person", d.TokensPerPerson, most.TokensPerPerson, "Personal access tokens of a person in a tenant"),
}

// limited is the server's own limit of one kind, at most what may be granted to a tenant.
func limited(key string, def, most int, doc string) setting {
	return setting{key, strconv.Itoa(def), doc, number(1, most)}
}

// config is the settings in effect.
type config struct{ values map[string]string }

func (c config) str(key string) string { return c.values[key] }
func (c config) flag(key string) bool  { return c.values[key] == "true" }

// num is a number that was checked when it was read.
func (c config) num(key string) int {
	n, _ := strconv.Atoi(c.values[key])
	return n
}

func (c config) limits() tenant.Limits {
	l := tenant.DefaultLimits
	l.SourceRate, l.SourceBurst, l.IngestRate, l.IngestBurst = c.num("source_rate"), c.num("source_burst"), c.num("ingest_rate"), c.num("ingest_burst")
	l.InFlight, l.Backlog, l.FuelPerMinute = c.num("ingest_in_flight"), c.num("ingest_backlog"), int64(c.num("fuel_per_minute"))
	l.PrincipalRate, l.PrincipalBurst, l.TenantRate = c.num("principal_rate"), c.num("principal_burst"), c.num("tenant_rate")
	l.Devices, l.Nodes, l.Members, l.Invitations, l.Groups = c.num("devices"), c.num("nodes"), c.num("members"), c.num("invitations"), c.num("groups")
	l.Roles, l.Memberships, l.Decoders, l.Versions = c.num("roles"), c.num("memberships"), c.num("decoders"), c.num("versions")
	l.Sources, l.KeysPerSource, l.TokensPerPerson = c.num("sources"), c.num("keys_per_source"), c.num("tokens_per_person")
	return l
}

func defaults() map[string]string {
	values := make(map[string]string, len(settings))
	for _, s := range settings {
		values[s.key] = s.def
	}
	return values
}

// loadConfig reads the file, then RINGFENCE_… from the environment (RINGFENCE_…_FILE names a file that holds the value), then
// the command line. What the settings name is not looked at: see judge. Every mistake is told at once; an unknown key is told with the nearest known one.
func loadConfig(file string, flags []string, env environment) (config, error) {
	c := config{values: defaults()}
	var wrong []error
	set := func(from, key, value string) {
		i := indexOf(key)
		if i < 0 {
			wrong = append(wrong, fmt.Errorf("%s: there is no setting %q; did you mean %q?", from, key, nearest(key, keys())))
			return
		}
		if err := settings[i].check(value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %s: %w", from, key, err))
			return
		}
		c.values[key] = value
	}
	if file == "" {
		if _, err := os.Stat("ringfence.yaml"); err == nil {
			file = "ringfence.yaml"
		}
	}
	if file != "" {
		raw, err := os.ReadFile(file) //nolint:gosec // named by the operator
		if err != nil {
			return c, fmt.Errorf("%w: %w", errConfig, err)
		}
		var values map[string]string
		if err := yaml.Unmarshal(raw, &values); err != nil {
			return c, fmt.Errorf("%w: %s: want lines of KEY: VALUE", errConfig, file)
		}
		for _, key := range sorted(values) {
			set(file, key, values[key])
		}
	}
	wrong = append(wrong, strangers(env)...)
	for _, s := range settings {
		name := variable(s.key)
		if path, ok := env.lookup(name + "_FILE"); ok && indexOf(s.key+"_file") < 0 {
			raw, err := os.ReadFile(path) //nolint:gosec // named by the operator
			if err != nil {
				wrong = append(wrong, err)
				continue
			}
			set(name+"_FILE", s.key, strings.TrimSpace(string(raw)))
		} else if v, ok := env.lookup(name); ok {
			set(name, s.key, v)
		}
	}
	for _, f := range flags {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			wrong = append(wrong, fmt.Errorf("--set %s: want KEY=VALUE", f))
			continue
		}
		set("--set", key, value)
	}
	wrong = append(wrong, c.together()...)
	if len(wrong) > 0 {
		return c, fmt.Errorf("%w: %w", errConfig, errors.Join(wrong...))
	}
	return c, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

func indexOf(key string) int {
	for i, s := range settings {
		if s.key == key {
			return i
		}
	}
	return -1
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func keys() []string {
	out := make([]string, len(settings))
	for i, s := range settings {
		out[i] = s.key
	}
	return out
}

// nearest is the known name that takes the fewest edits.
func nearest(name string, known []string) string {
	best, least := "", 1<<30
	for _, k := range known {
		if n := distance(name, k); n < least {
			best, least = k, n
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func any1(string) error { return nil }

func notEmpty(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func optional(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func address(s string) error {
	if _, _, err := net.SplitHostPort(s); err != nil {
		return errors.New("want HOST:PORT, such as 127.0.0.1:8080")
	}
	return nil
}

func origin(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" {
		return errors.New("want an origin, such as https://iot.example.com")
	}
	return nil
}

func boolean(s string) error { return oneOf("true", "false")(s) }

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		for _, w := range words {
			if s == w {
				return nil
			}
		}
		return fmt.Errorf("want one of %s", strings.Join(words, ", "))
	}
}

func number(low, high int) func(string) error {
	return func(s string) error {
		if n, err := strconv.Atoi(s); err != nil || n < low || n > high {
			return fmt.Errorf("want a number from %d to %d", low, high)
		}
		return nil
	}
}

func prefixes(s string) error {
	_, err := parsePrefixes(s)
	return err
}

func parsePrefixes(s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, errors.New("want networks, such as 10.0.0.0/8, separated by commas")
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// dataFile is a path inside the data folder.
func (c config) dataFile(name string) string { return filepath.Join(c.str("data"), name) }
