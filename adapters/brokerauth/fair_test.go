package brokerauth_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
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

// One hammers, by each of the ways to; another one's questions are answered meanwhile as if nobody did.
func TestWhoHammersKeepsNobodyElseOut(t *testing.T) {
	for broker, words := range shapes() {
		for name, options := range map[string]func() brokerauth.Options{
			"the rate": func() brokerauth.Options { return brokerauth.Options{Rate: 400, Limiter: memlimit.New(still, 1000)} },
			"the places": func() brokerauth.Options {
				return brokerauth.Options{InFlight: 64, Limiter: held{memlimit.New(time.Now, 1000)}}
			},
		} {
			for how, hammer := range map[string]func(a asking, w *world, mark string){
				"publishing": func(a asking, w *world, mark string) {
					words.publish(a, w.Acme.Gateway.Source.String(), mark, w.Acme.Gateway.Source.String(), w.Acme.Gateway.Up())
				},
				"subscribing": func(a asking, w *world, mark string) {
					words.subscribe(a, w.Acme.Gateway.Source.String(), mark, w.Acme.Gateway.Source.String(), w.Acme.Gateway.Up())
				},
				"connecting": func(a asking, w *world, _ string) {
					words.connect(a, w.Acme.Gateway.Source.String(), w.Acme.Gateway.Key.Reveal(), w.Acme.Gateway.Source.String())
				},
				"connecting as anybody": func(a asking, _ *world, _ string) {
					s := ident.Source{6: 0x70, 8: 0x80}
					_, _ = rand.Read(s[9:])
					words.connect(a, s.String(), "x", s.String())
				},
			} {
				w := newWorld(t)
				o := options()
				o.Secret = secret.New(brokers)
				e := w.again(o)
				a, quiet := asking{t, e}, w.Brook.Gateway
				_, marked := words.connect(a, w.Acme.Gateway.Source.String(), w.Acme.Gateway.Key.Reveal(), w.Acme.Gateway.Source.String())
				yes, mark := words.connect(a, quiet.Source.String(), quiet.Key.Reveal(), quiet.Source.String())
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
					if !words.publish(a, quiet.Source.String(), mark, quiet.Source.String(), quiet.Up()) {
						t.Fatalf("%sanother one does not publish", at)
					}
				}
				if how == "connecting as anybody" {
					continue // where the broker does not say from where, who comes anew waits as well
				}
				if yes, _ := words.connect(a, quiet.Source.String(), quiet.Key.Reveal(), quiet.Source.String()); !yes {
					t.Fatalf("%sanother one does not connect", at)
				}
			}
		}
	}
}
