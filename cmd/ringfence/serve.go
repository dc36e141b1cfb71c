package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

type serveCmd struct {
	MQTT bool `name:"mqtt" help:"Be an MQTT broker too, at mqtt_listen: sources publish to it with their keys."`
}

// Run serves until it is told to stop.
func (s serveCmd) Run(ctx context.Context, c *commands, env environment) error {
	if s.MQTT {
		c.Set = append(c.Set, "mqtt=true")
	}
	conf, err := c.load(env)
	if err == nil {
		err = conf.judge()
	}
	if err != nil {
		return err
	}
	app, err := wire(ctx, conf, env.stderr)
	if err != nil {
		return err
	}
	return app.serve(ctx, conf, env.stdout, nil)
}

// jobsEvery is how often checkpoints are signed and counters folded.
const jobsEvery = time.Minute

// drain is how long requests under way may take once the server was told to stop.
const drain = 15 * time.Second

// serve runs the application; ready is told the address once it answers.
func (app *application) serve(ctx context.Context, c config, stdout io.Writer, ready func(address string)) error {
	listener, err := httpapi.Listen(c.str("listen"), c.num("max_connections"), c.num("max_connections_per_address"))
	if err != nil {
		return errors.Join(err, app.close(ctx))
	}
	cert, err := c.certificate()
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", errConfig, err), listener.Close(), app.close(ctx))
	}
	servers := []*http.Server{httpapi.Server(app.api, app.log)}
	var wg sync.WaitGroup
	failed := make(chan error, 4)
	start := func(s *http.Server, l net.Listener) {
		wg.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	bound := listener
	if cert != nil {
		bound = tls.NewListener(listener, cert)
	}
	start(servers[0], bound)
	if address := c.str("metrics_listen"); address != "" {
		l, err := httpapi.Listen(address, 64, 64)
		if err != nil {
			return errors.Join(err, servers[0].Close(), app.close(ctx))
		}
		servers = append(servers, httpapi.Server(app.metrics.Handler(), app.log))
		start(servers[1], l)
	}
	doors, err := app.doors(c, cert)
	if err != nil {
		for _, s := range servers {
			err = errors.Join(err, s.Close())
		}
		return errors.Join(err, app.close(ctx))
	}
	doors.serve(&wg, failed)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	if c.flag("processing") {
		wg.Go(func() { _ = app.ingest.Run(background, app.workers) })
	}
	wg.Go(func() { app.jobs(background) })
	wg.Go(func() { release(background, uint64(runtime.GOMAXPROCS(0)*c.num("password_memory_kib"))<<10) }) //nolint:gosec // checked to be what a machine has

	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(400) // the heap is small: collecting it four times as often costs more than it saves
	}
	debug.FreeOSMemory() // compiling the engine takes far more than running it
	err = app.greet(ctx, c, listener.Addr().String(), stdout)
	if err == nil && doors.mqtt != nil {
		app.mqtt = doors.mqtt.Addr().String()
		fmt.Fprintf(stdout, "It is an MQTT broker on %s\n", app.mqtt)
	}
	if err == nil {
		if ready != nil {
			ready(listener.Addr().String())
		}
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	app.log.InfoContext(ctx, "stopping")
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	over := make(chan error, 1)
	go func() { over <- doors.shutdown(late) }()
	for _, s := range servers {
		if serr := s.Shutdown(late); serr != nil {
			err = errors.Join(err, s.Close())
		}
	}
	err = errors.Join(err, <-over)
	stop()
	wg.Wait()
	return errors.Join(err, app.close(late))
}

// greet says where the server is, and how to set it up while it is not.
func (app *application) greet(ctx context.Context, c config, address string, stdout io.Writer) error {
	fmt.Fprintf(stdout, "ringfence %s listens on %s\n", version(), address)
	token, err := app.signin.SetupLink(ctx)
	if err != nil || token.IsZero() {
		return err
	}
	fmt.Fprintf(stdout, "\nNobody administers this platform yet. Within an hour, open:\n\n  %s/setup?token=%s\n\n%s", publicURL(c), token.Reveal(), guessed(c))
	fmt.Fprintf(stdout, "The platform's audit log is verified with this policy file:\n\n%s\n", app.disclose.Policy(ident.Platform))
	return nil
}

// release gives back to the system what a busy time left behind: sign-ins take 46 MiB each, and while nothing goes on no
// collection runs that would. While something goes on, the heap is collected more often when it comes near to a limit that
// has room for the sign-ins of that moment, or to three times what is alive if that is more: some sign-ins must not become five
// times as much memory.
func release(ctx context.Context, hashing uint64) {
	const every, worth, others = 10 * time.Second, 24 << 20, 96 << 20
	_, limited := os.LookupEnv("GOMEMLIMIT")
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var m runtime.MemStats
	for seen := uint32(0); ; seen = m.NumGC {
		if metrics.Read(alive); !limited {
			debug.SetMemoryLimit(int64(max(others+hashing, 3*alive[0].Value.Uint64()))) //nolint:gosec // what a machine has
		}
		if runtime.ReadMemStats(&m); m.NumGC == seen && m.HeapSys-m.HeapReleased > worth {
			debug.FreeOSMemory()
			runtime.ReadMemStats(&m)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// jobs repeats what is due.
func (app *application) jobs(ctx context.Context) {
	tick := time.NewTicker(jobsEvery)
	defer tick.Stop()
	for {
		if err := app.disclose.Jobs(ctx); err != nil && ctx.Err() == nil {
			app.log.ErrorContext(ctx, "a job failed and will be repeated", slog.String("cause", fault.Cause(err)))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

type resetCmd struct {
	machine
	Email string `arg:"" help:"The person's sign-in address."`
}

// Run makes a reset link on the host, for when nobody can sign in any more.
func (r resetCmd) Run(ctx context.Context, c *commands, env environment) error {
	conf, err := c.load(env)
	if err == nil {
		err = conf.inPlace()
	}
	if err != nil {
		return err
	}
	app, err := beside(ctx, conf, env.stderr)
	if err != nil {
		return err
	}
	token, err := app.signin.HostReset(ctx, r.Email)
	switch {
	case fault.Is(err, fault.NotFound):
		fmt.Fprintln(env.stderr, "ringfence: nobody signs in with this address")
		err = errNo
	case err == nil:
		link := publicURL(conf) + "/reset?token=" + token.Reveal()
		fmt.Fprint(env.stderr, guessed(conf))
		err = r.say(env, link+"\n", map[string]string{"link": link})
	}
	return errors.Join(err, app.close(ctx))
}

type keyCmd struct {
	machine
	Tenant string `arg:"" help:"Id of the tenant; platform for the platform's own log." default:"platform"`
}

// Run prints a policy file. It reads the keys alone, so the server may run.
func (k keyCmd) Run(c *commands, env environment) error {
	conf, err := c.load(env)
	if err != nil {
		return err
	}
	t := ident.Platform
	if k.Tenant != "platform" {
		if t, err = ident.ParseTenant(k.Tenant); err != nil {
			return fmt.Errorf("%w: want the id of a tenant, ten_ and 26 characters", errConfig)
		}
	}
	if err := conf.inPlace(); err != nil {
		return err
	}
	keys, err := keyring.Open(conf.dataFile("keys"))
	if err != nil {
		return err
	}
	policy := audit.PolicyFile(audit.Origin(keys.Instance(), t), keys.VerifierKey())
	return k.say(env, policy, map[string]string{"tenant_id": t.String(), "policy": policy})
}
