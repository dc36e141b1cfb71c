package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/cmd/internal/node"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
)

// stopWithin is how long what was read may take to reach Kafka when the worker is told to stop.
const stopWithin = 10 * time.Second

func spec() node.Spec {
	return node.Spec{
		Name: "mqtt-ingestion-worker", About: "Takes events in: MQTT to Kafka.",
		Table: settings.Table{
			settings.Of("connections_file", "connections.yaml", "The brokers and how their messages are known to be whose", settings.NotEmpty),
			settings.Of("name", "ringfence", "Of the workers that share the connections: client ids are NAME-CONNECTION-ORDINAL", settings.NotEmpty),
			settings.Of("ordinal", "", "Of this worker among those of the name, from 0; empty: the number that the host's name ends in, else 0", settings.Optional(settings.Number(0, 9_999))),
		},
		Together: func(c settings.Config) (wrong []error) {
			if _, _, err := connections(c); err != nil {
				wrong = append(wrong, err)
			}
			return wrong
		},
		Memory:   func(settings.Config, *node.Node) int64 { return 64 << 20 },
		Reads:    true,
		Work:     work,
		Commands: []node.Command{{Name: "adopt", Help: "Take what a broker keeps for a worker that does not come back.", Run: &adoptCmd{}}},
	}
}

// connections are those of the file, and what is to be known of each.
func connections(c settings.Config) ([]mqttlink.Connection, map[string]ingest.Connection, error) {
	raw, err := os.ReadFile(c.Str("connections_file")) //nolint:gosec // named by the operator
	if err != nil {
		return nil, nil, fmt.Errorf("connections_file: %w", err)
	}
	cs, err := mqttlink.Parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("connections_file: %w", err)
	}
	known := map[string]ingest.Connection{}
	var wrong []error
	for _, at := range cs {
		k := ingest.Connection{Name: at.Name, Format: at.Format, Owner: ingest.Owner(at.TenantFrom), Tenant: at.Tenant, Source: at.Source}
		filters := at.Filters
		if len(filters) == 0 || at.TenantFrom == mqttlink.Checked { // whose filter says less than its topics do
			filters = []string{byFormat(at)}
		}
		for _, f := range filters {
			t, err := uplink.ParseTemplate(f)
			if err == nil && k.Owner == ingest.ByApplication && !t.Names("application") {
				err = errors.New("which application a message is of must stand in its topic: the payload is not believed; name the level {application}")
			}
			if err == nil && k.Owner == ingest.Checked && !(t.Names("tenant") && t.Names("source")) {
				err = errors.New("want " + uplink.CheckedTopic)
			}
			if err != nil {
				wrong = append(wrong, fmt.Errorf("connections_file: %s: filter %s: %w", at.Name, f, err))
			}
			k.Topics = append(k.Topics, t)
		}
		known[at.Name] = k
	}
	return cs, known, errors.Join(wrong...)
}

// byFormat is the topic that a format's messages come by, where nothing is said.
func byFormat(c mqttlink.Connection) string {
	switch {
	case c.TenantFrom == mqttlink.Checked:
		return uplink.CheckedTopic
	case c.Format == source.ChirpStack:
		return uplink.ChirpStackTopic
	}
	return uplink.TTSTopic
}

// ordinal is this worker's among those that share the connections.
func ordinal(c settings.Config, host string) int {
	if c.Str("ordinal") != "" {
		return c.Num("ordinal")
	}
	i := len(host)
	for i > 0 && host[i-1] >= '0' && host[i-1] <= '9' && len(host)-i < 4 {
		i--
	}
	n, err := strconv.Atoi(host[i:])
	if err != nil || i == 0 || host[i-1] != '-' {
		return 0
	}
	return n
}

// take hands messages to the application.
func take(n *node.Node, known map[string]ingest.Connection) mqttlink.Take {
	return func(ctx context.Context, ms []mqttlink.Message) []error {
		ds := make([]ingest.Brought, len(ms))
		for i, m := range ms {
			ds[i] = ingest.Brought{Topic: m.Topic, Payload: m.Payload, Trace: m.Trace, Before: m.Before}
			if f := fault.As(m.Fault); f != nil {
				ds[i].Bad = f.Code
			}
			if m.Size > len(m.Payload) {
				ds[i].Size, ds[i].Hash = m.Size, m.Hash
			}
		}
		return n.Ingest.Receive(ctx, known[ms[0].Connection], ds)
	}
}

func work(ctx, late context.Context, n *node.Node) error {
	cs, known, err := connections(n.Config)
	if err != nil {
		return err
	}
	links, err := mqttlink.Open(ctx, cs, mqttlink.Options{
		Take: take(n, known), Log: n.Log, Name: n.Config.Str("name"), Ordinal: ordinal(n.Config, n.Name), StopWithin: stopWithin,
	})
	if err != nil {
		return err
	}
	n.Metrics.Watch(links.Counts)
	n.Ready(func(ctx context.Context) error {
		if err := errors.Join(links.Ready(), n.Enter.Following()); err != nil { // without the store it goes on by what it remembers, for a while
			return err
		}
		return n.There(ctx, n.Topics.Uplinks, n.Topics.Later, n.Topics.Dead)
	})
	var following sync.WaitGroup
	following.Go(func() { _ = n.Ingest.FollowLater(ctx, n.Later) })
	following.Go(func() { n.Ingest.FollowBacklogs(ctx) })
	<-ctx.Done()
	if err := links.Stop(late); err != nil { // the broker keeps what was not acknowledged
		n.Log.WarnContext(ctx, "not all that was taken is finished", slog.String("cause", fault.Cause(err)))
	}
	following.Wait()
	return nil
}

// adoptCmd empties the session of a worker that is gone.
type adoptCmd struct {
	Connection string `arg:"" help:"Name of the connection."`
	ClientID   string `arg:"" name:"client-id" help:"Client id of the worker that does not come back: NAME-CONNECTION-ORDINAL."`
	End        bool   `help:"End the session when it is empty."`
	Force      bool   `help:"Also if the worker seems to be there: it loses its session."`
}

// Run takes what the broker keeps, and says how many messages that were.
func (a *adoptCmd) Run(ctx context.Context, open node.Opener) error {
	n, closed, err := open(ctx)
	if err != nil {
		return err
	}
	defer closed()
	cs, known, err := connections(n.Config)
	if err != nil {
		return err
	}
	for _, c := range cs {
		if c.Name != a.Connection {
			continue
		}
		taken, err := mqttlink.Adopt(ctx, c, a.ClientID, mqttlink.Adoption{Take: take(n, known), Log: n.Log, Force: a.Force, End: a.End})
		n.Log.InfoContext(ctx, "adopted", slog.Int("messages", taken))
		return err
	}
	return fmt.Errorf("%w: connections_file has no connection %q", settings.Err, a.Connection)
}
