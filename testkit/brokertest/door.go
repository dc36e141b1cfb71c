package brokertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/testkit/isolation"
)

// Door is how testkit/isolation reaches a broker that listens at an address.
func Door(ctx context.Context, address string, version byte) func(isolation.Login) (isolation.Client, error) {
	return func(l isolation.Login) (isolation.Client, error) {
		c, err := Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		code, err := c.Connect(Hello{Version: version, User: l.User, Password: secret.New(l.Key), ID: l.Client, KeepAlive: 60, Will: l.Will})
		if err == nil && code != 0 {
			err = fmt.Errorf("refused: 0x%02x", code)
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return &client{Conn: c}, nil
	}
}

// client is a Conn in isolation's words.
type client struct{ *Conn }

// Publish says something with QoS 1.
func (c *client) Publish(topic string, retain bool) error {
	code, err := c.Conn.Publish(topic, 1, retain, Message("swept"))
	if err == nil && code >= 0x80 {
		err = fmt.Errorf("refused: 0x%02x", code)
	}
	return err
}

// Subscribe asks for one filter.
func (c *client) Subscribe(filter string) error {
	codes, err := c.Conn.Subscribe(filter)
	if err == nil && codes[0] >= 0x80 {
		err = fmt.Errorf("refused: 0x%02x", codes[0])
	}
	return err
}

// Heard waits a moment for what is still on its way.
func (c *client) Heard() []string {
	var topics []string
	for {
		first, body, err := c.Next(300 * time.Millisecond)
		if err != nil {
			return topics
		}
		if first>>4 == 3 && len(body) > 2 {
			topics = append(topics, string(body[2:min(len(body), 2+(int(body[0])<<8|int(body[1])))]))
		}
	}
}
