package reporter_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

const (
	soon  = 2 * time.Second  // where the worker knows of the end
	later = 12 * time.Second // where only the reconciler can know
)

// Work is what the test workflow is to do.
type Work struct {
	Fail      string
	FailUntil int32 // fails in attempts before this one
	Wait      bool  // for the signal "go"
	Continue  int   // continues as new so many times
	Activity  bool
}

func doWork(ctx workflow.Context, in Work) error {
	if in.Activity {
		ctx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
		if err := workflow.ExecuteActivity(ctx, quickActivity).Get(ctx, nil); err != nil {
			return err
		}
	}
	if in.Wait {
		ch := workflow.GetSignalChannel(ctx, "go")
		var canceled bool
		s := workflow.NewSelector(ctx)
		s.AddReceive(ch, func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, nil) })
		s.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) { canceled = true })
		s.Select(ctx)
		if canceled {
			return ctx.Err()
		}
	}
	if in.Continue > 0 {
		in.Continue--
		return workflow.NewContinueAsNewError(ctx, doWork, in)
	}
	if in.Fail != "" && workflow.GetInfo(ctx).Attempt < max(in.FailUntil, 1_000_000*int32(b2i(in.FailUntil == 0))) {
		return errors.New(in.Fail)
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func quickActivity(ctx context.Context) error {
	reporter.Activity(ctx).Percent(50)
	return nil
}

func registerWork(r worker.Registry) {
	r.RegisterWorkflow(doWork)
	r.RegisterActivity(quickActivity)
}

func started(events []progress.Event) bool { return len(events) > 0 }

func TestCloseCompleted(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Activity: true})
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
}

func TestCloseFailed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Fail: "the lamp broke"})
	if closed := e.theEnd(run.GetID(), progress.StatusFailed, soon); closed.Error != "the lamp broke" {
		t.Errorf("error = %q", closed.Error)
	}
}

func TestCloseCanceled(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Wait: true})
	e.await(run.GetID(), "start", started)
	if err := e.client.CancelWorkflow(t.Context(), run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	e.theEnd(run.GetID(), progress.StatusCanceled, soon)
}

func TestCloseTerminated(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Wait: true})
	e.await(run.GetID(), "start", started)
	if err := e.client.TerminateWorkflow(t.Context(), run.GetID(), "", "enough"); err != nil {
		t.Fatal(err)
	}
	if closed := e.theEnd(run.GetID(), progress.StatusTerminated, later); closed.Error != "enough" {
		t.Errorf("error = %q", closed.Error)
	}
}

func TestCloseTimedOut(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{WorkflowRunTimeout: time.Second}, doWork, Work{Wait: true})
	e.theEnd(run.GetID(), progress.StatusTimedOut, later)
}

// What the bounds of the confirmation leave out is the reconciler's.
func TestCloseUnconfirmed(t *testing.T) {
	t.Parallel()
	for name, bounds := range map[string]reporter.Option{
		"late":     reporter.WithConfirm(time.Nanosecond, 1),
		"too many": reporter.WithConfirm(10*time.Second, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.queue += name
			rep := e.worker(registerWork, bounds)
			run := e.execute(client.StartWorkflowOptions{}, doWork, Work{})
			e.theEnd(run.GetID(), progress.StatusCompleted, later)
			if n := rep.Stats().Unconfirmed; n != 1 {
				t.Errorf("%d unconfirmed, want 1", n)
			}
		})
	}
}

func TestCloseUnknownToTemporal(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	id := e.id()
	e.follow(id)
	// A run that Temporal has deleted, or never had.
	run := "00000000-0000-4000-8000-000000000000"
	event := progress.Event{WorkflowID: id, RunID: run, Chain: run, Type: progress.TypeStarted, Status: progress.StatusRunning, Time: time.Now()}
	_, err := e.store.Append(t.Context(), redisstore.Append{
		WorkflowID: id, Events: []progress.Event{event}, Fence: redisstore.Fence{RunID: run, Chain: run, RunTime: event.Time},
	})
	if err != nil {
		t.Fatal(err)
	}
	closed := closedEvents(e.awaitClosed(id))
	e.arrivedAfter(closed[0], event.Time, later)
	if len(closed) != 1 || closed[0].Status != progress.StatusUnknown {
		t.Errorf("closed = %s", list(closed))
	}
}

func TestChainContinuesAsNew(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Continue: 3, Activity: true})
	closed := e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	if closed.Chain != run.GetRunID() || closed.RunID == run.GetRunID() {
		t.Errorf("closed %+v; the first run is %s", closed, run.GetRunID())
	}
	if n := len(only(e.events(run.GetID()), isStarted)); n != 4 {
		t.Errorf("%d runs have started, want 4", n)
	}
}

func isStarted(e progress.Event) bool { return e.Type == progress.TypeStarted }

func TestChainRetries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in     Work
		status progress.Status
	}{
		"in vain":   {Work{Fail: "no"}, progress.StatusFailed},
		"with luck": {Work{Fail: "no", FailUntil: 3}, progress.StatusCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.worker(registerWork)
			run := e.execute(client.StartWorkflowOptions{RetryPolicy: &temporal.RetryPolicy{
				InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 1, MaximumAttempts: 3,
			}}, doWork, tc.in)
			e.theEnd(run.GetID(), tc.status, soon)
			if n := len(only(e.events(run.GetID()), isStarted)); n != 3 {
				t.Errorf("%d runs have started, want 3", n)
			}
		})
	}
}

func TestChainRecurs(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{CronSchedule: "@every 1s"}, doWork, Work{})
	e.await(run.GetID(), "third run", func(events []progress.Event) bool { return len(only(events, isStarted)) >= 3 })
	if n := len(closedEvents(e.events(run.GetID()))); n != 0 {
		t.Errorf("%d closed events while the chain goes on", n)
	}
	if err := e.client.TerminateWorkflow(t.Context(), run.GetID(), "", ""); err != nil {
		t.Fatal(err)
	}
	e.theEnd(run.GetID(), progress.StatusTerminated, later)
}

func (e *env) reset(id, runID string) string {
	e.t.Helper()
	resp, err := e.client.ResetWorkflowExecution(e.t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: runID},
		Reason: "test", RequestId: e.id(), WorkflowTaskFinishEventId: 4,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.GetRunId()
}

// A reset within a chain goes on with it: the run that it ends closes nothing.
func TestReset(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Wait: true, Activity: true})
	e.await(run.GetID(), "activity", func(events []progress.Event) bool {
		return len(only(events, func(e progress.Event) bool { return e.Status == progress.StatusCompleted })) > 0
	})
	second := e.reset(run.GetID(), run.GetRunID())
	e.await(run.GetID(), "second run", func(events []progress.Event) bool { return events[len(events)-1].RunID == second })
	if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil); err != nil {
		t.Fatal(err)
	}
	closed := e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	if closed.RunID != second || closed.Chain != run.GetRunID() {
		t.Errorf("closed %+v; the runs are %s and %s", closed, run.GetRunID(), second)
	}
}

// A reset of a chain that had ended begins a chain of its own, in the same
// stream.
func TestResetAfterEnd(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Activity: true})
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	second := e.reset(run.GetID(), run.GetRunID())
	events := e.await(run.GetID(), "second end", func(events []progress.Event) bool { return len(closedEvents(events)) == 2 })
	e.contiguous(events)
	last := closedEvents(events)[1]
	e.inTime(last, soon)
	if last.RunID != second || last.Chain != second || last.Status != progress.StatusCompleted {
		t.Errorf("closed %+v; the second run is %s", last, second)
	}
	for _, ev := range events {
		if ev.RunID == second && ev.Chain != second {
			t.Errorf("event of the second run in chain %s:\n%s", ev.Chain, list(events))
		}
	}
}

// The chain that such a reset began keeps its name when it continues as new.
func TestResetAfterEndContinues(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	first := e.execute(client.StartWorkflowOptions{}, doWork, Work{Continue: 1, Activity: true})
	e.theEnd(first.GetID(), progress.StatusCompleted, soon)
	third := e.reset(first.GetID(), first.GetRunID())
	events := e.await(first.GetID(), "second end", func(events []progress.Event) bool { return len(closedEvents(events)) == 2 })
	e.contiguous(events)
	closed := closedEvents(events)
	e.inTime(closed[1], soon)
	if closed[0].Chain != first.GetRunID() || closed[1].Chain != third || closed[1].RunID == third {
		t.Errorf("the third run is %s, the closed events are\n%s", third, list(closed))
	}
	for _, ev := range events[closed[0].Seq:] {
		if ev.Chain != third {
			t.Errorf("an event after the reset is of chain %s, want %s:\n%s", ev.Chain, third, list(events))
		}
	}
}

// The old chain ends before the new one begins, though only the reconciler
// would have known of it.
func TestTerminatedAndRestarted(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerWork)
	id := e.id()
	first := e.execute(client.StartWorkflowOptions{ID: id}, doWork, Work{Wait: true})
	e.await(id, "start", started)
	if err := e.client.TerminateWorkflow(t.Context(), id, "", "again"); err != nil {
		t.Fatal(err)
	}
	second := e.execute(client.StartWorkflowOptions{ID: id}, doWork, Work{Activity: true})
	events := e.await(id, "second end", func(events []progress.Event) bool { return len(closedEvents(events)) == 2 })
	e.contiguous(events)
	closed := closedEvents(events)
	e.inTime(closed[0], later)
	e.inTime(closed[1], soon)
	if closed[0].RunID != first.GetRunID() || closed[0].Status != progress.StatusTerminated ||
		closed[1].RunID != second.GetRunID() || closed[1].Status != progress.StatusCompleted {
		t.Errorf("closed = %s", list(closed))
	}
	for _, ev := range events[closed[0].Seq:] {
		if ev.RunID == first.GetRunID() {
			t.Errorf("an event of the first run after its end:\n%s", list(events))
		}
	}
}

// A worker that fails runs on panics sees this end too.
func TestClosePanicked(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	wf := func(workflow.Context) error { panic("the lamp broke") }
	rep := reporter.New(e.client, e.store)
	e.start(worker.Options{Plugins: []worker.Plugin{rep}, WorkflowPanicPolicy: worker.FailWorkflow}, func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(wf, workflow.RegisterOptions{Name: "wf"})
	})
	run := e.execute(client.StartWorkflowOptions{}, "wf")
	if closed := e.theEnd(run.GetID(), progress.StatusFailed, soon); !strings.Contains(closed.Error, "panic") {
		t.Errorf("error = %q", closed.Error)
	}
}

// A run that leaves the worker's cache has not ended, whatever the policy.
func TestEvictedIsNotPanicked(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	rep := reporter.New(e.client, e.store)
	w := e.start(worker.Options{Plugins: []worker.Plugin{rep}, WorkflowPanicPolicy: worker.FailWorkflow}, registerWork)
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Wait: true})
	e.await(run.GetID(), "start", started)
	w.Stop()
	worker.PurgeStickyWorkflowCache()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := rep.WaitIdle(ctx); err != nil {
		t.Error(err)
	}
	if s := rep.Stats(); s.Unconfirmed != 0 {
		t.Errorf("stats = %+v", s)
	}
	e.start(worker.Options{Plugins: []worker.Plugin{rep}}, registerWork)
	if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil); err != nil {
		t.Fatal(err)
	}
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
}
