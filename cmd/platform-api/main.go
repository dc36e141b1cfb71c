// Command platform-api is the HTTP API of the scaled-out deployment, over PostgreSQL and Kafka: what people and programs ask, and
// the way in for events that come by HTTP. Any number may run.
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
