// Command dev runs all of Runcast in one process, on embedded servers: a
// Temporal server, a Redis, a worker, the API and the subscriber. It is for
// development; nothing in it outlives the process.
package main

import (
	"context"
	"io"
	"os"

	"github.com/runcast/runcast/cmd/dev/internal/embedded"
	"github.com/runcast/runcast/internal/redislog"
	"github.com/runcast/runcast/internal/settings"
)

func main() { os.Exit(settings.Main("dev", run)) }

func run(ctx context.Context, args []string, env settings.Env, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "temporal" {
		var c embedded.TemporalCommand
		err := settings.Parse("dev temporal",
			`Runs the Temporal server only. It prints one line, "temporal ready at HOST:PORT", and runs until SIGTERM.`,
			&c, args[1:], env, stdout)
		if err != nil {
			return err
		}
		return c.Run(ctx, os.Stdin, stdout, stderr)
	}
	var c config
	if err := settings.Parse("dev", about, &c, args, env, stdout); err != nil {
		return err
	}
	d := &dev{config: c, env: env, logger: c.Log.Logger(stderr), out: stdout}
	redislog.Use(d.logger)
	return d.run(ctx)
}
