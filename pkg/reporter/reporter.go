package reporter

import (
	"context"
	"sync"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
)

// Reporter is a plugin for workers: it writes the runs, activities, attempts
// and failures that the worker's code sees, and what this code reports
// itself. One reporter may serve several workers.
//
// It writes the end of a run only as Temporal tells it: after a workflow
// function has returned, it waits for that run's close event, and closes the
// chain unless the event names a successor. Runs that end without their
// worker (terminated, timed out, worker gone) are left to the reconciler.
type Reporter struct {
	worker.PluginBase

	client client.Client
	store  Store
	opt    options
	count  counters
	tasks  tasks
	queue  queue
	// settling is what ends and beginnings of runs wait for.
	settling settling
	// confirms holds one token for each confirmation under way.
	confirms chan struct{}

	mu      sync.Mutex
	workers int // started and not yet stopped
}

var _ worker.Plugin = (*Reporter)(nil)

// New returns a reporter that writes to store. The client, which may be nil,
// is asked how runs ended; without it only the reconciler closes them. It
// must be of the worker's namespace. Without a store nothing is written, and
// runs can be followed through Temporal alone (package handlers).
func New(c client.Client, store Store, opts ...Option) *Reporter {
	o := defaultOptions()
	for _, opt := range opts {
		opt(&o)
	}
	o.confirmMax = max(o.confirmMax, 0)
	r := &Reporter{client: c, store: store, opt: o, confirms: make(chan struct{}, o.confirmMax)}
	r.tasks.init()
	r.queue.init(r)
	return r
}

// Name is the plugin's name.
func (r *Reporter) Name() string { return "runcast" }

// WorkerInterceptor returns the bare interceptor, for workers that are not
// given the plugin. Call [Reporter.Stop] after the last worker has stopped.
func (r *Reporter) WorkerInterceptor() interceptor.WorkerInterceptor {
	return &workerInterceptor{r: r}
}

// ConfigureWorker adds the interceptor.
func (r *Reporter) ConfigureWorker(_ context.Context, o worker.PluginConfigureWorkerOptions) error {
	o.WorkerOptions.Interceptors = append(o.WorkerOptions.Interceptors, &workerInterceptor{
		r: r, failsOnPanic: o.WorkerOptions.WorkflowPanicPolicy == worker.FailWorkflow,
	})
	return nil
}

// ConfigureWorkflowReplayer adds an interceptor that reports nothing, so that
// code which reports is replayed as it ran.
func (r *Reporter) ConfigureWorkflowReplayer(_ context.Context, o worker.PluginConfigureWorkflowReplayerOptions) error {
	o.WorkflowReplayerOptions.Interceptors = append(o.WorkflowReplayerOptions.Interceptors, &workerInterceptor{r: r, mute: true})
	return nil
}

// StartWorker registers the reconciler where it was asked for.
func (r *Reporter) StartWorker(ctx context.Context, o worker.PluginStartWorkerOptions, next func(context.Context, worker.PluginStartWorkerOptions) error) error {
	if r.opt.reconciler {
		if err := r.registerReconciler(o); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.workers++
	r.mu.Unlock()
	if err := next(ctx, o); err != nil {
		r.workerGone()
		return err
	}
	return nil
}

// StopWorker stops the worker; with the last one it waits, within a bound,
// until what is pending is written.
func (r *Reporter) StopWorker(ctx context.Context, o worker.PluginStopWorkerOptions, next func(context.Context, worker.PluginStopWorkerOptions)) {
	next(ctx, o)
	if !r.workerGone() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opt.stopFor)
	defer cancel()
	r.Stop(ctx)
}

// workerGone reports whether it was the last.
func (r *Reporter) workerGone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.workers--
	return r.workers <= 0
}

// Stop waits until what is pending is written, or ctx ends, then stops all
// work in the background. It may be called again, and the reporter may be
// used again after it.
func (r *Reporter) Stop(ctx context.Context) {
	if left := r.tasks.stop(ctx); left > 0 {
		r.opt.logger.Warn("stopped before all progress was written", "tasks", left)
	}
}

// WaitIdle waits until nothing is pending in the background.
func (r *Reporter) WaitIdle(ctx context.Context) error { return r.tasks.wait(ctx) }
