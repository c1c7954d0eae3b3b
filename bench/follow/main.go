// Command follow is the process that follows runs when strategies are
// compared: it measures one strategy with some viewers, and tells as JSON what
// was found. Viewers who share have streams that it serves as the API service
// does, and are in a process of their own (bench/watch). The runner
// (bench/compare) starts it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/frontend"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "follow:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("follow", flag.ContinueOnError)
	f.SetOutput(stderr)
	var c arm.Config
	f.StringVar(&c.Strategy, "strategy", "poll", "`name` of a strategy; none: nobody follows")
	f.BoolVar(&c.Shared, "shared", false, "the viewers of a run share one watch: they have streams of a service")
	watch := f.String("watch", "watch", "the `program` that holds viewers who share")
	f.IntVar(&c.Runs, "runs", 1, "runs at a time")
	f.IntVar(&c.Viewers, "viewers", 1, "viewers of each run")
	f.IntVar(&c.Workload.Changes, "changes", 50, "changes of each run")
	f.DurationVar(&c.Workload.Over, "over", 10*time.Second, "how long the changes take")
	f.Uint64Var(&c.Workload.Seed, "seed", 1, "makes the times of the changes")
	f.DurationVar(&c.Grace, "grace", 10*time.Second, "how long the end may take")
	f.StringVar(&c.Temporal, "temporal", "127.0.0.1:7233", "`address` of the Temporal server, of this machine's loopback")
	f.StringVar(&c.Metrics, "metrics", "", "`address` of its metrics")
	f.StringVar(&c.Worker, "worker", "", "`address` at which the worker tells its calls")
	f.StringVar(&c.Redis, "redis", "127.0.0.1:6379", "`address` of Redis")
	f.StringVar(&c.Queue, "queue", "compare", "the worker's task queue")
	f.IntVar(&c.TemporalPID, "temporal-pid", 0, "process of the Temporal server")
	f.IntVar(&c.WorkerPID, "worker-pid", 0, "process of the worker")
	f.IntVar(&c.RedisPID, "redis-pid", 0, "process of Redis")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	var own, watching frontend.Counter
	ownClient, err := dial(ctx, c.Temporal, &own, logger)
	if err != nil {
		return err
	}
	defer ownClient.Close()
	watchClient, err := dial(ctx, c.Temporal, &watching, logger)
	if err != nil {
		return err
	}
	defer watchClient.Close()
	follow, stop, err := followers(ctx, &c, watchClient, *watch, logger)
	defer stop()
	if err != nil {
		return err
	}
	r, err := arm.Run(ctx, c, arm.Clients{Own: ownClient, OwnCalls: &own, Viewers: watchClient, ViewerCall: &watching}, follow)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(r)
}

// followers returns how the viewers of an arm follow. Stop is never nil.
func followers(ctx context.Context, c *arm.Config, temporal client.Client, watch string, logger *slog.Logger) (follow arm.Follow, stop func(), err error) {
	switch {
	case c.Strategy == arm.None:
		return nil, func() {}, nil
	case c.Shared:
		return openServed(ctx, c, temporal, watch, logger)
	}
	s, stop, err := open(ctx, c, temporal)
	if err != nil {
		return nil, stop, err
	}
	return arm.Watches(s), stop, nil
}

func dial(ctx context.Context, addr string, calls *frontend.Counter, logger *slog.Logger) (client.Client, error) {
	return client.DialContext(ctx, client.Options{
		HostPort: addr, Logger: log.NewStructuredLogger(logger),
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{calls.DialOption()}},
	})
}
