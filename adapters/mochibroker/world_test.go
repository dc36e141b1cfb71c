package mochibroker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/adapters/mochibroker"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/brokertest"
)

// logs keeps what is logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// held is a store whose ingest waits while it is told to, or fails.
type held struct {
	store.Store
	mu    sync.Mutex
	until chan struct{} // nil: at once
	fail  bool
	began chan struct{}
}

func (h *held) Ingest(ctx context.Context, s access.Scope, fn func(context.Context, store.Flow) error) error {
	h.mu.Lock()
	wait, fail := h.until, h.fail
	h.mu.Unlock()
	if wait != nil {
		select {
		case h.began <- struct{}{}:
		default:
		}
		<-wait
	}
	if fail {
		return fault.New(fault.Unavailable, "store_unavailable", "The store is away.")
	}
	return h.Store.Ingest(ctx, s, fn)
}

func (h *held) hold() (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	until := make(chan struct{})
	h.until = until
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.until = nil
		close(until)
	})
}

func (h *held) away(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = on
}

// world is a platform with a broker that listens.
type world struct {
	*brokertest.World
	t      *testing.T
	store  *held
	broker *mochibroker.Broker
	out    *disclose.Disclose
	log    *logs
	door   brokertest.Broker
	served chan error

	mu     sync.Mutex
	counts map[string]int64
}

func newWorld(t *testing.T, limits tenant.Limits, change func(*mochibroker.Options)) *world {
	t.Helper()
	w := &world{t: t, log: &logs{}, served: make(chan error, 1), counts: map[string]int64{}}
	cache, limiter := enter.NewCache(100), memlimit.New(time.Now, 10_000)
	w.store = &held{Store: memory.New(memory.Options{Now: time.Now, Revised: cache.Revised}), began: make(chan struct{}, 1)}
	keys, err := keyring.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	passwords, err := localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 64, Time: 1}, TestCost: true})
	if err != nil {
		t.Fatal(err)
	}
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	to := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	gate := enter.New(w.store, cache, enter.Recorder{Mint: mint, Sealer: keys, Peppers: keys}, to)
	w.out = disclose.New(gate, w.store, keys)
	w.World = brokertest.Build(t, brokertest.Parts{Enter: gate, SignIn: signin.New(gate, w.store, passwords, limiter), Manage: manage.New(gate, w.store, nil, limits, nil), Disclose: w.out})
	o := mochibroker.Options{Gate: enter.NewBroker(gate, limiter), Ingest: ingest.New(gate, w.store, nil, limiter, limits, to), Limiter: limiter, Mint: mint, Log: to, Count: w.count}
	if change != nil {
		change(&o)
	}
	if w.broker, err = mochibroker.New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.door = brokertest.Broker{Address: l.Addr().String(), Version: 5}
	go func() { w.served <- w.broker.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := w.broker.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-w.served; err != nil {
			t.Error(err)
		}
		for _, s := range []brokertest.Source{w.Acme.Gateway, w.Acme.Other, w.Brook.Gateway} {
			if strings.Contains(w.log.text(), s.Key.Reveal()) {
				t.Error("the log holds a key")
			}
		}
	})
	return w
}

func (w *world) count(series string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[series] += n
}

func (w *world) counted(series string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[series]
}

// uplinks are the tenant's.
func (w *world) uplinks(t *brokertest.Tenant) []uplink.Uplink {
	w.t.Helper()
	var all []uplink.Uplink
	q := store.Query{Limit: 200}
	for {
		page, err := w.out.Uplinks(w.t.Context(), t.Call(access.UplinkRead).Scope, access.UplinkRead, q, store.UplinkFilter{})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Items...)
		if q.After = page.Next; q.After == "" {
			return all
		}
	}
}

// eventually waits until something is so.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	over := time.NewTimer(10 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer over.Stop()
	defer tick.Stop()
	for !is() {
		select {
		case <-over.C:
			w.t.Fatalf("%s: not within ten seconds", what)
		case <-tick.C:
		}
	}
}

// reason reads on until the broker ends a connection, and answers why.
func reason(c *brokertest.Conn) byte {
	for {
		_, _, err := c.Next(10 * time.Second)
		var e brokertest.Ended
		if errors.As(err, &e) {
			return e.Code
		}
		if err != nil {
			return 0
		}
	}
}
