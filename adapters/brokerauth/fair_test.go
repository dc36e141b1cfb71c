package brokerauth_test

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/limit"
)

// still is a clock that stands: what is spent stays spent.
func still() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// held is a limiter whose places are not given back, as by questions that take long.
type held struct{ limit.Limiter }

func (h held) Enter(key string, maximum int) (func(), bool) {
	_, ok := h.Limiter.Enter(key, maximum)
	return func() {}, ok
}

// One hammers, by each of the ways to; another one's questions are answered meanwhile as if nobody did, and so are those of one
// who never connected before.
func TestWhoHammersKeepsNobodyElseOut(t *testing.T) {
	connect := func(s words, a asking, user ident.Source, password string) (bool, string) {
		client := user.String()
		if t, err := credential.Parse(password); err == nil && !s.keepsMarks {
			client += "-" + t.Accessor
		}
		return s.connect(a, user.String(), password, client)
	}
	for broker, words := range shapes() {
		for name, options := range map[string]func() brokerauth.Options{
			"the rate": func() brokerauth.Options { return brokerauth.Options{Rate: 400, Limiter: memlimit.New(still, 1000)} },
			"the places": func() brokerauth.Options {
				return brokerauth.Options{InFlight: 64, Limiter: held{memlimit.New(time.Now, 1000)}}
			},
		} {
			hammers := map[string]func(a asking, w *world, mark string){
				"publishing": func(a asking, w *world, mark string) {
					words.publish(a, w.Acme.Gateway.Source.String(), mark, words.client(w.Acme.Gateway), w.Acme.Gateway.Up())
				},
				"subscribing": func(a asking, w *world, mark string) {
					words.subscribe(a, w.Acme.Gateway.Source.String(), mark, words.client(w.Acme.Gateway), w.Acme.Gateway.Up())
				},
				"connecting": func(a asking, w *world, _ string) {
					connect(words, a, w.Acme.Gateway.Source, w.Acme.Gateway.Key.Reveal())
				},
				"connecting as the other one": func(a asking, w *world, _ string) {
					connect(words, a, w.Brook.Gateway.Source, "x")
				},
				"connecting as anybody": func(a asking, _ *world, _ string) {
					s := ident.Source{6: 0x70, 8: 0x80}
					_, _ = rand.Read(s[9:])
					connect(words, a, s, "x")
				},
				"connecting as anybody from anywhere": func(a asking, _ *world, _ string) {
					s := ident.Source{6: 0x70, 8: 0x80}
					_, _ = rand.Read(s[9:])
					a.from = netip.AddrFrom4([4]byte{10, s[9], s[10], 1}).String()
					connect(words, a, s, "x")
				},
			}
			all := maps.Clone(hammers)
			hammers["all of these"] = func(a asking, w *world, mark string) {
				for _, hammer := range all {
					hammer(a, w, mark)
				}
			}
			for how, hammer := range hammers {
				w := newWorld(t)
				o := options()
				o.Secret = secret.New(brokers)
				e := w.again(o)
				a, quiet, fresh := asking{t: t, h: e}, w.Brook.Gateway, w.Brook.Other
				_, marked := connect(words, a, w.Acme.Gateway.Source, w.Acme.Gateway.Key.Reveal())
				yes, mark := connect(words, a, quiet.Source, quiet.Key.Reveal())
				if !yes {
					t.Fatalf("%s: it does not get in at first", broker)
				}
				for range 500 {
					hammer(a, w, marked)
				}
				at := fmt.Sprintf("%s, %s, by %s: ", broker, name, how)
				limited := e.Counts()[`ringfence_broker_questions_total{answer="limited"}`]
				if limited == 0 {
					t.Errorf("%snothing is refused", at)
				}
				for range 5 {
					if !words.publish(a, quiet.Source.String(), mark, words.client(quiet), quiet.Up()) {
						t.Fatalf("%sanother one does not publish", at)
					}
				}
				if yes, _ := connect(words, a, quiet.Source, quiet.Key.Reveal()); !yes {
					t.Fatalf("%sanother one does not connect", at)
				}
				if how == "connecting as anybody from anywhere" || how == "all of these" || how == "connecting as anybody" && !words.tells {
					continue // who is as unknown as they are waits as well
				}
				a.from = "198.51.100.7"
				if yes, _ := connect(words, a, fresh.Source, fresh.Key.Reveal()); !yes {
					t.Fatalf("%sone from another address does not connect for the first time", at)
				}
			}
		}
	}
}

// Whose key was revoked is a stranger from the next connect on: the source's share is that of who has a key in force.
func TestARevokedKeyUsesUpNoShare(t *testing.T) {
	w := newWorld(t)
	a, own := asking{t: t, h: w.again(brokerauth.Options{Secret: secret.New(brokers), Rate: 80, Limiter: memlimit.New(still, 1000)})}, w.Acme.Gateway
	words, user := shapes()["RabbitMQ"], own.Source.String()
	kept := w.Acme.NewKey(own, time.Hour).Key
	_, mark := words.connect(a, user, kept.Reveal(), user)
	if yes, _ := words.connect(a, user, own.Key.Reveal(), user); !yes || mark == "" {
		t.Fatal("it does not get in at first")
	}
	w.Acme.Revoke(own)
	for range 200 {
		words.connect(a, user, own.Key.Reveal(), user)
	}
	for n := range 20 {
		if !words.publish(a, user, mark, user, own.Up()) {
			t.Fatalf("only %d messages are let through", n)
		}
	}
}

// A source's share is what it has at least, not at most.
func TestOneSourceMayHaveWhatNobodyElseWants(t *testing.T) {
	w := newWorld(t)
	now := still()
	e := w.again(brokerauth.Options{Secret: secret.New(brokers), Rate: 1000, Limiter: memlimit.New(func() time.Time { return now }, 1000)})
	a, own, words := asking{t: t, h: e}, w.Acme.Gateway, shapes()["RabbitMQ"]
	_, mark := words.connect(a, own.Source.String(), own.Key.Reveal(), own.Source.String())
	for n := range 3000 {
		now = now.Add(time.Second / 1000)
		if !words.publish(a, own.Source.String(), mark, own.Source.String(), own.Up()) {
			t.Fatalf("only %d of 3000 messages, at the whole rate, are let through", n)
		}
	}
}

// faint is a limiter that once breaks down.
type faint struct {
	limit.Limiter
	once *sync.Once
}

func (f faint) Take(key string, n int, r limit.Rate) limit.Verdict {
	f.once.Do(func() { panic("once") })
	return f.Limiter.Take(key, n, r)
}

// A question that breaks down in the gate gives its place back.
func TestAPanicOfTheGateTakesNoPlaceWithIt(t *testing.T) {
	w := newWorld(t)
	a, own := asking{t: t, h: w.againBy(faint{memlimit.New(time.Now, 1000), &sync.Once{}}, brokerauth.Options{Secret: secret.New(brokers), InFlight: 1})}, w.Acme.Gateway
	words := shapes()["RabbitMQ"]
	connect := func(password string) (yes, broke bool) {
		defer func() { broke = recover() != nil }()
		yes, _ = words.connect(a, own.Source.String(), password, own.Source.String())
		return yes, false
	}
	if _, broke := connect("x"); !broke {
		t.Fatal("the gate does not break down")
	}
	if yes, broke := connect(own.Key.Reveal()); !yes || broke {
		t.Errorf("afterwards the only place is taken: %v %v", yes, broke)
	}
}
