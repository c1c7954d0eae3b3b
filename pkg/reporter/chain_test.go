package reporter_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// gate lets the events of the first runs through, and those of later runs
// only once it is open: they stay on the way.
type gate struct {
	reporter.Store
	runs int // how many runs pass

	mu   sync.Mutex
	seen map[string]bool
	open bool
}

func (g *gate) Append(ctx context.Context, a redisstore.Append) (redisstore.Result, error) {
	g.mu.Lock()
	if len(g.seen) < g.runs {
		g.seen[a.Fence.RunID] = true
	}
	pass := g.open || g.seen[a.Fence.RunID]
	g.mu.Unlock()
	if !pass {
		return redisstore.Result{}, progress.ErrUnavailable
	}
	return g.Store.Append(ctx, a)
}

func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
}

// gated starts a worker whose events pass only of the first runs.
func (e *env) gated(queue string, runs int, opts ...reporter.Option) (*gate, *reporter.Reporter) {
	e.t.Helper()
	e.queue += queue
	g := &gate{Store: e.store, runs: runs, seen: make(map[string]bool)}
	rep := reporter.New(e.client, g, opts...)
	e.start(worker.Options{Plugins: []worker.Plugin{rep}}, registerWork)
	return g, rep
}

// A chain ends while the events of its last run are still on the way, and the
// reconciler is faster. It knows of the last run from Temporal only; what then
// comes in of that run is late, and no chain of its own.
func TestEndBeforeTheLastRunsEvents(t *testing.T) {
	t.Parallel()
	again := &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond, MaximumAttempts: 3}
	for name, tc := range map[string]struct {
		options client.StartWorkflowOptions
		in      Work
		runs    int // that pass
		ends    int
		act     func(e *env, run client.WorkflowRun)
	}{
		"continued":       {in: Work{Continue: 1, Activity: true}, runs: 1, ends: 1},
		"continued twice": {in: Work{Continue: 2, Activity: true}, runs: 1, ends: 1},
		"retried":         {options: client.StartWorkflowOptions{RetryPolicy: again}, in: Work{Fail: "no", FailUntil: 2}, runs: 1, ends: 1},
		"reset": {in: Work{Wait: true, Activity: true}, runs: 1, ends: 1, act: func(e *env, run client.WorkflowRun) {
			e.await(run.GetID(), "activity", func(events []progress.Event) bool {
				return len(only(events, func(e progress.Event) bool { return e.Status == progress.StatusCompleted })) > 0
			})
			e.reset(run.GetID(), run.GetRunID())
			if err := e.client.SignalWorkflow(e.t.Context(), run.GetID(), "", "go", nil); err != nil {
				e.t.Fatal(err)
			}
		}},
		"reset after the end, continued": {in: Work{Continue: 1, Activity: true}, runs: 3, ends: 2, act: func(e *env, run client.WorkflowRun) {
			e.awaitClosed(run.GetID())
			e.reset(run.GetID(), run.GetRunID())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			g, rep := e.gated(name, tc.runs, reporter.WithRetryFor(time.Minute))
			run := e.execute(tc.options, doWork, tc.in)
			if tc.act != nil {
				tc.act(e, run)
			}
			e.await(run.GetID(), "end", func(events []progress.Event) bool { return len(closedEvents(events)) == tc.ends })
			g.lift()
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			if err := rep.WaitIdle(ctx); err != nil {
				t.Fatal(err)
			}
			events := e.events(run.GetID())
			e.contiguous(events)
			closed := closedEvents(events)
			if len(closed) != tc.ends || events[len(events)-1].Type != progress.TypeClosed {
				t.Fatalf("%d closed events, want %d, and nothing behind the last:\n%s", len(closed), tc.ends, list(events))
			}
			d, err := e.client.DescribeWorkflowExecution(ctx, run.GetID(), "")
			if err != nil {
				t.Fatal(err)
			}
			if newest := d.GetWorkflowExecutionInfo().GetExecution().GetRunId(); closed[tc.ends-1].RunID != newest {
				t.Errorf("the end is run %s's, the newest is %s:\n%s", closed[tc.ends-1].RunID, newest, list(events))
			}
		})
	}
}
