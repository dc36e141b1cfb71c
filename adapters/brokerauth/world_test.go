package brokerauth_test

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/testkit/brokertest"
)

const brokers = "a-secret-of-the-brokers-alone"

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

// world is a platform and the endpoint, of which there may be several.
type world struct {
	*brokertest.World
	againBy func(gates limit.Limiter, o brokerauth.Options) *brokerauth.Endpoint
	log     *logs
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cache, limiter, log := enter.NewCache(100), memlimit.New(time.Now, 10_000), &logs{}
	records := memory.New(memory.Options{Now: time.Now, Revised: cache.Revised})
	keys, err := keyring.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	passwords, err := localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 64, Time: 1}, TestCost: true})
	if err != nil {
		t.Fatal(err)
	}
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	to := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	gate := enter.New(records, cache, enter.Recorder{Mint: mint, Sealer: keys, Peppers: keys}, to)
	w := &world{log: log, World: brokertest.Build(t, brokertest.Parts{Enter: gate, SignIn: signin.New(gate, records, passwords, limiter),
		Manage: manage.New(gate, records, nil, tenant.DefaultLimits, nil), Disclose: disclose.New(gate, records, keys)})}
	w.againBy = func(gates limit.Limiter, o brokerauth.Options) *brokerauth.Endpoint {
		o.Gate, o.Mint, o.Log = enter.NewBroker(gate, gates), mint, to
		if o.Limiter == nil {
			o.Limiter = memlimit.New(time.Now, 1000)
		}
		e, err := brokerauth.New(o)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	return w
}

func (w *world) again(o brokerauth.Options) *brokerauth.Endpoint {
	return w.againBy(memlimit.New(time.Now, 10_000), o)
}

func (w *world) endpoint() *brokerauth.Endpoint {
	return w.again(brokerauth.Options{Secret: secret.New(brokers)})
}
