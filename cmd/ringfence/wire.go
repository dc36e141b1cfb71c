package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

// application is everything wired: who is given to whom, and nothing else.
type application struct {
	store    store.Store
	engine   sandbox.Engine
	keys     *keyring.Keyring
	signin   *signin.SignIn
	ingest   *ingest.Ingest
	disclose *disclose.Disclose
	enter    *enter.Enter
	api      *httpapi.API
	metrics  *httpapi.Metrics
	log      *slog.Logger
	cache    *enter.Cache
	node     string // which of our processes
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
	passwords, err := openPasswords(c)
	if err == nil {
		err = app.rest(ctx, c, passwords)
	}
	if err != nil {
		return nil, errors.Join(err, app.close(ctx))
	}
	return app, nil
}

// opened has the data folder's keys and database open, and nothing built on them yet.
func opened(ctx context.Context, c config, stderr io.Writer) (*application, error) {
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
		log: slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})), metrics: httpapi.NewMetrics(), workers: c.num("decoder_workers"),
		cache: enter.NewCache(cachedTenants), node: host,
	}
	if app.workers == 0 {
		app.workers = runtime.GOMAXPROCS(0)
	}
	if app.locked, err = lock(c.dataFile("lock")); err != nil {
		return nil, err
	}
	if err := c.whole(); err != nil {
		return nil, errors.Join(err, app.close(ctx))
	}
	if app.keys, err = keyring.Open(c.dataFile("keys")); err != nil {
		return nil, errors.Join(err, app.close(ctx))
	}
	st, err := sqlite.Open(ctx, sqlite.Options{Path: c.dataFile(databaseFile), Now: time.Now, Revised: app.cache.Revised, Version: version(), Node: host})
	if err != nil {
		return nil, errors.Join(err, app.close(ctx))
	}
	app.store = st
	if err := os.WriteFile(c.dataFile(completeFile), []byte("keys and database of this folder belong together\n"), 0o600); err != nil {
		return nil, errors.Join(err, app.close(ctx))
	}
	return app, nil
}

// rest builds what stands on keys and store.
func (app *application) rest(ctx context.Context, c config, passwords *localauth.Passwords) error {
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }} // never fails: the runtime stops the program
	app.enter = enter.New(app.store, app.cache, enter.Recorder{Mint: mint, Sealer: app.keys, Peppers: app.keys}, app.log)
	if strange, err := app.enter.Strangers(ctx, app.keys); err != nil {
		return err
	} else if len(strange) > 0 {
		return fmt.Errorf("the keys in %s are not all of the database %s, which was made with another %s; what that key sealed or signed cannot be used; put it back from your backup", c.dataFile("keys"), c.dataFile(databaseFile), strings.Join(strange, ", "))
	}
	engine, err := quickjssandbox.New(ctx, quickjssandbox.Options{Instances: app.workers, CacheBytes: int64(c.num("decoder_cache_bytes")), CompileDir: c.dataFile("engine")})
	if err != nil {
		return err // and app.engine stays nil, which a nil engine in it would not be
	}
	app.engine = engine
	limiter := memlimit.New(time.Now, limitedKeys)
	limits := c.limits()
	app.signin = signin.New(app.enter, app.store, passwords, limiter)
	app.ingest = ingest.New(app.enter, app.store, app.engine, limiter, limits, app.log)
	app.disclose = disclose.New(app.enter, app.store, app.keys)
	trusted, err := parsePrefixes(c.str("trusted_proxies"))
	if err != nil {
		return err
	}
	cursorKey, err := app.keys.Derive("cursors")
	if err != nil {
		return err
	}
	app.api, err = httpapi.New(httpapi.Options{
		Enter: app.enter, SignIn: app.signin, Manage: manage.New(app.enter, app.store, app.ingest.Trials(app.workers-1), limits, app.ingest.Again), Ingest: app.ingest, Disclose: app.disclose,
		Limiter: limiter, Limits: limits, CursorKey: cursorKey, PublicURL: strings.TrimSuffix(publicURL(c), "/"), Trusted: trusted, Docs: c.flag("docs"),
		Ready: app.enter.Ready, Metrics: app.metrics, Log: app.log, Version: version(), Node: app.node,
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

func publicURL(c config) string {
	if u := c.str("public_url"); u != "" {
		return u
	}
	if c.str("tls_cert_file") != "" {
		return "https://" + c.str("listen")
	}
	return "http://" + c.str("listen")
}

func (app *application) close(ctx context.Context) error {
	var err error
	if app.engine != nil {
		err = app.engine.Close(ctx)
	}
	if app.store != nil {
		err = errors.Join(err, app.store.Close())
	}
	return errors.Join(err, app.locked.Close())
}
