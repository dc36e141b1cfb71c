package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/cmd/internal/telemetry"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// application is everything wired: who is given to whom, and nothing else.
type application struct {
	store    store.Store
	engine   sandbox.Engine
	keys     *keyring.Keyring
	limiter  *memlimit.Limiter
	signin   *signin.SignIn
	ingest   *ingest.Ingest
	disclose *disclose.Disclose
	enter    *enter.Enter
	api      *httpapi.API
	metrics  *httpapi.Metrics
	log      *slog.Logger
	cache    *enter.Cache
	tracer   trace.Tracer          // nil: no collector is told
	told     func(context.Context) // ends what a collector is told; nil: it was not begun
	node     string                // which of our processes
	mqtt     string                // where the MQTT broker listens, once it does
	workers  int
	locked   *os.File // the data folder is ours while it is open
}

const (
	cachedTenants = 10_000
	limitedKeys   = 100_000
)

// wire opens the data folder and builds the application.
func wire(ctx context.Context, c config, stderr io.Writer) (*application, error) {
	app, err := opened(ctx, c, stderr)
	if err != nil {
		return nil, err
	}
	return app.built(ctx, c, app.rest)
}

// built has on its data what build makes of it, or is closed.
func (app *application) built(ctx context.Context, c config, build func(context.Context, config, *localauth.Passwords) error) (*application, error) {
	passwords, err := openPasswords(c)
	if err == nil {
		err = build(ctx, c, passwords)
	}
	if err != nil {
		return nil, errors.Join(err, app.close(ctx))
	}
	return app, nil
}

// beside is what the host's own commands need of the application, and works while a server runs on the same folder: each change
// is one transaction that begins by reading the log's head, and the server sees that another process wrote. It leaves out what
// only one process may do: bring the schema up to date, work through jobs, keep what it read.
func beside(ctx context.Context, c config, stderr io.Writer) (*application, error) {
	app, err := unopened(c, stderr)
	if err == nil {
		err = app.openData(ctx, c, sqlite.Options{Beside: true})
	}
	if err != nil {
		return nil, err
	}
	return app.built(ctx, c, app.people)
}

// opened has the data folder for this process alone and its keys and database open, and nothing built on them yet.
func opened(ctx context.Context, c config, stderr io.Writer) (*application, error) {
	app, err := unopened(c, stderr)
	if err != nil {
		return nil, err
	}
	if app.locked, err = lock(c.dataFile("lock")); err != nil {
		return nil, err
	}
	if err := app.openData(ctx, c, sqlite.Options{Revised: app.cache.Revised}); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.dataFile(completeFile), []byte("keys and database of this folder belong together\n"), 0o600); err != nil { //nolint:gosec // as above
		return nil, errors.Join(err, app.close(ctx))
	}
	return app, nil
}

// unopened has nothing open.
func unopened(c config, stderr io.Writer) (*application, error) {
	if err := ownFolder(c.str("data")); err != nil {
		return nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.str("log_level"))); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	app := &application{
		log: telemetry.Log(stderr, level), metrics: httpapi.NewMetrics(), workers: c.num("decoder_workers"),
		cache: enter.NewCache(cachedTenants), node: host,
	}
	if app.workers == 0 {
		app.workers = runtime.GOMAXPROCS(0)
	}
	return app, nil
}

// openData opens keys and database, or closes what is open.
func (app *application) openData(ctx context.Context, c config, o sqlite.Options) error {
	err := c.whole()
	if err == nil {
		app.keys, err = keyring.Open(c.dataFile("keys"))
	}
	if err != nil {
		return errors.Join(err, app.close(ctx))
	}
	o.Path, o.Now, o.Version, o.Node = c.dataFile(databaseFile), time.Now, version(), app.node
	st, err := sqlite.Open(ctx, o)
	if err != nil {
		return errors.Join(err, app.close(ctx)) // and app.store stays nil, which a nil store in it would not be
	}
	app.store = st
	return nil
}

// people builds what knows who is who, if the keys are the database's.
func (app *application) people(ctx context.Context, c config, passwords *localauth.Passwords) error {
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }} // never fails: the runtime stops the program
	app.enter = enter.New(app.store, app.cache, enter.Recorder{Mint: mint, Sealer: app.keys, Peppers: app.keys}, app.log)
	strange, err := app.enter.Strangers(ctx, app.keys)
	if err == nil && len(strange) > 0 {
		err = fmt.Errorf("the keys in %s are not all of the database %s, which was made with another %s; what that key sealed or signed cannot be used; put it back from your backup", c.dataFile("keys"), c.dataFile(databaseFile), strings.Join(strange, ", "))
	}
	app.limiter = memlimit.New(time.Now, limitedKeys)
	app.signin = signin.New(app.enter, app.store, passwords, app.limiter)
	return err
}

// rest builds what stands on keys and store.
func (app *application) rest(ctx context.Context, c config, passwords *localauth.Passwords) error {
	if err := app.people(ctx, c, passwords); err != nil {
		return err
	}
	engine, err := quickjssandbox.New(ctx, quickjssandbox.Options{Instances: app.workers, CacheBytes: int64(c.num("decoder_cache_bytes")), CompileDir: c.dataFile("engine")})
	if err != nil {
		return err // and app.engine stays nil, which a nil engine in it would not be
	}
	app.engine = engine
	app.tracer, app.told, err = telemetry.Open(c.Config, app.metrics, "ringfence", version(), app.node, app.log)
	if err != nil {
		return err
	}
	app.metrics.Ready(app.enter.Ready)
	limits := c.Limits()
	app.ingest = ingest.New(app.enter, app.store, app.engine, app.limiter, limits, app.log)
	app.ingest.Traced(app.tracer)
	app.disclose = disclose.New(app.enter, app.store, app.keys)
	trusted, err := settings.ParsePrefixes(c.str("trusted_proxies"))
	if err != nil {
		return err
	}
	cursorKey, err := app.keys.Derive("cursors")
	if err != nil {
		return err
	}
	app.api, err = httpapi.New(httpapi.Options{
		Enter: app.enter, SignIn: app.signin, Manage: manage.New(app.enter, app.store, app.ingest.Trials(app.workers-1), limits, app.ingest.Again), Ingest: app.ingest, Disclose: app.disclose,
		Limiter: app.limiter, Limits: limits, CursorKey: cursorKey, PublicURL: strings.TrimSuffix(publicURL(c), "/"), Trusted: trusted, Docs: c.flag("docs"),
		Ready: app.enter.Ready, Metrics: app.metrics, Tracer: app.tracer, Log: app.log, Version: version(), Node: app.node,
	})
	return err
}

func openPasswords(c config) (*localauth.Passwords, error) {
	o := localauth.Options{Cost: c.passwordCost()}
	if file := c.str("known_passwords_file"); file != "" {
		f, err := os.Open(file) //nolint:gosec // named by the operator
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		o.Known = f
	}
	return localauth.New(o)
}

func (c config) passwordCost() localauth.Cost {
	return localauth.Cost{Memory: uint32(c.num("password_memory_kib")), Time: uint32(c.num("password_time"))} //nolint:gosec // checked settings
}

// publicURL is what links begin with. A server that listens on all addresses is named as its machine names itself, for want
// of a better name.
func publicURL(c config) string {
	if u := c.str("public_url"); u != "" {
		return u
	}
	at := c.str("listen")
	if host, port, err := net.SplitHostPort(at); err == nil && everywhere(host) {
		if host, err = os.Hostname(); err != nil {
			host = "localhost"
		}
		at = net.JoinHostPort(host, port)
	}
	if c.str("tls_cert_file") != "" {
		return "https://" + at
	}
	return "http://" + at
}

// everywhere reports whether a host is all addresses of the machine, which is nothing that a browser can open.
func everywhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// guessed says that links begin with a guess.
func guessed(c config) string {
	if host, _, err := net.SplitHostPort(c.str("listen")); c.str("public_url") != "" || err != nil || !everywhere(host) {
		return ""
	}
	return "Links name this machine as it names itself, since public_url is not set; set it to what others reach it by, such as https://iot.example.com.\n"
}

func (app *application) close(ctx context.Context) error {
	var err error
	if app.engine != nil {
		err = app.engine.Close(ctx)
	}
	if app.store != nil {
		err = errors.Join(err, app.store.Close())
	}
	if app.locked != nil {
		err = errors.Join(err, app.locked.Close())
	}
	if app.told != nil {
		app.told(ctx)
	}
	return err
}
