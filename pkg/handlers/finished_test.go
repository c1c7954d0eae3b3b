package handlers_test

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/handlers"
)

// A run that waits for its own update handlers before it returns does not wait
// for those who follow it, who wait for it to change.
func TestAwaitAllFinished(t *testing.T) {
	t.Parallel()
	c := testenv.TemporalWith(t, client.Options{})
	queue := "queue-" + testenv.Prefix(t)
	tidy := func(ctx workflow.Context) (bool, error) {
		h, err := handlers.Install(ctx, handlers.Options{})
		if err != nil {
			return false, err
		}
		ctx = handlers.NewContext(ctx, h)
		saved, may := false, false
		err = workflow.SetUpdateHandler(ctx, "save", func(ctx workflow.Context) error {
			err := workflow.Await(ctx, func() bool { return may })
			saved = true
			return err
		})
		if err != nil {
			return false, err
		}
		end := workflow.GetSignalChannel(ctx, "end")
		end.Receive(ctx, nil)
		workflow.Go(ctx, func(ctx workflow.Context) { may = end.Receive(ctx, nil) })
		err = handlers.AwaitAllFinished(ctx)
		h.Finish(ctx, handlers.StatusOf(err))
		return saved, err
	}
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflowWithOptions(tidy, workflow.RegisterOptions{Name: "Tidy"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: queue, TaskQueue: queue}, "Tidy")
	if err != nil {
		t.Fatal(err)
	}
	update := func(name string, args ...any) client.WorkflowUpdateHandle {
		t.Helper()
		u, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
			WorkflowID: run.GetID(), UpdateName: name, Args: args, WaitForStage: client.WorkflowUpdateStageAccepted,
		})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	signal := func() {
		t.Helper()
		if err := c.SignalWorkflow(ctx, run.GetID(), "", "end", nil); err != nil {
			t.Fatal(err)
		}
	}
	encoded, err := c.QueryWorkflow(ctx, run.GetID(), "", handlers.Query)
	if err != nil {
		t.Fatal(err)
	}
	var state handlers.State
	if err := encoded.Get(&state); err != nil {
		t.Fatal(err)
	}
	own, follower := update("save"), update(handlers.Update, handlers.Wait{Started: state.Started, Version: state.Version})
	signal()
	if err := follower.Get(ctx, nil); err != nil {
		t.Errorf("who follows was not let go: %v", err)
	}
	signal()
	var saved bool
	if err := run.Get(ctx, &saved); err != nil || !saved || own.Get(ctx, nil) != nil {
		t.Errorf("it has returned %t, %v", saved, err)
	}
	r := worker.NewWorkflowReplayer()
	r.RegisterWorkflowWithOptions(tidy, workflow.RegisterOptions{Name: "Tidy"})
	if err := r.ReplayWorkflowHistory(nil, (&office{t: t, client: c}).history(run)); err != nil {
		t.Error(err)
	}
}
