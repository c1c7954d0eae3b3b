// Package workerservice is the worker as a program: its settings, and how its
// parts are put together.
package workerservice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/internal/httpserve"
	"github.com/runcast/runcast/internal/redislog"
	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/temporalenv"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/workflows"
)

// Config are the settings. TEMPORAL_* variables say where Temporal is.
type Config struct {
	Addr           string            `name:"addr" from:"RUNCAST_WORKER_ADDR" default:"127.0.0.1:8082" help:"Where /livez, /readyz and /metrics are."`
	TaskQueue      string            `name:"task-queue" from:"RUNCAST_TASK_QUEUE" default:"${task_queue}" help:"Task queue to take work from."`
	ReconcileEvery time.Duration     `name:"reconcile-every" from:"RUNCAST_RECONCILE_EVERY" default:"10s" help:"How often runs that ended without their worker are looked for; at least 1s."`
	TTLRunning     time.Duration     `name:"ttl-running" from:"RUNCAST_TTL_RUNNING" default:"720h" help:"How long the keys of an open chain live after its last event."`
	TTLClosed      time.Duration     `name:"ttl-closed" from:"RUNCAST_TTL_CLOSED" default:"24h" help:"How long the keys of a closed chain live; not longer than those of an open one."`
	MaxEvents      int64             `name:"max-events" from:"RUNCAST_MAX_EVENTS" default:"1000" help:"About how many events a stream holds."`
	MaxProducers   int               `name:"max-producers" from:"RUNCAST_MAX_PRODUCERS" default:"1000" help:"How many producers one workflow may have at a time."`
	Messages       settings.Messages `embed:""`
	Twilio         settings.Twilio   `embed:""`
	Redis          settings.Redis    `embed:""`
	Payloads       settings.Payloads `embed:""`
	Push           settings.Push     `embed:""`
	Log            settings.Log      `embed:""`

	// TrustRedis leaves out the check of the Redis server: an embedded one
	// does not tell what it is.
	TrustRedis bool `kong:"-"`
	// EnsureEvery is about how often the reconciler's schedule is made again
	// where it is missing. 0: 30 s.
	EnsureEvery time.Duration `kong:"-"`
}

// Vars are the defaults that are spelled elsewhere.
func (*Config) Vars() map[string]string { return map[string]string{"task_queue": workflows.TaskQueue} }

// Validate reports settings that cannot be, or contradict each other.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.TaskQueue != "", "--task-queue (RUNCAST_TASK_QUEUE) is empty")
	check(c.ReconcileEvery >= time.Second, "--reconcile-every (RUNCAST_RECONCILE_EVERY): %v is below 1s", c.ReconcileEvery)
	check(c.TTLClosed >= time.Minute, "--ttl-closed (RUNCAST_TTL_CLOSED): %v is below 1m; viewers could not read the end", c.TTLClosed)
	check(c.TTLRunning >= c.TTLClosed, "--ttl-running (RUNCAST_TTL_RUNNING) is %v, below --ttl-closed (RUNCAST_TTL_CLOSED), which is %v", c.TTLRunning, c.TTLClosed)
	check(c.MaxEvents >= 1, "--max-events (RUNCAST_MAX_EVENTS): %d is not positive", c.MaxEvents)
	check(c.MaxProducers >= 1, "--max-producers (RUNCAST_MAX_PRODUCERS): %d is not positive", c.MaxProducers)
	_, err := pushKeys(c.Push)
	_, err2 := pushAllow(c.Push)
	return errors.Join(append(errs, err, err2)...)
}

// Run is the program.
func Run(ctx context.Context, args []string, env settings.Env, stdout, stderr io.Writer) error {
	var c Config
	err := settings.Parse("worker", "Runs workflows and activities, and reports their progress.", &c, args, env, stdout)
	if err != nil {
		return err
	}
	logger := c.Log.Logger(stderr)
	redislog.Use(logger)
	return Serve(ctx, c, env, logger, func(addr string) { logger.Info("worker ready", "addr", addr, "task_queue", c.TaskQueue) })
}

// Serve runs the worker until ctx ends. It calls ready with the address of
// its health routes once it takes work and Redis has been reached. It waits
// for Temporal to be there, and works without Redis: what cannot be written
// yet is retried.
func Serve(ctx context.Context, c Config, env settings.Env, logger *slog.Logger, ready func(addr string)) (err error) {
	listener, err := httpserve.Listen(ctx, "--addr (RUNCAST_WORKER_ADDR)", c.Addr)
	if err != nil {
		return err
	}
	defer listener.Close() // where it was not served; it is closed twice otherwise
	store, err := redisstore.Open(ctx, c.Redis.URL, redisstore.Options{
		Prefix: c.Redis.Prefix, TTLRunning: c.TTLRunning, TTLClosed: c.TTLClosed,
		MaxLen: c.MaxEvents, MaxProducers: c.MaxProducers, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("--redis-url (REDIS_URL): %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	options, err := temporalenv.Load(env, c.Payloads, logger)
	if err != nil {
		return err
	}
	temporal, err := client.NewLazyClient(options)
	if err != nil {
		return fmt.Errorf("make the Temporal client: %w", err)
	}
	defer temporal.Close()

	registry := prometheus.NewRegistry()
	messages, err := messaging(c, store.Client(), newMetrics(registry), logger)
	if err != nil {
		return err
	}
	deliverer, stopDelivering, err := deliverer(c, store.Client(), logger)
	if err != nil {
		return err
	}
	defer stopDelivering()
	reporting := []reporter.Option{reporter.WithLogger(logger), reporter.WithReconciler(0)}
	if options.DataConverter != nil {
		reporting = append(reporting, reporter.WithDataConverter(options.DataConverter))
	}
	p := &program{
		c: c, registry: registry, store: store, messages: messages, deliverer: deliverer, temporal: temporal, logger: logger, ensureEvery: cmp.Or(c.EnsureEvery, ensureEvery),
		reporter: reporter.New(temporal, store, reporting...),
		reached: health{ask: func(ctx context.Context) error {
			_, err := temporal.CheckHealth(ctx, &client.CheckHealthRequest{})
			return err
		}},
	}
	// The health routes outlive the work, so that an orderly stop is seen as
	// not ready rather than as gone.
	httpCtx, stopHTTP := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() {
		defer close(served) // so that its end is seen by both who wait for it
		served <- httpserve.Serve(httpCtx, listener, httpserve.Options{
			Handler: p.routes(), Logger: logger, WriteTimeout: 15 * time.Second, Grace: time.Second,
		})
	}()
	err = p.work(ctx, served, func() { ready(listener.Addr().String()) })
	stopHTTP()
	return errors.Join(err, <-served)
}
