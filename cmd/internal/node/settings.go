// Package node is what the binaries of the scaled-out deployment share: how they reach database and bus, say that they are ready,
// and stop. What each does is its own.
package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/uplink"
)

// Settings are those that every node has.
func Settings() settings.Table {
	return settings.Table{
		settings.Of("log_level", "info", "`debug`, `info`, `warn` or `error`", settings.OneOf("debug", "info", "warn", "error")),
		settings.Of("metrics_listen", "127.0.0.1:9090", "Address of `/metrics`, `/healthz` and `/readyz`, in plain HTTP", settings.Address),
		settings.Of("metrics_plain_http", "false", "Allow that on an address that is not loopback: for probes and Prometheus within a network policy", settings.Boolean),
		settings.Of("replicas", "1", "How many processes of this kind there are: rates and fuel are for all of them together", settings.Number(1, 1_000)),
		settings.Hidden("database_url", "PostgreSQL as `ringfence_runtime` signs in, or `ringfence_reader` for mqtt-ingestion-worker: `postgres://ringfence_runtime:…@host/ringfence?sslmode=verify-full`", settings.NotEmpty),
		settings.Of("database_connections", "10", "Connections to PostgreSQL at most", settings.Number(2, 1_000)),
		settings.Of("database_plaintext", "false", "Allow a database that is neither on this machine nor reached by verified TLS", settings.Boolean),
		settings.Of("kafka_brokers", "", "Kafka's addresses, `host:port` separated by commas", brokers),
		settings.Of("kafka_user", "", "Name for SASL/SCRAM-SHA-512", settings.Any),
		settings.Hidden("kafka_password", "Its password", settings.Any),
		settings.Of("kafka_ca_file", "", "Certificates that Kafka's is verified by, PEM; empty: the system's", settings.Any),
		settings.Of("kafka_cert_file", "", "Client certificate for Kafka, PEM", settings.Any),
		settings.Of("kafka_key_file", "", "Its key, PEM", settings.Any),
		settings.Of("kafka_plaintext", "false", "Allow a Kafka without TLS or without SASL that is not on this machine", settings.Boolean),
		settings.Of("kafka_prefix", "rf", "What the names of our topics begin with", prefix),
		settings.Of("kafka_write_version", fmt.Sprint(uplink.OldestVersion), "Version of the records that are written: the oldest that is read, until all readers are upgraded and it is raised", settings.Number(uplink.OldestVersion, uplink.Version)),
	}
}

func brokers(s string) error {
	for _, b := range strings.Split(s, ",") {
		if err := settings.Address(strings.TrimSpace(b)); err != nil {
			return errors.New("want HOST:PORT, several separated by commas, such as kafka-0:9092,kafka-1:9092")
		}
	}
	return nil
}

func prefix(s string) error {
	if s == "" || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return errors.New("want lower-case letters, digits and hyphens, at most 64")
	}
	return nil
}

// Together judges what each of these settings cannot be judged for alone.
func Together(c settings.Config) (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if c.Str("database_url") == "" {
		say("database_url: which database? Name a file that holds its URL by %s_FILE", settings.Variable("database_url"))
	} else {
		wrong = append(wrong, SafeDatabase(c, "database_url")...)
	}
	if c.Str("kafka_brokers") == "" {
		say("kafka_brokers: which Kafka? Name its addresses, such as kafka-0:9092,kafka-1:9092")
	}
	if (c.Str("kafka_user") == "") != c.Secret("kafka_password").IsZero() {
		say("kafka_user and kafka_password belong together; set both, or neither")
	}
	if (c.Str("kafka_cert_file") == "") != (c.Str("kafka_key_file") == "") {
		say("kafka_cert_file and kafka_key_file belong together; set both, or neither")
	}
	if !c.Flag("kafka_plaintext") && c.Str("kafka_user") == "" && c.Str("kafka_cert_file") == "" {
		say("kafka_user: a Kafka that does not ask who we are lets everybody read all tenants' events; set kafka_user and kafka_password, or a client certificate, or kafka_plaintext: true on a machine of your own")
	}
	if settings.Open(c.Str("metrics_listen")) && !c.Flag("metrics_plain_http") {
		say("metrics_listen: %s is not loopback, and metrics are told to everybody, in clear; listen on loopback, or set metrics_plain_http: true if only those who may read them reach it", c.Str("metrics_listen"))
	}
	return wrong
}

// SafeDatabase judges a setting that is a database's URL: it leads to this machine, or through TLS that verifies who answers.
func SafeDatabase(c settings.Config, key string) []error {
	verified, err := postgres.Verified(c.Secret(key))
	switch {
	case err != nil:
		return []error{fmt.Errorf("%s: %w", key, err)}
	case !verified && !c.Flag("database_plaintext"):
		return []error{fmt.Errorf("%s: the database is not on this machine and TLS does not verify it; add sslmode=verify-full, or set database_plaintext: true if nobody else reaches that network", key)}
	}
	return nil
}

// KafkaTLS is how Kafka is reached; nil: in clear, which only a Kafka on this machine or an explicit setting is.
func KafkaTLS(c settings.Config) (*tls.Config, error) {
	all := true
	for _, b := range strings.Split(c.Str("kafka_brokers"), ",") {
		all = all && !settings.Open(strings.TrimSpace(b))
	}
	if c.Str("kafka_ca_file") == "" && c.Str("kafka_cert_file") == "" && (c.Flag("kafka_plaintext") || all) {
		return nil, nil
	}
	return settings.TLS(c.Str("kafka_ca_file"), c.Str("kafka_cert_file"), c.Str("kafka_key_file"))
}
