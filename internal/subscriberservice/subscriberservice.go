// Package subscriberservice is the subscriber as a program: its settings, and
// how its parts are put together. It must not depend on Temporal.
package subscriberservice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/runcast/runcast/internal/httpserve"
	"github.com/runcast/runcast/internal/redischeck"
	"github.com/runcast/runcast/internal/redislog"
	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/statsmetrics"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/page"
)

// Config are the settings.
type Config struct {
	Subscriber subscriber.Config `embed:""`
	APIURL     string            `name:"api-url" from:"RUNCAST_API_URL" help:"The API service as a browser reaches it, for the page's form to start runs. Empty: no form."`
	Log        settings.Log      `embed:""`

	// TrustRedis leaves out the check of the Redis server: an embedded one
	// does not tell what it is.
	TrustRedis bool `kong:"-"`
}

// Validate reports settings that cannot be.
func (c *Config) Validate() error {
	return errors.Join(
		c.Subscriber.Validate(),
		settings.BaseURL("--api-url (RUNCAST_API_URL)", c.APIURL),
	)
}

// Hooks tie the service to a program that runs more than it.
type Hooks struct {
	// Started is called with the address once requests are answered and Redis
	// has been reached: when /readyz is 200 for the first time, but for Ready.
	Started func(addr string)
	// Ready is asked by /readyz beside the service's own checks; its error is
	// what is missing. Nil is always ready.
	Ready func() error
}

// Run is the program.
func Run(ctx context.Context, args []string, env settings.Env, stdout, stderr io.Writer) error {
	var c Config
	err := settings.Parse("subscriber", "Streams the progress of workflows to many viewers, over SSE and WebSocket.", &c, args, env, stdout)
	if err != nil {
		return err
	}
	logger := c.Log.Logger(stderr)
	redislog.Use(logger)
	tuneGC(env)
	return Serve(ctx, c, logger, Hooks{Started: func(addr string) { logger.Info("subscriber ready", "addr", addr) }})
}

// grace bounds how long an orderly stop takes: viewers are told to reconnect
// elsewhere, and given that long to hear it.
const grace = 4 * time.Second

// Serve runs the service until ctx ends. Redis does not have to be there yet:
// /readyz says whether it is.
func Serve(ctx context.Context, c Config, logger *slog.Logger, hooks Hooks) (err error) {
	secure, err := c.Subscriber.LoadTLS(logger)
	if err != nil {
		return err
	}
	listener, err := httpserve.Listen(ctx, "--addr (RUNCAST_SUBSCRIBER_ADDR)", c.Subscriber.Addr)
	if err != nil {
		return err
	}
	defer listener.Close() // where it was not served; it is closed twice otherwise
	redis := c.Subscriber.Redis
	store, err := redisstore.Open(ctx, redis.URL, redisstore.Options{Prefix: redis.Prefix, Logger: logger})
	if err != nil {
		return fmt.Errorf("--redis-url (REDIS_URL): %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if !c.TrustRedis {
		var stop func()
		ctx, stop = redischeck.Start(ctx, store, logger)
		defer stop()
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		statsmetrics.Collector("runcast_store", store.Stats),
	)
	config := c.Subscriber
	config.Addr = "" // this program listens
	server, err := subscriber.New(subscriber.Options{
		Store: store, Page: page.Handler(page.Config{APIURL: c.APIURL}), Logger: logger, Config: config, Registry: registry,
	})
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return fmt.Errorf("start the subscriber: %w", err)
	}
	readyCtx, stopAsking := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() {
		if httpserve.AwaitReady(readyCtx, server.Handler()) && hooks.Started != nil {
			hooks.Started(listener.Addr().String())
		}
	})
	defer asking.Wait()
	defer stopAsking()
	err = httpserve.Serve(ctx, listener, httpserve.Options{
		Handler: withReady(server.Handler(), hooks.Ready), Logger: logger, Grace: grace, Drain: server.Stop,
		TLS: secure, HTTP2: server.HTTP2(),
	})
	// Where the listener failed, nobody has stopped it yet.
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return errors.Join(redischeck.Cause(ctx), err, server.Stop(stopCtx))
}

// withReady asks ready, too, before the handler says that it is.
func withReady(next http.Handler, ready func() error) http.Handler {
	if ready == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			if err := ready(); err != nil {
				problem.Write(w, problem.Problem{Status: http.StatusServiceUnavailable, Detail: err.Error()})
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
