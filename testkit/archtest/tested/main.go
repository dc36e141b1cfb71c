// Command tested runs go test with the arguments given and judges what came out: a failed test fails, and so does a
// skipped one, since a check that did not run has shown nothing; but for what asks a server that deploy/testbed/with left out on
// a machine where it may not be installed, which is named and, in CI, refused. It prints what failed, and the time each suite took.
// It is a tool of the Makefile, not of the product.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tested:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	verdict, readErr := judge(out, os.Stdout, leftOut())
	waitErr := cmd.Wait()
	if readErr != nil {
		return readErr
	}
	if err := verdict.err(); err != nil {
		return err
	}
	if waitErr != nil {
		return fmt.Errorf("go test: %w", waitErr)
	}
	return nil
}
