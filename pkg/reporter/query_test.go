package reporter_test

import (
	"errors"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/reporter"
)

// queried reports in its query and in its update's validator, as code shared
// with the workflow may.
func queried(ctx workflow.Context) error {
	w := reporter.Workflow(ctx)
	w.Percent(10)
	sayInVain := func() {
		w.Percent(99)
		w.Count(98, 100)
		w.Message("in vain")
		w.Step("in vain", progress.StatusRunning, "")
	}
	if err := workflow.SetQueryHandler(ctx, "state", func() (string, error) { sayInVain(); return "fine", nil }); err != nil {
		return err
	}
	err := workflow.SetUpdateHandlerWithOptions(ctx, "change", func(workflow.Context) error { return nil }, workflow.UpdateHandlerOptions{
		Validator: func() error { sayInVain(); return errors.New("no") },
	})
	if err != nil {
		return err
	}
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	w.Message("after")
	return nil
}

// What a query or a validator says is not written, and does not change what
// the workflow says next, whether or not the run is in the worker's cache. It
// runs alone: other tests empty that cache, which all workers share.
func TestQueriesReportNothing(t *testing.T) {
	for name, ask := range map[string]func(*env, string) error{
		"cached": func(e *env, id string) error {
			_, err := e.client.QueryWorkflow(e.t.Context(), id, "", "state")
			return err
		},
		"replayed": func(e *env, id string) error {
			worker.PurgeStickyWorkflowCache()
			_, err := e.client.QueryWorkflow(e.t.Context(), id, "", "state")
			return err
		},
		"validator": func(e *env, id string) error {
			h, err := e.client.UpdateWorkflow(e.t.Context(), client.UpdateWorkflowOptions{
				WorkflowID: id, UpdateName: "change", WaitForStage: client.WorkflowUpdateStageCompleted,
			})
			if err == nil {
				err = h.Get(e.t.Context(), nil)
			}
			if err == nil {
				return errors.New("the update was taken")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.queue += name
			e.worker(func(r worker.Registry) { r.RegisterWorkflow(queried) })
			run := e.execute(client.StartWorkflowOptions{}, queried)
			e.await(run.GetID(), "first report", func(events []progress.Event) bool { return len(events) == 2 })
			if err := ask(e, run.GetID()); err != nil {
				t.Fatal(err)
			}
			if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil); err != nil {
				t.Fatal(err)
			}
			e.theEnd(run.GetID(), progress.StatusCompleted, soon)
			events := e.events(run.GetID())
			if len(events) != 4 {
				t.Errorf("want started, two reports and the end:\n%s", list(events))
			}
			for _, ev := range events {
				if ev.Percent != nil && *ev.Percent != 10 || ev.Current != nil || ev.Message == "in vain" {
					t.Errorf("it was written:\n%s", list(events))
				}
			}
		})
	}
}
