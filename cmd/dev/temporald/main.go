// Command temporald is the embedded Temporal server and nothing else: what
// `dev temporal` runs, without the rest of Runcast, so that tests need not
// build it anew whenever the rest changes.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/runcast/runcast/cmd/dev/internal/embedded"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c embedded.TemporalCommand
	kong.Parse(&c, kong.Name("temporald"), kong.Description("An embedded Temporal server, for tests."))
	if err := c.Run(ctx, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "temporald:", err)
		os.Exit(1)
	}
}
