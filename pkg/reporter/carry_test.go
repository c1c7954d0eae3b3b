package reporter_test

import (
	"errors"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/reporter"
)

// handsOn continues as new when it is told to go, then fails, and is tried
// again.
func handsOn(ctx workflow.Context) error {
	info := workflow.GetInfo(ctx)
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	switch {
	case info.ContinuedExecutionRunID == "":
		return workflow.NewContinueAsNewError(ctx, handsOn)
	case info.Attempt == 1:
		return errors.New("once more")
	}
	return nil
}

// A run that tries the one before again begins with the header of that, and so
// with the subscribers of the run before both. Those are not its own: who has
// unsubscribed since stays away.
func TestRetryHasNotTheSubscribersOfLongAgo(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.store = nil
	e.start(worker.Options{Plugins: []worker.Plugin{reporter.New(e.client, nil)}}, func(r worker.Registry) { r.RegisterWorkflow(handsOn) })
	run, err := e.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: e.id(), TaskQueue: e.queue, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumAttempts: 2},
	}, handsOn)
	if err != nil {
		t.Fatal(err)
	}
	signal := func(name string, arg any) {
		t.Helper()
		if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", name, arg); err != nil {
			t.Fatal(err)
		}
	}
	// newest waits until there is another run, and returns its ID.
	newest := func(before string) string {
		t.Helper()
		for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			d, err := e.client.DescribeWorkflowExecution(t.Context(), run.GetID(), "")
			if err != nil {
				t.Fatal(err)
			}
			if id := d.GetWorkflowExecutionInfo().GetExecution().GetRunId(); id != before {
				return id
			}
		}
		t.Fatal("there is no other run")
		return ""
	}
	pushes := func(id string) (n int) {
		t.Helper()
		for it := e.client.GetWorkflowHistory(t.Context(), run.GetID(), id, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
			event, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == handlers.PushActivity {
				n++
			}
		}
		return n
	}
	// No worker has the activity: that it is scheduled is enough.
	signal(handlers.Subscribe, handlers.Subscription{ID: "a", URL: "https://example.com/", Push: true, Transient: true})
	signal("go", nil)
	second := newest(run.GetRunID())
	for deadline := time.Now().Add(within); pushes(second) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second run has made no push")
		}
	}
	signal(handlers.Unsubscribe, handlers.Subscription{ID: "a"})
	signal("go", nil)
	third := newest(second)
	signal("go", nil)
	if err := e.client.GetWorkflow(t.Context(), run.GetID(), third).Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := pushes(third); n != 0 {
		t.Errorf("the third run has made %d pushes", n)
	}
}
