// Command mqtt-ingestion-worker takes events of the scaled-out deployment in: from network servers' MQTT brokers to Kafka. Any
// number may run, each with an ordinal of its own.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ringfence/ringfence/cmd/internal/node"
	"github.com/ringfence/ringfence/cmd/internal/settings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := node.Main(ctx, spec(), os.Args[1:], settings.Process(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
