package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/mochibroker"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/cmd/internal/brokers"
)

// doors are the ways in beside the API, each if it is configured: an MQTT broker of ours, and what brokers of others ask.
type doors struct {
	broker *mochibroker.Broker
	mqtt   net.Listener
	asked  *brokers.Door
}

// doors listens at the doors. They speak TLS with the API's certificate, if it has one.
func (app *application) doors(c config, cert *tls.Config) (d doors, err error) {
	gate := enter.NewBroker(app.enter, app.limiter)
	if c.flag("mqtt") {
		d.broker, err = mochibroker.New(mochibroker.Options{
			Gate: gate, Ingest: app.ingest, Limiter: app.limiter, Mint: app.enter.Mint, TLS: cert, Node: app.node, Log: app.log, Count: app.metrics.Add, Tracer: app.tracer,
			Sessions: c.num("mqtt_sessions"), PerSource: c.num("mqtt_sessions_per_source"),
		})
		if err == nil {
			app.metrics.Watch(d.broker.Counts)
			d.mqtt, err = httpapi.Listen(c.str("mqtt_listen"), c.num("mqtt_sessions"), c.num("max_connections_per_address"))
		}
		if err != nil {
			return d, err
		}
	}
	d.asked, err = brokers.Listen(c.Config, brokerauth.Options{Gate: gate, Limiter: app.limiter, Mint: app.enter.Mint, Node: app.node}, cert, app.log)
	if err != nil {
		return d, errors.Join(err, d.close())
	}
	if d.asked != nil {
		app.metrics.Watch(d.asked.Counts)
	}
	return d, nil
}

// serve begins at all of them; failed is told of one that ends by itself.
func (d doors) serve(wg *sync.WaitGroup, failed chan<- error) {
	if d.broker != nil {
		wg.Go(func() {
			if err := d.broker.Serve(d.mqtt); err != nil {
				failed <- err
			}
		})
	}
	if d.asked != nil {
		wg.Go(func() {
			if err := d.asked.Serve(); err != nil {
				failed <- err
			}
		})
	}
}

// shutdown lets what is under way come to its end.
func (d doors) shutdown(ctx context.Context) error {
	var err error
	if d.broker != nil {
		err = d.broker.Shutdown(ctx)
	}
	return errors.Join(err, d.asked.Shutdown(ctx))
}

// close gives back what listens and does not serve.
func (d doors) close() error {
	var err error
	if d.mqtt != nil {
		err = d.mqtt.Close()
	}
	return errors.Join(err, d.asked.Close())
}
