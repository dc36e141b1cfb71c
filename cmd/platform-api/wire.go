package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/cmd/internal/brokers"
	"github.com/ringfence/ringfence/cmd/internal/node"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/sandbox"
)

const (
	leave     = 5 * time.Second  // not ready, so that nobody new is sent here, while those that are here are still answered
	drain     = 15 * time.Second // for requests under way
	jobsEvery = time.Minute
	lookFor   = 10 * time.Second // at partitions
)

func spec() node.Spec {
	return node.Spec{
		Name: "platform-api", About: "The HTTP API over PostgreSQL and Kafka.",
		Table: append(settings.Table{
			settings.Of("keys", "keys", "Folder of keys, made once by `ringfence keys init`", settings.NotEmpty),
			settings.Of("listen", "127.0.0.1:8080", "Address of the API", settings.Address),
			settings.Of("public_url", "", "What links begin with, such as `https://iot.example.com`", settings.Origin),
			settings.Of("tls_cert_file", "", "Certificate chain, PEM; with `tls_key_file` the API speaks TLS", settings.Any),
			settings.Of("tls_key_file", "", "Its key, PEM", settings.Any),
			settings.Of("plain_http", "false", "Allow plain HTTP on an address that is not loopback: for a proxy in front that ends TLS", settings.Boolean),
			settings.Of("trusted_proxies", "", "Networks whose `X-Forwarded-For` is believed, such as `10.0.0.0/8`, separated by commas", settings.Prefixes),
			settings.Of("docs", "true", "Serve `/openapi.json`, `/openapi.yaml` and `/docs`", settings.Boolean),
			settings.Of("known_passwords_file", "", "More known passwords to refuse, one a line", settings.Any),
			settings.Of("password_memory_kib", "47104", "Argon2id memory in KiB", settings.Number(8, 1<<20)),
			settings.Of("password_time", "1", "Argon2id passes", settings.Number(1, 16)),
			settings.Of("decoder_workers", "2", "Scripts that are tried at the same time", settings.Number(1, 256)),
			settings.Of("engine", "", "Folder where the compiled engine is kept between starts; empty: it is compiled at each", settings.Any),
			settings.Of("max_connections", "2000", "Connections at the same time", settings.Number(1, 1<<20)),
			settings.Of("max_connections_per_address", "100", "Connections of one address at the same time", settings.Number(1, 1<<20)),
		}, brokers.Settings()...),
		Together: together, Keys: []keyring.Part{keyring.Seals, keyring.Peppers, keyring.Log}, Engine: engine, Work: work,
		Commands: []node.Command{
			{Name: "setup-link", Help: "Print the link by which the first administrator of the platform comes in, once and for an hour.", Run: &setupCmd{}},
			{Name: "reset", Help: "Print a link that sets a person's password, once and for half an hour: for when nobody can sign in any more.", Run: &resetCmd{}},
			{Name: "audit-key", Help: "Print the policy file of a tenant's log, which verifiers need.", Run: &keyCmd{}},
		},
	}
}

// together judges what each setting cannot be judged for alone.
func together(c settings.Config) (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if (c.Str("tls_cert_file") == "") != (c.Str("tls_key_file") == "") {
		say("tls_cert_file and tls_key_file belong together; set both, or neither")
	}
	if settings.Open(c.Str("listen")) && c.Str("tls_cert_file") == "" && !c.Flag("plain_http") {
		say("listen: %s is not loopback and has no TLS; set tls_cert_file and tls_key_file, or plain_http: true behind a proxy that ends TLS", c.Str("listen"))
	}
	if c.Str("public_url") == "" {
		say("public_url: several servers share one name; say what links begin with, such as https://iot.example.com")
	}
	if err := cost(c).Check(); err != nil {
		say("password_memory_kib, password_time: %w", err)
	}
	if _, err := certificate(c); err != nil {
		wrong = append(wrong, err)
	}
	if _, err := brokers.CAs(c); err != nil {
		wrong = append(wrong, err)
	}
	return append(wrong, brokers.Together(c, c.Str("tls_cert_file") == "")...)
}

func cost(c settings.Config) localauth.Cost {
	return localauth.Cost{Memory: uint32(c.Num("password_memory_kib")), Time: uint32(c.Num("password_time"))} //nolint:gosec // checked settings
}

// certificate is what the API speaks TLS with; nil if it does not.
func certificate(c settings.Config) (*tls.Config, error) {
	if c.Str("tls_cert_file") == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Str("tls_cert_file"), c.Str("tls_key_file"))
	if err != nil {
		return nil, fmt.Errorf("tls_cert_file, tls_key_file: %w; want a certificate chain and its key, both PEM", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

func engine(ctx context.Context, n *node.Node) (sandbox.Engine, error) {
	e, err := quickjssandbox.New(ctx, quickjssandbox.Options{Instances: n.Decoders(), CacheBytes: 16 << 20, CompileDir: n.Config.Str("engine")})
	if err != nil {
		return nil, err // and no nil engine in an interface that is not nil
	}
	return e, nil
}

// people knows who is who.
func people(n *node.Node) (*signin.SignIn, error) {
	o := localauth.Options{Cost: cost(n.Config)}
	if file := n.Config.Str("known_passwords_file"); file != "" {
		f, err := os.Open(file) //nolint:gosec // named by the operator
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		o.Known = f
	}
	passwords, err := localauth.New(o)
	if err != nil {
		return nil, err
	}
	return signin.New(n.Enter, n.Store, passwords, n.Limiter), nil
}

func work(ctx, late context.Context, n *node.Node) error {
	c := n.Config
	who, err := people(n)
	if err != nil {
		return err
	}
	told := disclose.New(n.Enter, n.Store, n.Keys)
	trusted, err := settings.ParsePrefixes(c.Str("trusted_proxies"))
	if err != nil {
		return err
	}
	cursorKey, err := n.Keys.Derive("cursors")
	if err != nil {
		return err
	}
	n.Ready(n.Enter.Ready) // Kafka away fails events alone
	api, err := httpapi.New(httpapi.Options{
		Enter: n.Enter, SignIn: who, Manage: manage.New(n.Enter, n.Store, n.Ingest.Trials(n.Decoders()-1), c.Limits(), n.Ingest.Again), Ingest: n.Ingest, Disclose: told,
		Limiter: n.Limiter, Limits: c.Limits(), CursorKey: cursorKey, PublicURL: strings.TrimSuffix(c.Str("public_url"), "/"), Trusted: trusted, Docs: c.Flag("docs"),
		Ready: n.IsReady, Metrics: n.Metrics, Tracer: n.Tracer, Log: n.Log, Version: node.Version(), Node: n.Name,
	})
	if err != nil {
		return err
	}
	listener, err := httpapi.Listen(c.Str("listen"), c.Num("max_connections"), c.Num("max_connections_per_address"))
	if err != nil {
		return err
	}
	cert, err := certificate(c)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	var bound net.Listener = listener
	if cert != nil {
		bound = tls.NewListener(listener, cert)
	}
	asked, err := brokers.Listen(c, brokerauth.Options{Gate: enter.NewBroker(n.Enter, n.Limiter), Limiter: n.Limiter, Mint: n.Enter.Mint, Node: n.Name}, cert, n.Log)
	if err != nil {
		return errors.Join(err, bound.Close())
	}
	server, failed := httpapi.Server(api, n.Log), make(chan error, 2)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { repeat(background, n, told) })
	wg.Go(func() { n.Ingest.FollowBacklogs(background) })
	wg.Go(func() {
		if err := server.Serve(bound); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	})
	if asked != nil {
		n.Metrics.Watch(asked.Counts)
		wg.Go(func() {
			if err := asked.Serve(); err != nil {
				failed <- err
			}
		})
	}
	n.Log.InfoContext(ctx, "listening", slog.String("address", listener.Addr().String()))
	select {
	case <-ctx.Done():
		n.Ready(func(context.Context) error {
			return fault.New(fault.Unavailable, "stopping", "The server is stopping.")
		})
		timer := time.NewTimer(leave)
		select {
		case <-timer.C:
		case err = <-failed:
		}
		timer.Stop()
	case err = <-failed:
	}
	late, end := context.WithTimeout(late, drain)
	defer end()
	var closed error
	wg.Go(func() { closed = asked.Shutdown(late) })
	if server.Shutdown(late) != nil { // somebody does not take an answer
		err = errors.Join(err, server.Close())
	}
	stop()
	wg.Wait()
	return errors.Join(err, closed)
}

// ahead is for how many days there are partitions, as of the last look; below 0: nobody has been able to look.
type ahead struct {
	days  atomic.Int64
	alarm bool
}

func (a *ahead) counts() map[string]int64 {
	if days := a.days.Load(); days >= 0 {
		return map[string]int64{"ringfence_partitions_ahead_days": days}
	}
	return nil
}

func (a *ahead) look(ctx context.Context, n *node.Node) {
	ctx, end := context.WithTimeout(ctx, lookFor)
	defer end()
	p, err := postgres.Partitioned(ctx, n.Config.Secret("database_url"), time.Now())
	if err != nil {
		a.days.Store(-1)
		return
	}
	a.days.Store(int64(max(p.Ahead, 0)))
	few := p.Alarm() != ""
	if few && !a.alarm {
		n.Log.ErrorContext(ctx, "partitions are running out, and without one nothing can be written: run ringfence maintain", slog.Int("days", p.Ahead))
	}
	a.alarm = few
}

// repeat makes what is due: any number of processes may, one at a time does it for a tenant.
func repeat(ctx context.Context, n *node.Node, told *disclose.Disclose) {
	var partitions ahead
	partitions.days.Store(-1)
	n.Metrics.Watch(partitions.counts)
	tick := time.NewTicker(jobsEvery)
	defer tick.Stop()
	for {
		partitions.look(ctx, n)
		if err := told.Jobs(ctx); err != nil && ctx.Err() == nil {
			n.Log.ErrorContext(ctx, "a job failed and will be repeated", slog.String("cause", fault.Cause(err)))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
