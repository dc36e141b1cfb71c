package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/cmd/internal/telemetry"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// Spec is what one binary is.
type Spec struct {
	Name     string
	About    string
	Table    settings.Table                                       // beside Settings
	Together func(settings.Config) []error                        // beside Together
	Reads    bool                                                 // of the database alone: it signs in as ringfence_reader
	Memory   func(settings.Config, *Node) int64                   // above which memory is collected sooner, in bytes, unless GOMEMLIMIT says; nil: none
	Keys     []keyring.Part                                       // that it is given; none: it needs no folder of keys
	Engine   func(context.Context, *Node) (sandbox.Engine, error) // nil: it runs no scripts
	Work     func(ctx, late context.Context, n *Node) error       // works until ctx ends, and then finishes what is under way before late ends
	Commands []Command
}

// Command is something that a binary does beside its work.
type Command struct {
	Name, Help string
	Run        any // a pointer to a kong command, whose Run takes a context and an Opener
}

// Opener opens a node for a command; closed closes it.
type Opener func(context.Context) (n *Node, closed func(), err error)

// Node is one process, with what it has open.
type Node struct {
	Name    string
	Config  settings.Config
	Log     *slog.Logger
	Metrics *httpapi.Metrics
	Keys    *keyring.Keyring
	Store   store.Store
	Bus     bus.Bus
	There   func(ctx context.Context, topics ...string) error // whether the bus is reached and has them, in one question
	Topics  bus.Topics
	Group   string // in which events are finished
	Later   string // in which those that were put off are
	Enter   *enter.Enter
	Limiter *memlimit.Limiter
	Engine  sandbox.Engine
	Ingest  *ingest.Ingest
	Tracer  trace.Tracer // nil: no collector is told

	told  func(context.Context) // ends the tracer; nil: it was not begun
	mu    sync.Mutex
	ready func(context.Context) error
}

const (
	cachedTenants = 10_000
	limitedKeys   = 100_000
	retryLeast    = 100 * time.Millisecond
	retryMost     = 5 * time.Second
	busWait       = 3 * time.Second // how long an event waits for the bus before its sender is told to come again
)

// How long a process that is told to stop takes at most. Kubernetes kills what is there after 30 s (terminationGracePeriodSeconds), and
// that would be in the middle of something.
const (
	workWithin  = 20 * time.Second // its work
	closeWithin = 5 * time.Second  // then what it has open
	gone        = 27 * time.Second // all of it: what does not come to an end by then is left as it is
)

// Version is the module's, as the build knows it.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// made is a node with nothing open.
func made(c settings.Config, log *slog.Logger) *Node {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &Node{Name: host, Config: c, Log: log, Metrics: httpapi.NewMetrics(), Topics: bus.TopicsUnder(c.Str("kafka_prefix")),
		Group: kafkabus.Group(c.Str("kafka_prefix")), Later: kafkabus.LaterGroup(c.Str("kafka_prefix"))}
}

// opener opens a node without probes.
func opener(spec Spec, c settings.Config, log *slog.Logger) Opener {
	return func(ctx context.Context) (*Node, func(), error) {
		n := made(c, log)
		closed := func() {
			late, end := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
			defer end()
			if err := n.close(late); err != nil {
				log.WarnContext(ctx, "not everything was closed", slog.String("cause", fault.Cause(err)))
			}
		}
		if err := n.open(ctx, spec); err != nil {
			closed()
			return nil, nil, err
		}
		return n, closed, nil
	}
}

// run does a node's work, from a configuration to its end.
func run(ctx context.Context, spec Spec, c settings.Config, stderr *slog.Logger) error {
	n := made(c, stderr)
	n.Ready(func(context.Context) error {
		return fault.New(fault.Unavailable, "starting", "The process is starting.")
	})
	probes, err := n.probes(c.Str("metrics_listen"))
	if err != nil {
		return err
	}
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(200)
		if spec.Memory != nil {
			debug.SetGCPercent(400) // what it may use it need not collect before
		}
	}
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set && spec.Memory != nil {
		debug.SetMemoryLimit(spec.Memory(c, n))
	}
	ended := make(chan error, 1)
	go func() { ended <- n.live(ctx, spec, probes) }()
	over, end := after(ctx, gone)
	defer end()
	select {
	case err = <-ended:
		return err
	case <-over.Done():
		return fmt.Errorf("not everything came to its end within %s of being told to stop", gone)
	}
}

// live opens, works and closes.
func (n *Node) live(ctx context.Context, spec Spec, probes *http.Server) error {
	late, end := after(ctx, workWithin)
	defer end()
	err := n.open(ctx, spec)
	if err == nil {
		n.Log.InfoContext(ctx, "started", slog.String("binary", spec.Name), slog.String("version", Version()))
		err = spec.Work(ctx, late, n)
	}
	closing, end := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer end()
	err = errors.Join(err, n.close(closing))
	if probes.Shutdown(closing) != nil { // somebody asks and does not take the answer
		err = errors.Join(err, probes.Close())
	}
	return err
}

// after is a context that ends some time after another has.
func after(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			end()
		case <-late.Done():
		}
	})
	return late, end
}

// Ready says what is asked by /readyz from now on.
func (n *Node) Ready(ready func(context.Context) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ready = ready
}

// IsReady asks it.
func (n *Node) IsReady(ctx context.Context) error {
	n.mu.Lock()
	ready := n.ready
	n.mu.Unlock()
	return ready(ctx)
}

// probes serves metrics and what Kubernetes asks. It is up before anything else, so that a process that waits for its database
// is seen to live.
func (n *Node) probes(address string) (*http.Server, error) {
	l, err := httpapi.Listen(address, 64, 64)
	if err != nil {
		return nil, err
	}
	n.Metrics.Ready(n.IsReady)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, end := context.WithTimeout(r.Context(), 2*time.Second)
		defer end()
		if err := n.IsReady(ctx); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			message := "not ready"
			if f := fault.As(err); f != nil {
				message = f.Message
			}
			_, _ = fmt.Fprintln(w, message)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	s := httpapi.Server(mux, n.Log)
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.Log.Error("probes and metrics are not served any more", slog.String("cause", fault.Cause(err)))
		}
	}()
	return s, nil
}

// Insist does something again until it is done, unless it is refused for another reason than that something is away.
func (n *Node) Insist(ctx context.Context, what string, do func(context.Context) error) error {
	for pause := retryLeast; ; pause = min(2*pause, retryMost) {
		err := do(ctx)
		if err == nil || !fault.Is(err, fault.Unavailable) {
			return err
		}
		n.Ready(func(context.Context) error { return err })
		n.Log.WarnContext(ctx, what+" is away", slog.String("cause", fault.Cause(err)), slog.Duration("again", pause))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// open opens what the node works on. What is away is waited for; what is wrong is refused.
func (n *Node) open(ctx context.Context, spec Spec) (err error) {
	c := n.Config
	n.Tracer, n.told, err = telemetry.Open(c, n.Metrics, spec.Name, Version(), n.Name, n.Log)
	if err != nil {
		return err
	}
	n.Keys, err = keyring.Read(keysFolder(c, spec), spec.Keys...)
	if err != nil {
		return err
	}
	cache := enter.NewCache(cachedTenants)
	err = n.Insist(ctx, "the database", func(ctx context.Context) error {
		st, err := postgres.Open(ctx, postgres.Options{
			URL: c.Secret("database_url"), Reads: spec.Reads, Conns: c.Num("database_connections"), Now: time.Now, Revised: cache.Revised, Followed: cache.Followed, Version: Version(), Node: n.Name,
		})
		if err == nil {
			n.Store = st // and it stays nil, which a nil store in it would not be
		}
		return err
	})
	if err != nil {
		return err
	}
	tls, err := KafkaTLS(c)
	if err != nil {
		return err
	}
	var at []string
	for _, b := range strings.Split(c.Str("kafka_brokers"), ",") {
		at = append(at, strings.TrimSpace(b))
	}
	carrier, err := kafkabus.Open(kafkabus.Options{
		Brokers: at, User: c.Str("kafka_user"), Password: c.Secret("kafka_password"), TLS: tls, RequireTLS: !c.Flag("kafka_plaintext"), ClientID: spec.Name + "@" + n.Name, Expected: n.Topics.Expected,
	})
	if err != nil {
		return err
	}
	n.Bus, n.There = carrier, carrier.Check
	n.Metrics.Watch(carrier.Watch)
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }} // never fails: the runtime stops the program
	n.Limiter = memlimit.New(time.Now, limitedKeys)
	n.Enter = enter.New(n.Store, cache, enter.Recorder{Mint: mint, Sealer: n.Keys, Peppers: n.Keys}, n.Log)
	if len(spec.Keys) > 0 {
		var strange []string
		err := n.Insist(ctx, "the database", func(ctx context.Context) (err error) {
			strange, err = n.Enter.Strangers(ctx, n.Keys)
			return err
		})
		if err == nil && len(strange) > 0 {
			err = fmt.Errorf("the keys in %s are not those of this database, which was made with another %s; mount those that it was begun with", keysFolder(c, spec), strings.Join(strange, ", "))
		}
		if err != nil {
			return err
		}
	}
	if spec.Engine != nil {
		engine, err := spec.Engine(ctx, n)
		if err != nil {
			return err
		}
		n.Engine = engine
	}
	n.Ingest = ingest.New(n.Enter, n.Store, n.Engine, n.Limiter, c.Limits(), n.Log)
	n.Ingest.Over(ingest.Durable{Bus: n.Bus, There: n.There, Topics: n.Topics, Version: c.Num("kafka_write_version"), Wait: busWait, Replicas: c.Num("replicas"), Group: n.Group, Tracer: n.Tracer,
		Span: func(ctx context.Context) (s ingest.Span, err error) {
			s.Uplinks, s.Readings, s.End, err = postgres.Span(ctx, c.Secret("database_url"))
			return s, err
		}})
	n.Metrics.Watch(n.Ingest.Counts)
	return nil
}

// keysFolder is where the keys are, of a node that has any.
func keysFolder(c settings.Config, spec Spec) string {
	if len(spec.Keys) == 0 {
		return "."
	}
	return c.Str("keys")
}

// Decoders is how many scripts run at the same time.
func (n *Node) Decoders() int {
	if d := n.Config.Num("decoder_workers"); d > 0 {
		return d
	}
	return runtime.GOMAXPROCS(0)
}

func (n *Node) close(ctx context.Context) error {
	var err error
	if n.Bus != nil {
		err = n.Bus.Close()
	}
	if n.Engine != nil {
		err = errors.Join(err, n.Engine.Close(ctx))
	}
	if n.Store != nil {
		err = errors.Join(err, n.Store.Close())
	}
	if n.told != nil {
		n.told(ctx)
	}
	return err
}
