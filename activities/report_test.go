package activities_test

import (
	"context"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

func percent(p float64) reporter.Progress { return reporter.Progress{Percent: &p, Message: "half"} }

// costs are workflows that report once, or not at all.
var costs = map[string]func(workflow.Context) error{
	"nothing": func(workflow.Context) error { return nil },
	"state": func(ctx workflow.Context) error {
		w := reporter.Workflow(ctx)
		w.Percent(50)
		w.Message("half")
		return nil
	},
	"local": func(ctx workflow.Context) error { return reporter.Workflow(ctx).Durable(percent(50)) },
	"activity": func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
		return workflow.ExecuteActivity(ctx, activities.ReportProgress, percent(50)).Get(ctx, nil)
	},
}

// TestCost holds what each way to report costs Temporal, in history events,
// against what the documentation says.
func TestCost(t *testing.T) {
	c := testenv.Temporal(t)
	store, err := redisstore.Open(t.Context(), testenv.Redis(t).URL(), redisstore.Options{Prefix: testenv.Prefix(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	events := func(kind string, with bool) (string, int) {
		queue := testenv.Prefix(t)
		o := worker.Options{}
		if with {
			o.Plugins = []worker.Plugin{reporter.New(c, store)}
		}
		w := worker.New(c, queue, o)
		w.RegisterWorkflowWithOptions(costs[kind], workflow.RegisterOptions{Name: kind})
		w.RegisterActivity(activities.ReportProgress)
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: queue, TaskQueue: queue}, kind)
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Get(ctx, nil); err != nil {
			t.Fatal(err)
		}
		n := 0
		it := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for it.HasNext() {
			if _, err := it.Next(); err != nil {
				t.Fatal(err)
			}
			n++
		}
		return run.GetID(), n
	}
	_, base := events("nothing", false)
	for kind, want := range map[string]int{"nothing": 0, "state": 0, "local": 1, "activity": 6} {
		id, n := events(kind, true)
		if n-base != want {
			t.Errorf("%s costs %d events, want %d", kind, n-base, want)
		}
		snap, err := store.Snapshot(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if kind == "nothing" {
			continue
		}
		if snap.Percent == nil || *snap.Percent != 50 || snap.Message != "half" {
			t.Errorf("%s: snapshot = %+v", kind, snap)
		}
		if len(snap.Steps) != 0 {
			t.Errorf("%s: the report itself is shown as a step: %+v", kind, snap.Steps)
		}
	}
	// Without the plugin it does nothing, and does not fail.
	id, _ := events("local", false)
	if _, err := store.Snapshot(t.Context(), id); err == nil {
		t.Error("a worker without the plugin has reported")
	}
}
