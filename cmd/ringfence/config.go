package main

import (
	"path/filepath"
	"slices"

	"github.com/ringfence/ringfence/cmd/internal/brokers"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/cmd/internal/telemetry"
)

var errConfig = settings.Err

// table is what the server can be told. The README's table is made from it.
var table = append(settings.Table{
	settings.Of("data", "data", "Folder of database and keys; made at first start, readable by its owner alone", settings.NotEmpty),
	settings.Of("listen", "127.0.0.1:8080", "Address of the API", settings.Address),
	settings.Of("metrics_listen", "127.0.0.1:9090", "Address of the metrics, which are at `/metrics` in plain HTTP; empty: none", settings.Optional(settings.Address)),
	settings.Of("metrics_plain_http", "false", "Allow the metrics on an address that is not loopback", settings.Boolean),
	settings.Of("public_url", "", "What links begin with, such as `https://iot.example.com`; empty: made from `listen`, with the machine's own name if that is every address", settings.Optional(settings.Origin)),
	settings.Of("tls_cert_file", "", "Certificate chain, PEM; with `tls_key_file` the API speaks TLS", settings.Any),
	settings.Of("tls_key_file", "", "Its key, PEM", settings.Any),
	settings.Of("plain_http", "false", "Allow plain HTTP, of API and metrics, on an address that is not loopback: for a proxy in front that ends TLS", settings.Boolean),
	settings.Of("trusted_proxies", "", "Networks whose `X-Forwarded-For` is believed, such as `10.0.0.0/8`, separated by commas", settings.Prefixes),
	settings.Of("docs", "true", "Serve `/openapi.json`, `/openapi.yaml` and `/docs`", settings.Boolean),
	settings.Of("log_level", "info", "`debug`, `info`, `warn` or `error`", settings.OneOf("debug", "info", "warn", "error")),
	settings.Of("known_passwords_file", "", "More known passwords to refuse, one a line", settings.Any),
	settings.Of("password_memory_kib", "47104", "Argon2id memory in KiB", settings.Number(8, 1<<20)),
	settings.Of("password_time", "1", "Argon2id passes", settings.Number(1, 16)),
	settings.Of("processing", "true", "Decode what was accepted; `false`: events are taken in and wait, for maintenance", settings.Boolean),
	settings.Of("decoder_workers", "0", "Decoders at the same time; 0: as many as cores", settings.Number(0, 256)),
	settings.Of("decoder_cache_bytes", "67108864", "Memory for loaded decoders", settings.Number(1<<20, 1<<40)),
	settings.Of("max_connections", "2000", "Connections at the same time", settings.Number(1, 1<<20)),
	settings.Of("max_connections_per_address", "100", "Connections of one address at the same time", settings.Number(1, 1<<20)),
	settings.Of("mqtt", "false", "Be an MQTT broker too, as `serve --mqtt` says", settings.Boolean),
	settings.Of("mqtt_listen", "127.0.0.1:1883", "Address of the MQTT broker; TLS with the API's certificate, if it has one", settings.Address),
	settings.Of("mqtt_plain", "false", "Allow MQTT without TLS on an address that is not loopback: keys are then told to whoever listens on the way", settings.Boolean),
	settings.Of("mqtt_sessions", "2000", "MQTT connections at the same time, and sessions that are kept", settings.Number(1, 1<<20)),
	settings.Of("mqtt_sessions_per_source", "20", "Of them, of one source", settings.Number(1, 1<<20)),
}, slices.Concat(brokers.Settings(), telemetry.Settings(), settings.Limits())...)

// config is the settings in effect.
type config struct{ settings.Config }

func (c config) str(key string) string { return c.Str(key) }
func (c config) flag(key string) bool  { return c.Flag(key) }
func (c config) num(key string) int    { return c.Num(key) }

// loadConfig reads the settings from everywhere. What they name is not looked at: see judge.
func loadConfig(file string, flags []string, env environment) (config, error) {
	read, wrong, err := table.Load(file, flags, settings.Environment{Lookup: env.lookup, Names: env.names, Others: others})
	c := config{read}
	if err != nil {
		return c, err
	}
	return c, settings.All(append(wrong, c.together()...))
}

// others are the names of the environment that mean something to us and are no settings.
var others = []string{tokenVariable, databaseVariable, retentionVariable}

// dataFile is a path inside the data folder.
func (c config) dataFile(name string) string { return filepath.Join(c.str("data"), name) }
