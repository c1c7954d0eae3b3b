package workerservice

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/internal/httpserve"
	"github.com/runcast/runcast/internal/redischeck"
	"github.com/runcast/runcast/internal/statsmetrics"
	"github.com/runcast/runcast/pkg/delivery"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/workflows"
)

const (
	// retryAfter is how long the program waits before it asks a server again.
	retryAfter = time.Second
	// stopFor is how long activities may go on after the worker was told to
	// stop; what has not ended by then is retried elsewhere.
	stopFor = 3 * time.Second
	// askFor bounds one question whether a server is there.
	askFor = 2 * time.Second
)

// program is one running worker.
type program struct {
	c        Config
	registry *prometheus.Registry
	store    *redisstore.Store
	messages *activities.Messaging
	// deliverer tells the subscribers of runs.
	deliverer *delivery.Deliverer
	temporal  client.Client
	reporter  *reporter.Reporter
	logger    *slog.Logger
	working   atomic.Bool
	// reached asks Temporal whether it takes calls.
	reached health
	// ensureEvery is about how often the reconciler's schedule is looked after.
	ensureEvery time.Duration
}

// work takes work until ctx ends, or until something ends that it cannot go
// on without: the health routes (failed), or the worker itself.
func (p *program) work(ctx context.Context, failed <-chan error, ready func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !p.c.TrustRedis {
		var stop func()
		ctx, stop = redischeck.Start(ctx, p.store, p.logger)
		defer stop()
	}
	if !p.retry(ctx, "Temporal is not there yet", p.reached.ask) {
		return redischeck.Cause(ctx)
	}
	w := worker.New(p.temporal, p.c.TaskQueue, worker.Options{
		Plugins:           []worker.Plugin{p.reporter},
		WorkerStopTimeout: stopFor,
		OnFatalError:      func(err error) { cancel(fmt.Errorf("the worker stopped: %w", err)) },
	})
	workflows.Register(w, workflows.Deps{Messaging: p.messages})
	p.deliverer.Register(w)
	if err := w.Start(); err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	defer w.Stop()
	if !p.retry(ctx, "the reconciler's schedule could not be made yet", p.ensureReconciler) {
		return redischeck.Cause(ctx)
	}
	keepCtx, stopKeeping := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { keep(keepCtx, p.logger, "the reconciler's schedule", p.ensureEvery, p.ensureReconciler) })
	defer keeping.Wait()
	defer stopKeeping()
	p.working.Store(true)
	defer p.working.Store(false)
	announceCtx, stopAnnouncing := context.WithCancel(ctx)
	var announcing sync.WaitGroup
	announcing.Go(func() {
		if httpserve.AwaitReady(announceCtx, http.HandlerFunc(p.ready)) {
			ready()
		}
	})
	defer announcing.Wait()
	defer stopAnnouncing()
	select {
	case <-ctx.Done():
		return redischeck.Cause(ctx)
	case err := <-failed:
		return err
	}
}

func (p *program) ensureReconciler(ctx context.Context) error {
	return reporter.EnsureReconciler(ctx, p.temporal, p.c.TaskQueue, p.c.ReconcileEvery)
}

// retry calls try until it succeeds, and reports whether it did before ctx
// ended. The first failure is logged, and then one of each minute.
func (p *program) retry(ctx context.Context, what string, try func(context.Context) error) bool {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, askFor)
		err := try(attempt)
		cancel()
		if err == nil {
			return true
		}
		if n%60 == 0 && ctx.Err() == nil {
			p.logger.Warn(what+"; will try again", "error", err)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return false
		}
	}
}

// routes are those about the program itself.
func (p *program) routes() http.Handler {
	p.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		statsmetrics.Collector("runcast_reporter", p.reporter.Stats),
		statsmetrics.Collector("runcast_store", p.store.Stats),
		statsmetrics.Labeled("runcast_delivery", "strategy", p.deliverer.Stats),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", p.ready)
	mux.HandleFunc("/", problem.NotFound)
	return mux
}

// ready says whether runs go on and their progress is written.
func (p *program) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askFor)
	defer cancel()
	detail := ""
	if !p.working.Load() {
		detail = "The worker is starting or stopping: Temporal has not been reached yet, or the reconciler's schedule could not be made. The log says which; check TEMPORAL_ADDRESS."
	} else if err := p.reached.check(ctx); err != nil {
		detail = "Temporal cannot be reached; check TEMPORAL_ADDRESS and that the server runs. Work goes on once it is back."
	} else if err := p.store.Ping(ctx); err != nil {
		detail = "Redis cannot be reached; progress is kept and retried for a while. Check REDIS_URL."
	}
	if detail != "" {
		problem.Write(w, problem.Problem{Status: http.StatusServiceUnavailable, Detail: detail})
		return
	}
	fmt.Fprintln(w, "ready")
}
