package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/mochibroker"
	"github.com/ringfence/ringfence/app/enter"
)

// doors are the ways in beside the API, each if it is configured: an MQTT broker of ours, and what brokers of others ask.
type doors struct {
	broker *mochibroker.Broker
	mqtt   net.Listener
	asked  *http.Server
	asking net.Listener
}

// doors listens at the doors. They speak TLS with the API's certificate, if it has one.
func (app *application) doors(c config, cert *tls.Config) (d doors, err error) {
	gate := enter.NewBroker(app.enter, app.limiter)
	if c.flag("mqtt") {
		d.broker, err = mochibroker.New(mochibroker.Options{
			Gate: gate, Ingest: app.ingest, Limiter: app.limiter, Mint: app.enter.Mint, TLS: cert, Node: app.node, Log: app.log, Count: app.metrics.Add,
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
	if address := c.str("broker_auth_listen"); address != "" {
		e, err := brokerauth.New(brokerauth.Options{Gate: gate, Limiter: app.limiter, Mint: app.enter.Mint, Secret: c.Secret("broker_auth_secret"), Node: app.node, Log: app.log})
		if err != nil {
			return d, errors.Join(err, d.close())
		}
		app.metrics.Watch(e.Counts)
		l, err := httpapi.Listen(address, 256, 256)
		if err != nil {
			return d, errors.Join(err, d.close())
		}
		d.asked, d.asking = httpapi.Server(e, app.log), l
		if cert != nil {
			own := cert.Clone()
			if own.ClientCAs, err = c.brokerCAs(); err != nil {
				return d, errors.Join(err, d.close())
			}
			if own.ClientCAs != nil {
				own.ClientAuth = tls.RequireAndVerifyClientCert
			}
			d.asking = tls.NewListener(l, own)
		}
	}
	return d, nil
}

// brokerCAs are whose client certificates brokers show; nil if they show none.
func (c config) brokerCAs() (*x509.CertPool, error) {
	file := c.str("broker_auth_client_ca_file")
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file) //nolint:gosec // named by the operator
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(raw) {
		err = errors.New("want certificates, PEM")
	}
	if err != nil {
		return nil, fmt.Errorf("broker_auth_client_ca_file: %w", err)
	}
	return pool, nil
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
			if err := d.asked.Serve(d.asking); !errors.Is(err, http.ErrServerClosed) {
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
	if d.asked != nil {
		if serr := d.asked.Shutdown(ctx); serr != nil {
			err = errors.Join(err, d.asked.Close())
		}
	}
	return err
}

// close gives back what listens and does not serve.
func (d doors) close() error {
	var err error
	if d.mqtt != nil {
		err = d.mqtt.Close()
	}
	if d.asking != nil {
		err = errors.Join(err, d.asking.Close())
	}
	return err
}
