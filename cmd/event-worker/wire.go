package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/cmd/internal/node"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

const (
	grace   = 10 * time.Second // for what is under way when it is told to stop
	lookFor = 2 * time.Second  // between two looks at whether an operator has accepted what the bus lost
)

func spec() node.Spec {
	return node.Spec{
		Name: "event-worker", About: "Finishes accepted events: Kafka to PostgreSQL.",
		Table: settings.Table{
			settings.Of("keys", "keys", "Folder of keys, of which this process needs `seal-….key` alone", settings.NotEmpty),
			settings.Of("decoder_workers", "0", "Decoders at the same time; 0: as many as cores", settings.Number(0, 256)),
			settings.Of("decoder_cache_bytes", "33554432", "Memory for loaded decoders", settings.Number(1<<20, 1<<40)),
			settings.Of("writers", "4", "Transactions at the same time", settings.Number(1, 64)),
			settings.Hidden("outbox_database_url", "PostgreSQL as `ringfence_relay` signs in, to send tenants' decoded events to their topics; empty: another event-worker does", settings.Any),
			settings.Of("relays", "2", "Hands that send decoded events", settings.Number(1, store.OutboxShards)),
			settings.Of("engine", "", "Folder where the compiled engine is kept between starts; empty: it is compiled at each", settings.Any),
		},
		Memory: func(c settings.Config, n *node.Node) int64 {
			return int64(40<<20 + c.Num("decoder_cache_bytes") + n.Decoders()<<22)
		},
		Together: together, Keys: []keyring.Part{keyring.Seals}, Engine: engine, Work: work,
	}
}

func together(c settings.Config) []error {
	if c.Secret("outbox_database_url").IsZero() {
		return nil
	}
	return node.SafeDatabase(c, "outbox_database_url")
}

func engine(ctx context.Context, n *node.Node) (sandbox.Engine, error) {
	e, err := quickjssandbox.New(ctx, quickjssandbox.Options{Instances: n.Decoders(), CacheBytes: int64(n.Config.Num("decoder_cache_bytes")), CompileDir: n.Config.Str("engine")})
	if err != nil {
		return nil, err // and no nil engine in an interface that is not nil
	}
	return e, nil
}

func work(ctx, _ context.Context, n *node.Node) error {
	n.Ready(func(ctx context.Context) error {
		if err := n.Ingest.Consuming(); err != nil {
			return err
		}
		return errors.Join(n.There(ctx, n.Topics.Dead), n.Enter.Ready(ctx)) // without the dead letters it stands still at the first
	})
	var waiting sync.WaitGroup
	defer waiting.Wait()
	if url := n.Config.Secret("outbox_database_url"); !url.IsZero() {
		var box *postgres.Outbox
		if err := n.Insist(ctx, "the outbox", func(ctx context.Context) (err error) {
			box, err = postgres.OpenOutbox(ctx, url, n.Config.Num("relays")+1) // one tries again what could not be sent
			return err
		}); err != nil {
			return err
		}
		waiting.Go(func() {
			n.Ingest.Relay(ctx, box, n.Config.Num("relays"))
			_ = box.Close()
		})
	}
	waiting.Go(func() { _ = n.Ingest.Run(ctx, n.Decoders()) })
	for {
		err := n.Ingest.Consume(ctx, ingest.Consuming{Group: n.Group, Later: n.Later, Decoders: n.Decoders(), Writers: n.Config.Num("writers"), Grace: grace})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop
		}
		// Going on would pass events over. It stays here, alive and not ready, until somebody has looked.
		n.Log.ErrorContext(ctx, "the bus is not read, until somebody has mended that", slog.String("cause", fault.Cause(err)))
		timer := time.NewTimer(lookFor)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}
