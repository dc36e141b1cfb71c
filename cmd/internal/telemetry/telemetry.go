// Package telemetry is how our binaries are told of an OpenTelemetry collector, and tell it.
package telemetry

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/otlp"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/trace"
)

// Settings are those of a collector.
func Settings() settings.Table {
	return settings.Table{
		settings.Of("otlp_endpoint", "", "OpenTelemetry collector that traces and metrics, and logs if wanted, are sent to by OTLP over HTTP, such as `https://collector:4318`; empty: none", settings.Optional(endpoint)),
		settings.Hidden("otlp_headers", "What it wants to be told with each request, as `OTEL_EXPORTER_OTLP_HEADERS` has it: `Authorization=Bearer%20…`", headers),
		settings.Of("otlp_ca_file", "", "Certificates that the collector's is verified by, PEM; empty: the system's", settings.Any),
		settings.Of("otlp_cert_file", "", "Client certificate for the collector, PEM", settings.Any),
		settings.Of("otlp_key_file", "", "Its key, PEM", settings.Any),
		settings.Of("otlp_plaintext", "false", "Allow a collector without TLS that is not on this machine", settings.Boolean),
		settings.Of("otlp_logs", "false", "Send it the log too, line by line as it stands on standard error", settings.Boolean),
		settings.Of("otlp_ratio", "0.01", "Of all traces, the part that is kept, from 0 to 1; what a sender says of sampling counts for nothing", ratio),
	}
}

func endpoint(s string) error {
	_, err := otlp.ParseEndpoint(s)
	return err
}

func headers(s string) error {
	_, err := otlp.ParseHeaders(secret.New(s))
	return err
}

func ratio(s string) error {
	if f, err := strconv.ParseFloat(s, 64); err != nil || math.IsNaN(f) || f < 0 || f > 1 {
		return errors.New("want a number from 0 to 1, such as 0.01")
	}
	return nil
}

// Together judges what each of these settings cannot be judged for alone.
func Together(c settings.Config) (wrong []error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if (c.Str("otlp_cert_file") == "") != (c.Str("otlp_key_file") == "") {
		say("otlp_cert_file and otlp_key_file belong together; set both, or neither")
	}
	at, secured := c.Str("otlp_endpoint"), c.Str("otlp_ca_file") != "" || c.Str("otlp_cert_file") != ""
	if at == "" {
		if !c.Secret("otlp_headers").IsZero() || secured || c.Flag("otlp_logs") {
			say("otlp_endpoint: which collector are otlp_headers, otlp_ca_file, otlp_cert_file and otlp_logs for? Name it, or leave them out")
		}
		return wrong
	}
	if u, err := otlp.ParseEndpoint(at); err == nil && u.Scheme == "http" {
		switch {
		case secured:
			say("otlp_endpoint: %s has no TLS, for which otlp_ca_file and otlp_cert_file are; say https://, or leave the files out", at)
		case !settings.Loopback(u.Hostname()) && !c.Flag("otlp_plaintext"):
			say("otlp_endpoint: %s has no TLS and is not on this machine; say https://, or set otlp_plaintext: true if nobody else reaches that network", at)
		}
	}
	return wrong
}

// Files reads what these settings name.
func Files(c settings.Config) error {
	_, err := trust(c)
	return err
}

// trust is how a collector is verified, and what it is shown.
func trust(c settings.Config) (*tls.Config, error) {
	cert, key := c.Str("otlp_cert_file"), c.Str("otlp_key_file")
	if key == "" { // that they belong together is said by Together
		cert = ""
	}
	t, err := settings.TLS(c.Str("otlp_ca_file"), cert, key)
	if err != nil {
		err = fmt.Errorf("otlp_ca_file, otlp_cert_file, otlp_key_file: %w", err)
	}
	return t, err
}

// output is where a log's lines go, and to whom beside.
type output struct {
	w    io.Writer
	also atomic.Pointer[otlp.Exporter]
}

// Write is called with a line at a time, by one caller.
func (o *output) Write(line []byte) (int, error) {
	if e := o.also.Load(); e != nil {
		e.Line(line)
	}
	return o.w.Write(line)
}

type handler struct {
	slog.Handler
	out *output
}

// Log writes lines of JSON, which Open can send to a collector too.
func Log(w io.Writer, level slog.Level) *slog.Logger {
	out := &output{w: w}
	return slog.New(handler{slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}), out})
}

// Open tells a collector what the metrics show, what the tracer is told and, of a logger that Log made, the lines if that is wanted, until it is closed. Without a collector the tracer is
// nil.
func Open(c settings.Config, m *httpapi.Metrics, service, version, instance string, log *slog.Logger) (tracer trace.Tracer, closed func(context.Context), err error) {
	if c.Str("otlp_endpoint") == "" {
		return nil, func(context.Context) {}, nil
	}
	verified, err := trust(c)
	if err != nil {
		return nil, nil, err
	}
	kept, err := strconv.ParseFloat(c.Str("otlp_ratio"), 64)
	if err != nil {
		return nil, nil, err
	}
	e, err := otlp.Open(otlp.Options{
		Endpoint: c.Str("otlp_endpoint"), Headers: c.Secret("otlp_headers"), TLS: verified, Ratio: kept, Logs: c.Flag("otlp_logs"), Service: service, Version: version, Instance: instance,
		Metrics: func() otlp.Metrics {
			series, took := m.Read()
			return otlp.Metrics{Series: series, Histograms: []otlp.Histogram{otlp.Histogram(took)}}
		},
		Random: func(b []byte) { _, _ = rand.Read(b) }, Now: time.Now, Log: log, // never fails: the runtime stops the program
	})
	if err != nil {
		return nil, nil, err
	}
	m.Watch(e.Counts)
	h, ok := log.Handler().(handler)
	if !ok || !c.Flag("otlp_logs") {
		return e, e.Close, nil
	}
	h.out.also.Store(e)
	return e, func(ctx context.Context) {
		h.out.also.Store(nil)
		e.Close(ctx)
	}, nil
}
