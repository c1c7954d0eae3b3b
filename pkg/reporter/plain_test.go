package reporter_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// A worker that is given the bare interceptor reports as one with the plugin,
// and Reporter.Stop writes what is pending.
func TestBareInterceptor(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	rep := reporter.New(e.client, e.store)
	w := e.start(worker.Options{Interceptors: []interceptor.WorkerInterceptor{rep.WorkerInterceptor()}}, registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Activity: true})
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	w.Stop()
	rep.Stop(ctx)
	events := e.events(run.GetID())
	if got := stepEvents(events, "quickActivity"); len(closedEvents(events)) != 1 || !slices.Equal(got, []string{"queued 0", "running 1", "completed 1"}) {
		t.Errorf("the step was %q:\n%s", got, list(events))
	}
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
}

func TestQueuedBySignal(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, starts := e.dialStarter(e.store)
	id := e.id()
	e.follow(id)
	o := client.StartWorkflowOptions{TaskQueue: e.queue, Memo: map[string]any{"runcast.tags": []string{"orders"}}}
	run, err := c.SignalWithStartWorkflow(t.Context(), id, "go", nil, o, doWork, Work{Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	starts.Stop(t.Context())
	snap, err := e.store.Snapshot(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if snap.Status != progress.StatusQueued || snap.RunID != run.GetRunID() || snap.Type != "doWork" || !slices.Equal(snap.Tags, []string{"orders"}) {
		t.Errorf("snapshot = %+v", snap)
	}
	e.worker(registerWork)
	e.theEnd(id, progress.StatusCompleted, soon)
}

// reports runs one activity under a worker of its own, and returns its run.
func (e *env) reports(act func(context.Context) error, opts ...reporter.Option) (client.WorkflowRun, *reporter.Reporter) {
	e.t.Helper()
	rep := e.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
			return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
		}, workflow.RegisterOptions{Name: "wf"})
		r.RegisterActivityWithOptions(act, activity.RegisterOptions{Name: "act"})
	}, opts...)
	return e.execute(client.StartWorkflowOptions{}, "wf"), rep
}

// The tags that an activity sets replace the start's, and the workflow is
// listed under them.
func TestActivityTags(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	tag := e.id()
	run, _ := e.reports(func(ctx context.Context) error {
		p := reporter.Activity(ctx)
		p.Tags("old")
		p.Percent(10)
		if err := p.Flush(ctx); err != nil {
			return err
		}
		p.Tags(tag, "", "eu")
		return nil
	})
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	snap, err := e.store.Snapshot(t.Context(), run.GetID())
	if err != nil || !slices.Equal(snap.Tags, []string{tag, "eu"}) || snap.Percent == nil || *snap.Percent != 10 {
		t.Errorf("snapshot = %+v, %v", snap, err)
	}
	deadline := time.Now().Add(within)
	for {
		list, _, err := e.store.List(t.Context(), redisstore.ListQuery{Tag: tag})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && list[0].WorkflowID == run.GetID() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the tag's list is %+v", list)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// What a full buffer refuses is named in the stream, where it is missing.
func TestLostIsInTheStream(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	const lines = 2000
	run, rep := e.reports(func(ctx context.Context) error {
		p := reporter.Activity(ctx)
		for i := range lines {
			p.Log(fmt.Sprint(i))
		}
		_ = p.Flush(ctx)
		p.Log("last")
		return nil
	}, reporter.WithBuffer(3, 1<<20))
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	var written, lost int64
	next := int64(0)
	for _, ev := range e.events(run.GetID()) {
		lost += ev.Lost
		next += ev.Lost
		if ev.Type != progress.TypeLog || ev.Message == "last" {
			continue
		}
		if ev.Message != fmt.Sprint(next) {
			t.Fatalf("line %s comes where %d is due", ev.Message, next)
		}
		written++
		next++
	}
	if lost == 0 || written+lost != lines || rep.Stats().Lost != lost {
		t.Errorf("%d lines written and %d lost of %d, stats %+v", written, lost, lines, rep.Stats())
	}
}

// Where texts of errors are to stay out of the store, they do, and the states
// are there.
func TestWithoutErrors(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	run, _ := e.reports(func(context.Context) error {
		return temporal.NewNonRetryableApplicationError("the lamp broke", "Broken", nil)
	}, reporter.WithoutErrors())
	e.theEnd(run.GetID(), progress.StatusFailed, soon)
	events := e.events(run.GetID())
	if text := list(events); strings.Contains(text, "lamp") || !slices.Contains(stepEvents(events, "act"), "failed 1") {
		t.Errorf("the events are\n%s", text)
	}
}
