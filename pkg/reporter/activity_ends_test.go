package reporter_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
)

// An attempt that only the workflow sees end.
func TestActivityTimeout(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	wf := func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			Summary: "Nobody's", TaskQueue: e.queue + "-nobody", ScheduleToStartTimeout: 300 * time.Millisecond, StartToCloseTimeout: time.Second,
		})
		return workflow.ExecuteActivity(ctx, "nobody").Get(ctx, nil)
	}
	e.worker(func(r worker.Registry) { r.RegisterWorkflowWithOptions(wf, workflow.RegisterOptions{Name: "wf"}) })
	run := e.execute(client.StartWorkflowOptions{}, "wf")
	closed := e.theEnd(run.GetID(), progress.StatusFailed, soon)
	if !strings.Contains(closed.Error, "timeout") {
		t.Errorf("error = %q", closed.Error)
	}
	if got := strings.Join(stepEvents(e.events(run.GetID()), "Nobody's"), ", "); got != "queued 0, timed_out 0" {
		t.Errorf("the step was %s", got)
	}
}

// Ends of which the activity itself says nothing, or not to the store.
func TestActivityEndsElsewhere(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	plain, ids := e.queue+"-plain", make(chan string, 1)
	wf := func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
		})
		if err := workflow.ExecuteActivity(ctx, "pending").Get(ctx, nil); err != nil {
			return err
		}
		ctx = workflow.WithTaskQueue(ctx, plain)
		if err := workflow.ExecuteActivity(ctx, "quiet", "").Get(ctx, nil); err != nil {
			return err
		}
		return workflow.ExecuteActivity(ctx, "quiet", "the lamp broke").Get(ctx, nil)
	}
	e.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(wf, workflow.RegisterOptions{Name: "wf"})
		r.RegisterActivityWithOptions(func(ctx context.Context) error {
			ids <- activity.GetInfo(ctx).ActivityID
			return activity.ErrResultPending
		}, activity.RegisterOptions{Name: "pending"})
	})
	w := worker.New(e.client, plain, worker.Options{})
	w.RegisterActivityWithOptions(func(_ context.Context, text string) error {
		if text != "" {
			return errors.New(text)
		}
		return nil
	}, activity.RegisterOptions{Name: "quiet"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	run := e.execute(client.StartWorkflowOptions{}, "wf")
	e.await(run.GetID(), "running activity", func(events []progress.Event) bool {
		return slices.Contains(stepEvents(events, "pending"), "running 1")
	})
	pendingID := <-ids
	if err := e.client.CompleteActivityByID(t.Context(), "default", run.GetID(), "", pendingID, nil, nil); err != nil {
		t.Fatal(err)
	}
	e.theEnd(run.GetID(), progress.StatusFailed, soon)
	events := e.events(run.GetID())
	for step, want := range map[string]string{
		"pending": "running 1, completed 0", "quiet": "completed 0", "quiet#2": "failed 0",
	} {
		if got := strings.Join(begun(stepEvents(events, step)), ", "); got != want {
			t.Errorf("%s was %s, want %s", step, got, want)
		}
	}
	if failed := only(events, func(e progress.Event) bool { return e.Status == progress.StatusFailed && e.Step != "" }); len(failed) != 1 || failed[0].Error != "the lamp broke" {
		t.Errorf("failed: %s", list(failed))
	}
}

// begun leaves out that the step was queued: another writer says so, perhaps
// only when the step has begun.
func begun(steps []string) []string {
	return slices.DeleteFunc(steps, func(s string) bool { return s == "queued 0" })
}

// An activity reset lets attempts begin again at 1; the newer one wins.
func TestActivityReset(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	reset := make(chan struct{})
	act := func(ctx context.Context) error {
		select {
		case <-reset:
			return nil
		default:
			return errors.New("not yet")
		}
	}
	wf := func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			ActivityID: "it", Summary: "It", StartToCloseTimeout: 10 * time.Second,
			RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 100, MaximumInterval: time.Minute},
		})
		return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
	}
	e.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(wf, workflow.RegisterOptions{Name: "wf"})
		r.RegisterActivityWithOptions(act, activity.RegisterOptions{Name: "act"})
	})
	run := e.execute(client.StartWorkflowOptions{}, "wf")
	e.await(run.GetID(), "second attempt's failure", func(events []progress.Event) bool {
		last := len(events) - 1
		return last > 0 && events[last].Attempt == 2 && events[last].Status == progress.StatusFailed
	})
	// The failure is written before the server has it: wait until it has.
	deadline := time.Now().Add(within)
	for {
		d, err := e.client.DescribeWorkflowExecution(t.Context(), run.GetID(), run.GetRunID())
		if err != nil {
			t.Fatal(err)
		}
		if p := d.GetPendingActivities(); len(p) == 1 && p[0].GetAttempt() == 3 && p[0].GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the activity is %v", d.GetPendingActivities())
		}
		time.Sleep(5 * time.Millisecond)
	}
	close(reset)
	_, err := e.client.WorkflowService().ResetActivity(t.Context(), &workflowservice.ResetActivityRequest{
		Namespace: "default", Execution: &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		Activity: &workflowservice.ResetActivityRequest_Id{Id: "it"},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	got := strings.Join(begun(stepEvents(e.events(run.GetID()), "It")), ", ")
	want := "running 1, failed 1, running 2, failed 2, running 1, completed 1"
	if got != want {
		t.Errorf("the step was %s, want %s", got, want)
	}
}
