package reporter

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// A reset within a chain that goes on closes nothing, also where the stream
// knows no event of the run that the reset made: that the old one was
// terminated is not the end.
func TestReconcilerFollowsAReset(t *testing.T) {
	t.Parallel()
	f := newReconciling(t, 1, 1000)
	f.w.Stop()
	run := f.runs[0]
	_, err := f.c.ResetWorkflowExecution(t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		Reason: "test", RequestId: run.GetID(), WorkflowTaskFinishEventId: 4,
	})
	if err != nil {
		t.Fatal(err)
	}
	result, err := f.rec.reconcile(t.Context(), Reconciliation{})
	if err != nil {
		t.Fatal(err)
	}
	if result.Closed != 0 || result.Failed != 0 || f.status(t, 0) != progress.StatusRunning {
		t.Errorf("the run is %s, result %+v", f.status(t, 0), result)
	}
	// The chain's end is the reset run's.
	if err := f.c.TerminateWorkflow(t.Context(), run.GetID(), "", "enough"); err != nil {
		t.Fatal(err)
	}
	if result, err = f.rec.reconcile(t.Context(), result); err != nil {
		t.Fatal(err)
	}
	if result.Closed != 1 || f.status(t, 0) != progress.StatusTerminated {
		t.Errorf("the run is %s, result %+v", f.status(t, 0), result)
	}
}

// A chain is closed however many runs of it the stream does not know, at the
// same cost.
func TestReconcilerGoesToTheNewestRun(t *testing.T) {
	t.Parallel()
	f := newReconciling(t, 0, 1000)
	queue := "unseen-" + testenv.Prefix(t)
	w := worker.New(f.c, queue, worker.Options{})
	var hop func(ctx workflow.Context, n int) error
	hop = func(ctx workflow.Context, n int) error {
		if n > 0 {
			return workflow.NewContinueAsNewError(ctx, hop, n-1)
		}
		return nil
	}
	w.RegisterWorkflowWithOptions(hop, workflow.RegisterOptions{Name: "hop"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	run, err := f.c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: queue, TaskQueue: queue}, "hop", 10)
	if err != nil {
		t.Fatal(err)
	}
	id := &identity{workflowID: run.GetID(), runID: run.GetRunID(), chain: run.GetRunID()}
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b := &batch{id: id, events: []progress.Event{id.event(progress.TypeStarted)}}
	b.events[0].Status = progress.StatusRunning
	if err := f.rec.r.call(t.Context(), b, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	f.calls.take()
	result, err := f.rec.reconcile(t.Context(), Reconciliation{})
	if err != nil {
		t.Fatal(err)
	}
	if calls := f.calls.take(); !maps.Equal(calls, map[string]int{"DescribeWorkflowExecution": 2, "GetWorkflowExecutionHistory": 2}) || result.Closed != 1 {
		t.Errorf("it cost %v, result %+v", calls, result)
	}
	snap, err := f.store.Snapshot(t.Context(), run.GetID())
	if err != nil || snap.Status != progress.StatusCompleted || snap.RunID == id.runID || snap.Chain != id.runID {
		t.Errorf("got %+v, %v", snap, err)
	}
}

// On its schedule each round takes over from the last: it goes on behind its
// cursor, counts on, and repairs what is due.
func TestReconcilerOnSchedule(t *testing.T) {
	t.Parallel()
	const runs = 10 // more than one round may ask for
	f := newReconciling(t, runs, 1)
	queue := "reconciler-" + testenv.Prefix(t)
	w := worker.New(f.c, queue, worker.Options{Plugins: []worker.Plugin{New(f.c, f.store, WithReconciler(1))}})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	o, err := redis.ParseURL(testenv.Redis(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	r := redis.NewClient(o)
	defer r.Close()
	// What is due in the second round has nearly expired, and has lost its
	// place in the list.
	last := f.runs[runs-1].GetID()
	base := f.prefix + ":workflow:{" + redisstore.EncodeID(last) + "}"
	if err := r.PExpire(t.Context(), base, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	listed := func() bool {
		items, _, err := f.store.List(t.Context(), redisstore.ListQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(items, func(s progress.Summary) bool { return s.WorkflowID == last })
	}
	recent, err := r.Keys(t.Context(), f.prefix+":recent:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range recent {
		if err := r.ZRem(t.Context(), key, redisstore.EncodeID(last)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if listed() {
		t.Fatal("it is still listed")
	}
	if err := EnsureReconciler(t.Context(), f.c, queue, time.Second); err != nil {
		t.Fatal(err)
	}
	schedule := f.c.ScheduleClient().GetHandle(t.Context(), ReconcilerID(queue))
	t.Cleanup(func() { _ = schedule.Delete(context.Background()) })
	first, second := f.round(t, schedule, 0), f.round(t, schedule, 1)
	if first.Round != 1 || second.Round != 2 || first.Failed+second.Failed != 0 {
		t.Errorf("the rounds are %+v and %+v", first, second)
	}
	// The second goes on behind the first, and from the end to the beginning.
	if first.Cursor == "" || second.Cursor == "" || second.Cursor >= first.Cursor {
		t.Errorf("the cursors are %s and %s", first.Cursor, second.Cursor)
	}
	if left, err := r.PTTL(t.Context(), base).Result(); err != nil || left < 24*time.Hour || second.Repaired == 0 || !listed() {
		t.Errorf("the keys live %v, %v; listed: %v; %+v", left, err, listed(), second)
	}
}

// round returns the result of one of the schedule's first rounds.
func (f *reconciling) round(t *testing.T, schedule client.ScheduleHandle, n int) (result Reconciliation) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		d, err := schedule.Describe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if actions := d.Info.RecentActions; len(actions) > n {
			e := actions[n].StartWorkflowResult
			if err := f.c.GetWorkflow(ctx, e.WorkflowID, e.FirstExecutionRunID).Get(ctx, &result); err != nil {
				t.Fatal(err)
			}
			return result
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the round does not come")
	return result
}
