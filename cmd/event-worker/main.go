// Command event-worker finishes events of the scaled-out deployment: it reads what was accepted from Kafka, decodes it and writes
// readings to PostgreSQL. Any number may run.
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
