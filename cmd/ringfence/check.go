package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/cmd/internal/brokers"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/cmd/internal/telemetry"
)

// together judges what each setting cannot be judged for alone.
func (c config) together() (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if (c.str("tls_cert_file") == "") != (c.str("tls_key_file") == "") {
		say("tls_cert_file and tls_key_file belong together; set both, or neither")
	}
	if settings.Open(c.str("listen")) && c.str("tls_cert_file") == "" && !c.flag("plain_http") {
		say("listen: %s is not loopback and has no TLS; set tls_cert_file and tls_key_file, or plain_http: true behind a proxy that ends TLS", c.str("listen"))
	}
	if settings.Open(c.str("metrics_listen")) && !c.flag("metrics_plain_http") {
		say("metrics_listen: %s is not loopback, and metrics are told to everybody, in clear; listen on loopback, or set metrics_plain_http: true if only those who may read them reach it", c.str("metrics_listen"))
	}
	clear := c.str("tls_cert_file") == ""
	if c.flag("mqtt") && settings.Open(c.str("mqtt_listen")) && clear && !c.flag("mqtt_plain") {
		say("mqtt_listen: %s is not loopback and has no TLS; set tls_cert_file and tls_key_file, or mqtt_plain: true if nobody else listens on the way", c.str("mqtt_listen"))
	}
	wrong = append(wrong, brokers.Together(c.Config, clear)...)
	if err := c.passwordCost().Check(); err != nil {
		say("password_memory_kib, password_time: %w; the default is %d and %d", err, localauth.DefaultCost.Memory, localauth.DefaultCost.Time)
	}
	return append(wrong, telemetry.Together(c.Config)...)
}

// judge reads the files that the settings name.
func (c config) judge() error {
	var wrong []error
	if _, err := c.certificate(); err != nil {
		wrong = append(wrong, err)
	}
	if _, err := brokers.CAs(c.Config); err != nil {
		wrong = append(wrong, err)
	}
	if err := telemetry.Files(c.Config); err != nil {
		wrong = append(wrong, err)
	}
	if file := c.str("known_passwords_file"); file != "" {
		f, err := os.Open(file) //nolint:gosec // named by the operator
		if err != nil {
			wrong = append(wrong, fmt.Errorf("known_passwords_file: %w", err))
		} else {
			_ = f.Close()
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %w", errConfig, errors.Join(wrong...))
	}
	return nil
}

// certificate is what the API speaks TLS with; nil if it does not.
func (c config) certificate() (*tls.Config, error) {
	file := c.str("tls_cert_file")
	if file == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(file, c.str("tls_key_file"))
	if err != nil {
		return nil, fmt.Errorf("tls_cert_file, tls_key_file: %w; want a certificate chain and its key, both PEM", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// inPlace refuses a folder that no server ever ran in: what works on a server's data must not begin another's.
func (c config) inPlace() error {
	for _, name := range []string{"keys/instance", databaseFile} {
		if _, err := os.Stat(c.dataFile(name)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no server's data in %s (%s is missing); name the folder with --set data=FOLDER; where PostgreSQL keeps it, platform-api has the host's commands: reset, audit-key", c.str("data"), name)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// The database's name in the data folder, and that of the file which says that keys and database were made.
const (
	databaseFile = "ringfence.db"
	completeFile = "complete"
)

// whole refuses keys without their database and a database without its keys: a new one in its place would hide that
// everything is lost. At a first start the keys are there before the database is, and it may be cut off in between: only what
// was once complete is missed.
func (c config) whole() error {
	keys, err := there(c.dataFile("keys/instance"))
	database, err2 := there(c.dataFile(databaseFile))
	complete, err3 := there(c.dataFile(completeFile))
	err = errors.Join(err, err2, err3)
	switch {
	case err != nil:
		return err
	case keys && !database && complete:
		return fmt.Errorf("the keys in %s are of a database that is gone: %s; put it back from your backup, or, to begin with nothing, move the keys away too", c.dataFile("keys"), c.dataFile(databaseFile))
	case database && !keys:
		return fmt.Errorf("the database %s is there, and the keys in %s, which alone open what is sealed in it, are gone; put them back from your backup, or, to begin with nothing, move the database away too", c.dataFile(databaseFile), c.dataFile("keys"))
	}
	return nil
}

// there reports whether a file holds anything.
func there(path string) (bool, error) {
	info, err := os.Stat(path) //nolint:gosec // named by the operator
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() > 0, err
}
