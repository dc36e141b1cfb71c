package isolation_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/adapters/mochibroker"
	"github.com/ringfence/ringfence/testkit/brokertest"
	"github.com/ringfence/ringfence/testkit/isolation"
)

// broker is the embedded one, which begins when it is first asked for.
func broker(t testing.TB, o mochibroker.Options) func(isolation.Login) (isolation.Client, error) {
	t.Helper()
	begin := sync.OnceValues(func() (string, error) {
		b, err := mochibroker.New(o)
		if err != nil {
			return "", err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		over := make(chan error, 1)
		go func() { over <- b.Serve(l) }()
		t.Cleanup(func() {
			if err := errors.Join(b.Shutdown(context.Background()), <-over); err != nil {
				t.Error(err)
			}
		})
		return l.Addr().String(), nil
	})
	return func(l isolation.Login) (isolation.Client, error) {
		address, err := begin()
		if err != nil {
			return nil, err
		}
		return brokertest.Door(t.Context(), address, 5)(l)
	}
}

// faulty is a broker with one bug in what its clients see.
type faulty struct {
	isolation.Client
	publish   func(topic string, retain bool, err error) error
	subscribe func(filter string, err error) error
	heard     []string
}

func (p faulty) Publish(topic string, retain bool) error {
	err := p.Client.Publish(topic, retain)
	if p.publish != nil {
		err = p.publish(topic, retain, err)
	}
	return err
}

func (p faulty) Subscribe(filter string) error {
	err := p.Client.Subscribe(filter)
	if p.subscribe != nil {
		err = p.subscribe(filter, err)
	}
	return err
}

func (p faulty) Heard() []string { return append(p.Client.Heard(), p.heard...) }

func TestPlantedLeaksOfABrokerAreFound(t *testing.T) {
	e := engine(t)
	for name, plant := range map[string]func(l isolation.Login, c isolation.Client) isolation.Client{
		"a prefix is enough to publish": func(_ isolation.Login, c isolation.Client) isolation.Client {
			return faulty{Client: c, publish: func(topic string, _ bool, err error) error {
				if strings.HasPrefix(topic, "rf/ten_") && strings.HasSuffix(topic, "/up") {
					return nil
				}
				return err
			}}
		},
		"$share is stripped": func(_ isolation.Login, c isolation.Client) isolation.Client {
			return faulty{Client: c, subscribe: func(filter string, err error) error {
				if strings.HasPrefix(filter, "$share/") {
					return nil
				}
				return err
			}}
		},
		"wildcards match all tenants": func(_ isolation.Login, c isolation.Client) isolation.Client {
			return faulty{Client: c, subscribe: func(filter string, err error) error {
				if strings.Contains(filter, "+") {
					return nil
				}
				return err
			}}
		},
		"what is refused is delivered": func(l isolation.Login, c isolation.Client) isolation.Client {
			if strings.HasSuffix(l.Client, "-listener") {
				return faulty{Client: c, heard: []string{"rf/x"}}
			}
			return c
		},
	} {
		target, _ := server(t, e, inMemory, nil)
		dial := target.Broker
		target.Broker = func(l isolation.Login) (isolation.Client, error) {
			c, err := dial(l)
			if err != nil {
				return nil, err
			}
			return plant(l, c), nil
		}
		if r := isolation.Topics(t, target); len(r.Findings) == 0 {
			t.Errorf("a broker where %s is not found", name)
		}
	}
}
